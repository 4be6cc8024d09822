//! Volumes of a Pod (§15.1), and what those of the cluster are of.

use serde_json::Value;

use super::pod::Indent;
use super::tabs::Tabs;
use super::{is_set, list, pairs, shown, text};

/// Adds `Volumes:`.
pub(super) fn volumes(out: &mut Tabs, volumes: &[Value], indent: Indent) {
    if volumes.is_empty() {
        out.line(indent.level(), "Volumes:\t<none>");
        return;
    }
    out.line(indent.level(), "Volumes:");
    for volume in volumes {
        out.line(1, format!("{}{}:", indent.of_name(), text(&volume["name"])));
        source(out, volume);
    }
}

fn yes_or_no(value: &Value) -> &'static str {
    if value == true { "true" } else { "false" }
}

/// A kind of volume: its field, its name with a few words about it, and its own fields.
type Known = (
    &'static str,
    &'static str,
    fn(&Value) -> Vec<(&'static str, String)>,
);

const KNOWN: &[Known] = &[
    (
        "hostPath",
        "HostPath (bare host directory volume)",
        |volume| {
            vec![
                ("Path", shown(&volume["path"])),
                ("HostPathType", shown(&volume["type"])),
            ]
        },
    ),
    (
        "emptyDir",
        "EmptyDir (a temporary directory that shares a pod's lifetime)",
        |volume| {
            let limit = match &volume["sizeLimit"] {
                limit if is_set(limit) && limit != "0" => shown(limit),
                _ => "<unset>".into(),
            };
            vec![
                ("Medium", text(&volume["medium"]).to_owned()),
                ("SizeLimit", limit),
            ]
        },
    ),
    (
        "secret",
        "Secret (a volume populated by a Secret)",
        |volume| {
            vec![
                ("SecretName", text(&volume["secretName"]).to_owned()),
                ("Optional", yes_or_no(&volume["optional"]).into()),
            ]
        },
    ),
    (
        "configMap",
        "ConfigMap (a volume populated by a ConfigMap)",
        |volume| {
            vec![
                ("Name", text(&volume["name"]).to_owned()),
                ("Optional", yes_or_no(&volume["optional"]).into()),
            ]
        },
    ),
    (
        "nfs",
        "NFS (an NFS mount that lasts the lifetime of a pod)",
        |volume| {
            vec![
                ("Server", text(&volume["server"]).to_owned()),
                ("Path", text(&volume["path"]).to_owned()),
                ("ReadOnly", yes_or_no(&volume["readOnly"]).into()),
            ]
        },
    ),
    (
        "persistentVolumeClaim",
        "PersistentVolumeClaim (a reference to a PersistentVolumeClaim in the same namespace)",
        |volume| {
            vec![
                ("ClaimName", text(&volume["claimName"]).to_owned()),
                ("ReadOnly", yes_or_no(&volume["readOnly"]).into()),
            ]
        },
    ),
    (
        "csi",
        "CSI (a Container Storage Interface (CSI) volume source)",
        |volume| {
            vec![
                ("Driver", text(&volume["driver"]).to_owned()),
                ("FSType", text(&volume["fsType"]).to_owned()),
                ("ReadOnly", yes_or_no(&volume["readOnly"]).into()),
            ]
        },
    ),
    (
        "image",
        "Image (a container image or OCI artifact)",
        |volume| {
            vec![
                ("Reference", text(&volume["reference"]).to_owned()),
                ("PullPolicy", text(&volume["pullPolicy"]).to_owned()),
            ]
        },
    ),
];

/// What is told of a source that only volumes of the cluster have.
fn driver(csi: &Value) -> Vec<(&'static str, String)> {
    vec![
        ("Driver", text(&csi["driver"]).to_owned()),
        ("FSType", text(&csi["fsType"]).to_owned()),
        ("VolumeHandle", text(&csi["volumeHandle"]).to_owned()),
        ("ReadOnly", yes_or_no(&csi["readOnly"]).into()),
    ]
}

/// Adds what a volume of the cluster is of.
pub(super) fn persistent(out: &mut Tabs, spec: &Value) {
    if spec["local"].is_object() {
        let name = "LocalVolume (a persistent volume backed by local storage on a node)";
        out.field(2, "Type", name);
        out.field(2, "Path", text(&spec["local"]["path"]));
    } else if spec["csi"].is_object() {
        let name = "CSI (a Container Storage Interface (CSI) volume source)";
        out.field(2, "Type", name);
        for (name, value) in driver(&spec["csi"]) {
            out.field(2, name, value);
        }
        attributes(out, &spec["csi"]["volumeAttributes"]);
    } else {
        source(out, spec);
    }
}

fn source(out: &mut Tabs, volume: &Value) {
    let known = KNOWN.iter().find(|(field, ..)| volume[*field].is_object());
    if let Some((field, name, fields)) = known {
        out.field(2, "Type", *name);
        for (name, value) in fields(&volume[*field]) {
            out.field(2, name, value);
        }
        if *field == "csi" {
            attributes(out, &volume["csi"]["volumeAttributes"]);
        }
    } else if volume["projected"].is_object() {
        projected(out, list(&volume["projected"]["sources"]));
    } else if volume["downwardAPI"].is_object() {
        downward(out, list(&volume["downwardAPI"]["items"]));
    } else if volume["ephemeral"].is_object() {
        out.field(2, "Type", "EphemeralVolume (an inline specification for a volume that gets created and deleted with the pod)");
    } else {
        out.line(1, "<unknown>");
    }
}

fn attributes(out: &mut Tabs, map: &Value) {
    let pairs = pairs(map);
    if pairs.is_empty() {
        out.field(2, "VolumeAttributes", "<none>");
    }
    for (place, pair) in pairs.iter().enumerate() {
        let head = if place == 0 {
            "    VolumeAttributes:"
        } else {
            ""
        };
        // kubectl indents what follows the column as well.
        out.line(0, format!("{head}\t    {pair}"));
    }
}

fn projected(out: &mut Tabs, sources: &[Value]) {
    out.field(
        2,
        "Type",
        "Projected (a volume that contains injected data from multiple sources)",
    );
    for source in sources {
        let optional = |out: &mut Tabs, name: &str, source: &Value| {
            out.field(2, name, text(&source["name"]));
            out.field(2, "Optional", yes_or_no(&source["optional"]));
        };
        if source["secret"].is_object() {
            optional(out, "SecretName", &source["secret"]);
        } else if source["downwardAPI"].is_object() {
            out.field(2, "DownwardAPI", "true");
        } else if source["configMap"].is_object() {
            optional(out, "ConfigMapName", &source["configMap"]);
        } else if source["serviceAccountToken"].is_object() {
            let seconds = &source["serviceAccountToken"]["expirationSeconds"];
            out.field(2, "TokenExpirationSeconds", shown(seconds));
        }
    }
}

fn downward(out: &mut Tabs, items: &[Value]) {
    out.field(
        2,
        "Type",
        "DownwardAPI (a volume populated by information about the pod)",
    );
    out.line(2, "Items:");
    for item in items {
        let path = text(&item["path"]);
        if item["fieldRef"].is_object() {
            out.line(
                3,
                format!("{} -> {path}", text(&item["fieldRef"]["fieldPath"])),
            );
        }
        if item["resourceFieldRef"].is_object() {
            out.line(
                3,
                format!("{} -> {path}", text(&item["resourceFieldRef"]["resource"])),
            );
        }
    }
}
