//! A root file system in the making, and the deterministic layer it becomes.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use flate2::Compression;
use flate2::write::GzEncoder;

/// Files, directories and links by path without leading slash; parents come by themselves.
#[derive(Clone, Default)]
pub(super) struct Tree {
    nodes: BTreeMap<String, Node>,
}

#[derive(Clone)]
struct Node {
    what: What,
    mode: u32,
    owner: (u64, u64),
}

#[derive(Clone)]
enum What {
    Directory,
    Text(Vec<u8>),
    /// A file of this machine.
    Copy(PathBuf),
    Link(String),
}

impl Tree {
    pub(super) fn directory(&mut self, path: &str, mode: u32) -> &mut Self {
        self.insert(path, What::Directory, mode, (0, 0))
    }

    pub(super) fn owned_directory(&mut self, path: &str, mode: u32, owner: u64) -> &mut Self {
        self.insert(path, What::Directory, mode, (owner, owner))
    }

    pub(super) fn text(&mut self, path: &str, text: impl Into<Vec<u8>>, mode: u32) -> &mut Self {
        self.insert(path, What::Text(text.into()), mode, (0, 0))
    }

    pub(super) fn copy(&mut self, path: &str, from: &Path, mode: u32) -> &mut Self {
        self.insert(path, What::Copy(from.to_owned()), mode, (0, 0))
    }

    pub(super) fn link(&mut self, path: &str, target: &str) -> &mut Self {
        self.insert(path, What::Link(target.to_owned()), 0o777, (0, 0))
    }

    fn insert(&mut self, path: &str, what: What, mode: u32, owner: (u64, u64)) -> &mut Self {
        let path = path.trim_matches('/');
        for (at, _) in path.match_indices('/') {
            let parent = Node {
                what: What::Directory,
                mode: 0o755,
                owner: (0, 0),
            };
            self.nodes.entry(path[..at].to_owned()).or_insert(parent);
        }
        self.nodes
            .insert(path.to_owned(), Node { what, mode, owner });
        self
    }

    /// Puts a program of this machine at `path`, with the libraries the dynamic linker finds for it.
    pub(super) fn program(&mut self, path: &str, from: &Path) -> Result<&mut Self> {
        self.copy(
            path,
            &fs::canonicalize(from).with_context(|| format!("find {}", from.display()))?,
            0o755,
        );
        self.libraries(&[from.to_owned()], Path::new("/"))
    }

    /// Puts the libraries that the dynamic linker finds for programs or plugins, below `root` or else on this machine.
    pub(super) fn libraries(&mut self, of: &[PathBuf], root: &Path) -> Result<&mut Self> {
        let mut ldd = Command::new("ldd");
        if root != Path::new("/") {
            let places = library_directories().map(|d| root.join(&d[1..]));
            ldd.env("LD_LIBRARY_PATH", std::env::join_paths(places)?);
        }
        let output = ldd.args(of).output().context("run ldd")?;
        let text = String::from_utf8(output.stdout).context("read ldd's output")?;
        if let Some(missing) = text.lines().find(|line| line.ends_with("=> not found")) {
            bail!("a library is not installed: {}", missing.trim());
        }
        for library in text.lines().filter_map(library).map(Path::new) {
            let path = library.strip_prefix(root).unwrap_or(library).to_str();
            self.copy(
                path.context("a library whose name is not UTF-8")?,
                &fs::canonicalize(library)
                    .with_context(|| format!("find {}", library.display()))?,
                0o755,
            );
        }
        Ok(self)
    }

    /// Puts a library that is only found at run time where this machine has it.
    pub(super) fn library(&mut self, name: &str) -> Result<&mut Self> {
        let places = library_directories().map(|directory| format!("{directory}/{name}"));
        match places.iter().find(|p| Path::new(p).exists()) {
            Some(place) => Ok(self.copy(place, &fs::canonicalize(place)?, 0o644)),
            None => bail!("{name} is not installed"),
        }
    }

    /// Takes over what is in a directory below `root` (all of it: `""`), except device nodes, the files `skip` names, and what
    /// is in the directories it names.
    pub(super) fn import(
        &mut self,
        root: &Path,
        directory: &str,
        skip: &[&str],
    ) -> Result<&mut Self> {
        let mut todo = vec![root.join(directory)];
        while let Some(directory) = todo.pop() {
            for entry in
                fs::read_dir(&directory).with_context(|| format!("list {}", directory.display()))?
            {
                let path = entry?.path();
                let name = path
                    .strip_prefix(root)?
                    .to_str()
                    .context("a name that is not UTF-8")?
                    .to_owned();
                let metadata = fs::symlink_metadata(&path)?;
                let is_skipped = skip.contains(&name.as_str());
                let what = if metadata.is_dir() {
                    if !is_skipped {
                        todo.push(path.clone());
                    }
                    What::Directory
                } else if is_skipped {
                    continue;
                } else if metadata.is_symlink() {
                    What::Link(
                        fs::read_link(&path)?
                            .to_str()
                            .context("a link that is not UTF-8")?
                            .to_owned(),
                    )
                } else if metadata.is_file() {
                    What::Copy(path)
                } else {
                    continue;
                };
                let owner = (u64::from(metadata.uid()), u64::from(metadata.gid()));
                self.insert(&name, what, metadata.permissions().mode() & 0o7777, owner);
            }
        }
        Ok(self)
    }

    /// What the layer depends on, without reading the copied files: their sizes and times stand for their content.
    pub(super) fn fingerprint(&self) -> Result<String> {
        let mut text = String::new();
        for (path, node) in &self.nodes {
            let what = match &node.what {
                What::Directory => "dir".to_owned(),
                What::Text(bytes) => super::digest(bytes),
                What::Link(target) => format!("-> {target}"),
                What::Copy(from) => {
                    let m = fs::metadata(from)
                        .with_context(|| format!("look at {}", from.display()))?;
                    format!("{} {} {}", m.len(), m.mtime(), m.mtime_nsec())
                }
            };
            text += &format!("{path} {:o} {:?} {what}\n", node.mode, node.owner);
        }
        Ok(super::digest(text.as_bytes()))
    }

    /// The layer: gzip-compressed bytes and the digest of the tar within. The same tree always gives the same bytes.
    pub(super) fn layer(&self) -> Result<(Vec<u8>, String)> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, node) in &self.nodes {
            let mut header = tar::Header::new_gnu();
            header.set_mode(node.mode);
            header.set_uid(node.owner.0);
            header.set_gid(node.owner.1);
            header.set_mtime(0);
            header.set_size(0);
            match &node.what {
                What::Directory => {
                    header.set_entry_type(tar::EntryType::Directory);
                    tar.append_data(&mut header, format!("{path}/"), std::io::empty())?;
                }
                What::Link(target) => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    tar.append_link(&mut header, path, target)?;
                }
                What::Text(bytes) => {
                    header.set_size(bytes.len() as u64);
                    tar.append_data(&mut header, path, bytes.as_slice())?;
                }
                What::Copy(from) => {
                    let bytes =
                        fs::read(from).with_context(|| format!("read {}", from.display()))?;
                    header.set_size(bytes.len() as u64);
                    tar.append_data(&mut header, path, bytes.as_slice())?;
                }
            }
        }
        let plain = tar.into_inner()?;
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&plain)?;
        Ok((encoder.finish()?, super::digest(&plain)))
    }
}

/// Where Debian has libraries.
fn library_directories() -> [String; 2] {
    ["/lib", "/usr/lib"].map(|d| format!("{d}/{}-linux-gnu", std::env::consts::ARCH))
}

/// The path in a line of `ldd`: `libc.so.6 => /lib/…/libc.so.6 (0x…)` or `/lib64/ld-linux-x86-64.so.2 (0x…)`. The lines that
/// name the programs, when there are several, are not indented.
fn library(line: &str) -> Option<&str> {
    let line = line.strip_prefix('\t')?;
    let right = line.split_once("=> ").map_or(line, |(_, right)| right);
    let path = right.split(' ').next()?;
    path.starts_with('/').then_some(path)
}
