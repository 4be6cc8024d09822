//! What can be typed. Flags stand where kubectl has them, under the same names.

mod create;
mod debug;
mod image;
mod inspect;
mod plan;
mod play;
mod rollout;
mod set;
mod write;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use self::create::{CreateCronJobArgs, CreateDeploymentArgs, CreateJobArgs, CreateQuotaArgs};
pub use self::debug::{DebugArgs, DebugCommand, RetryArgs};
pub use self::image::{
    ImageCommand, ImageImportArgs, ImageLoadArgs, ImageLsArgs, ImagePruneArgs, ImagePullArgs,
    ImageRmArgs, ImageSaveArgs, ImageTagArgs,
};
pub use self::inspect::{
    ApiResourcesArgs, AttachArgs, ConfigCommand, CpArgs, DescribeArgs, EventsArgs, ExecArgs,
    GetArgs, KubeconfigArgs, LogsArgs, PortForwardArgs, TopArgs, TopCommand, VersionArgs, WaitArgs,
};
pub use self::plan::PlanArgs;
pub use self::play::PlayArgs;
pub use self::rollout::{
    RolloutChangeArgs, RolloutCommand, RolloutHistoryArgs, RolloutStatusArgs, RolloutUndoArgs,
    ScaleArgs, WorkloadArgs,
};
pub use self::set::{ExposeArgs, SetCommand, SetEnvArgs, SetImageArgs};
pub use self::write::{
    ApplyArgs, CreateArgs, CreateCommand, CreateConfigMapArgs, CreateNamedArgs,
    CreatePriorityClassArgs, CreateSecretArgs, CreateSecretCommand, DeleteArgs, FileArgs,
    MetadataArgs, PatchArgs, WriteArgs,
};

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
#[expect(clippy::large_enum_variant, reason = "there is one, made once")]
pub enum Command {
    /// Start the engine
    Up(UpArgs),
    /// Run Pods of an engine elsewhere on this machine: a node of the cluster that --kubeconfig leads to
    Node(NodeArgs),
    /// Stop the engine, or the node; containers go on
    Down(DownArgs),
    /// Pull, list, load, save and remove images
    #[command(subcommand)]
    Image(ImageCommand),
    /// A verb that talks to the server
    #[command(flatten)]
    Verb(Verb),
}

/// Verbs that talk to a running engine, or to any other Kubernetes server.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show resources
    Get(GetArgs),
    /// Show a resource in detail, with its events
    Describe(DescribeArgs),
    /// Run what files describe in the foreground
    Play(PlayArgs),
    /// Predict what becomes of Pods, without an engine
    Plan(PlanArgs),
    /// Make resources be as files say
    Apply(ApplyArgs),
    /// Make resources from files or flags
    Create(CreateArgs),
    /// Delete resources
    Delete(DeleteArgs),
    /// Print the logs of containers
    Logs(LogsArgs),
    /// Run a command in a container
    Exec(ExecArgs),
    /// Attach to a running container
    Attach(AttachArgs),
    /// Look into a Pod or Node with a container of one's own
    Debug(DebugArgs),
    /// Try again at once what failed in a Pod
    Retry(RetryArgs),
    /// Copy files to and from containers
    Cp(CpArgs),
    /// Make ports of a Pod reachable here
    PortForward(PortForwardArgs),
    /// Change fields of a resource
    Patch(PatchArgs),
    /// Set or remove labels
    Label(MetadataArgs),
    /// Set or remove annotations
    Annotate(MetadataArgs),
    /// Follow, undo, restart and pause rollouts of workloads
    #[command(subcommand)]
    Rollout(RolloutCommand),
    /// Change images and variables of containers
    #[command(subcommand)]
    Set(SetCommand),
    /// Put a Service before Pods
    Expose(ExposeArgs),
    /// Set how many Pods a workload has
    Scale(ScaleArgs),
    /// Wait until resources are in a state
    Wait(WaitArgs),
    /// Show events
    Events(EventsArgs),
    /// Show what Pods or nodes use
    #[command(subcommand)]
    Top(TopCommand),
    /// List the types of resources the server has
    ApiResources(ApiResourcesArgs),
    /// Show the versions of client and server
    Version(VersionArgs),
    /// Look at the kubeconfig
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print the engine's kubeconfig, or merge it into one's own
    Kubeconfig(KubeconfigArgs),
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
    /// What every node is told.
    #[command(flatten)]
    pub agent: AgentArgs,
}

/// `carob node`
#[derive(Debug, Clone, Args)]
pub struct NodeArgs {
    /// Go to the background, and return when the node is Ready
    #[arg(short, long)]
    pub detach: bool,
    /// Port at which the API server reaches the node; 0 is the kernel's choice
    #[arg(long, value_name = "PORT")]
    pub kubelet_port: Option<u16>,
    /// What every node is told.
    #[command(flatten)]
    pub agent: AgentArgs,
}

/// Flags of whoever runs Pods.
#[derive(Debug, Clone, Default, Args)]
pub struct AgentArgs {
    /// Have network plugins (CNI) wire Pods, as configured in this directory
    #[arg(long, value_name = "DIR")]
    pub cni_conf_dir: Option<PathBuf>,
    /// Where network plugins are; several directories are separated by colons
    #[arg(long, value_name = "DIR")]
    pub cni_bin_dir: Option<String>,
    /// Directory of manifests of static Pods, which the node runs by itself
    #[arg(long, value_name = "DIR")]
    pub pod_manifest_path: Option<PathBuf>,
}

/// `carob down`
#[derive(Debug, Clone, Args)]
pub struct DownArgs {
    /// Stop the containers too, and remove network, mounts and cgroups
    #[arg(long)]
    pub all: bool,
}
