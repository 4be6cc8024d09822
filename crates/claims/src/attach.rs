//! Which volumes of drivers are attached to which nodes.

use k8s_openapi::api::storage::v1::CSIDriver;
use sha2::{Digest, Sha256};

/// Whether volumes of a driver have to be attached to a node first. One nobody has described needs that.
pub fn is_required(driver: Option<&CSIDriver>) -> bool {
    driver.is_none_or(|driver| driver.spec.attach_required != Some(false))
}

/// The name of the object that tells of a volume attached to a node.
pub fn name(handle: &str, driver: &str, node: &str) -> String {
    hashed(&[handle, driver, node])
}

/// What a driver is to call a volume that is of one Pod alone.
pub fn inline_handle(pod_uid: &str, volume: &str) -> String {
    hashed(&[pod_uid, volume])
}

fn hashed(parts: &[&str]) -> String {
    let hash = Sha256::digest(parts.concat());
    let hash = hash.iter().map(|byte| format!("{byte:02x}"));
    format!("csi-{}", hash.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_upstream_makes_them() {
        // printf %s abc | sha256sum
        let expected = "csi-ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(name("a", "b", "c"), expected);
        assert_eq!(inline_handle("a", "bc"), expected);
    }
}
