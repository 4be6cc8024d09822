//! The serving certificate: signed by its own key, as upstream's is unless the cluster is asked for one. The key is kept, for those who know
//! it by sight; the certificate is made anew at every start, for the addresses of that start.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};

use crate::{Config, Error};

/// A certificate and its key, both PEM.
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

pub(crate) fn open(config: &Config) -> Result<Identity, Error> {
    let dir = &config.state_dir;
    std::fs::create_dir_all(dir).map_err(|source| file_error(dir, source))?;
    let key = key(&dir.join("kubelet.key"))?;
    let mut names = vec![config.node_name.clone()];
    names.extend(config.addresses.iter().map(ToString::to_string));
    let mut params = CertificateParams::new(names)?;
    let name = &mut params.distinguished_name;
    name.push(DnType::CommonName, config.node_name.as_str());
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.self_signed(&key)?.pem();
    write(&dir.join("kubelet.crt"), &certificate, 0o644)?;
    Ok(Identity {
        certificate,
        key: key.serialize_pem(),
    })
}

/// The key in `path`, made when there is none, or none that can be read as one.
fn key(path: &Path) -> Result<KeyPair, Error> {
    match std::fs::read_to_string(path) {
        Ok(text) => {
            if let Ok(key) = KeyPair::from_pem(&text) {
                return Ok(key);
            }
            tracing::warn!(path = %path.display(), "no key: another is made");
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(file_error(path, e)),
    }
    let key = KeyPair::generate()?;
    write(path, &key.serialize_pem(), 0o600)?;
    Ok(key)
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), Error> {
    let written = std::fs::remove_file(path)
        .or_else(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Ok(()),
            _ => Err(e),
        })
        .and_then(|()| {
            let mut options = std::fs::OpenOptions::new();
            let mut file = options.write(true).create_new(true).mode(mode).open(path)?;
            file.write_all(text.as_bytes())
        });
    written.map_err(|source| file_error(path, source))
}

fn file_error(path: &Path, source: std::io::Error) -> Error {
    Error::File {
        path: path.display().to_string(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_key_is_kept_and_nobody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            node_name: "n1".into(),
            addresses: vec!["192.0.2.1".parse().unwrap(), "fd00::1".parse().unwrap()],
            state_dir: dir.path().join("pki"),
            client_ca: String::new(),
        };
        let first = open(&config).unwrap();
        let path = config.state_dir.join("kubelet.key");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = open(&config).unwrap();
        assert_eq!(again.key, first.key);
        let shown = std::fs::read_to_string(config.state_dir.join("kubelet.crt"));
        assert_eq!(shown.unwrap(), again.certificate);
        std::fs::write(&path, "none").unwrap();
        assert_ne!(open(&config).unwrap().key, first.key);
        assert_ne!(std::fs::read_to_string(&path).unwrap(), "none");
    }
}
