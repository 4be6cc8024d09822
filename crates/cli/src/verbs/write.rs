//! What verbs that write have in common: query strings, and the line or the object they print.

use std::io::Write;

use serde_json::Value;

use crate::args::WriteArgs;
use crate::output::{Format, percent};

/// How to write and what to print, resolved.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    format: Option<Format>,
    pub(crate) dry_run: DryRun,
    manager: String,
}

/// Who checks, if nothing is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DryRun {
    No,
    Client,
    Server,
}

impl DryRun {
    pub(crate) fn parse(text: &str) -> Self {
        match text {
            "client" => DryRun::Client,
            "server" => DryRun::Server,
            _ => DryRun::No,
        }
    }

    /// What is put after a line.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            DryRun::No => "",
            DryRun::Client => " (dry run)",
            DryRun::Server => " (server dry run)",
        }
    }
}

impl Writer {
    /// Resolves the flags; `manager` owns the fields unless the user names another.
    pub(crate) fn new(args: &WriteArgs, manager: &str) -> anyhow::Result<Writer> {
        let format = args.output.as_deref().map(Format::parse).transpose()?;
        if matches!(format, Some(Format::Table { .. } | Format::Columns(_))) {
            anyhow::bail!(
                "unable to match a printer suitable for the output format {:?}, allowed formats are: json,jsonpath,name,yaml",
                args.output.as_deref().unwrap_or_default()
            );
        }
        Ok(Writer {
            format,
            dry_run: DryRun::parse(&args.dry_run),
            manager: args
                .field_manager
                .clone()
                .unwrap_or_else(|| manager.to_owned()),
        })
    }

    /// The query of a write, `extra` parameters at its end.
    pub(crate) fn query(&self, extra: &[(&str, &str)]) -> String {
        let mut query = format!("?fieldManager={}", percent(&self.manager));
        if self.dry_run == DryRun::Server {
            query.push_str("&dryRun=All");
        }
        for (name, value) in extra {
            query.push_str(&format!("&{name}={}", percent(value)));
        }
        query
    }

    /// `pod/web created`, or the object as asked for.
    pub(crate) fn done(&self, label: &str, participle: &str, object: &Value) -> anyhow::Result<()> {
        let text = match &self.format {
            None => format!("{label} {participle}{}\n", self.dry_run.suffix()),
            Some(Format::Name) => format!("{label}\n"),
            Some(format) => {
                let mut object = object.clone();
                if let Some(metadata) = object["metadata"].as_object_mut() {
                    metadata.remove("managedFields");
                }
                format.print(&object)?
            }
        };
        print(&text)
    }
}

/// Writes to standard output; a reader that went away is no failure of ours to tell.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
