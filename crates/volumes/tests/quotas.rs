//! `emptyDir.sizeLimit` on a disk: kept by the file system where that has quotas of projects, and by nobody here where it has none (the
//! node agent evicts then). Which of the two is to be seen depends on where temporary files are.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::Arc;

use ports::clock::SystemClock;
use ports::volumes::{Medium, VolumeSpec, Volumes};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use volumes::LocalVolumes;

const LIMIT: u64 = 1 << 20;

/// Whether the file system below a directory was mounted with quotas of projects.
fn has_quotas(dir: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounts = mounts.lines().map(|line| line.split(' '));
    let of_dir = mounts.filter(|fields| {
        let place = fields.clone().nth(4).unwrap_or_default();
        dir.starts_with(place)
    });
    let nearest = of_dir.max_by_key(|fields| fields.clone().nth(4).map(str::len));
    let options = nearest
        .and_then(|mut fields| fields.next_back())
        .unwrap_or_default();
    options.split(',').any(|option| option == "prjquota")
}

/// Writes until nothing more is taken, or twice the limit is, as containers do, whose rights do not go beyond quotas; what came of it.
fn fill(path: &Path) -> Result<(), ErrorKind> {
    let fill = || {
        let mut sets = capabilities(None).unwrap();
        sets.effective.remove(CapabilitySet::SYS_RESOURCE);
        set_capabilities(None, sets).unwrap();
        let mut file = fs::File::create(path).unwrap();
        let block = [1; 4096];
        for _ in 0..2 * LIMIT / 4096 {
            file.write_all(&block).map_err(|error| error.kind())?;
        }
        Ok(())
    };
    std::thread::scope(|scope| scope.spawn(fill).join()).unwrap()
}

fn empty(size_limit_bytes: Option<u64>) -> VolumeSpec {
    VolumeSpec::EmptyDir {
        medium: Medium::Disk,
        size_limit_bytes,
        fs_group: None,
    }
}

#[tokio::test]
async fn a_directory_holds_what_its_limit_says() {
    let root = tempfile::tempdir().unwrap();
    let place = root.path().canonicalize().unwrap();
    let volumes = LocalVolumes::new(&place, Arc::new(SystemClock));
    let limited = volumes.ensure("u", "limited", &empty(Some(LIMIT))).await;
    let limited = limited.unwrap();
    let free = volumes.ensure("u", "free", &empty(None)).await.unwrap();
    fs::create_dir(limited.join("below")).unwrap();

    let expected = match has_quotas(&place) {
        true => Err(ErrorKind::QuotaExceeded),
        false => Ok(()),
    };
    assert_eq!(fill(&limited.join("below/file")), expected);
    assert_eq!(fill(&free.join("file")), Ok(()));
    fs::remove_file(limited.join("below/file")).unwrap();
    fs::write(limited.join("below/again"), [1; 4096]).unwrap();

    // An engine that is started again finds the limit in force.
    let next = LocalVolumes::new(&place, Arc::new(SystemClock));
    next.ensure("u", "limited", &empty(Some(LIMIT)))
        .await
        .unwrap();
    assert_eq!(fill(&limited.join("below/file")), expected);
    next.teardown("u").await.unwrap();
    assert!(!limited.exists());
}
