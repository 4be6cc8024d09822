//! The environment of a container (spec `§9`).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, Pod, Service};

use crate::expand::expand;
use crate::fields::Source;
use crate::objects::{Kind, ObjectRef, Objects};

/// Variables in the order in which they were first set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Env(Vec<(String, String)>);

impl Env {
    /// The value of a variable.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }

    /// Every variable.
    pub(crate) fn into_vec(self) -> Vec<(String, String)> {
        self.0
    }

    fn set(&mut self, name: &str, value: String) {
        match self.0.iter_mut().find(|(n, _)| n == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }
}

/// ConfigMaps and Secrets a container's environment is made from.
pub(crate) fn references(container: &Container) -> Vec<ObjectRef> {
    let mut refs = Vec::new();
    for from in container.env_from.iter().flatten() {
        refs.extend(
            from.config_map_ref
                .as_ref()
                .map(|r| ObjectRef::new(Kind::ConfigMap, &r.name)),
        );
        refs.extend(
            from.secret_ref
                .as_ref()
                .map(|r| ObjectRef::new(Kind::Secret, &r.name)),
        );
    }
    for source in container
        .env
        .iter()
        .flatten()
        .filter_map(|v| v.value_from.as_ref())
    {
        refs.extend(
            source
                .config_map_key_ref
                .as_ref()
                .map(|r| ObjectRef::new(Kind::ConfigMap, &r.name)),
        );
        refs.extend(
            source
                .secret_key_ref
                .as_ref()
                .map(|r| ObjectRef::new(Kind::Secret, &r.name)),
        );
    }
    refs
}

/// Builds the environment (spec `§9.1`).
///
/// # Errors
/// The text of a `CreateContainerConfigError`.
pub(crate) fn build(
    container: &Container,
    source: &Source<'_>,
    objects: &Objects,
    services: &[Service],
) -> Result<Env, String> {
    let mut env = Env::default();
    from_objects(container, objects, &mut env)?;
    let services = service_variables(source.pod, services)?;
    for var in container.env.iter().flatten() {
        if let Some(value) = variable(var, container, source, objects, &env, &services)? {
            env.set(&var.name, value);
        }
    }
    for (name, value) in services {
        if env.get(&name).is_none() {
            env.set(&name, value);
        }
    }
    Ok(env)
}

fn from_objects(container: &Container, objects: &Objects, env: &mut Env) -> Result<(), String> {
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        let (reference, optional) = match (&from.config_map_ref, &from.secret_ref) {
            (Some(r), _) => (ObjectRef::new(Kind::ConfigMap, &r.name), r.optional),
            (None, Some(r)) => (ObjectRef::new(Kind::Secret, &r.name), r.optional),
            (None, None) => continue,
        };
        if let Some(content) = objects.get(&reference, optional.unwrap_or(false))? {
            for (key, value) in content.texts() {
                env.set(&format!("{prefix}{key}"), value);
            }
        }
    }
    Ok(())
}

/// The value of one entry; `None` leaves an earlier value of the name.
fn variable(
    var: &EnvVar,
    container: &Container,
    source: &Source<'_>,
    objects: &Objects,
    env: &Env,
    services: &BTreeMap<String, String>,
) -> Result<Option<String>, String> {
    let value = var.value.as_deref().unwrap_or_default();
    match &var.value_from {
        Some(from) if value.is_empty() => value_from(from, container, source, objects),
        _ => Ok(Some(expand(value, |name| {
            env.get(name)
                .map(str::to_owned)
                .or_else(|| services.get(name).cloned())
        }))),
    }
}

fn value_from(
    from: &EnvVarSource,
    container: &Container,
    source: &Source<'_>,
    objects: &Objects,
) -> Result<Option<String>, String> {
    if let Some(field) = &from.field_ref {
        return source.field(&field.field_path).map(Some);
    }
    if let Some(resource) = &from.resource_field_ref {
        return source.resource(resource, Some(container)).map(Some);
    }
    let (reference, key, optional) = match (&from.config_map_key_ref, &from.secret_key_ref) {
        (Some(r), _) => (ObjectRef::new(Kind::ConfigMap, &r.name), &r.key, r.optional),
        (None, Some(r)) => (ObjectRef::new(Kind::Secret, &r.name), &r.key, r.optional),
        (None, None) => return Ok(Some(String::new())),
    };
    let optional = optional.unwrap_or(false);
    let Some(content) = objects.get(&reference, optional)? else {
        return Ok(None);
    };
    match content.text(key) {
        None if !optional => {
            let namespace = source.pod.metadata.namespace.as_deref().unwrap_or_default();
            Err(format!(
                "couldn't find key {key} in {} {namespace}/{}",
                reference.kind.name(),
                reference.name
            ))
        }
        found => Ok(found),
    }
}

/// Variables of the namespace's Services and of `default/kubernetes` (spec `§9.2`).
fn service_variables(pod: &Pod, services: &[Service]) -> Result<BTreeMap<String, String>, String> {
    let links = pod.spec.as_ref().and_then(|s| s.enable_service_links);
    let links =
        links.ok_or("nil pod.spec.enableServiceLinks encountered, cannot construct envvars")?;
    let mut variables = BTreeMap::new();
    let is_master = |s: &Service| {
        s.metadata.namespace.as_deref() == Some("default")
            && s.metadata.name.as_deref() == Some("kubernetes")
    };
    let in_namespace = |s: &Service| s.metadata.namespace == pod.metadata.namespace;
    // The namespace's own Services come last, so a `kubernetes` of its own wins.
    let master = services.iter().filter(|s| is_master(s) && !in_namespace(s));
    let linked = services
        .iter()
        .filter(|s| in_namespace(s) && (links || is_master(s)));
    for service in master.chain(linked) {
        one_service(service, &mut variables);
    }
    Ok(variables)
}

fn one_service(service: &Service, variables: &mut BTreeMap<String, String>) {
    let Some(spec) = &service.spec else { return };
    let Some(ip) = spec
        .cluster_ip
        .as_deref()
        .filter(|ip| !ip.is_empty() && *ip != "None")
    else {
        return;
    };
    if spec.type_.as_deref() == Some("ExternalName") {
        return;
    }
    let ports = spec.ports.as_deref().unwrap_or_default();
    let Some(first) = ports.first() else { return };
    let upper = |text: &str| text.to_uppercase().replace('-', "_");
    let prefix = upper(service.metadata.name.as_deref().unwrap_or_default());
    let host = if ip.contains(':') {
        format!("[{ip}]")
    } else {
        ip.to_owned()
    };
    let mut set = |name: String, value: String| variables.insert(name, value);
    set(format!("{prefix}_SERVICE_HOST"), ip.to_owned());
    set(format!("{prefix}_SERVICE_PORT"), first.port.to_string());
    for port in ports {
        if let Some(name) = port.name.as_deref().filter(|n| !n.is_empty()) {
            set(
                format!("{prefix}_SERVICE_PORT_{}", upper(name)),
                port.port.to_string(),
            );
        }
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let url = format!("{}://{host}:{}", protocol.to_lowercase(), port.port);
        let each = format!("{prefix}_PORT_{}_{}", port.port, protocol.to_uppercase());
        if std::ptr::eq(port, first) {
            set(format!("{prefix}_PORT"), url.clone());
        }
        set(format!("{each}_PROTO"), protocol.to_lowercase());
        set(format!("{each}_PORT"), port.port.to_string());
        set(format!("{each}_ADDR"), ip.to_owned());
        set(each, url);
    }
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::objects::Content;

    fn build_for(
        container: serde_json::Value,
        objects: &Objects,
        services: &[Service],
    ) -> Result<BTreeMap<String, String>, String> {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n"},
            "spec": {"enableServiceLinks": true, "containers": []}
        }))
        .unwrap();
        let container: Container = serde_json::from_value(container).unwrap();
        let allocatable = BTreeMap::new();
        let source = Source {
            pod: &pod,
            pod_ips: &[],
            host_ips: &[],
            allocatable: &allocatable,
        };
        build(&container, &source, objects, services)
            .map(|env| env.into_vec().into_iter().collect())
    }

    fn objects() -> Objects {
        let mut objects = Objects::default();
        let text = [("k", "v"), ("REF", "$(A)")];
        objects.insert(
            ObjectRef::new(Kind::ConfigMap, "c"),
            Some(Content::from_texts(text)),
        );
        objects.insert(
            ObjectRef::new(Kind::Secret, "s"),
            Some(Content::from_bytes([("pw", b"x".to_vec())])),
        );
        objects.insert(ObjectRef::new(Kind::ConfigMap, "gone"), None);
        objects
    }

    #[test]
    fn later_entries_win_and_see_earlier_ones() {
        let env = build_for(
            json!({"name": "a", "envFrom": [{"prefix": "P_", "configMapRef": {"name": "c"}}, {"secretRef": {"name": "s"}}],
                   "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)-$(P_k)-$(C)"}, {"name": "C", "value": "3"},
                           {"name": "A", "value": "$(A)2"}, {"name": "N"}]}),
            &objects(),
            &[],
        )
        .unwrap();
        let want = [
            ("A", "12"),
            ("B", "1-v-$(C)"),
            ("C", "3"),
            ("N", ""),
            ("P_REF", "$(A)"),
            ("P_k", "v"),
            ("pw", "x"),
        ];
        assert_eq!(env, want.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    }

    #[test]
    fn missing_sources_are_named_unless_optional() {
        let from = |optional: bool| json!({"name": "a", "envFrom": [{"configMapRef": {"name": "gone", "optional": optional}}]});
        assert_eq!(
            build_for(from(false), &objects(), &[]),
            Err("configmap \"gone\" not found".into())
        );
        assert_eq!(build_for(from(true), &objects(), &[]), Ok(BTreeMap::new()));
        let key = |optional: bool| {
            json!({"name": "a", "env": [{"name": "X", "value": "old"},
                   {"name": "X", "valueFrom": {"secretKeyRef": {"name": "s", "key": "no", "optional": optional}}}]})
        };
        assert_eq!(
            build_for(key(false), &objects(), &[]),
            Err("couldn't find key no in Secret n/s".into())
        );
        assert_eq!(build_for(key(true), &objects(), &[]).unwrap()["X"], "old");
    }

    #[test]
    fn services_become_variables() {
        let service = |ns: &str, name: &str, ip: &str| -> Service {
            serde_json::from_value(json!({"metadata": {"name": name, "namespace": ns},
                "spec": {"clusterIP": ip, "ports": [{"name": "cli", "port": 6379, "protocol": "TCP"}]}}))
            .unwrap()
        };
        let services = [
            service("n", "redis-main", "10.0.0.11"),
            service("other", "x", "10.0.0.12"),
            service("n", "none", "None"),
        ];
        let env = build_for(json!({"name": "a"}), &Objects::default(), &services).unwrap();
        let want = [
            ("REDIS_MAIN_PORT", "tcp://10.0.0.11:6379"),
            ("REDIS_MAIN_PORT_6379_TCP", "tcp://10.0.0.11:6379"),
            ("REDIS_MAIN_PORT_6379_TCP_ADDR", "10.0.0.11"),
            ("REDIS_MAIN_PORT_6379_TCP_PORT", "6379"),
            ("REDIS_MAIN_PORT_6379_TCP_PROTO", "tcp"),
            ("REDIS_MAIN_SERVICE_HOST", "10.0.0.11"),
            ("REDIS_MAIN_SERVICE_PORT", "6379"),
            ("REDIS_MAIN_SERVICE_PORT_CLI", "6379"),
        ];
        assert_eq!(env, want.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    }
}
