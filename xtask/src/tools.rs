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
    /// Upstream's program that says which effective user it has.
    pub nonewprivs: PathBuf,
}

/// Upstream's end-to-end suite.
#[derive(Debug, Clone)]
pub(crate) struct Suite {
    /// The suite, which is a test program.
    pub program: PathBuf,
    /// What runs several of it side by side.
    pub ginkgo: PathBuf,
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
    let nonewprivs = build(
        "conformance",
        "k8s.io/kubernetes/test/images/nonewprivs",
        &out.join("nonewprivs"),
        "1.36.3",
    )?;
    Ok(Tools {
        kubectl,
        older_kubectl,
        agnhost,
        nonewprivs,
    })
}

/// Can the suite be built? The error is a line that says why not.
pub(crate) fn can_have_suite() -> anyhow::Result<()> {
    require_go()?;
    // A Go that is too old fetches the one that go.mod names, which may fail as well.
    let fetched = Command::new("go")
        .current_dir("conformance")
        .args(["mod", "download"])
        .output()?;
    if !fetched.status.success() {
        let said = String::from_utf8_lossy(&fetched.stderr);
        let last = said.lines().last().unwrap_or_default();
        bail!("the suite's Go modules cannot be fetched: {last}");
    }
    Ok(())
}

/// Builds the suite, which takes minutes the first time, and gives way to other work meanwhile.
pub(crate) fn suite() -> anyhow::Result<Suite> {
    require_go()?;
    let out = run::target_dir().join("tools");
    let program = out.join("e2e.test");
    let flags = flags("1.36.3");
    let mut command = Command::new("nice");
    command
        .args(["-n", "10", "go", "test", "-c"])
        .args(["-trimpath", "-mod=readonly", "-ldflags", &flags, "-o"])
        .args([program.as_os_str(), ".".as_ref()])
        .current_dir("conformance")
        .env("CGO_ENABLED", "0");
    run::command(&mut command)?;
    let ginkgo = build(
        "conformance",
        "github.com/onsi/ginkgo/v2/ginkgo",
        &out.join("ginkgo"),
        "1.36.3",
    )?;
    Ok(Suite { program, ginkgo })
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

/// Linker flags that stamp the version a program is to report.
fn flags(version: &str) -> String {
    let minor = version.split('.').nth(1).unwrap_or_default();
    let stamp = "k8s.io/component-base/version";
    format!(
        "-s -w -X {stamp}.gitVersion=v{version} -X {stamp}.gitMajor=1 -X {stamp}.gitMinor={minor} -X {stamp}.gitTreeState=clean"
    )
}

/// Builds one program, with the version it is to report.
fn build(module: &str, package: &str, to: &Path, version: &str) -> anyhow::Result<PathBuf> {
    let built = Command::new("go")
        .current_dir(module)
        .env("CGO_ENABLED", "0")
        .args([
            "build",
            "-trimpath",
            "-mod=readonly",
            "-ldflags",
            &flags(version),
            "-o",
        ])
        .args([to.as_os_str(), package.as_ref()])
        .status();
    match built {
        Ok(status) if status.success() => Ok(to.to_owned()),
        _ => bail!("could not build {package} {version}"),
    }
}
