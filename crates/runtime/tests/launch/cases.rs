//! The cases.

use runtime::launch::Launcher;

use crate::bundle::{Bundle, run};

type Case = fn(&Launcher);

/// Every case by name.
pub(crate) const ALL: &[(&str, Case)] = &[("a_script_runs", a_script_runs)];

fn a_script_runs(launcher: &Launcher) {
    let bundle = Bundle::new();
    let done = run(launcher, &bundle.spec("echo $$; exit 3")).unwrap();
    assert_eq!(done.out, "1\n");
    assert_eq!(done.code, 3);
}
