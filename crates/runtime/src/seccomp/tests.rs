//! Filters against what their profiles say, and against another compiler.

use std::collections::BTreeMap;

use seccompiler::{
    SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

use super::compile::tests::{own, run};
use super::policy::{Action, Compare, Policy};
use super::*;
use crate::launch::capabilities;

const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;

fn default_set() -> u64 {
    capabilities::resolve(false, &[], &[]).unwrap().bounding
}

fn decide(program: &SeccompProgram, name: &str, arguments: &[u64]) -> u32 {
    let mut all = [0; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    own(&program.instructions, syscalls::number(name).unwrap(), &all)
}

#[test]
fn the_default_profile_is_understood_and_every_name_is_a_call() {
    for set in [0, default_set(), capabilities::ALL] {
        text::parse(text::DEFAULT, set).unwrap();
    }
    let words = text::DEFAULT
        .lines()
        .filter(|l| !l.starts_with(['#', '[']))
        .flat_map(str::split_whitespace);
    let unknown: Vec<&str> = words
        .map(|w| w.split('(').next().unwrap())
        .filter(|n| syscalls::number(n).is_none())
        .collect();
    let expected: &[&str] = if cfg!(target_arch = "x86_64") {
        &[]
    } else {
        &unknown
    };
    assert_eq!(unknown, expected);
}

#[test]
fn the_default_profile_guards_the_machine() {
    let plain = runtime_default(default_set());
    let admin = runtime_default(default_set() | 1 << capabilities::number("SYS_ADMIN").unwrap());
    let newns = 0x0002_0000;
    for (name, arguments, without, with) in [
        ("read", &[][..], ALLOW, ALLOW),
        ("openat2", &[], ALLOW, ALLOW),
        ("mount", &[], EPERM, ALLOW),
        ("unshare", &[], EPERM, ALLOW),
        ("setns", &[], EPERM, ALLOW),
        ("bpf", &[], EPERM, ALLOW),
        ("clone3", &[], ENOSYS, ALLOW),
        ("clone", &[0x11], ALLOW, ALLOW),
        ("clone", &[newns | 0x11], EPERM, ALLOW),
        ("clone", &[0x1000_0000], EPERM, ALLOW),
        ("keyctl", &[], EPERM, EPERM),
        ("add_key", &[], EPERM, EPERM),
        ("userfaultfd", &[], EPERM, EPERM),
        ("io_uring_setup", &[], EPERM, EPERM),
        ("reboot", &[], EPERM, EPERM),
        ("kexec_load", &[], EPERM, EPERM),
        ("chroot", &[], ALLOW, ALLOW),
        ("personality", &[0], ALLOW, ALLOW),
        ("personality", &[0x20008], ALLOW, ALLOW),
        ("personality", &[0xffff_ffff], ALLOW, ALLOW),
        ("personality", &[0x40000], EPERM, EPERM),
        ("socket", &[2], ALLOW, ALLOW),
        ("socket", &[40], EPERM, EPERM),
    ] {
        assert_eq!(
            decide(&plain, name, arguments),
            without,
            "{name} {arguments:x?}"
        );
        assert_eq!(
            decide(&admin, name, arguments),
            with,
            "{name} {arguments:x?} with SYS_ADMIN"
        );
    }
    assert_eq!(
        own(&plain.instructions, 900, &[0; 6]),
        ENOSYS,
        "a call newer than the profile"
    );
}

#[test]
fn any_call_is_decided_in_few_steps() {
    let program = runtime_default(default_set());
    assert!(
        program.instructions.len() < 400,
        "{}",
        program.instructions.len()
    );
    let arch = (program.instructions[1] >> 32) as u32;
    for (name, number) in syscalls::all() {
        let steps = run(&program.instructions, arch, number, &[0; 6]).1;
        assert!(steps <= 24, "{name}: {steps}");
    }
}

/// The policy as seccompiler's filter: allowed or EPERM, which is all it can say.
fn other_compiler(policy: &Policy) -> Vec<u64> {
    let rules: BTreeMap<i64, Vec<SeccompRule>> = policy
        .rules
        .iter()
        .filter(|(_, rules)| rules.iter().all(|r| r.action == Action::Allow))
        .map(|(number, rules)| {
            let rules = rules.iter().filter(|r| !r.tests.is_empty());
            (
                i64::from(*number),
                rules
                    .map(|r| SeccompRule::new(r.tests.iter().map(condition).collect()).unwrap())
                    .collect(),
            )
        })
        .collect();
    let arch = if cfg!(target_arch = "x86_64") {
        TargetArch::x86_64
    } else {
        TargetArch::aarch64
    };
    let filter =
        SeccompFilter::new(rules, SeccompAction::Errno(1), SeccompAction::Allow, arch).unwrap();
    let program: seccompiler::BpfProgram = filter.try_into().unwrap();
    let word = |i: &seccompiler::sock_filter| {
        u64::from(i.code) | u64::from(i.jt) << 16 | u64::from(i.jf) << 24 | u64::from(i.k) << 32
    };
    program.iter().map(word).collect()
}

fn condition(test: &policy::Test) -> SeccompCondition {
    let op = match test.compare {
        Compare::NotEqual => SeccompCmpOp::Ne,
        Compare::Less => SeccompCmpOp::Lt,
        Compare::LessOrEqual => SeccompCmpOp::Le,
        Compare::Equal => SeccompCmpOp::Eq,
        Compare::GreaterOrEqual => SeccompCmpOp::Ge,
        Compare::Greater => SeccompCmpOp::Gt,
        Compare::Masked(mask) => SeccompCmpOp::MaskedEq(mask),
    };
    SeccompCondition::new(test.argument, SeccompCmpArgLen::Qword, op, test.value).unwrap()
}

#[test]
fn filters_agree_with_their_policy_and_another_compiler() {
    let samples = [
        0u64,
        1,
        2,
        8,
        16,
        40,
        0x11,
        0x20000,
        0x20008,
        0x7e02_0000,
        0x1000_0000,
        0xffff_ffff,
        u64::MAX,
    ];
    for set in [0, default_set(), default_set() | 1 << 21, capabilities::ALL] {
        let policy = text::parse(text::DEFAULT, set).unwrap();
        let ours = compile::compile(&policy);
        let theirs = other_compiler(&policy);
        for number in 0..600 {
            for sample in samples {
                let arguments = [sample; 6];
                let got = own(&ours, number, &arguments);
                assert_eq!(
                    got,
                    policy.decide(number, &arguments).value(),
                    "{number} {sample:#x}"
                );
                let allowed = own(&theirs, number, &arguments) == ALLOW;
                assert_eq!(got == ALLOW, allowed, "{number} {sample:#x}");
            }
        }
    }
}

const PROFILE: &str = r#"{
  "defaultAction": "SCMP_ACT_ALLOW",
  "architectures": ["SCMP_ARCH_X86_64"],
  "flags": ["SECCOMP_FILTER_FLAG_LOG"],
  "syscalls": [
    {"names": ["mkdir", "mkdirat", "nosuchcall"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13},
    {"name": "uname", "action": "SCMP_ACT_KILL", "args": null},
    {"names": ["kill"], "action": "SCMP_ACT_ERRNO",
     "args": [{"index": 1, "value": 9, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 15, "op": "SCMP_CMP_EQ"}]},
    {"names": ["sync"], "action": "SCMP_ACT_LOG", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
    {"names": ["chroot"], "action": "SCMP_ACT_TRAP", "excludes": {"caps": ["CAP_SYS_ADMIN"]}, "includes": {"arches": ["s390x"]}},
    {"names": ["prctl"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 255, "valueTwo": 3, "op": "SCMP_CMP_MASKED_EQ"}]}
  ]
}"#;

#[test]
fn profiles_of_users() {
    let program = compile_profile(PROFILE, default_set()).unwrap();
    assert_eq!(program.flags, 2);
    for (name, arguments, expected) in [
        ("read", &[][..], ALLOW),
        ("mkdirat", &[], 0x0005_000d),
        ("uname", &[], 0),
        ("kill", &[1, 9], EPERM),
        ("kill", &[1, 15], EPERM),
        ("kill", &[1, 2], ALLOW),
        ("sync", &[], ALLOW),
        ("chroot", &[], ALLOW),
        ("prctl", &[0x103], EPERM),
        ("prctl", &[4], ALLOW),
    ] {
        assert_eq!(
            decide(&program, name, arguments),
            expected,
            "{name} {arguments:?}"
        );
    }
    let admin = compile_profile(PROFILE, capabilities::ALL).unwrap();
    assert_eq!(decide(&admin, "sync", &[]), 0x7ffc_0000);
}

#[test]
fn wrong_profiles_are_refused() {
    let entry = |fields: &str| {
        format!(
            r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{{"names": ["read"], {fields}}}]}}"#
        )
    };
    for (json, expected) in [
        ("{".to_owned(), "decoding seccomp profile failed"),
        (
            r#"{"defaultAction": "X"}"#.to_owned(),
            "string X is not a valid action for seccomp",
        ),
        (
            entry(r#""action": "SCMP_ACT_NOTIFY""#),
            "string SCMP_ACT_NOTIFY is not a valid action for seccomp",
        ),
        (
            entry(r#""action": "SCMP_ACT_KILL", "args": [{"index": 0, "value": 1, "op": "EQ"}]"#),
            "string EQ is not a valid operator for seccomp",
        ),
        (
            entry(
                r#""action": "SCMP_ACT_KILL", "args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]"#,
            ),
            "seccomp argument index 6 is not between 0 and 5",
        ),
    ] {
        assert_eq!(compile_profile(&json, 0).unwrap_err().to_string(), expected);
    }
}
