//! Pods on the real kernel, seen through the runtime's port. Needs root, `/bin/busybox` and `ldd`.
//!
//! This program is its own pause: started with `pause` it becomes one, as the shipped binary does. That is why it brings its own
//! `main`. Scenarios run one after the other; arguments that are no options select by part of their name.

mod images;
mod logs;
mod points;
mod resize;
mod sandboxes;
mod scenarios;
mod spares;
mod streams;
mod survival;
mod users;
mod world;
mod zombies;

use std::panic::AssertUnwindSafe;

fn main() {
    let mut args = std::env::args_os().skip(1);
    if std::env::args_os()
        .nth(1)
        .is_some_and(|first| first == "pause")
    {
        args.next();
        runtime::pause::main(args);
    }
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let all = scenarios::all()
        .into_iter()
        .chain(images::all())
        .chain(logs::all())
        .chain(resize::all())
        .chain(sandboxes::all())
        .chain(spares::all())
        .chain(points::all())
        .chain(streams::all())
        .chain(survival::all())
        .chain(zombies::all())
        .chain(users::all());
    let chosen: Vec<_> = all
        .filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|part| name.contains(part)))
        .collect();
    if std::env::args().any(|arg| arg == "--list") {
        chosen.iter().for_each(|(name, _)| println!("{name}: test"));
        return;
    }
    let mut failed = Vec::new();
    let count = chosen.len();
    for (name, scenario) in chosen {
        let tokio = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("tokio");
        let begun = std::time::Instant::now();
        let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| tokio.block_on(scenario())));
        println!(
            "test {name} ... {} ({} ms)",
            if outcome.is_ok() { "ok" } else { "FAILED" },
            begun.elapsed().as_millis()
        );
        if outcome.is_err() {
            failed.push(name);
        }
    }
    println!(
        "\ntest result: {}. {} passed; {} failed; 0 ignored",
        if failed.is_empty() { "ok" } else { "FAILED" },
        count - failed.len(),
        failed.len()
    );
    assert!(failed.is_empty(), "failed: {failed:?}");
}
