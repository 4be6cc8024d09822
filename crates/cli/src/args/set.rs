//! Arguments of `set` and `expose`.

use clap::{Args, Subcommand};

use super::write::{FileArgs, WriteArgs};

/// `carob set`
#[derive(Debug, Clone, Subcommand)]
pub enum SetCommand {
    /// Change images of containers
    Image(SetImageArgs),
    /// Set, remove or list environment variables of containers
    Env(SetEnvArgs),
}

/// `carob set image`
#[derive(Debug, Clone, Args)]
pub struct SetImageArgs {
    /// TYPE NAME... or TYPE/NAME..., then CONTAINER=IMAGE; * is every container
    #[arg(value_name = "WORD")]
    pub words: Vec<String>,
    /// Which objects.
    #[command(flatten)]
    pub objects: SetArgs,
}

/// `carob set env`
#[derive(Debug, Clone, Args)]
pub struct SetEnvArgs {
    /// TYPE NAME... or TYPE/NAME..., then KEY=VALUE to set and KEY- to remove
    #[arg(value_name = "WORD")]
    pub words: Vec<String>,
    /// Which objects.
    #[command(flatten)]
    pub objects: SetArgs,
    /// A variable and its value
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub env: Vec<String>,
    /// Containers to change; * stands for any letters
    #[arg(short, long, value_name = "PATTERN", default_value = "*")]
    pub containers: String,
    /// Show the variables as they are and would be
    #[arg(long)]
    pub list: bool,
    /// Replace values that are there
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = true, action = clap::ArgAction::Set)]
    pub overwrite: bool,
}

/// Which objects `set` changes, and how.
#[derive(Debug, Clone, Args)]
pub struct SetArgs {
    /// What these files name.
    #[command(flatten)]
    pub files: FileArgs,
    /// Only objects with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub selector: Option<String>,
    /// All objects of the type
    #[arg(long)]
    pub all: bool,
    /// How to write and what to print.
    #[command(flatten)]
    pub write: WriteArgs,
}

/// `carob expose`
#[derive(Debug, Clone, Args)]
pub struct ExposeArgs {
    /// TYPE NAME or TYPE/NAME
    #[arg(value_name = "TYPE")]
    pub words: Vec<String>,
    /// What these files name.
    #[command(flatten)]
    pub files: FileArgs,
    /// Name of the Service; the object's own if not given
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Port of the Service; the containers' if not given
    #[arg(long, value_name = "PORT")]
    pub port: Option<String>,
    /// Number or name of the containers' port
    #[arg(long, value_name = "PORT")]
    pub target_port: Option<String>,
    /// TCP, UDP or SCTP
    #[arg(long, value_name = "PROTOCOL")]
    pub protocol: Option<String>,
    /// ClusterIP, NodePort, LoadBalancer or ExternalName
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<String>,
    /// Labels of the Pods behind it; the object's selector if not given
    #[arg(long, value_name = "KEY=VALUE")]
    pub selector: Option<String>,
    /// Labels of the Service; the object's if not given
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub labels: Option<String>,
    /// An address of the node to serve at, too
    #[arg(long, value_name = "ADDRESS")]
    pub external_ip: Option<String>,
    /// None or ClientIP
    #[arg(long, value_name = "HOW")]
    pub session_affinity: Option<String>,
    /// Its address; None makes it headless
    #[arg(long, value_name = "ADDRESS")]
    pub cluster_ip: Option<String>,
    /// How to write and what to print.
    #[command(flatten)]
    pub write: WriteArgs,
}
