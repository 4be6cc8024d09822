//! `apply` (§14.4, §14.5): three-way merge here, or on the server with `--server-side`.

use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use api::schema::Schema;
use http::Method;
use serde_json::{Value, json};

use super::write::{DryRun, Writer};
use crate::args::{ApplyArgs, WriteArgs};
use crate::connect::{JSON, Server};
use crate::discovery::Resources;
use crate::failure::{self, is_not_found};
use crate::merge::three_way;
use crate::select::{Item, Selection};

/// Where the last applied state of an object is kept.
pub(crate) const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Who owns fields that were applied.
const MANAGER: &str = "kubectl-client-side-apply";
/// How often a patch is computed anew when the object changes under it.
const RETRIES: usize = 5;

/// `carob apply`
pub(crate) async fn apply(server: &Server, args: &ApplyArgs) -> anyhow::Result<ExitCode> {
    if args.files.filenames.is_empty() {
        bail!("must specify one of -f and -k");
    }
    if args.server_side && args.write.dry_run == "client" {
        bail!(
            "--dry-run=client doesn't work with --server-side (did you mean --dry-run=server instead?)"
        );
    }
    let manager = if args.server_side { "kubectl" } else { MANAGER };
    let writer = Writer::new(&args.write, manager)?;
    let resources = Resources::discover(server).await?;
    let selection = Selection {
        files: args.files.clone(),
        ..Selection::default()
    };
    let (mut items, mut failures) = selection.items(server, &resources).await?;
    if let Some(selector) = &args.selector {
        items = with_labels(items, selector)?;
    }
    if items.is_empty() && failures.is_empty() {
        bail!("no objects passed to apply");
    }
    let applier = Applier {
        server,
        writer,
        validation: validation(&args.validate),
        force: args.force,
    };
    for item in &items {
        let applied = if args.server_side {
            applier.on_the_server(item, args.force_conflicts).await
        } else {
            applier.here(item).await
        };
        let told = applied.and_then(|(participle, object)| {
            applier.writer.done(&item.label(), participle, &object)
        });
        failures.extend(told.err());
    }
    Ok(failure::outcome(&failures))
}

/// The server's name for what it does with unknown fields.
pub(crate) fn validation(flag: &str) -> &'static str {
    match flag {
        "false" | "ignore" => "Ignore",
        "warn" => "Warn",
        _ => "Strict",
    }
}

fn with_labels(items: Vec<Item>, selector: &str) -> anyhow::Result<Vec<Item>> {
    let selector = api::selector::Selector::parse(selector)
        .map_err(|error| anyhow!("unable to parse requirement: {error}"))?;
    let chosen = |item: &Item| {
        let labels = item
            .object
            .as_ref()
            .and_then(|object| object["metadata"]["labels"].as_object());
        selector.matches(&labels)
    };
    Ok(items.into_iter().filter(chosen).collect())
}

/// The object with its own description in an annotation, as a later apply needs it.
pub(crate) fn with_last_applied(object: &Value) -> Value {
    let mut object = object.clone();
    if object["metadata"]["annotations"].is_null() {
        object["metadata"]["annotations"] = json!({});
    }
    if let Some(annotations) = object["metadata"]["annotations"].as_object_mut() {
        annotations.remove(LAST_APPLIED);
    }
    let text = api::gotext::json(&object) + "\n";
    object["metadata"]["annotations"][LAST_APPLIED] = text.into();
    object
}

/// What became of an object: a participle, and the object as it is now.
pub(crate) type Applied = (&'static str, Value);

/// Applies objects one by one.
pub(crate) struct Applier<'a> {
    server: &'a Server,
    writer: Writer,
    validation: &'static str,
    force: bool,
}

impl<'a> Applier<'a> {
    /// Applies as the flags' defaults say.
    pub(crate) fn plain(server: &'a Server) -> anyhow::Result<Applier<'a>> {
        Ok(Applier {
            server,
            writer: Writer::new(&WriteArgs::default(), MANAGER)?,
            validation: validation(""),
            force: false,
        })
    }

    fn query(&self) -> String {
        self.writer.query(&[("fieldValidation", self.validation)])
    }

    /// Three-way merge.
    pub(crate) async fn here(&self, item: &Item) -> anyhow::Result<Applied> {
        let object = item.object.as_ref().context("a manifest")?;
        let source = item.source.as_deref().unwrap_or_default();
        if item.name.is_empty() {
            let prefix = object["metadata"]["generateName"].as_str();
            match prefix {
                Some(prefix) => bail!("from {prefix}: cannot use generate name with apply"),
                None => bail!(
                    "error when retrieving current configuration of {source:?}: resource name may not be empty"
                ),
            }
        }
        let wanted = with_last_applied(object);
        let mut attempt = 0;
        loop {
            attempt += 1;
            let current = match self.server.get(&item.path(), JSON).await {
                Ok(current) => current,
                Err(error) if is_not_found(&error) => {
                    return self.create(item, &wanted, source).await;
                }
                Err(error) => {
                    return Err(error).context(format!(
                        "error when retrieving current configuration of:\n{}\nfrom server for: {source:?}",
                        describe(item)
                    ));
                }
            };
            self.warn_about(item, &current);
            match self.patch(item, &wanted, &current).await {
                Ok(applied) => return Ok(applied),
                Err((error, _)) if is_conflict(&error) && attempt <= RETRIES => {}
                Err((error, _)) if self.force && (is_conflict(&error) || is_invalid(&error)) => {
                    return self.replace(item, &wanted, source).await;
                }
                Err((error, patch)) => {
                    return Err(error).context(format!(
                        "error when applying patch:\n{}\nto:\n{}\nfor: {source:?}: error when patching {source:?}",
                        api::gotext::json(&patch),
                        describe(item)
                    ));
                }
            }
        }
    }

    async fn create(&self, item: &Item, wanted: &Value, source: &str) -> anyhow::Result<Applied> {
        let made = if self.writer.dry_run == DryRun::Client {
            wanted.clone()
        } else {
            let path = format!("{}{}", item.collection(), self.query());
            self.server
                .write(Method::POST, &path, wanted)
                .await
                .with_context(|| format!("error when creating {source:?}"))?
        };
        Ok(("created", made))
    }

    async fn patch(
        &self,
        item: &Item,
        wanted: &Value,
        current: &Value,
    ) -> Result<Applied, (anyhow::Error, Value)> {
        let ty = Schema::get().of(
            &item.resource.group,
            &item.resource.version,
            &item.resource.kind,
        );
        let original = current["metadata"]["annotations"][LAST_APPLIED]
            .as_str()
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_else(|| json!({}));
        let patch = three_way(&original, wanted, current, ty);
        if patch == json!({}) {
            return Ok(("unchanged", current.clone()));
        }
        if self.writer.dry_run == DryRun::Client {
            return Ok(("configured", wanted.clone()));
        }
        let media_type = if ty.is_some() {
            "application/strategic-merge-patch+json"
        } else {
            "application/merge-patch+json"
        };
        let path = format!("{}{}", item.path(), self.query());
        match self.server.patch(&path, media_type, &patch).await {
            Ok(object) => Ok(("configured", object)),
            Err(error) => Err((error.into(), patch)),
        }
    }

    /// `--force`: what cannot be changed is deleted and made anew.
    async fn replace(&self, item: &Item, wanted: &Value, source: &str) -> anyhow::Result<Applied> {
        let body = json!({"propagationPolicy": "Background"});
        self.server
            .write(Method::DELETE, &item.path(), &body)
            .await?;
        super::delete::until_gone(self.server, item, None, None).await?;
        let path = format!("{}{}", item.collection(), self.query());
        let made = self
            .server
            .write(Method::POST, &path, wanted)
            .await
            .with_context(|| format!("error when creating {source:?}"))?;
        Ok(("configured", made))
    }

    fn warn_about(&self, item: &Item, current: &Value) {
        let metadata = &current["metadata"];
        if metadata["annotations"][LAST_APPLIED].is_null() {
            eprintln!(
                "Warning: resource {} is missing the {LAST_APPLIED} annotation which is required by carob apply. carob apply should only be used on resources created declaratively by either carob create --save-config or carob apply. The missing annotation will be patched automatically.",
                item.plural_label()
            );
        }
        if !metadata["deletionTimestamp"].is_null() {
            eprintln!(
                "Warning: Detected changes to resource {} which is currently being deleted.",
                item.name
            );
        }
    }

    async fn on_the_server(&self, item: &Item, force: bool) -> anyhow::Result<Applied> {
        let object = item.object.as_ref().context("a manifest")?;
        let force = if force { "true" } else { "false" };
        let query = self
            .writer
            .query(&[("fieldValidation", self.validation), ("force", force)]);
        let path = format!("{}{query}", item.path());
        let applied = self
            .server
            .patch(&path, "application/apply-patch+yaml", object)
            .await;
        match applied {
            Ok(object) => Ok(("serverside-applied", object)),
            Err(kube::Error::Api(status)) if status.reason == "Conflict" => bail!(
                "{}\nOther managers own these fields. Either leave them out of the file, or give them the values the server has, or take them over with --force-conflicts.",
                status.message
            ),
            Err(kube::Error::Api(status)) if status.code == 415 => bail!(
                "Server-side apply not available on the server: ({})",
                status.message
            ),
            Err(error) => Err(error.into()),
        }
    }
}

fn is_conflict(error: &anyhow::Error) -> bool {
    failure::status_of(error).is_some_and(|status| status.reason == "Conflict")
}

fn is_invalid(error: &anyhow::Error) -> bool {
    failure::status_of(error).is_some_and(|status| status.reason == "Invalid")
}

/// How messages about patches name an object.
fn describe(item: &Item) -> String {
    let resource = &item.resource;
    format!(
        "Resource: \"{}, Resource={}\", GroupVersionKind: \"{}, Kind={}\"\nName: {:?}, Namespace: {:?}",
        group_version(resource),
        resource.plural,
        group_version(resource),
        resource.kind,
        item.name,
        item.namespace.as_deref().unwrap_or_default()
    )
}

/// Go prints the core group as `/v1`.
fn group_version(resource: &crate::discovery::Resource) -> String {
    format!("{}/{}", resource.group, resource.version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_annotation_holds_the_object_as_given() {
        let object = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "c"}, "data": {"a": "<1>"}});
        let annotated = with_last_applied(&object);
        assert_eq!(
            annotated["metadata"]["annotations"][LAST_APPLIED],
            "{\"apiVersion\":\"v1\",\"data\":{\"a\":\"\\u003c1\\u003e\"},\"kind\":\"ConfigMap\",\"metadata\":{\"annotations\":{},\"name\":\"c\"}}\n"
        );
        assert_eq!(with_last_applied(&annotated), annotated, "once");
    }
}
