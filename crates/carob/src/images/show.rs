//! `carob image ls`: rows of names, or JSON.

use std::collections::BTreeSet;

use cli::ImageLsArgs;
use images::Reference;
use ports::images::Image;
use serde_json::json;

use super::progress::short;

/// The list as asked for.
///
/// # Errors
/// The name to look for is no reference.
pub(super) fn list(images: &[Image], args: &ImageLsArgs) -> anyhow::Result<String> {
    let wanted = args.name.as_deref().map(Wanted::parse).transpose()?;
    let rows: Vec<Row<'_>> = images
        .iter()
        .flat_map(rows)
        .filter(|row| wanted.as_ref().is_none_or(|wanted| wanted.fits(row)))
        .collect();
    if args.output.is_some() {
        return as_json(&rows);
    }
    if args.quiet {
        let ids: BTreeSet<String> = rows.iter().map(|row| row.id(args.no_trunc)).collect();
        return Ok(ids.into_iter().map(|id| id + "\n").collect());
    }
    Ok(table(&rows, args))
}

/// One name of an image.
struct Row<'a> {
    image: &'a Image,
    repository: String,
    tag: String,
    digest: String,
}

const NONE: &str = "<none>";

impl Row<'_> {
    fn id(&self, whole: bool) -> String {
        let id = &self.image.id;
        if whole {
            id.clone()
        } else {
            short(id).to_owned()
        }
    }
}

/// A row for each tag; an image without tags has one for each repository it came from, or one without any.
fn rows(image: &Image) -> Vec<Row<'_>> {
    let parse = |names: &[String]| -> Vec<Reference> {
        names
            .iter()
            .filter_map(|name| Reference::parse(name).ok())
            .collect()
    };
    let (tags, digests) = (parse(&image.repo_tags), parse(&image.repo_digests));
    let digest_of = |repository: &str| {
        let same = digests.iter().find(|name| name.repository() == repository);
        same.and_then(|name| name.digest())
            .map_or_else(|| NONE.to_owned(), ToString::to_string)
    };
    let row = |repository: String, tag: &str| Row {
        image,
        digest: digest_of(&repository),
        repository,
        tag: tag.to_owned(),
    };
    let mut rows: Vec<Row<'_>> = tags
        .iter()
        .map(|name| row(name.repository(), name.tag().unwrap_or(NONE)))
        .collect();
    if rows.is_empty() {
        let repositories: BTreeSet<String> = digests.iter().map(Reference::repository).collect();
        rows.extend(repositories.into_iter().map(|name| row(name, NONE)));
    }
    if rows.is_empty() {
        rows.push(row(NONE.to_owned(), NONE));
    }
    rows
}

/// A name to look for: a repository with all its tags unless it says which.
struct Wanted {
    name: Reference,
    is_exact: bool,
}

impl Wanted {
    fn parse(text: &str) -> anyhow::Result<Wanted> {
        let last = text.rsplit('/').next().unwrap_or(text);
        Ok(Wanted {
            name: Reference::parse(text)?,
            is_exact: last.contains([':', '@']),
        })
    }

    fn fits(&self, row: &Row<'_>) -> bool {
        let has = |names: &[String]| names.contains(&self.name.to_string());
        row.repository == self.name.repository()
            && match self.name.tag() {
                Some(tag) => !self.is_exact || row.tag == tag,
                None => has(&row.image.repo_digests),
            }
    }
}

fn as_json(rows: &[Row<'_>]) -> anyhow::Result<String> {
    let mut seen = BTreeSet::new();
    let images = rows.iter().map(|row| row.image);
    let listed: Vec<_> = images
        .filter(|image| seen.insert(&image.id))
        .map(|image| {
            json!({
                "id": image.id,
                "repoTags": image.repo_tags,
                "repoDigests": image.repo_digests,
                "size": image.size_bytes,
            })
        })
        .collect();
    Ok(serde_json::to_string_pretty(&listed)? + "\n")
}

fn table(rows: &[Row<'_>], args: &ImageLsArgs) -> String {
    let mut lines: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let mut line = vec![row.repository.clone(), row.tag.clone()];
            if args.digests {
                line.push(row.digest.clone());
            }
            line.extend([row.id(args.no_trunc), size(row.image.size_bytes)]);
            line
        })
        .collect();
    lines.sort();
    if !args.no_headers {
        let heads = ["REPOSITORY", "TAG", "DIGEST", "IMAGE ID", "SIZE"];
        let shown = heads
            .iter()
            .filter(|head| args.digests || **head != "DIGEST");
        lines.insert(0, shown.map(|head| (*head).to_owned()).collect());
    }
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max();
    let widths: Vec<usize> = (0..columns).filter_map(width).collect();
    lines.iter().map(|line| one_line(line, &widths)).collect()
}

fn one_line(cells: &[String], widths: &[usize]) -> String {
    let padded: Vec<String> = cells
        .iter()
        .zip(widths)
        .map(|(cell, width)| format!("{cell:width$}"))
        .collect();
    padded.join("   ").trim_end().to_owned() + "\n"
}

/// Bytes in three digits and a decimal unit.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if bytes < 1000 {
        return format!("{bytes}B");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = match value {
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$}{}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;
    use ports::images::ImageConfig;

    fn image(id: char, tags: &[&str], digests: &[&str], size_bytes: u64) -> Image {
        let hex = id.to_string().repeat(64);
        Image {
            id: format!("sha256:{hex}"),
            repo_tags: tags.iter().map(|&tag| tag.into()).collect(),
            repo_digests: digests
                .iter()
                .map(|name| format!("{name}@sha256:{hex}"))
                .collect(),
            size_bytes,
            config: ImageConfig::default(),
        }
    }

    fn args() -> ImageLsArgs {
        ImageLsArgs {
            name: None,
            quiet: false,
            no_trunc: false,
            digests: false,
            no_headers: false,
            output: None,
        }
    }

    #[test]
    fn lists_a_row_for_each_name() {
        let images = [
            image(
                'a',
                &["docker.io/library/b:1", "docker.io/library/b:2"],
                &[],
                4_270_000,
            ),
            image('b', &[], &["reg.io/x"], 999),
            image('c', &[], &[], 1_000),
        ];
        let text = list(&images, &args()).expect("a list");
        let expected = "\
REPOSITORY            TAG      IMAGE ID       SIZE
<none>                <none>   cccccccccccc   1.00kB
docker.io/library/b   1        aaaaaaaaaaaa   4.27MB
docker.io/library/b   2        aaaaaaaaaaaa   4.27MB
reg.io/x              <none>   bbbbbbbbbbbb   999B
";
        assert_eq!(text, expected);
        let only = |name: &str| ImageLsArgs {
            name: Some(name.into()),
            quiet: true,
            ..args()
        };
        for (name, ids) in [
            ("b", "aaaaaaaaaaaa\n"),
            ("b:2", "aaaaaaaaaaaa\n"),
            ("b:3", ""),
            ("reg.io/x", "bbbbbbbbbbbb\n"),
        ] {
            assert_eq!(list(&images, &only(name)).expect(name), ids, "{name}");
        }
        assert!(list(&images, &only("A B")).is_err());
    }

    #[test]
    fn sizes_have_three_digits() {
        for (bytes, text) in [
            (0, "0B"),
            (1_000, "1.00kB"),
            (9_996, "10.0kB"),
            (123_456, "123kB"),
            (999_600, "1.00MB"),
            (u64::MAX, "18447PB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
