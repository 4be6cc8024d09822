//! Steps as short text: what tests compare and `carob plan` prints.

use std::fmt;

use cri::Resources;

use crate::observed::ContainerKind;
use crate::plan::{Event, EventType, Plan, Start, Step, Stop};
use crate::resize::{Change, Resize, Target};

impl fmt::Display for ContainerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ContainerKind::Init => "init container",
            ContainerKind::Sidecar => "sidecar",
            ContainerKind::App => "container",
            ContainerKind::Ephemeral => "ephemeral container",
        })
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.event_type {
            EventType::Normal => "Normal",
            EventType::Warning => "Warning",
        };
        write!(f, "{kind} {}", self.reason)?;
        if let Some(path) = self.field_path() {
            write!(f, " {path}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "start {} {} #{}",
            self.kind, self.container, self.restart_count
        )
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "stop {} {} ({}) within {} s",
            self.kind, self.container, self.id, self.grace_seconds
        )?;
        match &self.message {
            Some(message) => write!(f, ": {message}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Pod { .. } => f.write_str("pod"),
            Target::Container { name, .. } => f.write_str(name),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.target.fmt(f)?;
        let Resources {
            cpu_shares,
            cpu_quota_us,
            memory_limit_bytes,
            ..
        } = &self.resources;
        if let Some(bytes) = memory_limit_bytes {
            write!(f, " memory={bytes}")?;
        }
        if let Some(quota) = cpu_quota_us {
            write!(f, " quota={quota}")?;
        }
        match cpu_shares {
            Some(shares) => write!(f, " shares={shares}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Resize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let changes: Vec<_> = self.changes.iter().map(Change::to_string).collect();
        write!(f, "resize {}", changes.join(", "))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Event(event) => write!(f, "event {event}"),
            Step::SetUpVolumes => f.write_str("set up volumes"),
            Step::CreateSandbox { attempt } => write!(f, "create sandbox #{attempt}"),
            Step::StopSandbox { id } => write!(f, "stop sandbox {id}"),
            Step::RemoveSandbox { id } => write!(f, "remove sandbox {id}"),
            Step::Start(start) => start.fmt(f),
            Step::PreStop(hook) => write!(f, "run the preStop hook to {}", hook.0),
            Step::Stop(stop) => stop.fmt(f),
            Step::Allocate => f.write_str("note the allocation"),
            Step::Resize(resize) => resize.fmt(f),
            Step::RemoveContainer {
                id,
                keep_log: false,
            } => write!(f, "remove {id}"),
            Step::RemoveContainer { id, keep_log: true } => write!(f, "remove {id}, keep its log"),
            Step::TearDown => f.write_str("tear down"),
            Step::DeletePod => f.write_str("delete pod"),
        }
    }
}

impl fmt::Display for Plan {
    /// The steps, one a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps.iter().enumerate().try_for_each(|(at, step)| {
            if at == 0 {
                write!(f, "{step}")
            } else {
                write!(f, "\n{step}")
            }
        })
    }
}
