//! PodTemplates, and the template within them that workloads have as well.

use api::field::{Error, ErrorList};
use serde_json::Value;

use crate::pod::{self, SpecContext};
use crate::view::{self, At, entry, get, same};
use crate::{Rules, Subresource, generic, meta};

pub(crate) const RULES: Rules = Rules {
    namespaced: Some(true),
    default: |object| pod::default_spec(entry(entry(object, "template"), "spec")),
    prepare_create: |object| {
        view::object(entry(object, "metadata")).insert("generation".to_owned(), 1.into());
    },
    prepare_update,
    validate_create: |object| meta::validate_new(object, true, "template", validate),
    validate_update: |_, new, _| validate(&At::field(new, "template")),
};

fn prepare_update(subresource: Subresource, new: &mut Value, old: &Value) {
    generic::keep(subresource, new, old);
    let changed = !same(get(new, "template"), get(old, "template"));
    meta::count_generation(new, old, changed);
}

/// Everything wrong with a Pod's template.
pub(crate) fn validate(template: &At<'_>) -> ErrorList {
    let spec = template.get("spec");
    let mut errors = validate_metadata(template);
    let context = SpecContext {
        pod_name: "",
        is_pod: false,
    };
    errors.extend(pod::validate_spec(spec.value, &spec.path, context));
    let ephemeral = spec.get("ephemeralContainers");
    if ephemeral.len() > 0 {
        errors.push(Error::forbidden(
            &ephemeral.path,
            "ephemeral containers not allowed in pod template",
        ));
    }
    errors
}

/// What is wrong with the labels and annotations of a Pod's template.
pub(crate) fn validate_metadata(template: &At<'_>) -> ErrorList {
    let metadata = template.get("metadata");
    // Upstream's paths leave the metadata out.
    let labels = metadata
        .get("labels")
        .reported_at(template.path.child("labels"));
    let annotations = metadata
        .get("annotations")
        .reported_at(template.path.child("annotations"));
    let mut errors = meta::labels(&labels);
    errors.extend(meta::annotations(&annotations));
    let spec = template.get("spec");
    errors.extend(pod::validate_annotations(&annotations, &spec));
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::{Subresource, default, prepare_create, prepare_update, validate_create};

    #[test]
    fn a_template_is_a_pod_to_be() {
        let mut object = json!({
            "metadata": {"name": "web", "namespace": "default"},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": "nginx"}]},
            },
        });
        default("podtemplates", &mut object);
        prepare_create("podtemplates", &mut object);
        assert_eq!(object["template"]["spec"]["restartPolicy"], "Always");
        assert_eq!(object["metadata"]["generation"], 1);
        assert!(validate_create("podtemplates", &object).is_empty());

        let mut same = object.clone();
        prepare_update("podtemplates", Subresource::Main, &mut same, &object);
        assert_eq!(same["metadata"]["generation"], 1);
        let mut broken = object.clone();
        broken["template"]["metadata"]["labels"]["app"] = "a b".into();
        broken["template"]["spec"]["containers"][0]["name"] = "A".into();
        broken["template"]["spec"]["ephemeralContainers"] = json!([{"name": "debug", "image": "busybox", "terminationMessagePolicy": "File", "imagePullPolicy": "Always"}]);
        prepare_update("podtemplates", Subresource::Main, &mut broken, &object);
        assert_eq!(broken["metadata"]["generation"], 2);
        let errors: Vec<String> = validate_create("podtemplates", &broken)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(errors.len(), 3, "{errors:?}");
        assert!(errors[0].starts_with("template.labels: Invalid value: \"a b\""));
        assert!(errors[1].starts_with("template.spec.containers[0].name: Invalid value: \"A\""));
        assert_eq!(
            errors[2],
            "template.spec.ephemeralContainers: Forbidden: ephemeral containers not allowed in pod template"
        );
    }
}
