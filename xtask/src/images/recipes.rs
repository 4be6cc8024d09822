//! What is in each stand-in. They are made of this machine's Debian packages and do what manifests and upstream's tests
//! expect of the images whose names they bear; they are not those images.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::tree::Tree;
use super::{databases, upstream};
use crate::tools::Tools;

/// An image to be: root file system, run-time defaults, and repositories (as a registry has them) with tags.
pub(super) struct Recipe {
    /// File name in the cache.
    pub(super) name: &'static str,
    pub(super) tree: Tree,
    pub(super) config: Value,
    pub(super) repositories: &'static [(&'static str, &'static [&'static str])],
}

pub(super) const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(super) const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nbin:x:2:2:bin:/bin:/bin/false\n\
    www-data:x:33:33:www-data:/var/www:/bin/false\nnginx:x:101:101:nginx:/nonexistent:/bin/false\n\
    nobody:x:65534:65534:nobody:/home:/bin/false\n";
pub(super) const GROUP: &str = "root:x:0:\ndaemon:x:1:\nbin:x:2:\ntty:x:5:\nwww-data:x:33:\nusers:x:100:\nnginx:x:101:\nnobody:x:65534:\n";
const NSSWITCH: &str = "passwd: files\ngroup: files\nhosts: files dns\n";

/// BusyBox 1.35 fails when one name of the search list does not exist; the original succeeds when any does.
const NSLOOKUP: &str = "#!/bin/sh\nout=$(/bin/busybox nslookup \"$@\" 2>&1)\ncode=$?\nprintf '%s\\n' \"$out\"\n\
    case \"$out\" in *Name:*) exit 0 ;; esac\nexit $code\n";

const PAUSE: &str =
    "#!/bin/sh\ntrap 'exit 0' TERM INT\nwhile :; do\n  sleep 2147483647 &\n  wait $!\ndone\n";

/// All that can be made here. Without upstream's test programs, only those that take seconds.
pub(super) fn all(cache: &Path, tools: Option<&Tools>) -> Result<Vec<Recipe>> {
    let mut recipes = small()?;
    if let Some(tools) = tools {
        recipes.push(debian(cache)?);
        recipes.push(openssl(&busybox()?)?);
        recipes.extend(databases::all(&busybox()?, cache)?);
        recipes.extend(upstream::all(&busybox()?, cache, tools)?);
    }
    Ok(recipes)
}

/// Those made of programs that are installed.
pub(super) fn small() -> Result<Vec<Recipe>> {
    let base = busybox()?;
    let busybox = Recipe {
        name: "busybox",
        tree: base.clone(),
        config: json!({"Env": [PATH], "Cmd": ["sh"]}),
        repositories: &[(
            "library/busybox",
            &[
                "latest", "stable", "glibc", "musl", "1.28", "1.35", "1.35.0", "1.36", "1.36.1",
                "1.37", "1.37.0",
            ],
        )],
    };
    Ok(vec![busybox, alpine(&base), nginx(&base)?, pause(&base)])
}

/// Debian's dynamic BusyBox: the static one crashes on names. Its `nc` is OpenBSD's, as `-z` and `-k` are used.
pub(super) fn busybox() -> Result<Tree> {
    let program = found("busybox")?;
    let listed = Command::new(&program)
        .arg("--list")
        .output()
        .context("run busybox --list")?;
    let mut tree = Tree::default();
    for applet in String::from_utf8(listed.stdout)?.lines() {
        tree.link(&format!("bin/{applet}"), "busybox");
    }
    tree.program("bin/busybox", &program)?
        .program("bin/nc", &found("nc.openbsd")?)?;
    // Names are resolved by libraries that libc opens at run time.
    tree.library("libnss_dns.so.2")?
        .library("libnss_files.so.2")?;
    tree.text("bin/nslookup", NSLOOKUP, 0o755);
    tree.link("usr/bin/env", "/bin/env");
    tree.text("etc/passwd", PASSWD, 0o644)
        .text("etc/group", GROUP, 0o644)
        .text("etc/nsswitch.conf", NSSWITCH, 0o644);
    tree.text("etc/shadow", "root:*:::::::\nnobody:*:::::::\n", 0o640);
    tree.directory("tmp", 0o1777)
        .directory("root", 0o700)
        .directory("var/spool/mail", 0o755)
        .directory("usr/sbin", 0o755);
    tree.owned_directory("home", 0o755, 65534);
    for empty in ["dev", "proc", "sys", "run", "var/log", "var/tmp"] {
        tree.directory(empty, if empty == "var/tmp" { 0o1777 } else { 0o755 });
    }
    Ok(tree)
}

fn alpine(base: &Tree) -> Recipe {
    let mut tree = base.clone();
    let release = "NAME=\"Alpine Linux\"\nID=alpine\nVERSION_ID=3.22.0\nPRETTY_NAME=\"Alpine Linux v3.22\"\nHOME_URL=\"https://alpinelinux.org/\"\n";
    tree.text("etc/os-release", release, 0o644)
        .text("etc/alpine-release", "3.22.0\n", 0o644);
    Recipe {
        name: "alpine",
        tree,
        config: json!({"Env": [PATH], "Cmd": ["/bin/sh"]}),
        repositories: &[(
            "library/alpine",
            &["latest", "3", "3.18", "3.19", "3.20", "3.21", "3.22"],
        )],
    }
}

/// What init containers make certificates with.
fn openssl(base: &Tree) -> Result<Recipe> {
    let mut tree = base.clone();
    tree.program("usr/bin/openssl", &found("openssl")?)?;
    // Debian's place, which its program looks at.
    tree.copy(
        "usr/lib/ssl/openssl.cnf",
        Path::new("/etc/ssl/openssl.cnf"),
        0o644,
    );
    Ok(Recipe {
        name: "openssl",
        tree,
        config: json!({"Env": [PATH], "Entrypoint": ["openssl"]}),
        repositories: &[("alpine/openssl", &["latest"])],
    })
}

const NGINX_CONF: &str = "user nginx;\nworker_processes auto;\nerror_log /var/log/nginx/error.log notice;\npid /run/nginx.pid;\n\
events { worker_connections 1024; }\nhttp {\n  include /etc/nginx/mime.types;\n  default_type application/octet-stream;\n  \
log_format main '$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent \"$http_referer\" \"$http_user_agent\" \"$http_x_forwarded_for\"';\n  \
access_log /var/log/nginx/access.log main;\n  sendfile on;\n  keepalive_timeout 65;\n  \
client_body_temp_path /var/cache/nginx/client_temp;\n  proxy_temp_path /var/cache/nginx/proxy_temp;\n  \
fastcgi_temp_path /var/cache/nginx/fastcgi_temp;\n  uwsgi_temp_path /var/cache/nginx/uwsgi_temp;\n  scgi_temp_path /var/cache/nginx/scgi_temp;\n  \
include /etc/nginx/conf.d/*.conf;\n}\n";
const NGINX_SITE: &str = "server {\n  listen 80;\n  server_name localhost;\n  location / {\n    root /usr/share/nginx/html;\n    \
index index.html index.htm;\n  }\n  error_page 500 502 503 504 /50x.html;\n  location = /50x.html { root /usr/share/nginx/html; }\n}\n";

fn page(title: &str, text: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html>\n<head>\n<title>{title}</title>\n</head>\n<body>\n<h1>{title}</h1>\n<p>{text}</p>\n</body>\n</html>\n"
    )
}

fn nginx(base: &Tree) -> Result<Recipe> {
    let mut tree = base.clone();
    tree.program("usr/sbin/nginx", &found("nginx")?)?;
    tree.copy(
        "etc/nginx/mime.types",
        Path::new("/etc/nginx/mime.types"),
        0o644,
    );
    tree.text("etc/nginx/nginx.conf", NGINX_CONF, 0o644).text(
        "etc/nginx/conf.d/default.conf",
        NGINX_SITE,
        0o644,
    );
    let html = "usr/share/nginx/html";
    tree.text(
        &format!("{html}/index.html"),
        page("Welcome to nginx!", "The web server works."),
        0o644,
    );
    tree.text(
        &format!("{html}/50x.html"),
        page("Error", "The page is not available."),
        0o644,
    );
    tree.link("var/log/nginx/access.log", "/dev/stdout")
        .link("var/log/nginx/error.log", "/dev/stderr");
    tree.owned_directory("var/cache/nginx", 0o755, 101)
        .directory("var/lib/nginx", 0o755);
    tree.text("docker-entrypoint.sh", "#!/bin/sh\nexec \"$@\"\n", 0o755);
    Ok(Recipe {
        name: "nginx",
        tree,
        config: json!({
            "Env": [PATH, "NGINX_VERSION=1.22.1"],
            "Entrypoint": ["/docker-entrypoint.sh"],
            "Cmd": ["nginx", "-g", "daemon off;"],
            "ExposedPorts": {"80/tcp": {}},
            "StopSignal": "SIGQUIT",
        }),
        repositories: &[
            (
                "library/nginx",
                &[
                    "latest",
                    "stable",
                    "alpine",
                    "1.14.2",
                    "1.16.1",
                    "1.25",
                    "1.26",
                    "1.27",
                    "1.27-alpine",
                    "1.28",
                    "1.29",
                ],
            ),
            ("e2e-test-images/nginx", &["1.14-4", "1.15-4", "1.27-0"]),
        ],
    })
}

fn pause(base: &Tree) -> Recipe {
    let mut tree = base.clone();
    tree.text("pause", PAUSE, 0o755);
    Recipe {
        name: "pause",
        tree,
        config: json!({"Env": [PATH], "Entrypoint": ["/pause"], "User": "65535:65535", "WorkingDir": "/"}),
        repositories: &[("pause", &["latest", "3.9", "3.10", "3.10.1", "3.10.2"])],
    }
}

/// The smallest Debian, made once and kept in the cache.
fn debian(cache: &Path) -> Result<Recipe> {
    let root = cache.join("debian-minbase");
    if !root.exists() {
        let made = cache.join("debian-minbase.new");
        if made.exists() {
            fs::remove_dir_all(&made).context("remove a half-made Debian")?;
        }
        let output = Command::new("debootstrap")
            .args(["--variant=minbase", "bookworm"])
            .arg(&made)
            .output()
            .context("run debootstrap")?;
        if !output.status.success() {
            bail!(
                "debootstrap failed:\n{}",
                String::from_utf8_lossy(&output.stdout)
            );
        }
        fs::rename(&made, &root).context("keep Debian's root")?;
    }
    let mut tree = Tree::default();
    tree.import(
        &root,
        "",
        &[
            "dev",
            "proc",
            "sys",
            "var/cache/apt",
            "var/lib/apt/lists",
            "var/log",
            "debootstrap",
        ],
    )?;
    Ok(Recipe {
        name: "debian",
        tree,
        config: json!({"Env": [PATH], "Cmd": ["bash"]}),
        repositories: &[(
            "library/debian",
            &[
                "latest",
                "stable",
                "12",
                "bookworm",
                "stable-slim",
                "12-slim",
                "bookworm-slim",
            ],
        )],
    })
}

pub(super) fn found(program: &str) -> Result<PathBuf> {
    let places = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"].map(|d| Path::new(d).join(program));
    places
        .into_iter()
        .find(|p| p.exists())
        .with_context(|| format!("{program} is not installed"))
}
