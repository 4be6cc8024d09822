//! Putting large logs aside (spec `§13.1`): the file is renamed and its writer goes on in a new one; of those put aside the newest stays
//! as it is, for who is still reading it, and the others are compressed; the oldest go.
//!
//! Upstream's agent looks at all logs every ten seconds; here the writer tells when one is large.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use ports::runtime::{ContainerRuntime, ContainerStatus, LARGE_LOG_BYTES};

use crate::blocking;
use crate::pull;

/// Most files of one run, with the one that is written (`containerLogMaxFiles`).
const MOST_FILES: usize = 5;

/// Puts the log of a run aside if it is large. What fails is tried again when it has grown further.
pub(crate) async fn rotate(
    runtime: Arc<dyn ContainerRuntime>,
    record: ContainerStatus,
    now: Timestamp,
) {
    let log = record.log_path;
    let renamed = {
        let log = log.clone();
        blocking::run(move || put_if_large(&log, now)).await
    };
    let aside = match renamed {
        Ok(Some(aside)) => aside,
        Ok(None) => return,
        Err(error) => {
            tracing::warn!(log = %log.display(), %error, "putting a log aside");
            return;
        }
    };
    if let Err(error) = runtime.reopen_log(&record.id).await {
        // It goes on in the old file, which is to be found where it was.
        let back = {
            let log = log.clone();
            blocking::run(move || fs::rename(&aside, &log)).await
        };
        tracing::warn!(log = %log.display(), error = pull::chain(&error), ?back, "reopening a log");
        return;
    }
    let tidied = {
        let log = log.clone();
        blocking::run(move || tidy(&log)).await
    };
    if let Err(error) = tidied {
        tracing::warn!(log = %log.display(), %error, "compressing logs");
    }
}

/// Renames a log that is large, and says to what.
fn put_if_large(log: &Path, now: Timestamp) -> io::Result<Option<PathBuf>> {
    if fs::metadata(log).map_or(0, |meta| meta.len()) < LARGE_LOG_BYTES {
        return Ok(None);
    }
    let aside = aside(log, now);
    fs::rename(log, &aside)?;
    Ok(Some(aside))
}

/// What a log is renamed to: its name and the node's local time. Two within a second must not meet.
fn aside(log: &Path, now: Timestamp) -> PathBuf {
    let with = |suffix: &str| {
        let mut name = log.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let mut time = now.to_zoned(TimeZone::system());
    loop {
        let suffix = time.strftime(".%Y%m%d-%H%M%S").to_string();
        let path = with(&suffix);
        let later = time.checked_add(jiff::Span::new().seconds(1));
        match later {
            Ok(later) if path.exists() || with(&format!("{suffix}.gz")).exists() => time = later,
            _ => return path,
        }
    }
}

/// Compresses what was put aside, but for the newest, and removes what is too much. One log at a time.
fn tidy(log: &Path) -> io::Result<()> {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut files = put_aside(log)?;
    let too_many = files.len().saturating_sub(MOST_FILES - 1);
    for old in files.drain(..too_many) {
        fs::remove_file(old)?;
    }
    files.pop();
    for file in files {
        if file.extension().is_none_or(|e| e != "gz") {
            compress(&file)?;
        }
    }
    Ok(())
}

/// What was put aside of a log, oldest first; removes what an earlier agent left half-compressed.
fn put_aside(log: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(dir), Some(name)) = (log.parent(), log.file_name()) else {
        return Ok(Vec::new());
    };
    let prefix = format!("{}.", name.to_string_lossy());
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !name.starts_with(&prefix) {
            continue;
        }
        if name.ends_with(".tmp") {
            fs::remove_file(&path)?;
        } else {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Puts `<file>.gz` in the place of a file.
fn compress(file: &Path) -> io::Result<()> {
    let named = |suffix: &str| {
        let mut name = file.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let temporary = named(".tmp");
    let mut encoder = GzEncoder::new(File::create(&temporary)?, Compression::default());
    io::copy(&mut File::open(file)?, &mut encoder)?;
    encoder.finish()?;
    fs::rename(&temporary, named(".gz"))?;
    fs::remove_file(file)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let mut names: Vec<String> = entries
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_newest_stays_and_the_oldest_go() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("0.log");
        for (file, text) in [
            ("0.log", "now"),
            ("0.log.20260101-000001.gz", "1"),
            ("0.log.20260101-000002.gz", "2"),
            ("0.log.20260101-000003", "3"),
            ("0.log.20260101-000003.tmp", "half"),
            ("0.log.20260101-000004", "4"),
            ("0.log.20260101-000005", "5"),
            ("1.log.20260101-000001", "another run"),
        ] {
            fs::write(dir.path().join(file), text).unwrap();
        }
        tidy(&log).unwrap();
        let left = [
            "0.log",
            "0.log.20260101-000002.gz",
            "0.log.20260101-000003.gz",
            "0.log.20260101-000004.gz",
            "0.log.20260101-000005",
            "1.log.20260101-000001",
        ];
        assert_eq!(names(dir.path()), left);
        let compressed = File::open(dir.path().join(left[2])).unwrap();
        let mut text = String::new();
        GzDecoder::new(compressed)
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "3");
        // Doing it again changes nothing.
        tidy(&log).unwrap();
        assert_eq!(names(dir.path()), left);
    }

    #[test]
    fn two_within_a_second_do_not_meet() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("0.log");
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let first = aside(&log, now);
        assert!(
            first.to_string_lossy().contains("0.log.2025")
                || first.to_string_lossy().contains("0.log.2026")
        );
        fs::write(&first, "").unwrap();
        let second = aside(&log, now);
        assert!(second > first);
        fs::rename(&first, format!("{}.gz", first.display())).unwrap();
        assert_eq!(aside(&log, now), second);
    }
}
