//! Arguments of `create` for workloads and quotas.

use clap::Args;

use super::write::WriteArgs;

/// `carob create deployment`
#[derive(Debug, Clone, Args)]
pub struct CreateDeploymentArgs {
    /// Its name
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Images of its containers
    #[arg(long, value_name = "IMAGE", value_delimiter = ',')]
    pub image: Vec<String>,
    /// A port that its Pods serve at
    #[arg(
        long,
        value_name = "PORT",
        default_value_t = -1,
        hide_default_value = true,
        allow_negative_numbers = true
    )]
    pub port: i32,
    /// How many Pods there are to be
    #[arg(short, long, value_name = "COUNT", default_value_t = 1)]
    pub replicas: i32,
    /// The command of the container, and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
    /// How to write and what to print.
    #[command(flatten)]
    pub write: WriteArgs,
}

/// `carob create job`
#[derive(Debug, Clone, Args)]
pub struct CreateJobArgs {
    /// Its name
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Image of its container
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// A CronJob to run now, such as cronjob/nightly
    #[arg(long, value_name = "TYPE/NAME")]
    pub from: Option<String>,
    /// The command of the container, and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
    /// How to write and what to print.
    #[command(flatten)]
    pub write: WriteArgs,
}

/// `carob create cronjob`
#[derive(Debug, Clone, Args)]
pub struct CreateCronJobArgs {
    /// Its name
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Image of its container
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// When to run, such as "*/5 * * * *"
    #[arg(long, value_name = "SCHEDULE")]
    pub schedule: Option<String>,
    /// What happens to containers that fail: OnFailure, Never
    #[arg(long, value_name = "POLICY", default_value = "OnFailure")]
    pub restart: String,
    /// The command of the container, and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
    /// How to write and what to print.
    #[command(flatten)]
    pub write: WriteArgs,
}

/// `carob create quota`
#[derive(Debug, Clone, Args)]
pub struct CreateQuotaArgs {
    /// Its name
    #[arg(value_name = "NAME")]
    pub name: String,
    /// How much there may be of what, such as pods=10,requests.cpu=4
    #[arg(
        long,
        value_name = "AMOUNTS",
        default_value = "",
        hide_default_value = true
    )]
    pub hard: String,
    /// Which objects count: Terminating, NotTerminating, BestEffort, NotBestEffort
    #[arg(
        long,
        value_name = "SCOPES",
        default_value = "",
        hide_default_value = true
    )]
    pub scopes: String,
    /// How to write and what to print.
    #[command(flatten)]
    pub write: WriteArgs,
}
