//! Volumes of a Pod as the volumes port wants them: references resolved to bytes (spec `§10.2` to `§10.4`).
//!
//! Pure, apart from [`tokens`]: what was read from the API comes in as [`Objects`] and [`Tokens`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use api::quantity::Quantity;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{
    Container, DownwardAPIVolumeFile, EmptyDirVolumeSource, HostPathVolumeSource, KeyToPath,
    NFSVolumeSource, Pod, ServiceAccount, ServiceAccountTokenProjection, Volume, VolumeProjection,
};
use kube::api::PostParams;
use kube::{Api, Client};
use lifecycle::huge_pages;
use ports::volumes::{File, HostPathKind, Medium, NfsExport, VolumeSpec};

use crate::fields::Source;
use crate::objects::{Content, Kind, ObjectRef, Objects};
use crate::security;

const DEFAULT_MODE: i32 = 0o644;
/// Life of a token in seconds when the projection does not say.
const DEFAULT_TOKEN_SECONDS: i64 = 3600;

/// Tokens of a Pod by volume and path.
pub(crate) type Tokens = BTreeMap<(String, String), Token>;

/// A service account token that was asked for.
#[derive(Clone)]
pub(crate) struct Token {
    value: String,
    /// When to ask for another: at 80 % of its life, at the latest after a day (spec `§10.4`).
    pub(crate) refresh_at: Timestamp,
}

/// Volumes that some container mounts; others are not set up (spec `§10.1`), nor are images, which come with each start (`§10.7`).
pub(crate) fn used(pod: &Pod) -> Vec<&Volume> {
    let Some(spec) = &pod.spec else {
        return Vec::new();
    };
    let of_containers = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .flat_map(|c| c.volume_mounts.iter().flatten());
    let of_ephemeral = spec
        .ephemeral_containers
        .iter()
        .flatten()
        .flat_map(|c| c.volume_mounts.iter().flatten());
    let names: BTreeSet<&str> = of_containers
        .chain(of_ephemeral)
        .map(|m| m.name.as_str())
        .collect();
    spec.volumes
        .iter()
        .flatten()
        .filter(|v| names.contains(v.name.as_str()) && v.image.is_none())
        .collect()
}

/// Whether the volume is mounted read-only whatever the mount says (spec `§10.4`).
pub(crate) fn always_read_only(volume: &Volume) -> bool {
    let claim = volume.persistent_volume_claim.as_ref();
    let of_driver = volume.csi.as_ref();
    claim.is_some_and(|claim| claim.read_only == Some(true))
        || of_driver.is_some_and(|csi| csi.read_only == Some(true))
        || follows_objects(volume)
}

/// Whether the files of a volume are those of objects, and change with them (spec `§10.4`).
pub(crate) fn follows_objects(volume: &Volume) -> bool {
    volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.projected.is_some()
        || volume.downward_api.is_some()
}

/// ConfigMaps and Secrets these volumes of a Pod are made from, and claims for those that are made already.
pub(crate) fn references(pod: &str, volumes: &[&Volume]) -> Vec<ObjectRef> {
    let mut refs = Vec::new();
    for volume in volumes {
        refs.extend(
            volume
                .config_map
                .as_ref()
                .map(|c| ObjectRef::new(Kind::ConfigMap, &c.name)),
        );
        refs.extend(
            volume
                .secret
                .as_ref()
                .and_then(|s| s.secret_name.as_ref())
                .map(|name| ObjectRef::new(Kind::Secret, name)),
        );
        let claim = api::pod::claim_of(pod, volume);
        refs.extend(claim.map(|claim| ObjectRef::new(Kind::Claim, &claim)));
        for source in projections(volume) {
            refs.extend(
                source
                    .config_map
                    .as_ref()
                    .map(|c| ObjectRef::new(Kind::ConfigMap, &c.name)),
            );
            refs.extend(
                source
                    .secret
                    .as_ref()
                    .map(|s| ObjectRef::new(Kind::Secret, &s.name)),
            );
        }
    }
    refs
}

fn projections(volume: &Volume) -> impl Iterator<Item = &VolumeProjection> {
    volume
        .projected
        .iter()
        .flat_map(|p| p.sources.iter().flatten())
}

/// Asks for the tokens that are missing in `held` or due, all at once.
///
/// # Errors
/// The volume, and the API's words.
pub(crate) async fn tokens(
    client: &Client,
    pod: &Pod,
    held: Tokens,
    now: Timestamp,
) -> Result<Tokens, (String, String)> {
    let wanted = used(pod).into_iter().flat_map(|v| {
        projections(v)
            .filter_map(|p| p.service_account_token.as_ref())
            .map(|t| (v.name.clone(), t))
    });
    let requests = wanted.map(|(volume, projection)| {
        let key = (volume, projection.path.clone());
        let kept = held
            .get(&key)
            .filter(|token| now < token.refresh_at)
            .cloned();
        async move {
            let token = match kept {
                Some(token) => token,
                None => request(client, pod, projection, now)
                    .await
                    .map_err(|e| (key.0.clone(), e))?,
            };
            Ok::<_, (String, String)>((key, token))
        }
    });
    Ok(futures::future::try_join_all(requests)
        .await?
        .into_iter()
        .collect())
}

async fn request(
    client: &Client,
    pod: &Pod,
    projection: &ServiceAccountTokenProjection,
    now: Timestamp,
) -> Result<Token, String> {
    let meta = &pod.metadata;
    let account = pod
        .spec
        .as_ref()
        .and_then(|s| s.service_account_name.as_deref())
        .unwrap_or("default");
    let seconds = projection
        .expiration_seconds
        .unwrap_or(DEFAULT_TOKEN_SECONDS);
    let body = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: Some(projection.audience.clone().into_iter().collect()),
            expiration_seconds: Some(seconds),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Pod".into()),
                name: meta.name.clone(),
                uid: meta.uid.clone(),
            }),
        }),
        ..TokenRequest::default()
    };
    let api: Api<ServiceAccount> = Api::namespaced(
        client.clone(),
        meta.namespace.as_deref().unwrap_or_default(),
    );
    let answer = api
        .create_token_request(account, &PostParams::default(), &body)
        .await;
    let status = answer
        .map_err(|e| format!("failed to fetch token: {e}"))?
        .status
        .unwrap_or_default();
    let (Some(value), Some(expires)) = (status.token, status.expiration_timestamp) else {
        return Err("failed to fetch token: the answer holds none".into());
    };
    let life = expires.0.duration_since(now);
    let wait = (life * 4 / 5).min(SignedDuration::from_hours(24));
    let refresh_at = now.checked_add(wait).unwrap_or(Timestamp::MAX);
    Ok(Token { value, refresh_at })
}

/// What the port needs to set a volume up.
///
/// # Errors
/// The text after `MountVolume.SetUp failed for volume "v" : `.
pub(crate) fn spec(
    volume: &Volume,
    source: &Source<'_>,
    objects: &Objects,
    tokens: &Tokens,
) -> Result<VolumeSpec, String> {
    let pod = source.pod;
    let fs_group = security::fs_group(pod);
    let files = |files, is_secret| VolumeSpec::Files {
        files,
        is_secret,
        fs_group,
    };
    if let Some(empty) = &volume.empty_dir {
        return empty_dir(empty, source, fs_group);
    }
    if let Some(host) = &volume.host_path {
        return host_path(host);
    }
    if let Some(export) = &volume.nfs {
        return Ok(VolumeSpec::Nfs(nfs(export)));
    }
    let mut out = BTreeMap::new();
    if let Some(map) = &volume.config_map {
        let mode = map.default_mode.unwrap_or(DEFAULT_MODE);
        let optional = map.optional.unwrap_or(false);
        object_files(
            &ObjectRef::new(Kind::ConfigMap, &map.name),
            map.items.as_deref(),
            mode,
            optional,
            objects,
            &mut out,
        )?;
        return Ok(files(out, false));
    }
    if let Some(secret) = &volume.secret {
        let mode = secret.default_mode.unwrap_or(DEFAULT_MODE);
        let name = secret.secret_name.as_deref().unwrap_or_default();
        let optional = secret.optional.unwrap_or(false);
        object_files(
            &ObjectRef::new(Kind::Secret, name),
            secret.items.as_deref(),
            mode,
            optional,
            objects,
            &mut out,
        )?;
        return Ok(files(out, true));
    }
    if let Some(downward) = &volume.downward_api {
        let mode = downward.default_mode.unwrap_or(DEFAULT_MODE);
        downward_files(downward.items.as_deref(), mode, source, &mut out)?;
        return Ok(files(out, true));
    }
    if let Some(projected) = &volume.projected {
        let mode = projected.default_mode.unwrap_or(DEFAULT_MODE);
        let errors: Vec<String> = projections(volume)
            .filter_map(|p| project(volume, p, mode, source, objects, tokens, &mut out).err())
            .collect();
        return if errors.is_empty() {
            Ok(files(out, true))
        } else {
            Err(api::gotext::aggregate(errors))
        };
    }
    Err("no volume plugin matched".into())
}

/// A directory of the node that is a volume of the cluster. Files of one that is only read are left alone.
pub(crate) fn local(pod: &Pod, path: PathBuf, is_read_only: bool) -> VolumeSpec {
    VolumeSpec::Local {
        path,
        fs_group: security::fs_group(pod).filter(|_| !is_read_only),
        trusts_root: security::trusts_root(pod),
    }
}

/// What of a file server is mounted. Its files are given to no group (upstream's plugin says `Managed: false`).
pub(crate) fn nfs(source: &NFSVolumeSource) -> NfsExport {
    NfsExport {
        server: source.server.clone(),
        path: source.path.clone(),
        is_read_only: source.read_only == Some(true),
        options: Vec::new(),
    }
}

fn empty_dir(
    empty: &EmptyDirVolumeSource,
    source: &Source<'_>,
    fs_group: Option<u32>,
) -> Result<VolumeSpec, String> {
    let bytes = |q: &k8s_openapi::apimachinery::pkg::api::resource::Quantity| {
        Quantity::try_from(q)
            .ok()
            .and_then(|q| u64::try_from(q.value()).ok())
            .filter(|bytes| *bytes > 0)
    };
    let asked = empty.size_limit.as_ref().and_then(bytes);
    match empty.medium.as_deref().unwrap_or_default() {
        "" => Ok(VolumeSpec::EmptyDir {
            medium: Medium::Disk,
            size_limit_bytes: asked,
            fs_group,
        }),
        "Memory" => {
            let node = source.allocatable.get("memory").and_then(bytes);
            let pod = lifecycle::resources::pod(source.pod)
                .memory_limit_bytes
                .and_then(|b| u64::try_from(b).ok());
            let size = [asked, node, pod].into_iter().flatten().min();
            Ok(VolumeSpec::EmptyDir {
                medium: Medium::Memory,
                size_limit_bytes: size,
                fs_group,
            })
        }
        medium if huge_pages::is_medium(medium) => {
            let page_bytes = huge_pages::page_bytes(source.pod, medium)?;
            Ok(VolumeSpec::EmptyDir {
                medium: Medium::HugePages { page_bytes },
                size_limit_bytes: asked,
                fs_group,
            })
        }
        medium => Err(format!("unknown storage medium {medium:?}")),
    }
}

fn host_path(host: &HostPathVolumeSource) -> Result<VolumeSpec, String> {
    let kind = match host.type_.as_deref().unwrap_or_default() {
        "" => HostPathKind::Unset,
        "Directory" => HostPathKind::Directory,
        "DirectoryOrCreate" => HostPathKind::DirectoryOrCreate,
        "File" => HostPathKind::File,
        "FileOrCreate" => HostPathKind::FileOrCreate,
        "Socket" => HostPathKind::Socket,
        "CharDevice" => HostPathKind::CharDevice,
        "BlockDevice" => HostPathKind::BlockDevice,
        other => return Err(format!("{other} is an invalid volume type")),
    };
    Ok(VolumeSpec::HostPath {
        path: PathBuf::from(&host.path),
        kind,
    })
}

type Files = BTreeMap<String, File>;

fn file(data: Vec<u8>, mode: i32) -> File {
    File {
        data,
        mode: u32::try_from(mode).unwrap_or(0o644),
        uid: None,
    }
}

fn object_files(
    reference: &ObjectRef,
    items: Option<&[KeyToPath]>,
    mode: i32,
    optional: bool,
    objects: &Objects,
    out: &mut Files,
) -> Result<(), String> {
    let Some(content) = objects.get(reference, optional)? else {
        return Ok(());
    };
    let items = items.unwrap_or_default();
    if items.is_empty() {
        let all = content
            .keys()
            .filter_map(|key| Some((key.to_owned(), file(content.bytes(key)?.to_vec(), mode))));
        out.extend(all);
        return Ok(());
    }
    for item in items {
        match content.bytes(&item.key) {
            Some(data) => {
                out.insert(
                    item.path.clone(),
                    file(data.to_vec(), item.mode.unwrap_or(mode)),
                );
            }
            None if optional => {}
            None => return Err(missing_key(reference.kind, &item.key)),
        }
    }
    Ok(())
}

fn missing_key(kind: Kind, key: &str) -> String {
    match kind {
        Kind::ConfigMap => format!("configmap references non-existent config key: {key}"),
        Kind::Secret => format!("references non-existent secret key: {key}"),
        Kind::Claim | Kind::Attachment => {
            format!("references non-existent key of what has none: {key}")
        }
    }
}

fn downward_files(
    items: Option<&[DownwardAPIVolumeFile]>,
    mode: i32,
    source: &Source<'_>,
    out: &mut Files,
) -> Result<(), String> {
    for item in items.unwrap_or_default() {
        let text = match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), _) => source.field(&field.field_path)?,
            (None, Some(resource)) => source.resource(resource, None)?,
            (None, None) => continue,
        };
        out.insert(
            item.path.clone(),
            file(text.into_bytes(), item.mode.unwrap_or(mode)),
        );
    }
    Ok(())
}

fn project(
    volume: &Volume,
    projection: &VolumeProjection,
    mode: i32,
    source: &Source<'_>,
    objects: &Objects,
    tokens: &Tokens,
    out: &mut Files,
) -> Result<(), String> {
    if let Some(map) = &projection.config_map {
        let reference = ObjectRef::new(Kind::ConfigMap, &map.name);
        object_files(
            &reference,
            map.items.as_deref(),
            mode,
            map.optional.unwrap_or(false),
            objects,
            out,
        )
    } else if let Some(secret) = &projection.secret {
        let reference = ObjectRef::new(Kind::Secret, &secret.name);
        object_files(
            &reference,
            secret.items.as_deref(),
            mode,
            secret.optional.unwrap_or(false),
            objects,
            out,
        )
    } else if let Some(downward) = &projection.downward_api {
        downward_files(downward.items.as_deref(), mode, source, out)
    } else if let Some(account) = &projection.service_account_token {
        let token = tokens
            .get(&(volume.name.clone(), account.path.clone()))
            .ok_or("no token")?;
        let owner = common_user(source.pod);
        let private = owner.is_some() || security::fs_group(source.pod).is_some();
        let mode = if private { 0o600 } else { mode };
        out.insert(
            account.path.clone(),
            File {
                uid: owner,
                ..file(token.value.clone().into_bytes(), mode)
            },
        );
        Ok(())
    } else {
        Err("no volume plugin matched".into())
    }
}

/// The user every container runs as, if the spec says so of all of them: tokens become theirs (spec `§10.4`).
fn common_user(pod: &Pod) -> Option<u32> {
    if security::fs_group(pod).is_some() {
        return None;
    }
    let spec = pod.spec.as_ref()?;
    let of_pod = spec.security_context.as_ref().and_then(|c| c.run_as_user);
    let user = |c: &Container| {
        c.security_context
            .as_ref()
            .and_then(|s| s.run_as_user)
            .or(of_pod)
    };
    let mut users = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .map(user);
    let first = users.next()??;
    users
        .all(|u| u == Some(first))
        .then(|| u32::try_from(first).ok())?
}

/// The content of a pull secret or another object, for those who need it whole.
pub(crate) fn whole<'a>(objects: &'a Objects, name: &str) -> Option<&'a Content> {
    objects
        .get(&ObjectRef::new(Kind::Secret, name), true)
        .ok()
        .flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn built(volume: Value) -> Result<VolumeSpec, String> {
        let pod: Pod = serde_json::from_value(
            json!({"metadata": {"name": "p", "namespace": "n", "labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c"}]}}),
        )
        .unwrap();
        let mut objects = Objects::default();
        objects.insert(
            ObjectRef::new(Kind::ConfigMap, "c"),
            Some(Content::from_texts([("k", "v"), ("x", "y")])),
        );
        objects.insert(
            ObjectRef::new(Kind::Secret, "s"),
            Some(Content::from_bytes([("pw", b"1".to_vec())])),
        );
        let allocatable = BTreeMap::new();
        let source = Source {
            pod: &pod,
            pod_ips: &[],
            host_ips: &[],
            allocatable: &allocatable,
        };
        let volume: Volume = serde_json::from_value(volume).unwrap();
        spec(&volume, &source, &objects, &Tokens::new())
    }

    fn listed(spec: VolumeSpec) -> Vec<(String, String, u32)> {
        let VolumeSpec::Files { files, .. } = spec else {
            panic!("not files")
        };
        files
            .into_iter()
            .map(|(path, f)| (path, String::from_utf8(f.data).unwrap(), f.mode))
            .collect()
    }

    #[test]
    fn keys_become_files_with_their_modes() {
        let rows = [
            (
                json!({"name": "v", "configMap": {"name": "c"}}),
                vec![("k", "v", 0o644), ("x", "y", 0o644)],
            ),
            (
                json!({"name": "v", "configMap": {"name": "c", "defaultMode": 0o400, "items": [{"key": "k", "path": "d/f"}, {"key": "x", "path": "g", "mode": 0o600}]}}),
                vec![("d/f", "v", 0o400), ("g", "y", 0o600)],
            ),
            (
                json!({"name": "v", "secret": {"secretName": "no", "optional": true}}),
                vec![],
            ),
            (
                json!({"name": "v", "projected": {"sources": [{"secret": {"name": "s"}}, {"downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}}]}}),
                vec![("l", "a=\"b\"", 0o644), ("pw", "1", 0o644)],
            ),
        ];
        for (volume, want) in rows {
            let want: Vec<_> = want
                .into_iter()
                .map(|(p, d, m)| (p.to_owned(), d.to_owned(), m))
                .collect();
            assert_eq!(listed(built(volume.clone()).unwrap()), want, "{volume}");
        }
    }

    #[test]
    fn what_is_missing_is_named_in_upstreams_words() {
        let rows = [
            (
                json!({"configMap": {"name": "no"}}),
                "configmap \"no\" not found",
            ),
            (
                json!({"secret": {"secretName": "no"}}),
                "secret \"no\" not found",
            ),
            (
                json!({"secret": {"secretName": "s", "items": [{"key": "k", "path": "p"}]}}),
                "references non-existent secret key: k",
            ),
            (
                json!({"configMap": {"name": "c", "items": [{"key": "q", "path": "p"}]}}),
                "configmap references non-existent config key: q",
            ),
            (
                json!({"projected": {"sources": [{"secret": {"name": "no"}}]}}),
                "secret \"no\" not found",
            ),
        ];
        for (mut volume, want) in rows {
            volume["name"] = json!("v");
            assert_eq!(built(volume).err().as_deref(), Some(want));
        }
    }
}
