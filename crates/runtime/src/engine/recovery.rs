//! Taking over what an earlier engine left.
//!
//! For every sandbox with a record: a pause that answers is connected to, and what it reports is believed; of one that does not, the
//! exit files are read. A sandbox that never became ready, and a directory without a readable record, is taken down.

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;

use ports::runtime::{Id, RuntimeError, SandboxState};

use super::container::Container;
use super::link::{self, Connected};
use super::record::SandboxRecord;
use super::sandbox::{self, Sandbox};
use super::spare;
use super::{Inner, io_error, lock};
use crate::wire::{ContainerReport, Request};

pub(super) async fn recover(inner: &Arc<Inner>) -> Result<(), RuntimeError> {
    let found = inner
        .directories
        .load_sandboxes()
        .map_err(io_error("failed to read the records of sandboxes"))?;
    let mut tasks = Vec::new();
    for (id, record) in found {
        match record {
            Some(record) => tasks.push(tokio::spawn(recover_sandbox(Arc::clone(inner), record))),
            None => discard(inner, &id)?,
        }
    }
    for task in tasks {
        task.await.map_err(|error| {
            io_error("recovery of a sandbox broke off")(std::io::Error::other(error))
        })??;
    }
    free_places(inner).await?;
    let forgotten = inner.roots.forget();
    forgotten.map_err(io_error("failed to remove spare roots"))?;
    forget_mount_points(inner)
}

/// An engine that was killed may have made places for Pods that never came.
async fn free_places(inner: &Inner) -> Result<(), RuntimeError> {
    let made = inner.directories.runs();
    let made = made.map_err(io_error("failed to read the run directory"))?;
    let holders = inner.network.holders().await;
    let places: BTreeSet<Id> = made.into_iter().chain(holders).collect();
    for id in places {
        if inner.find_sandbox(&id).is_err() {
            spare::give_back(inner, &id).await;
        }
    }
    Ok(())
}

/// Layers of mount points that no container has any more.
fn forget_mount_points(inner: &Inner) -> Result<(), RuntimeError> {
    let containers: Vec<Arc<Container>> = lock(&inner.table).containers.values().cloned().collect();
    let used = containers.iter().flat_map(|c| c.record().layers).collect();
    let forgotten = inner.points.forget_all_but(&used);
    forgotten.map_err(io_error("failed to remove layers of mount points"))
}

/// Without a record nothing can be said about it, and nobody was told that it exists.
fn discard(inner: &Inner, id: &str) -> Result<(), RuntimeError> {
    tracing::warn!(sandbox = id, "sandbox without a readable record is removed");
    let directory = inner.directories.sandbox_state(id);
    sandbox::remove_tree(&directory).map_err(io_error(format!(
        "failed to remove {}",
        directory.display()
    )))
}

async fn recover_sandbox(inner: Arc<Inner>, record: SandboxRecord) -> Result<(), RuntimeError> {
    let was_ready = record.state == SandboxState::Ready;
    let sandbox = Sandbox::new(record);
    load_containers(&inner, &sandbox)?;
    lock(&inner.table)
        .sandboxes
        .insert(sandbox.id.clone(), Arc::clone(&sandbox));
    match link::connect(&inner.directories.sandbox_run(&sandbox.id)).await {
        Ok(connected) => {
            adopt(&inner, &sandbox, connected);
            if !was_ready {
                // Its making, or its stopping, was cut short. It is listed, so whoever cleans up finds it if this fails.
                if let Err(error) = sandbox::take_down(&inner, &sandbox).await {
                    let why = error.source().map(ToString::to_string);
                    tracing::warn!(sandbox = sandbox.id, %error, why, "remains of a sandbox are left");
                }
            }
        }
        Err(error) => {
            if was_ready {
                tracing::warn!(sandbox = sandbox.id, %error, "the Pod's pause does not answer");
            }
            inner.cgroups.kill_sandbox(&sandbox.record());
            sandbox::lost(&inner, &sandbox);
        }
    }
    Ok(())
}

fn load_containers(inner: &Inner, sandbox: &Arc<Sandbox>) -> Result<(), RuntimeError> {
    let found = inner
        .directories
        .load_containers(&sandbox.id)
        .map_err(io_error("failed to read the records of containers"))?;
    for (id, record) in found {
        match record {
            Some(record) => {
                let container = Container::new(Arc::clone(sandbox), record);
                lock(&inner.table).containers.insert(id, container);
            }
            None => {
                let directory = inner.directories.container_state(&sandbox.id, &id);
                sandbox::remove_tree(&directory).map_err(io_error(format!(
                    "failed to remove {}",
                    directory.display()
                )))?;
            }
        }
    }
    Ok(())
}

/// Believes what a live pause says. A container it does not know and that was running has ended unseen.
fn adopt(inner: &Arc<Inner>, sandbox: &Arc<Sandbox>, mut connected: Connected) {
    let reports: Vec<ContainerReport> = std::mem::take(&mut connected.welcome.containers);
    let mut recorded = Vec::new();
    for container in inner.containers_of(&sandbox.id) {
        let report = reports
            .iter()
            .find(|report| report.container == container.id);
        match report {
            Some(report) if container.adopt(inner, report) => recorded.push(container.id.clone()),
            None if container.is_running() => container.orphaned(inner),
            Some(_) | None => {}
        }
    }
    sandbox.connect(inner, connected);
    if let Err(error) = inner.cgroups.weigh(&sandbox.record()) {
        tracing::warn!(sandbox = sandbox.id, %error, "counting what a Pod is allocated");
    }
    let Ok(link) = sandbox.link() else { return };
    for container in recorded {
        link.tell(Request::Acknowledge { container });
    }
    for report in reports {
        if inner.find_container(&report.container).is_err() {
            // Its record was lost, so nobody will ever ask for it; its exit is acknowledged when it comes.
            link.tell(Request::Kill {
                container: report.container,
            });
        }
    }
}
