//! Logs that become large: who is told, and what is left of them.

use std::fs;

use ports::images::ImageConfig;
use ports::runtime::{ContainerRuntime, RuntimeEvent};

use crate::scenarios;
use crate::scenarios::Scenario;
use crate::world::{World, within};

/// Eleven mebibytes of records, and a line after a moment.
const SCRIPT: &str = "yes 012345678901234567890123456789012345678901234567890123456789 | head -c 6500000; \
    sleep 0.2; echo second; sleep 1000";

pub(crate) fn all() -> Vec<Scenario> {
    scenarios![a_large_log_is_told_once_and_goes_on_in_another_file]
}

async fn a_large_log_is_told_once_and_goes_on_in_another_file() {
    let world = World::new(ImageConfig::default());
    let sandbox = world.sandbox().await;
    let runtime = world.runtime();
    let mut events = runtime.events();
    let id = world.script(&sandbox, "app", SCRIPT).await;
    let grown = async {
        loop {
            match events.recv().await.expect("events") {
                RuntimeEvent::LogGrown { id, bytes, .. } => return (id, bytes),
                _ => continue,
            }
        }
    };
    let (told, bytes) = within(grown).await;
    assert_eq!(told, id);
    assert!(bytes >= 10 << 20, "{bytes}");
    let log = world.status(&id).await.log_path;
    let aside = log.with_file_name("0.log.20260101-000000");
    fs::rename(&log, &aside).expect("rename");
    runtime.reopen_log(&id).await.expect("reopen");
    world.log_line(&id, "second").await;
    let new = fs::metadata(&log).expect("the new file").len();
    assert!(new < 10 << 20, "{new}");
    assert!(fs::metadata(&aside).expect("the old file").len() >= 10 << 20);
    let more = std::iter::from_fn(|| events.try_recv().ok());
    let told_again = more.filter(|e| matches!(e, RuntimeEvent::LogGrown { .. }));
    assert_eq!(told_again.count(), 0);
    fs::write(log.with_file_name("10.log"), "").expect("write");
    runtime.remove_container(&id, false).await.expect("remove");
    assert!(!aside.exists() && !log.exists(), "logs are left");
    assert!(
        log.with_file_name("10.log").exists(),
        "another run's log is gone"
    );
    world.finish().await;
}
