//! Arguments of `carob play`.

use clap::Args;

use super::FileArgs;

/// `carob play`
#[derive(Debug, Clone, Args)]
pub struct PlayArgs {
    /// Files that say what is to run.
    #[command(flatten)]
    pub files: FileArgs,
    /// Say nothing about progress
    #[arg(short, long)]
    pub quiet: bool,
    /// Do not print logs
    #[arg(long)]
    pub no_logs: bool,
    /// Put the time before each log line
    #[arg(long)]
    pub timestamps: bool,
    /// Leave the objects in place at the end
    #[arg(long)]
    pub keep: bool,
}
