//! `-o custom-columns=NAME:.metadata.name,…` (§16.3)

use anyhow::bail;
use serde_json::Value;

use super::jsonpath::Template;
use super::table::TableWriter;

/// Columns the user made up.
#[derive(Debug, Clone)]
pub(crate) struct Columns(Vec<(String, Template)>);

impl Columns {
    pub(crate) fn parse(spec: &str) -> anyhow::Result<Columns> {
        if spec.is_empty() {
            bail!("custom-columns format specified but no custom columns given");
        }
        let column = |part: &str| match part.split_once(':') {
            Some((header, path)) => match Template::parse_relaxed(path) {
                Ok(template) => Ok((header.to_owned(), template)),
                Err(error) => bail!("error parsing jsonpath {path}, {error}"),
            },
            None => {
                bail!("unexpected custom-columns spec: {part}, expected <header>:<json-path-expr>")
            }
        };
        spec.split(',')
            .map(column)
            .collect::<anyhow::Result<_>>()
            .map(Columns)
    }

    pub(crate) fn print(&self, objects: &[&Value]) -> anyhow::Result<String> {
        let mut rows = vec![
            self.0
                .iter()
                .map(|(header, _)| header.clone())
                .collect::<Vec<_>>(),
        ];
        for object in objects {
            let cells = self
                .0
                .iter()
                .map(|(_, template)| Ok(cell(&template.values(object)?)));
            rows.push(cells.collect::<anyhow::Result<_>>()?);
        }
        Ok(TableWriter::default().lines(&rows))
    }
}

fn cell(values: &[&Value]) -> String {
    if values.is_empty() {
        return "<none>".into();
    }
    values
        .iter()
        .map(|value| go_form(value))
        .collect::<Vec<_>>()
        .join(",")
}

/// A value as Go's fmt prints it.
fn go_form(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!(
            "[{}]",
            items.iter().map(go_form).collect::<Vec<_>>().join(" ")
        ),
        Value::Object(fields) => format!(
            "map[{}]",
            fields
                .iter()
                .map(|(key, value)| format!("{key}:{}", go_form(value)))
                .collect::<Vec<_>>()
                .join(" ")
        ),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn prints_columns_in_gos_form() {
        let columns = Columns::parse("NAME:.metadata.name,L:{.l},N:missing,Z:z").expect("parses");
        let object = json!({"metadata": {"name": "web"}, "l": [1, {"a": "x"}], "z": null});
        assert_eq!(
            columns.print(&[&object]).expect("prints"),
            "NAME   L              N        Z\nweb    [1 map[a:x]]   <none>   <nil>\n"
        );
        assert!(Columns::parse("L").is_err() && Columns::parse("").is_err());
    }
}
