//! Reading a container's last words (spec `§3.6`). The file was writable by the container, so it is taken for hostile: links are
//! not followed, and only the end of a regular file is read.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use lifecycle::messages;
use ports::runtime::{ContainerState, ContainerStatus};
use rustix::fs::{Mode, OFlags, open};

use crate::container::annotation;
use crate::mounts;

/// Bytes of a log that may hold its last 80 lines.
const LOG_TAIL: u64 = 256 * 1024;

/// The termination message of a container that has ended; empty if it left none. The runtime's own message is not part of it.
pub(crate) fn read(pod_dir: &Path, record: &ContainerStatus) -> String {
    let ContainerState::Exited { exit_code, .. } = &record.state else {
        return String::new();
    };
    let path = mounts::message_file(pod_dir, &record.name, record.attempt);
    let file = match tail(&path, messages::MAX_FILE_BYTES as u64) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(e) => {
            let shown = record
                .annotations
                .get(annotation::MESSAGE_PATH)
                .map_or("", String::as_str);
            return format!("Error on reading termination log {shown}: {e}");
        }
    };
    let policy = record
        .annotations
        .get(annotation::MESSAGE_POLICY)
        .map(String::as_str);
    if messages::wants_log(policy, *exit_code, &file) {
        match tail(&record.log_path, LOG_TAIL) {
            Ok(log) => messages::from_log(&log),
            Err(e) => format!("Error on reading termination message from logs: {e}"),
        }
    } else {
        messages::from_file(&file)
    }
}

/// The last bytes of a regular file.
fn tail(path: &Path, most: u64) -> std::io::Result<Vec<u8>> {
    let mut file = File::from(open(
        path,
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC,
        Mode::empty(),
    )?);
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(std::io::Error::other("not a regular file"));
    }
    file.seek(SeekFrom::Start(meta.len().saturating_sub(most)))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}
