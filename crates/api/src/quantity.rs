//! Resource quantities: exact decimal numbers with a unit suffix, printed in canonical form as upstream does.
//!
//! A number is `mantissa × 10^exponent` with a 128-bit mantissa; nothing passes through floating point. Parsing rounds away from zero to
//! nano, so whoever asks for a little gets a little.

use serde_json::Value;
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

const NANO: i32 = -9;
const DECIMAL: [(&str, i32); 10] = [
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("", 0),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];
const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

/// How a quantity is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// `12M` is 12 × 10⁶.
    #[default]
    DecimalSi,
    /// `12Mi` is 12 × 2²⁰.
    BinarySi,
    /// `12e6`.
    DecimalExponent,
}

/// A quantity. Equality and order are those of the number, whatever its format.
#[derive(Debug, Clone, Default)]
pub struct Quantity {
    mantissa: i128,
    exponent: i32,
    format: Format,
    /// The text it was parsed from where upstream keeps that instead of the canonical form, such as `1.500`.
    verbatim: Option<Box<str>>,
}

/// Why a text is not a quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not even the shape of one.
    #[error(
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    )]
    Format,
    /// No number, or one of more digits than can be kept.
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    /// An unknown unit.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

struct Parts<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    suffix: &'a str,
}

fn take_digits(text: &str) -> (&str, &str) {
    text.split_at(
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len()),
    )
}

fn split(text: &str) -> Result<Parts<'_>, ParseError> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, rest) = take_digits(unsigned);
    let (fraction, suffix) = match rest.strip_prefix('.') {
        Some(rest) => take_digits(rest),
        None => ("", rest),
    };
    let letters = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
    let digits = letters.strip_prefix(['-', '+']).unwrap_or(letters);
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(ParseError::Format);
    }
    // Upstream reads a lone sign as zero; only the number `.` has no digits and is refused.
    if whole.is_empty() && fraction.is_empty() && rest.starts_with('.') {
        return Err(ParseError::Numeric);
    }
    Ok(Parts {
        negative: text.starts_with('-'),
        whole: whole.trim_start_matches('0'),
        fraction,
        suffix,
    })
}

fn unit(suffix: &str) -> Result<(Format, i32), ParseError> {
    if let Some((_, exponent)) = DECIMAL.iter().find(|(s, _)| *s == suffix) {
        return Ok((Format::DecimalSi, *exponent));
    }
    if let Some(n) = BINARY.iter().position(|s| *s == suffix) {
        return Ok((Format::BinarySi, (n as i32 + 1) * 10));
    }
    match suffix.strip_prefix(['e', 'E']) {
        Some(digits) if !digits.is_empty() => {
            // Exponents beyond any physical quantity are refused, so that printing stays bounded.
            let exponent: i32 = digits.parse().map_err(|_| ParseError::Suffix)?;
            if exponent.abs() > 1000 {
                Err(ParseError::Suffix)
            } else {
                Ok((Format::DecimalExponent, exponent))
            }
        }
        _ => Err(ParseError::Suffix),
    }
}

fn parse_digits(whole: &str, fraction: &str) -> Result<i128, ParseError> {
    let mut n: i128 = 0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        n = n
            .checked_mul(10)
            .and_then(|n| n.checked_add(i128::from(digit - b'0')))
            .ok_or(ParseError::Numeric)?;
    }
    Ok(n)
}

impl FromStr for Quantity {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text.is_empty() {
            return Err(ParseError::Format);
        }
        let parts = split(text)?;
        let (format, unit_exponent) = unit(parts.suffix)?;
        let digits = parse_digits(parts.whole, parts.fraction)?;
        let places = i32::try_from(parts.fraction.len()).map_err(|_| ParseError::Numeric)?;
        let mut quantity = match format {
            Format::BinarySi => binary(digits, places, unit_exponent, parts.whole.len()),
            _ => Self {
                mantissa: digits,
                exponent: unit_exponent - places,
                format,
                verbatim: None,
            },
        };
        if keeps_text(&parts, format, digits, quantity.exponent, unit_exponent) {
            quantity.verbatim = Some(text.into());
        }
        quantity.round_up(NANO);
        if quantity.mantissa == 0 {
            quantity.exponent = 0;
        }
        if parts.negative {
            quantity.mantissa = -quantity.mantissa;
        }
        Ok(quantity)
    }
}

fn binary(digits: i128, places: i32, power: i32, whole_len: usize) -> Quantity {
    let capped = Quantity {
        mantissa: i128::from(i64::MAX),
        exponent: 0,
        format: Format::BinarySi,
        verbatim: None,
    };
    // 20 digits before the point exceed the cap whatever follows.
    if whole_len > 19 {
        return capped;
    }
    let Some(mantissa) = digits.checked_mul(1i128 << power) else {
        return capped;
    };
    let mut quantity = Quantity {
        mantissa,
        exponent: -places,
        format: Format::BinarySi,
        verbatim: None,
    };
    quantity.round_up(NANO);
    if quantity > capped {
        return capped;
    }
    if quantity.mantissa != 0 && quantity < Quantity::from_i64(1) {
        quantity.format = Format::DecimalSi;
    }
    quantity
}

/// Whether upstream remembers the text as written instead of computing the canonical one: its fast path does when the text already looks
/// canonical, without looking closely at fractions.
fn keeps_text(
    parts: &Parts<'_>,
    format: Format,
    digits: i128,
    exponent: i32,
    unit_exponent: i32,
) -> bool {
    if digits == 0 || parts.whole.len() + parts.fraction.len() > 18 {
        return false;
    }
    if format == Format::BinarySi {
        let room = 15 - parts.whole.len() as i32 - (unit_exponent as f32 * 3.0 / 10.0) as i32 - 1;
        return parts.fraction.is_empty() && room >= 0 && digits & 7 != 0;
    }
    let leading_zero = parts.whole.is_empty();
    exponent >= NANO && exponent % 3 == 0 && digits % 1000 != 0 && !leading_zero
}

impl Quantity {
    /// A whole number.
    pub fn from_i64(value: i64) -> Self {
        Self {
            mantissa: value.into(),
            ..Self::default()
        }
    }

    /// Thousandths, such as CPU shares in millicores.
    pub fn from_milli(value: i64) -> Self {
        Self {
            mantissa: value.into(),
            exponent: -3,
            ..Self::default()
        }
    }

    /// A whole number printed with binary suffixes, such as bytes of memory.
    pub fn from_bytes(value: i64) -> Self {
        Self {
            mantissa: value.into(),
            format: Format::BinarySi,
            ..Self::default()
        }
    }

    /// Reads the JSON form: a string or a number.
    pub fn from_json(value: &Value) -> Result<Self, ParseError> {
        match value {
            Value::String(text) => text.trim().parse(),
            Value::Number(number) => number.to_string().parse(),
            _ => Err(ParseError::Format),
        }
    }

    /// How it prints.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether it is 0.
    pub fn is_zero(&self) -> bool {
        self.mantissa == 0
    }

    /// -1, 0 or 1.
    pub fn signum(&self) -> i32 {
        self.mantissa.signum() as i32
    }

    /// The number rounded away from zero to units, capped to 64 bits.
    pub fn value(&self) -> i64 {
        self.scaled(0)
    }

    /// The number in thousandths, rounded away from zero, capped to 64 bits.
    pub fn milli_value(&self) -> i64 {
        self.scaled(-3)
    }

    /// The number in units of `10^scale`, rounded away from zero, capped to 64 bits.
    pub fn scaled(&self, scale: i32) -> i64 {
        let shifted = if self.exponent >= scale {
            pow10(self.exponent - scale).and_then(|p| self.mantissa.checked_mul(p))
        } else {
            Some(divide_up(self.mantissa, scale - self.exponent))
        };
        let capped = shifted.unwrap_or(if self.mantissa < 0 {
            i128::MIN
        } else {
            i128::MAX
        });
        capped.clamp(i64::MIN.into(), i64::MAX.into()) as i64
    }

    /// An approximation, for ratios shown to people.
    pub fn as_f64(&self) -> f64 {
        self.mantissa as f64 * 10f64.powi(self.exponent)
    }

    /// Drops digits below `10^scale`, rounding away from zero; whether nothing was lost. Defaulting rounds to milli (-3).
    pub fn round_up(&mut self, scale: i32) -> bool {
        if self.exponent >= scale {
            return true;
        }
        let rounded = divide_up(self.mantissa, scale - self.exponent);
        let exact = pow10(scale - self.exponent).and_then(|p| rounded.checked_mul(p))
            == Some(self.mantissa);
        *self = Self {
            mantissa: rounded,
            exponent: scale,
            format: self.format,
            verbatim: None,
        };
        exact
    }

    fn aligned(&self, other: &Self) -> Option<(i128, i128, i32)> {
        let exponent = self.exponent.min(other.exponent);
        let a = self
            .mantissa
            .checked_mul(pow10(self.exponent - exponent)?)?;
        let b = other
            .mantissa
            .checked_mul(pow10(other.exponent - exponent)?)?;
        Some((a, b, exponent))
    }

    /// The sum. A zero takes over the other's format, as upstream. Sums too large to keep exactly stay at the larger operand.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        let format = if self.is_zero() {
            other.format
        } else {
            self.format
        };
        match self
            .aligned(other)
            .and_then(|(a, b, e)| Some((a.checked_add(b)?, e)))
        {
            Some((mantissa, exponent)) => Self {
                mantissa,
                exponent,
                format,
                verbatim: None,
            },
            None => Self {
                verbatim: None,
                format,
                ..if self > other {
                    self.clone()
                } else {
                    other.clone()
                }
            },
        }
    }

    /// The difference, see [`Quantity::plus`].
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        self.plus(&Self {
            mantissa: -other.mantissa,
            verbatim: None,
            ..other.clone()
        })
    }

    /// The canonical text.
    pub fn canonical(&self) -> String {
        if self.is_zero() {
            return "0".to_owned();
        }
        if self.format == Format::BinarySi
            && let Some(text) = self.canonical_binary()
        {
            return text;
        }
        let mut mantissa = self.mantissa;
        let mut exponent = self.exponent;
        while mantissa % 10 == 0 {
            mantissa /= 10;
            exponent += 1;
        }
        let mut zeros = exponent.rem_euclid(3);
        exponent -= zeros;
        if self.format != Format::DecimalExponent && exponent > 18 {
            zeros += exponent - 18;
            exponent = 18;
        }
        let padding = "0".repeat(zeros as usize);
        let suffix = match self.format {
            Format::DecimalExponent if exponent == 0 => String::new(),
            Format::DecimalExponent => format!("e{exponent}"),
            _ => DECIMAL
                .iter()
                .find(|(_, e)| *e == exponent)
                .map_or_else(String::new, |(s, _)| (*s).to_owned()),
        };
        format!("{mantissa}{padding}{suffix}")
    }

    /// Binary suffixes only where they lose nothing and the number is at least 1024.
    fn canonical_binary(&self) -> Option<String> {
        let mut number = if self.exponent >= 0 {
            self.mantissa.checked_mul(pow10(self.exponent)?)?
        } else {
            let power = pow10(-self.exponent)?;
            if self.mantissa % power != 0 {
                return None;
            }
            self.mantissa / power
        };
        if number.abs() < 1024 {
            return None;
        }
        let mut steps = 0;
        while number % 1024 == 0 && steps < BINARY.len() {
            number /= 1024;
            steps += 1;
        }
        Some(if steps == 0 {
            number.to_string()
        } else {
            format!("{number}{}", BINARY[steps - 1])
        })
    }
}

fn pow10(n: i32) -> Option<i128> {
    10i128.checked_pow(u32::try_from(n).ok()?)
}

fn divide_up(n: i128, places: i32) -> i128 {
    match pow10(places) {
        Some(power) if n % power == 0 => n / power,
        Some(power) => n / power + n.signum(),
        None => n.signum(),
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.verbatim {
            Some(text) => f.write_str(text),
            None => f.write_str(&self.canonical()),
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        let signs = self.mantissa.signum().cmp(&other.mantissa.signum());
        if signs != Ordering::Equal || self.mantissa == 0 {
            return signs;
        }
        match self.aligned(other) {
            Some((a, b, _)) => a.cmp(&b),
            // Too far apart to align: the larger exponent is the larger magnitude.
            None if self.mantissa > 0 => self.exponent.cmp(&other.exponent),
            None => other.exponent.cmp(&self.exponent),
        }
    }
}

impl TryFrom<&k8s_openapi::apimachinery::pkg::api::resource::Quantity> for Quantity {
    type Error = ParseError;

    fn try_from(
        text: &k8s_openapi::apimachinery::pkg::api::resource::Quantity,
    ) -> Result<Self, ParseError> {
        text.0.trim().parse()
    }
}

impl From<&Quantity> for k8s_openapi::apimachinery::pkg::api::resource::Quantity {
    fn from(quantity: &Quantity) -> Self {
        Self(quantity.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn q(text: &str) -> Quantity {
        text.parse().unwrap()
    }

    #[test]
    fn canonical_texts() {
        for (text, canonical) in [
            ("0", "0"),
            ("0Ki", "0"),
            ("-0", "0"),
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("1.5", "1500m"),
            ("100m", "100m"),
            ("1e3", "1e3"),
            ("1E3", "1e3"),
            ("12e6", "12e6"),
            ("1000e3", "1e6"),
            ("1000", "1k"),
            ("123456", "123456"),
            ("1Ki", "1Ki"),
            ("512Ki", "512Ki"),
            ("0.5Ki", "512"),
            ("1000Ki", "1000Ki"),
            ("2000Ki", "2000Ki"),
            ("2048Ki", "2Mi"),
            ("0.1m", "100u"),
            ("0.0000000001", "1n"),
            ("-1.5", "-1500m"),
            ("1.", "1"),
            (".5", "500m"),
            ("5E", "5E"),
            ("1000E", "1000E"),
            ("9Ei", "9223372036854775807"),
            ("0.1Mi", "104857600m"),
            ("100000", "100k"),
            ("1e-3", "1e-3"),
            ("129e6", "129e6"),
            ("129M", "129M"),
            ("123Mi", "123Mi"),
        ] {
            assert_eq!(q(text).canonical(), canonical, "{text}");
        }
    }

    #[test]
    fn texts_upstream_keeps() {
        for (text, printed) in [
            ("1.500", "1.500"),
            ("1.50", "1500m"),
            ("+7", "+7"),
            ("9e0", "9e0"),
            ("8Ki", "8Ki"),
            ("500m", "500m"),
            ("0.500", "500m"),
        ] {
            assert_eq!(q(text).to_string(), printed, "{text}");
        }
        let mut kept = q("1.500");
        kept.round_up(-3);
        assert_eq!(kept.to_string(), "1.500");
    }

    #[test]
    fn refuses_what_upstream_refuses() {
        for (text, error) in [
            ("", ParseError::Format),
            ("1.1.1", ParseError::Format),
            ("1 Ki", ParseError::Format),
            ("abc", ParseError::Format),
            ("1x", ParseError::Format),
            ("1mm", ParseError::Suffix),
            ("1ki", ParseError::Suffix),
            ("1e", ParseError::Suffix),
            (".", ParseError::Numeric),
            ("1i", ParseError::Suffix),
            ("1K", ParseError::Suffix),
            ("500 m", ParseError::Format),
        ] {
            assert_eq!(text.parse::<Quantity>().unwrap_err(), error, "{text:?}");
        }
    }

    #[test]
    fn values_round_up() {
        for (text, value, milli) in [
            ("1", 1, 1000),
            ("100m", 1, 100),
            ("1500m", 2, 1500),
            ("0.1m", 1, 1),
            ("-1500m", -2, -1500),
            ("1Gi", 1 << 30, (1 << 30) * 1000),
            ("9Ei", i64::MAX, i64::MAX),
            ("1e30", i64::MAX, i64::MAX),
            ("0", 0, 0),
        ] {
            assert_eq!(
                (q(text).value(), q(text).milli_value()),
                (value, milli),
                "{text}"
            );
        }
    }

    #[test]
    fn order_and_arithmetic() {
        assert_eq!(q("1000m"), q("1"));
        assert_eq!(q("1Ki"), q("1024"));
        assert!(
            q("1G") < q("1Gi")
                && q("-1") < q("0")
                && q("1e900") > q("1e-9")
                && q("-1e900") < q("-1e-9")
        );
        assert_eq!(q("100m").plus(&q("900m")).to_string(), "1");
        assert_eq!(
            q("0").plus(&q("64Mi")).plus(&q("64Mi")).to_string(),
            "128Mi"
        );
        assert_eq!(q("1Gi").minus(&q("1Mi")).to_string(), "1023Mi");
        assert_eq!(Quantity::from_milli(250).to_string(), "250m");
        assert_eq!(Quantity::from_bytes(1 << 20).to_string(), "1Mi");
    }

    #[test]
    fn rounding_to_milli() {
        let mut tiny = q("0.0001");
        assert!(!tiny.round_up(-3));
        assert_eq!(tiny.to_string(), "1m");
    }

    #[test]
    fn json_forms() {
        assert_eq!(Quantity::from_json(&serde_json::json!(2)).unwrap(), q("2"));
        assert_eq!(
            Quantity::from_json(&serde_json::json!(0.5))
                .unwrap()
                .to_string(),
            "500m"
        );
        assert!(Quantity::from_json(&serde_json::json!(true)).is_err());
    }
}
