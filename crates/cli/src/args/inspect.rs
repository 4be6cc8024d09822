//! Arguments of verbs that look, and of those that talk to containers.

use clap::{Args, Subcommand};

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

/// `carob describe`
#[derive(Debug, Clone, Args)]
pub struct DescribeArgs {
    /// TYPE [NAME...] or TYPE/NAME...; a name may be a prefix
    #[arg(value_name = "TYPE")]
    pub words: Vec<String>,
    /// Describe what these files name
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    pub filenames: Vec<String>,
    /// Look into directories below
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// Look in all namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Only objects with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub selector: Option<String>,
    /// Show events too, as for a single object without this flag
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub show_events: Option<bool>,
}

/// `carob logs`
#[derive(Debug, Clone, Args)]
pub struct LogsArgs {
    /// POD or TYPE/NAME, then a container
    #[arg(value_name = "POD")]
    pub words: Vec<String>,
    /// Container to read
    #[arg(short, long, value_name = "NAME")]
    pub container: Option<String>,
    /// Read all containers
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set)]
    pub all_containers: bool,
    /// Read all Pods of a workload
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set)]
    pub all_pods: bool,
    /// Go on as lines come
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set)]
    pub follow: bool,
    /// Read the instance before this one
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set)]
    pub previous: bool,
    /// Pods with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub selector: Option<String>,
    /// Put the source before each line
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set)]
    pub prefix: bool,
    /// Lines not older than this, such as 5s, 2m or 3h
    #[arg(long, value_name = "DURATION")]
    pub since: Option<String>,
    /// Lines not older than this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    pub since_time: Option<String>,
    /// Put the time before each line
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set)]
    pub timestamps: bool,
    /// The last lines only; -1 is all (10 with a selector)
    #[arg(long, value_name = "LINES", allow_hyphen_values = true)]
    pub tail: Option<i64>,
    /// Stop after this many bytes
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub limit_bytes: Option<i64>,
    /// Most streams to follow at once
    #[arg(long, value_name = "NUMBER", default_value_t = 5)]
    pub max_log_requests: usize,
    /// Go on with other streams when one fails
    #[arg(long)]
    pub ignore_errors: bool,
    /// Do not check the certificate of the node
    #[arg(long)]
    pub insecure_skip_tls_verify_backend: bool,
    /// How long to wait for a Pod of a workload to run
    #[arg(long, value_name = "DURATION")]
    pub pod_running_timeout: Option<String>,
}

/// `carob exec`
#[derive(Debug, Clone, Args)]
pub struct ExecArgs {
    /// POD or TYPE/NAME
    #[arg(value_name = "POD")]
    pub words: Vec<String>,
    /// Container to run in
    #[arg(short, long, value_name = "NAME")]
    pub container: Option<String>,
    /// Pass standard input on
    #[arg(short = 'i', long)]
    pub stdin: bool,
    /// Standard input is a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Say nothing but what the command says
    #[arg(short, long)]
    pub quiet: bool,
    /// How long to wait for a Pod of a workload to run
    #[arg(long, value_name = "DURATION")]
    pub pod_running_timeout: Option<String>,
    /// The command and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// `carob attach`
#[derive(Debug, Clone, Args)]
pub struct AttachArgs {
    /// POD or TYPE/NAME
    #[arg(value_name = "POD")]
    pub pod: Option<String>,
    /// Container to attach to
    #[arg(short, long, value_name = "NAME")]
    pub container: Option<String>,
    /// Pass standard input on
    #[arg(short = 'i', long)]
    pub stdin: bool,
    /// Standard input is a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Say nothing but what the container says
    #[arg(short, long)]
    pub quiet: bool,
}

/// `carob cp`
#[derive(Debug, Clone, Args)]
pub struct CpArgs {
    /// [[NAMESPACE/]POD:]PATH
    #[arg(value_name = "SOURCE")]
    pub source: String,
    /// [[NAMESPACE/]POD:]PATH
    #[arg(value_name = "DESTINATION")]
    pub destination: String,
    /// Container to copy from or to
    #[arg(short, long, value_name = "NAME")]
    pub container: Option<String>,
    /// Do not keep owners and modes
    #[arg(long)]
    pub no_preserve: bool,
}

/// `carob port-forward`
#[derive(Debug, Clone, Args)]
pub struct PortForwardArgs {
    /// POD or TYPE/NAME, then ports: [LOCAL:]REMOTE...
    #[arg(value_name = "POD")]
    pub words: Vec<String>,
    /// Where to listen: addresses, or localhost
    #[arg(
        long,
        value_name = "ADDRESS",
        value_delimiter = ',',
        default_value = "localhost"
    )]
    pub address: Vec<String>,
    /// How long to wait for a Pod of a workload to run
    #[arg(long, value_name = "DURATION")]
    pub pod_running_timeout: Option<String>,
}

/// `carob wait`
#[derive(Debug, Clone, Args)]
pub struct WaitArgs {
    /// TYPE/NAME... or TYPE NAME...
    #[arg(value_name = "TYPE")]
    pub words: Vec<String>,
    /// What these files name
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    pub filenames: Vec<String>,
    /// Look into directories below
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// condition=NAME[=VALUE], jsonpath=PATH[=VALUE], delete or create
    #[arg(long = "for", value_name = "STATE", default_value = "")]
    pub state: String,
    /// How long to wait; 0 looks once, a negative time waits a week
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "30s",
        allow_hyphen_values = true
    )]
    pub timeout: String,
    /// Only objects with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub selector: Option<String>,
    /// Only objects with these fields
    #[arg(long, value_name = "SELECTOR")]
    pub field_selector: Option<String>,
    /// All objects of the type
    #[arg(long)]
    pub all: bool,
    /// Look in all namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Form of the output
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<String>,
}

/// `carob events`
#[derive(Debug, Clone, Args)]
pub struct EventsArgs {
    /// Look in all namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Events of TYPE/NAME only
    #[arg(long = "for", value_name = "TYPE/NAME")]
    pub about: Option<String>,
    /// Events of these types only, such as Warning
    #[arg(long, value_name = "TYPE", value_delimiter = ',')]
    pub types: Vec<String>,
    /// Go on and show new events
    #[arg(short, long)]
    pub watch: bool,
    /// Leave the headers out
    #[arg(long)]
    pub no_headers: bool,
    /// Form of the output: json, yaml
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<String>,
}

/// `carob top`
#[derive(Debug, Clone, Subcommand)]
pub enum TopCommand {
    /// What Pods use
    #[command(visible_aliases = ["pods", "po"])]
    Pod(TopArgs),
    /// What nodes use
    #[command(visible_aliases = ["nodes", "no"])]
    Node(TopArgs),
}

/// `carob top pod`, `carob top node`
#[derive(Debug, Clone, Args)]
pub struct TopArgs {
    /// Only this one
    #[arg(conflicts_with = "selector")]
    pub name: Option<String>,
    /// Look in all namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Only those with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub selector: Option<String>,
    /// A line for each container of Pods
    #[arg(long)]
    pub containers: bool,
    /// Those that use most first
    #[arg(long, value_name = "WHAT", value_parser = ["cpu", "memory"])]
    pub sort_by: Option<String>,
    /// Leave the headers out
    #[arg(long)]
    pub no_headers: bool,
}

/// `carob api-resources`
#[derive(Debug, Clone, Args)]
pub struct ApiResourcesArgs {
    /// Of this group only; empty is the core group
    #[arg(long, value_name = "GROUP")]
    pub api_group: Option<String>,
    /// With namespaces, or without
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub namespaced: Option<bool>,
    /// That have all these verbs
    #[arg(long, value_name = "VERB", value_delimiter = ',')]
    pub verbs: Vec<String>,
    /// In all these categories
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub categories: Vec<String>,
    /// Leave the headers out
    #[arg(long)]
    pub no_headers: bool,
    /// Form of the output: wide, name
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<String>,
}

/// `carob version`
#[derive(Debug, Clone, Args)]
pub struct VersionArgs {
    /// Ask no server
    #[arg(long)]
    pub client: bool,
    /// Form of the output: json, yaml
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<String>,
}

/// `carob config`
#[derive(Debug, Clone, Subcommand)]
pub enum ConfigCommand {
    /// Show the kubeconfig, secrets left out
    View {
        /// Show secrets too
        #[arg(long)]
        raw: bool,
        /// Only what the current context uses
        #[arg(long)]
        minify: bool,
        /// Form of the output: yaml, json, jsonpath=...
        #[arg(short, long, value_name = "FORMAT")]
        output: Option<String>,
    },
    /// Show the name of the current context
    CurrentContext,
    /// List the contexts
    GetContexts,
}

/// `carob kubeconfig`
#[derive(Debug, Clone, Args)]
pub struct KubeconfigArgs {
    /// Print where it is instead of what it says
    #[arg(long)]
    pub path: bool,
    /// Add it to one's own kubeconfig (the first file of KUBECONFIG, or ~/.kube/config) and make it current
    #[arg(long)]
    pub merge: bool,
}
