//! The files: cases as they are written, runs as they are recorded.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::board::Wait;

/// Manifests and what a user does with them.
#[derive(Debug, Clone, Deserialize)]
pub struct Case {
    /// Name of the file without its ending.
    #[serde(skip)]
    pub name: String,
    /// What it shows, in one line.
    pub about: String,
    /// Manifests.
    #[serde(default)]
    pub objects: Vec<Value>,
    /// Apply the manifests before the first step.
    #[serde(default = "yes")]
    pub apply: bool,
    /// What is done, in order.
    #[serde(default)]
    pub steps: Vec<Step>,
}

fn yes() -> bool {
    true
}

/// One step of a case.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// `kubectl` with these arguments, in the case's namespace.
    Kubectl(String),
    /// A shell script with `NS` and `KUBECONFIG` set.
    Sh(String),
    /// Until a Pod's columns read so.
    Wait(Wait),
    /// Until nothing changed for this many seconds.
    Settle(f64),
    /// Let this many seconds pass: what is observed is that nothing happens meanwhile.
    Sleep(f64),
    /// Record every Pod and event under this label.
    Snap(String),
}

/// What one play of a case showed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    /// The case's name.
    pub case: String,
    /// What each step showed.
    pub steps: Vec<Record>,
    /// For each Pod the distinct rows `READY STATUS RESTARTS` of a watch, in order.
    pub rows: BTreeMap<String, Vec<String>>,
    /// Pods and events at the end.
    pub end: Value,
}

/// What one step showed: always `step`, and what belongs to its kind.
pub type Record = serde_json::Map<String, Value>;

impl Case {
    /// Reads a case. Numbers and booleans are read as YAML 1.1 has them, as upstream's tools do.
    pub fn read(path: &Path) -> anyhow::Result<Case> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let options = serde_saphyr::options! { legacy_octal_numbers: true, strict_booleans: false };
        let mut case: Case = serde_saphyr::from_str_with_options(&text, options)
            .with_context(|| format!("parse {}", path.display()))?;
        case.name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        Ok(case)
    }

    /// The manifests as one file for `kubectl apply -f`: JSON is YAML without its surprises.
    pub fn manifests(&self) -> String {
        self.objects
            .iter()
            .map(Value::to_string)
            .collect::<Vec<_>>()
            .join("\n---\n")
    }
}

impl Run {
    /// Reads the recorded runs of a case.
    pub fn read_all(path: &Path) -> anyhow::Result<Vec<Run>> {
        let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_slice(&bytes).with_context(|| format!("parse {}", path.display()))
    }
}
