//! The distribution protocol's push side, over plain HTTP to loopback: as little of it as stand-ins need.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, bail};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

struct Answer {
    status: u16,
    location: Option<String>,
    digest: Option<String>,
}

/// Does `repository:tag` stand for this manifest already?
pub(super) fn is_there(registry: &str, repository: &str, tag: &str, digest: &str) -> Result<bool> {
    let answer = exchange(
        registry,
        "HEAD",
        &format!("/v2/{repository}/manifests/{tag}"),
        "",
        b"",
    )?;
    Ok(answer.status == 200 && answer.digest.as_deref() == Some(digest))
}

/// Uploads a blob unless the repository has it.
pub(super) fn blob(registry: &str, repository: &str, digest: &str, bytes: &[u8]) -> Result<()> {
    if exchange(
        registry,
        "HEAD",
        &format!("/v2/{repository}/blobs/{digest}"),
        "",
        b"",
    )?
    .status
        == 200
    {
        return Ok(());
    }
    let begun = exchange(
        registry,
        "POST",
        &format!("/v2/{repository}/blobs/uploads/"),
        "",
        b"",
    )?;
    let location = begun
        .location
        .filter(|_| begun.status == 202)
        .with_context(|| format!("begin an upload to {repository}: {}", begun.status))?;
    let path = location
        .strip_prefix("http://")
        .and_then(|rest| rest.find('/').map(|at| &rest[at..]))
        .unwrap_or(&location);
    let joint = if path.contains('?') { '&' } else { '?' };
    let done = exchange(
        registry,
        "PUT",
        &format!("{path}{joint}digest={digest}"),
        "application/octet-stream",
        bytes,
    )?;
    if done.status == 201 {
        Ok(())
    } else {
        bail!("upload {digest} to {repository}: {}", done.status)
    }
}

/// Puts a manifest under a tag.
pub(super) fn manifest(registry: &str, repository: &str, tag: &str, bytes: &[u8]) -> Result<()> {
    let done = exchange(
        registry,
        "PUT",
        &format!("/v2/{repository}/manifests/{tag}"),
        MANIFEST,
        bytes,
    )?;
    if done.status == 201 {
        Ok(())
    } else {
        bail!("push {repository}:{tag}: {}", done.status)
    }
}

fn exchange(
    registry: &str,
    method: &str,
    path: &str,
    content_type: &str,
    body: &[u8],
) -> Result<Answer> {
    let mut stream = TcpStream::connect(registry)
        .with_context(|| format!("connect to the registry at {registry}"))?;
    let kind = if content_type.is_empty() {
        String::new()
    } else {
        format!("Content-Type: {content_type}\r\n")
    };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {registry}\r\nAccept: {MANIFEST}\r\nConnection: close\r\n{kind}Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(body))
        .context("send to the registry")?;
    let mut answer = BufReader::new(stream);
    let mut line = String::new();
    answer
        .read_line(&mut line)
        .context("read the registry's answer")?;
    let status = line
        .split(' ')
        .nth(1)
        .and_then(|s| s.parse().ok())
        .with_context(|| format!("no HTTP: {line:?}"))?;
    let mut found = Answer {
        status,
        location: None,
        digest: None,
    };
    loop {
        let mut line = String::new();
        answer
            .read_line(&mut line)
            .context("read the registry's answer")?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "location" => found.location = Some(value.to_owned()),
            "docker-content-digest" => found.digest = Some(value.to_owned()),
            _ => {}
        }
    }
    answer
        .read_to_end(&mut Vec::new())
        .context("read the registry's answer")?;
    Ok(found)
}
