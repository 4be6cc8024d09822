//! Certificates that are signed for others: subject, key and other names as the request has them, the usages as they were asked for, and
//! no authority (upstream's permissive signing policy). They are put together in DER, as subjects may name several organizations.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use pem::{EncodeConfig, LineEnding, Pem};
use ports::certificates::{Asked, Authority, CertificateError, Terms};
use rcgen::{KeyPair, SigningKey};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::ParsedExtension;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::request;

const INTEGER: u8 = 0x02;
const BITS: u8 = 0x03;
const OCTETS: u8 = 0x04;
const OID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;

/// `ecdsa-with-SHA256`, how the authority's key signs.
const ALGORITHM: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
/// The third version of certificates.
const VERSION: [u8; 5] = [0xa0, 0x03, INTEGER, 0x01, 0x02];
const TRUE: [u8; 3] = [0x01, 0x01, 0xff];

/// Extensions by the last byte of their names, 2.5.29.x.
const KEY_USAGE: u8 = 15;
const OTHER_NAMES: u8 = 17;
const CONSTRAINTS: u8 = 19;
const AUTHORITY_KEY: u8 = 35;
const EXTENDED_USAGE: u8 = 37;

/// The API's words for usages, and the bit of each in the key usage.
const KEY_USAGES: [(&str, u8); 10] = [
    ("signing", 0),
    ("digital signature", 0),
    ("content commitment", 1),
    ("key encipherment", 2),
    ("data encipherment", 3),
    ("key agreement", 4),
    ("cert sign", 5),
    ("crl sign", 6),
    ("encipher only", 7),
    ("decipher only", 8),
];

/// The API's words for extended usages, and their object identifiers.
const EXTENDED: [(&str, &[u8]); 13] = [
    ("any", &[0x55, 0x1d, 0x25, 0x00]),
    ("server auth", &[0x2b, 6, 1, 5, 5, 7, 3, 1]),
    ("client auth", &[0x2b, 6, 1, 5, 5, 7, 3, 2]),
    ("code signing", &[0x2b, 6, 1, 5, 5, 7, 3, 3]),
    ("email protection", &[0x2b, 6, 1, 5, 5, 7, 3, 4]),
    ("s/mime", &[0x2b, 6, 1, 5, 5, 7, 3, 4]),
    ("ipsec end system", &[0x2b, 6, 1, 5, 5, 7, 3, 5]),
    ("ipsec tunnel", &[0x2b, 6, 1, 5, 5, 7, 3, 6]),
    ("ipsec user", &[0x2b, 6, 1, 5, 5, 7, 3, 7]),
    ("timestamping", &[0x2b, 6, 1, 5, 5, 7, 3, 8]),
    ("ocsp signing", &[0x2b, 6, 1, 5, 5, 7, 3, 9]),
    ("microsoft sgc", &[0x2b, 6, 1, 4, 1, 0x82, 0x37, 0x0a, 3, 3]),
    (
        "netscape sgc",
        &[0x60, 0x86, 0x48, 1, 0x86, 0xf8, 0x42, 4, 1],
    ),
];

/// The authority of this server, to sign for others.
pub(crate) struct Signer {
    key: KeyPair,
    /// Its name, in DER.
    name: Vec<u8>,
    /// What its key is known by.
    key_id: Option<Vec<u8>>,
    end: Timestamp,
}

impl Signer {
    /// The authority with this certificate, in PEM, and its key; `None` where the certificate cannot be read.
    pub(crate) fn new(certificate: &str, key: KeyPair) -> Option<Signer> {
        let (_, pem) = parse_x509_pem(certificate.as_bytes()).ok()?;
        let (_, certificate) = X509Certificate::from_der(&pem.contents).ok()?;
        let key_id = certificate.extensions().iter().find_map(|e| {
            let ParsedExtension::SubjectKeyIdentifier(id) = e.parsed_extension() else {
                return None;
            };
            Some(id.0.to_vec())
        });
        Some(Signer {
            key,
            name: certificate.subject().as_raw().to_vec(),
            key_id,
            end: end_of(&certificate)?,
        })
    }

    fn certificate(
        &self,
        request: &X509CertificationRequest<'_>,
        terms: Terms<'_>,
    ) -> Result<Vec<u8>, CertificateError> {
        let asked = &request.certification_request_info;
        let algorithm = der(SEQUENCE, &[&der(OID, &[ALGORITHM])]);
        let serial: [u8; 16] = rand::random();
        // Positive, and never shorter than written.
        let serial = [&[0x40 | (serial[0] & 0x3f)], &serial[1..]].concat();
        let validity = [time(terms.from), time(terms.to.min(self.end))];
        let validity = der(SEQUENCE, &[&validity[0], &validity[1]]);
        let extensions = der(SEQUENCE, &[&self.extensions(request, terms)?]);
        let content = der(
            SEQUENCE,
            &[
                &VERSION,
                &der(INTEGER, &[&serial]),
                &algorithm,
                &self.name,
                &validity,
                asked.subject.as_raw(),
                asked.subject_pki.raw,
                &der(0xa3, &[&extensions]),
            ],
        );
        let signature = self.key.sign(&content);
        let signature = signature.map_err(|error| CertificateError::Key(error.to_string()))?;
        let signature = der(BITS, &[&[0], &signature]);
        Ok(der(SEQUENCE, &[&content, &algorithm, &signature]))
    }

    fn extensions(
        &self,
        request: &X509CertificationRequest<'_>,
        terms: Terms<'_>,
    ) -> Result<Vec<u8>, CertificateError> {
        let mut bits: u16 = 0;
        let mut extended = Vec::new();
        for usage in terms.usages {
            let word = usage.as_str();
            if let Some((_, bit)) = KEY_USAGES.iter().find(|(name, _)| *name == word) {
                bits |= 0x8000 >> bit;
            } else if let Some((_, id)) = EXTENDED.iter().find(|(name, _)| *name == word) {
                let id = der(OID, &[id]);
                if !extended.contains(&id) {
                    extended.push(id);
                }
            } else {
                return Err(CertificateError::Usage(usage.clone()));
            }
        }
        let mut all = Vec::new();
        if bits != 0 {
            all.extend(extension(KEY_USAGE, true, &bit_string(bits)));
        }
        if !extended.is_empty() {
            let ids = der(SEQUENCE, &[&extended.concat()]);
            all.extend(extension(EXTENDED_USAGE, false, &ids));
        }
        all.extend(extension(CONSTRAINTS, true, &der(SEQUENCE, &[])));
        if let Some(id) = &self.key_id {
            let id = der(SEQUENCE, &[&der(0x80, &[id])]);
            all.extend(extension(AUTHORITY_KEY, false, &id));
        }
        let other =
            request::extensions(request).find(|e| e.oid.as_bytes() == [0x55, 0x1d, OTHER_NAMES]);
        if let Some(other) = other {
            // Without a subject its other names are all it has.
            let is_critical = request
                .certification_request_info
                .subject
                .iter()
                .next()
                .is_none();
            all.extend(extension(OTHER_NAMES, is_critical, other.value));
        }
        Ok(all)
    }
}

impl Authority for Signer {
    fn read(&self, text: &[u8]) -> Result<Asked, CertificateError> {
        let contents = request::contents(text)?;
        Ok(request::asked(&request::parse(&contents)?))
    }

    fn sign(&self, text: &[u8], terms: Terms<'_>) -> Result<String, CertificateError> {
        request::check(text)?;
        let contents = request::contents(text)?;
        let certificate = self.certificate(&request::parse(&contents)?, terms)?;
        let lines = EncodeConfig::new().set_line_ending(LineEnding::LF);
        Ok(pem::encode_config(
            &Pem::new("CERTIFICATE", certificate),
            lines,
        ))
    }

    fn end(&self) -> Timestamp {
        self.end
    }

    fn end_of(&self, certificate: &[u8]) -> Option<Timestamp> {
        let (_, pem) = parse_x509_pem(certificate).ok()?;
        let (_, certificate) = X509Certificate::from_der(&pem.contents).ok()?;
        end_of(&certificate)
    }
}

fn end_of(certificate: &X509Certificate<'_>) -> Option<Timestamp> {
    Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
}

/// A value in DER: its tag, its length, and the parts of its content.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut out = vec![tag];
    let length = content.len().to_be_bytes();
    let bytes = &length[length.iter().take_while(|byte| **byte == 0).count()..];
    match content.len() {
        short @ 0..0x80 => out.push(short as u8),
        _ => {
            out.push(0x80 | bytes.len() as u8);
            out.extend(bytes);
        }
    }
    out.extend(content);
    out
}

/// Years until 2049 have two digits (RFC 5280, section 4.1.2.5).
fn time(at: Timestamp) -> Vec<u8> {
    let at = at.to_zoned(TimeZone::UTC);
    let (tag, format) = match at.year() {
        ..2050 => (UTC_TIME, "%y%m%d%H%M%SZ"),
        _ => (TIME, "%Y%m%d%H%M%SZ"),
    };
    der(tag, &[at.strftime(format).to_string().as_bytes()])
}

fn extension(name: u8, is_critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if is_critical { &TRUE } else { &[] };
    let name = der(OID, &[&[0x55, 0x1d, name]]);
    der(SEQUENCE, &[&name, critical, &der(OCTETS, &[value])])
}

/// Bits from the first on, without the zeros behind the last that is set.
fn bit_string(bits: u16) -> Vec<u8> {
    let unused = bits.trailing_zeros();
    let bytes = bits.to_be_bytes();
    let kept = if unused >= 8 { &bytes[..1] } else { &bytes[..] };
    der(BITS, &[&[(unused % 8) as u8], kept])
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, PublicKeyData};
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;

    use super::*;

    fn signer() -> Signer {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap().pem();
        Signer::new(&certificate, key).unwrap()
    }

    fn request(names: &[&str]) -> String {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "team");
        params.distinguished_name.push(DnType::CommonName, "jane");
        let key = KeyPair::generate().unwrap();
        params.serialize_request(&key).unwrap().pem().unwrap()
    }

    #[test]
    fn what_is_asked_for_is_signed() {
        let signer = signer();
        let text = request(&["a.example", "10.0.0.1"]);
        let asked = signer.read(text.as_bytes()).unwrap();
        assert_eq!(
            (&*asked.common_name, asked.organizations),
            ("jane", vec!["team".to_owned()])
        );
        assert_eq!(
            (asked.dns_names, asked.addresses),
            (vec!["a.example".to_owned()], 1)
        );
        let usages = [
            "client auth",
            "digital signature",
            "key encipherment",
            "signing",
        ];
        let usages = usages.map(str::to_owned);
        let at = |second| Timestamp::from_second(second).unwrap();
        let terms = Terms {
            usages: &usages,
            from: at(1_000_000),
            to: at(2_000_000),
        };
        let made = signer.sign(text.as_bytes(), terms).unwrap();
        assert_eq!(signer.end_of(made.as_bytes()), Some(at(2_000_000)));
        let made = CertificateDer::from_pem_slice(made.as_bytes()).unwrap();
        let (rest, certificate) = X509Certificate::from_der(&made).unwrap();
        assert!(rest.is_empty());
        assert_eq!(certificate.validity().not_before.timestamp(), 1_000_000);
        assert_eq!(certificate.issuer().as_raw(), signer.name);
        assert!(!certificate.is_ca());
        let usage = certificate.key_usage().unwrap().unwrap().value;
        assert!(usage.digital_signature() && usage.key_encipherment() && !usage.key_cert_sign());
        let extended = certificate.extended_key_usage().unwrap().unwrap().value;
        assert!(extended.client_auth && !extended.server_auth);
        let other = certificate.subject_alternative_name().unwrap().unwrap();
        assert_eq!(other.value.general_names.len(), 2);
        let user = https::Peer::of(&made).unwrap();
        assert_eq!((&*user.name, &*user.groups[0]), ("jane", "team"));
        let key = signer.key.subject_public_key_info();
        let (_, key) = x509_parser::x509::SubjectPublicKeyInfo::from_der(&key).unwrap();
        certificate.verify_signature(Some(&key)).unwrap();
    }

    #[test]
    fn what_cannot_be_signed_is_said() {
        let signer = signer();
        let text = request(&[]);
        let terms = |usages| Terms {
            usages,
            from: signer.end,
            to: signer.end,
        };
        let unknown = ["flying".to_owned()];
        let refused = signer.sign(text.as_bytes(), terms(&unknown)).unwrap_err();
        assert_eq!(refused.to_string(), "unrecognized usage: flying");
        let refused = signer.sign(b"nothing", terms(&[])).unwrap_err();
        assert_eq!(refused, CertificateError::NoRequest);
        // Somebody else's signature.
        let (other, mine) = (request(&[]), request(&[]));
        let [other, mine] = [other, mine].map(|text| request::contents(text.as_bytes()).unwrap());
        let parsed = request::parse(&mine).unwrap();
        let theirs = request::parse(&other).unwrap();
        let forged = der(
            SEQUENCE,
            &[
                parsed.certification_request_info.raw,
                &der(SEQUENCE, &[&der(OID, &[ALGORITHM])]),
                &der(BITS, &[&[0], theirs.signature_value.data.as_ref()]),
            ],
        );
        let forged = pem::encode(&Pem::new("CERTIFICATE REQUEST", forged));
        let refused = signer.sign(forged.as_bytes(), terms(&[])).unwrap_err();
        assert_eq!(refused, CertificateError::Signature);
    }
}
