//! Files that say what is to be: directories, addresses on the web, names that are taken, objects that are too large.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use anyhow::{Context, ensure};
use e2e::user::User;

use crate::Scenario;

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("files::a_directory", a_directory),
    ("files::an_address", an_address),
    ("files::a_taken_name", a_taken_name),
    ("files::immutable_fields", immutable_fields),
    (
        "files::objects_that_are_too_large",
        objects_that_are_too_large,
    ),
];

fn pod(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers: [{{name: main, image: \"busybox:1.36\", command: [sleep, \"3600\"]}}]\n"
    )
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn a_directory(user: &User) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let write = |name: &str, text: String| std::fs::write(dir.path().join(name), text);
    std::fs::create_dir(dir.path().join("deeper"))?;
    write("1.yaml", format!("{}---\n{}", pod("one"), pod("two")))?;
    write(
        "2.json",
        r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "three"}}"#.into(),
    )?;
    write("3.yml", pod("four"))?;
    write("notes.txt", "no manifest".into())?;
    write("deeper/5.yaml", pod("five"))?;
    let whole = shown(dir.path());
    ensure!(
        user.run(&["apply", "-f", &whole])?
            == "pod/one created\npod/two created\nconfigmap/three created\npod/four created\n"
    );
    ensure!(
        user.run(&["apply", "-R", "-f", &whole])?
            == "pod/one unchanged\npod/two unchanged\nconfigmap/three unchanged\npod/four unchanged\npod/five created\n"
    );
    for name in ["one", "two", "four", "five"] {
        user.wait(name, "Running", "1/1")?;
    }
    // Each file is its own: a broken one does not keep the others away.
    write("4.yaml", "kind: [\n".into())?;
    write("6.yaml", pod("six"))?;
    let broken = user.fails(&["apply", "-f", &whole])?;
    ensure!(
        broken.code == 1 && broken.stderr.contains("4.yaml"),
        "{broken:?}"
    );
    user.wait("six", "Running", "1/1")?;
    std::fs::remove_file(dir.path().join("4.yaml"))?;

    let said = user.run(&["delete", "-R", "-f", &whole])?;
    for name in [
        "pod \"one\"",
        "pod \"two\"",
        "configmap \"three\"",
        "pod \"four\"",
        "pod \"five\"",
        "pod \"six\"",
    ] {
        ensure!(said.contains(&format!("{name} deleted")), "{said}");
    }
    ensure!(
        user.run(&["get", "pods", "-o", "name"])?.is_empty(),
        "delete waits"
    );
    let gone = user.fails(&["delete", "-f", &shown(&dir.path().join("3.yml"))])?;
    ensure!(
        gone.stderr
            .contains("Error from server (NotFound): error when deleting")
            && gone.stderr.contains("pods \"four\" not found"),
        "{gone:?}"
    );
    let empty = dir.path().join("empty");
    std::fs::create_dir(&empty)?;
    let nothing = user.fails(&["apply", "-f", &shown(&empty)])?;
    ensure!(
        nothing
            .stderr
            .contains("recognized file extensions are [.json .yaml .yml]"),
        "{nothing:?}"
    );
    let nowhere = user.fails(&["apply", "-f", &shown(&dir.path().join("nowhere.yaml"))])?;
    ensure!(nowhere.stderr.contains("does not exist"), "{nowhere:?}");
    Ok(())
}

/// Serves pages until the process ends; anything else is not found.
fn serve(pages: Vec<(String, String)>) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let path = lines
                .next()
                .and_then(|line| Some(line.split(' ').nth(1)?.to_owned()));
            // Everything up to the end of the header was asked.
            lines.take_while(|line| !line.is_empty()).for_each(drop);
            let page = pages.iter().find(|(name, _)| Some(name) == path.as_ref());
            let answer = match page {
                Some((_, to)) if to.starts_with('/') => {
                    format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n")
                }
                Some((_, text)) => {
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n", text.len())
                }
                None => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n".to_owned(),
            };
            let body = page.map_or(
                "",
                |(_, text)| if text.starts_with('/') { "" } else { text },
            );
            // A client that has left needs no answer.
            let _ = write!(&stream, "{answer}Connection: close\r\n\r\n{body}");
        }
    });
    Ok(address)
}

fn an_address(user: &User) -> anyhow::Result<()> {
    let address = serve(vec![
        (
            "/pods.yaml".into(),
            format!("{}---\n{}", pod("web"), pod("side")),
        ),
        ("/moved".into(), "/pods.yaml".into()),
    ])?;
    let at = |path: &str| format!("http://{address}{path}");
    ensure!(
        user.run(&["apply", "-f", &at("/pods.yaml")])? == "pod/web created\npod/side created\n"
    );
    ensure!(
        user.run(&["apply", "-f", &at("/moved")])? == "pod/web unchanged\npod/side unchanged\n"
    );
    user.wait("web", "Running", "1/1")?;
    let missing = at("/absent.yaml");
    let refused = user.fails(&["apply", "-f", &missing])?;
    ensure!(
        refused.code == 1
            && refused.stderr.contains(&format!(
                "unable to read URL \"{missing}\", server reported 404 Not Found, status code=404"
            )),
        "{refused:?}"
    );
    user.run(&["delete", "-f", &at("/pods.yaml")])?;
    ensure!(user.run(&["get", "pods", "-o", "name"])?.is_empty());
    Ok(())
}

fn a_taken_name(user: &User) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let file = shown(&dir.path().join("pod.yaml"));
    std::fs::write(&file, pod("taken"))?;
    ensure!(user.run(&["create", "-f", &file])? == "pod/taken created\n");
    let uid = user.pod("taken")?["metadata"]["uid"].clone();
    let refused = user.fails(&["create", "-f", &file])?;
    ensure!(
        refused.code == 1
            && refused.stderr
                == format!(
                    "Error from server (AlreadyExists): error when creating {file:?}: pods \"taken\" already exists\n"
                ),
        "{refused:?}"
    );
    ensure!(
        user.pod("taken")?["metadata"]["uid"] == uid,
        "the first is untouched"
    );
    Ok(())
}

fn immutable_fields(user: &User) -> anyhow::Result<()> {
    user.apply(&pod("fixed"))?;
    user.wait("fixed", "Running", "1/1")?;
    let before = user.pod("fixed")?;
    let dir = tempfile::tempdir()?;
    for (from, to) in [("sleep, ", "sleep, \"1\", "), ("name: main", "name: other")] {
        let file = shown(&dir.path().join("pod.yaml"));
        std::fs::write(&file, pod("fixed").replace(from, to))?;
        let refused = user.fails(&["apply", "-f", &file])?;
        ensure!(
            refused.code == 1
                && refused.stderr.contains("The Pod \"fixed\" is invalid")
                && refused
                    .stderr
                    .contains("spec: Forbidden: pod updates may not change fields other than"),
            "{refused:?}"
        );
    }
    let after = user.pod("fixed")?;
    ensure!(after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]);
    Ok(())
}

fn objects_that_are_too_large(user: &User) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let file = shown(&dir.path().join("big.yaml"));
    let config = |bytes: usize| {
        let text = "x".repeat(bytes);
        std::fs::write(
            &file,
            format!(
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: big}}\ndata: {{all: {text}}}\n"
            ),
        )
    };
    // `apply` keeps what was applied in an annotation, whose room ends first.
    for (verb, bytes, words) in [
        (
            "apply",
            300 << 10,
            "metadata.annotations: Too long: may not be more than 262144 bytes",
        ),
        (
            "create",
            1100 << 10,
            "Too long: may not be more than 1048576 bytes",
        ),
        (
            "create",
            4 << 20,
            "Request entity too large: limit is 3145728",
        ),
    ] {
        config(bytes)?;
        let refused = user.fails(&[verb, "-f", &file])?;
        let said: String = refused.stderr.chars().take(400).collect();
        ensure!(
            refused.code == 1 && refused.stderr.contains(words),
            "{bytes}: {said}"
        );
    }
    ensure!(
        !user
            .run(&["get", "configmaps", "-o", "name"])?
            .contains("big"),
        "nothing was made"
    );
    config(900 << 10)?;
    user.run(&["create", "-f", &file])?;
    let kept = user.run(&["get", "configmap", "big", "-o", "jsonpath={.data.all}"])?;
    ensure!(kept.len() == 900 << 10, "{} bytes were kept", kept.len());
    user.run(&["delete", "-f", &file])?;
    let gone = user
        .fails(&["get", "configmap", "big"])
        .context("it is gone")?;
    ensure!(gone.stderr.contains("NotFound"), "{gone:?}");
    Ok(())
}
