//! Programs borrowed from upstream for the tests, built from the Go modules pinned in `conformance/`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::bail;

use crate::run;

/// Where the programs are.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    /// kubectl of the version we implement.
    pub kubectl: PathBuf,
    /// A kubectl two minor versions older.
    pub older_kubectl: PathBuf,
    /// Upstream's test image's program.
    pub agnhost: PathBuf,
}

/// Builds what is missing; Go's own cache makes a second build a matter of a second.
pub(crate) fn build_all() -> anyhow::Result<Tools> {
    require_go()?;
    let out = run::target_dir().join("tools");
    let kubectl = build(
        "conformance",
        "k8s.io/kubernetes/cmd/kubectl",
        &out.join("kubectl-1.36/kubectl"),
        "1.36.3",
    )?;
    let older_kubectl = build(
        "conformance/older-kubectl",
        "k8s.io/kubernetes/cmd/kubectl",
        &out.join("kubectl-1.34/kubectl"),
        "1.34.4",
    )?;
    let agnhost = build(
        "conformance",
        "k8s.io/kubernetes/test/images/agnhost",
        &out.join("agnhost"),
        "1.36.3",
    )?;
    Ok(Tools {
        kubectl,
        older_kubectl,
        agnhost,
    })
}

fn require_go() -> anyhow::Result<()> {
    let version = Command::new("go").arg("version").output();
    if !version.is_ok_and(|output| output.status.success()) {
        bail!(
            "Go is needed to build kubectl (1.26, or 1.21 and newer, which fetch it): install it and put `go` on PATH"
        );
    }
    Ok(())
}

/// Builds one program, with the version it is to report.
fn build(module: &str, package: &str, to: &Path, version: &str) -> anyhow::Result<PathBuf> {
    let minor = version.split('.').nth(1).unwrap_or_default();
    let stamp = "k8s.io/component-base/version";
    let flags = format!(
        "-s -w -X {stamp}.gitVersion=v{version} -X {stamp}.gitMajor=1 -X {stamp}.gitMinor={minor} -X {stamp}.gitTreeState=clean"
    );
    let built = Command::new("go")
        .current_dir(module)
        .env("CGO_ENABLED", "0")
        .args([
            "build",
            "-trimpath",
            "-mod=readonly",
            "-ldflags",
            &flags,
            "-o",
        ])
        .args([to.as_os_str(), package.as_ref()])
        .status();
    match built {
        Ok(status) if status.success() => Ok(to.to_owned()),
        _ => bail!("could not build {package} {version}"),
    }
}
