//! `$(NAME)` expansion in env values, commands and arguments (spec `§9.1`).

/// Replaces `$(NAME)` by what `known` says. Unknown names and unfinished references stay as they are, `$$` becomes `$`, and
/// nothing that came out of an expansion is expanded again.
pub(crate) fn expand(text: &str, known: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        rest = match after.as_bytes().first() {
            Some(b'$') => {
                out.push('$');
                &after[1..]
            }
            Some(b'(') => match after.find(')') {
                Some(end) => {
                    let name = &after[1..end];
                    match known(name) {
                        Some(value) => out.push_str(&value),
                        None => {
                            out.push_str("$(");
                            out.push_str(name);
                            out.push(')');
                        }
                    }
                    &after[end + 1..]
                }
                None => {
                    out.push_str("$(");
                    &after[1..]
                }
            },
            _ => {
                out.push('$');
                after
            }
        };
    }
    out.push_str(rest);
    out
}

/// Like [`expand`], but names that are unknown or empty are an error: they are returned (spec `§10.5`, subPathExpr).
pub(crate) fn expand_strictly(
    text: &str,
    known: impl Fn(&str) -> Option<String>,
) -> Result<String, Vec<String>> {
    let missing = std::cell::RefCell::new(Vec::new());
    let out = expand(text, |name| {
        let value = known(name).filter(|v| !v.is_empty());
        if value.is_none() {
            missing.borrow_mut().push(name.to_owned());
        }
        value
    });
    let missing = missing.into_inner();
    if missing.is_empty() {
        Ok(out)
    } else {
        Err(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(name: &str) -> Option<String> {
        match name {
            "A" => Some("1".into()),
            "B" => Some("$(A)".into()),
            "E" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn references_are_replaced_as_upstream_does() {
        let rows = [
            ("plain", "plain"),
            ("$(A)", "1"),
            ("x$(A)y$(A)", "x1y1"),
            ("$(NO)", "$(NO)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$A", "$A"),
            ("$(A", "$(A"),
            ("$", "$"),
            ("$(B)", "$(A)"),
            ("ä$(A)ü", "ä1ü"),
            ("$()", "$()"),
        ];
        for (text, want) in rows {
            assert_eq!(expand(text, known), want, "{text}");
        }
    }

    #[test]
    fn strict_expansion_names_what_is_missing() {
        assert_eq!(expand_strictly("d/$(A)", known), Ok("d/1".into()));
        assert_eq!(
            expand_strictly("$(NO)/$(E)/$(A)", known),
            Err(vec!["NO".into(), "E".into()])
        );
    }
}
