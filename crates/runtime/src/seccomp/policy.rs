//! What a filter decides: system call numbers with tests of arguments, and actions.

use std::collections::BTreeMap;

/// What happens to a call (`seccomp(2)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Allow,
    Log,
    Errno(u16),
    Trap,
    Trace(u16),
    KillThread,
    KillProcess,
}

impl Action {
    /// The value a filter returns.
    pub(super) fn value(self) -> u32 {
        match self {
            Self::Allow => 0x7fff_0000,
            Self::Log => 0x7ffc_0000,
            Self::Trace(data) => 0x7ff0_0000 | u32::from(data),
            Self::Errno(errno) => 0x0005_0000 | u32::from(errno),
            Self::Trap => 0x0003_0000,
            Self::KillThread => 0,
            Self::KillProcess => 0x8000_0000,
        }
    }
}

/// How an argument is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compare {
    NotEqual,
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
    /// Equal after masking.
    Masked(u64),
}

/// A test of one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Test {
    /// 0 to 5.
    pub(super) argument: u8,
    pub(super) compare: Compare,
    pub(super) value: u64,
}

/// Tests that must all hold, and what happens then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) tests: Vec<Test>,
    pub(super) action: Action,
}

/// A whole filter. The first matching rule of a call decides; a rule without tests stands for all of a call's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) default: Action,
    pub(super) rules: BTreeMap<u32, Vec<Rule>>,
    /// Calls numbered above every one named fail with ENOSYS, so that programs fall back instead of giving up on EPERM.
    pub(super) newer_unknown: bool,
}

impl Policy {
    pub(super) fn new(default: Action) -> Self {
        let newer_unknown = matches!(default, Action::Errno(_));
        Self {
            default,
            rules: BTreeMap::new(),
            newer_unknown,
        }
    }

    pub(super) fn add(&mut self, number: u32, rule: Rule) {
        let rules = self.rules.entry(number).or_default();
        if rules.first().is_some_and(|r| r.tests.is_empty()) {
            return;
        }
        if rule.tests.is_empty() {
            rules.clear();
        }
        rules.push(rule);
    }

    /// The lowest number that is newer than the policy, if it has an opinion on those.
    pub(super) fn first_unknown(&self) -> Option<u32> {
        let last = self.rules.keys().next_back().copied();
        last.filter(|_| self.newer_unknown).map(|n| n + 1)
    }
}

#[cfg(test)]
impl Test {
    fn holds(&self, arguments: &[u64; 6]) -> bool {
        let argument = arguments[self.argument as usize];
        match self.compare {
            Compare::NotEqual => argument != self.value,
            Compare::Less => argument < self.value,
            Compare::LessOrEqual => argument <= self.value,
            Compare::Equal => argument == self.value,
            Compare::GreaterOrEqual => argument >= self.value,
            Compare::Greater => argument > self.value,
            Compare::Masked(mask) => argument & mask == self.value,
        }
    }
}

#[cfg(test)]
impl Policy {
    /// What the policy means, said as directly as possible: the oracle for compiled filters.
    pub(super) fn decide(&self, number: u32, arguments: &[u64; 6]) -> Action {
        if self.first_unknown().is_some_and(|n| number >= n) {
            return Action::Errno(libc::ENOSYS as u16);
        }
        let rules = self
            .rules
            .get(&number)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let rule = rules
            .iter()
            .find(|r| r.tests.iter().all(|t| t.holds(arguments)));
        rule.map_or(self.default, |r| r.action)
    }
}
