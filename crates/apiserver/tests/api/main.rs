//! The API server on a real store: in process, and once over HTTPS.

mod apply;
mod autoscaling;
mod certificates;
mod dependents;
mod evictions;
mod https;
mod names;
mod networking;
mod nodes;
mod objects;
mod pods;
mod podsecurity;
mod priorities;
mod proxy;
mod quotas;
mod reviews;
mod services;
mod storage;
mod support;
mod watches;
mod workloads;
mod yaml;
