//! What the flags suppose about containers; pure.
//!
//! Without a flag about it, an init container ends with 0, and so does an app container whose restart policy is not `Always`: such a
//! Pod is there to be done. Everything else runs on. What ends does so after a second; probes succeed; who is asked to stop
//! ends with 0 at once; hooks take no time but the seconds of a `sleep`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{anyhow, bail};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Pod;
use lifecycle::ContainerKind;
use lifecycle::forecast::{Answers, Conduct, Run, Starts};
use lifecycle::kinds::{self, Member};
use lifecycle::probe::Kind;

use crate::args::PlanArgs;

/// How long a run lasts that ends, if nobody says.
const LASTS: SignedDuration = SignedDuration::from_secs(1);

/// What is said about one container.
#[derive(Debug, Clone, Default, PartialEq)]
struct Said {
    /// Exit codes run by run; `None` runs on.
    exits: Vec<Option<i32>>,
    delays: Vec<SignedDuration>,
    probes: Vec<(Option<Kind>, Answers)>,
    /// The answer to the stop signal.
    stop: Option<Option<(SignedDuration, i32)>>,
    lacks: Option<Starts>,
}

/// Everything that is said, by container. Names are checked against the Pods by [`Suppositions::unknown`].
#[derive(Debug, Default)]
pub(super) struct Suppositions(BTreeMap<String, Said>);

impl Suppositions {
    /// Reads the flags.
    pub(super) fn read(args: &PlanArgs) -> anyhow::Result<Self> {
        let mut all = Suppositions::default();
        for flag in &args.exit {
            let (name, codes) = parts("--exit", flag)?;
            let codes = codes.split(',').map(|code| exit(flag, code));
            all.said(name).exits = codes.collect::<anyhow::Result<_>>()?;
        }
        for flag in &args.delay {
            let (name, times) = parts("--delay", flag)?;
            let times = times.split(',').map(duration);
            all.said(name).delays = times.collect::<anyhow::Result<_>>()?;
        }
        for flag in &args.probe {
            let (name, answers) = parts("--probe", flag)?;
            let (name, kind) = match name.split_once(':') {
                Some((name, kind)) => (name, Some(probe_kind(kind)?)),
                None => (name, None),
            };
            all.said(name)
                .probes
                .push((kind, answers_of(flag, answers)?));
        }
        for flag in &args.stop {
            let (name, answer) = parts("--stop", flag)?;
            all.said(name).stop = Some(stop(flag, answer)?);
        }
        for flag in &args.lacks {
            let (name, what) = parts("--lacks", flag)?;
            all.said(name).lacks = Some(match what {
                "image" => Starts::NoImage,
                "config" => Starts::NoConfig,
                "program" => Starts::NoProgram,
                _ => bail!("--lacks {flag}: {what:?} is none of image, config, program"),
            });
        }
        Ok(all)
    }

    fn said(&mut self, name: &str) -> &mut Said {
        self.0.entry(name.to_owned()).or_default()
    }

    /// A container that flags name and no Pod has.
    pub(super) fn unknown(&self, pods: &[Pod]) -> Option<&str> {
        let members = pods.iter().flat_map(kinds::members);
        let known: BTreeSet<&str> = members.map(|member| member.name()).collect();
        let mut names = self.0.keys().map(String::as_str);
        names.find(|name| !known.contains(name))
    }

    /// What is supposed about the containers of a Pod.
    ///
    /// # Errors
    /// When a flag is about a probe that a container does not have, or does not say which it is about.
    pub(super) fn conduct(&self, pod: &Pod) -> anyhow::Result<Conduct> {
        let nothing = Said::default();
        let members = kinds::members(pod);
        let runs = members.iter().map(|member| {
            let said = self.0.get(member.name()).unwrap_or(&nothing);
            Ok((member.name().to_owned(), said.runs(pod, member)?))
        });
        runs.collect()
    }
}

impl Said {
    fn runs(&self, pod: &Pod, member: &Member<'_>) -> anyhow::Result<Vec<Run>> {
        let default = [ends_by_itself(pod, member).then_some(0)];
        let exits = if self.exits.is_empty() {
            &default[..]
        } else {
            &self.exits
        };
        let delay = |run: usize| self.delays.get(run).or(self.delays.last()).copied();
        let count = exits.len().max(self.delays.len());
        let mut runs = Vec::new();
        for number in 0..count {
            let exit = exits.get(number).or(exits.last()).copied().flatten();
            let mut run = Run::on();
            let mut up_after = None;
            match exit {
                Some(code) => {
                    run.lasts = Some(delay(number).unwrap_or(LASTS));
                    run.code = code;
                }
                None => up_after = delay(number),
            }
            if let Some(up_after) = up_after {
                let answers = Answers(vec![(up_after, true)]);
                run.probes = Kind::ALL.map(|kind| (kind, answers.clone())).into();
            }
            for (kind, answers) in &self.probes {
                run.probes.insert(which(member, *kind)?, answers.clone());
            }
            run.on_stop = self.stop.unwrap_or(run.on_stop);
            run.start = self.lacks.unwrap_or(run.start);
            runs.push(run);
        }
        Ok(runs)
    }
}

/// Whether a container that nothing is said about ends.
fn ends_by_itself(pod: &Pod, member: &Member<'_>) -> bool {
    let pods = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.restart_policy.as_deref());
    match member.kind {
        ContainerKind::Init => true,
        ContainerKind::App => member.spec.restart_policy.as_deref().or(pods) != Some("Always"),
        ContainerKind::Sidecar | ContainerKind::Ephemeral => false,
    }
}

/// The probe that is meant.
fn which(member: &Member<'_>, said: Option<Kind>) -> anyhow::Result<Kind> {
    let name = member.name();
    let kinds = Kind::ALL
        .into_iter()
        .filter(|kind| kind.of(member.spec).is_some());
    let kinds: Vec<Kind> = kinds.collect();
    let title = |kind: &Kind| kind.title().to_lowercase();
    match (said, kinds.as_slice()) {
        (Some(kind), _) if kinds.contains(&kind) => Ok(kind),
        (Some(kind), _) => bail!("container {name} has no {} probe", title(&kind)),
        (None, [kind]) => Ok(*kind),
        (None, []) => bail!("container {name} has no probe"),
        (None, several) => {
            let names: Vec<_> = several
                .iter()
                .map(|kind| format!("{name}:{}", title(kind)))
                .collect();
            bail!(
                "container {name} has several probes: say which, {}",
                names.join(" or ")
            )
        }
    }
}

/// `NAME=VALUE`
fn parts<'a>(option: &str, flag: &'a str) -> anyhow::Result<(&'a str, &'a str)> {
    let parts = flag
        .split_once('=')
        .filter(|(name, value)| !name.is_empty() && !value.is_empty());
    parts.ok_or_else(|| anyhow!("{option} {flag}: NAME=VALUE is expected"))
}

fn exit(flag: &str, text: &str) -> anyhow::Result<Option<i32>> {
    match text {
        "runs" => Ok(None),
        code => exit_code(&format!("--exit {flag}"), code).map(Some),
    }
}

fn exit_code(flag: &str, text: &str) -> anyhow::Result<i32> {
    let code = text.parse::<u8>();
    code.map(i32::from)
        .map_err(|_| anyhow!("{flag}: {text:?} is no exit code from 0 to 255"))
}

fn probe_kind(text: &str) -> anyhow::Result<Kind> {
    let mut kinds = Kind::ALL.into_iter();
    let kind = kinds.find(|kind| kind.title().eq_ignore_ascii_case(text));
    kind.ok_or_else(|| anyhow!("{text:?} is none of startup, liveness, readiness"))
}

fn answers_of(flag: &str, text: &str) -> anyhow::Result<Answers> {
    let mut answers = Vec::new();
    for part in text.split(',') {
        let (word, at) = part.split_once('@').unwrap_or((part, "0s"));
        let is_ok = match word {
            "ok" => true,
            "fail" => false,
            _ => bail!("--probe {flag}: {word:?} is neither ok nor fail"),
        };
        answers.push((duration(at)?, is_ok));
    }
    if !answers.is_sorted_by(|(a, _), (b, _)| a < b) {
        bail!("--probe {flag}: times have to grow");
    }
    Ok(Answers(answers))
}

fn stop(flag: &str, text: &str) -> anyhow::Result<Option<(SignedDuration, i32)>> {
    if text == "ignore" {
        return Ok(None);
    }
    let (code, after) = text.split_once('@').unwrap_or((text, "0s"));
    Ok(Some((
        duration(after)?,
        exit_code(&format!("--stop {flag}"), code)?,
    )))
}

/// A time as Go writes it: `5s`, `1m30s`, `250ms`.
pub(super) fn duration(text: &str) -> anyhow::Result<SignedDuration> {
    let nanos = api::duration::parse_go(text)?;
    if nanos < 0 {
        bail!("{text}: a time cannot be negative");
    }
    Ok(SignedDuration::from_nanos(nanos))
}
