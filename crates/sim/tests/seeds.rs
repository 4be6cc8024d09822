//! Many seeds keep the invariants of the lifecycle specification (§16). `SIM_SEEDS=FIRST..LAST` says which.

use std::process::Command;

#[test]
fn seeds_keep_the_invariants() {
    let seeds = std::env::var("SIM_SEEDS").unwrap_or("1..50".to_owned());
    let output = Command::new(env!("CARGO_BIN_EXE_sim"))
        .arg(&seeds)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(said.contains(" seeds, 0 of them"), "{said}");
}
