//! The words of the Kubernetes API: quantities, selectors, statuses, names, and later patches, tables and the schema behind them.
//!
//! Pure: no tokio, files or clock. Wire behaviour (texts, canonical forms) is upstream's at version 1.36.

pub mod amount;
pub mod apply;
pub mod asks;
pub mod cron;
pub mod discovery;
pub mod duration;
pub mod field;
pub mod fit;
pub mod gotext;
pub mod gvk;
pub mod names;
pub mod openapi;
pub mod owner;
pub mod patch;
pub mod pod;
pub mod protobuf;
pub mod quantity;
pub mod query;
pub mod resource;
pub mod schema;
pub mod selector;
pub mod status;
pub mod storage;
pub mod table;
pub mod time;
pub mod validate;
pub mod yaml;
