//! Which objects a verb is about: named, in files, or chosen by a selector.

use anyhow::{anyhow, bail};
use serde_json::Value;

use crate::args::FileArgs;
use crate::connect::{JSON, Server};
use crate::discovery::{Resource, Resources};
use crate::manifest::{self, Document};
use crate::output::percent;
use crate::target::targets;

/// An object that a verb is about.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) resource: Resource,
    /// `None` for cluster-scoped kinds.
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
    /// The file it came from.
    pub(crate) source: Option<String>,
    /// What the file or the list said; names alone have none.
    pub(crate) object: Option<Value>,
}

impl Item {
    /// Its path at the server.
    pub(crate) fn path(&self) -> String {
        self.resource.object(self.namespace.as_deref(), &self.name)
    }

    /// Path of all objects beside it.
    pub(crate) fn collection(&self) -> String {
        self.resource.collection(self.namespace.as_deref())
    }

    /// `pod/web`, `deployment.apps/web`
    pub(crate) fn label(&self) -> String {
        format!("{}/{}", self.resource.qualified(), self.name)
    }

    /// `pods/web`, as conditions that were waited for in vain are told.
    pub(crate) fn plural_label(&self) -> String {
        let plural = &self.resource.plural;
        match self.resource.group.as_str() {
            "" => format!("{plural}/{}", self.name),
            group => format!("{plural}.{group}/{}", self.name),
        }
    }
}

/// How objects were chosen.
#[derive(Debug, Default)]
pub(crate) struct Selection<'a> {
    pub(crate) words: &'a [String],
    pub(crate) files: FileArgs,
    pub(crate) label_selector: Option<&'a str>,
    pub(crate) field_selector: Option<&'a str>,
    pub(crate) all: bool,
    pub(crate) all_namespaces: bool,
}

impl Selection<'_> {
    fn query(&self) -> String {
        let selectors = [
            ("labelSelector", self.label_selector),
            ("fieldSelector", self.field_selector),
        ];
        let parts: Vec<String> = selectors
            .into_iter()
            .filter_map(|(name, value)| Some(format!("{name}={}", percent(value?))))
            .collect();
        parts.join("&")
    }

    /// The objects, and what is wrong with files that were named.
    pub(crate) async fn items(
        &self,
        server: &Server,
        resources: &Resources,
    ) -> anyhow::Result<(Vec<Item>, Vec<anyhow::Error>)> {
        if !self.files.filenames.is_empty() {
            let read = manifest::read(&self.files).await;
            let mut failures = read.failures;
            let mut items = Vec::new();
            for document in read.documents {
                match of_document(server, resources, document) {
                    Ok(item) => items.push(item),
                    Err(error) => failures.push(error),
                }
            }
            return Ok((items, failures));
        }
        if self.words.is_empty() {
            bail!("you must provide one or more resources by argument or filename");
        }
        let mut items = Vec::new();
        for target in targets(self.words, resources)? {
            if target.names.is_empty() {
                if self.label_selector.is_none() && self.field_selector.is_none() && !self.all {
                    bail!("resource(s) were provided, but no name was specified");
                }
                items.extend(self.listed(server, &target.resource).await?);
                continue;
            }
            if self.label_selector.is_some() {
                bail!("name cannot be provided when a selector is specified");
            }
            if self.all {
                bail!("setting 'all' parameter but found a non empty selector. ");
            }
            if self.all_namespaces {
                bail!("a resource cannot be retrieved by name across all namespaces");
            }
            items.extend(target.names.iter().map(|name| Item {
                namespace: namespace_for(server, &target.resource),
                resource: target.resource.clone(),
                name: name.clone(),
                source: None,
                object: None,
            }));
        }
        Ok((items, Vec::new()))
    }

    async fn listed(&self, server: &Server, resource: &Resource) -> anyhow::Result<Vec<Item>> {
        let scope = (!self.all_namespaces).then_some(server.namespace.as_str());
        let mut list = server
            .list(&resource.collection(scope), &self.query(), JSON)
            .await?;
        let items = list["items"].as_array_mut().map(std::mem::take);
        let item = |mut object: Value| {
            object["apiVersion"] = resource.api_version().into();
            object["kind"] = resource.kind.as_str().into();
            let text = |field: &str| object["metadata"][field].as_str().map(str::to_owned);
            Item {
                resource: resource.clone(),
                namespace: text("namespace"),
                name: text("name").unwrap_or_default(),
                source: None,
                object: Some(object),
            }
        };
        Ok(items.unwrap_or_default().into_iter().map(item).collect())
    }
}

fn namespace_for(server: &Server, resource: &Resource) -> Option<String> {
    resource.namespaced.then(|| server.namespace.clone())
}

/// The object a document describes, put into its namespace.
pub(crate) fn of_document(
    server: &Server,
    resources: &Resources,
    document: Document,
) -> anyhow::Result<Item> {
    let Document { source, mut object } = document;
    let text = |field: &Value| field.as_str().unwrap_or_default().to_owned();
    let (version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
    let name = text(&object["metadata"]["name"]);
    let own = text(&object["metadata"]["namespace"]);
    let resource = resources.of_kind(&version, &kind).ok_or_else(|| {
        anyhow!(
            "resource mapping not found for name: {name:?} namespace: {own:?} from {source:?}: no matches for kind {kind:?} in version {version:?}\nensure CRDs are installed first"
        )
    })?;
    let namespace = if !resource.namespaced {
        None
    } else if own.is_empty() {
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.insert("namespace".into(), server.namespace.as_str().into());
        }
        Some(server.namespace.clone())
    } else if server.namespace_is_fixed && own != server.namespace {
        bail!(
            "the namespace from the provided object {own:?} does not match the namespace {:?}. You must pass '--namespace={own}' to perform this operation.",
            server.namespace
        );
    } else {
        Some(own)
    };
    Ok(Item {
        resource: resource.clone(),
        namespace,
        name,
        source: Some(source),
        object: Some(object),
    })
}
