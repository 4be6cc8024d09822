//! One table of facts about Kubernetes types; patches, pruning, field validation, OpenAPI and protobuf are all driven by it.
//!
//! `schema/kubernetes.txt` is generated from upstream's published documents. A line `T name [group/version/Kind…] [atomic]` begins a
//! type; each line below it is a field: name, shape, then flags.
//!
//! - Shapes: `string int32 int64 double bool bytes time micro quantity intstr any fields`, a type's name, `[` before a list's element,
//!   `{` before a map's value.
//! - `!` required · `*` a pointer in Go, so zero is a value · `+` written by Go although it is zero, and not required · `#2/4` protobuf numbers, leading through inlined messages ·
//!   `list=atomic|set|map:keys` and `map=atomic|granular` for server-side apply · `patch=` strategies and `key=` merge key for strategic
//!   merge · `in=` the inlined Go struct it belongs to · `default=` a JSON value · `go=` the type's name in decoding errors.

use crate::gvk::GroupVersionKind;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::LazyLock;

static TEXT: &str = include_str!("../schema/kubernetes.txt");
// The text is part of the program, and a test parses it.
static SCHEMA: LazyLock<Schema> =
    LazyLock::new(|| Schema::parse(TEXT).expect("the schema is well-formed"));

/// The table itself, to name its content by.
pub(crate) fn text() -> &'static str {
    TEXT
}

/// All types. Parsed once, on first use.
#[derive(Debug)]
pub struct Schema {
    types: Vec<Type>,
    by_name: BTreeMap<&'static str, TypeId>,
    by_kind: BTreeMap<(&'static str, &'static str, &'static str), TypeId>,
}

/// A type's place in the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TypeId(u16);

/// An object type.
#[derive(Debug)]
pub struct Type {
    /// `core/v1.PodSpec`.
    pub name: &'static str,
    /// The group, version and kind of top-level objects.
    pub kinds: Vec<(&'static str, &'static str, &'static str)>,
    /// Whether server-side apply treats it as one value.
    pub atomic: bool,
    /// In byte order of their names.
    pub fields: Vec<Field>,
}

/// A field.
#[derive(Debug)]
pub struct Field {
    /// Its JSON name.
    pub name: &'static str,
    /// What it holds.
    pub shape: Shape,
    /// Whether OpenAPI says so.
    pub required: bool,
    /// Whether Go holds a pointer, so that zero differs from absent.
    pub pointer: bool,
    /// Whether Go writes it although it is zero, where OpenAPI does not say so.
    pub written: bool,
    /// Protobuf field numbers, outermost first; more than one when Go inlines the struct. Empty for `apiVersion` and `kind`.
    pub tag: Vec<u32>,
    /// The Go struct it is inlined from, which decoding errors name.
    pub inlined: Option<&'static str>,
    /// How server-side apply merges a list.
    pub list: Option<ListType>,
    /// Whether server-side apply treats a map as one value.
    pub map_atomic: bool,
    /// How strategic merge patch treats it.
    pub patch: PatchStrategy,
    /// The key of strategic merge for lists of objects.
    pub merge_key: Option<&'static str>,
    /// A JSON value other than zero.
    pub default: Option<&'static str>,
    /// The Go name of a named scalar, list or map type.
    pub go: Option<&'static str>,
}

impl Field {
    /// Whether an object goes without the field if this is its value, as Go's encoder has it (`omitempty`).
    pub fn leaves_out(&self, value: &Value) -> bool {
        if self.required || self.pointer || self.written {
            return false;
        }
        match (&self.shape, value) {
            (Shape::String | Shape::Bytes, Value::String(text)) => text.is_empty(),
            (Shape::Int32 | Shape::Int64 | Shape::Double, Value::Number(number)) => {
                number.as_f64() == Some(0.0)
            }
            (Shape::Bool, Value::Bool(value)) => !value,
            (Shape::List(_), Value::Array(list)) => list.is_empty(),
            (Shape::Map(_), Value::Object(map)) => map.is_empty(),
            _ => false,
        }
    }
}

/// What a field, element or value holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// Text.
    String,
    /// 32 bits.
    Int32,
    /// 64 bits.
    Int64,
    /// A floating point number.
    Double,
    /// A boolean.
    Bool,
    /// Base64 in JSON.
    Bytes,
    /// RFC 3339 in whole seconds.
    Time,
    /// RFC 3339 in microseconds.
    MicroTime,
    /// See [`crate::quantity`].
    Quantity,
    /// A number or a text.
    IntOrString,
    /// Any JSON, kept as it is.
    Any,
    /// The field set of a managedFields entry, kept as it is.
    Fields,
    /// An object of a type.
    Object(TypeId),
    /// A list.
    List(Box<Shape>),
    /// A map from texts.
    Map(Box<Shape>),
}

/// List types of server-side apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListType {
    /// One value.
    Atomic,
    /// Elements are their own keys.
    Set,
    /// Elements are objects with these keys.
    Map(Vec<&'static str>),
}

/// Strategies of strategic merge patch; more than one may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PatchStrategy {
    /// Lists merge instead of being replaced.
    pub merge: bool,
    /// Maps are replaced instead of being merged.
    pub replace: bool,
    /// `$retainKeys` is understood.
    pub retain_keys: bool,
}

impl Schema {
    /// The schema.
    pub fn get() -> &'static Self {
        &SCHEMA
    }

    /// The type of a kind served.
    pub fn kind(&self, gvk: &GroupVersionKind) -> Option<TypeId> {
        self.of(&gvk.group, &gvk.version, &gvk.kind)
    }

    /// As [`Schema::kind`], from the three words. `DeleteOptions` is known in every group.
    pub fn of(&self, group: &str, version: &str, kind: &str) -> Option<TypeId> {
        if kind == "DeleteOptions" {
            return self.named("meta/v1.DeleteOptions");
        }
        self.by_kind.get(&(group, version, kind)).copied()
    }

    /// The type of this name, such as `core/v1.PodSpec`.
    pub fn named(&self, name: &str) -> Option<TypeId> {
        self.by_name.get(name).copied()
    }

    /// A type.
    pub fn ty(&self, id: TypeId) -> &Type {
        &self.types[usize::from(id.0)]
    }

    /// Every type, in order of their names.
    pub fn types(&self) -> impl Iterator<Item = (TypeId, &Type)> {
        self.types
            .iter()
            .enumerate()
            .map(|(i, ty)| (TypeId(i as u16), ty))
    }

    fn parse(text: &'static str) -> Result<Self, String> {
        let lines = || {
            text.lines()
                .filter(|l| !l.starts_with('#') && !l.is_empty())
        };
        let mut by_name = BTreeMap::new();
        for (i, line) in lines().filter_map(|l| l.strip_prefix("T ")).enumerate() {
            let id = TypeId(u16::try_from(i).map_err(|_| "too many types")?);
            by_name.insert(line.split(' ').next().unwrap_or(line), id);
        }
        let mut schema = Self {
            types: Vec::with_capacity(by_name.len()),
            by_name,
            by_kind: BTreeMap::new(),
        };
        for line in lines() {
            if let Some(declaration) = line.strip_prefix("T ") {
                schema.begin(declaration);
            } else {
                let field =
                    field(line, &schema.by_name).ok_or_else(|| format!("bad line {line:?}"))?;
                schema
                    .types
                    .last_mut()
                    .ok_or("a field before any type")?
                    .fields
                    .push(field);
            }
        }
        for ty in &mut schema.types {
            ty.fields.sort_by_key(|f| f.name);
        }
        Ok(schema)
    }

    fn begin(&mut self, declaration: &'static str) {
        let mut words = declaration.split(' ');
        let name = words.next().unwrap_or_default();
        let mut ty = Type {
            name,
            kinds: Vec::new(),
            atomic: false,
            fields: Vec::new(),
        };
        for word in words {
            let mut parts = word.split('/');
            match (parts.next(), parts.next(), parts.next()) {
                (Some(group), Some(version), Some(kind)) => ty.kinds.push((group, version, kind)),
                _ => ty.atomic |= word == "atomic",
            }
        }
        let id = TypeId(self.types.len() as u16);
        self.by_kind.extend(ty.kinds.iter().map(|kind| (*kind, id)));
        self.types.push(ty);
    }
}

impl Type {
    /// A field by its JSON name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields
            .binary_search_by_key(&name, |f| f.name)
            .ok()
            .map(|i| &self.fields[i])
    }

    /// The name OpenAPI documents use: `io.k8s.api.core.v1.PodSpec`.
    pub fn definition(&self) -> String {
        let package = if self.name.starts_with("meta/") {
            "io.k8s.apimachinery.pkg.apis."
        } else {
            "io.k8s.api."
        };
        format!("{package}{}", self.name.replacen('/', ".", 1))
    }

    /// Its bare name: `PodSpec`.
    pub fn local_name(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }
}

fn shape(word: &str, names: &BTreeMap<&'static str, TypeId>) -> Option<Shape> {
    if let Some(element) = word.strip_prefix('[') {
        return Some(Shape::List(Box::new(shape(element, names)?)));
    }
    if let Some(value) = word.strip_prefix('{') {
        return Some(Shape::Map(Box::new(shape(value, names)?)));
    }
    Some(match word {
        "string" => Shape::String,
        "int32" => Shape::Int32,
        "int64" => Shape::Int64,
        "double" => Shape::Double,
        "bool" => Shape::Bool,
        "bytes" => Shape::Bytes,
        "time" => Shape::Time,
        "micro" => Shape::MicroTime,
        "quantity" => Shape::Quantity,
        "intstr" => Shape::IntOrString,
        "any" => Shape::Any,
        "fields" => Shape::Fields,
        name => Shape::Object(*names.get(name)?),
    })
}

fn field(line: &'static str, names: &BTreeMap<&'static str, TypeId>) -> Option<Field> {
    let mut words = line.strip_prefix(' ')?.split(' ');
    let mut field = Field {
        name: words.next()?,
        shape: shape(words.next()?, names)?,
        required: false,
        pointer: false,
        written: false,
        tag: Vec::new(),
        inlined: None,
        list: None,
        map_atomic: false,
        patch: PatchStrategy::default(),
        merge_key: None,
        default: None,
        go: None,
    };
    for word in words {
        if let Some(numbers) = word.strip_prefix('#') {
            field.tag = numbers
                .split('/')
                .map(|n| n.parse().ok())
                .collect::<Option<_>>()?;
            continue;
        }
        match word.split_once('=') {
            None if word == "!" => field.required = true,
            None if word == "*" => field.pointer = true,
            None if word == "+" => field.written = true,
            Some(("list", "atomic")) => field.list = Some(ListType::Atomic),
            Some(("list", "set")) => field.list = Some(ListType::Set),
            Some(("list", keys)) => {
                field.list = Some(ListType::Map(
                    keys.strip_prefix("map:")?.split(',').collect(),
                ))
            }
            Some(("map", kind)) => field.map_atomic = kind == "atomic",
            Some(("patch", strategies)) => {
                let has = |name| strategies.split(',').any(|s| s == name);
                field.patch = PatchStrategy {
                    merge: has("merge"),
                    replace: has("replace"),
                    retain_keys: has("retainKeys"),
                };
            }
            Some(("key", key)) => field.merge_key = Some(key),
            Some(("default", value)) => field.default = Some(value),
            Some(("in", name)) => field.inlined = Some(name),
            Some(("go", name)) => field.go = Some(name),
            _ => return None,
        }
    }
    Some(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ty(name: &str) -> &'static Type {
        let schema = Schema::get();
        schema.ty(schema.named(name).unwrap())
    }

    #[test]
    fn parses_quickly() {
        let started = std::time::Instant::now();
        let schema = Schema::parse(TEXT).unwrap();
        println!("{} types in {:?}", schema.types.len(), started.elapsed());
        assert!(schema.types.len() > 400);
    }

    #[test]
    fn knows_kinds() {
        let schema = Schema::get();
        for (group, version, kind, name) in [
            ("", "v1", "Pod", "core/v1.Pod"),
            ("apps", "v1", "Deployment", "apps/v1.Deployment"),
            ("events.k8s.io", "v1", "Event", "events/v1.Event"),
            ("policy", "v1", "Eviction", "policy/v1.Eviction"),
            ("autoscaling", "v1", "Scale", "autoscaling/v1.Scale"),
            (
                "authentication.k8s.io",
                "v1",
                "TokenRequest",
                "authentication/v1.TokenRequest",
            ),
            ("", "v1", "DeleteOptions", "meta/v1.DeleteOptions"),
            ("apps", "v1", "DeleteOptions", "meta/v1.DeleteOptions"),
            ("", "v1", "Status", "meta/v1.Status"),
        ] {
            assert_eq!(
                schema.of(group, version, kind).map(|id| schema.ty(id).name),
                Some(name),
                "{kind}"
            );
        }
        assert_eq!(schema.of("", "v1", "Nothing"), None);
    }

    #[test]
    fn knows_fields() {
        let containers = ty("core/v1.PodSpec").field("containers").unwrap();
        assert_eq!(containers.merge_key, Some("name"));
        assert_eq!(containers.list, Some(ListType::Map(vec!["name"])));
        assert!(containers.required && containers.patch.merge && !containers.patch.retain_keys);
        assert!(
            ty("core/v1.PodSpec")
                .field("volumes")
                .unwrap()
                .patch
                .retain_keys
        );
        assert!(ty("core/v1.PodSpec").field("replicas").is_none());
        assert_eq!(
            ty("core/v1.ContainerPort")
                .field("protocol")
                .unwrap()
                .default,
            Some("\"TCP\"")
        );
        assert_eq!(
            ty("core/v1.Volume").field("configMap").unwrap().tag,
            [2, 19]
        );
        assert!(
            ty("core/v1.PodSpec")
                .field("terminationGracePeriodSeconds")
                .unwrap()
                .pointer
        );
        assert!(ty("meta/v1.LabelSelector").atomic);
        assert_eq!(
            ty("meta/v1.ObjectMeta").definition(),
            "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
        );
        assert_eq!(ty("core/v1.Pod").definition(), "io.k8s.api.core.v1.Pod");
    }
}
