//! Tables of single decisions, and properties of whole lives before a small model of the API.

mod api;
mod properties;
mod tables;
