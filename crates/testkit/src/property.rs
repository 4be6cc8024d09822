use proptest::test_runner::{Config, RngSeed};

/// How properties are tried: `usual` cases drawn from `seed`, the same each time, as an answer about a change must not depend on
/// chance; or as many others as `PROPTEST_CASES` says.
pub fn cases(usual: u32, seed: u64) -> Config {
    let cases = std::env::var("PROPTEST_CASES").ok();
    let cases = cases.and_then(|n| n.parse().ok());
    Config {
        cases: cases.unwrap_or(usual),
        rng_seed: cases.map_or(RngSeed::Fixed(seed), |_| RngSeed::Random),
        failure_persistence: None,
        ..Config::default()
    }
}
