//! Encoding and decoding of netlink messages; pure.

/// `NLM_F_REQUEST`, `NLM_F_ACK` and friends (linux/netlink.h).
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
/// Everything of a kind is asked for.
pub(crate) const NLM_F_DUMP: u16 = 0x300;
/// What is there already may be replaced,
pub(crate) const NLM_F_REPLACE: u16 = 0x100;
/// or must not be there;
pub(crate) const NLM_F_EXCL: u16 = 0x200;
/// what is not there is made,
pub(crate) const NLM_F_CREATE: u16 = 0x400;
/// at the end of a list.
pub(crate) const NLM_F_APPEND: u16 = 0x800;
const NLA_F_NESTED: u16 = 0x8000;
const NLA_TYPE_MASK: u16 = 0x3fff;
const HEADER: usize = 16;

/// A request under construction, or finished: there is no difference, lengths are kept right as parts are added.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    bytes: Vec<u8>,
    /// What it is for, in words, should the kernel refuse it.
    what: String,
}

impl Message {
    /// A request of the given type that asks for an acknowledgement. `flags` are added to that; `fixed` is the family header.
    pub(crate) fn new(what: impl Into<String>, kind: u16, flags: u16, fixed: &[u8]) -> Self {
        Self::bare(what, kind, flags | NLM_F_ACK, fixed)
    }

    /// A request that is not acknowledged by itself (dumps, batch marks).
    pub(crate) fn bare(what: impl Into<String>, kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(&0u32.to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(fixed);
        let mut message = Message {
            bytes,
            what: what.into(),
        };
        message.pad();
        message
    }

    /// The same, to be acknowledged.
    pub(crate) fn acknowledged(mut self) -> Self {
        let flags = u16::from_ne_bytes([self.bytes[6], self.bytes[7]]) | NLM_F_ACK;
        self.bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        self
    }

    /// Adds an attribute.
    pub(crate) fn attr(mut self, kind: u16, payload: &[u8]) -> Self {
        self.put(kind, payload);
        self
    }

    /// Adds a 32-bit attribute in host order.
    pub(crate) fn attr_u32(self, kind: u16, value: u32) -> Self {
        self.attr(kind, &value.to_ne_bytes())
    }

    /// Adds a 32-bit attribute in network order, as nf_tables wants it.
    pub(crate) fn attr_be32(self, kind: u16, value: u32) -> Self {
        self.attr(kind, &value.to_be_bytes())
    }

    /// Adds a zero-terminated string.
    pub(crate) fn attr_str(self, kind: u16, value: &str) -> Self {
        let mut payload = value.as_bytes().to_vec();
        payload.push(0);
        self.attr(kind, &payload)
    }

    /// Adds an attribute that holds what `fill` adds.
    pub(crate) fn nest(mut self, kind: u16, fill: impl FnOnce(Message) -> Message) -> Self {
        let start = self.bytes.len();
        self.put(kind | NLA_F_NESTED, &[]);
        let mut message = fill(self);
        let length = (message.bytes.len() - start) as u16;
        message.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        message
    }

    /// Adds raw bytes inside a nest (the peer's link header of a veth).
    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self.pad();
        self
    }

    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    /// Whether the kernel is asked to acknowledge it.
    pub(crate) fn is_acknowledged(&self) -> bool {
        u16::from_ne_bytes([self.bytes[6], self.bytes[7]]) & NLM_F_ACK != 0
    }

    /// The bytes to send under this sequence number.
    pub(crate) fn encode(&self, sequence: u32) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        let length = bytes.len() as u32;
        bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        bytes
    }

    fn put(&mut self, kind: u16, payload: &[u8]) {
        let length = (4 + payload.len()) as u16;
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(payload);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// A message of the kernel's, cut out of a datagram.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received<'a> {
    pub(crate) kind: u16,
    pub(crate) sequence: u32,
    pub(crate) body: &'a [u8],
}

/// Cuts a datagram into messages; stops at the first that is malformed.
pub(crate) fn received(mut datagram: &[u8]) -> impl Iterator<Item = Received<'_>> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(datagram.get(0..4)?.try_into().ok()?) as usize;
        let message = datagram.get(..length).filter(|_| length >= HEADER)?;
        datagram = datagram
            .get(length.next_multiple_of(4)..)
            .unwrap_or_default();
        Some(Received {
            kind: u16::from_ne_bytes([message[4], message[5]]),
            sequence: u32::from_ne_bytes(message[8..12].try_into().ok()?),
            body: &message[HEADER..],
        })
    })
}

/// Walks the attributes of a message's body; stops at the first that is malformed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16::from_ne_bytes(self.0.get(0..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(self.0.get(2..4)?.try_into().ok()?) & NLA_TYPE_MASK;
        let payload = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, payload))
    }
}

/// What the first attribute of a type holds.
pub(crate) fn find(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    let mut attributes = Attributes(attributes);
    attributes
        .find(|(k, _)| *k == kind)
        .map(|(_, payload)| payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_attributes_carry_their_length() {
        let message = Message::new("test", 16, 0, &[1, 2, 3, 4])
            .nest(18, |m| m.attr_str(1, "veth").attr_u32(2, 7))
            .encode(9);
        let one = received(&message).next().expect("one message");
        assert_eq!((one.kind, one.sequence), (16, 9));
        let (kind, nest) = Attributes(&one.body[4..]).next().expect("one attribute");
        assert_eq!(kind, 18);
        let inner: Vec<_> = Attributes(nest).collect();
        assert_eq!(
            inner,
            vec![
                (1, b"veth\0".as_slice()),
                (2, 7u32.to_ne_bytes().as_slice())
            ]
        );
    }

    #[test]
    fn malformed_datagrams_end_the_walk() {
        assert_eq!(received(&[3, 0, 0, 0, 0, 0]).count(), 0);
        let mut message = Message::new("test", 16, 0, &[]).encode(1);
        message[0] = 200;
        assert_eq!(received(&message).count(), 0);
        assert_eq!(Attributes(&[9, 0, 1, 0, 0]).count(), 0);
        assert_eq!(Attributes(&[0, 0, 1, 0]).count(), 0);
    }
}
