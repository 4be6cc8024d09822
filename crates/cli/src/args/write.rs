//! Arguments of verbs that write.

use clap::{Args, Subcommand};

use super::create::{CreateCronJobArgs, CreateDeploymentArgs, CreateJobArgs, CreateQuotaArgs};

/// Files that name objects.
#[derive(Debug, Clone, Default, Args)]
pub struct FileArgs {
    /// File, directory or address with manifests; - is standard input
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    pub filenames: Vec<String>,
    /// Look into directories below
    #[arg(short = 'R', long)]
    pub recursive: bool,
}

/// Flags of every verb that writes.
#[derive(Debug, Clone, Default, Args)]
pub struct WriteArgs {
    /// Form of the output: name, json, yaml, jsonpath=...
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<String>,
    /// Do not write: client only shows, server checks too
    #[arg(long, value_name = "WHO", num_args = 0..=1, require_equals = true, default_missing_value = "client", default_value = "none", value_parser = ["none", "client", "server"])]
    pub dry_run: String,
    /// Name to own the fields under
    #[arg(long, value_name = "NAME")]
    pub field_manager: Option<String>,
}

/// `carob apply`
#[derive(Debug, Clone, Args)]
pub struct ApplyArgs {
    /// Files that say what is to be.
    #[command(flatten)]
    pub files: FileArgs,
    /// How to write and what to print.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Only objects with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub selector: Option<String>,
    /// Let the server merge
    #[arg(long)]
    pub server_side: bool,
    /// Take fields over that others own (with --server-side)
    #[arg(long)]
    pub force_conflicts: bool,
    /// Delete and make anew what cannot be changed
    #[arg(long)]
    pub force: bool,
    /// What the server does with unknown fields: strict, warn, ignore
    #[arg(long, value_name = "HOW", num_args = 0..=1, require_equals = true, default_missing_value = "strict", default_value = "strict")]
    pub validate: String,
}

/// `carob create`
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct CreateArgs {
    /// Files with objects.
    #[command(flatten)]
    pub files: FileArgs,
    /// How to write and what to print.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Remember the object for a later apply
    #[arg(long)]
    pub save_config: bool,
    /// What the server does with unknown fields: strict, warn, ignore
    #[arg(long, value_name = "HOW", num_args = 0..=1, require_equals = true, default_missing_value = "strict", default_value = "strict")]
    pub validate: String,
    /// What to make from flags.
    #[command(subcommand)]
    pub command: Option<CreateCommand>,
}

/// Objects made from flags.
#[derive(Debug, Clone, Subcommand)]
pub enum CreateCommand {
    /// A namespace
    #[command(visible_alias = "ns")]
    Namespace(CreateNamedArgs),
    /// A ConfigMap
    #[command(visible_alias = "cm", name = "configmap")]
    ConfigMap(CreateConfigMapArgs),
    /// A Secret
    Secret(CreateSecretArgs),
    /// A ServiceAccount
    #[command(visible_alias = "sa", name = "serviceaccount")]
    ServiceAccount(CreateNamedArgs),
    /// A PriorityClass
    #[command(visible_alias = "pc", name = "priorityclass")]
    PriorityClass(CreatePriorityClassArgs),
    /// A quota: how much a namespace may have of what
    #[command(visible_alias = "resourcequota")]
    Quota(CreateQuotaArgs),
    /// A Deployment
    #[command(visible_alias = "deploy")]
    Deployment(CreateDeploymentArgs),
    /// A Job
    Job(CreateJobArgs),
    /// A CronJob
    #[command(visible_alias = "cj", name = "cronjob")]
    CronJob(CreateCronJobArgs),
}

/// `carob create priorityclass`
#[derive(Debug, Clone, Args)]
pub struct CreatePriorityClassArgs {
    /// Its name
    #[arg(value_name = "NAME")]
    pub name: String,
    /// How important its Pods are
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    pub value: i32,
    /// Whether Pods that name no class are of this one
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set)]
    pub global_default: bool,
    /// When it should be used
    #[arg(long, default_value = "", hide_default_value = true)]
    pub description: String,
    /// Whether its Pods take the place of others: PreemptLowerPriority, Never
    #[arg(long, default_value = "PreemptLowerPriority")]
    pub preemption_policy: String,
    /// How to write and what to print.
    #[command(flatten)]
    pub write: WriteArgs,
}

/// An object that has a name only.
#[derive(Debug, Clone, Args)]
pub struct CreateNamedArgs {
    /// Its name
    #[arg(value_name = "NAME")]
    pub name: String,
    /// How to write and what to print.
    #[command(flatten)]
    pub write: WriteArgs,
}

/// `carob create configmap`, and the data of `carob create secret generic`
#[derive(Debug, Clone, Args)]
pub struct CreateConfigMapArgs {
    /// Its name
    #[arg(value_name = "NAME")]
    pub name: String,
    /// A key and its value
    #[arg(long, value_name = "KEY=VALUE")]
    pub from_literal: Vec<String>,
    /// A file, or every file of a directory; the key is the file's name if none is given
    #[arg(long, value_name = "[KEY=]PATH")]
    pub from_file: Vec<String>,
    /// A file of KEY=VALUE lines
    #[arg(long, value_name = "PATH")]
    pub from_env_file: Vec<String>,
    /// How to write and what to print.
    #[command(flatten)]
    pub write: WriteArgs,
}

/// `carob create secret`
#[derive(Debug, Clone, Args)]
pub struct CreateSecretArgs {
    /// Which kind of Secret.
    #[command(subcommand)]
    pub command: CreateSecretCommand,
}

/// Kinds of Secrets.
#[derive(Debug, Clone, Subcommand)]
pub enum CreateSecretCommand {
    /// Any data
    Generic {
        /// Its data.
        #[command(flatten)]
        data: CreateConfigMapArgs,
        /// Its type
        #[arg(long = "type", value_name = "TYPE")]
        kind: Option<String>,
    },
    /// Credentials for a registry, to be named in a Pod's imagePullSecrets
    DockerRegistry(DockerRegistryArgs),
}

/// `carob create secret docker-registry`
#[derive(Debug, Clone, Args)]
pub struct DockerRegistryArgs {
    /// Name of the new object
    #[arg(value_name = "NAME")]
    pub name: String,
    /// The registry
    #[arg(
        long,
        value_name = "SERVER",
        default_value = "https://index.docker.io/v1/"
    )]
    pub docker_server: String,
    /// User name
    #[arg(long, value_name = "USER")]
    pub docker_username: String,
    /// Password or token
    #[arg(long, value_name = "PASSWORD")]
    pub docker_password: String,
    /// Mail address
    #[arg(long, value_name = "ADDRESS")]
    pub docker_email: Option<String>,
    /// How to write and what to print.
    #[command(flatten)]
    pub write: WriteArgs,
}

/// `carob delete`
#[derive(Debug, Clone, Args)]
pub struct DeleteArgs {
    /// TYPE NAME... or TYPE/NAME...
    #[arg(value_name = "TYPE")]
    pub words: Vec<String>,
    /// What these files name.
    #[command(flatten)]
    pub files: FileArgs,
    /// All objects of the type
    #[arg(long)]
    pub all: bool,
    /// In all namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Only objects with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub selector: Option<String>,
    /// Only objects with these fields
    #[arg(long, value_name = "SELECTOR")]
    pub field_selector: Option<String>,
    /// Seconds for containers to end by themselves; negative is the Pod's own
    #[arg(long, value_name = "SECONDS", default_value_t = -1, allow_hyphen_values = true)]
    pub grace_period: i64,
    /// Signal at once and end after a second
    #[arg(long)]
    pub now: bool,
    /// Do not wait for containers to end
    #[arg(long)]
    pub force: bool,
    /// Say nothing about what is not there
    #[arg(long)]
    pub ignore_not_found: bool,
    /// Wait until the objects are gone
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = true, action = clap::ArgAction::Set)]
    pub wait: bool,
    /// How long to wait; 0 is long
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    pub timeout: String,
    /// What happens to dependents: background, foreground, orphan
    #[arg(long, value_name = "HOW", num_args = 0..=1, require_equals = true, default_missing_value = "background", default_value = "background", value_parser = ["background", "foreground", "orphan"])]
    pub cascade: String,
    /// Form of the output: name
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<String>,
    /// Do not write: client only shows, server checks too
    #[arg(long, value_name = "WHO", num_args = 0..=1, require_equals = true, default_missing_value = "client", default_value = "none", value_parser = ["none", "client", "server"])]
    pub dry_run: String,
}

/// `carob patch`
#[derive(Debug, Clone, Args)]
pub struct PatchArgs {
    /// TYPE NAME... or TYPE/NAME...
    #[arg(value_name = "TYPE")]
    pub words: Vec<String>,
    /// What these files name.
    #[command(flatten)]
    pub files: FileArgs,
    /// The patch, JSON or YAML
    #[arg(short, long, value_name = "PATCH")]
    pub patch: Option<String>,
    /// File with the patch
    #[arg(long, value_name = "FILE")]
    pub patch_file: Option<String>,
    /// Kind of patch
    #[arg(long = "type", value_name = "KIND", default_value = "strategic", value_parser = ["strategic", "merge", "json"])]
    pub kind: String,
    /// Part of the object to patch, such as status
    #[arg(long, value_name = "NAME")]
    pub subresource: Option<String>,
    /// How to write and what to print.
    #[command(flatten)]
    pub write: WriteArgs,
}

/// `carob label` and `carob annotate`
#[derive(Debug, Clone, Args)]
pub struct MetadataArgs {
    /// TYPE NAME... or TYPE/NAME..., then KEY=VALUE to set and KEY- to remove
    #[arg(value_name = "WORD", allow_hyphen_values = false)]
    pub words: Vec<String>,
    /// What these files name.
    #[command(flatten)]
    pub files: FileArgs,
    /// All objects of the type
    #[arg(long)]
    pub all: bool,
    /// In all namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Only objects with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub selector: Option<String>,
    /// Replace values that are there
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set)]
    pub overwrite: bool,
    /// Show what is there
    #[arg(long)]
    pub list: bool,
    /// Only if the object is at this version
    #[arg(long, value_name = "VERSION")]
    pub resource_version: Option<String>,
    /// How to write and what to print.
    #[command(flatten)]
    pub write: WriteArgs,
}
