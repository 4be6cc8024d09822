//! kubectl's JSONPath dialect (§16.1): text with `{…}` actions, `range`/`end`, filters and slices.
//!
//! A template is parsed once into nodes and then printed for a value. Missing keys print nothing, unless they are asked to be
//! errors.

mod eval;
mod parse;

use std::fmt::Write;

use serde_json::Value;

pub(crate) use eval::EvalError;
pub(crate) use parse::ParseError;

/// A parsed template.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Template {
    nodes: Vec<Node>,
}

/// A piece of a template.
#[derive(Debug, Clone, PartialEq)]
enum Node {
    /// Literal text, also from quotes inside an action.
    Text(String),
    /// A path whose results are printed, joined by blanks.
    Path(Vec<Step>),
    /// `{range PATH}…{end}`
    Range(Vec<Step>, Vec<Node>),
}

/// One step of a path.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    /// `.name`, `['name']`, `['a','b']`
    Names(Vec<String>),
    /// `..name`; `None` is `..*`.
    Recursive(Option<String>),
    /// `.*`, `[*]`
    Wildcard,
    /// `[1]`, `[0,2]`
    Indices(Vec<i64>),
    /// `[start:end:step]`
    Slice {
        start: Option<i64>,
        end: Option<i64>,
        step: Option<i64>,
    },
    /// `[?(…)]`
    Filter(Box<Filter>),
}

/// `left`, or `left operator right`.
#[derive(Debug, Clone, PartialEq)]
struct Filter {
    left: Operand,
    test: Option<(Operator, Operand)>,
}

/// A side of a comparison.
#[derive(Debug, Clone, PartialEq)]
enum Operand {
    Path(Vec<Step>),
    Literal(Value),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Template {
    /// Parses a template.
    pub(crate) fn parse(text: &str) -> Result<Self, ParseError> {
        parse::template(text)
    }

    /// Parses what flags accept where only one path makes sense: `name`, `.name`, `{.name}`, `{name}`.
    pub(crate) fn parse_relaxed(text: &str) -> Result<Self, ParseError> {
        let inner = text
            .strip_prefix('{')
            .and_then(|text| text.strip_suffix('}'))
            .unwrap_or(text);
        let dotted = if inner.starts_with(['.', '[', '$', '@']) {
            inner.to_owned()
        } else {
            format!(".{inner}")
        };
        parse::template(&format!("{{{dotted}}}"))
    }

    /// What the template prints for a value.
    pub(crate) fn print(
        &self,
        root: &Value,
        missing_keys_are_errors: bool,
    ) -> Result<String, EvalError> {
        let mut out = String::new();
        print_nodes(&self.nodes, root, missing_keys_are_errors, &mut out)?;
        Ok(out)
    }

    /// The values the template's paths lead to, in order.
    pub(crate) fn values<'v>(&self, root: &'v Value) -> Result<Vec<&'v Value>, EvalError> {
        let mut found = Vec::new();
        for node in &self.nodes {
            if let Node::Path(path) = node {
                found.extend(eval::walk(path, root, false)?);
            }
        }
        Ok(found)
    }
}

fn print_nodes(
    nodes: &[Node],
    current: &Value,
    strict: bool,
    out: &mut String,
) -> Result<(), EvalError> {
    for node in nodes {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Path(path) => {
                for (place, value) in eval::walk(path, current, strict)?.into_iter().enumerate() {
                    if place > 0 {
                        out.push(' ');
                    }
                    print_value(value, out);
                }
            }
            Node::Range(path, body) => {
                for value in eval::walk(path, current, strict)? {
                    print_nodes(body, value, strict, out)?;
                }
            }
        }
    }
    Ok(())
}

/// Strings raw, everything else as compact JSON with `<`, `>` and `&` escaped, as Go writes it.
fn print_value(value: &Value, out: &mut String) {
    match value {
        Value::String(text) => out.push_str(text),
        Value::Array(_) | Value::Object(_) => {
            let json = value.to_string();
            out.push_str(
                &json
                    .replace('<', "\\u003c")
                    .replace('>', "\\u003e")
                    .replace('&', "\\u0026"),
            );
        }
        Value::Number(number) => print_number(number, out),
        Value::Null | Value::Bool(_) => {
            // Writing to a String does not fail.
            let _ = write!(out, "{value}");
        }
    }
}

/// Large floats have Go's form: `1e+21`.
fn print_number(number: &serde_json::Number, out: &mut String) {
    let text = number.to_string();
    match text.split_once('e') {
        Some((digits, exponent)) if !exponent.starts_with(['-', '+']) => {
            let _ = write!(out, "{}e+{exponent}", digits.trim_end_matches(".0"));
        }
        _ => out.push_str(&text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sample() -> Value {
        json!({"i":3,"f":1.5,"big":10000000,"fl":1e21,"z":null,"s":"a<b>","l":[1,2,3,4,5],"m":{"b":1,"a":"x"},
            "lo":[{"n":"a","v":1},{"n":"b","v":2},{"n":"c","v":3,"d":{"e":"f"}}],"em":[],
            "metadata":{"labels":{"app.kubernetes.io/name":"web"}}})
    }

    fn print(template: &str) -> String {
        match Template::parse(template) {
            Err(error) => format!("parse: {error}"),
            Ok(template) => template
                .print(&sample(), false)
                .unwrap_or_else(|error| format!("eval: {error}")),
        }
    }

    #[test]
    fn prints_what_kubectl_prints() {
        for (template, printed) in [
            ("{.i}", "3"),
            ("{.f}", "1.5"),
            ("{.big}", "10000000"),
            ("{.fl}", "1e+21"),
            ("{.z}", "null"),
            ("{.s}", "a<b>"),
            ("{.l}", "[1,2,3,4,5]"),
            ("{.m}", r#"{"a":"x","b":1}"#),
            ("{.em}", "[]"),
            ("{.l[*]}", "1 2 3 4 5"),
            ("{.l[1:3]}", "2 3"),
            ("{.l[::2]}", "1 3 5"),
            ("{.l[-1]}", "5"),
            ("{.l[0,2]}", "1 3"),
            ("{.em[*]}", ""),
            ("{.nosuch}", ""),
            ("{.i.x}", ""),
            ("{.l.x}", ""),
            (
                "{.l[9]}",
                "eval: array index out of bounds: index 9, length 5",
            ),
            (
                "{.l[-9]}",
                "eval: array index out of bounds: index -4, length 5",
            ),
            (
                "{.l[4:9]}",
                "eval: array index out of bounds: index 8, length 5",
            ),
            (
                "{.l[2:1]}",
                "eval: starting index 2 is greater than ending index 1",
            ),
            ("{.l[::-1]}", "eval: step must be > 0"),
            ("{.lo[*].n}", "a b c"),
            ("{..n}", "a b c"),
            ("{.lo[0:2].n}", "a b"),
            ("{.lo[?(@.v>1)].n}", "b c"),
            ("{.lo[?(@.n==\"b\")].v}", "2"),
            ("{.lo[?(@.d)].n}", "c"),
            ("{.lo[?(2<@.v)].n}", "c"),
            (
                "{.lo[?(@.v>='2')]}",
                "eval: incompatible types for comparison",
            ),
            ("{range .lo[*]}{.n}={.v}{\"\\n\"}{end}", "a=1\nb=2\nc=3\n"),
            ("{range .lo[*]}{.n}", "abc"),
            ("{end}", "parse: not in range, nothing to end"),
            ("{.m.*}", "x 1"),
            (r"{.metadata.labels.app\.kubernetes\.io/name}", "web"),
            (r"{.metadata.labels['app\.kubernetes\.io/name']}", "web"),
            ("{.lo[0][\"n\"]}", "parse: invalid array index \"n\""),
            ("{i}", "parse: unrecognized identifier i"),
            (".i", ".i"),
            ("a {.i} b{\"{\"}", "a 3 b{"),
            ("{.l", "parse: unclosed action"),
            (
                "{.lo[?(@.v>1 && @.v<3)]}",
                "parse: unrecognized character in action: U+0026 '&'",
            ),
        ] {
            assert_eq!(print(template), printed, "{template}");
        }
    }

    #[test]
    fn flags_take_paths_in_any_dress() {
        for dress in ["i", ".i", "{.i}", "{i}"] {
            let template = Template::parse_relaxed(dress).expect("parses");
            assert_eq!(template.print(&sample(), false).expect("prints"), "3");
        }
    }

    #[test]
    fn missing_keys_can_be_errors() {
        let template = Template::parse("{.nosuch}").expect("parses");
        assert_eq!(
            template
                .print(&sample(), true)
                .expect_err("fails")
                .to_string(),
            "nosuch is not found"
        );
        let partly = Template::parse("{.lo[*].d.e}").expect("parses");
        assert_eq!(partly.print(&sample(), true).expect("one has it"), "f");
    }
}
