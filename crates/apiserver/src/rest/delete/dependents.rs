//! What becomes of the dependents of an object that is deleted: its finalizers `orphan` and `foregroundDeletion` say so to the garbage
//! collector (upstream's `deletionFinalizersForGarbageCollection`).

use api::gvk::GroupResource;
use serde_json::Value;

use super::DeleteOptions;
use crate::rest::object::metadata_mut;

pub(super) const ORPHAN: &str = "orphan";
pub(super) const FOREGROUND: &str = "foregroundDeletion";

/// What a client is told that deletes Jobs without saying what becomes of their Pods.
pub(super) const JOB_WARNING: &str = "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning";

/// What becomes of the dependents of a kind's objects if neither the client nor the object says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Usual {
    /// They are deleted once it is gone.
    Delete,
    /// They stay: kinds that are older than garbage collection.
    Orphan,
    /// It has none, whatever anybody says.
    None,
}

impl Usual {
    pub(super) fn of(resource: &GroupResource) -> Usual {
        match (&*resource.group, &*resource.resource) {
            ("", "replicationcontrollers") | ("batch", "jobs") => Usual::Orphan,
            ("" | "events.k8s.io", "events") => Usual::None,
            _ => Usual::Delete,
        }
    }
}

/// Which of the two finalizers an object is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wanted {
    orphan: bool,
    foreground: bool,
}

/// Sets and removes both finalizers of an object as this deletion wants them: what the client says wins over what the object has, and
/// that over what is usual for its kind.
pub(super) fn finalize(object: &mut Value, options: &DeleteOptions, usual: Usual) {
    let old = texts(&object["metadata"]["finalizers"]);
    let wanted = if object["kind"] == "Namespace" {
        of_namespace(&old, options)
    } else {
        wanted(&old, options, usual)
    };
    let is_ours = |f: &&str| [ORPHAN, FOREGROUND].contains(f);
    let mut new: Vec<&str> = old.iter().copied().filter(|f| !is_ours(f)).collect();
    new.extend(wanted.orphan.then_some(ORPHAN));
    new.extend(wanted.foreground.then_some(FOREGROUND));
    let is_same = new.len() == old.len() && new.iter().all(|f| old.contains(f));
    if is_same {
        return;
    }
    let new: Vec<Value> = new.into_iter().map(Value::from).collect();
    let metadata = metadata_mut(object);
    if new.is_empty() {
        metadata.remove("finalizers");
    } else {
        metadata.insert("finalizers".into(), new.into());
    }
}

fn wanted(old: &[&str], options: &DeleteOptions, usual: Usual) -> Wanted {
    if usual == Usual::None {
        return Wanted {
            orphan: false,
            foreground: false,
        };
    }
    said(options).unwrap_or_else(|| {
        let first = old.iter().find(|f| [ORPHAN, FOREGROUND].contains(f));
        Wanted {
            orphan: first.map_or(usual == Usual::Orphan, |f| *f == ORPHAN),
            foreground: first.is_some_and(|f| *f == FOREGROUND),
        }
    })
}

/// A Namespace keeps both as they are unless the client says otherwise; not to orphan means to wait.
fn of_namespace(old: &[&str], options: &DeleteOptions) -> Wanted {
    let has = Wanted {
        orphan: old.contains(&ORPHAN),
        foreground: old.contains(&FOREGROUND),
    };
    let said = said(options).unwrap_or(has);
    Wanted {
        foreground: said.foreground || options.orphan_dependents == Some(false),
        ..said
    }
}

/// What the client says, if anything.
fn said(options: &DeleteOptions) -> Option<Wanted> {
    let (orphan, foreground) = match (options.orphan_dependents, &options.propagation_policy) {
        (Some(orphan), _) => (orphan, false),
        (None, Some(policy)) => (policy == "Orphan", policy == "Foreground"),
        (None, None) => return None,
    };
    Some(Wanted { orphan, foreground })
}

/// Whether the client leaves it to what is usual.
pub(super) fn is_unsaid(options: &DeleteOptions) -> bool {
    said(options).is_none()
}

fn texts(list: &Value) -> Vec<&str> {
    let list = list.as_array().into_iter().flatten();
    list.filter_map(Value::as_str).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(policy: &str) -> DeleteOptions {
        DeleteOptions {
            propagation_policy: Some(policy.into()),
            ..DeleteOptions::default()
        }
    }

    fn orphans(yes: bool) -> DeleteOptions {
        DeleteOptions {
            orphan_dependents: Some(yes),
            ..DeleteOptions::default()
        }
    }

    /// The finalizers an object has after a deletion.
    fn after(kind: &str, old: &[&str], options: &DeleteOptions, usual: Usual) -> String {
        let mut object = json!({"kind": kind, "metadata": {"finalizers": old}});
        finalize(&mut object, options, usual);
        texts(&object["metadata"]["finalizers"]).join(" ")
    }

    #[test]
    fn the_client_wins_over_the_object_and_that_over_the_kind() {
        let nothing = DeleteOptions::default();
        let usual = [Usual::Delete, Usual::Orphan, Usual::None];
        let cases: [(&[&str], DeleteOptions, [&str; 3]); 17] = [
            (&[], nothing.clone(), ["", "orphan", ""]),
            (&["a/b"], nothing.clone(), ["a/b", "a/b orphan", "a/b"]),
            (&["orphan"], nothing.clone(), ["orphan", "orphan", ""]),
            (
                &["foregroundDeletion", "a/b"],
                nothing,
                ["foregroundDeletion a/b", "foregroundDeletion a/b", "a/b"],
            ),
            (&[], policy("Background"), ["", "", ""]),
            (
                &["orphan", "a/b"],
                policy("Background"),
                ["a/b", "a/b", "a/b"],
            ),
            (&["foregroundDeletion"], policy("Background"), ["", "", ""]),
            (&[], policy("Orphan"), ["orphan", "orphan", ""]),
            (&["orphan"], policy("Orphan"), ["orphan", "orphan", ""]),
            (
                &["foregroundDeletion"],
                policy("Orphan"),
                ["orphan", "orphan", ""],
            ),
            (
                &[],
                policy("Foreground"),
                ["foregroundDeletion", "foregroundDeletion", ""],
            ),
            (
                &["orphan", "a/b"],
                policy("Foreground"),
                ["a/b foregroundDeletion", "a/b foregroundDeletion", "a/b"],
            ),
            (&[], orphans(true), ["orphan", "orphan", ""]),
            (
                &["foregroundDeletion"],
                orphans(true),
                ["orphan", "orphan", ""],
            ),
            (&[], orphans(false), ["", "", ""]),
            (&["orphan"], orphans(false), ["", "", ""]),
            (&["foregroundDeletion"], orphans(false), ["", "", ""]),
        ];
        for (n, (old, options, expected)) in cases.into_iter().enumerate() {
            let found = usual.map(|usual| after("ConfigMap", old, &options, usual));
            assert_eq!(found, expected, "case {n}");
        }
    }

    #[test]
    fn a_namespace_keeps_its_own_unless_told() {
        let cases: [(&[&str], DeleteOptions, &str); 7] = [
            (&[], DeleteOptions::default(), ""),
            (&["orphan"], DeleteOptions::default(), "orphan"),
            (&["orphan"], policy("Background"), ""),
            (&[], policy("Foreground"), "foregroundDeletion"),
            (&["foregroundDeletion"], policy("Orphan"), "orphan"),
            (&["orphan"], orphans(false), "foregroundDeletion"),
            (&[], orphans(true), "orphan"),
        ];
        for (n, (old, options, expected)) in cases.into_iter().enumerate() {
            let found = after("Namespace", old, &options, Usual::Delete);
            assert_eq!(found, expected, "case {n}");
        }
    }

    #[test]
    fn kinds_older_than_garbage_collection_orphan() {
        let usual = |group, plural| Usual::of(&GroupResource::new(group, plural));
        assert_eq!(usual("", "replicationcontrollers"), Usual::Orphan);
        assert_eq!(usual("batch", "jobs"), Usual::Orphan);
        assert_eq!(usual("batch", "cronjobs"), Usual::Delete);
        for plural in ["deployments", "statefulsets", "daemonsets"] {
            assert_eq!(usual("apps", plural), Usual::Delete, "{plural}");
        }
        assert_eq!(usual("", "events"), Usual::None);
        assert_eq!(usual("events.k8s.io", "events"), Usual::None);
    }
}
