//! What benchmarks print: samples become a line.

use std::time::Duration;

use anyhow::ensure;

/// Prints a line of a table: median, 99th percentile and longest of the samples in milliseconds. Returns the median.
///
/// # Errors
/// There are no samples.
pub fn line(what: &str, samples: &[Duration]) -> anyhow::Result<f64> {
    ensure!(!samples.is_empty(), "nothing to tell of:{what}");
    let mut sorted: Vec<f64> = samples.iter().map(|s| s.as_secs_f64() * 1000.0).collect();
    sorted.sort_by(f64::total_cmp);
    let quantile = |of: usize| sorted[(sorted.len() - 1) * of / 100];
    let [p50, p99, longest] = [50, 99, 100].map(quantile);
    println!("{what:52}{p50:>10.3}{p99:>10.3}{longest:>10.3}");
    Ok(p50)
}
