//! Which images containers use, as the runtime's records say: they are there whether an engine runs or not.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// A user of each image that has one, by image id.
pub(super) type Users = BTreeMap<String, String>;

#[derive(Deserialize)]
struct Container {
    config: ContainerConfig,
}

#[derive(Deserialize)]
struct ContainerConfig {
    name: String,
    image_id: String,
}

#[derive(Deserialize)]
struct Sandbox {
    config: SandboxConfig,
}

#[derive(Deserialize)]
struct SandboxConfig {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    namespace: String,
}

/// Reads `<records>/<sandbox>/<container>/container.json`.
///
/// # Errors
/// A record that is there but cannot be read: without it nobody knows what is in use.
pub(super) fn read(records: &Path) -> io::Result<Users> {
    let mut users = Users::new();
    for sandbox in directories(records)? {
        for container in directories(&sandbox)? {
            let Some(Container { config }) = record(&container.join("container.json"))? else {
                continue;
            };
            let pod = record::<Sandbox>(&sandbox.join("sandbox.json"))?.map_or_else(
                || "unknown".to_owned(),
                |sandbox| {
                    let Metadata { name, namespace } = sandbox.config.metadata;
                    format!("{namespace}/{name}")
                },
            );
            let user = format!("container {} of Pod {pod}", config.name);
            users.insert(config.image_id, user);
        }
    }
    Ok(users)
}

/// What vanishes meanwhile was not there.
fn directories(path: &Path) -> io::Result<Vec<std::path::PathBuf>> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn record<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        bytes => serde_json::from_slice(&bytes?)
            .map(Some)
            .map_err(|error| io::Error::other(format!("{}: {error}", path.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_images_of_containers() {
        let records = tempfile::tempdir().expect("a directory");
        assert!(
            read(&records.path().join("none"))
                .expect("nothing yet")
                .is_empty()
        );
        let container = records.path().join("s/c");
        fs::create_dir_all(container.join("upper")).expect("makes");
        assert!(
            read(records.path()).expect("no record yet").is_empty(),
            "half-made"
        );
        let sandbox = r#"{"config": {"metadata": {"name": "web", "namespace": "default"}}}"#;
        fs::write(records.path().join("s/sandbox.json"), sandbox).expect("writes");
        let text = r#"{"id": "c", "config": {"name": "main", "image_id": "sha256:1"}}"#;
        fs::write(container.join("container.json"), text).expect("writes");
        let users = read(records.path()).expect("reads");
        assert_eq!(users["sha256:1"], "container main of Pod default/web");
        fs::write(container.join("container.json"), "{").expect("writes");
        let error = read(records.path()).expect_err("damaged").to_string();
        assert!(error.contains("container.json"), "{error}");
    }
}
