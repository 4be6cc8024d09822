//! What can be typed.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Kubernetes Pods on one Linux machine.
#[derive(Debug, Parser)]
#[command(name = "carob", version, disable_help_subcommand = true)]
pub struct Cli {
    /// Flags of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command.
#[derive(Debug, Clone, Default, Args)]
pub struct Global {
    /// Keep everything below DIR (state, run, config.yaml, certs.d, kubeconfig) instead of the system's places
    #[arg(long, global = true, value_name = "DIR", env = "CAROB_ROOT")]
    pub root: Option<PathBuf>,
    /// Path of the kubeconfig file to use
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Name of the kubeconfig context to use
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// Namespace to work in
    #[arg(short, long, global = true, value_name = "NAME")]
    pub namespace: Option<String>,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start the engine
    Up(UpArgs),
    /// Stop the engine; containers go on
    Down(DownArgs),
    /// A verb that talks to the server
    #[command(flatten)]
    Verb(Verb),
}

/// Verbs that talk to a running engine, or to any other Kubernetes server.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show resources
    Get(GetArgs),
}

/// `carob get`
#[derive(Debug, Clone, Args)]
pub struct GetArgs {
    /// TYPE [NAME...] or TYPE/NAME...
    #[arg(value_name = "TYPE")]
    pub words: Vec<String>,
    /// Look in all namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Only objects with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub selector: Option<String>,
    /// Only objects with these fields
    #[arg(long, value_name = "SELECTOR")]
    pub field_selector: Option<String>,
    /// Form of the output: wide, json, yaml, name, jsonpath=..., custom-columns=...
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<String>,
    /// Go on and show changes
    #[arg(short, long)]
    pub watch: bool,
    /// Show changes only
    #[arg(long)]
    pub watch_only: bool,
    /// Leave the headers out
    #[arg(long)]
    pub no_headers: bool,
    /// Prefix names with their kind
    #[arg(long)]
    pub show_kind: bool,
    /// Show labels in a last column
    #[arg(long)]
    pub show_labels: bool,
    /// Show these labels in columns of their own
    #[arg(short = 'L', long, value_name = "KEY", value_delimiter = ',')]
    pub label_columns: Vec<String>,
    /// Say nothing about what is not there
    #[arg(long)]
    pub ignore_not_found: bool,
    /// Keep metadata.managedFields
    #[arg(long)]
    pub show_managed_fields: bool,
}

/// `carob up`
#[derive(Debug, Clone, Args)]
pub struct UpArgs {
    /// Go to the background, and return when the node is Ready
    #[arg(short, long)]
    pub detach: bool,
    /// Address of the API; port 0 is the kernel's choice
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<SocketAddr>,
}

/// `carob down`
#[derive(Debug, Clone, Args)]
pub struct DownArgs {
    /// Stop the containers too, and remove network, mounts and cgroups
    #[arg(long)]
    pub all: bool,
}
