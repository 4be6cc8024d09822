//! The report: what was measured, as lines for people or JSON for programs.

use std::fmt::Write;

use serde::Serialize;

use crate::figures::{Figures, Measure};

/// Everything one run of the benchmark found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// The machine in general words.
    pub(crate) machine: String,
    /// Load average over a minute when the run began and ended: what else the machine had to do.
    pub(crate) load: [f64; 2],
    /// Size of the `carob` file in bytes.
    pub(crate) binary_bytes: u64,
    pub(crate) measures: Vec<Measure>,
    /// What was left out, and why.
    pub(crate) skipped: Vec<String>,
    /// What could not be measured, and why.
    pub(crate) failed: Vec<String>,
}

impl Report {
    /// A table, then how each line was measured.
    pub(crate) fn text(&self) -> String {
        let mut rows =
            vec![["", "carob p50", "p95", "goal", "peer p50", "p95", "ratio"].map(str::to_owned)];
        rows.extend(self.measures.iter().map(row));
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
        let widths: Vec<usize> = (0..7)
            .map(|column| width(column).unwrap_or_default())
            .collect();
        let mut text = format!(
            "{}, load {:.1} to {:.1}; carob is {:.1} MiB\n\n",
            self.machine,
            self.load[0],
            self.load[1],
            self.binary_bytes as f64 / 1_048_576.0
        );
        for row in &rows {
            let mut line = format!("{:<1$}", row[0], widths[0]);
            for (cell, width) in row.iter().zip(&widths).skip(1) {
                // Writing to a String cannot fail.
                let _ = write!(line, "  {cell:>width$}");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text.push_str("\nhow\n");
        for (index, measure) in self.measures.iter().enumerate() {
            let alike = |other: &&Measure| other.how == measure.how;
            if self.measures[..index].iter().any(|other| alike(&other)) {
                continue;
            }
            let lines: Vec<&str> = self.measures[index..]
                .iter()
                .filter(alike)
                .map(|line| line.what.trim_start())
                .collect();
            let (lines, n) = (lines.join("; "), measure.carob.n);
            let _ = writeln!(text, "  {lines} (n {n}): {}", measure.how);
        }
        for (word, list) in [("skipped", &self.skipped), ("failed", &self.failed)] {
            for entry in list {
                let _ = writeln!(text, "{word}: {entry}");
            }
        }
        text
    }
}

fn row(measure: &Measure) -> [String; 7] {
    let unit = measure.unit.name();
    let p50 = |figures: &Figures| {
        format!("{} {unit}", short(figures.p50))
            .trim_end()
            .to_owned()
    };
    // A single sample has no spread.
    let p95 = |figures: &Figures| {
        if figures.n > 1 {
            short(figures.p95)
        } else {
            String::new()
        }
    };
    [
        measure.what.clone(),
        p50(&measure.carob),
        p95(&measure.carob),
        measure
            .goal
            .map(|goal| format!("≤ {}", short(goal)))
            .unwrap_or_default(),
        measure.peer.as_ref().map(p50).unwrap_or_default(),
        measure.peer.as_ref().map(p95).unwrap_or_default(),
        measure
            .ratio
            .map(|ratio| format!("{}×", short(ratio)))
            .unwrap_or_default(),
    ]
}

/// A number with about three digits.
fn short(number: f64) -> String {
    let decimals = match number.abs() {
        size if size == 0.0 || size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    format!("{number:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Unit;

    fn report() -> Report {
        let figures = |samples: &[f64]| Figures::of(samples).expect("samples");
        Report {
            machine: "2 cores".into(),
            load: [0.0, 1.0],
            binary_bytes: 3 * 1_048_576,
            measures: vec![
                Measure::new(
                    "a",
                    "starts",
                    "by the clock",
                    Unit::Milliseconds,
                    figures(&[4.0, 4.0]),
                )
                .goal(5.0)
                .beside(Some(figures(&[160.0, 160.0]))),
                Measure::new("b", "bytes", "by looking", Unit::Count, figures(&[0.0])),
            ],
            skipped: vec!["podman: not installed".into()],
            failed: Vec::new(),
        }
    }

    #[test]
    fn the_table_is_aligned_and_says_how() {
        let text = report().text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "2 cores, load 0.0 to 1.0; carob is 3.0 MiB");
        assert_eq!(
            lines[2],
            "        carob p50   p95    goal  peer p50  p95  ratio"
        );
        assert_eq!(
            lines[3],
            "starts    4.00 ms  4.00  ≤ 5.00    160 ms  160  40.0×"
        );
        assert_eq!(lines[4], "bytes           0");
        assert!(text.contains("starts (n 2): by the clock"), "{text}");
        assert!(text.ends_with("skipped: podman: not installed\n"), "{text}");
    }

    #[test]
    fn json_names_each_measure() {
        let json = serde_json::to_value(report()).expect("serialises");
        assert_eq!(json["measures"][0]["id"], "a");
        assert_eq!(json["measures"][0]["ratio"], 40.0);
        assert_eq!(json["measures"][0]["unit"], "ms");
        assert!(json["measures"][1]["peer"].is_null());
    }

    #[test]
    fn numbers_keep_three_digits() {
        for (number, text) in [
            (0.0, "0"),
            (0.114, "0.11"),
            (4.256, "4.26"),
            (42.34, "42.3"),
            (1012.4, "1012"),
        ] {
            assert_eq!(short(number), text);
        }
    }
}
