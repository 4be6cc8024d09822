//! Certificate requests and certificates as users send them, in PEM.

use ports::certificates::{Asked, CertificateError};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::{GeneralName, ParsedExtension, X509Extension};
use x509_parser::pem::{Pem, parse_x509_pem};
use x509_parser::prelude::{FromDer, X509Certificate};

/// The contents of the request in a PEM text.
pub(crate) fn contents(text: &[u8]) -> Result<Vec<u8>, CertificateError> {
    match parse_x509_pem(text) {
        Ok((_, pem)) if pem.label == "CERTIFICATE REQUEST" => Ok(pem.contents),
        _ => Err(CertificateError::NoRequest),
    }
}

/// Reads the contents of a request.
pub(crate) fn parse(contents: &[u8]) -> Result<X509CertificationRequest<'_>, CertificateError> {
    let malformed = |error: &dyn std::fmt::Display| CertificateError::Malformed(error.to_string());
    let (rest, request) =
        X509CertificationRequest::from_der(contents).map_err(|error| malformed(&error))?;
    match rest.is_empty() {
        true => Ok(request),
        false => Err(malformed(&"trailing data")),
    }
}

/// Whether a request in PEM is well formed and signed by the key it is for.
pub(crate) fn check(text: &[u8]) -> Result<Asked, CertificateError> {
    let contents = contents(text)?;
    let request = parse(&contents)?;
    let verified = request.verify_signature();
    verified.map_err(|_| CertificateError::Signature)?;
    Ok(asked(&request))
}

/// What a request says.
pub(crate) fn asked(request: &X509CertificationRequest<'_>) -> Asked {
    let subject = &request.certification_request_info.subject;
    let mut common = subject.iter_common_name();
    let common = common.next().and_then(|name| name.as_str().ok());
    let organizations = subject.iter_organization();
    let organizations = organizations.filter_map(|name| name.as_str().ok());
    let mut asked = Asked {
        common_name: common.unwrap_or_default().to_owned(),
        organizations: organizations.map(str::to_owned).collect(),
        ..Asked::default()
    };
    for extension in extensions(request) {
        let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else {
            continue;
        };
        for name in &names.general_names {
            match name {
                GeneralName::DNSName(name) => asked.dns_names.push((*name).to_owned()),
                GeneralName::IPAddress(_) => asked.addresses += 1,
                GeneralName::RFC822Name(_) => asked.emails += 1,
                GeneralName::URI(_) => asked.uris += 1,
                _ => {}
            }
        }
    }
    asked
}

/// The extensions a request asks for.
pub(crate) fn extensions<'r>(
    request: &'r X509CertificationRequest<'_>,
) -> impl Iterator<Item = &'r X509Extension<'r>> {
    let attributes = request.certification_request_info.iter_attributes();
    let asked = attributes.filter_map(|attribute| match attribute.parsed_attribute() {
        ParsedCriAttribute::ExtensionRequest(asked) => Some(&asked.extensions),
        _ => None,
    });
    asked.flatten()
}

/// What is wrong with certificates in PEM, in upstream's words where it has them.
pub(crate) fn wrong_certificates(text: &[u8]) -> Option<String> {
    let mut count = 0;
    for pem in Pem::iter_from_buffer(text) {
        let Ok(pem) = pem else {
            break;
        };
        if pem.label != "CERTIFICATE" {
            let label = api::gotext::quote(&pem.label);
            return Some(format!(
                "only CERTIFICATE PEM blocks are allowed, found {label}"
            ));
        }
        count += 1;
        if let Err(error) = X509Certificate::from_der(&pem.contents) {
            return Some(format!("x509: {error}"));
        }
    }
    (count == 0).then(|| "must contain at least one CERTIFICATE PEM block".to_owned())
}
