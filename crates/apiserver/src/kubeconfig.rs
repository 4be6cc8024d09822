//! The kubeconfig of the administrator (spec kubectl-and-api §18).

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Name of the cluster, user and context.
const NAME: &str = "carob";

/// A kubeconfig for `server` with the certificates in it. Arguments are PEM.
pub(crate) fn render(server: &str, ca: &str, certificate: &str, key: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: {NAME}\npreferences: {{}}\nclusters:\n- name: {NAME}\n  cluster:\n    \
         server: {server}\n    certificate-authority-data: {}\nusers:\n- name: {NAME}\n  user:\n    client-certificate-data: {}\n    \
         client-key-data: {}\ncontexts:\n- name: {NAME}\n  context:\n    cluster: {NAME}\n    user: {NAME}\n",
        STANDARD.encode(ca),
        STANDARD.encode(certificate),
        STANDARD.encode(key),
    )
}

/// Puts `text` into `path`, readable by its owner only, in one step.
pub(crate) fn write_private(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = Path::new(&name);
    // A leftover of an interrupted write may have other permissions.
    match std::fs::remove_file(new) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(new)?;
    file.write_all(text)?;
    file.sync_all()?;
    std::fs::rename(new, path)
}
