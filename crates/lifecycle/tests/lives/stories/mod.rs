//! Whole lives of Pods. What is reported at the end, and the events on the way, are those upstream 1.36 showed for the same
//! Pods.

mod ends;
mod init;
mod runs;

use testkit::{PodBuilder, pod};

use crate::world::{Outside, Run, Starts, World};

pub(crate) const BUSYBOX: &str = "docker.io/library/busybox:1.36";
pub(crate) const ON: &[Run] = &[Run::on()];

/// Lives until `second`.
pub(crate) fn lived(pod: PodBuilder, scripts: &[(&str, &[Run])], second: i64) -> World {
    let mut world = World::new(pod.build(), scripts);
    world.run_to(second);
    world
}

#[track_caller]
pub(crate) fn shows(world: &World, lines: &[&str]) {
    assert_eq!(world.summary().lines().collect::<Vec<_>>(), lines);
}

/// Events of a container that is started from an image that is here.
pub(crate) fn start_events(path: &str) -> Vec<String> {
    vec![
        format!(
            "Normal Pulled {path}: Container image \"{BUSYBOX}\" already present on machine and can be accessed by the pod"
        ),
        format!("Normal Created {path}: Container created"),
        format!("Normal Started {path}: Container started"),
    ]
}

pub(crate) const COMPLETED: [&str; 5] = [
    "PodReadyToStartContainers=False",
    "Initialized=True PodCompleted",
    "Ready=False PodCompleted",
    "ContainersReady=False PodCompleted",
    "PodScheduled=True",
];
pub(crate) const FAILED: [&str; 5] = [
    "PodReadyToStartContainers=False",
    "Initialized=True",
    "Ready=False PodFailed",
    "ContainersReady=False PodFailed",
    "PodScheduled=True",
];
pub(crate) const READY: [&str; 5] = [
    "PodReadyToStartContainers=True",
    "Initialized=True",
    "Ready=True",
    "ContainersReady=True",
    "PodScheduled=True",
];

pub(crate) fn lines<'a>(
    phase: &'a str,
    conditions: &[&'a str],
    containers: &[&'a str],
) -> Vec<&'a str> {
    [&[phase], conditions, containers].concat()
}
