//! What was measured, as plain values: samples become figures, figures become lines and ratios.

use std::time::Duration;

use serde::Serialize;

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Unit {
    /// Milliseconds.
    #[serde(rename = "ms")]
    Milliseconds,
    /// 2^20 bytes.
    #[serde(rename = "MiB")]
    Mebibytes,
    /// 2^10 bytes.
    #[serde(rename = "KiB")]
    Kibibytes,
    /// Plain numbers.
    #[serde(rename = "count")]
    Count,
}

impl Unit {
    /// The unit as it is printed after a number.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Unit::Milliseconds => "ms",
            Unit::Mebibytes => "MiB",
            Unit::Kibibytes => "KiB",
            Unit::Count => "",
        }
    }
}

/// A series of samples, summed up.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Figures {
    /// How many samples.
    pub(crate) n: usize,
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Figures {
    /// Sums up samples in any order; `None` if there are none.
    pub(crate) fn of(samples: &[f64]) -> Option<Figures> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        Some(Figures {
            n: sorted.len(),
            p50: quantile(&sorted, 0.50),
            p95: quantile(&sorted, 0.95),
            min,
            max,
        })
    }

    /// The same of times, in milliseconds.
    pub(crate) fn of_times(samples: &[Duration]) -> Option<Figures> {
        let samples: Vec<f64> = samples
            .iter()
            .map(|time| time.as_secs_f64() * 1000.0)
            .collect();
        Figures::of(&samples)
    }
}

/// The value below which the share `q` of `sorted` lies, interpolated between neighbours; `sorted` is not empty.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let last = sorted.len() - 1;
    let position = q * last as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(last);
    sorted[below] + (sorted[above] - sorted[below]) * (position - below as f64)
}

/// One line of the report.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Measure {
    /// Stable name of the measure, for those who read the JSON.
    pub(crate) id: String,
    /// What was measured, in words.
    pub(crate) what: String,
    /// How it was measured, in words.
    pub(crate) how: &'static str,
    pub(crate) unit: Unit,
    /// What Carob is to reach or stay below, in `unit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) goal: Option<f64>,
    pub(crate) carob: Figures,
    /// The peer's figures in the same run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peer: Option<Figures>,
    /// The peer's p50 over Carob's: how many times less Carob needs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ratio: Option<f64>,
}

impl Measure {
    /// A measure of Carob alone; [`Measure::goal`] and [`Measure::beside`] say more.
    pub(crate) fn new(
        id: impl Into<String>,
        what: impl Into<String>,
        how: &'static str,
        unit: Unit,
        carob: Figures,
    ) -> Measure {
        Measure {
            id: id.into(),
            what: what.into(),
            how,
            unit,
            goal: None,
            carob,
            peer: None,
            ratio: None,
        }
    }

    /// The same with what Carob is to reach.
    pub(crate) fn goal(mut self, goal: f64) -> Measure {
        self.goal = Some(goal);
        self
    }

    /// The same with the peer's figures beside, if there are any.
    pub(crate) fn beside(mut self, peer: Option<Figures>) -> Measure {
        self.ratio = peer.and_then(|peer| ratio(peer.p50, self.carob.p50));
        self.peer = peer;
        self
    }
}

/// How many times `own` fits into `other`; `None` when nothing was measured.
fn ratio(other: f64, own: f64) -> Option<f64> {
    (own > 0.0 && other > 0.0).then(|| other / own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_neighbours() {
        for (samples, p50, p95) in [
            (&[7.0][..], 7.0, 7.0),
            (&[1.0, 2.0], 1.5, 1.95),
            (&[3.0, 1.0, 2.0], 2.0, 2.9),
            (
                &[
                    10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 100.0, 110.0,
                ],
                60.0,
                105.0,
            ),
        ] {
            let figures = Figures::of(samples).expect("samples");
            assert!((figures.p50 - p50).abs() < 1e-9, "{samples:?}: {figures:?}");
            assert!((figures.p95 - p95).abs() < 1e-9, "{samples:?}: {figures:?}");
            assert_eq!(figures.n, samples.len());
        }
    }

    #[test]
    fn extremes_are_kept_and_order_does_not_matter() {
        let figures = Figures::of(&[5.0, -1.0, 9.0]).expect("samples");
        assert_eq!((figures.min, figures.max), (-1.0, 9.0));
        assert_eq!(Some(figures), Figures::of(&[9.0, 5.0, -1.0]));
        assert_eq!(Figures::of(&[]), None);
    }

    #[test]
    fn times_are_milliseconds() {
        let figures = Figures::of_times(&[Duration::from_micros(1500)]).expect("samples");
        assert!((figures.p50 - 1.5).abs() < 1e-9);
    }

    #[test]
    fn a_ratio_needs_two_numbers() {
        assert_eq!(ratio(160.0, 4.0), Some(40.0));
        assert_eq!(ratio(160.0, 0.0), None);
        assert_eq!(ratio(0.0, 4.0), None);
        let one = Figures::of(&[2.0]).expect("samples");
        let measure = Measure::new("id", "what", "how", Unit::Milliseconds, one);
        assert_eq!(measure.clone().beside(None).ratio, None);
        assert_eq!(measure.beside(Figures::of(&[3.0])).ratio, Some(1.5));
    }
}
