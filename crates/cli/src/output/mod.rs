//! How results are printed; pure.

mod columns;
pub(crate) mod jsonpath;
pub(crate) mod table;

use anyhow::bail;
use serde::Serialize;
use serde_json::Value;

use self::columns::Columns;
use self::jsonpath::Template;

/// What `-o` asks for.
#[derive(Debug, Clone)]
pub(crate) enum Format {
    /// The server's table.
    Table {
        /// Columns of lower priority too.
        wide: bool,
    },
    Json,
    Yaml,
    Name,
    JsonPath(Template, String),
    Columns(Columns),
}

impl Format {
    /// Reads the flag's value; empty is the table.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Format> {
        let (name, rest) = text.split_once('=').unwrap_or((text, ""));
        Ok(match name {
            "" => Format::Table { wide: false },
            "wide" => Format::Table { wide: true },
            "json" => Format::Json,
            "yaml" => Format::Yaml,
            "name" => Format::Name,
            "jsonpath" if rest.is_empty() => {
                bail!("template format specified but no template given")
            }
            "jsonpath" => match Template::parse(rest) {
                Ok(template) => Format::JsonPath(template, rest.to_owned()),
                Err(error) => bail!("error parsing jsonpath {rest}, {error}"),
            },
            "custom-columns" => Format::Columns(Columns::parse(rest)?),
            _ => bail!(
                "unable to match a printer suitable for the output format \"{text}\", allowed formats are: custom-columns,json,jsonpath,name,wide,yaml"
            ),
        })
    }

    /// An object, or a `List` of them, in this format. Tables are not printed from objects.
    pub(crate) fn print(&self, object: &Value) -> anyhow::Result<String> {
        Ok(match self {
            Format::Json => indented(object)?,
            Format::Yaml => yaml(object)?,
            Format::Name => items(object)
                .iter()
                .map(|item| format!("{}\n", qualified_name(item)))
                .collect(),
            Format::JsonPath(template, text) => template.print(object, false).map_err(|error| {
                anyhow::anyhow!(
                    "error executing jsonpath {text:?}: Error executing template: {error}."
                )
            })?,
            Format::Columns(columns) => columns.print(&items(object))?,
            Format::Table { .. } => bail!("a table is the server's to make"),
        })
    }
}

/// The items of a list, or the object alone.
fn items(object: &Value) -> Vec<&Value> {
    match object["items"].as_array() {
        Some(items) => items.iter().collect(),
        None => vec![object],
    }
}

/// `pod/web`, `deployment.apps/web`
pub(crate) fn qualified_name(object: &Value) -> String {
    let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
    let group = object["apiVersion"]
        .as_str()
        .and_then(|version| version.split_once('/'))
        .map(|(group, _)| format!(".{group}"));
    format!(
        "{kind}{}/{}",
        group.unwrap_or_default(),
        object["metadata"]["name"].as_str().unwrap_or_default()
    )
}

/// JSON as kubectl prints it, four blanks a level.
fn indented(object: &Value) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(
        &mut bytes,
        serde_json::ser::PrettyFormatter::with_indent(b"    "),
    );
    object.serialize(&mut serializer)?;
    bytes.push(b'\n');
    Ok(String::from_utf8(bytes)?)
}

fn yaml(object: &Value) -> anyhow::Result<String> {
    // Long lines stay whole: people search and compare them.
    let options = serde_saphyr::ser_options! {
        min_fold_chars: usize::MAX,
        folded_wrap_chars: usize::MAX,
        yaml_12: false,
        compact_list_indent: true,
    };
    let mut text = serde_saphyr::to_string_with_options(object, options)?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

/// Escapes a value for a query string (RFC 3986).
pub(crate) fn percent(value: &str) -> String {
    let unreserved =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    value
        .bytes()
        .map(|byte| {
            if unreserved(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}
