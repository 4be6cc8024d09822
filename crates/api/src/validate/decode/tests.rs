//! Bodies and messages, most of them compared with a real API server.

use super::*;
use crate::validate::strict_error;
use serde_json::json;

fn pod() -> TypeId {
    Schema::get().of("", "v1", "Pod").unwrap()
}

fn decode(text: &str) -> Result<Decoded, TypeError> {
    decode_slice(text.as_bytes(), pod())
}

#[test]
fn unknown_fields_are_dropped_and_named() {
    let decoded = decode(
        r#"{"kind":"Pod","spec":{"containers":[{"name":"a","imagee":"x"}],"foo":{"a":1}},"metadata":{"labels":{"x":"y"}},"spec2":1}"#,
    )
    .unwrap();
    assert_eq!(
        strict_error(&decoded.problems),
        "strict decoding error: unknown field \"spec.containers[0].imagee\", unknown field \"spec.foo\", unknown field \"spec2\""
    );
    assert_eq!(
        decoded.value,
        json!({"kind":"Pod","spec":{"containers":[{"name":"a"}]},"metadata":{"labels":{"x":"y"}}})
    );
}

#[test]
fn zeros_are_left_out_as_go_does() {
    let decoded = decode(
        r#"{"metadata":{"name":"","labels":{},"finalizers":[],"managedFields":[]},
        "spec":{"hostNetwork":false,"subdomain":"","volumes":[],"nodeSelector":{},"priority":0,"securityContext":{},
        "containers":[{"name":"","env":[{"name":"a","value":""}],"args":[""],"tty":false,"resources":{"limits":{}},"ports":[]}]}}"#,
    );
    assert_eq!(
        decoded.unwrap().value,
        json!({
            "metadata": {"managedFields": []},
            "spec": {
                "priority": 0,
                "securityContext": {},
                "containers": [{"name": "", "env": [{"name": "a"}], "args": [""], "resources": {}}],
            },
        })
    );
    let role = Schema::get().of("rbac.authorization.k8s.io", "v1", "Role");
    let decoded = decode_slice(br#"{"rules":[]}"#, role.unwrap());
    assert_eq!(decoded.unwrap().value, json!({"rules": []}));
}

#[test]
fn duplicates_are_named_and_the_last_counts() {
    let decoded = decode(
        r#"{"spec":{"nodeName":"a","nodeName":"b"},"metadata":{"labels":{"x":"1","x":"2"}}}"#,
    )
    .unwrap();
    assert_eq!(
        strict_error(&decoded.problems),
        "strict decoding error: duplicate field \"spec.nodeName\", duplicate field \"metadata.labels.x\""
    );
    assert_eq!(decoded.value["spec"]["nodeName"], "b");
    assert_eq!(decoded.value["metadata"]["labels"]["x"], "2");
}

#[test]
fn wrong_types_read_as_gos() {
    for (text, error) in [
        (
            r#"{"spec":{"containers":[{"image":true}]}}"#,
            "json: cannot unmarshal bool into Go struct field Container.spec.containers.image of type string",
        ),
        (
            r#"{"spec":{"containers":"x"}}"#,
            "json: cannot unmarshal string into Go struct field PodSpec.spec.containers of type []v1.Container",
        ),
        (
            r#"{"spec":{"restartPolicy":1}}"#,
            "json: cannot unmarshal number into Go struct field PodSpec.spec.restartPolicy of type v1.RestartPolicy",
        ),
        (
            r#"{"metadata":{"labels":{"a":1}}}"#,
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            r#"{"spec":{"terminationGracePeriodSeconds":1.5}}"#,
            "json: cannot unmarshal number 1.5 into Go struct field PodSpec.spec.terminationGracePeriodSeconds of type int64",
        ),
        (
            r#"{"spec":{"priority":3000000000}}"#,
            "json: cannot unmarshal number 3000000000 into Go struct field PodSpec.spec.priority of type int32",
        ),
        (
            r#"{"spec":[]}"#,
            "json: cannot unmarshal array into Go struct field Pod.spec of type v1.PodSpec",
        ),
        (
            r#"[]"#,
            "json: cannot unmarshal array into Go value of type v1.Pod",
        ),
        (
            r#"{"spec":{"containers":[{"resources":{"limits":{"cpu":"lots"}}}]}}"#,
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (
            r#"{"spec":{"containers":[{"livenessProbe":{"httpGet":{"port":1.5}}}]}}"#,
            "json: cannot unmarshal number 1.5 into Go struct field HTTPGetAction.spec.containers.livenessProbe.ProbeHandler.httpGet.port of type int32",
        ),
        (
            r#"{"spec":{"volumes":[{"configMap":{"items":{}}}]}}"#,
            "json: cannot unmarshal object into Go struct field ConfigMapVolumeSource.spec.volumes.VolumeSource.configMap.items of type []v1.KeyToPath",
        ),
        (
            r#"{"metadata":{"deletionTimestamp":1}}"#,
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.deletionTimestamp of type string",
        ),
        (
            r#"{"metadata":{"deletionTimestamp":"2026-13-01T00:00:00Z"}}"#,
            "parsing time \"2026-13-01T00:00:00Z\": month out of range",
        ),
        (
            r#"{"metadata":{"deletionTimestamp":"soon"}}"#,
            "parsing time \"soon\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"soon\" as \"2006\"",
        ),
    ] {
        assert_eq!(decode(text).unwrap_err().to_string(), error, "{text}");
    }
    assert!(matches!(decode("{"), Err(TypeError::Syntax(_))));
    assert!(matches!(decode("{} x"), Err(TypeError::Syntax(_))));
    assert_eq!(decode("null").unwrap().value, json!({}));
    assert_eq!(
        decode("{").unwrap_err().to_string(),
        "unexpected end of JSON input"
    );
    assert_eq!(
        decode("{} x").unwrap_err().to_string(),
        "invalid character 'x' after top-level value"
    );
}

#[test]
fn values_become_canonical() {
    let decoded = decode(
        r#"{"spec":{"containers":[{"resources":{"limits":{"cpu":2,"memory":"1024Mi"}},"args":null,
            "livenessProbe":{"httpGet":{"port":8080}},"ports":[null]}]},
            "metadata":{"creationTimestamp":"2026-01-02T04:04:05.6+01:00","deletionTimestamp":null,"annotations":{"a":null}}}"#,
    )
    .unwrap();
    assert_eq!(
        decoded.value,
        json!({"spec":{"containers":[{"resources":{"limits":{"cpu":"2","memory":"1Gi"}},
            "livenessProbe":{"httpGet":{"port":8080}},"ports":[{}]}]},
            "metadata":{"creationTimestamp":"2026-01-02T03:04:05Z","annotations":{"a":""}}})
    );
}

#[test]
fn values_and_texts_decode_alike() {
    let text =
        r#"{"spec":{"bogus":1,"containers":[{"name":"a","stdin":true}],"nodeSelector":{"a":"b"}}}"#;
    let value: Value = serde_json::from_str(text).unwrap();
    assert_eq!(decode_value(&value, pod()).unwrap(), decode(text).unwrap());
}

#[test]
fn secrets_want_base64() {
    let secret = Schema::get().of("", "v1", "Secret").unwrap();
    assert_eq!(
        decode_slice(br#"{"data":{"a":"eA=="}}"#, secret)
            .unwrap()
            .value["data"]["a"],
        "eA=="
    );
    let error = decode_slice(br#"{"data":{"a":"ab$d"}}"#, secret).unwrap_err();
    assert_eq!(error.to_string(), "illegal base64 data at input byte 2");
}
