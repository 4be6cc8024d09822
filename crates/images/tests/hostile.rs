//! Layers and archives made to do harm: each is refused, and nothing of it is left.

mod common;

use std::io::Read;
use std::path::Path;

use common::image::{Tar, TestImage, descriptor, gzip, plain, zstd};
use common::registry::TestRegistry;
use common::{open, remains, tree};
use images::{HostsConfig, Limits, Store};
use ports::images::{ImageConfig, ImageError, Images};
use serde_json::json;

async fn import(store: &Store, archive: Vec<u8>) -> Result<ports::images::Image, ImageError> {
    store
        .import_stream(
            std::io::Cursor::new(archive),
            "app:1",
            ImageConfig::default(),
        )
        .await
}

fn limited(root: &Path, limits: Limits) -> Store {
    Store::open_with_limits(root, HostsConfig::default(), limits).unwrap()
}

#[tokio::test]
async fn hostile_layers_are_refused_whole() {
    let long = "x".repeat(300);
    let good = || Tar::new().file("good", "g");
    let mut lying_size = good();
    lying_size.header(b'0', "short", "", 0o644, 1 << 40, 0);
    let mut huge_extension = good();
    huge_extension.header(b'x', "pax", "", 0o644, 1 << 33, 0);
    let mut bad_checksum = good().file("x", "").bytes();
    bad_checksum[1024 + 100] ^= 1;
    let rows: Vec<(&str, Vec<u8>, &str)> = vec![
        (
            "dot dot",
            good().file("../evil", "e").bytes(),
            "holds \"..\"",
        ),
        (
            "dot dot inside",
            good().file("a/../../evil", "e").bytes(),
            "holds \"..\"",
        ),
        ("absolute", good().file("/evil", "e").bytes(), "is absolute"),
        (
            "NUL in a name",
            good().pax(&[("path", b"a\0b")]).file("x", "").bytes(),
            "is not a path",
        ),
        (
            "long component",
            good()
                .pax(&[("path", long.as_bytes())])
                .file("x", "")
                .bytes(),
            "too long",
        ),
        (
            "hard link out",
            good().hard_link("evil", "../../etc/passwd").bytes(),
            "holds \"..\"",
        ),
        (
            "hard link to the host",
            good().hard_link("evil", "/etc/hostname").bytes(),
            "which is not there",
        ),
        (
            "hard link to itself",
            good().hard_link("evil", "evil").bytes(),
            "to itself",
        ),
        (
            "hard link to a directory",
            good().dir("d", 0o755).hard_link("evil", "d").bytes(),
            "to a directory",
        ),
        (
            "device node",
            good().device("dev/sda").bytes(),
            "is a device node",
        ),
        (
            "whiteout by hand",
            good().entry(b'3', "gone", "", 0, b"", 0).bytes(),
            "is a device node",
        ),
        (
            "opaque by hand",
            good()
                .pax(&[("SCHILY.xattr.trusted.overlay.opaque", b"y")])
                .dir("d", 0o755)
                .bytes(),
            "extended attribute",
        ),
        (
            "redirect by hand",
            good()
                .pax(&[("SCHILY.xattr.trusted.overlay.redirect", b"/etc")])
                .dir("d", 0o755)
                .bytes(),
            "extended attribute",
        ),
        (
            "whiteout of nothing",
            good().file("a/.wh.", "").bytes(),
            "whiteout of no name",
        ),
        (
            "whiteout of the parent",
            good().file("a/.wh...", "").bytes(),
            "whiteout of no name",
        ),
        (
            "file as directory",
            good().file("good/below", "").bytes(),
            "is not a directory",
        ),
        (
            "root as file",
            good()
                .file("./", "")
                .entry(b'2', ".", "x", 0o777, b"", 0)
                .bytes(),
            "the root is not a directory",
        ),
        (
            "links in a circle",
            good()
                .symlink("a", "b")
                .symlink("b", "a")
                .file("a/x", "")
                .bytes(),
            "is not a directory",
        ),
        (
            "sparse file",
            good().entry(b'S', "s", "", 0o644, b"", 0).bytes(),
            "sparse files",
        ),
        (
            "unknown entry",
            good().entry(b'Z', "z", "", 0o644, b"", 0).bytes(),
            "unknown entry type",
        ),
        (
            "size that lies",
            lying_size.raw(b"little").bytes(),
            "ends within an entry",
        ),
        ("huge extension", huge_extension.bytes(), "extension header"),
        (
            "negative PAX size",
            good().pax(&[("size", b"-1")]).file("x", "").bytes(),
            "malformed number",
        ),
        (
            "malformed PAX",
            good()
                .entry(b'x', "pax", "", 0o644, b"99999 a=b\n", 0)
                .file("x", "")
                .bytes(),
            "malformed PAX",
        ),
        (
            "uid of all ones",
            good().pax(&[("uid", b"4294967295")]).file("x", "").bytes(),
            "no valid owner",
        ),
        ("bad checksum", bad_checksum, "checksum"),
        (
            "no archive",
            b"this is not an archive at all".repeat(40),
            "malformed number",
        ),
        ("truncated gzip", gzip(&good().bytes())[..60].to_vec(), ""),
        (
            "corrupt zstd",
            {
                let mut z = zstd(&good().bytes());
                let at = z.len() / 2;
                z[at] ^= 0xff;
                z
            },
            "",
        ),
    ];
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    for (name, layer, expected) in rows {
        let error = import(&store, layer).await.map(drop).unwrap_err();
        assert!(
            matches!(error, ImageError::Refused { .. }),
            "{name}: {error}"
        );
        assert!(error.to_string().contains(expected), "{name}: {error}");
        assert_eq!(remains(root.path()), Vec::<String>::new(), "{name}");
    }
}

#[tokio::test]
async fn bombs_stop_at_their_bounds() {
    let small = Limits {
        entries: 10,
        unpacked_bytes: 1 << 20,
        ratio: 20,
        ratio_floor_bytes: 1 << 16,
    };
    let many = (0..11).fold(Tar::new(), |tar, i| tar.file(&format!("f{i}"), ""));
    let zeroes = |n: usize| Tar::new().file("zero", &"\0".repeat(n)).bytes();
    let rows = [
        ("entries", many.bytes(), "more than 10 entries"),
        ("bytes", zeroes(2 << 20), "unpacks to more than"),
        (
            "gzip ratio",
            gzip(&zeroes(900 << 10)),
            "expands more than 20 times",
        ),
        (
            "zstd ratio",
            zstd(&zeroes(900 << 10)),
            "expands more than 20 times",
        ),
    ];
    let root = tempfile::tempdir().unwrap();
    let store = limited(root.path(), small);
    for (name, layer, expected) in rows {
        let error = import(&store, layer).await.map(drop).unwrap_err();
        assert!(error.to_string().contains(expected), "{name}: {error}");
        assert_eq!(remains(root.path()), Vec::<String>::new(), "{name}");
    }
    import(&store, gzip(&zeroes(32 << 10))).await.unwrap();
}

#[tokio::test]
async fn links_lead_nowhere_outside() {
    let root = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().to_str().unwrap().to_owned();
    let up = format!("{}{target}", "../".repeat(12));
    let layer = Tar::new()
        .symlink("abs", &target)
        .file("abs/one", "1")
        .symlink("rel", &up)
        .file("rel/two", "2")
        .symlink("file", &format!("{target}/three"))
        .file("file", "3")
        .file("abs/.wh.hidden", "");
    let store = open(&root.path().join("store"));
    let image = import(&store, layer.bytes()).await.unwrap();
    assert_eq!(tree(outside.path()).len(), 0);
    let inside = tree(&store.rootfs(&image.id).await.unwrap().layers[0]);
    let below = target.trim_start_matches('/');
    assert!(
        inside[&format!("{below}/one")].starts_with("file \"1\""),
        "{inside:?}"
    );
    assert!(
        inside[&format!("{below}/two")].starts_with("file \"2\""),
        "{inside:?}"
    );
    assert!(
        inside[&format!("{below}/hidden")].starts_with("char 0"),
        "{inside:?}"
    );
    assert!(inside["file"].starts_with("file \"3\""), "{inside:?}");
}

#[tokio::test]
async fn what_a_layer_legally_holds_is_kept() {
    let capability: &[u8] = &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let layer = Tar::new()
        .dir("usr/lib/", 0o755)
        .symlink("lib", "usr/lib")
        .file("lib/x", "x")
        .hard_link("usr/y", "lib/x")
        .fifo("pipe")
        .pax(&[
            ("SCHILY.xattr.security.capability", capability),
            ("mtime", b"1234.5"),
        ])
        .file_as("ping", "p", 0o2755, 7)
        .file("again", "first")
        .dir("again", 0o700)
        .dir("dir", 0o755)
        .file("dir/below", "")
        .file("dir", "now a file")
        .file(".wh.both", "")
        .dir("both", 0o755)
        .file("both/new", "")
        .dir("late", 0o755)
        .file(".wh.late", "")
        .file(".wh..wh..opq", "")
        .file(".wh..wh.plnk", "");
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let image = import(&store, layer.bytes()).await.unwrap();
    let at = store.rootfs(&image.id).await.unwrap().layers.remove(0);
    let found: Vec<_> = tree(&at)
        .into_iter()
        .map(|(k, v)| format!("{k}: {v}"))
        .collect();
    assert_eq!(
        found,
        [
            "again: dir 700 0:0",
            "both: dir 755 0:0",
            "both/new: file \"\" 644 0:0",
            "dir: file \"now a file\" 644 0:0",
            "late: dir 755 0:0",
            "lib: -> usr/lib 0:0",
            "ping: file \"p\" 2755 7:7",
            "pipe: fifo 600 0:0",
            "usr: dir 755 0:0",
            "usr/lib: dir 755 0:0",
            "usr/lib/x: file \"x\" 644 0:0",
            "usr/y: file \"x\" 644 0:0",
        ]
    );
    use std::os::unix::fs::MetadataExt;
    let stat = |name: &str| std::fs::symlink_metadata(at.join(name)).unwrap();
    assert_eq!(stat("usr/y").ino(), stat("usr/lib/x").ino());
    assert_eq!(
        (stat("ping").mtime(), stat("ping").mtime_nsec()),
        (1234, 500_000_000)
    );
    assert_eq!(
        (stat("usr/lib").mtime(), stat("again").mtime()),
        (1_000_000_000, 1_000_000_000)
    );
    let attribute = |name: &str, key: &str| {
        let mut value = [0_u8; 64];
        rustix::fs::lgetxattr(at.join(name), key, &mut value)
            .map(|n| value[..n].to_vec())
            .ok()
    };
    assert_eq!(
        attribute("ping", "security.capability").unwrap(),
        capability
    );
    for opaque in ["both", "late", ""] {
        assert_eq!(
            attribute(opaque, "trusted.overlay.opaque").as_deref(),
            Some(&b"y"[..]),
            "{opaque:?}"
        );
    }
    assert_eq!(attribute("again", "trusted.overlay.opaque"), None);
}

#[tokio::test]
async fn a_layer_may_lean_on_those_below() {
    let base = Tar::new()
        .dir("usr/", 0o755)
        .entry(b'5', "usr/lib", "", 0o750, b"", 3)
        .symlink("lib", "usr/lib")
        .file("usr/lib/old", "old")
        .dir("gone", 0o700);
    let middle = Tar::new().file(".wh.gone", "");
    // Neither names `lib`'s target, nor what it links to, nor the directory it writes below.
    let top = Tar::new()
        .file("lib/new", "new")
        .hard_link("copy", "lib/old")
        .file("gone/x", "");
    let image = TestImage::new(&[
        (base.bytes(), gzip),
        (middle.bytes(), gzip),
        (top.bytes(), gzip),
    ]);
    let registry = TestRegistry::start().await;
    registry.put("app", "1", &image);
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    store
        .pull_image(&registry.name("app:1"), None, None)
        .await
        .unwrap();
    let layers = store.rootfs(&image.id()).await.unwrap().layers;
    let found: Vec<_> = tree(&layers[0])
        .into_iter()
        .map(|(k, v)| format!("{k}: {v}"))
        .collect();
    assert_eq!(
        found,
        [
            "copy: file \"old\" 644 0:0",
            "gone: dir 755 0:0",
            "gone/x: file \"\" 644 0:0",
            "lib: -> usr/lib 0:0",
            "usr: dir 755 0:0",
            "usr/lib: dir 750 3:3",
            "usr/lib/new: file \"new\" 644 0:0",
            "usr/lib/old: file \"old\" 644 0:0",
        ]
    );
}

#[tokio::test]
async fn manifests_that_lie_are_refused() {
    let layer = Tar::new().file("good", "g").bytes();
    let image = || TestImage::new(&[(layer.clone(), gzip)]);
    let served = image().layers[0].clone();
    let sized = |size: usize| {
        let mut d = descriptor("x", &served);
        d["size"] = json!(size);
        json!([d])
    };
    let rows = [
        ("size too small", sized(served.len() - 1)),
        ("size too large", sized(served.len() + 1)),
        (
            "layers without diff ids",
            json!([descriptor("x", &served), descriptor("x", &served)]),
        ),
        (
            "digest that is a path",
            json!([{"mediaType": "x", "size": 1, "digest": "sha256:../../../../etc/passwd"}]),
        ),
    ];
    for (name, layers) in rows {
        let registry = TestRegistry::start().await;
        let mut image = image();
        image.set_manifest(layers);
        registry.put("app", "1", &image);
        let root = tempfile::tempdir().unwrap();
        let store = open(root.path());
        let error = store
            .pull_image(&registry.name("app:1"), None, None)
            .await
            .unwrap_err();
        assert!(
            matches!(error, ImageError::Refused { .. }),
            "{name}: {error}"
        );
        assert_eq!(remains(root.path()), Vec::<String>::new(), "{name}");
    }
    // A configuration whose diff id is another layer's.
    let (registry, root) = (TestRegistry::start().await, tempfile::tempdir().unwrap());
    let mut lying = TestImage::new(&[(Tar::new().file("other", "o").bytes(), gzip)]);
    lying.layers = vec![served.clone()];
    lying.set_manifest(json!([descriptor("x", &served)]));
    registry.put("app", "1", &lying);
    let error = open(root.path())
        .pull_image(&registry.name("app:1"), None, None)
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("uncompressed content has digest"),
        "{error}"
    );
    assert_eq!(remains(root.path()), Vec::<String>::new());
}

#[tokio::test]
async fn hostile_archives_are_refused_whole() {
    let image = TestImage::new(&[(Tar::new().file("good", "g").bytes(), plain)]);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let docker = |config: &str, layer: &str| {
        json!([{"Config": config, "RepoTags": ["app:1"], "Layers": [layer]}]).to_string()
    };
    let with = |manifest: String| {
        Tar::new()
            .file("config.json", &text(&image.config))
            .file("manifest.json", &manifest)
    };
    let body = text(&image.layers[0]);
    let secret = tempfile::NamedTempFile::new().unwrap();
    let rows = [
        (
            "nothing known",
            Tar::new().file("readme", "").bytes(),
            "neither an OCI image layout nor a docker archive",
        ),
        (
            "missing layer",
            with(docker("config.json", "layer.tar")).bytes(),
            "layer.tar is missing",
        ),
        (
            "layer is a FIFO",
            with(docker("config.json", "layer.tar"))
                .fifo("layer.tar")
                .bytes(),
            "is not a file",
        ),
        (
            "layer links out",
            with(docker("config.json", "layer.tar"))
                .symlink("layer.tar", secret.path().to_str().unwrap())
                .bytes(),
            "is missing",
        ),
        (
            "layer by dots",
            with(docker("config.json", "../../index.json")).bytes(),
            "",
        ),
        (
            "name out of grammar",
            with(docker("config.json", "l").replace("app:1", "../App"))
                .file("l", &body)
                .bytes(),
            "",
        ),
        (
            "two images, second bad",
            {
                let one = docker("config.json", "l");
                let two = docker("config.json", "none");
                with(format!(
                    "[{},{}]",
                    &one[1..one.len() - 1],
                    &two[1..two.len() - 1]
                ))
                .file("l", &body)
                .bytes()
            },
            "none is missing",
        ),
        (
            "escape",
            with(docker("config.json", "l")).file("../l", &body).bytes(),
            "holds \"..\"",
        ),
        (
            "empty list",
            Tar::new().file("manifest.json", "[]").bytes(),
            "holds 0 images",
        ),
        (
            "layout with a lying digest",
            {
                let index =
                    json!({"schemaVersion": 2, "manifests": [descriptor("m", &image.manifest)]})
                        .to_string();
                let path = format!("blobs/sha256/{}", images::Digest::of(&image.manifest).hex());
                Tar::new()
                    .file("oci-layout", "{}")
                    .file("index.json", &index)
                    .pax(&[("path", path.as_bytes())])
                    .file("x", &"x".repeat(image.manifest.len()))
                    .bytes()
            },
            "content has digest",
        ),
    ];
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    for (name, archive, expected) in rows {
        let error = store
            .load_stream(std::io::Cursor::new(archive), None)
            .await
            .map(drop)
            .unwrap_err();
        assert!(error.to_string().contains(expected), "{name}: {error}");
        assert!(!matches!(error, ImageError::Io { .. }), "{name}: {error}");
        assert_eq!(remains(root.path()), Vec::<String>::new(), "{name}");
    }
    let failing = std::io::Cursor::new(vec![0x1f]).chain(Broken);
    assert!(matches!(
        store.load_stream(failing, None).await,
        Err(ImageError::Io { .. })
    ));
    assert_eq!(remains(root.path()), Vec::<String>::new());
}

/// A source that fails by itself, as a disk might.
struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(std::io::Error::from_raw_os_error(5))
    }
}
