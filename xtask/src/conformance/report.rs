//! What became of each spec, read from Ginkgo's JSON report.

use anyhow::{Context, Result};
use serde_json::Value;

/// Characters of an error that are shown, at most: objects are printed whole, and their status is at the end.
const SHOWN: usize = 6000;

/// A spec that was chosen, and how it ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Outcome {
    /// Its texts from the outermost container to the spec itself, as Ginkgo joins them.
    pub(super) name: String,
    pub(super) seconds: f64,
    pub(super) end: End,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum End {
    Passed,
    /// It saw something that is missing here, which it said.
    Skipped(String),
    /// The first thing that went wrong, in one line.
    Failed(String),
}

/// Reads a report; specs that were not chosen are left out. A suite that failed as a whole is an outcome of that name.
///
/// # Errors
/// When the text is not such a report.
pub(super) fn read(text: &str) -> Result<Vec<Outcome>> {
    let suites: Vec<Value> = serde_json::from_str(text).context("read the suite's report")?;
    let specs = suites
        .iter()
        .flat_map(|suite| suite["SpecReports"].as_array().into_iter().flatten());
    let mut outcomes: Vec<Outcome> = specs.filter_map(outcome).collect();
    outcomes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(outcomes)
}

fn outcome(spec: &Value) -> Option<Outcome> {
    let message = spec["Failure"]["Message"].as_str().unwrap_or_default();
    let is_spec = spec["LeafNodeType"] == "It";
    let end = match spec["State"].as_str()? {
        "passed" if is_spec => End::Passed,
        // Only a spec that skipped itself says why.
        "skipped" if is_spec && !message.is_empty() => End::Skipped(one_line(message)),
        "passed" | "skipped" | "pending" => return None,
        state => End::Failed(one_line(if message.is_empty() { state } else { message })),
    };
    Some(Outcome {
        name: name(spec),
        seconds: spec["RunTime"].as_f64().unwrap_or_default() / 1e9,
        end,
    })
}

fn name(spec: &Value) -> String {
    let texts = spec["ContainerHierarchyTexts"]
        .as_array()
        .into_iter()
        .flatten();
    let mut words: Vec<&str> = texts.filter_map(Value::as_str).collect();
    words.extend(
        spec["LeafNodeText"]
            .as_str()
            .filter(|text| !text.is_empty()),
    );
    if words.is_empty() {
        // Set-up and tear-down of the suite have no text.
        words.extend(spec["LeafNodeType"].as_str());
    }
    words.join(" ")
}

fn one_line(message: &str) -> String {
    let words: Vec<&str> = message.split_whitespace().collect();
    words.join(" ").chars().take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::{End, read};

    #[test]
    fn chosen_specs_are_told_from_the_rest() {
        let text = r#"[{"SpecReports": [
            {"ContainerHierarchyTexts": ["[sig-node] Pods"], "LeafNodeText": "should run", "LeafNodeType": "It", "State": "passed", "RunTime": 1500000000},
            {"ContainerHierarchyTexts": ["[sig-node] Pods"], "LeafNodeText": "is not chosen", "LeafNodeType": "It", "State": "skipped", "RunTime": 0},
            {"ContainerHierarchyTexts": ["[sig-node] Pods"], "LeafNodeText": "needs more", "LeafNodeType": "It", "State": "skipped", "RunTime": 1, "Failure": {"Message": "no second node"}},
            {"ContainerHierarchyTexts": ["[sig-node] Pods"], "LeafNodeText": "breaks", "LeafNodeType": "It", "State": "failed", "RunTime": 1, "Failure": {"Message": "expected\n    <int>: 1\nto equal"}},
            {"ContainerHierarchyTexts": ["[sig-node] Pods"], "LeafNodeText": "hangs", "LeafNodeType": "It", "State": "timedout", "RunTime": 1},
            {"ContainerHierarchyTexts": null, "LeafNodeText": "", "LeafNodeType": "SynchronizedBeforeSuite", "State": "failed", "RunTime": 1, "Failure": {"Message": "no node"}},
            {"ContainerHierarchyTexts": null, "LeafNodeText": "", "LeafNodeType": "SynchronizedAfterSuite", "State": "passed", "RunTime": 1}
        ]}]"#;
        let ends: Vec<(String, End)> = read(text)
            .unwrap()
            .into_iter()
            .map(|outcome| (outcome.name, outcome.end))
            .collect();
        let failed = |text: &str| End::Failed(text.to_owned());
        assert_eq!(
            ends,
            [
                ("SynchronizedBeforeSuite".to_owned(), failed("no node")),
                (
                    "[sig-node] Pods breaks".to_owned(),
                    failed("expected <int>: 1 to equal")
                ),
                ("[sig-node] Pods hangs".to_owned(), failed("timedout")),
                (
                    "[sig-node] Pods needs more".to_owned(),
                    End::Skipped("no second node".to_owned())
                ),
                ("[sig-node] Pods should run".to_owned(), End::Passed),
            ]
        );
    }
}
