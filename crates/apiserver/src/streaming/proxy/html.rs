//! HTML as it comes in: finds the attributes that hold URLs and leaves all else as it is. Where tags, comments and scripts begin and end
//! is as in upstream's tokenizer (golang.org/x/net/html); which attributes matter is its table (apimachinery, util/proxy/transport.go).
//!
//! No more than one value is kept back, and of that no more than [`LONGEST`].

use super::references;

/// A value with more bytes is passed on as it is; what is longer is data, not a link.
const LONGEST: usize = 64 << 10;
/// Names that matter are shorter.
const LONGEST_NAME: usize = 16;

/// Elements whose content is text up to their own end tag.
const RAW: [&[u8]; 9] = [
    b"iframe",
    b"noembed",
    b"noframes",
    b"noscript",
    SCRIPT,
    b"style",
    b"textarea",
    b"title",
    b"xmp",
];
const SCRIPT: &[u8] = b"script";

/// The attributes of an element that hold URLs.
fn attributes(element: &[u8]) -> &'static [&'static [u8]] {
    match element {
        b"a" | b"area" | b"base" | b"link" => &[b"href"],
        b"applet" => &[b"codebase"],
        b"audio" | b"embed" | b"script" | b"source" => &[b"src"],
        b"blockquote" | b"del" | b"ins" | b"q" => &[b"cite"],
        b"body" => &[b"background"],
        b"button" => &[b"formaction"],
        b"command" => &[b"icon"],
        b"form" => &[b"action"],
        b"frame" | b"iframe" => &[b"longdesc", b"src"],
        b"head" => &[b"profile"],
        b"html" => &[b"manifest"],
        b"img" => &[b"longdesc", b"src", b"usemap"],
        b"input" => &[b"src", b"usemap", b"formaction"],
        b"object" => &[b"classid", b"codebase", b"data", b"usemap"],
        b"video" => &[b"poster", b"src"],
        _ => &[],
    }
}

/// Where in the text the next byte is.
#[derive(Debug, Clone, Copy)]
enum State {
    Text,
    /// After `<`.
    Less,
    /// After `</`.
    Slash,
    /// After `<!`.
    Bang,
    /// After `<!-`.
    BangDash,
    /// In something that ends with the next `>`.
    Bogus,
    Comment {
        dashes: usize,
        beginning: bool,
    },
    /// After `--!` in a comment.
    CommentBang,
    /// In the name of a tag.
    Name,
    /// In a tag, where an attribute may begin.
    Gap,
    /// In the name of an attribute.
    Key,
    AfterKey,
    BeforeValue,
    Quoted(u8),
    Unquoted,
    Raw(Raw),
    /// After `<plaintext>`: nothing ends that.
    Plain,
}

/// Where in the content of such an element the next byte is.
#[derive(Debug, Clone, Copy)]
enum Raw {
    Data,
    Dash,
    DashDash,
    /// After `<`.
    Less,
    /// After `<!` in a script.
    Bang,
    /// After `<!-` in a script.
    BangDash,
    /// After `</` and so many bytes of the element's name.
    End(usize),
    /// After `<` in a comment of a script and so many bytes of `script`.
    Script(usize),
}

/// How much of a script is hidden: in `<!--`, `<script` hides one end tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hidden {
    No,
    Comment,
    Twice,
}

/// What becomes of a byte.
enum Then {
    /// Another state is to see it.
    Again,
    Emit,
    /// It is kept back, or was written.
    Keep,
}

/// Rewrites values of HTML that comes in pieces, with what a function says about each URL; `None` leaves it as it is.
pub(super) struct Html<F> {
    state: State,
    hidden: Hidden,
    /// The name of the tag, in lower case, as far as it matters.
    name: Vec<u8>,
    is_end: bool,
    /// The name of the attribute, in lower case, as far as it matters.
    key: Vec<u8>,
    /// The value of a URL so far, with its first quote.
    held: Option<Vec<u8>>,
    rewrite: F,
}

impl<F: Fn(&[u8]) -> Option<Vec<u8>>> Html<F> {
    pub(super) fn new(rewrite: F) -> Self {
        Html {
            state: State::Text,
            hidden: Hidden::No,
            name: Vec::new(),
            is_end: false,
            key: Vec::new(),
            held: None,
            rewrite,
        }
    }

    /// Takes the next piece and adds to `out` what is certain by now.
    pub(super) fn feed(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        for byte in piece {
            loop {
                match self.step(*byte, out) {
                    Then::Again => continue,
                    Then::Emit => out.push(*byte),
                    Then::Keep => {}
                }
                break;
            }
        }
    }

    /// Adds what was kept back when the text ends within a value.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        out.extend(self.held.take().unwrap_or_default());
    }

    fn step(&mut self, byte: u8, out: &mut Vec<u8>) -> Then {
        let (state, then) = match self.state {
            State::Text if byte == b'<' => (State::Less, Then::Emit),
            State::Text => (State::Text, Then::Emit),
            State::Plain => (State::Plain, Then::Emit),
            State::Bogus if byte == b'>' => (State::Text, Then::Emit),
            State::Bogus => (State::Bogus, Then::Emit),
            State::Less | State::Slash | State::Bang | State::BangDash => self.open(byte),
            State::Comment { dashes, beginning } => (comment(byte, dashes, beginning), Then::Emit),
            State::CommentBang => match byte {
                b'>' => (State::Text, Then::Emit),
                byte => {
                    let dashes = usize::from(byte == b'-');
                    let beginning = false;
                    (State::Comment { dashes, beginning }, Then::Emit)
                }
            },
            State::Raw(raw) => self.raw(raw, byte),
            State::Quoted(quote) if byte == quote => (State::Gap, self.close(Some(byte), out)),
            State::Unquoted if byte == b'>' || is_space(byte) => {
                self.close(None, out);
                (State::Gap, Then::Again)
            }
            State::Quoted(_) | State::Unquoted => (self.state, self.hold(byte, out)),
            _ => self.tag(byte),
        };
        self.state = state;
        then
    }

    /// What a `<` begins.
    fn open(&mut self, byte: u8) -> (State, Then) {
        let state = match (self.state, byte) {
            (State::Less | State::Slash, byte) if byte.is_ascii_alphabetic() => {
                self.is_end = matches!(self.state, State::Slash);
                self.name.clear();
                return (State::Name, Then::Again);
            }
            (State::Less, b'/') => State::Slash,
            (State::Less, b'!') => State::Bang,
            (State::Less, b'?') => State::Bogus,
            (State::Less, _) => return (State::Text, Then::Again),
            (State::Bang, b'-') => State::BangDash,
            (State::BangDash, b'-') => State::Comment {
                dashes: 0,
                beginning: true,
            },
            _ => return (State::Bogus, Then::Again),
        };
        (state, Then::Emit)
    }

    /// Within a tag, values aside.
    fn tag(&mut self, byte: u8) -> (State, Then) {
        match (self.state, byte) {
            (State::Name, b'/' | b'>') => (State::Gap, Then::Again),
            (State::Name, byte) if is_space(byte) => (State::Gap, Then::Emit),
            (State::Name, byte) => {
                add(&mut self.name, byte);
                (State::Name, Then::Emit)
            }
            (State::Gap, b'>') => (self.tag_ends(), Then::Emit),
            (State::Gap, byte) if !is_space(byte) => {
                self.key.clear();
                (State::Key, Then::Again)
            }
            (State::Key, byte) => {
                let ends = byte == b'=' && !self.key.is_empty();
                if ends || is_space(byte) || byte == b'/' || byte == b'>' {
                    return (State::AfterKey, Then::Again);
                }
                add(&mut self.key, byte);
                (State::Key, Then::Emit)
            }
            (State::AfterKey, b'/') => (State::Gap, Then::Emit),
            (State::AfterKey, b'=') => (State::BeforeValue, Then::Emit),
            (State::AfterKey, byte) if !is_space(byte) => (State::Gap, Then::Again),
            (State::BeforeValue, b'>') => (State::Gap, Then::Again),
            (State::BeforeValue, byte) if !is_space(byte) => self.value(byte),
            (state, _) => (state, Then::Emit),
        }
    }

    fn tag_ends(&mut self) -> State {
        if self.is_end {
            return State::Text;
        }
        self.hidden = Hidden::No;
        match self.name.as_slice() {
            b"plaintext" => State::Plain,
            name if RAW.contains(&name) => State::Raw(Raw::Data),
            _ => State::Text,
        }
    }

    /// The first byte of a value.
    fn value(&mut self, byte: u8) -> (State, Then) {
        let is_url = !self.is_end && attributes(&self.name).contains(&self.key.as_slice());
        self.held = is_url.then(Vec::new);
        match byte {
            b'"' | b'\'' => {
                let then = match &mut self.held {
                    Some(held) => {
                        held.push(byte);
                        Then::Keep
                    }
                    None => Then::Emit,
                };
                (State::Quoted(byte), then)
            }
            _ => (State::Unquoted, Then::Again),
        }
    }

    fn hold(&mut self, byte: u8, out: &mut Vec<u8>) -> Then {
        let Some(held) = &mut self.held else {
            return Then::Emit;
        };
        held.push(byte);
        if held.len() > LONGEST {
            self.finish(out);
        }
        Then::Keep
    }

    /// A value ends, with its quote if it has one.
    fn close(&mut self, quote: Option<u8>, out: &mut Vec<u8>) -> Then {
        let Some(mut held) = self.held.take() else {
            return Then::Emit;
        };
        let value = references::decode(&held[usize::from(quote.is_some())..]);
        match (self.rewrite)(&value).filter(|new| *new != value) {
            Some(new) => {
                out.push(b'"');
                references::encode(&new, out);
                out.push(b'"');
            }
            None => {
                held.extend(quote);
                out.append(&mut held);
            }
        }
        Then::Keep
    }

    /// Within the content of an element of text.
    fn raw(&mut self, raw: Raw, byte: u8) -> (State, Then) {
        let again = (State::Raw(Raw::Data), Then::Again);
        let is_script = self.name == SCRIPT;
        let raw = match (raw, byte) {
            (Raw::Data | Raw::Dash | Raw::DashDash, _) => self.content(raw, byte),
            (Raw::Less, b'/') => Raw::End(0),
            (Raw::Less, b'!') if is_script && self.hidden == Hidden::No => Raw::Bang,
            (Raw::Less, _) if self.hidden == Hidden::Comment => {
                if byte.is_ascii_alphabetic() {
                    return (State::Raw(Raw::Script(0)), Then::Again);
                }
                // Upstream's tokenizer takes the comment for ended here.
                self.hidden = Hidden::No;
                return again;
            }
            (Raw::Bang, b'-') => Raw::BangDash,
            (Raw::BangDash, b'-') => {
                self.hidden = Hidden::Comment;
                Raw::DashDash
            }
            (Raw::Script(at), _) if SCRIPT.get(at) == Some(&byte.to_ascii_lowercase()) => {
                Raw::Script(at + 1)
            }
            (Raw::Script(at), _) if at == SCRIPT.len() && ends_name(byte) => {
                self.hidden = Hidden::Twice;
                Raw::Data
            }
            (Raw::End(at), _) if self.name.get(at) == Some(&byte.to_ascii_lowercase()) => {
                Raw::End(at + 1)
            }
            (Raw::End(at), _) if at == self.name.len() && ends_name(byte) => {
                if self.hidden != Hidden::Twice {
                    self.is_end = true;
                    return (State::Name, Then::Again);
                }
                self.hidden = Hidden::Comment;
                Raw::Data
            }
            _ => return again,
        };
        (State::Raw(raw), Then::Emit)
    }

    fn content(&mut self, raw: Raw, byte: u8) -> Raw {
        match (raw, byte) {
            (_, b'<') => Raw::Less,
            (Raw::Data, b'-') if self.hidden != Hidden::No => Raw::Dash,
            (Raw::Dash | Raw::DashDash, b'-') => Raw::DashDash,
            (Raw::DashDash, b'>') => {
                self.hidden = Hidden::No;
                Raw::Data
            }
            _ => Raw::Data,
        }
    }
}

fn comment(byte: u8, dashes: usize, beginning: bool) -> State {
    match byte {
        b'-' => State::Comment {
            dashes: dashes.saturating_add(1),
            beginning,
        },
        b'>' if dashes >= 2 || beginning => State::Text,
        b'!' if dashes >= 2 => State::CommentBang,
        _ => State::Comment {
            dashes: 0,
            beginning: false,
        },
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t' | b'\x0c')
}

fn ends_name(byte: u8) -> bool {
    is_space(byte) || byte == b'/' || byte == b'>'
}

fn add(name: &mut Vec<u8>, byte: u8) {
    if name.len() < LONGEST_NAME {
        name.push(byte.to_ascii_lowercase());
    }
}

#[cfg(test)]
mod tests;
