//! Certificates: what a request for one says, and the authority that signs them.

use jiff::Timestamp;
use thiserror::Error;

/// What a certificate request (PKCS #10) says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Asked {
    /// The subject's common name; a user.
    pub common_name: String,
    /// The subject's organizations; groups.
    pub organizations: Vec<String>,
    /// Other names of the subject, by their kinds.
    pub dns_names: Vec<String>,
    /// How many of them are IP addresses.
    pub addresses: usize,
    /// How many of them are addresses of e-mail.
    pub emails: usize,
    /// How many of them are URIs.
    pub uris: usize,
}

/// A certificate that is to be signed.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// Usages in the API's words, such as `client auth`.
    pub usages: &'a [String],
    /// From when it counts.
    pub from: Timestamp,
    /// Until when.
    pub to: Timestamp,
}

/// Why a request cannot be read or signed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CertificateError {
    /// There is no such PEM block.
    #[error("PEM block type must be CERTIFICATE REQUEST")]
    NoRequest,
    /// What is in the block is no request.
    #[error("x509: {0}")]
    Malformed(String),
    /// The request was not signed with the key it is for.
    #[error("x509: the signature of the request is not by its key")]
    Signature,
    /// A usage nobody knows.
    #[error("unrecognized usage: {0}")]
    Usage(String),
    /// The key of the authority did not sign.
    #[error("failed to sign certificate: {0}")]
    Key(String),
}

/// Who signs certificates.
pub trait Authority: Send + Sync {
    /// Reads a request in PEM.
    ///
    /// # Errors
    /// It is none.
    fn read(&self, request: &[u8]) -> Result<Asked, CertificateError>;

    /// Signs what a request in PEM asks for, and returns the certificate in PEM.
    ///
    /// # Errors
    /// The request cannot be read, is not signed by its key, or asks for what is unknown.
    fn sign(&self, request: &[u8], terms: Terms<'_>) -> Result<String, CertificateError>;

    /// Until when the authority's own certificate counts; nothing it signs counts longer.
    fn end(&self) -> Timestamp;

    /// Until when the first certificate in a PEM text counts.
    fn end_of(&self, certificate: &[u8]) -> Option<Timestamp>;
}
