//! Stand-ins for the images of upstream's end-to-end suite, around programs built from its modules.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::recipes::{PATH, Recipe, found};
use super::tree::Tree;
use crate::tools::Tools;

/// BusyBox 1.35's `sh` drops variables whose names are not identifiers (`data-1`), which later versions hand on to programs they
/// start. So Bash runs in its place where there is such a variable; otherwise BusyBox does, whose messages specs compare.
const SHELL: &str = r#"
#include <ctype.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

static int is_identifier(const char *name) {
    if (!isalpha((unsigned char)*name) && *name != '_') return 0;
    while (isalnum((unsigned char)*name) || *name == '_') name++;
    return *name == '=';
}

int main(int argc, char **argv) {
    (void)argc;
    for (char **variable = environ; *variable; variable++)
        if (!is_identifier(*variable)) execv("/bin/bash", argv);
    execv("/bin/busybox", argv);
    return 127;
}
"#;

/// All of them, over BusyBox's tree.
pub(super) fn all(base: &Tree, cache: &Path, programs: &Tools) -> Result<Vec<Recipe>> {
    let mut tools = base.clone();
    for (program, needed) in [
        ("bash", true),
        ("curl", true),
        ("dig", true),
        ("ip", false),
        ("ss", false),
        ("iperf", false),
        ("getent", false),
        ("hostname", false),
    ] {
        match found(program) {
            // What BusyBox has as a link is replaced by the real thing.
            Ok(path) => {
                tools.program(&format!("bin/{program}"), &path)?;
            }
            Err(e) if needed => return Err(e),
            Err(_) => {}
        }
    }
    let (certificate, key) = localhost(cache)?;
    let mut tree = tools.clone();
    tree.copy("agnhost", &programs.agnhost, 0o755)
        .link("agnhost-2", "agnhost")
        .directory("uploads", 0o1777);
    tree.text("localhost.crt", certificate, 0o644)
        .text("localhost.key", key, 0o644);
    let served = |picture: &str, release: &str| {
        let mut tree = tree.clone();
        tree.text(
            "data.json",
            format!("{{\n\"image\":\"{picture}.jpg\"\n}}\n"),
            0o644,
        );
        tree.text("etc/os-release", format!("NAME=\"{release}\"\n"), 0o644);
        tree
    };
    let web = json!({"Env": [PATH], "Entrypoint": ["/agnhost", "test-webserver"], "ExposedPorts": {"80/tcp": {}}});
    Ok(vec![
        Recipe {
            name: "nautilus",
            tree: served("nautilus", "Alpine Linux"),
            config: web.clone(),
            repositories: &[("e2e-test-images/nautilus", &["1.8", "1.7"])],
        },
        Recipe {
            name: "kitten",
            tree: served("kitten", "Alpine Linux"),
            config: web,
            repositories: &[("e2e-test-images/kitten", &["1.8", "1.7"])],
        },
        Recipe {
            name: "agnhost",
            tree,
            config: json!({
                "Env": [PATH],
                "Entrypoint": ["/agnhost"],
                "Cmd": ["pause"],
                "ExposedPorts": {"80/tcp": {}, "8080/tcp": {}, "8081/udp": {}, "9376/tcp": {}},
            }),
            repositories: &[(
                "e2e-test-images/agnhost",
                &["2.63.0", "2.55", "2.53", "2.52"],
            )],
        },
        busybox(base, cache)?,
        no_new_privileges(base, &programs.nonewprivs),
        Recipe {
            name: "glibc-dns-testing",
            tree: tools,
            config: json!({"Env": [PATH], "Cmd": ["sh"]}),
            repositories: &[("e2e-test-images/glibc-dns-testing", &["2.0.0"])],
        },
    ])
}

/// BusyBox with a shell that keeps every variable.
fn busybox(base: &Tree, cache: &Path) -> Result<Recipe> {
    let mut tree = base.clone();
    tree.program("bin/bash", &found("bash")?)?
        .program("bin/sh", &shell(cache)?)?;
    Ok(Recipe {
        name: "test-busybox",
        tree,
        config: json!({"Env": [PATH], "Cmd": ["sh"]}),
        repositories: &[("e2e-test-images/busybox", &["1.37.0-1", "1.36.1-1"])],
    })
}

/// Says which effective user a set-id program gets.
fn no_new_privileges(base: &Tree, program: &Path) -> Recipe {
    let mut tree = base.clone();
    tree.copy("usr/local/bin/nnp", program, 0o6755);
    Recipe {
        name: "nonewprivs",
        tree,
        config: json!({"Env": [PATH], "Cmd": ["nnp"]}),
        repositories: &[("e2e-test-images/nonewprivs", &["1.4", "1.3"])],
    }
}

/// The compiled [`SHELL`], made once so that the image stays the same.
fn shell(cache: &Path) -> Result<PathBuf> {
    let (program, source) = (cache.join("sh"), cache.join("sh.c"));
    if !program.exists() || fs::read_to_string(&source).is_ok_and(|made_from| made_from != SHELL) {
        fs::write(&source, SHELL)?;
        let compiled = Command::new("cc")
            .args(["-O1", "-s", "-o"])
            .args([&program, &source])
            .status()
            .context("run cc")?;
        ensure!(compiled.success(), "compile {}", source.display());
    }
    Ok(program)
}

/// A certificate for `localhost`, made once so that the image stays the same.
fn localhost(cache: &Path) -> Result<(String, String)> {
    let (crt, key) = (cache.join("localhost.crt"), cache.join("localhost.key"));
    if !crt.exists() {
        let made = rcgen::generate_simple_self_signed(vec![
            "localhost".to_owned(),
            "127.0.0.1".to_owned(),
        ])?;
        fs::write(&key, made.signing_key.serialize_pem())?;
        fs::write(&crt, made.cert.pem())?;
    }
    Ok((fs::read_to_string(crt)?, fs::read_to_string(key)?))
}
