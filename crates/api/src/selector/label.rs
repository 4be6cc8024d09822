//! Requirements on labels, and where they come from: a string, a `LabelSelector` object or a plain map.

use super::parse;
use crate::field::{self, Error, ErrorList, Path};
use crate::{gotext, names};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;

/// Something with labels.
pub trait Labels {
    /// The value of a label, if it is there.
    fn label(&self, key: &str) -> Option<&str>;
}

impl Labels for BTreeMap<String, String> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

impl Labels for serde_json::Map<String, Value> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_str)
    }
}

impl<L: Labels> Labels for Option<L> {
    fn label(&self, key: &str) -> Option<&str> {
        self.as_ref().and_then(|labels| labels.label(key))
    }
}

impl<L: Labels + ?Sized> Labels for &L {
    fn label(&self, key: &str) -> Option<&str> {
        (**self).label(key)
    }
}

/// What a requirement asks of a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `k=v`
    Equals,
    /// `k==v`
    DoubleEquals,
    /// `k!=v`; also true without the label.
    NotEquals,
    /// `k in (a,b)`
    In,
    /// `k notin (a,b)`; also true without the label.
    NotIn,
    /// `k`
    Exists,
    /// `!k`
    DoesNotExist,
    /// `k>1`
    GreaterThan,
    /// `k<1`
    LessThan,
}

/// Why a selector is refused. The text is upstream's; the server sends it with 400.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// The string does not parse.
    #[error("{0}")]
    Syntax(String),
    /// A part of the string parses but is not allowed.
    #[error("unable to parse requirement: {0}")]
    Requirement(String),
    /// A requirement of an object is not allowed.
    #[error("{0}")]
    Invalid(String),
    /// An operator other than In, NotIn, Exists, DoesNotExist.
    #[error("{} is not a valid label selector operator", gotext::quote(.0))]
    Operator(String),
}

/// One requirement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    key: String,
    operator: Operator,
    values: Vec<String>,
}

impl Requirement {
    /// Checks key and values as upstream does; paths in the errors begin at the requirement (`key`, `values[0]`).
    pub fn new(
        key: impl Into<String>,
        operator: Operator,
        values: Vec<String>,
    ) -> Result<Self, ErrorList> {
        let key = key.into();
        let mut errors = ErrorList::new();
        let wrong_key = names::qualified_name(&key);
        if !wrong_key.is_empty() {
            errors.push(Error::invalid(
                &Path::new("key"),
                key.as_str(),
                wrong_key.join("; "),
            ));
        }
        check_values(&key, operator, &values, &mut errors);
        if errors.is_empty() {
            Ok(Self {
                key,
                operator,
                values,
            })
        } else {
            Err(errors)
        }
    }

    /// The label's key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What is asked.
    pub fn operator(&self) -> Operator {
        self.operator
    }

    /// The values it is compared with.
    pub fn values(&self) -> &[String] {
        &self.values
    }

    /// Whether the labels satisfy it.
    pub fn matches(&self, labels: &impl Labels) -> bool {
        let value = labels.label(&self.key);
        let listed = |v: &str| self.values.iter().any(|mine| mine == v);
        let compare = |v: &str| {
            Some((
                v.parse::<i64>().ok()?,
                self.values.first()?.parse::<i64>().ok()?,
            ))
        };
        match self.operator {
            Operator::Equals | Operator::DoubleEquals | Operator::In => value.is_some_and(listed),
            Operator::NotEquals | Operator::NotIn => !value.is_some_and(listed),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => value
                .and_then(compare)
                .is_some_and(|(theirs, mine)| theirs > mine),
            Operator::LessThan => value
                .and_then(compare)
                .is_some_and(|(theirs, mine)| theirs < mine),
        }
    }
}

fn check_values(key: &str, operator: Operator, values: &[String], errors: &mut ErrorList) {
    let path = Path::new("values");
    let mut refuse = |detail: &str| errors.push(Error::invalid(&path, values.to_vec(), detail));
    match operator {
        Operator::In | Operator::NotIn if values.is_empty() => {
            refuse("for 'in', 'notin' operators, values set can't be empty")
        }
        Operator::Equals | Operator::DoubleEquals | Operator::NotEquals if values.len() != 1 => {
            refuse("exact-match compatibility requires one single value");
        }
        Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
            refuse("values set must be empty for exists and does not exist");
        }
        Operator::GreaterThan | Operator::LessThan if values.len() != 1 => {
            refuse("for 'Gt', 'Lt' operators, exactly one value is required");
        }
        _ => {}
    }
    let numeric = matches!(operator, Operator::GreaterThan | Operator::LessThan);
    for (i, value) in values
        .iter()
        .enumerate()
        .filter(|(_, v)| numeric && v.parse::<i64>().is_err())
    {
        let detail = "for 'Gt', 'Lt' operators, the value must be an integer";
        errors.push(Error::invalid(&path.index(i), value.as_str(), detail));
    }
    for (i, value) in values.iter().enumerate() {
        let wrong = names::label_value(value);
        if !wrong.is_empty() {
            errors.push(Error::invalid(
                &path.index(i).key(key),
                value.as_str(),
                wrong.join("; "),
            ));
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        let mut values = self.values.clone();
        values.sort();
        let values = values.join(",");
        match self.operator {
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::DoubleEquals => write!(f, "{key}=={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

/// All requirements together; without any it selects everything. Prints as `?labelSelector=` takes it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector {
    requirements: Vec<Requirement>,
    nothing: bool,
}

impl Selector {
    /// Selects every object.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Selects no object.
    pub fn nothing() -> Self {
        Self {
            requirements: Vec::new(),
            nothing: true,
        }
    }

    /// Reads `?labelSelector=`; empty selects everything.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        parse::parse(text).map(Self::from_requirements)
    }

    /// From requirements, which are put in order of their keys.
    pub fn from_requirements(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Self {
            requirements,
            nothing: false,
        }
    }

    /// From a map such as a Service's selector, unchecked; empty selects everything.
    pub fn from_map<'a>(labels: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        let requirements = labels.into_iter().map(|(key, value)| Requirement {
            key: key.clone(),
            operator: Operator::Equals,
            values: vec![value.clone()],
        });
        Self::from_requirements(requirements.collect())
    }

    /// From the object form; `None` selects nothing, `{}` everything.
    pub fn from_object(selector: Option<&LabelSelector>) -> Result<Self, SelectorError> {
        let Some(selector) = selector else {
            return Ok(Self::nothing());
        };
        let refuse = |errors: ErrorList| SelectorError::Invalid(field::aggregate(&errors));
        let mut requirements = Vec::new();
        for (key, value) in selector.match_labels.iter().flatten() {
            requirements.push(
                Requirement::new(key, Operator::Equals, vec![value.clone()]).map_err(refuse)?,
            );
        }
        for expression in selector.match_expressions.iter().flatten() {
            let operator = match expression.operator.as_str() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => return Err(SelectorError::Operator(other.to_owned())),
            };
            let values = expression.values.clone().unwrap_or_default();
            requirements.push(Requirement::new(&expression.key, operator, values).map_err(refuse)?);
        }
        Ok(Self::from_requirements(requirements))
    }

    /// As [`Selector::from_object`], of what stands in an object.
    pub fn from_value(selector: &Value) -> Result<Self, SelectorError> {
        let read = Option::<LabelSelector>::deserialize(selector);
        let read = read.map_err(|why| SelectorError::Syntax(why.to_string()))?;
        Self::from_object(read.as_ref())
    }

    /// From a map of labels as it stands in an object, such as a ReplicationController's selector; `None` selects everything.
    pub fn from_labels(labels: &Value) -> Result<Self, SelectorError> {
        let read = Option::<BTreeMap<String, String>>::deserialize(labels);
        let read = read.map_err(|why| SelectorError::Syntax(why.to_string()))?;
        Ok(Self::from_map(read.iter().flatten()))
    }

    /// Whether it selects an object with these labels.
    pub fn matches(&self, labels: &impl Labels) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.matches(labels))
    }

    /// Whether it selects everything.
    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    /// What it asks, in order of the keys.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.requirements.iter().enumerate() {
            write!(f, "{}{requirement}", if i > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn matching() {
        let web = labels(&[("app", "web"), ("n", "7")]);
        for (text, expected) in [
            ("", true),
            ("app=web", true),
            ("app==web", true),
            ("app!=web", false),
            ("tier!=x", true),
            ("app in (a,web)", true),
            ("app notin (a,b)", true),
            ("tier notin (a)", true),
            ("app", true),
            ("!app", false),
            ("!tier", true),
            ("n>6", true),
            ("n<7", false),
            ("app>1", false),
            ("app=web,n=8", false),
            ("tier=", false),
            ("app=web , n in (7)", true),
        ] {
            assert_eq!(
                Selector::parse(text).unwrap().matches(&web),
                expected,
                "{text:?}"
            );
        }
    }

    #[test]
    fn object_form() {
        let from =
            |value| Selector::from_object(Some(&from_value::<LabelSelector>(value).unwrap()));
        assert!(!Selector::from_object(None).unwrap().matches(&labels(&[])));
        assert!(from(json!({})).unwrap().is_everything());
        let selector = from(json!({"matchLabels": {"b": "1"}, "matchExpressions": [
            {"key": "a", "operator": "In", "values": ["y", "x"]}, {"key": "c", "operator": "DoesNotExist"}]}));
        assert_eq!(selector.unwrap().to_string(), "a in (x,y),b=1,!c");
        let error =
            from(json!({"matchExpressions": [{"key": "a", "operator": "Near"}]})).unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"Near\" is not a valid label selector operator"
        );
        let error =
            from(json!({"matchExpressions": [{"key": "a", "operator": "In"}]})).unwrap_err();
        assert_eq!(
            error.to_string(),
            "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty"
        );
    }

    #[test]
    fn map_form() {
        assert_eq!(
            Selector::from_map(&labels(&[("b", "2"), ("a", "1")])).to_string(),
            "a=1,b=2"
        );
    }
}
