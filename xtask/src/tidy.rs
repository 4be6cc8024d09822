//! The house rules, checked: where arrows point, what rules crates may not reach, and what no file may say.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::run;

/// Our crates from the bottom up. A crate may depend on crates of lower layers only; services and effects never meet except in
/// the binary (and the tests beside the house).
const LAYERS: &[(&str, Role)] = &[
    ("api", Role::Words),
    ("cri", Role::Words),
    ("nat", Role::Words),
    ("spdy", Role::Words),
    ("ports", Role::Ports),
    ("grpc", Role::Ports),
    ("skipverify", Role::Ports),
    ("events", Role::Ports),
    ("informer", Role::Ports),
    ("https", Role::Ports),
    ("streaming", Role::Ports),
    ("lifecycle", Role::Rules),
    ("workloads", Role::Rules),
    ("claims", Role::Rules),
    ("admission", Role::Rules),
    ("netplan", Role::Rules),
    ("store", Role::Effects),
    ("runtime", Role::Effects),
    ("images", Role::Effects),
    ("network", Role::Effects),
    ("volumes", Role::Effects),
    ("apiserver", Role::Services),
    ("controllers", Role::Services),
    ("scheduler", Role::Services),
    ("proxy", Role::Services),
    ("dns", Role::Services),
    ("kubelet", Role::Services),
    ("nodeserver", Role::Services),
    ("cli", Role::Commands),
    ("carob", Role::Binary),
    ("lan", Role::Beside),
    ("testdriver", Role::Beside),
    ("testkit", Role::Beside),
    ("sim", Role::Beside),
    ("e2e", Role::Beside),
    ("xtask", Role::Beside),
    ("bench-dns", Role::Beside),
    ("bench-launch", Role::Beside),
    ("bench-podstart", Role::Beside),
    ("bench-services", Role::Beside),
    ("bench-volumes", Role::Beside),
    ("bench-workloads", Role::Beside),
];

/// What words and rules must never reach, directly or not: they decide without waiting, files or the kernel.
const EFFECTFUL: &[&str] = &[
    "tokio", "hyper", "kube", "nix", "rustix", "libc", "rusqlite",
];

/// Files longer than this, tests aside, are two files.
const LONGEST_FILE: usize = 700;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Words,
    Ports,
    Rules,
    Effects,
    Services,
    Commands,
    Binary,
    Beside,
}

impl Role {
    /// What a crate of this role may use of ours.
    fn may_use(self, other: Role) -> bool {
        use Role::*;
        match self {
            Words => other == Words,
            Ports => matches!(other, Words | Ports),
            Rules => other == Words,
            Effects => matches!(other, Words | Ports),
            Services => matches!(other, Words | Ports | Rules),
            Commands => matches!(other, Words | Ports | Rules),
            Binary => other != Beside,
            Beside => true,
        }
    }
}

/// Checks everything and lists every breach.
pub(crate) fn check() -> anyhow::Result<()> {
    let metadata: Value = serde_json::from_str(&run::output(run::cargo().args([
        "metadata",
        "--format-version=1",
        "--locked",
    ]))?)?;
    let mut breaches = arrows(&metadata)?;
    breaches.extend(sources()?);
    if !breaches.is_empty() {
        bail!("the house is not tidy:\n  {}", breaches.join("\n  "));
    }
    println!("tidy: {} crates, arrows point down", LAYERS.len());
    Ok(())
}

/// Normal dependencies by package id, and names by id.
struct Graph<'a> {
    names: BTreeMap<&'a str, &'a str>,
    normal: BTreeMap<&'a str, Vec<&'a str>>,
    ours: Vec<&'a str>,
}

impl<'a> Graph<'a> {
    fn read(metadata: &'a Value) -> anyhow::Result<Self> {
        let list = |value: &'a Value| value.as_array().context("cargo metadata lacks a list");
        let text = |value: &'a Value| value.as_str().context("cargo metadata lacks a name");
        let mut names = BTreeMap::new();
        for package in list(&metadata["packages"])? {
            names.insert(text(&package["id"])?, text(&package["name"])?);
        }
        let mut normal = BTreeMap::new();
        for node in list(&metadata["resolve"]["nodes"])? {
            let mut dependencies = Vec::new();
            for dependency in list(&node["deps"])? {
                if list(&dependency["dep_kinds"])?
                    .iter()
                    .any(|kind| kind["kind"].is_null())
                {
                    dependencies.push(text(&dependency["pkg"])?);
                }
            }
            normal.insert(text(&node["id"])?, dependencies);
        }
        let ours = list(&metadata["workspace_members"])?
            .iter()
            .map(text)
            .collect::<Result<_, _>>()?;
        Ok(Graph {
            names,
            normal,
            ours,
        })
    }

    fn reached(&self, from: &'a str) -> BTreeSet<&'a str> {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(id) = open.pop() {
            for dependency in self.normal.get(id).into_iter().flatten() {
                if seen.insert(self.names[dependency]) {
                    open.push(dependency);
                }
            }
        }
        seen
    }
}

fn arrows(metadata: &Value) -> anyhow::Result<Vec<String>> {
    let graph = Graph::read(metadata)?;
    let role = |name: &str| {
        LAYERS
            .iter()
            .find(|(layer, _)| *layer == name)
            .map(|(_, role)| *role)
    };
    let mut breaches = Vec::new();
    for id in &graph.ours {
        let name = graph.names[id];
        let Some(own) = role(name) else {
            breaches.push(format!("{name} has no layer: add it to xtask/src/tidy.rs"));
            continue;
        };
        let ours = graph.normal[id]
            .iter()
            .filter(|dependency| graph.ours.contains(dependency))
            .map(|dependency| graph.names[dependency]);
        breaches.extend(
            ours.filter(|other| !role(other).is_some_and(|other| own.may_use(other)))
                .map(|other| format!("{name} must not use {other}")),
        );
        if matches!(own, Role::Words | Role::Rules) {
            let reached = graph.reached(id);
            breaches.extend(
                EFFECTFUL
                    .iter()
                    .filter(|effect| reached.contains(*effect))
                    .map(|effect| format!("{name} reaches {effect}")),
            );
        }
    }
    Ok(breaches)
}

/// Checks on the text of our own Rust files.
fn sources() -> anyhow::Result<Vec<String>> {
    let mut breaches = Vec::new();
    for file in rust_files(&["crates", "xtask", "bench"])? {
        let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let is_test = file.components().any(|part| part.as_os_str() == "tests");
        if !is_test && code.lines().count() > LONGEST_FILE {
            breaches.push(format!(
                "{} is {} lines long: make it two",
                file.display(),
                code.lines().count()
            ));
        }
        if is_crate_root(&file) && !text.starts_with("//!") {
            breaches.push(format!("{} does not say what it is for", file.display()));
        }
        // Split so that this file does not name what it looks for.
        for stub in [
            concat!("todo", "!("),
            concat!("unimplemented", "!("),
            concat!("dbg", "!("),
            concat!("#[ig", "nore"),
        ] {
            if text.contains(stub) {
                breaches.push(format!("{} holds {stub}", file.display()));
            }
        }
    }
    Ok(breaches)
}

fn is_crate_root(file: &Path) -> bool {
    file.ends_with("src/lib.rs") || file.ends_with("src/main.rs")
}

fn rust_files(folders: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
    let (mut files, mut open) = (
        Vec::new(),
        folders
            .iter()
            .map(PathBuf::from)
            .filter(|folder| folder.is_dir())
            .collect::<Vec<_>>(),
    );
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}
