//! Walking a path through a value.

use std::cmp::Ordering;

use serde_json::Value;

use super::{Filter, Operand, Operator, Step};

/// A path that cannot be walked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EvalError {
    OutOfBounds { index: i64, length: usize },
    Reversed { start: i64, end: i64 },
    Step,
    Comparison,
    Missing(String),
    NotAList(&'static str),
}

impl std::fmt::Display for EvalError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            EvalError::OutOfBounds { index, length } => write!(
                f,
                "array index out of bounds: index {index}, length {length}"
            ),
            EvalError::Reversed { start, end } => write!(
                f,
                "starting index {start} is greater than ending index {end}"
            ),
            EvalError::Step => write!(f, "step must be > 0"),
            EvalError::Comparison => write!(f, "incompatible types for comparison"),
            EvalError::Missing(name) => write!(f, "{name} is not found"),
            EvalError::NotAList(kind) => write!(f, "{kind} is not array or slice"),
        }
    }
}

impl std::error::Error for EvalError {}

/// The values a path leads to. With `strict`, a name that no value has is an error.
pub(super) fn walk<'v>(
    path: &[Step],
    from: &'v Value,
    strict: bool,
) -> Result<Vec<&'v Value>, EvalError> {
    let mut current = vec![from];
    for step in path {
        let mut next = Vec::new();
        for value in &current {
            take(step, value, &mut next)?;
        }
        if let (true, true, Step::Names(names)) =
            (strict, next.is_empty() && !current.is_empty(), step)
        {
            return Err(EvalError::Missing(names.join(",")));
        }
        current = next;
    }
    Ok(current)
}

fn take<'v>(step: &Step, value: &'v Value, next: &mut Vec<&'v Value>) -> Result<(), EvalError> {
    match step {
        Step::Names(names) => {
            next.extend(names.iter().filter_map(|name| value.as_object()?.get(name)))
        }
        Step::Wildcard => next.extend(children(value)),
        Step::Recursive(name) => descend(value, name.as_deref(), next),
        Step::Indices(indices) => {
            for index in indices {
                let Some(list) = list(value)? else { continue };
                next.push(&list[place(*index, list.len())?]);
            }
        }
        Step::Slice { start, end, step } => slice(value, (*start, *end, *step), next)?,
        Step::Filter(filter) => {
            for child in children(value) {
                if passes(filter, child)? {
                    next.push(child);
                }
            }
        }
    }
    Ok(())
}

fn children(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match value {
        Value::Array(items) => Box::new(items.iter()),
        Value::Object(fields) => Box::new(fields.values()),
        _ => Box::new(std::iter::empty()),
    }
}

fn descend<'v>(value: &'v Value, name: Option<&str>, next: &mut Vec<&'v Value>) {
    match name {
        Some(name) => next.extend(value.as_object().and_then(|fields| fields.get(name))),
        None => next.extend(children(value)),
    }
    for child in children(value) {
        descend(child, name, next);
    }
}

/// The list behind an index; nothing for null, an error for what can never be indexed.
fn list(value: &Value) -> Result<Option<&Vec<Value>>, EvalError> {
    match value {
        Value::Array(items) => Ok(Some(items)),
        Value::Null => Ok(None),
        Value::Object(_) => Err(EvalError::NotAList("map[string]interface {}")),
        Value::String(_) => Err(EvalError::NotAList("string")),
        Value::Bool(_) => Err(EvalError::NotAList("bool")),
        Value::Number(_) => Err(EvalError::NotAList("number")),
    }
}

fn place(index: i64, length: usize) -> Result<usize, EvalError> {
    let counted = if index < 0 {
        index + length as i64
    } else {
        index
    };
    usize::try_from(counted)
        .ok()
        .filter(|at| *at < length)
        .ok_or(EvalError::OutOfBounds {
            index: counted,
            length,
        })
}

fn slice<'v>(
    value: &'v Value,
    (start, end, step): (Option<i64>, Option<i64>, Option<i64>),
    next: &mut Vec<&'v Value>,
) -> Result<(), EvalError> {
    let Some(list) = list(value)? else {
        return Ok(());
    };
    let length = list.len() as i64;
    let absolute = |index: i64| if index < 0 { index + length } else { index };
    let (start, end) = (
        absolute(start.unwrap_or(0)),
        absolute(end.unwrap_or(length)),
    );
    let step = usize::try_from(step.unwrap_or(1))
        .ok()
        .filter(|step| *step > 0)
        .ok_or(EvalError::Step)?;
    if start > end {
        return Err(EvalError::Reversed { start, end });
    }
    if start == end {
        return Ok(());
    }
    let first = place(start, list.len())?;
    let last = place(end - 1, list.len())?;
    next.extend(list[first..=last].iter().step_by(step));
    Ok(())
}

fn passes(filter: &Filter, item: &Value) -> Result<bool, EvalError> {
    let left = operand(&filter.left, item)?;
    let Some((operator, right)) = &filter.test else {
        return Ok(left.is_some());
    };
    let (Some(left), Some(right)) = (left, operand(right, item)?) else {
        return Ok(false);
    };
    let order = compare(left, right)?;
    Ok(match operator {
        Operator::Equal => order == Ordering::Equal,
        Operator::NotEqual => order != Ordering::Equal,
        Operator::Less => order == Ordering::Less,
        Operator::LessOrEqual => order != Ordering::Greater,
        Operator::Greater => order == Ordering::Greater,
        Operator::GreaterOrEqual => order != Ordering::Less,
    })
}

fn operand<'v>(operand: &'v Operand, item: &'v Value) -> Result<Option<&'v Value>, EvalError> {
    match operand {
        Operand::Literal(value) => Ok(Some(value)),
        Operand::Path(path) => Ok(walk(path, item, false)?.first().copied()),
    }
}

fn compare(left: &Value, right: &Value) -> Result<Ordering, EvalError> {
    match (left, right) {
        (Value::String(left), Value::String(right)) => Ok(left.cmp(right)),
        (Value::Bool(left), Value::Bool(right)) => Ok(left.cmp(right)),
        (Value::Number(left), Value::Number(right)) => left
            .as_f64()
            .partial_cmp(&right.as_f64())
            .ok_or(EvalError::Comparison),
        _ => Err(EvalError::Comparison),
    }
}
