//! Label and field selectors (spec kubectl-and-api §6).

mod field_selector;
mod label;
mod parse;

pub use field_selector::{FieldSelector, FieldTerm, UnsupportedField};
pub use label::{Labels, Operator, Requirement, Selector, SelectorError};
