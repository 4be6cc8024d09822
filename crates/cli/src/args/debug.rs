//! Arguments of `carob debug` and `carob retry`.

use clap::{Args, Subcommand};

use super::FileArgs;

/// `carob debug`
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct DebugArgs {
    /// What to do instead of beginning to debug.
    #[command(subcommand)]
    pub other: Option<DebugCommand>,
    /// POD or TYPE/NAME, of Pods and Nodes
    #[arg(value_name = "POD")]
    pub words: Vec<String>,
    /// Debug what these files name.
    #[command(flatten)]
    pub files: FileArgs,
    /// Pass everything after -- as arguments instead of command
    #[arg(long)]
    pub arguments_only: bool,
    /// Attach once the container runs; by default only with -i
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub attach: Option<bool>,
    /// Name of the debug container
    #[arg(short, long, value_name = "NAME")]
    pub container: Option<String>,
    /// Debug a copy of the Pod, of this name
    #[arg(long, value_name = "NAME")]
    pub copy_to: Option<String>,
    /// Delete the original (with --copy-to)
    #[arg(long)]
    pub replace: bool,
    /// Variables for the container
    #[arg(long, value_name = "KEY=VALUE", value_delimiter = ',')]
    pub env: Vec<String>,
    /// Image of the debug container
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// When to pull it: Always, IfNotPresent, Never
    #[arg(long, value_name = "POLICY")]
    pub image_pull_policy: Option<String>,
    /// Keep the Pod's labels (with --copy-to)
    #[arg(long)]
    pub keep_labels: bool,
    /// Keep the Pod's annotations (with --copy-to)
    #[arg(long)]
    pub keep_annotations: bool,
    /// Keep liveness probes (with --copy-to)
    #[arg(long)]
    pub keep_liveness: bool,
    /// Keep readiness probes (with --copy-to)
    #[arg(long)]
    pub keep_readiness: bool,
    /// Keep startup probes (with --copy-to)
    #[arg(long)]
    pub keep_startup: bool,
    /// Run the init containers (with --copy-to)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = true, action = clap::ArgAction::Set)]
    pub keep_init_containers: bool,
    /// Other images for containers, * for all (with --copy-to)
    #[arg(long, value_name = "NAME=IMAGE", value_delimiter = ',')]
    pub set_image: Vec<String>,
    /// Keep standard input open
    #[arg(short = 'i', long)]
    pub stdin: bool,
    /// Give the container a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Say nothing but what the container says
    #[arg(short, long)]
    pub quiet: bool,
    /// Put the copy on the same node (with --copy-to)
    #[arg(long)]
    pub same_node: bool,
    /// Containers of the copy see each other's processes (with --copy-to); they do by most profiles
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub share_processes: Option<bool>,
    /// Container whose processes are to be seen
    #[arg(long, value_name = "NAME")]
    pub target: Option<String>,
    /// What the container may do: general, baseline, restricted, netadmin, sysadmin, legacy
    #[arg(long, value_name = "NAME", default_value = "general")]
    pub profile: String,
    /// JSON or YAML of a part of a container, to be merged into what the profile makes
    #[arg(long, value_name = "FILE")]
    pub custom: Option<String>,
    /// The command and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// What else can be done about debug containers.
#[derive(Debug, Clone, Subcommand)]
pub enum DebugCommand {
    /// End an ephemeral container; its record stays in the Pod
    Rm {
        /// POD or TYPE/NAME
        #[arg(value_name = "POD")]
        pod: String,
        /// The ephemeral container
        #[arg(value_name = "CONTAINER")]
        container: String,
        /// Wait until it has ended
        #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = true, action = clap::ArgAction::Set)]
        wait: bool,
    },
}

/// `carob retry`
#[derive(Debug, Clone, Args)]
pub struct RetryArgs {
    /// POD or TYPE/NAME
    #[arg(value_name = "POD")]
    pub pod: String,
    /// The container to try again; all if none is named
    #[arg(short, long, value_name = "NAME")]
    pub container: Option<String>,
}
