//! How much of what a node must have left (upstream's `evictionHard`, `evictionSoft` and their like).

use std::collections::BTreeMap;

use api::duration;
use api::quantity::Quantity;
use jiff::SignedDuration;
use thiserror::Error;

use super::{DISK, MEMORY, PIDS, Pressure};

/// How long a node is still said to be under pressure when it is not any more, unless the settings say so.
const TRANSITION: SignedDuration = SignedDuration::from_mins(5);

/// What can run out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// `memory.available`
    Memory,
    /// `nodefs.available`: bytes of the file system that has everything of the node.
    Disk,
    /// `nodefs.inodesFree`
    Inodes,
    /// `imagefs.available`: bytes of the file system that has the images.
    ImageDisk,
    /// `imagefs.inodesFree`
    ImageInodes,
    /// `pid.available`
    Pids,
}

impl Signal {
    const ALL: [Signal; 6] = [
        Signal::Memory,
        Signal::Disk,
        Signal::Inodes,
        Signal::ImageDisk,
        Signal::ImageInodes,
        Signal::Pids,
    ];

    fn of(name: &str) -> Result<Self, BadThreshold> {
        let signal = Signal::ALL.into_iter().find(|signal| signal.name() == name);
        signal.ok_or_else(|| BadThreshold::Signal(name.to_owned()))
    }

    fn name(self) -> &'static str {
        match self {
            Signal::Memory => "memory.available",
            Signal::Disk => "nodefs.available",
            Signal::Inodes => "nodefs.inodesFree",
            Signal::ImageDisk => "imagefs.available",
            Signal::ImageInodes => "imagefs.inodesFree",
            Signal::Pids => "pid.available",
        }
    }

    pub(super) fn pressure(self) -> Pressure {
        match self {
            Signal::Memory => MEMORY,
            Signal::Disk | Signal::Inodes | Signal::ImageDisk | Signal::ImageInodes => DISK,
            Signal::Pids => PIDS,
        }
    }

    pub(super) fn resource(self) -> &'static str {
        match self {
            Signal::Memory => "memory",
            Signal::Disk | Signal::ImageDisk => "ephemeral-storage",
            Signal::Inodes | Signal::ImageInodes => "inodes",
            Signal::Pids => "pids",
        }
    }

    pub(super) fn shown(self, amount: u64) -> String {
        let amount = i64::try_from(amount).unwrap_or(i64::MAX);
        match self {
            Signal::Memory | Signal::Disk | Signal::ImageDisk => {
                Quantity::from_bytes(amount).to_string()
            }
            Signal::Inodes | Signal::ImageInodes | Signal::Pids => {
                Quantity::from_i64(amount).to_string()
            }
        }
    }
}

/// How much there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// As a whole.
    pub capacity: u64,
    /// Of that, what is not used.
    pub available: u64,
}

/// Why a threshold cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadThreshold {
    /// Nothing of this name is measured.
    #[error("unsupported eviction signal {0}")]
    Signal(String),
    /// Neither an amount nor a percentage.
    #[error("eviction threshold {0}: {1:?} is neither a quantity nor a percentage")]
    Amount(String, String),
    /// Less than something.
    #[error("eviction threshold {0} must be positive: {1}")]
    NotPositive(String, String),
    /// Less than nothing.
    #[error("negative eviction minimum reclaim specified for {0}")]
    NegativeReclaim(String),
    /// A soft threshold without the time it has to last.
    #[error("grace period must be specified for the soft eviction threshold {0}")]
    NoGrace(String),
    /// Less than no time.
    #[error("invalid eviction grace period specified: {0}, must be a positive value")]
    NegativeGrace(String),
    /// Not a duration.
    #[error(transparent)]
    Duration(#[from] duration::ParseError),
    /// Fewer seconds than none.
    #[error("must be greater than or equal to 0: {0}")]
    NegativeSeconds(i64),
}

/// A setting that cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{field}")]
pub struct BadSetting {
    /// Its name.
    pub field: &'static str,
    /// What is wrong with it.
    #[source]
    pub error: BadThreshold,
}

/// The settings as they are written, by the names of upstream's KubeletConfiguration. Amounts are quantities or percentages, by the
/// names of signals.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// `evictionHard`
    pub hard: BTreeMap<String, String>,
    /// `evictionSoft`
    pub soft: BTreeMap<String, String>,
    /// `evictionSoftGracePeriod`: how long a soft threshold has to be missed; durations by the names of signals.
    pub soft_grace_period: BTreeMap<String, String>,
    /// `evictionMinimumReclaim`: how much beyond a threshold there has to be again.
    pub minimum_reclaim: BTreeMap<String, String>,
    /// `evictionMaxPodGracePeriod`: most seconds a Pod has to end that goes for a soft threshold.
    pub max_pod_grace_period: i64,
    /// `evictionPressureTransitionPeriod`
    pub transition_period: Option<String>,
}

/// When Pods have to go for the node's sake.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// What there must be, hard thresholds first.
    pub thresholds: Vec<Threshold>,
    /// Most seconds a Pod has to end that goes for a soft threshold.
    pub(super) max_grace_seconds: i64,
    /// How long a pressure is told of after it was seen last.
    pub(super) transition: SignedDuration,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            thresholds: Vec::new(),
            max_grace_seconds: 0,
            transition: TRANSITION,
        }
    }
}

/// How much there must be, at the least.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    pub(super) signal: Signal,
    least: Amount,
    /// How long it may be missed; `None`: it is hard.
    pub(super) grace: Option<SignedDuration>,
    /// How much beyond `least` there has to be again once it was acted upon.
    reclaim: Option<Amount>,
}

#[derive(Debug, Clone, PartialEq)]
enum Amount {
    Quantity(Quantity),
    /// Of all there is; 0.1 is a tenth.
    Part(f64),
}

impl Policy {
    /// Reads the settings. Percentages of 0 and 100 mean no threshold, as upstream has it.
    ///
    /// # Errors
    /// The first that cannot be meant.
    pub fn read(settings: &Settings) -> Result<Policy, BadSetting> {
        let of = |field| move |error| BadSetting { field, error };
        let mut thresholds = thresholds(&settings.hard).map_err(of("evictionHard"))?;
        let mut soft = self::thresholds(&settings.soft).map_err(of("evictionSoft"))?;
        let graces = graces(&settings.soft_grace_period);
        let graces = graces.map_err(of("evictionSoftGracePeriod"))?;
        for threshold in &mut soft {
            let grace = graces.get(&threshold.signal).copied();
            let none = || BadThreshold::NoGrace(threshold.signal.name().to_owned());
            threshold.grace = Some(grace.ok_or_else(none).map_err(of("evictionSoft"))?);
        }
        thresholds.extend(soft);
        let reclaims = reclaims(&settings.minimum_reclaim);
        let reclaims = reclaims.map_err(of("evictionMinimumReclaim"))?;
        for threshold in &mut thresholds {
            threshold.reclaim = reclaims.get(&threshold.signal).cloned();
        }
        let max_grace_seconds = settings.max_pod_grace_period;
        if max_grace_seconds < 0 {
            let error = BadThreshold::NegativeSeconds(max_grace_seconds);
            return Err(of("evictionMaxPodGracePeriod")(error));
        }
        let transition = settings.transition_period.as_deref();
        let transition = transition.map_or(Ok(TRANSITION), duration);
        Ok(Policy {
            thresholds,
            max_grace_seconds,
            transition: transition.map_err(of("evictionPressureTransitionPeriod"))?,
        })
    }
}

fn thresholds(texts: &BTreeMap<String, String>) -> Result<Vec<Threshold>, BadThreshold> {
    let mut thresholds = Vec::new();
    for (name, text) in texts {
        let signal = Signal::of(name)?;
        if ["0%", "100%"].contains(&text.as_str()) {
            continue;
        }
        let least = amount(name, text)?;
        if !least.is_positive() {
            return Err(BadThreshold::NotPositive(name.clone(), text.clone()));
        }
        thresholds.push(Threshold {
            signal,
            least,
            grace: None,
            reclaim: None,
        });
    }
    Ok(thresholds)
}

fn graces(
    texts: &BTreeMap<String, String>,
) -> Result<BTreeMap<Signal, SignedDuration>, BadThreshold> {
    let grace = |(name, text): (&String, &String)| Ok((Signal::of(name)?, duration(text)?));
    texts.iter().map(grace).collect()
}

fn duration(text: &str) -> Result<SignedDuration, BadThreshold> {
    let nanoseconds = duration::parse_go(text)?;
    if nanoseconds < 0 {
        return Err(BadThreshold::NegativeGrace(text.to_owned()));
    }
    Ok(SignedDuration::from_nanos(nanoseconds))
}

fn reclaims(texts: &BTreeMap<String, String>) -> Result<BTreeMap<Signal, Amount>, BadThreshold> {
    let mut reclaims = BTreeMap::new();
    for (name, text) in texts {
        let signal = Signal::of(name)?;
        let amount = amount(name, text)?;
        match &amount {
            Amount::Part(part) if *part <= 0.0 => {
                return Err(BadThreshold::NotPositive(name.clone(), text.clone()));
            }
            Amount::Quantity(quantity) if quantity.signum() < 0 => {
                return Err(BadThreshold::NegativeReclaim(name.clone()));
            }
            _ => reclaims.insert(signal, amount),
        };
    }
    Ok(reclaims)
}

fn amount(name: &str, text: &str) -> Result<Amount, BadThreshold> {
    let read = match text.strip_suffix('%') {
        Some(percent) => {
            let percent = percent
                .parse()
                .ok()
                .filter(|percent: &f64| *percent <= 100.0);
            percent.map(|percent| Amount::Part(percent / 100.0))
        }
        None => text.parse().ok().map(Amount::Quantity),
    };
    read.ok_or_else(|| BadThreshold::Amount(name.to_owned(), text.to_owned()))
}

impl Amount {
    fn is_positive(&self) -> bool {
        match self {
            Amount::Quantity(quantity) => quantity.signum() > 0,
            Amount::Part(part) => *part > 0.0,
        }
    }

    fn of(&self, capacity: u64) -> u64 {
        match self {
            Amount::Quantity(quantity) => u64::try_from(quantity.value()).unwrap_or(u64::MAX),
            Amount::Part(part) => (capacity as f64 * part) as u64,
        }
    }
}

impl Threshold {
    /// Whether there is less than it asks for; with `was_met` also until what it wants reclaimed is there beyond that. What a file
    /// system does not count, it does not run out of.
    pub(super) fn is_met(&self, level: &Level, was_met: bool) -> bool {
        let reclaim = self.reclaim.as_ref().filter(|_| was_met);
        let reclaim = reclaim.map_or(0, |amount| amount.of(level.capacity));
        let least = self.least.of(level.capacity).saturating_add(reclaim);
        level.capacity > 0 && level.available < least
    }

    /// How much it asks for, for people.
    pub(super) fn least_shown(&self, level: &Level) -> String {
        match &self.least {
            Amount::Quantity(quantity) => quantity.to_string(),
            part => self.signal.shown(part.of(level.capacity)),
        }
    }
}
