//! The grammar of `?labelSelector=`, with the texts upstream's parser complains in.

use super::label::{Operator, Requirement, SelectorError};
use crate::{field, gotext, names};
use std::collections::BTreeSet;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Identifier,
    Open,
    Close,
    Comma,
    Not,
    Operator(Operator),
    /// Special characters that form no operator.
    Bad,
    End,
}

#[derive(Debug, Clone)]
struct Token {
    kind: Kind,
    text: String,
}

fn keyword(text: &str) -> Option<Kind> {
    Some(match text {
        ")" => Kind::Close,
        "," => Kind::Comma,
        "!" => Kind::Not,
        "==" => Kind::Operator(Operator::DoubleEquals),
        "=" => Kind::Operator(Operator::Equals),
        ">" => Kind::Operator(Operator::GreaterThan),
        "in" => Kind::Operator(Operator::In),
        "<" => Kind::Operator(Operator::LessThan),
        "!=" => Kind::Operator(Operator::NotEquals),
        "notin" => Kind::Operator(Operator::NotIn),
        "(" => Kind::Open,
        _ => return None,
    })
}

fn special(c: char) -> bool {
    "=!(),><".contains(c)
}

fn blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn tokens(mut text: &str) -> Vec<Token> {
    let mut out = Vec::new();
    loop {
        text = text.trim_start_matches(blank);
        let Some(first) = text.chars().next() else {
            out.push(Token {
                kind: Kind::End,
                text: String::new(),
            });
            return out;
        };
        let end = if special(first) {
            symbol(text)
        } else {
            text.find(|c| special(c) || blank(c)).unwrap_or(text.len())
        };
        let (word, rest) = text.split_at(end);
        let kind = keyword(word).unwrap_or(if special(first) {
            Kind::Bad
        } else {
            Kind::Identifier
        });
        let printed = if kind == Kind::Bad {
            format!("error expected: keyword found '{word}'")
        } else {
            word.to_owned()
        };
        out.push(Token {
            kind,
            text: printed,
        });
        text = rest;
    }
}

/// The length of the longest operator at the start.
fn symbol(text: &str) -> usize {
    let run = text.find(|c| !special(c)).unwrap_or(text.len());
    (1..=run.min(2))
        .rev()
        .find(|n| keyword(&text[..*n]).is_some())
        .unwrap_or(run)
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

type Parsed<T> = Result<T, String>;

impl Parser {
    fn peek(&self) -> &Token {
        // The last token is `End` and is never stepped over.
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    /// In places where an operator cannot stand, `in` and `notin` are plain words.
    fn word(token: &Token) -> bool {
        matches!(
            token.kind,
            Kind::Identifier | Kind::Operator(Operator::In | Operator::NotIn)
        )
    }

    fn requirement(&mut self) -> Parsed<Requirement> {
        let mut token = self.next();
        let negated = token.kind == Kind::Not;
        if negated {
            token = self.next();
        }
        if !Self::word(&token) {
            return Err(format!("found '{}', expected: identifier", token.text));
        }
        let key = token.text;
        let wrong = names::qualified_name(&key);
        if !wrong.is_empty() {
            return Err(format!(
                "<nil>: Invalid value: {}: {}",
                gotext::quote(&key),
                wrong.join("; ")
            ));
        }
        let (operator, values) = if negated {
            (Operator::DoesNotExist, Vec::new())
        } else if matches!(self.peek().kind, Kind::End | Kind::Comma) {
            (Operator::Exists, Vec::new())
        } else {
            self.operation()?
        };
        Requirement::new(key, operator, values).map_err(|errors| field::aggregate(&errors))
    }

    fn operation(&mut self) -> Parsed<(Operator, Vec<String>)> {
        let token = self.next();
        let Kind::Operator(operator) = token.kind else {
            return Err(format!(
                "found '{}', expected: in, notin, =, ==, !=, gt, lt",
                token.text
            ));
        };
        let values = match operator {
            Operator::In | Operator::NotIn => self.set()?,
            _ => vec![self.value()?],
        };
        Ok((operator, values))
    }

    fn value(&mut self) -> Parsed<String> {
        if matches!(self.peek().kind, Kind::End | Kind::Comma) {
            return Ok(String::new());
        }
        let token = self.next();
        if Self::word(&token) {
            Ok(token.text)
        } else {
            Err(format!("found '{}', expected: identifier", token.text))
        }
    }

    fn set(&mut self) -> Parsed<Vec<String>> {
        let open = self.next();
        if open.kind != Kind::Open {
            return Err(format!("found '{}' expected: '('", open.text));
        }
        let first = self.peek().clone();
        if first.kind == Kind::Close {
            self.next();
            return Ok(vec![String::new()]);
        }
        if !Self::word(&first) && first.kind != Kind::Comma {
            return Err(format!(
                "found '{}', expected: ',', ')' or identifier",
                first.text
            ));
        }
        let values = self.members()?;
        self.next();
        Ok(values.into_iter().collect())
    }

    /// Up to, not including, the closing parenthesis. Missing members count as the empty value.
    fn members(&mut self) -> Parsed<BTreeSet<String>> {
        let mut values = BTreeSet::new();
        loop {
            let token = self.next();
            let after = self.peek().clone();
            if Self::word(&token) {
                values.insert(token.text);
                match after.kind {
                    Kind::Comma => {}
                    Kind::Close => return Ok(values),
                    _ => return Err(format!("found '{}', expected: ',' or ')'", after.text)),
                }
            } else if token.kind == Kind::Comma {
                if values.is_empty() || matches!(after.kind, Kind::Close | Kind::Comma) {
                    values.insert(String::new());
                }
                if after.kind == Kind::Close {
                    return Ok(values);
                }
            } else {
                return Err(format!(
                    "found '{}', expected: ',', or identifier",
                    token.text
                ));
            }
        }
    }
}

pub(super) fn parse(text: &str) -> Result<Vec<Requirement>, SelectorError> {
    let mut parser = Parser {
        tokens: tokens(text),
        at: 0,
    };
    let mut requirements = Vec::new();
    let starts = |token: &Token| Parser::word(token) || token.kind == Kind::Not;
    loop {
        let token = parser.peek().clone();
        if token.kind == Kind::End {
            return Ok(requirements);
        }
        if !starts(&token) {
            return Err(SelectorError::Syntax(format!(
                "found '{}', expected: !, identifier, or 'end of string'",
                token.text
            )));
        }
        requirements.push(parser.requirement().map_err(SelectorError::Requirement)?);
        let separator = parser.next();
        match separator.kind {
            Kind::End => return Ok(requirements),
            Kind::Comma if starts(parser.peek()) => {}
            Kind::Comma => {
                return Err(SelectorError::Syntax(format!(
                    "found '{}', expected: identifier after ','",
                    parser.peek().text
                )));
            }
            _ => {
                return Err(SelectorError::Syntax(format!(
                    "found '{}', expected: ',' or 'end of string'",
                    separator.text
                )));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::selector::Selector;

    #[test]
    fn prints_in_order_of_keys() {
        for (text, printed) in [
            (
                "x in (foo,,baz),y,z notin ()",
                "x in (,baz,foo),y,z notin ()",
            ),
            ("b=2, a = 1", "a=1,b=2"),
            ("in=notin", "in=notin"),
            ("a in (in,notin)", "a in (in,notin)"),
            ("a=", "a="),
            ("!a", "!a"),
            ("a in (,)", "a in ()"),
        ] {
            assert_eq!(
                Selector::parse(text).unwrap().to_string(),
                printed,
                "{text}"
            );
        }
    }

    #[test]
    fn complains_like_upstream() {
        for (text, error) in [
            (
                ",a",
                "found ',', expected: !, identifier, or 'end of string'",
            ),
            ("a=b,", "found '', expected: identifier after ','"),
            ("a=b c", "found 'c', expected: ',' or 'end of string'"),
            (
                "a in b",
                "unable to parse requirement: found 'b' expected: '('",
            ),
            (
                "a b",
                "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt",
            ),
            (
                "a in (b c)",
                "unable to parse requirement: found 'c', expected: ',' or ')'",
            ),
            (
                "a=(",
                "unable to parse requirement: found '(', expected: identifier",
            ),
            (
                "a>b",
                "unable to parse requirement: values[0]: Invalid value: \"b\": for 'Gt', 'Lt' operators, the value must be an integer",
            ),
            (
                "a=b$",
                "unable to parse requirement: values[0][a]: Invalid value: \"b$\": a valid label must be an empty string or consist of \
                 alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or \
                 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
            ),
            (
                "-a",
                "unable to parse requirement: <nil>: Invalid value: \"-a\": name part must consist of alphanumeric characters, '-', '_' \
                 or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used \
                 for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
            ),
        ] {
            assert_eq!(
                Selector::parse(text).unwrap_err().to_string(),
                error,
                "{text}"
            );
        }
    }
}
