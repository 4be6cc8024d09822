//! From a policy to classic BPF: a binary search over ranges of call numbers, so that any call is decided in a dozen steps.

use super::policy::{Action, Compare, Policy, Rule, Test};

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JEQ: u16 = 0x15;
const JGT: u16 = 0x25;
const JGE: u16 = 0x35;
const RET: u16 = 0x06;

const NUMBER: u32 = 0;
const ARCH: u32 = 4;

#[cfg(target_arch = "x86_64")]
const OWN_ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const OWN_ARCH: u32 = 0xc000_00b7;

/// Numbers from here on are the x32 interface on x86_64, and nothing elsewhere.
const X32: u32 = 0x4000_0000;

/// The kernel's limit (BPF_MAXINSNS).
pub(super) const MAX: usize = 4096;

/// A `struct sock_filter` as one word.
fn insn(code: u16, jt: u8, jf: u8, k: u32) -> u64 {
    u64::from(code) | u64::from(jt) << 16 | u64::from(jf) << 24 | u64::from(k) << 32
}

fn ret(action: Action) -> u64 {
    insn(RET, 0, 0, action.value())
}

/// Where a jump of a test goes.
#[derive(Clone, Copy)]
enum To {
    Next,
    /// Past this test, which holds.
    Holds,
    /// Past the rule, which does not match.
    Fails,
}

enum Step {
    Load(u32),
    And(u32),
    Jump(u16, u32, To, To),
}

/// Compiles a policy. Calls of another architecture or interface fail with ENOSYS: their numbers mean other things.
pub(super) fn compile(policy: &Policy) -> Vec<u64> {
    let unknown = Action::Errno(libc::ENOSYS as u16);
    let mut code = vec![
        insn(LOAD, 0, 0, ARCH),
        insn(JEQ, 1, 0, OWN_ARCH),
        ret(unknown),
        insn(LOAD, 0, 0, NUMBER),
    ];
    code.extend(search(&ranges(policy, unknown)));
    code
}

/// A first number and what is done from there to the next range.
type Range = (u32, Vec<u64>);

/// The number line cut where the decision changes.
fn ranges(policy: &Policy, unknown: Action) -> Vec<Range> {
    let mut cuts: Vec<Range> = vec![(0, vec![ret(policy.default)])];
    let mut push = |at: u32, code: Vec<u64>| {
        if cuts.last().is_some_and(|(start, _)| *start == at) {
            cuts.pop();
        }
        if cuts.last().is_none_or(|(_, last)| *last != code) {
            cuts.push((at, code));
        }
    };
    for (number, rules) in policy.rules.range(..X32) {
        push(*number, decide(rules, policy.default));
        push(number + 1, vec![ret(policy.default)]);
    }
    if let Some(first) = policy.first_unknown().filter(|n| *n < X32) {
        push(first, vec![ret(unknown)]);
    }
    push(X32, vec![ret(unknown)]);
    cuts
}

fn decide(rules: &[Rule], default: Action) -> Vec<u64> {
    let mut code = Vec::new();
    for rule in rules {
        code.extend(compile_rule(rule));
        if rule.tests.is_empty() {
            return code;
        }
    }
    code.push(ret(default));
    code
}

fn compile_rule(rule: &Rule) -> Vec<u64> {
    let tests: Vec<Vec<Step>> = rule.tests.iter().map(steps).collect();
    let total: usize = tests.iter().map(Vec::len).sum::<usize>() + 1;
    let mut code = Vec::with_capacity(total);
    for test in &tests {
        let end = code.len() + test.len();
        for step in test {
            let after = code.len() + 1;
            // At most 6 arguments of 6 steps: offsets stay far below 256.
            let offset = |to: To| match to {
                To::Next => 0,
                To::Holds => (end - after) as u8,
                To::Fails => (total - after) as u8,
            };
            code.push(match step {
                Step::Load(at) => insn(LOAD, 0, 0, *at),
                Step::And(mask) => insn(AND, 0, 0, *mask),
                Step::Jump(op, k, yes, no) => insn(*op, offset(*yes), offset(*no), *k),
            });
        }
    }
    code.push(ret(rule.action));
    code
}

/// A comparison of 64 bits in halves, the high one first (arguments are little-endian).
fn steps(test: &Test) -> Vec<Step> {
    use To::{Fails, Holds, Next};
    let low_at = 16 + 8 * u32::from(test.argument);
    let (high, low) = ((test.value >> 32) as u32, test.value as u32);
    let load = |at| Step::Load(at);
    let ordered = |op, yes, no| {
        vec![
            load(low_at + 4),
            Step::Jump(
                JGT,
                high,
                if matches!(yes, Next) { Holds } else { Fails },
                Next,
            ),
            Step::Jump(
                JEQ,
                high,
                Next,
                if matches!(yes, Next) { Fails } else { Holds },
            ),
            load(low_at),
            Step::Jump(op, low, yes, no),
        ]
    };
    match test.compare {
        Compare::Equal => {
            vec![
                load(low_at + 4),
                Step::Jump(JEQ, high, Next, Fails),
                load(low_at),
                Step::Jump(JEQ, low, Next, Fails),
            ]
        }
        Compare::NotEqual => {
            vec![
                load(low_at + 4),
                Step::Jump(JEQ, high, Next, Holds),
                load(low_at),
                Step::Jump(JEQ, low, Fails, Next),
            ]
        }
        Compare::Masked(mask) => vec![
            load(low_at + 4),
            Step::And((mask >> 32) as u32),
            Step::Jump(JEQ, high, Next, Fails),
            load(low_at),
            Step::And(mask as u32),
            Step::Jump(JEQ, low, Next, Fails),
        ],
        Compare::Greater => ordered(JGT, Next, Fails),
        Compare::GreaterOrEqual => ordered(JGE, Next, Fails),
        Compare::Less => ordered(JGE, Fails, Next),
        Compare::LessOrEqual => ordered(JGT, Fails, Next),
    }
}

/// A balanced tree over ranges; the number is in the accumulator.
fn search(ranges: &[Range]) -> Vec<u64> {
    match ranges {
        [] => Vec::new(),
        [(_, code)] => code.clone(),
        _ => {
            let (left, right) = ranges.split_at(ranges.len() / 2);
            let pivot = right[0].0;
            let (left, right) = (search(left), search(right));
            let mut code = match u8::try_from(left.len()) {
                Ok(offset) => vec![insn(JGE, offset, 0, pivot)],
                Err(_) => vec![insn(JGE, 0, 1, pivot), insn(JUMP, 0, 0, left.len() as u32)],
            };
            code.extend(left);
            code.extend(right);
            code
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Runs a filter as the kernel would, and counts the steps.
    pub(in crate::seccomp) fn run(
        code: &[u64],
        arch: u32,
        number: u32,
        arguments: &[u64; 6],
    ) -> (u32, usize) {
        let load = |at: u32| match at {
            NUMBER => number,
            ARCH => arch,
            at => (arguments[(at as usize - 16) / 8] >> (8 * (at % 8))) as u32,
        };
        let (mut a, mut at, mut count) = (0u32, 0usize, 0);
        loop {
            let i = code[at];
            let (op, jt, jf, k) = (
                i as u16,
                (i >> 16) as u8 as usize,
                (i >> 24) as u8 as usize,
                (i >> 32) as u32,
            );
            at += 1;
            count += 1;
            let mut jump = |taken: bool| at += if taken { jt } else { jf };
            match op {
                LOAD => a = load(k),
                AND => a &= k,
                JEQ => jump(a == k),
                JGT => jump(a > k),
                JGE => jump(a >= k),
                JUMP => at += k as usize,
                RET => return (k, count),
                other => panic!("{other:#x}"),
            }
        }
    }

    pub(in crate::seccomp) fn own(code: &[u64], number: u32, arguments: &[u64; 6]) -> u32 {
        run(code, OWN_ARCH, number, arguments).0
    }

    #[test]
    fn comparisons_see_all_64_bits() {
        let values = [
            0,
            1,
            5,
            0xffff_ffff,
            0x1_0000_0000,
            0x1_0000_0005,
            0x5_0000_0000,
            u64::MAX,
        ];
        let compares = [
            Compare::NotEqual,
            Compare::Less,
            Compare::LessOrEqual,
            Compare::Equal,
            Compare::GreaterOrEqual,
            Compare::Greater,
            Compare::Masked(0xff_0000_000f),
        ];
        for compare in compares {
            for value in values {
                let mut policy = Policy::new(Action::Errno(1));
                let test = Test {
                    argument: 3,
                    compare,
                    value,
                };
                let other = Test {
                    argument: 0,
                    compare: Compare::Equal,
                    value: 7,
                };
                policy.add(
                    5,
                    Rule {
                        tests: vec![test, other],
                        action: Action::Allow,
                    },
                );
                policy.add(
                    5,
                    Rule {
                        tests: vec![test],
                        action: Action::Log,
                    },
                );
                let code = compile(&policy);
                for argument in values {
                    for first in [7, 8] {
                        let arguments = [first, 0, 0, argument, 0, 0];
                        let expected = policy.decide(5, &arguments).value();
                        assert_eq!(
                            own(&code, 5, &arguments),
                            expected,
                            "{compare:?} {value:#x} {arguments:x?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn ranges_meet_without_gaps() {
        for default in [Action::Allow, Action::Errno(1), Action::KillProcess] {
            let mut policy = Policy::new(default);
            for number in (0..1200u32).filter(|n| n % 7 < 3 || n % 11 == 0) {
                let action = if number % 5 == 0 {
                    Action::Errno(9)
                } else {
                    Action::Allow
                };
                policy.add(
                    number,
                    Rule {
                        tests: Vec::new(),
                        action,
                    },
                );
            }
            let code = compile(&policy);
            for number in 0..1300 {
                assert_eq!(
                    own(&code, number, &[0; 6]),
                    policy.decide(number, &[0; 6]).value(),
                    "{number}"
                );
            }
        }
    }

    #[test]
    fn other_interfaces_do_not_exist() {
        let code = compile(&Policy::new(Action::Allow));
        let enosys = Action::Errno(38).value();
        assert_eq!(run(&code, 0x4000_0003, 1, &[0; 6]).0, enosys, "i386");
        assert_eq!(own(&code, X32 | 1, &[0; 6]), enosys, "x32");
        assert_eq!(own(&code, X32 - 1, &[0; 6]), Action::Allow.value());
    }
}
