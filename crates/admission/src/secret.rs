//! Secrets.

use api::field::{Error, ErrorList, Path};
use api::names;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::configmap::{MAX_BYTES, decoded_len, frozen, key_errors};
use crate::view::{self, At, get, text};
use crate::{Rules, Subresource, generic, meta};

pub(crate) const RULES: Rules = Rules {
    namespaced: Some(true),
    default,
    prepare_create: generic::nothing,
    prepare_update,
    validate_create: validate,
    validate_update,
};

fn default(object: &mut Value) {
    view::set_if_zero(object, "type", "Opaque");
    merge_string_data(object);
}

/// `stringData` is write-only: its values go into `data`, over what is there.
fn merge_string_data(object: &mut Value) {
    let Some(plain) = object
        .as_object_mut()
        .and_then(|map| map.remove("stringData"))
    else {
        return;
    };
    let Value::Object(plain) = plain else { return };
    if plain.is_empty() {
        return;
    }
    let data = view::object(view::entry(object, "data"));
    for (key, value) in plain {
        data.insert(key, STANDARD.encode(text(&value)).into());
    }
}

/// A type once given need not be repeated.
fn prepare_update(_: Subresource, new: &mut Value, old: &Value) {
    if text(get(new, "type")).is_empty() {
        view::restore(new, old, "type");
    }
}

fn validate(object: &Value) -> ErrorList {
    let mut errors = meta::validate(object, true, names::dns1123_subdomain);
    let data = At::field(object, "data");
    let mut size = 0;
    for (key, value) in data.entries() {
        errors.extend(key_errors(&value.path, key));
        size += decoded_len(value.text());
    }
    if size > MAX_BYTES {
        errors.push(Error::too_long(&data.path, MAX_BYTES));
    }
    errors.extend(validate_type(object, &data));
    errors
}

fn validate_type(object: &Value, data: &At<'_>) -> ErrorList {
    const ACCOUNT: &str = "kubernetes.io/service-account.name";
    let has = |key: &str| data.get(key).given();
    let missing = |key: &str| Error::required(&data.path.key(key), "");
    match text(get(object, "type")) {
        "kubernetes.io/service-account-token"
            if meta::annotation(object, ACCOUNT).unwrap_or("").is_empty() =>
        {
            vec![Error::required(
                &Path::new("metadata.annotations").key(ACCOUNT),
                "",
            )]
        }
        "kubernetes.io/dockercfg" => json_object(data, ".dockercfg"),
        "kubernetes.io/dockerconfigjson" => json_object(data, ".dockerconfigjson"),
        "kubernetes.io/basic-auth" if !has("username") && !has("password") => {
            vec![missing("username"), missing("password")]
        }
        "kubernetes.io/ssh-auth" if data.get("ssh-privatekey").text().is_empty() => {
            vec![missing("ssh-privatekey")]
        }
        "kubernetes.io/tls" => ["tls.crt", "tls.key"]
            .into_iter()
            .filter(|key| !has(key))
            .map(missing)
            .collect(),
        _ => ErrorList::new(),
    }
}

fn json_object(data: &At<'_>, key: &str) -> ErrorList {
    let path = data.path.key(key);
    let value = data.get(key);
    if !value.given() {
        return vec![Error::required(&path, "")];
    }
    let bytes = STANDARD.decode(value.text()).unwrap_or_default();
    match serde_json::from_slice::<serde_json::Map<String, Value>>(&bytes) {
        Ok(_) => ErrorList::new(),
        Err(reason) => vec![Error::invalid(
            &path,
            "<secret contents redacted>",
            json_reason(&bytes, &reason),
        )],
    }
}

/// Go's words for the two mistakes people make.
fn json_reason(bytes: &[u8], reason: &serde_json::Error) -> String {
    if reason.is_eof() {
        return "unexpected end of JSON input".to_owned();
    }
    match serde_json::from_slice::<Value>(bytes) {
        Ok(Value::Array(_)) => {
            "json: cannot unmarshal array into Go value of type map[string]interface {}".to_owned()
        }
        Ok(Value::String(_)) => {
            "json: cannot unmarshal string into Go value of type map[string]interface {}".to_owned()
        }
        Ok(Value::Number(_)) => {
            "json: cannot unmarshal number into Go value of type map[string]interface {}".to_owned()
        }
        Ok(Value::Bool(_)) => {
            "json: cannot unmarshal bool into Go value of type map[string]interface {}".to_owned()
        }
        _ => match bytes.get(reason.column().saturating_sub(1)) {
            Some(byte) => format!(
                "invalid character '{}' looking for beginning of value",
                char::from(*byte)
            ),
            None => "unexpected end of JSON input".to_owned(),
        },
    }
}

fn validate_update(_: Subresource, new: &Value, old: &Value) -> ErrorList {
    let mut errors = meta::validate_update(new, old);
    errors.extend(meta::immutable(&At::field(new, "type"), get(old, "type")));
    errors.extend(frozen(new, old, &["data"]));
    errors.extend(validate(new));
    errors
}
