//! What a path asks for, and of which resources that is a right (upstream's pkg/kubelet/server, KEP-2862).

use api::query::percent_decode;
use http::Method;
use ports::node::Target;

/// What is asked for. A [`Target`] without a UID means whichever Pod has the name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    Health,
    Pods,
    Summary,
    Resource,
    Logs(Target),
    Exec(Target),
    Attach(Target),
    PortForward(Target),
}

impl Route {
    /// `None` for paths that are none of this server's.
    pub(crate) fn parse(path: &str) -> Option<Route> {
        let parts: Vec<String> = path
            .trim_start_matches('/')
            .split('/')
            .map(percent_decode)
            .collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let place = |uid: &str, container: &str| Target {
            namespace: parts[1].to_owned(),
            pod: parts[2].to_owned(),
            uid: uid.to_owned(),
            container: container.to_owned(),
        };
        if parts.len() > 1 && parts.contains(&"") {
            return (parts == ["pods", ""]).then_some(Route::Pods);
        }
        Some(match parts.as_slice() {
            ["healthz"] => Route::Health,
            ["pods"] => Route::Pods,
            ["stats", "summary"] => Route::Summary,
            ["metrics", "resource"] => Route::Resource,
            ["containerLogs", _, _, container] => Route::Logs(place("", container)),
            ["exec", _, _, container] => Route::Exec(place("", container)),
            ["exec", _, _, uid, container] => Route::Exec(place(uid, container)),
            ["attach", _, _, container] => Route::Attach(place("", container)),
            ["attach", _, _, uid, container] => Route::Attach(place(uid, container)),
            ["portForward", _, _] => Route::PortForward(place("", "")),
            ["portForward", _, _, uid] => Route::PortForward(place(uid, "")),
            _ => return None,
        })
    }

    /// Whether there is such a thing to be asked by this method.
    pub(crate) fn takes(&self, method: &Method) -> bool {
        let talks = matches!(
            self,
            Route::Exec(_) | Route::Attach(_) | Route::PortForward(_)
        );
        method == Method::GET || (talks && method == Method::POST)
    }
}

/// The subresources of the node of which one must be allowed, the narrowest first.
pub(crate) fn subresources(path: &str) -> &'static [&'static str] {
    let under = |root: &str| {
        let rest = path.strip_prefix(root);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let all: [(&str, &'static [&'static str]); 7] = [
        ("/stats", &["stats"]),
        ("/metrics", &["metrics"]),
        ("/logs", &["log"]),
        ("/pods", &["pods", "proxy"]),
        ("/healthz", &["healthz", "proxy"]),
        ("/runningpods", &["pods", "proxy"]),
        ("/configz", &["configz", "proxy"]),
    ];
    let found = all.iter().find(|(root, _)| under(root));
    found.map_or(&["proxy"], |(_, subresources)| subresources)
}

/// What a method is called in rules; none for those that no rule names.
pub(crate) fn verb(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(uid: &str, container: &str) -> Target {
        Target {
            namespace: "n".into(),
            pod: "p".into(),
            uid: uid.into(),
            container: container.into(),
        }
    }

    #[test]
    fn paths_are_as_upstreams() {
        for (path, want) in [
            ("/healthz", Some(Route::Health)),
            ("/pods", Some(Route::Pods)),
            ("/pods/", Some(Route::Pods)),
            ("/stats/summary", Some(Route::Summary)),
            ("/metrics/resource", Some(Route::Resource)),
            ("/containerLogs/n/p/c", Some(Route::Logs(target("", "c")))),
            ("/exec/n/p/c", Some(Route::Exec(target("", "c")))),
            ("/exec/n/p/u/c", Some(Route::Exec(target("u", "c")))),
            ("/attach/n/p/u/c", Some(Route::Attach(target("u", "c")))),
            ("/portForward/n/p", Some(Route::PortForward(target("", "")))),
            (
                "/portForward/n/%70/u",
                Some(Route::PortForward(target("u", ""))),
            ),
            ("/run/n/p/c", None),
            ("/exec/n//c", None),
            ("/exec/n/p", None),
            ("/stats", None),
            ("/", None),
        ] {
            assert_eq!(Route::parse(path), want, "{path}");
        }
    }

    #[test]
    fn only_streams_are_posted() {
        for (path, method, want) in [
            ("/exec/n/p/c", Method::POST, true),
            ("/exec/n/p/c", Method::GET, true),
            ("/exec/n/p/c", Method::PUT, false),
            ("/pods", Method::POST, false),
            ("/pods", Method::GET, true),
        ] {
            assert_eq!(Route::parse(path).unwrap().takes(&method), want, "{path}");
        }
    }

    #[test]
    fn rights_are_as_narrow_as_upstreams() {
        for (path, want) in [
            ("/stats/summary", &["stats"][..]),
            ("/metrics", &["metrics"]),
            ("/metrics/resource", &["metrics"]),
            ("/metricsx", &["proxy"]),
            ("/pods", &["pods", "proxy"]),
            ("/healthz", &["healthz", "proxy"]),
            ("/exec/n/p/c", &["proxy"]),
            ("/containerLogs/n/p/c", &["proxy"]),
            ("/nowhere", &["proxy"]),
        ] {
            assert_eq!(subresources(path), want, "{path}");
        }
    }
}
