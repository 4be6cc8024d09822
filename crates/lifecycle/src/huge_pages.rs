//! Huge pages: which size a volume of them has (§10.2, upstream's emptyDir plugin), and how many Pods and containers get (§12.4).

use std::collections::{BTreeMap, BTreeSet};

use api::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};

use crate::{kinds, resources};

/// How the name of the resource begins; the size of the pages follows.
const RESOURCE: &str = "hugepages-";
/// The medium of a volume of huge pages, and how it begins where it names the size.
const MEDIUM: &str = "HugePages";
const MEDIUM_OF_SIZE: &str = "HugePages-";

/// The resource of pages of so many bytes, as a node lists it.
pub fn resource(page_bytes: u64) -> String {
    let size = i64::try_from(page_bytes).unwrap_or(i64::MAX);
    format!("{RESOURCE}{}", Quantity::from_bytes(size))
}

/// Whether a volume of this medium consists of huge pages.
pub fn is_medium(medium: &str) -> bool {
    medium == MEDIUM || medium.starts_with(MEDIUM_OF_SIZE)
}

/// Bytes of a page of a volume of this medium: that which it names, or the only one that the Pod asks for.
///
/// # Errors
/// Why there is none, in upstream's words.
pub fn page_bytes(pod: &Pod, medium: &str) -> Result<u64, String> {
    let asked = asked(pod);
    let named = medium.strip_prefix(MEDIUM_OF_SIZE);
    let found = match named {
        Some(size) => asked.get(&bytes(size)?).copied(),
        None if asked.len() > 1 => {
            return Err(format!(
                "medium: {medium} can't be used if container requests multiple huge page sizes"
            ));
        }
        None => asked.first().copied(),
    };
    found.ok_or_else(|| {
        format!(
            "medium {medium}: hugePages storage requested, but there is no resource request for huge pages"
        )
    })
}

/// Most bytes a container has in pages of each of these sizes: what it is limited to, or else its Pod, or none (§12.4).
pub fn of_container(
    pod: &Pod,
    container: &Container,
    sizes: impl IntoIterator<Item = u64>,
) -> BTreeMap<u64, u64> {
    let own = container.resources.as_ref();
    let of = |resources: Option<&ResourceRequirements>| {
        by_size(&resources::parsed(
            resources.and_then(|r| r.limits.as_ref()),
        ))
    };
    let mut limits = of(resources::pod_level(pod));
    limits.extend(of(own));
    limited(&limits, sizes)
}

/// Most bytes a Pod has in pages of each of these sizes: what it asks for, or none (upstream's `ResourceConfigForPod`).
pub fn of_pod(pod: &Pod, sizes: impl IntoIterator<Item = u64>) -> BTreeMap<u64, u64> {
    limited(&by_size(&resources::requests(pod)), sizes)
}

fn limited(
    limits: &BTreeMap<u64, u64>,
    sizes: impl IntoIterator<Item = u64>,
) -> BTreeMap<u64, u64> {
    let limit = |size| limits.get(&size).copied().unwrap_or_default();
    sizes.into_iter().map(|size| (size, limit(size))).collect()
}

/// Amounts of pages by the bytes of one, however the name of the resource writes them.
fn by_size(amounts: &BTreeMap<String, Quantity>) -> BTreeMap<u64, u64> {
    let mut all = BTreeMap::new();
    for (name, amount) in amounts {
        if let Some(Ok(size)) = name.strip_prefix(RESOURCE).map(bytes) {
            *all.entry(size).or_default() += u64::try_from(amount.value()).unwrap_or_default();
        }
    }
    all
}

/// Sizes of pages that containers of the Pod, or the Pod as a whole, ask for. Their limits are the same.
fn asked(pod: &Pod) -> BTreeSet<u64> {
    let members = kinds::members(pod);
    let of_containers = members.iter().filter_map(|m| m.spec.resources.as_ref());
    let of_pod = pod.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    let lists = of_containers.chain(of_pod).flat_map(|r| &r.requests);
    let sizes = lists.flat_map(|list| list.keys().filter_map(|name| name.strip_prefix(RESOURCE)));
    sizes.filter_map(|size| bytes(size).ok()).collect()
}

fn bytes(size: &str) -> Result<u64, String> {
    let size: Quantity = size.parse().map_err(|error| format!("{size}: {error}"))?;
    Ok(u64::try_from(size.value()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const MEBI: u64 = 1 << 20;

    #[test]
    fn resources_are_named_by_the_size_of_pages() {
        for (bytes, name) in [
            (2 * MEBI, "hugepages-2Mi"),
            (1024 * MEBI, "hugepages-1Gi"),
            (64 << 10, "hugepages-64Ki"),
        ] {
            assert_eq!(resource(bytes), name);
        }
    }

    #[test]
    fn a_volume_has_the_pages_that_its_pod_asks_for() {
        let none = |medium: &str| {
            Err(format!(
                "medium {medium}: hugePages storage requested, but there is no resource request for huge pages"
            ))
        };
        let both = json!({"hugepages-2Mi": "4Mi", "hugepages-1Gi": "1Gi"});
        let table: [(Value, &str, Result<u64, String>); 8] = [
            (json!({"hugepages-2Mi": "4Mi"}), "HugePages", Ok(2 * MEBI)),
            (json!({"hugepages-2Mi": "4Mi"}), "HugePages-2Mi", Ok(2 * MEBI)),
            (json!({"hugepages-2048Ki": "4Mi"}), "HugePages-2Mi", Ok(2 * MEBI)),
            (json!({"hugepages-2Mi": "4Mi"}), "HugePages-1Gi", none("HugePages-1Gi")),
            (json!({"memory": "4Mi"}), "HugePages", none("HugePages")),
            (both.clone(), "HugePages-1Gi", Ok(1024 * MEBI)),
            (
                both,
                "HugePages",
                Err("medium: HugePages can't be used if container requests multiple huge page sizes".to_owned()),
            ),
            (json!({}), "HugePages-2Mi", none("HugePages-2Mi")),
        ];
        for (requests, medium, want) in table {
            assert!(is_medium(medium));
            let resources = json!({"requests": requests});
            let app = json!({"name": "a", "resources": resources});
            let plain = json!({"name": "p"});
            for spec in [
                json!({"containers": [plain, app]}),
                json!({"containers": [plain], "initContainers": [app]}),
                json!({"containers": [plain], "resources": resources}),
            ] {
                let pod: Pod = serde_json::from_value(json!({"spec": spec})).expect("a Pod");
                assert_eq!(page_bytes(&pod, medium), want, "{medium} {spec}");
            }
        }
        assert!(!is_medium("Memory") && !is_medium("HugePage"));
    }

    #[test]
    fn limits_are_the_containers_or_the_pods_or_none() {
        let sizes = [2 * MEBI, 1024 * MEBI];
        let pages = |list: &Value| json!({"limits": list, "requests": list});
        let none = json!({});
        let small = json!({"hugepages-2Mi": "4Mi"});
        // What the Pod has, what its container `a` has; the limits of `a` and of the Pod, in mebibytes. Container `b` has 2Mi.
        let table: [(&Value, &Value, [u64; 2], [u64; 2]); 5] = [
            (&none, &none, [0, 0], [2, 0]),
            (&none, &small, [4, 0], [6, 0]),
            (&none, &json!({"hugepages-2048Ki": "4Mi"}), [4, 0], [6, 0]),
            (&none, &json!({"hugepages-64Ki": "64Ki"}), [0, 0], [2, 0]),
            (
                &json!({"hugepages-2Mi": "8Mi", "hugepages-1Gi": "2Gi"}),
                &small,
                [4, 2048],
                [8, 2048],
            ),
        ];
        for (whole, own, of_a, of_all) in table {
            let pod = json!({"spec": {
                "resources": pages(whole),
                "containers": [
                    {"name": "a", "resources": pages(own)},
                    {"name": "b", "resources": pages(&json!({"hugepages-2Mi": "2Mi"}))},
                ],
            }});
            let pod: Pod = serde_json::from_value(pod).expect("a Pod");
            let app = &pod.spec.as_ref().expect("a spec").containers[0];
            let mebi = |limits: BTreeMap<u64, u64>| sizes.map(|size| limits[&size] / MEBI);
            let seen = (
                mebi(of_container(&pod, app, sizes)),
                mebi(of_pod(&pod, sizes)),
            );
            assert_eq!(seen, (of_a, of_all), "{whole} {own}");
            assert!(of_container(&pod, app, []).is_empty());
        }
    }
}
