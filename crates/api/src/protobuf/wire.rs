//! The protobuf wire format: keys, varints, lengths (<https://protobuf.dev/programming-guides/encoding/>).

use super::ProtobufError;

type Read<T> = Result<T, ProtobufError>;

/// A field's content.
#[derive(Debug, Clone, Copy)]
pub enum Content<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1.
    Fixed64(u64),
    /// Wire type 2.
    Bytes(&'a [u8]),
    /// Wire type 5.
    Fixed32,
}

impl<'a> Content<'a> {
    fn wire_type(&self) -> u8 {
        match self {
            Self::Varint(_) => 0,
            Self::Fixed64(_) => 1,
            Self::Bytes(_) => 2,
            Self::Fixed32 => 5,
        }
    }

    fn wrong<T>(&self, field: &str) -> Read<T> {
        Err(ProtobufError::WireType {
            field: field.to_owned(),
            wire: self.wire_type(),
        })
    }

    /// Bytes, or a message within this one; `field` is what an error names.
    ///
    /// # Errors
    /// The field holds something else.
    pub fn bytes(self, field: &str) -> Read<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            other => other.wrong(field),
        }
    }

    /// A string.
    ///
    /// # Errors
    /// The field holds something else.
    pub fn text(self, field: &str) -> Read<&'a str> {
        std::str::from_utf8(self.bytes(field)?).map_err(|_| ProtobufError::Value(field.to_owned()))
    }

    /// A number or a truth value.
    ///
    /// # Errors
    /// The field holds something else.
    pub fn varint(self, field: &str) -> Read<u64> {
        match self {
            Self::Varint(number) => Ok(number),
            other => other.wrong(field),
        }
    }

    pub(super) fn double(self, field: &str) -> Read<f64> {
        match self {
            Self::Fixed64(bits) => Ok(f64::from_bits(bits)),
            other => other.wrong(field),
        }
    }
}

/// Reads a message field by field.
#[derive(Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn varint(&mut self) -> Read<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(ProtobufError::Truncated)?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(ProtobufError::Truncated)
    }

    fn take(&mut self, length: u64) -> Read<&'a [u8]> {
        let length = usize::try_from(length).map_err(|_| ProtobufError::Truncated)?;
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(ProtobufError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    /// The next field's number and content; `None` at the end.
    ///
    /// # Errors
    /// The message ends too early.
    pub fn field(&mut self) -> Read<Option<(u32, Content<'a>)>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).map_err(|_| ProtobufError::Truncated)?;
        let content = match key & 7 {
            0 => Content::Varint(self.varint()?),
            1 => {
                let bytes = self
                    .take(8)?
                    .try_into()
                    .map_err(|_| ProtobufError::Truncated)?;
                Content::Fixed64(u64::from_le_bytes(bytes))
            }
            2 => {
                let length = self.varint()?;
                Content::Bytes(self.take(length)?)
            }
            5 => {
                self.take(4)?;
                Content::Fixed32
            }
            _ => return Err(ProtobufError::Truncated),
        };
        Ok(Some((number, content)))
    }
}

/// Writes a message field by field.
#[derive(Debug, Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    pub(crate) fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn key(&mut self, number: u32, wire_type: u8) {
        self.varint(u64::from(number) << 3 | u64::from(wire_type));
    }

    /// A field that is a number or a truth value.
    pub fn number(&mut self, number: u32, value: u64) {
        self.key(number, 0);
        self.varint(value);
    }

    pub(crate) fn double(&mut self, number: u32, value: f64) {
        self.key(number, 1);
        self.0.extend(value.to_bits().to_le_bytes());
    }

    /// A field of bytes, a string, or a message within this one.
    pub fn bytes(&mut self, number: u32, bytes: &[u8]) {
        self.key(number, 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }
}
