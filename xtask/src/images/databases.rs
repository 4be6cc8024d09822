//! Stand-ins for the images of databases, which are what a Pod waits for: Debian's Redis and PostgreSQL, started as the images
//! of these names start theirs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;

use super::packages;
use super::recipes::{GROUP, PASSWD, PATH, Recipe, found};
use super::tree::Tree;
use crate::setup;

/// Makes its data the server's own and gives its rights away.
const REDIS_ENTRYPOINT: &str = include_str!("databases/redis-entrypoint.sh");
/// Has other defaults than Debian's server.
const REDIS_SERVER: &str = include_str!("databases/redis-server.sh");
/// Makes a data directory at the first start.
const POSTGRES_ENTRYPOINT: &str = include_str!("databases/postgres-entrypoint.sh");

/// Who owns the data, in both images.
const OWNER: u64 = 999;

/// Both, over BusyBox's tree.
pub(super) fn all(base: &Tree, cache: &Path) -> Result<Vec<Recipe>> {
    let server = setup::newest("postgresql")?;
    let version = server
        .strip_prefix("postgresql-")
        .with_context(|| format!("{server} has no version"))?;
    let client = format!("postgresql-client-{version}");
    let names = ["redis-server", "redis-tools", &server, &client, "tzdata"];
    let root = packages::unpacked(cache, &names)?;
    Ok(vec![redis(base, &root)?, postgres(base, &root, version)?])
}

fn redis(base: &Tree, root: &Path) -> Result<Recipe> {
    let mut tree = with_account(base, "redis", "/data")?;
    let mut programs = Vec::new();
    for name in ["redis-server", "redis-cli", "redis-benchmark"] {
        let path = format!("usr/bin/{name}");
        let program = root.join(&path).canonicalize();
        let program = program.with_context(|| format!("find {path}"))?;
        tree.copy(&path, &program, 0o755);
        programs.push(program);
    }
    tree.libraries(&programs, root)?;
    // The server is these, too, when it is called so.
    for name in ["redis-check-aof", "redis-check-rdb", "redis-sentinel"] {
        tree.link(&format!("usr/bin/{name}"), "redis-server");
    }
    let scripts = "usr/local/bin";
    tree.text(&format!("{scripts}/redis-server"), REDIS_SERVER, 0o755)
        .text(
            &format!("{scripts}/docker-entrypoint.sh"),
            REDIS_ENTRYPOINT,
            0o755,
        );
    tree.owned_directory("data", 0o755, OWNER);
    Ok(Recipe {
        name: "redis",
        tree,
        config: json!({
            "Env": [PATH],
            "Entrypoint": ["docker-entrypoint.sh"],
            "Cmd": ["redis-server"],
            "ExposedPorts": {"6379/tcp": {}},
            "Volumes": {"/data": {}},
            "WorkingDir": "/data",
        }),
        repositories: &[(
            "library/redis",
            &[
                "latest", "alpine", "5", "5.0.4", "6", "6.0.5", "6.2", "6-alpine", "7", "7.0",
                "7.2", "7.4", "7-alpine", "8", "8.0", "8.0.2", "8-alpine",
            ],
        )],
    })
}

fn postgres(base: &Tree, root: &Path, version: &str) -> Result<Recipe> {
    let mut tree = with_account(base, "postgres", "/var/lib/postgresql")?;
    let (home, share) = (
        format!("usr/lib/postgresql/{version}"),
        format!("usr/share/postgresql/{version}"),
    );
    // Compiled queries take LLVM, which is larger than all the rest; the server does without where the plugin is not there.
    let (compiler, compiled) = (
        format!("{home}/lib/llvmjit.so"),
        format!("{home}/lib/bitcode"),
    );
    tree.import(root, &home, &[&compiler, &compiled])?
        .import(root, &share, &[&format!("{share}/man")])?
        .import(root, "usr/share/zoneinfo", &[])?
        .import(Path::new("/"), "usr/lib/locale/C.utf8", &[])?;
    let mut programs = files(&root.join(&home).join("bin"))?;
    programs.extend(files(&root.join(&home).join("lib"))?);
    programs.retain(|program| *program != root.join(&compiler));
    tree.libraries(&programs, root)?;
    // The server asks it which locales there are.
    tree.program("usr/bin/locale", &found("locale")?)?;
    let sample = format!("{share}/postgresql.conf.sample");
    let settings = fs::read_to_string(root.join(&sample)).context("read PostgreSQL's settings")?;
    tree.text(&sample, settings + "listen_addresses = '*'\n", 0o644)
        .text(
            "usr/local/bin/docker-entrypoint.sh",
            POSTGRES_ENTRYPOINT,
            0o755,
        );
    tree.directory("docker-entrypoint-initdb.d", 0o755)
        .link("var/run", "/run")
        .owned_directory("run/postgresql", 0o3775, OWNER)
        .owned_directory("var/lib/postgresql", 0o755, OWNER)
        .owned_directory("var/lib/postgresql/data", 0o1777, OWNER);
    Ok(Recipe {
        name: "postgres",
        tree,
        config: json!({
            "Env": [
                format!("{PATH}:/{home}/bin"),
                "LANG=C.UTF-8",
                format!("PG_MAJOR={version}"),
                "PGDATA=/var/lib/postgresql/data",
            ],
            "Entrypoint": ["docker-entrypoint.sh"],
            "Cmd": ["postgres"],
            "ExposedPorts": {"5432/tcp": {}},
            "StopSignal": "SIGINT",
            "Volumes": {"/var/lib/postgresql/data": {}},
        }),
        repositories: &[(
            "library/postgres",
            &[
                "latest",
                "alpine",
                "13",
                "14",
                "15",
                "16",
                "17",
                "13-alpine",
                "14-alpine",
                "15-alpine",
                "16-alpine",
                "17-alpine",
            ],
        )],
    })
}

/// BusyBox's tree with the account that the server runs as, Bash, and what changes to the account.
fn with_account(base: &Tree, name: &str, home: &str) -> Result<Tree> {
    let mut tree = base.clone();
    tree.program("bin/bash", &found("bash")?)?
        .program("bin/setpriv", &found("setpriv")?)?;
    let account = format!("{PASSWD}{name}:x:{OWNER}:{OWNER}::{home}:/bin/sh\n");
    tree.text("etc/passwd", account, 0o644);
    tree.text("etc/group", format!("{GROUP}{name}:x:{OWNER}:\n"), 0o644);
    Ok(tree)
}

/// The files in a directory.
fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))?;
    let paths = entries.map(|entry| Ok(entry?.path()));
    let paths: std::io::Result<Vec<PathBuf>> = paths.collect();
    Ok(paths?.into_iter().filter(|path| path.is_file()).collect())
}
