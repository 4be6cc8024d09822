//! Termination messages (§3.6): which bytes of a file or a log are kept, and how many of them the API gets.

/// Most bytes kept of a termination message file: its last ones.
pub const MAX_FILE_BYTES: usize = 4096;
/// Most bytes kept of a log used as termination message: its last ones.
pub const MAX_LOG_BYTES: usize = 2048;
/// Most lines of a log used as termination message.
pub const MAX_LOG_LINES: usize = 80;
/// Most bytes of all messages of a Pod.
pub const MAX_POD_BYTES: usize = 12_288;

/// The message in a termination message file.
pub fn from_file(bytes: &[u8]) -> String {
    text(tail(bytes, MAX_FILE_BYTES))
}

/// Whether `FallbackToLogsOnError` asks for the log: the container failed and its file is empty or missing.
pub fn wants_log(policy: Option<&str>, exit_code: i32, file: &[u8]) -> bool {
    policy == Some("FallbackToLogsOnError") && exit_code != 0 && file.is_empty()
}

/// The message in a log: what the container wrote, of its last 80 lines the last 2048 bytes. `log` is (the end of) a file in
/// CRI's format, `<time> <stream> <F|P> <content>` a line; a first line cut in the middle is left out.
pub fn from_log(log: &[u8]) -> String {
    let records: Vec<&[u8]> = log
        .split_inclusive(|b| *b == b'\n')
        .filter(|r| content(r).is_some())
        .collect();
    let first = records.len().saturating_sub(MAX_LOG_LINES);
    let mut written = Vec::new();
    for record in &records[first..] {
        if let Some((partial, line)) = content(record) {
            written.extend_from_slice(line);
            if !partial {
                written.push(b'\n');
            }
        }
    }
    text(tail(&written, MAX_LOG_BYTES))
}

/// A record's partial flag and content; `None` when it is not a whole record.
fn content(record: &[u8]) -> Option<(bool, &[u8])> {
    let record = record.strip_suffix(b"\n")?;
    let mut parts = record.splitn(4, |b| *b == b' ');
    let (_time, stream, tag) = (parts.next()?, parts.next()?, parts.next()?);
    let known = matches!(stream, b"stdout" | b"stderr");
    let partial = tag.split(|b| *b == b':').next()? == b"P";
    known.then(|| (partial, parts.next().unwrap_or_default()))
}

/// The runtime's own message (StartError) before the container's.
pub fn joined(runtime: &str, container: &str) -> String {
    match (runtime.is_empty(), container.is_empty()) {
        (_, true) => runtime.to_owned(),
        (true, _) => container.to_owned(),
        _ => format!("{runtime}: {container}"),
    }
}

/// A message cut to its share of the Pod's bytes: `containers` counts init, app and ephemeral containers.
pub fn share(message: &str, containers: usize) -> &str {
    let most = (MAX_POD_BYTES / containers.max(1)).min(MAX_FILE_BYTES);
    let mut end = message.len().min(most);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    &message[..end]
}

fn tail(bytes: &[u8], most: usize) -> &[u8] {
    &bytes[bytes.len().saturating_sub(most)..]
}

/// Bytes as text that stays within the size of the bytes: what is no UTF-8 becomes `?`.
fn text(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        out.extend(std::iter::repeat_n('?', chunk.invalid().len()));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_a_file_is_kept() {
        let mut file = vec![b'a'; 10];
        file.extend(vec![b'b'; MAX_FILE_BYTES]);
        assert_eq!(from_file(&file), "b".repeat(MAX_FILE_BYTES));
        assert_eq!(from_file(b"a\xffb"), "a?b");
    }

    #[test]
    fn only_the_last_lines_of_a_log_are_kept() {
        let mut log = b"cut 2026-01-01T00:00:00Z\n".to_vec();
        for line in 0..100 {
            log.extend(format!("2026-01-01T00:00:00.1Z stdout F line {line}\n").into_bytes());
        }
        let message = from_log(&log);
        assert!(
            message.starts_with("line 20\n") && message.ends_with("line 99\n"),
            "{message}"
        );
        assert_eq!(
            from_log(b"2026-01-01T00:00:00Z stderr F last words\n"),
            "last words\n"
        );
        assert_eq!(
            from_log(b"t stdout P half\nt stdout F  and half\n"),
            "half and half\n"
        );
        let long = format!("t stdout F {}\n", "x".repeat(3000));
        assert_eq!(from_log(long.as_bytes()).len(), MAX_LOG_BYTES);
    }

    #[test]
    fn the_log_is_asked_for_only_after_failures_without_a_message() {
        let policy = Some("FallbackToLogsOnError");
        assert!(wants_log(policy, 1, b""));
        assert!(
            !wants_log(policy, 0, b"")
                && !wants_log(policy, 1, b"x")
                && !wants_log(Some("File"), 1, b"")
                && !wants_log(None, 1, b"")
        );
    }

    #[test]
    fn shares_of_a_pod_never_exceed_its_bytes() {
        let message = "é".repeat(4000);
        for containers in 1..20 {
            let cut = share(&message, containers);
            assert!(
                cut.len() <= MAX_FILE_BYTES && cut.len() * containers <= MAX_POD_BYTES,
                "{containers}: {}",
                cut.len()
            );
        }
        assert_eq!(joined("cannot start", "file"), "cannot start: file");
        assert_eq!(joined("", "file"), "file");
        assert_eq!(joined("cannot start", ""), "cannot start");
    }
}
