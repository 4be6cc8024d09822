//! Layers and images, as hostile as a test likes.

use std::io::Write;

use images::Digest;
use serde_json::{Value, json};

/// A tar archive under construction; headers are written as told, sane or not.
#[derive(Clone, Default)]
pub struct Tar(Vec<u8>);

impl Tar {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn dir(self, path: &str, mode: u32) -> Self {
        self.entry(b'5', path, "", mode, b"", 0)
    }

    pub fn file(self, path: &str, content: &str) -> Self {
        self.entry(b'0', path, "", 0o644, content.as_bytes(), 0)
    }

    pub fn file_as(self, path: &str, content: &str, mode: u32, owner: u32) -> Self {
        self.entry(b'0', path, "", mode, content.as_bytes(), owner)
    }

    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(b'2', path, target, 0o777, b"", 0)
    }

    pub fn hard_link(self, path: &str, target: &str) -> Self {
        self.entry(b'1', path, target, 0o644, b"", 0)
    }

    pub fn device(self, path: &str) -> Self {
        self.entry(b'3', path, "", 0o666, b"", 0)
    }

    pub fn fifo(self, path: &str) -> Self {
        self.entry(b'6', path, "", 0o600, b"", 0)
    }

    /// PAX records for the next entry.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut body = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length.to_string().len() + rest != length {
                length += 1;
            }
            body.extend(format!("{length} {key}=").bytes());
            body.extend(*value);
            body.push(b'\n');
        }
        self.entry(b'x', "pax", "", 0o644, &body, 0)
    }

    pub fn entry(
        mut self,
        kind: u8,
        path: &str,
        link: &str,
        mode: u32,
        content: &[u8],
        owner: u32,
    ) -> Self {
        self.header(kind, path, link, mode, content.len() as u64, owner);
        self.0.extend(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn header(&mut self, kind: u8, path: &str, link: &str, mode: u32, size: u64, owner: u32) {
        let mut header = tar::Header::new_ustar();
        header.set_size(size);
        header.set_mode(mode);
        header.set_uid(owner.into());
        header.set_gid(owner.into());
        header.set_mtime(1_000_000_000);
        let bytes = header.as_mut_bytes();
        bytes[156] = kind;
        bytes[..path.len()].copy_from_slice(path.as_bytes());
        bytes[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        self.0.extend(header.as_bytes());
    }

    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    pub fn bytes(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    ::zstd::encode_all(bytes, 1).unwrap()
}

/// How a layer is compressed.
pub type Compress = fn(&[u8]) -> Vec<u8>;

/// An image: documents and layers.
pub struct TestImage {
    pub manifest: Vec<u8>,
    pub config: Vec<u8>,
    /// As they are served.
    pub layers: Vec<Vec<u8>>,
}

impl TestImage {
    /// Layers as plain tars, each with how it is compressed.
    pub fn new(layers: &[(Vec<u8>, Compress)]) -> Self {
        Self::with_config(
            layers,
            json!({"Env": ["A=1"], "Cmd": ["sh"], "Entrypoint": null, "Volumes": {"/data": {}}}),
        )
    }

    pub fn with_config(layers: &[(Vec<u8>, Compress)], config: Value) -> Self {
        let diff_ids: Vec<_> = layers
            .iter()
            .map(|(tar, _)| Digest::of(tar).to_string())
            .collect();
        let arch = if cfg!(target_arch = "aarch64") {
            "arm64"
        } else {
            "amd64"
        };
        let document = json!({"architecture": arch, "os": "linux", "config": config, "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        let layers: Vec<_> = layers.iter().map(|(tar, compress)| compress(tar)).collect();
        let mut image = Self {
            manifest: Vec::new(),
            config: document.to_string().into_bytes(),
            layers,
        };
        let layers: Vec<_> = image
            .layers
            .iter()
            .map(|l| descriptor("application/vnd.oci.image.layer.v1.tar+gzip", l))
            .collect();
        image.set_manifest(json!(layers));
        image
    }

    /// Replaces what the manifest says of the layers.
    pub fn set_manifest(&mut self, layers: Value) {
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", &self.config),
            "layers": layers,
        });
        self.manifest = manifest.to_string().into_bytes();
    }

    pub fn id(&self) -> String {
        Digest::of(&self.config).to_string()
    }

    pub fn size(&self) -> u64 {
        (self.config.len() + self.layers.iter().map(Vec::len).sum::<usize>()) as u64
    }
}

pub fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(bytes).as_str(), "size": bytes.len()})
}

pub fn plain(bytes: &[u8]) -> Vec<u8> {
    bytes.to_vec()
}

/// A small image of three layers, each compressed differently.
pub fn sample() -> TestImage {
    let base = Tar::new()
        .dir("./", 0o755)
        .dir("bin/", 0o755)
        .file_as("bin/sh", "#!", 0o4755, 0)
        .dir("tmp/", 0o1777)
        .bytes();
    let middle = Tar::new()
        .dir("etc/", 0o755)
        .file_as("etc/passwd", "root", 0o600, 12)
        .bytes();
    let top = Tar::new()
        .dir("etc/", 0o755)
        .file("etc/.wh.passwd", "")
        .file("new", "n")
        .bytes();
    TestImage::new(&[(base, gzip), (middle, zstd), (top, plain)])
}
