//! Arguments of `carob image`: carried out by the binary, which owns the image store.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `carob image`
#[derive(Debug, Clone, Subcommand)]
pub enum ImageCommand {
    /// Fetch images from registries
    Pull(ImagePullArgs),
    /// List images
    #[command(visible_alias = "list")]
    Ls(ImageLsArgs),
    /// Remove images
    #[command(visible_alias = "remove")]
    Rm(ImageRmArgs),
    /// Read images from an archive: docker save, OCI layout, or either of them compressed
    Load(ImageLoadArgs),
    /// Write images to an archive
    Save(ImageSaveArgs),
    /// Make an image of one layer from a tar archive of files
    Import(ImageImportArgs),
    /// Give an image another name
    Tag(ImageTagArgs),
    /// Remove images that no container uses
    Prune(ImagePruneArgs),
}

/// `carob image pull`
#[derive(Debug, Clone, Args)]
pub struct ImagePullArgs {
    /// Names, such as nginx, docker.io/library/nginx:1.27 or name@sha256:...
    #[arg(value_name = "IMAGE", required = true)]
    pub images: Vec<String>,
    /// User name and password for the registry
    #[arg(long, value_name = "USER[:PASSWORD]")]
    pub creds: Option<String>,
    /// Platform to fetch, such as linux/arm64
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// Show no progress
    #[arg(short, long)]
    pub quiet: bool,
}

/// `carob image ls`
#[derive(Debug, Clone, Args)]
pub struct ImageLsArgs {
    /// Only images of this name
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// Print ids only
    #[arg(short, long)]
    pub quiet: bool,
    /// Print ids in full
    #[arg(long)]
    pub no_trunc: bool,
    /// Show digests too
    #[arg(long)]
    pub digests: bool,
    /// Leave the headers out
    #[arg(long, visible_alias = "noheading")]
    pub no_headers: bool,
    /// Form of the output: json
    #[arg(short, long, value_name = "FORMAT", value_parser = ["json"])]
    pub output: Option<String>,
}

/// `carob image rm`
#[derive(Debug, Clone, Args)]
pub struct ImageRmArgs {
    /// Names or ids
    #[arg(value_name = "IMAGE", required_unless_present = "all")]
    pub images: Vec<String>,
    /// Remove all images
    #[arg(short, long, conflicts_with = "images")]
    pub all: bool,
    /// Remove every name of an id, and say nothing about what is not there
    #[arg(short, long)]
    pub force: bool,
}

/// `carob image load`
#[derive(Debug, Clone, Args)]
pub struct ImageLoadArgs {
    /// Archive or OCI layout directory; standard input if left out or -
    #[arg(short, long, value_name = "PATH")]
    pub input: Option<PathBuf>,
    /// Say nothing
    #[arg(short, long)]
    pub quiet: bool,
}

/// `carob image save`
#[derive(Debug, Clone, Args)]
pub struct ImageSaveArgs {
    /// Names or ids
    #[arg(value_name = "IMAGE", required = true)]
    pub images: Vec<String>,
    /// File to write; standard output if left out or -
    #[arg(short, long, value_name = "PATH")]
    pub output: Option<PathBuf>,
}

/// `carob image import`
#[derive(Debug, Clone, Args)]
pub struct ImageImportArgs {
    /// Tar archive of a root file system, compressed or not; - is standard input
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// Name of the image
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// Dockerfile instructions for its configuration: CMD, ENTRYPOINT, ENV, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub change: Vec<String>,
}

/// `carob image tag`
#[derive(Debug, Clone, Args)]
pub struct ImageTagArgs {
    /// Name or id
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// New names
    #[arg(value_name = "NAME", required = true)]
    pub names: Vec<String>,
}

/// `carob image prune`
#[derive(Debug, Clone, Args)]
pub struct ImagePruneArgs {
    /// Images that have a name too
    #[arg(short, long)]
    pub all: bool,
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
}
