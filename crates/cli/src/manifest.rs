//! Manifests: files, directories, addresses or standard input with one or many documents, read as kubectl reads them (YAML 1.1, or JSON).
//!
//! Splitting and parsing are pure; [`read`] is the part that touches files and asks the web.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use serde_json::Value;

use crate::args::FileArgs;
use crate::fetch;

/// What messages call standard input.
const STDIN: &str = "STDIN";

/// An object of a file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Document {
    /// The file or address as the user named it, or `STDIN`.
    pub(crate) source: String,
    /// Always an object with `apiVersion` and `kind`.
    pub(crate) object: Value,
}

/// Everything the files hold, and what could not be read.
#[derive(Debug, Default)]
pub(crate) struct Manifests {
    pub(crate) documents: Vec<Document>,
    pub(crate) failures: Vec<anyhow::Error>,
}

/// Reads every file; what can be read is returned even when other parts cannot.
pub(crate) async fn read(args: &FileArgs) -> Manifests {
    let mut manifests = Manifests::default();
    for name in &args.filenames {
        match sources(name, args.recursive).await {
            Ok(sources) => {
                for (source, text) in sources {
                    let (documents, failure) = parse(&source, &text);
                    manifests.documents.extend(documents);
                    manifests.failures.extend(failure);
                }
            }
            Err(error) => manifests.failures.push(error),
        }
    }
    manifests
}

/// The texts behind one `-f`.
async fn sources(name: &str, recursive: bool) -> anyhow::Result<Vec<(String, String)>> {
    if name == "-" {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .context("read standard input")?;
        return Ok(vec![(STDIN.to_owned(), text)]);
    }
    if fetch::is_url(name) {
        return Ok(vec![(name.to_owned(), fetch::text(name).await?)]);
    }
    let path = Path::new(name);
    if !path.exists() {
        return Err(anyhow!("the path {name:?} does not exist"));
    }
    let mut files = Vec::new();
    if path.is_dir() {
        walk(path, recursive, &mut files).with_context(|| format!("read {name}"))?;
        if files.is_empty() {
            return Err(anyhow!(
                "error reading [{name}]: recognized file extensions are [.json .yaml .yml]"
            ));
        }
    } else {
        files.push(path.to_owned());
    }
    files
        .into_iter()
        .map(|file| {
            let shown = file.display().to_string();
            let text = std::fs::read_to_string(&file).with_context(|| format!("read {shown}"))?;
            Ok((shown, text))
        })
        .collect()
}

/// Manifest files of a directory, in order of their names.
fn walk(dir: &Path, recursive: bool, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(dir)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    entries.sort();
    for entry in entries {
        if entry.is_dir() {
            if recursive {
                walk(&entry, recursive, files)?;
            }
        } else if entry.extension().is_some_and(|extension| {
            ["json", "yaml", "yml"]
                .iter()
                .any(|known| extension == *known)
        }) {
            files.push(entry);
        }
    }
    Ok(())
}

/// The objects of a text up to the first that cannot be read, lists taken apart.
pub(crate) fn parse(source: &str, text: &str) -> (Vec<Document>, Option<anyhow::Error>) {
    let mut documents = Vec::new();
    let values = match json_values(text) {
        Some(values) => values.into_iter().map(Ok).collect::<Vec<_>>(),
        None => split(text)
            .into_iter()
            .map(|(line, part)| yaml(part, line))
            .collect(),
    };
    for value in values {
        let object = value
            .map_err(|error| {
                anyhow!("error parsing {source}: error converting YAML to JSON: {error}")
            })
            .and_then(|value| objects(source, value));
        match object {
            Ok(objects) => documents.extend(objects.into_iter().map(|object| Document {
                source: source.to_owned(),
                object,
            })),
            Err(error) => return (documents, Some(error)),
        }
    }
    (documents, None)
}

/// The values of a text that is JSON throughout, one after another.
fn json_values(text: &str) -> Option<Vec<Value>> {
    if !text.trim_start().starts_with('{') {
        return None;
    }
    serde_json::Deserializer::from_str(text)
        .into_iter()
        .collect::<Result<_, _>>()
        .ok()
}

/// The documents of a YAML stream, with the number of lines before each. A separator may be followed by a comment.
fn split(text: &str) -> Vec<(usize, &str)> {
    let mut parts = Vec::new();
    let (mut begin, mut first, mut place) = (0, 0, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let separates = line
            .strip_prefix("---")
            .map(str::trim)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('#'));
        if separates {
            parts.push((first, &text[begin..place]));
            begin = place + line.len();
            first = number + 1;
        }
        place += line.len();
    }
    parts.push((first, &text[begin..]));
    parts
}

/// One YAML document as JSON; `null` if there is nothing in it. Errors name the line in the whole file.
fn yaml(text: &str, lines_before: usize) -> Result<Value, String> {
    let is_empty = text
        .lines()
        .all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
    if is_empty {
        return Ok(Value::Null);
    }
    from_yaml(text).map_err(|error| match error.location() {
        Some(location) => {
            let line = usize::try_from(location.line()).unwrap_or(0) + lines_before;
            format!("yaml: line {line}: {}", reason(&error))
        }
        None => format!("yaml: {}", reason(&error)),
    })
}

/// Reads YAML as Kubernetes does: `0644` is octal, `yes` and `on` are booleans.
pub(crate) fn from_yaml(text: &str) -> Result<Value, serde_saphyr::Error> {
    let options = serde_saphyr::options! {
        legacy_octal_numbers: true,
        strict_booleans: false,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options)
}

/// The parser's words without its own naming of the place.
fn reason(error: &serde_saphyr::Error) -> String {
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    let end = first.find(" at line ").unwrap_or(first.len());
    first[..end].trim_end_matches([':', ',', ' ']).to_owned()
}

/// The objects of a document: itself, or the items of a list.
fn objects(source: &str, value: Value) -> anyhow::Result<Vec<Value>> {
    if value.is_null() {
        return Ok(Vec::new());
    }
    let missing: Vec<&str> = ["apiVersion", "kind"]
        .into_iter()
        .filter(|field| value[*field].as_str().is_none_or(str::is_empty))
        .collect();
    let reason = match missing.as_slice() {
        _ if !value.is_object() => "invalid object to validate".to_owned(),
        [] => String::new(),
        [one] => format!("{one} not set"),
        _ => "[apiVersion not set, kind not set]".to_owned(),
    };
    if !reason.is_empty() {
        return Err(anyhow!(
            "error validating {source:?}: error validating data: {reason}"
        ));
    }
    match value {
        Value::Object(mut list) if is_list(&list) => {
            let items = match list.remove("items") {
                Some(Value::Array(items)) => items,
                _ => Vec::new(),
            };
            let mut found = Vec::new();
            for item in items {
                found.extend(objects(source, item)?);
            }
            Ok(found)
        }
        value => Ok(vec![value]),
    }
}

fn is_list(object: &serde_json::Map<String, Value>) -> bool {
    object
        .get("kind")
        .and_then(Value::as_str)
        .is_some_and(|kind| kind.ends_with("List"))
        && object.get("items").is_some_and(Value::is_array)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn names(text: &str) -> Vec<String> {
        let (documents, failure) = parse("f.yaml", text);
        let name = |document: &Document| document.object["metadata"]["name"].to_string();
        documents
            .iter()
            .map(name)
            .chain(failure.map(|error| error.to_string()))
            .collect()
    }

    #[test]
    fn reads_many_documents() {
        for (text, expected) in [
            ("", vec![]),
            ("# nothing\n---\n---\n", vec![]),
            (
                "apiVersion: v1\nkind: A\nmetadata: {name: a}\n--- # next\napiVersion: v1\nkind: A\nmetadata: {name: b}\n",
                vec!["\"a\"", "\"b\""],
            ),
            (
                r#"{"apiVersion":"v1","kind":"A","metadata":{"name":"a"}}{"apiVersion":"v1","kind":"A","metadata":{"name":"b"}}"#,
                vec!["\"a\"", "\"b\""],
            ),
            (
                "{apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: A, metadata: {name: a}}]}",
                vec!["\"a\""],
            ),
            (
                "apiVersion: v1\nmetadata: {name: a}\n",
                vec!["error validating \"f.yaml\": error validating data: kind not set"],
            ),
            (
                "a: b",
                vec![
                    "error validating \"f.yaml\": error validating data: [apiVersion not set, kind not set]",
                ],
            ),
            (
                "[1]",
                vec![
                    "error validating \"f.yaml\": error validating data: invalid object to validate",
                ],
            ),
        ] {
            assert_eq!(names(text), expected, "{text}");
        }
    }

    #[test]
    fn a_parse_error_names_the_line_of_the_file() {
        let good = "apiVersion: v1\nkind: A\nmetadata:\n  name: p\n";
        let (documents, failure) = parse("f.yaml", &format!("{good}---\n{good} bad: [\n"));
        assert_eq!(documents.len(), 1, "what comes before is kept");
        let failure = failure.expect("a failure").to_string();
        assert!(
            failure.starts_with(
                "error parsing f.yaml: error converting YAML to JSON: yaml: line 10: "
            ),
            "{failure}"
        );
    }

    #[test]
    fn yaml_is_read_in_version_1_1() {
        let read = from_yaml(
            "a: 0644\nb: yes\nc: off\nd: \"yes\"\ne: 1.5\nf: ~\ng: 0x10\nh: &x [1]\ni: *x\n1: k\n",
        )
        .expect("reads");
        assert_eq!(
            read,
            json!({"a": 420, "b": true, "c": false, "d": "yes", "e": 1.5, "f": null, "g": 16, "h": [1], "i": [1], "1": "k"})
        );
        assert!(from_yaml("a: 1\na: 2\n").is_err(), "a key stands once");
    }
}
