//! `application/vnd.kubernetes.protobuf` (spec kubectl-and-api §2.3): envelope and messages, translated from and to JSON values by the
//! field numbers of the schema. Typed Go clients send request bodies this way.

mod decode;
mod encode;
pub mod wire;

pub use decode::decode;
pub use encode::encode;

/// The media type.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
/// The four bytes every body begins with.
pub const MAGIC: &[u8; 4] = b"k8s\0";

/// Why a body cannot be translated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    /// It does not begin with [`MAGIC`].
    #[error(
        "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"
    )]
    Magic,
    /// It ends too early or has a malformed key, length or number.
    #[error("unexpected EOF")]
    Truncated,
    /// A field has another wire type than its message says.
    #[error("proto: wrong wireType = {wire} for field {field}")]
    WireType {
        /// Of the field.
        field: String,
        /// What was found.
        wire: u8,
    },
    /// A text is not UTF-8, or embedded JSON is malformed.
    #[error("proto: malformed value of field {0}")]
    Value(String),
    /// The schema does not know the kind.
    #[error("no kind {kind} is registered for version {api_version}", kind = crate::gotext::quote(.kind), api_version = crate::gotext::quote(.api_version))]
    Kind {
        /// As the envelope says.
        api_version: String,
        /// As the envelope says.
        kind: String,
    },
    /// Envelopes within envelopes beyond any use.
    #[error("proto: nested too deeply")]
    Depth,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gvk::GroupVersionKind;
    use serde_json::{Value, json};

    fn round_trip(value: &Value) -> Value {
        decode(&encode(value).unwrap(), None).unwrap().1
    }

    #[test]
    fn objects_round_trip() {
        for value in [
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "labels": {"a": "b"}}, "data": {"k": "AAEC"},
                   "immutable": false, "type": "Opaque"}),
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "creationTimestamp": "2026-01-02T03:04:05Z"},
                   "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "d"}},
                     "strategy": {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 1}},
                     "template": {"spec": {"containers": [{"name": "c", "image": "i", "resources": {"limits": {"cpu": "500m"}},
                       "livenessProbe": {"httpGet": {"port": 80, "path": "/"}, "periodSeconds": 3},
                       "env": [{"name": "E", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k", "optional": true}}}],
                       "securityContext": {"runAsUser": 0, "capabilities": {"add": ["NET_ADMIN"]}}}],
                       "volumes": [{"name": "v", "emptyDir": {}}, {"name": "w", "projected": {"sources": [{"secret": {"name": "x"}}]}}]}}}}),
            json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0, "propagationPolicy": "Background",
                   "preconditions": {"uid": "u"}, "dryRun": ["All"]}),
            json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"},
                   "spec": {"renewTime": "2026-01-02T03:04:05.000006Z", "leaseDurationSeconds": 40}}),
            json!({"apiVersion": "v1", "kind": "PodList", "metadata": {"resourceVersion": "7"}, "items": [
                   {"metadata": {"name": "a", "managedFields": [{"manager": "m", "fieldsV1": {"f:spec": {}}}]}}]}),
            json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "status": {"authenticated": true,
                   "user": {"username": "u", "extra": {"k": ["a", "b"]}}}}),
            json!({"apiVersion": "v1", "kind": "Pod", "spec": {"ephemeralContainers": [{"name": "d", "targetContainerName": "c",
                   "stdin": true}], "tolerations": [{"tolerationSeconds": -5}]}, "status": {"containerStatuses": [{"restartCount": 3,
                   "state": {"terminated": {"exitCode": 137}}}]}}),
        ] {
            assert_eq!(round_trip(&value), value);
        }
    }

    /// `kubectl create configmap c --from-literal=a=b`, as Go encodes it: zero scalars and empty messages are written out.
    #[test]
    fn reads_what_go_writes() {
        let mut meta = Vec::new();
        for (number, text) in [(1u8, "c"), (2, ""), (3, ""), (4, ""), (5, ""), (6, "")] {
            meta.extend([number << 3 | 2, text.len() as u8]);
            meta.extend(text.bytes());
        }
        meta.extend([7 << 3, 0]); // generation 0
        meta.extend([8 << 3 | 2, 0]); // creationTimestamp, empty
        let mut raw = vec![1 << 3 | 2, meta.len() as u8];
        raw.extend(meta);
        raw.extend([2 << 3 | 2, 6, 1 << 3 | 2, 1, b'a', 2 << 3 | 2, 1, b'b']);
        let mut body = MAGIC.to_vec();
        body.extend([1 << 3 | 2, 15, 1 << 3 | 2, 2, b'v', b'1', 2 << 3 | 2, 9]);
        body.extend(b"ConfigMap");
        body.extend([2 << 3 | 2, raw.len() as u8]);
        body.extend(raw);
        body.extend([3 << 3 | 2, 0, 4 << 3 | 2, 0]);
        let (gvk, value) = decode(&body, None).unwrap();
        assert_eq!(gvk, GroupVersionKind::new("", "v1", "ConfigMap"));
        assert_eq!(
            value,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "b"}})
        );
    }

    #[test]
    fn the_url_decides_when_the_envelope_is_silent() {
        let mut body = MAGIC.to_vec();
        body.extend([2 << 3 | 2, 0]);
        let expected = GroupVersionKind::new("", "v1", "ConfigMap");
        assert_eq!(
            decode(&body, Some(&expected)).unwrap().1,
            json!({"apiVersion": "v1", "kind": "ConfigMap"})
        );
        assert!(matches!(
            decode(&body, None),
            Err(ProtobufError::Kind { .. })
        ));
    }

    #[test]
    fn damage_is_refused_without_panic() {
        let body = encode(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "b"}})).unwrap();
        assert_eq!(decode(b"{}", None), Err(ProtobufError::Magic));
        for end in 4..body.len() {
            let _ = decode(&body[..end], None);
        }
        for i in 4..body.len() {
            for flip in [1u8, 7, 0x80, 0xff] {
                let mut damaged = body.clone();
                damaged[i] ^= flip;
                let _ = decode(&damaged, None);
            }
        }
        assert_eq!(
            decode(&body[..body.len() - 3], None),
            Err(ProtobufError::Truncated)
        );
    }
}
