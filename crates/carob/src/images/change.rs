//! Instructions of `carob image import --change`: those of a Dockerfile that say how an image is run.

use anyhow::{Context, bail};
use ports::images::ImageConfig;

/// The configuration that instructions make, later ones over earlier ones.
pub(super) fn config(instructions: &[String]) -> anyhow::Result<ImageConfig> {
    let mut config = ImageConfig::default();
    for instruction in instructions {
        apply(&mut config, instruction.trim())
            .with_context(|| format!("invalid instruction {instruction:?}"))?;
    }
    Ok(config)
}

fn apply(config: &mut ImageConfig, instruction: &str) -> anyhow::Result<()> {
    let (name, value) = instruction
        .split_once([' ', '\t', '='])
        .context("it has no value")?;
    let value = value.trim();
    if value.is_empty() {
        bail!("it has no value");
    }
    match name.to_ascii_uppercase().as_str() {
        "CMD" => config.cmd = command(value)?,
        "ENTRYPOINT" => config.entrypoint = command(value)?,
        "ENV" => {
            let (key, value) = pair(value)?;
            let prefix = format!("{key}=");
            config.env.retain(|known| !known.starts_with(&prefix));
            config.env.push(prefix + value);
        }
        "LABEL" => {
            let (key, value) = pair(value)?;
            config.labels.insert(key.to_owned(), value.to_owned());
        }
        "STOPSIGNAL" => config.stop_signal = value.to_owned(),
        "USER" => config.user = value.to_owned(),
        "VOLUME" => config.volumes.extend(paths(value)?),
        "WORKDIR" if value.starts_with('/') => config.working_dir = value.to_owned(),
        "WORKDIR" => bail!("the directory must be absolute"),
        other => bail!(
            "{other} is none of CMD, ENTRYPOINT, ENV, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR"
        ),
    }
    Ok(())
}

/// A JSON list is the command; anything else is for a shell.
fn command(text: &str) -> anyhow::Result<Vec<String>> {
    if text.starts_with('[') {
        return serde_json::from_str(text).context("it is no JSON list of strings");
    }
    Ok(["/bin/sh", "-c", text].map(str::to_owned).into())
}

fn paths(text: &str) -> anyhow::Result<Vec<String>> {
    if text.starts_with('[') {
        return serde_json::from_str(text).context("it is no JSON list of strings");
    }
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

/// `KEY=VALUE` or `KEY VALUE`; the value may be in double quotes.
fn pair(text: &str) -> anyhow::Result<(&str, &str)> {
    let (key, value) = text.split_once(['=', ' ']).context("it is not KEY=VALUE")?;
    if key.is_empty() {
        bail!("it is not KEY=VALUE");
    }
    let value = value.trim();
    let bare = value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'));
    Ok((key, bare.unwrap_or(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(instructions: &[&str]) -> anyhow::Result<ImageConfig> {
        let owned: Vec<String> = instructions.iter().map(|&text| text.into()).collect();
        config(&owned)
    }

    #[test]
    fn instructions_make_a_configuration() {
        let made = of(&[
            r#"ENTRYPOINT ["/bin/tool", "-v"]"#,
            "cmd echo hi",
            "ENV A=1",
            "ENV B two words",
            r#"ENV A="3 4""#,
            "LABEL who=me",
            "USER 10:20",
            "WORKDIR /srv",
            "STOPSIGNAL SIGINT",
            "VOLUME /a /b",
        ])
        .expect("is well formed");
        let expected = ImageConfig {
            user: "10:20".into(),
            env: vec!["B=two words".into(), "A=3 4".into()],
            entrypoint: vec!["/bin/tool".into(), "-v".into()],
            cmd: vec!["/bin/sh".into(), "-c".into(), "echo hi".into()],
            working_dir: "/srv".into(),
            stop_signal: "SIGINT".into(),
            volumes: vec!["/a".into(), "/b".into()],
            labels: [("who".to_owned(), "me".to_owned())].into(),
        };
        assert_eq!(made, expected);
    }

    #[test]
    fn mistakes_are_told_with_their_instruction() {
        for bad in [
            "CMD",
            "CMD  ",
            "RUN make",
            "EXPOSE 80",
            "WORKDIR srv",
            "ENV A",
            "ENV =1",
            "CMD [1]",
            "",
        ] {
            let error = format!("{:#}", of(&[bad]).expect_err(bad));
            assert!(error.contains(&format!("{bad:?}")), "{error}");
        }
    }
}
