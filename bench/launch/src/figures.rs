//! Samples become figures, figures become a table.

use std::fmt::Write as _;
use std::time::Duration;

/// One line of the report.
pub(crate) struct Line {
    /// What was measured.
    pub(crate) what: &'static str,
    pub(crate) own: Vec<Duration>,
    /// The same done by crun, in the same run.
    pub(crate) crun: Vec<Duration>,
    /// What is to be reached, in milliseconds.
    pub(crate) goal: Option<f64>,
}

/// Milliseconds below which the share `q` of the samples lies; `None` without samples.
fn quantile(samples: &[Duration], q: f64) -> Option<f64> {
    let mut sorted: Vec<f64> = samples.iter().map(|s| s.as_secs_f64() * 1000.0).collect();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    let position = q * last as f64;
    let (below, above) = (position.floor() as usize, position.ceil() as usize);
    Some(sorted[below] + (sorted[above] - sorted[below]) * (position - below as f64))
}

fn cell(value: Option<f64>, unit: &str) -> String {
    value.map_or_else(String::new, |value| format!("{value:.2}{unit}"))
}

/// The table, with the ratio of crun's median to ours.
pub(crate) fn table(lines: &[Line]) -> String {
    let mut text = format!(
        "{:44}{:>8}{:>8}{:>8}{:>8}{:>11}{:>8}{:>8}\n",
        "milliseconds", "p50", "p95", "min", "goal", "crun p50", "p95", "ratio"
    );
    for line in lines {
        let (own, crun) = (quantile(&line.own, 0.5), quantile(&line.crun, 0.5));
        let ratio = own.zip(crun).map(|(own, crun)| crun / own);
        let _ = writeln!(
            text,
            "{:44}{:>8}{:>8}{:>8}{:>8}{:>11}{:>8}{:>8}",
            line.what,
            cell(own, ""),
            cell(quantile(&line.own, 0.95), ""),
            cell(quantile(&line.own, 0.0), ""),
            line.goal
                .map_or_else(String::new, |goal| format!("≤ {goal}")),
            cell(crun, ""),
            cell(quantile(&line.crun, 0.95), ""),
            cell(ratio, "×"),
        );
    }
    text.lines()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(millis: &[u64]) -> Vec<Duration> {
        millis.iter().map(|n| Duration::from_millis(*n)).collect()
    }

    #[test]
    fn quantiles_lie_between_neighbours() {
        for (samples, p50, p95) in [
            (&[][..], None, None),
            (&[7], Some(7.0), Some(7.0)),
            (&[2, 1], Some(1.5), Some(1.95)),
            (&[30, 10, 20], Some(20.0), Some(29.0)),
        ] {
            let samples = times(samples);
            let rounded = |q| quantile(&samples, q).map(|v| (v * 1e6).round() / 1e6);
            assert_eq!((rounded(0.5), rounded(0.95)), (p50, p95), "{samples:?}");
        }
    }

    #[test]
    fn the_ratio_is_of_medians() {
        let line = |crun: &[u64]| Line {
            what: "launch",
            own: times(&[2]),
            crun: times(crun),
            goal: Some(3.0),
        };
        let text = table(&[line(&[20]), line(&[])]);
        let rows: Vec<Vec<&str>> = text
            .lines()
            .map(|l| l.split_whitespace().collect())
            .collect();
        assert_eq!(
            rows[1],
            [
                "launch", "2.00", "2.00", "2.00", "≤", "3", "20.00", "20.00", "10.00×"
            ]
        );
        assert_eq!(rows[2], ["launch", "2.00", "2.00", "2.00", "≤", "3"]);
    }
}
