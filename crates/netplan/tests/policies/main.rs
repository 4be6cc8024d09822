//! Who may reach whom: plans judged by tables, and against the words of the documentation.

mod naive;
mod plan;
mod properties;
mod tables;
