//! `podman kube play` of the same Pod, for comparison.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::figures::{Figures, Measure, Unit};
use crate::pods::{Recipe, Shape, for_podman};

const HOW: &str = "from starting `podman kube play` to its return, the sidecar as an ordinary container, storage of its own, serial; \
     beside it Carob's created to running of this run";

/// Plays the Pod `runs` times; `None` where podman is not installed. `carob` is what Carob needed for the same Pod.
pub(crate) fn measure(
    recipe: &Recipe,
    registry: &str,
    runs: usize,
    carob: Figures,
) -> anyhow::Result<Option<Measure>> {
    if Command::new("podman")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_err()
    {
        return Ok(None);
    }
    let dir = tempfile::Builder::new()
        .prefix("bench-podman-")
        .tempdir()
        .context("make a directory for podman")?;
    let podman = Podman { dir: dir.path() };
    let image = image_in(registry, &recipe.image);
    podman.run(&["pull", "--quiet", "--tls-verify=false", &image])?;
    let mut times = Vec::new();
    let played = (0..=runs).try_for_each(|index| {
        let recipe = Recipe {
            image: image.clone(),
            ..recipe.clone()
        };
        let pod = for_podman(recipe.pod(&recipe.name("podman", index), Shape::Multi));
        let time = podman.play(&serde_json::to_vec(&pod)?)?;
        if index > 0 {
            times.push(time);
        }
        anyhow::Ok(())
    });
    let reset = podman.run(&["system", "reset", "--force"]);
    played?;
    reset?;
    let podman = Figures::of_times(&times).context("no runs")?;
    let what = "podman kube play, 1 init + 2 containers (as peer)";
    let measure = Measure::new("podman", what, HOW, Unit::Milliseconds, carob);
    Ok(Some(measure.beside(Some(podman))))
}

/// The image as the registry itself has it: `docker.io/library/busybox:1.36` is `HOST:PORT/library/busybox:1.36`.
fn image_in(registry: &str, image: &str) -> String {
    let path = match image.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) => path.to_owned(),
        Some(_) => image.to_owned(),
        None => format!("library/{image}"),
    };
    format!("{registry}/{path}")
}

/// Podman with storage of its own.
struct Podman<'a> {
    dir: &'a Path,
}

impl Podman<'_> {
    /// Plays a Pod, takes it down again, and returns how long playing took.
    fn play(&self, pod: &[u8]) -> anyhow::Result<Duration> {
        let file = self.dir.join("pod.json");
        fs::write(&file, pod).context("write the Pod")?;
        let file = file.to_string_lossy();
        let begun = Instant::now();
        let played = self.run(&["kube", "play", &file]);
        let time = begun.elapsed();
        // Also what was played halfway.
        let down = self.run(&["kube", "down", &file]);
        played?;
        down?;
        Ok(time)
    }

    fn run(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let output = Command::new("podman")
            .arg("--root")
            .arg(self.dir.join("root"))
            .arg("--runroot")
            .arg(self.dir.join("run"))
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .context("start podman")?;
        if !output.status.success() {
            bail!(
                "podman {} failed ({}):\n{}",
                arguments.join(" "),
                output.status,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_found_in_the_registry_by_their_path() {
        for (image, path) in [
            ("docker.io/library/busybox:1.36", "library/busybox:1.36"),
            ("busybox:1.36", "library/busybox:1.36"),
            ("localhost:5000/a/b", "a/b"),
            ("someone/tool:2", "someone/tool:2"),
        ] {
            assert_eq!(
                image_in("127.0.0.1:1", image),
                format!("127.0.0.1:1/{path}")
            );
        }
    }
}
