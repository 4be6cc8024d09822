//! Writes `crates/api/schema/kubernetes.txt`, the facts about Kubernetes types that `api::schema` reads.
//!
//! Three published sources are joined by type and field name: the OpenAPI v3 documents (types, list and patch strategies, defaults), the
//! `generated.proto` files (field numbers) and the Go structs (which fields are pointers, how error messages name their types). Only facts
//! are taken over, no descriptions. Needs the `go` command and, once, the Go module proxy.

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const MODULES: [&str; 3] = [
    "k8s.io/kubernetes@v1.36.3",
    "k8s.io/api@v0.36.3",
    "k8s.io/apimachinery@v0.36.3",
];

/// Go package and OpenAPI document of every group and version served.
const GROUPS: [(&str, &str); 17] = [
    ("core/v1", "api__v1"),
    ("apps/v1", "apis__apps__v1"),
    ("batch/v1", "apis__batch__v1"),
    ("events/v1", "apis__events.k8s.io__v1"),
    ("discovery/v1", "apis__discovery.k8s.io__v1"),
    ("coordination/v1", "apis__coordination.k8s.io__v1"),
    ("networking/v1", "apis__networking.k8s.io__v1"),
    ("policy/v1", "apis__policy__v1"),
    ("rbac/v1", "apis__rbac.authorization.k8s.io__v1"),
    ("authentication/v1", "apis__authentication.k8s.io__v1"),
    ("authorization/v1", "apis__authorization.k8s.io__v1"),
    ("autoscaling/v1", "apis__autoscaling__v1"),
    ("autoscaling/v2", "apis__autoscaling__v2"),
    ("certificates/v1", "apis__certificates.k8s.io__v1"),
    ("storage/v1", "apis__storage.k8s.io__v1"),
    ("scheduling/v1", "apis__scheduling.k8s.io__v1"),
    ("node/v1", "apis__node.k8s.io__v1"),
];

/// Types that are values of their own on the wire: definition, word in the file.
const SPECIAL: [(&str, &str); 7] = [
    ("io.k8s.apimachinery.pkg.api.resource.Quantity", "quantity"),
    ("io.k8s.apimachinery.pkg.util.intstr.IntOrString", "intstr"),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.Time", "time"),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime", "micro"),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1", "fields"),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.Patch", "any"),
    ("io.k8s.apimachinery.pkg.runtime.RawExtension", "any"),
];

/// Shapes whose Go type may have a name of its own.
const SCALARS: [&str; 5] = ["string", "int32", "int64", "bool", "bytes"];

const HEADER: &str = "# Facts about Kubernetes 1.36.3 types, written by `cargo xtask schema`; api::schema explains the format.\n";

fn target() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/api/schema/kubernetes.txt")
}

/// Writes the file anew.
pub(crate) fn generate() -> Result<()> {
    let path = target();
    std::fs::create_dir_all(path.parent().context("no parent")?)?;
    std::fs::write(&path, render()?)?;
    Ok(())
}

/// Fails when the file is not what would be written.
pub(crate) fn check() -> Result<()> {
    let current = std::fs::read_to_string(target())?;
    ensure!(
        current == render()?,
        "crates/api/schema/kubernetes.txt is out of date: run `cargo xtask schema`"
    );
    Ok(())
}

fn render() -> Result<String> {
    let [kubernetes, api, machinery] = download()?;
    let mut definitions = BTreeMap::new();
    for (_, document) in GROUPS {
        let file = kubernetes.join(format!("api/openapi-spec/v3/{document}_openapi.json"));
        let parsed: Value = serde_json::from_slice(
            &std::fs::read(&file).with_context(|| file.display().to_string())?,
        )?;
        for (name, schema) in parsed["components"]["schemas"]
            .as_object()
            .context("no schemas")?
        {
            definitions.insert(name.clone(), schema.clone());
        }
    }
    let mut sources = Sources::default();
    for (package, _) in GROUPS {
        sources.read(package, &api.join(package))?;
    }
    sources.read("meta/v1", &machinery.join("pkg/apis/meta/v1"))?;
    let mut out = HEADER.to_owned();
    for (name, schema) in &definitions {
        if !SPECIAL.iter().any(|(special, _)| special == name) {
            write_type(&mut out, name, schema, &sources).with_context(|| name.clone())?;
        }
    }
    Ok(out)
}

fn download() -> Result<[PathBuf; 3]> {
    let output = Command::new("go")
        .args(["mod", "download", "-json"])
        .args(MODULES)
        .current_dir(std::env::temp_dir())
        .output()
        .context("running go")?;
    ensure!(
        output.status.success(),
        "go mod download: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut found = BTreeMap::new();
    for module in serde_json::Deserializer::from_slice(&output.stdout).into_iter::<Value>() {
        let module = module?;
        let text = |key: &str| {
            module[key]
                .as_str()
                .map(str::to_owned)
                .ok_or_else(|| anyhow!("no {key}: {module}"))
        };
        found.insert(
            format!("{}@{}", text("Path")?, text("Version")?),
            PathBuf::from(text("Dir")?),
        );
    }
    let dir = |module: &str| {
        found
            .get(module)
            .cloned()
            .ok_or_else(|| anyhow!("{module} is missing"))
    };
    Ok([dir(MODULES[0])?, dir(MODULES[1])?, dir(MODULES[2])?])
}

/// `io.k8s.api.core.v1.Pod` is `core/v1.Pod`, meta types are `meta/v1.…`.
fn short(name: &str) -> Result<String> {
    let rest = name
        .strip_prefix("io.k8s.api.")
        .or_else(|| name.strip_prefix("io.k8s.apimachinery.pkg.apis."))
        .ok_or_else(|| anyhow!("unexpected definition {name}"))?;
    Ok(rest.replacen('.', "/", 1))
}

struct ProtoField {
    ty: String,
    number: u32,
}

struct GoField {
    /// The type as written.
    ty: String,
    /// Whether its zero is left out.
    omits: bool,
}

#[derive(Default)]
struct GoStruct {
    /// By JSON name.
    fields: BTreeMap<String, GoField>,
    /// Types embedded with `json:",inline"`.
    inline: Vec<String>,
}

/// Proto messages and Go structs by short name.
#[derive(Default)]
struct Sources {
    messages: BTreeMap<String, BTreeMap<String, ProtoField>>,
    structs: BTreeMap<String, GoStruct>,
    packages: BTreeSet<String>,
}

impl Sources {
    fn read(&mut self, package: &str, dir: &Path) -> Result<()> {
        self.packages.insert(package.to_owned());
        let proto = std::fs::read_to_string(dir.join("generated.proto"))
            .with_context(|| dir.display().to_string())?;
        self.read_proto(package, &proto)?;
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if name.ends_with(".go")
                && !name.ends_with("_test.go")
                && !name.starts_with("zz_")
                && !name.starts_with("generated")
            {
                self.read_go(package, &std::fs::read_to_string(&path)?);
            }
        }
        Ok(())
    }

    fn read_proto(&mut self, package: &str, text: &str) -> Result<()> {
        let mut current = String::new();
        for line in text.lines() {
            if let Some(name) = line
                .strip_prefix("message ")
                .and_then(|l| l.strip_suffix(" {"))
            {
                current = format!("{package}.{name}");
                self.messages.entry(current.clone()).or_default();
            } else if let Some((declaration, number)) = line
                .trim()
                .strip_suffix(';')
                .and_then(|l| l.split_once(" = "))
                && line.starts_with("  ")
                && !declaration.starts_with("//")
            {
                let (ty, name) = declaration.rsplit_once(' ').context("no field name")?;
                let ty = ty
                    .trim_start_matches("optional ")
                    .trim_start_matches("repeated ");
                let field = ProtoField {
                    ty: proto_type(package, ty),
                    number: number.parse().with_context(|| line.to_owned())?,
                };
                self.messages
                    .entry(current.clone())
                    .or_default()
                    .insert(name.to_owned(), field);
            }
        }
        Ok(())
    }

    fn read_go(&mut self, package: &str, text: &str) {
        let mut current: Option<String> = None;
        for line in text.lines() {
            if let Some(name) = line
                .strip_prefix("type ")
                .and_then(|l| l.strip_suffix(" struct {"))
            {
                current = Some(format!("{package}.{name}"));
            } else if line == "}" {
                current = None;
            } else if let (Some(name), Some((declaration, tag))) =
                (&current, line.trim().split_once('`'))
            {
                let Some(json) = tag
                    .split("json:\"")
                    .nth(1)
                    .and_then(|t| t.split('"').next())
                else {
                    continue;
                };
                let words: Vec<&str> = declaration.split_whitespace().collect();
                let into = self.structs.entry(name.clone()).or_default();
                match words[..] {
                    [embedded] if json.starts_with(',') => {
                        into.inline.push(format!("{package}.{embedded}"))
                    }
                    [_, ty] => {
                        let mut options = json.split(',');
                        let name = options.next().unwrap_or_default().to_owned();
                        let field = GoField {
                            ty: ty.to_owned(),
                            omits: options.any(|o| o == "omitempty" || o == "omitzero"),
                        };
                        into.fields.insert(name, field);
                    }
                    _ => {}
                }
            }
        }
    }

    /// The field numbers that lead to a field and the names of the structs on the way; inlined structs are messages of their own.
    fn tag(&self, message: &str, field: &str) -> Option<(Vec<u32>, Vec<String>)> {
        let fields = self.messages.get(message)?;
        // The proto files spell some initials differently (`uID`).
        if let Some((_, found)) = fields
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(field))
        {
            return Some((vec![found.number], Vec::new()));
        }
        let inlined = &self.structs.get(message)?.inline;
        fields
            .values()
            .filter(|f| inlined.contains(&f.ty))
            .find_map(|f| {
                let (numbers, names) = self.tag(&f.ty, field)?;
                let name = f.ty.rsplit('.').next().unwrap_or_default().to_owned();
                Some((
                    [vec![f.number], numbers].concat(),
                    [vec![name], names].concat(),
                ))
            })
    }

    fn go_field(&self, name: &str, field: &str) -> Option<&GoField> {
        let found = self.structs.get(name)?;
        found.fields.get(field).or_else(|| {
            let mut inlined = found.inline.iter();
            inlined.find_map(|inner| self.go_field(inner, field))
        })
    }
}

fn proto_type(package: &str, ty: &str) -> String {
    let full = ty.trim_start_matches('.');
    let known = full
        .strip_prefix("k8s.io.api.")
        .or_else(|| full.strip_prefix("k8s.io.apimachinery.pkg.apis."));
    match known {
        Some(rest) => rest.replacen('.', "/", 1),
        None if full.starts_with(char::is_uppercase) => format!("{package}.{full}"),
        None => full.to_owned(),
    }
}

fn write_type(out: &mut String, name: &str, schema: &Value, sources: &Sources) -> Result<()> {
    let short_name = short(name)?;
    write!(out, "T {short_name}")?;
    for gvk in schema["x-kubernetes-group-version-kind"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let word = |key: &str| gvk[key].as_str().unwrap_or_default();
        // Every group lists these two as its own; they are known by name instead.
        if !["DeleteOptions", "WatchEvent"].contains(&word("kind")) {
            write!(
                out,
                " {}/{}/{}",
                word("group"),
                word("version"),
                word("kind")
            )?;
        }
    }
    if schema["x-kubernetes-map-type"] == "atomic" {
        out.push_str(" atomic");
    }
    out.push('\n');
    let required: BTreeSet<&str> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    for (field, property) in schema["properties"].as_object().into_iter().flatten() {
        write_field(
            out,
            &short_name,
            field,
            property,
            required.contains(field.as_str()),
            sources,
        )
        .with_context(|| field.clone())?;
    }
    Ok(())
}

/// Whether Go's encoder can leave the zero of a shape out.
fn has_zero(shape: &str) -> bool {
    let is_number = matches!(shape, "int32" | "int64" | "double");
    is_number || matches!(shape, "string" | "bool" | "bytes") || shape.starts_with(['[', '{'])
}

fn write_field(
    out: &mut String,
    owner: &str,
    field: &str,
    schema: &Value,
    required: bool,
    sources: &Sources,
) -> Result<()> {
    let found = sources.go_field(owner, field);
    let go = found.map(|f| f.ty.as_str());
    let shape = shape(schema)?;
    write!(out, " {field} {shape}")?;
    if required {
        out.push_str(" !");
    }
    if go.is_some_and(|ty| ty.starts_with('*')) {
        out.push_str(" *");
    }
    if found.is_some_and(|f| !f.omits && !f.ty.starts_with('*')) && !required && has_zero(&shape) {
        out.push_str(" +");
    }
    if let Some((numbers, names)) = sources.tag(owner, field) {
        let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
        write!(out, " #{}", numbers.join("/"))?;
        if !names.is_empty() {
            write!(out, " in={}", names.join("."))?;
        }
    } else if !["apiVersion", "kind"].contains(&field) {
        bail!("no field number");
    }
    if let Some(list) = schema["x-kubernetes-list-type"].as_str() {
        let keys: Vec<&str> = schema["x-kubernetes-list-map-keys"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        write!(
            out,
            " list={list}{}{}",
            if keys.is_empty() { "" } else { ":" },
            keys.join(",")
        )?;
    }
    for (extension, word) in [
        ("x-kubernetes-map-type", "map"),
        ("x-kubernetes-patch-strategy", "patch"),
        ("x-kubernetes-patch-merge-key", "key"),
    ] {
        if let Some(value) = schema[extension].as_str() {
            write!(out, " {word}={value}")?;
        }
    }
    match &schema["default"] {
        Value::String(text) if !text.is_empty() => {
            write!(out, " default={}", Value::from(text.as_str()))?
        }
        Value::Number(number) if number.as_i64() != Some(0) => write!(out, " default={number}")?,
        _ => {}
    }
    let plain = shape.trim_start_matches('[');
    if let Some(alias) = go.and_then(|ty| alias(owner, ty))
        && (plain.starts_with('{') || SCALARS.contains(&plain))
    {
        write!(out, " go={alias}")?;
    }
    out.push('\n');
    Ok(())
}

/// The name of a named scalar, list or map type as error messages show it; those of other shapes follow from the shape.
fn alias(owner: &str, ty: &str) -> Option<String> {
    let pointed = ty.trim_start_matches('*');
    let named = pointed.trim_start_matches("[]");
    let lists = &pointed[..pointed.len() - named.len()];
    let version = owner.split(['/', '.']).nth(1).unwrap_or_default();
    let (package, local) = named.rsplit_once('.').unwrap_or((version, named));
    let package = if package.ends_with("v1") {
        "v1"
    } else {
        package
    };
    (local.starts_with(char::is_uppercase) && !named.starts_with("map["))
        .then(|| format!("{lists}{package}.{local}"))
}

fn shape(schema: &Value) -> Result<String> {
    let reference = schema["$ref"]
        .as_str()
        .or_else(|| schema["allOf"][0]["$ref"].as_str());
    if let Some(reference) = reference {
        let name = reference.trim_start_matches("#/components/schemas/");
        return match SPECIAL.iter().find(|(special, _)| *special == name) {
            Some((_, word)) => Ok((*word).to_owned()),
            None => short(name),
        };
    }
    let text = |key: &str| schema[key].as_str().unwrap_or_default();
    Ok(match (text("type"), text("format")) {
        ("array", _) => format!("[{}", shape(&schema["items"])?),
        ("object", _) if schema["additionalProperties"].is_object() => {
            format!("{{{}", shape(&schema["additionalProperties"])?)
        }
        ("string", "byte") => "bytes".to_owned(),
        ("string", "") => "string".to_owned(),
        ("integer", "int32") => "int32".to_owned(),
        ("integer", "int64") => "int64".to_owned(),
        ("number", "double") => "double".to_owned(),
        ("boolean", "") => "bool".to_owned(),
        (ty, format) => bail!("unexpected type {ty:?} of format {format:?}"),
    })
}
