//! Arguments of `carob plan`.

use clap::Args;

use super::FileArgs;

/// `carob plan`
#[derive(Debug, Clone, Args)]
pub struct PlanArgs {
    /// Files with the Pods.
    #[command(flatten)]
    pub files: FileArgs,
    /// How a container ends, run by run: an exit code, or runs (it does not end); the last is what all later runs do
    #[arg(long, value_name = "NAME=CODE[,CODE...]")]
    pub exit: Vec<String>,
    /// After how long a container ends, run by run; one that does not end comes up after so long: its probes succeed from then on
    #[arg(long, value_name = "NAME=TIME[,TIME...]")]
    pub delay: Vec<String>,
    /// What a probe finds in each run: ok or fail from a time on; the kind (startup, liveness, readiness) if there are several
    #[arg(long, value_name = "NAME[:KIND]=ok|fail[@TIME][,...]")]
    pub probe: Vec<String>,
    /// What a container does when it is asked to stop: the exit code, after how long; or ignore
    #[arg(long, value_name = "NAME=CODE[@TIME]|ignore")]
    pub stop: Vec<String>,
    /// What keeps a container from starting: image, config, program
    #[arg(long, value_name = "NAME=WHAT")]
    pub lacks: Vec<String>,
    /// How far to look
    #[arg(long, value_name = "TIME", default_value = "10m")]
    pub until: String,
    /// Form of the output: json, yaml, jsonpath=...
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<String>,
}
