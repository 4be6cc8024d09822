//! Arguments of verbs for workloads: `rollout` and `scale`.

use clap::{Args, Subcommand};

use super::write::{FileArgs, WriteArgs};

/// `carob rollout`
#[derive(Debug, Clone, Subcommand)]
pub enum RolloutCommand {
    /// Show how a rollout goes, until it is done
    Status(RolloutStatusArgs),
    /// Show earlier revisions
    History(RolloutHistoryArgs),
    /// Go back to an earlier revision
    Undo(RolloutUndoArgs),
    /// Replace every Pod by a new one
    Restart(RolloutChangeArgs),
    /// Let changes wait
    Pause(RolloutChangeArgs),
    /// Carry changes out again
    Resume(RolloutChangeArgs),
}

/// The workloads a verb is about.
#[derive(Debug, Clone, Args)]
pub struct WorkloadArgs {
    /// TYPE NAME... or TYPE/NAME...
    #[arg(value_name = "TYPE")]
    pub words: Vec<String>,
    /// What these files name.
    #[command(flatten)]
    pub files: FileArgs,
    /// Only objects with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub selector: Option<String>,
}

/// `carob rollout status`
#[derive(Debug, Clone, Args)]
pub struct RolloutStatusArgs {
    /// Which workloads.
    #[command(flatten)]
    pub workloads: WorkloadArgs,
    /// Go on until the rollout is done
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = true, action = clap::ArgAction::Set)]
    pub watch: bool,
    /// Fail unless this revision is rolled out; 0 is the latest
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 0,
        allow_hyphen_values = true
    )]
    pub revision: i64,
    /// How long to wait; 0 is for ever
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "0s",
        allow_hyphen_values = true
    )]
    pub timeout: String,
}

/// `carob rollout history`
#[derive(Debug, Clone, Args)]
pub struct RolloutHistoryArgs {
    /// Which workloads.
    #[command(flatten)]
    pub workloads: WorkloadArgs,
    /// Show the Pods' template of this revision
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 0,
        allow_hyphen_values = true
    )]
    pub revision: i64,
    /// Form of the output: name, json, yaml, jsonpath=...
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<String>,
}

/// `carob rollout undo`
#[derive(Debug, Clone, Args)]
pub struct RolloutUndoArgs {
    /// Which workloads.
    #[command(flatten)]
    pub workloads: WorkloadArgs,
    /// The revision to go back to; 0 is the one before this
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 0,
        allow_hyphen_values = true
    )]
    pub to_revision: i64,
    /// Form of the output: name, json, yaml, jsonpath=...
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<String>,
    /// Do not write: client only shows, server checks too
    #[arg(long, value_name = "WHO", num_args = 0..=1, require_equals = true, default_missing_value = "client", default_value = "none", value_parser = ["none", "client", "server"])]
    pub dry_run: String,
}

/// `carob rollout restart`, `pause`, `resume`
#[derive(Debug, Clone, Args)]
pub struct RolloutChangeArgs {
    /// Which workloads.
    #[command(flatten)]
    pub workloads: WorkloadArgs,
    /// Form of the output: name, json, yaml, jsonpath=...
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<String>,
    /// Name to own the fields under
    #[arg(long, value_name = "NAME")]
    pub field_manager: Option<String>,
}

/// `carob scale`
#[derive(Debug, Clone, Args)]
pub struct ScaleArgs {
    /// Which workloads.
    #[command(flatten)]
    pub workloads: WorkloadArgs,
    /// All objects of the type
    #[arg(long)]
    pub all: bool,
    /// How many Pods there are to be
    #[arg(long, value_name = "COUNT", allow_hyphen_values = true)]
    pub replicas: Option<i64>,
    /// Only if so many are wanted now; -1 is any number
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = -1,
        allow_hyphen_values = true
    )]
    pub current_replicas: i64,
    /// Only if the object is at this version
    #[arg(long, value_name = "VERSION")]
    pub resource_version: Option<String>,
    /// How long to wait until there are so many; 0 does not wait
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    pub timeout: String,
    /// How to write and what to print.
    #[command(flatten)]
    pub write: WriteArgs,
}
