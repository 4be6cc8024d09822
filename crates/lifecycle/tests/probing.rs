//! One probe's attempts: when they are made, and what their answers add up to (§5.2).

use std::time::Duration;

use k8s_openapi::api::core::v1::{ExecAction, Probe};
use lifecycle::probe::{Answer, Health, Kind, Prober};
use testkit::probe;

fn delayed(mut probe: Probe, seconds: i32) -> Probe {
    probe.initial_delay_seconds = Some(seconds);
    probe
}

fn by_exec(mut probe: Probe) -> Probe {
    probe.tcp_socket = None;
    probe.exec = Some(ExecAction::default());
    probe
}

/// Times of the first attempts in milliseconds, when each takes no time and gives this answer.
fn attempts(mut prober: Prober, answer: &Answer, count: usize) -> Vec<u128> {
    let mut times = Vec::new();
    for _ in 0..count {
        let due = prober.due();
        times.push(due.as_millis());
        prober.take(answer, due);
    }
    times
}

fn failure() -> Answer {
    Answer::Failure("no".to_owned())
}

#[test]
fn attempts_are_made_on_time() {
    let new = |kind, probe: Probe, age| Prober::new(kind, &probe, Duration::from_secs(age), None);
    let rows = [
        (
            "a new run is asked until it is up, then every period",
            new(Kind::Readiness, probe(10, 3), 0),
            failure(),
            vec![0, 50, 150, 350, 750, 1000, 11_000],
        ),
        (
            "the first success ends the hurry",
            new(Kind::Startup, probe(10, 3), 0),
            Answer::Success,
            vec![0, 10_000, 20_000],
        ),
        (
            "programs are asked twice in that time",
            new(Kind::Startup, by_exec(probe(2, 3)), 0),
            failure(),
            vec![0, 1000, 3000],
        ),
        (
            "liveness waits for a period",
            new(Kind::Liveness, probe(10, 3), 0),
            failure(),
            vec![10_000, 20_000],
        ),
        (
            "or for its delay",
            new(Kind::Liveness, delayed(probe(10, 3), 15), 0),
            failure(),
            vec![15_000, 25_000],
        ),
        (
            "a delay counts from the start of the run",
            new(Kind::Readiness, delayed(probe(10, 3), 15), 12),
            failure(),
            vec![3_000, 13_000],
        ),
        (
            "a run that is older is asked at once",
            new(Kind::Readiness, probe(10, 3), 40),
            failure(),
            vec![0, 10_000],
        ),
        (
            "absent fields have their defaults",
            new(Kind::Liveness, Probe::default(), 0),
            failure(),
            vec![10_000, 20_000],
        ),
        (
            "many that are found running begin one after another",
            Prober::new(
                Kind::Readiness,
                &probe(10, 3),
                Duration::from_secs(99),
                Some(0.25),
            ),
            failure(),
            vec![2_500, 12_500],
        ),
    ];
    for (name, prober, answer, want) in rows {
        assert_eq!(attempts(prober, &answer, want.len()), want, "{name}");
    }
}

#[test]
fn an_attempt_that_takes_longer_than_the_period_delays_the_next() {
    let mut prober = Prober::new(Kind::Liveness, &probe(1, 3), Duration::ZERO, None);
    prober.take(&failure(), Duration::from_millis(2500));
    assert_eq!(prober.due(), Duration::from_millis(2500));
}

#[test]
fn enough_equal_answers_in_a_row_establish_something() {
    let thresholds = |success, failures| {
        let mut probe = delayed(probe(1, failures), 1);
        probe.success_threshold = Some(success);
        Prober::new(Kind::Readiness, &probe, Duration::ZERO, None)
    };
    // S: success, W: success with a warning, F: failure, E: error; G and B: what is established.
    let rows = [
        (thresholds(1, 3), "FFF", "..B"),
        (thresholds(1, 3), "FFSFFF", "..G..B"),
        (thresholds(2, 1), "SSFSS", ".GB.G"),
        (thresholds(1, 2), "FEF", "..B"),
        (thresholds(1, 1), "EEE", "..."),
        (thresholds(1, 2), "WSFF", "G..B"),
        (thresholds(1, 1), "FFSS", "B.G."),
    ];
    for (mut prober, answers, want) in rows {
        let mut got = String::new();
        for answer in answers.chars() {
            let answer = match answer {
                'S' => Answer::Success,
                'W' => Answer::Warning("hm".to_owned()),
                'F' => failure(),
                _ => Answer::Error("cannot ask".to_owned()),
            };
            let taken = prober.take(&answer, prober.due());
            assert_eq!(
                taken.is_told,
                answer != Answer::Success,
                "{answers}: every answer but success is told"
            );
            got.push(match taken.health {
                Some(Health::Good) => 'G',
                Some(Health::Bad) => 'B',
                None => '.',
            });
        }
        assert_eq!(got, want, "{answers}");
    }
}

#[test]
fn the_first_second_of_a_run_is_not_judged() {
    let mut prober = Prober::new(Kind::Startup, &probe(1, 1), Duration::ZERO, None);
    let mut judged = Vec::new();
    while judged.is_empty() {
        let due = prober.due();
        let taken = prober.take(&failure(), due);
        if taken.is_told {
            assert_eq!(taken.health, Some(Health::Bad));
            judged.push(due.as_millis());
        }
    }
    assert_eq!(judged, [1000]);
}
