//! `Accept` and `Content-Type` (spec kubectl-and-api §2.2, §12.1).

use api::status::{self, StatusError};
use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};

/// How an object, a list or a watch is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// As stored.
    Object,
    /// `as=Table`
    Table,
    /// `as=PartialObjectMetadata` and `…List`
    Metadata,
}

/// One clause of an `Accept` header.
#[derive(Debug, Default, PartialEq)]
struct Clause {
    media: String,
    parameters: Vec<(String, String)>,
    quality: f32,
}

impl Clause {
    fn parse(text: &str) -> Clause {
        let mut parts = text.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default().to_ascii_lowercase();
        let mut clause = Clause {
            media,
            quality: 1.0,
            ..Clause::default()
        };
        for (name, value) in parts.filter_map(|p| p.split_once('=')) {
            let value = value.trim_matches('"');
            if name == "q" {
                clause.quality = value.parse().unwrap_or(1.0);
            } else {
                clause.parameters.push((name.to_owned(), value.to_owned()));
            }
        }
        clause
    }

    fn get(&self, name: &str) -> &str {
        self.parameters
            .iter()
            .find(|(n, _)| n == name)
            .map_or("", |(_, v)| v.as_str())
    }

    fn is_json(&self) -> bool {
        matches!(
            self.media.as_str(),
            "application/json" | "*/*" | "application/*"
        )
    }

    fn is_yaml(&self) -> bool {
        self.media == api::yaml::MEDIA_TYPE
    }

    fn form(&self) -> Option<Form> {
        let meta = self.get("g") == "meta.k8s.io" && self.get("v") == "v1";
        match self.get("as") {
            "" => Some(Form::Object),
            "Table" if meta => Some(Form::Table),
            "PartialObjectMetadata" | "PartialObjectMetadataList" if meta => Some(Form::Metadata),
            _ => None,
        }
    }
}

fn clauses(headers: &HeaderMap) -> Vec<Clause> {
    let values = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|v| v.to_str().ok());
    let mut clauses: Vec<Clause> = values
        .flat_map(|v| v.split(','))
        .filter(|c| !c.trim().is_empty())
        .map(Clause::parse)
        .collect();
    clauses.sort_by(|a, b| b.quality.total_cmp(&a.quality));
    clauses
}

/// The first form the client takes that we have. Watches are JSON only, as YAML has no frames.
pub(crate) fn form(headers: &HeaderMap, watch: bool) -> Result<Form, StatusError> {
    let clauses = clauses(headers);
    if clauses.is_empty() {
        return Ok(Form::Object);
    }
    let found = clauses
        .iter()
        .filter(|c| c.is_json() || (c.is_yaml() && !watch))
        .find_map(Clause::form);
    let offered: &[&str] = match watch {
        true => &["application/json"],
        false => &["application/json", api::yaml::MEDIA_TYPE],
    };
    found.ok_or_else(|| status::not_acceptable(offered))
}

/// Whether the client prefers YAML to JSON.
pub(crate) fn wants_yaml(headers: &HeaderMap) -> bool {
    let ours = |c: &&Clause| (c.is_json() || c.is_yaml()) && c.form().is_some();
    let clauses = clauses(headers);
    clauses.iter().find(ours).is_some_and(Clause::is_yaml)
}

/// Whether the client prefers aggregated discovery; the version it is to be called.
pub(crate) fn wants_aggregated(headers: &HeaderMap) -> bool {
    let clauses = clauses(headers);
    let first = clauses
        .iter()
        .find(|c| c.is_json() && (c.get("as").is_empty() || is_aggregated(c)));
    first.is_some_and(is_aggregated)
}

fn is_aggregated(clause: &Clause) -> bool {
    clause.get("as") == "APIGroupDiscoveryList"
        && clause.get("g") == "apidiscovery.k8s.io"
        && clause.get("v") == "v2"
        && clause.get("profile").is_empty()
}

/// OpenAPI v2 in protobuf.
pub(crate) const OPENAPI_V2: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
/// How client-go asks for it. It refuses answers of this type, because `@` may not be in one.
const OPENAPI_V2_OLD: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// Whether the client prefers OpenAPI v2 in protobuf to JSON.
pub(crate) fn wants_openapi_v2_protobuf(headers: &HeaderMap) -> bool {
    let is_protobuf = |clause: &Clause| [OPENAPI_V2, OPENAPI_V2_OLD].contains(&&*clause.media);
    let clauses = clauses(headers);
    let first = clauses.iter().find(|c| c.is_json() || is_protobuf(c));
    first.is_some_and(is_protobuf)
}

/// Media type of the body, without parameters and in lower case; empty means JSON.
pub(crate) fn content_type(headers: &HeaderMap) -> String {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    value
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, value.parse().unwrap());
        headers
    }

    #[test]
    fn first_form_we_have_wins() {
        for (accept, want) in [
            ("application/json", Some(Form::Object)),
            ("*/*", Some(Form::Object)),
            (
                "application/vnd.kubernetes.protobuf,application/json",
                Some(Form::Object),
            ),
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
                Some(Form::Table),
            ),
            (
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
                Some(Form::Metadata),
            ),
            (
                "application/json;q=0.5,application/json;as=Table;g=meta.k8s.io;v=v1",
                Some(Form::Table),
            ),
            ("text/html", None),
        ] {
            assert_eq!(form(&accepts(accept), false).ok(), want, "{accept}");
        }
        assert_eq!(form(&HeaderMap::new(), true).ok(), Some(Form::Object));
    }

    #[test]
    fn yaml_is_for_who_names_it_first() {
        for (accept, yaml, watch) in [
            ("application/yaml", true, false),
            ("application/yaml;q=0.5, */*;q=0.4", true, true),
            ("application/yaml;q=0.1, application/json", false, true),
            (
                "application/vnd.kubernetes.protobuf, application/yaml",
                true,
                false,
            ),
            ("application/yaml;as=Table;g=meta.k8s.io;v=v1", true, false),
            ("*/*", false, true),
            ("text/html", false, false),
        ] {
            let headers = accepts(accept);
            assert_eq!(wants_yaml(&headers), yaml, "{accept}");
            assert_eq!(form(&headers, true).is_ok(), watch, "{accept}");
        }
    }

    #[test]
    fn openapi_v2_is_protobuf_for_who_names_it_first() {
        for (accept, want) in [
            (OPENAPI_V2_OLD, true),
            (&format!("{OPENAPI_V2}, */*"), true),
            (&format!("application/json, {OPENAPI_V2}"), false),
        ] {
            assert_eq!(
                wants_openapi_v2_protobuf(&accepts(accept)),
                want,
                "{accept}"
            );
        }
        assert!(!wants_openapi_v2_protobuf(&HeaderMap::new()));
    }

    #[test]
    fn aggregated_discovery_is_asked_for() {
        let kubectl = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
        assert!(wants_aggregated(&accepts(kubectl)));
        assert!(!wants_aggregated(&accepts("application/json, */*")));
    }
}
