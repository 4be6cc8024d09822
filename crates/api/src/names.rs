//! The syntax of names, keys and values, with upstream's texts. A check returns everything wrong with a value; nothing means it is right.

/// Longest DNS label.
pub const LABEL_MAX: usize = 63;
/// Longest DNS subdomain.
pub const SUBDOMAIN_MAX: usize = 253;

const LABEL_RE: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const KEY_RE: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

/// What is wrong with a value, one text each.
pub type Wrong = Vec<String>;

/// `must be no more than N characters`
pub fn max_len(length: usize) -> String {
    format!("must be no more than {length} characters")
}

/// `must be no more than N bytes`, as newer checks say.
fn max_bytes(length: usize) -> String {
    format!("must be no more than {length} bytes")
}

/// `must be between N and M, inclusive`
pub fn inclusive_range(low: i64, high: i64) -> String {
    format!("must be between {low} and {high}, inclusive")
}

/// A rule's message with examples and the pattern.
pub fn regex_error(message: &str, pattern: &str, examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{message} (regex used for validation is '{pattern}')");
    }
    let examples: Vec<String> = examples.iter().map(|e| format!("'{e}', ")).collect();
    format!(
        "{message} (e.g. {}regex used for validation is '{pattern}')",
        examples.join(" or ")
    )
}

fn lower_alnum(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

/// Begins and ends with `edge`, and has only `inner` between.
fn bounded(text: &str, edge: impl Fn(u8) -> bool, inner: impl Fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => edge(*first) && edge(*last) && bytes.iter().all(|b| inner(*b)),
        _ => false,
    }
}

fn is_label(text: &str) -> bool {
    bounded(text, lower_alnum, |b| lower_alnum(b) || b == b'-')
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(is_label)
}

fn subdomain_re() -> String {
    format!("{LABEL_RE}(\\.{LABEL_RE})*")
}

fn subdomain_syntax(text: &str) -> Option<String> {
    let message = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end \
                   with an alphanumeric character";
    (!is_subdomain(text)).then(|| regex_error(message, &subdomain_re(), &["example.com"]))
}

/// A DNS label (RFC 1123): container names, namespaces.
pub fn dns1123_label(text: &str) -> Wrong {
    let mut wrong = Wrong::new();
    if text.len() > LABEL_MAX {
        wrong.push(max_len(LABEL_MAX));
    }
    if !is_label(text) {
        let message = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with \
                       an alphanumeric character";
        let dots_only = is_subdomain(text);
        wrong.push(if dots_only {
            "must not contain dots".to_owned()
        } else {
            regex_error(message, LABEL_RE, &["my-name", "123-abc"])
        });
    }
    wrong
}

/// A DNS subdomain (RFC 1123): names of most objects.
pub fn dns1123_subdomain(text: &str) -> Wrong {
    let mut wrong = Wrong::new();
    if text.len() > SUBDOMAIN_MAX {
        wrong.push(max_len(SUBDOMAIN_MAX));
    }
    wrong.extend(subdomain_syntax(text));
    wrong
}

/// A subdomain whose labels may contain and begin with `_`, such as a DNS search path.
pub fn dns1123_subdomain_with_underscore(text: &str) -> Wrong {
    let mut wrong = Wrong::new();
    if text.len() > SUBDOMAIN_MAX {
        wrong.push(max_len(SUBDOMAIN_MAX));
    }
    let label = |l: &str| {
        bounded(l.strip_prefix('_').unwrap_or(l), lower_alnum, |b| {
            lower_alnum(b) || b == b'-' || b == b'_'
        })
    };
    if !text.split('.').all(label) {
        let message = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start \
                       and end with an alphanumeric character";
        let re = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?";
        wrong.push(regex_error(
            message,
            &format!("{re}(\\.{re})*"),
            &["example.com"],
        ));
    }
    wrong
}

/// A wildcard subdomain, such as an Ingress host `*.example.com`.
pub fn wildcard_dns1123_subdomain(text: &str) -> Wrong {
    let mut wrong = Wrong::new();
    if text.len() > SUBDOMAIN_MAX {
        wrong.push(max_len(SUBDOMAIN_MAX));
    }
    if !text.strip_prefix("*.").is_some_and(is_subdomain) {
        let message = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower \
                       case alphanumeric characters, '-' or '.' and end with an alphanumeric character";
        wrong.push(regex_error(
            message,
            &format!("\\*\\.{}", subdomain_re()),
            &["*.example.com"],
        ));
    }
    wrong
}

/// A DNS label that begins with a letter (RFC 1035): Service names.
pub fn dns1035_label(text: &str) -> Wrong {
    let mut wrong = Wrong::new();
    if text.len() > LABEL_MAX {
        wrong.push(max_len(LABEL_MAX));
    }
    if !(is_label(text) && text.as_bytes()[0].is_ascii_lowercase()) {
        let message = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, \
                       and end with an alphanumeric character";
        wrong.push(regex_error(
            message,
            "[a-z]([-a-z0-9]*[a-z0-9])?",
            &["my-name", "abc-123"],
        ));
    }
    wrong
}

fn key_syntax(text: &str) -> bool {
    bounded(
        text,
        |b| b.is_ascii_alphanumeric(),
        |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'),
    )
}

/// A label or annotation key, a resource name, a finalizer: `[prefix/]name`.
pub fn qualified_name(text: &str) -> Wrong {
    let message = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
    let syntax = || regex_error(message, KEY_RE, &["MyName", "my.name", "123-abc"]);
    let mut wrong = Wrong::new();
    let name = match text.split('/').collect::<Vec<_>>()[..] {
        [name] => name,
        [prefix, name] => {
            wrong.extend(
                key_prefix(prefix)
                    .into_iter()
                    .map(|w| format!("prefix part {w}")),
            );
            name
        }
        _ => {
            let tail = "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
            return vec![format!("a valid label key {} {tail}", syntax())];
        }
    };
    if name.is_empty() {
        wrong.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_MAX {
        wrong.push(format!("name part {}", max_bytes(LABEL_MAX)));
    }
    if !key_syntax(name) {
        wrong.push(format!("name part {}", syntax()));
    }
    wrong
}

fn key_prefix(prefix: &str) -> Wrong {
    if prefix.is_empty() {
        return vec!["must be non-empty".to_owned()];
    }
    let mut wrong = Wrong::new();
    if prefix.len() > SUBDOMAIN_MAX {
        wrong.push(max_bytes(SUBDOMAIN_MAX));
    }
    wrong.extend(subdomain_syntax(prefix));
    wrong
}

/// The value of a label.
pub fn label_value(text: &str) -> Wrong {
    let mut wrong = Wrong::new();
    if text.len() > LABEL_MAX {
        wrong.push(max_bytes(LABEL_MAX));
    }
    if !text.is_empty() && !key_syntax(text) {
        let message = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and \
                       end with an alphanumeric character";
        wrong.push(regex_error(
            message,
            &format!("({KEY_RE})?"),
            &["MyValue", "my_value", "12345"],
        ));
    }
    wrong
}

/// A port number.
pub fn port_number(port: i64) -> Wrong {
    if (1..=65535).contains(&port) {
        Wrong::new()
    } else {
        vec![inclusive_range(1, 65535)]
    }
}

/// A user or group id.
pub fn user_id(id: i64) -> Wrong {
    if (0..=i64::from(i32::MAX)).contains(&id) {
        Wrong::new()
    } else {
        vec![inclusive_range(0, i32::MAX.into())]
    }
}

/// The name of a container port (IANA service name, RFC 6335, lower case).
pub fn port_name(text: &str) -> Wrong {
    let mut wrong = Wrong::new();
    let mut check = |bad: bool, message: &str| {
        if bad {
            wrong.push(message.to_owned());
        }
    };
    check(text.len() > 15, &max_len(15));
    let charset = !text.is_empty() && text.bytes().all(|b| lower_alnum(b) || b == b'-');
    check(
        !charset,
        "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
    );
    check(
        !text.bytes().any(|b| b.is_ascii_lowercase()),
        "must contain at least one letter (a-z)",
    );
    check(text.contains("--"), "must not contain consecutive hyphens");
    check(
        text.starts_with('-') || text.ends_with('-'),
        "must not begin or end with a hyphen",
    );
    wrong
}

/// A percentage such as `25%`.
pub fn percent(text: &str) -> Wrong {
    let digits = text.strip_suffix('%').unwrap_or("");
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        return Wrong::new();
    }
    let message = "a valid percent string must be a numeric string followed by an ending '%'";
    vec![regex_error(message, "[0-9]+%", &["1%", "93%"])]
}

/// The name of an HTTP header.
pub fn http_header_name(text: &str) -> Wrong {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Wrong::new();
    }
    let message = "a valid HTTP header must consist of alphanumeric characters or '-'";
    vec![regex_error(message, "[-A-Za-z0-9]+", &["X-Header-Name"])]
}

/// The name of an environment variable, by the rule of 1.34 and later.
pub fn env_var_name(text: &str) -> Wrong {
    if text.is_empty() {
        return vec!["environment variable name must be non-empty".to_owned()];
    }
    if text
        .bytes()
        .all(|b| (b' '..=b'~').contains(&b) && b != b'=')
    {
        return Wrong::new();
    }
    vec!["a valid environment variable name must consist only of printable ASCII characters other than '='".to_owned()]
}

/// The name of an environment variable by the older rule, by which `envFrom` skipped keys.
pub fn strict_env_var_name(text: &str) -> Wrong {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let mut wrong = Wrong::new();
    if text.is_empty() || text.as_bytes()[0].is_ascii_digit() || !text.bytes().all(inner) {
        let message = "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', and must not \
                       start with a digit";
        wrong.push(regex_error(
            message,
            "[-._a-zA-Z][-._a-zA-Z0-9]*",
            &["my.env-name", "MY_ENV.NAME", "MyEnvName1"],
        ));
    }
    wrong.extend(parent_dir(text));
    wrong
}

/// The key of a ConfigMap or Secret.
pub fn config_map_key(text: &str) -> Wrong {
    let mut wrong = Wrong::new();
    if text.len() > SUBDOMAIN_MAX {
        wrong.push(max_len(SUBDOMAIN_MAX));
    }
    if text.is_empty()
        || !text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    {
        let message = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
        wrong.push(regex_error(
            message,
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    wrong.extend(parent_dir(text));
    wrong
}

fn parent_dir(text: &str) -> Option<String> {
    match text {
        "." => Some("must not be '.'".to_owned()),
        ".." => Some("must not be '..'".to_owned()),
        _ if text.starts_with("..") => Some("must not start with '..'".to_owned()),
        _ => None,
    }
}

/// A name that only has to fit into a URL, such as those of RBAC objects.
pub fn path_segment(text: &str) -> Wrong {
    if text == "." || text == ".." {
        return vec![format!("may not be '{text}'")];
    }
    ["/", "%"]
        .iter()
        .filter(|bad| text.contains(**bad))
        .map(|bad| format!("may not contain '{bad}'"))
        .collect()
}

/// The characters of generated names: no vowels, no digits that look like letters.
pub const SUFFIX_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// How many of them complete a `generateName`.
pub const SUFFIX_LENGTH: usize = 5;

/// Completes `generateName`, cut so that the name stays a label, with a suffix drawn by `random(27)`, which returns a number below its
/// argument.
pub fn generate(prefix: &str, mut random: impl FnMut(usize) -> usize) -> String {
    let mut end = prefix.len().min(LABEL_MAX - SUFFIX_LENGTH);
    while !prefix.is_char_boundary(end) {
        end -= 1;
    }
    let suffix = (0..SUFFIX_LENGTH)
        .map(|_| SUFFIX_ALPHABET[random(SUFFIX_ALPHABET.len()) % SUFFIX_ALPHABET.len()] as char);
    prefix[..end].chars().chain(suffix).collect()
}

/// Spells a number in the alphabet of generated names, digit by digit, as upstream does with hashes of Pod templates.
pub fn safe_encode(text: &str) -> String {
    text.bytes()
        .map(|b| SUFFIX_ALPHABET[usize::from(b) % SUFFIX_ALPHABET.len()] as char)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn right(check: fn(&str) -> Wrong, texts: &[&str]) {
        for text in texts {
            assert_eq!(check(text), Wrong::new(), "{text:?}");
        }
    }

    fn wrong(check: fn(&str) -> Wrong, texts: &[&str]) {
        for text in texts {
            assert!(!check(text).is_empty(), "{text:?}");
        }
    }

    #[test]
    fn labels_and_subdomains() {
        let long = "a".repeat(63);
        right(dns1123_label, &["a", "ab1", "1-2", "0", &long]);
        wrong(dns1123_label, &["", "A", "-a", "a-", "a_b", "é"]);
        assert_eq!(dns1123_label("a.b"), ["must not contain dots"]);
        assert_eq!(
            dns1123_label(&"a".repeat(64)),
            ["must be no more than 63 characters"]
        );
        assert_eq!(
            dns1123_label("A"),
            [
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an \
              alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
            ]
        );
        right(dns1123_subdomain, &["a", "a.b-c.d1"]);
        wrong(dns1123_subdomain, &["", ".", "a..b", "a.", "A.b"]);
        assert_eq!(
            dns1123_subdomain("A_B"),
            [
                "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with \
              an alphanumeric character (e.g. 'example.com', regex used for validation is \
              '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
            ]
        );
        right(dns1123_subdomain_with_underscore, &["_a.b_c"]);
        wrong(dns1123_subdomain_with_underscore, &["__a", "a_", "_"]);
        right(dns1035_label, &["a", "a-1"]);
        wrong(dns1035_label, &["1a", "", "a-"]);
        right(wildcard_dns1123_subdomain, &["*.bar.com"]);
        wrong(
            wildcard_dns1123_subdomain,
            &["*", "*.*.bar.com", "f*.bar.com", "bar.com"],
        );
    }

    #[test]
    fn keys_and_values() {
        right(
            qualified_name,
            &[
                "simple",
                "a.b/c",
                "1234/5678",
                "example.com/Uppercase_Is_OK_123",
            ],
        );
        wrong(
            qualified_name,
            &[
                "a^b",
                "-a",
                "a/b/c",
                "Example.com/abc",
                "example_com/abc",
                "example.com/",
                "/simple",
            ],
        );
        assert_eq!(
            qualified_name(&"a".repeat(64)),
            ["name part must be no more than 63 bytes"]
        );
        assert_eq!(qualified_name("/a"), ["prefix part must be non-empty"]);
        right(label_value, &["", "a", "1234", "A.b_c"]);
        wrong(label_value, &["-a", "a.", "a b"]);
        right(config_map_key, &["a.b", ".hidden", "k"]);
        assert_eq!(config_map_key(".."), ["must not be '..'"]);
        assert_eq!(config_map_key("..a"), ["must not start with '..'"]);
    }

    #[test]
    fn ports_env_headers() {
        right(port_name, &["http", "a-1", "1a"]);
        assert_eq!(port_name("a--b"), ["must not contain consecutive hyphens"]);
        assert_eq!(
            port_name("-1"),
            [
                "must contain at least one letter (a-z)",
                "must not begin or end with a hyphen"
            ]
        );
        assert_eq!(
            port_name("abcdefghijklmnop"),
            ["must be no more than 15 characters"]
        );
        right(env_var_name, &["A", "a b", "1"]);
        wrong(env_var_name, &["", "A=B", "é", "a\n"]);
        right(strict_env_var_name, &["A_b.c-d"]);
        wrong(strict_env_var_name, &["1A", "", "a b"]);
        right(http_header_name, &["X-A"]);
        wrong(http_header_name, &["", "X_A"]);
        right(percent, &["25%"]);
        wrong(percent, &["%", "25", "-1%"]);
        assert_eq!(port_number(0), ["must be between 1 and 65535, inclusive"]);
        assert_eq!(path_segment(".."), ["may not be '..'"]);
        assert_eq!(path_segment("a/b"), ["may not contain '/'"]);
    }

    #[test]
    fn generated_names() {
        let mut next = 0;
        let name = generate("web-", |n| {
            next += 1;
            next % n
        });
        assert_eq!(name, "web-cdfgh");
        assert_eq!(generate(&"x".repeat(80), |_| 0).len(), 63);
        assert_eq!(
            generate(&"é".repeat(40), |_| 0),
            format!("{}bbbbb", "é".repeat(29))
        );
    }
}
