//! Reading a template.

use serde_json::Value;

use super::{Filter, Node, Operand, Operator, Step, Template};

/// A template that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ParseError {
    UnclosedAction,
    UnclosedArray,
    UnclosedFilter,
    UnclosedQuote,
    NothingToEnd,
    Identifier(String),
    Character(char),
    Index(String),
}

impl std::fmt::Display for ParseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ParseError::UnclosedAction => write!(f, "unclosed action"),
            ParseError::UnclosedArray => write!(f, "unterminated array"),
            ParseError::UnclosedFilter => write!(f, "unterminated filter"),
            ParseError::UnclosedQuote => write!(f, "unterminated quoted string"),
            ParseError::NothingToEnd => write!(f, "not in range, nothing to end"),
            ParseError::Identifier(word) => write!(f, "unrecognized identifier {word}"),
            ParseError::Character(character) => write!(
                f,
                "unrecognized character in action: U+{:04X} '{character}'",
                u32::from(*character)
            ),
            ParseError::Index(text) => write!(f, "invalid array index {text}"),
        }
    }
}

impl std::error::Error for ParseError {}

pub(super) fn template(text: &str) -> Result<Template, ParseError> {
    let mut reader = Reader { rest: text };
    // Open ranges, outermost first; the last list collects the nodes in hand.
    let mut open: Vec<(Vec<Step>, Vec<Node>)> = vec![(Vec::new(), Vec::new())];
    loop {
        let (literal, has_action) = reader.text();
        let nodes = &mut open.last_mut().ok_or(ParseError::NothingToEnd)?.1;
        if !literal.is_empty() {
            nodes.push(Node::Text(literal.to_owned()));
        }
        if !has_action {
            break;
        }
        reader.action(&mut open)?;
    }
    while open.len() > 1 {
        close_range(&mut open)?;
    }
    Ok(Template {
        nodes: open.pop().map(|(_, nodes)| nodes).unwrap_or_default(),
    })
}

fn close_range(open: &mut Vec<(Vec<Step>, Vec<Node>)>) -> Result<(), ParseError> {
    if open.len() < 2 {
        return Err(ParseError::NothingToEnd);
    }
    let range = open.pop().map(|(path, body)| Node::Range(path, body));
    if let Some((_, nodes)) = open.last_mut() {
        nodes.extend(range);
    }
    Ok(())
}

struct Reader<'t> {
    rest: &'t str,
}

impl<'t> Reader<'t> {
    /// Text up to the next action, and whether there is one; its brace is taken.
    fn text(&mut self) -> (&'t str, bool) {
        match self.rest.split_once('{') {
            Some((text, rest)) => {
                self.rest = rest;
                (text, true)
            }
            None => (std::mem::take(&mut self.rest), false),
        }
    }

    fn action(&mut self, open: &mut Vec<(Vec<Step>, Vec<Node>)>) -> Result<(), ParseError> {
        loop {
            self.blanks();
            let Some(next) = self.rest.chars().next() else {
                return Err(ParseError::UnclosedAction);
            };
            let node = match next {
                '}' => {
                    self.rest = &self.rest[1..];
                    return Ok(());
                }
                '\'' | '"' => Node::Text(self.quoted()?),
                '.' | '[' | '$' | '@' => Node::Path(self.path()?),
                '-' | '+' | '0'..='9' => Node::Text(self.number()?.to_string()),
                c if c.is_alphabetic() => match self.word() {
                    "range" => {
                        self.blanks();
                        let path = self.path()?;
                        open.push((path, Vec::new()));
                        continue;
                    }
                    "end" => {
                        close_range(open)?;
                        continue;
                    }
                    word @ ("true" | "false") => Node::Text(word.to_owned()),
                    word => return Err(ParseError::Identifier(word.to_owned())),
                },
                other => return Err(ParseError::Character(other)),
            };
            if let Some((_, nodes)) = open.last_mut() {
                nodes.push(node);
            }
        }
    }

    fn blanks(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn word(&mut self) -> &'t str {
        let end = self
            .rest
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn path(&mut self) -> Result<Vec<Step>, ParseError> {
        let mut steps = Vec::new();
        if self.rest.starts_with(['$', '@']) {
            self.rest = &self.rest[1..];
        }
        loop {
            if let Some(rest) = self.rest.strip_prefix("..") {
                self.rest = rest;
                let name = self.name();
                steps.push(Step::Recursive((name != "*").then_some(name)));
            } else if let Some(rest) = self.rest.strip_prefix('.') {
                self.rest = rest;
                match self.name() {
                    name if name == "*" => steps.push(Step::Wildcard),
                    name if name.is_empty() => {}
                    name => steps.push(Step::Names(vec![name])),
                }
            } else if let Some(rest) = self.rest.strip_prefix('[') {
                self.rest = rest;
                steps.push(self.bracket()?);
            } else {
                return Ok(steps);
            }
        }
    }

    /// A name up to a special character; a backslash takes the next one literally.
    fn name(&mut self) -> String {
        let mut name = String::new();
        let mut characters = self.rest.char_indices();
        while let Some((place, character)) = characters.next() {
            match character {
                '\\' => name.extend(characters.next().map(|(_, taken)| taken)),
                '.' | '[' | ']' | '{' | '}' | '(' | ')' | '\'' | '"' | '=' | '!' | '<' | '>'
                | '&' | '|' | '~' | ',' => {
                    self.rest = &self.rest[place..];
                    return name;
                }
                c if c.is_whitespace() => {
                    self.rest = &self.rest[place..];
                    return name;
                }
                c => name.push(c),
            }
        }
        self.rest = "";
        name
    }

    fn bracket(&mut self) -> Result<Step, ParseError> {
        if let Some(rest) = self.rest.strip_prefix("?(") {
            self.rest = rest;
            return self.filter();
        }
        let end = closing_bracket(self.rest).ok_or(ParseError::UnclosedArray)?;
        let inner = self.rest[..end].trim();
        self.rest = &self.rest[end + 1..];
        if inner == "*" {
            return Ok(Step::Wildcard);
        }
        if inner.starts_with('\'') {
            return inner
                .split(',')
                .map(|name| bracket_name(name.trim()))
                .collect::<Result<_, _>>()
                .map(Step::Names);
        }
        let number = |text: &str| {
            text.trim()
                .parse::<i64>()
                .map_err(|_| ParseError::Index(inner.to_owned()))
        };
        if inner.contains(':') {
            let mut parts = inner.split(':').map(|part| {
                if part.trim().is_empty() {
                    Ok(None)
                } else {
                    number(part).map(Some)
                }
            });
            let mut part = || parts.next().unwrap_or(Ok(None));
            return Ok(Step::Slice {
                start: part()?,
                end: part()?,
                step: part()?,
            });
        }
        inner
            .split(',')
            .map(number)
            .collect::<Result<_, _>>()
            .map(Step::Indices)
    }

    fn filter(&mut self) -> Result<Step, ParseError> {
        let left = self.operand()?;
        self.blanks();
        let test = match self.operator() {
            Some(operator) => Some((operator, self.operand()?)),
            None => None,
        };
        self.blanks();
        match self
            .rest
            .strip_prefix(')')
            .map(|rest| rest.trim_start().strip_prefix(']'))
        {
            Some(Some(rest)) => {
                self.rest = rest;
                Ok(Step::Filter(Box::new(Filter { left, test })))
            }
            Some(None) => Err(ParseError::UnclosedArray),
            None => Err(self
                .rest
                .chars()
                .next()
                .map_or(ParseError::UnclosedFilter, ParseError::Character)),
        }
    }

    fn operator(&mut self) -> Option<Operator> {
        let table = [
            ("==", Operator::Equal),
            ("!=", Operator::NotEqual),
            ("<=", Operator::LessOrEqual),
            (">=", Operator::GreaterOrEqual),
            ("<", Operator::Less),
            (">", Operator::Greater),
        ];
        let (sign, operator) = table
            .into_iter()
            .find(|(sign, _)| self.rest.starts_with(sign))?;
        self.rest = &self.rest[sign.len()..];
        Some(operator)
    }

    fn operand(&mut self) -> Result<Operand, ParseError> {
        self.blanks();
        match self.rest.chars().next() {
            None => Err(ParseError::UnclosedFilter),
            Some('@' | '$' | '.') => Ok(Operand::Path(self.path()?)),
            Some('\'' | '"') => Ok(Operand::Literal(Value::String(self.quoted()?))),
            Some('-' | '+' | '0'..='9') => Ok(Operand::Literal(self.number()?)),
            Some(character) => match self.word() {
                "true" => Ok(Operand::Literal(Value::Bool(true))),
                "false" => Ok(Operand::Literal(Value::Bool(false))),
                "" => Err(ParseError::Character(character)),
                word => Err(ParseError::Identifier(word.to_owned())),
            },
        }
    }

    fn number(&mut self) -> Result<Value, ParseError> {
        let end = self
            .rest
            .find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '-' | '+'))
            .unwrap_or(self.rest.len());
        let (text, rest) = self.rest.split_at(end);
        self.rest = rest;
        serde_json::from_str(text.trim_start_matches('+'))
            .map_err(|_| ParseError::Index(text.to_owned()))
    }

    /// Text in quotes, with Go's escapes.
    fn quoted(&mut self) -> Result<String, ParseError> {
        let mut characters = self.rest.char_indices();
        let Some((_, quote)) = characters.next() else {
            return Err(ParseError::UnclosedQuote);
        };
        let mut text = String::new();
        while let Some((place, character)) = characters.next() {
            match character {
                '\\' => match characters.next().ok_or(ParseError::UnclosedQuote)?.1 {
                    'n' => text.push('\n'),
                    't' => text.push('\t'),
                    'r' => text.push('\r'),
                    other => text.push(other),
                },
                c if c == quote => {
                    self.rest = &self.rest[place + c.len_utf8()..];
                    return Ok(text);
                }
                c => text.push(c),
            }
        }
        Err(ParseError::UnclosedQuote)
    }
}

/// Where the bracket just opened closes, quotes skipped.
fn closing_bracket(text: &str) -> Option<usize> {
    let mut in_quotes = false;
    text.char_indices()
        .find_map(|(place, character)| match character {
            '\'' => {
                in_quotes = !in_quotes;
                None
            }
            ']' if !in_quotes => Some(place),
            _ => None,
        })
}

fn bracket_name(quoted: &str) -> Result<String, ParseError> {
    let inner = quoted
        .strip_prefix('\'')
        .and_then(|text| text.strip_suffix('\''));
    inner
        .map(|name| name.replace('\\', ""))
        .ok_or_else(|| ParseError::Index(quoted.to_owned()))
}
