//! Errors in plain words, with the error of rustls as their source.
//!
//! Knows rustls's errors; never mentions where they occur.
//!
//! # Read next
//! `../../tests/tls/errors.rs`: how each comes about.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::IpAddr;

use rustls::pki_types::ServerName;
use rustls::{
    AlertDescription, CertificateError, ExtendedKeyPurpose, InvalidMessage, PeerIncompatible,
};

use super::der::signature;
use super::trust::{Finding, take_finding};

/// Why TLS has failed. An [`io::Error`] of kind `InvalidData` contains one; its source is the error
/// of rustls.
#[derive(Debug)]
pub struct Failure {
    text: String,
    cause: rustls::Error,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.cause)
    }
}

pub(super) fn failure(cause: rustls::Error) -> io::Error {
    let text = text_of(&cause);
    take_finding(); // It is of this error and of no other.
    io::Error::new(io::ErrorKind::InvalidData, Failure { text, cause })
}

/// The peer's input has ended without close_notify.
pub(super) fn cut_off(handshaking: bool) -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        match handshaking {
            true => "the peer closed the connection in the middle of the TLS handshake",
            false => {
                "the connection ended without the peer's goodbye (close_notify): \
                      what it sent may have been cut off"
            }
        },
    )
}

fn text_of(error: &rustls::Error) -> String {
    use rustls::Error::{
        AlertReceived, DecryptError, EncryptError, InappropriateHandshakeMessage,
        InappropriateMessage, InvalidCertificate, InvalidMessage as Invalid, NoApplicationProtocol,
        NoCertificatesPresented, PeerIncompatible as Incompatible, PeerMisbehaved,
    };
    match error {
        InvalidCertificate(why) => format!("the peer's certificate {}", of_certificate(why)),
        NoCertificatesPresented => "the peer showed no certificate".into(),
        AlertReceived(alert) => format!("the peer gave up: {}", of_alert(*alert)),
        NoApplicationProtocol => "the peer offers no protocol (ALPN) that is spoken here".into(),
        DecryptError => "a record was changed on its way, or made with another key".into(),
        EncryptError => "the keys are used up, and TLS 1.2 has no way to change them".into(),
        Invalid(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion) => {
            "the peer does not speak TLS".into()
        }
        Invalid(why) => format!("TLS has failed: a message cannot be read: {}", spelled(why)),
        InappropriateMessage { .. } | InappropriateHandshakeMessage { .. } => {
            "TLS has failed: the peer sent a message out of its turn".into()
        }
        PeerMisbehaved(why) => {
            format!("TLS has failed: the peer broke its rules: {}", spelled(why))
        }
        Incompatible(why) => of_incompatible(why),
        other => format!("TLS has failed: {other}"),
    }
}

/// The text for an error of our own certificate.
pub(super) fn of_own(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(why) => of_certificate(why),
        other => format!("is of no use: {other}"),
    }
}

fn of_certificate(why: &CertificateError) -> String {
    match why {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "has expired".into(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "is not valid yet".into()
        }
        CertificateError::Revoked => "has been revoked".into(),
        CertificateError::UnknownIssuer => of_unknown(take_finding()).into(),
        CertificateError::NotValidForName => "is for another name".into(),
        CertificateError::NotValidForNameContext { expected, presented } => {
            of_names(expected, presented)
        }
        CertificateError::InvalidPurpose => "is for another purpose".into(),
        CertificateError::InvalidPurposeContext { required, presented } => {
            let others: Vec<String> = presented.iter().map(of_purpose).collect();
            let others = others.join(", ");
            format!("is for another purpose: {others}, not {}", of_purpose(required))
        }
        CertificateError::BadSignature => of_signature(take_finding(), BAD_SIGNATURE),
        CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            of_signature(take_finding(), "was signed by a key that is not taken here")
        }
        CertificateError::UnsupportedSignatureAlgorithmContext {
            signature_algorithm_id, ..
        } => match signature(signature_algorithm_id) {
            old if old.starts_with("MD") || old.starts_with("SHA-1 ") => {
                format!("is signed by {old}, which is too weak to be trusted")
            }
            other => format!("is signed by {other}, which is not taken here"),
        },
        CertificateError::BadEncoding => "cannot be read".into(),
        CertificateError::Other(other) => of_webpki(&other.0.to_string()),
        other => format!("is not accepted: {}", spelled(other)),
    }
}

/// Of a verifier that is not ours: the cause was not looked for.
const BAD_SIGNATURE: &str =
    "has a signature that is wrong, or by a key of a kind that is not taken here";
const SELF_SIGNED: &str = "is self-signed, and not among those that are trusted here";

fn of_unknown(finding: Option<Finding>) -> &'static str {
    match finding {
        Some(Finding::SelfSigned) => SELF_SIGNED,
        Some(_) => "was not issued by anybody who is trusted here: the authority is unknown",
        None => {
            "was not issued by anybody who is trusted here: the authority is unknown, or it is \
             self-signed"
        }
    }
}

fn of_signature(finding: Option<Finding>, unknown: &str) -> String {
    const TAKEN: &str = "RSA of 2048 to 8192 bits, EC on P-256 or P-384, and Ed25519 are";
    match finding {
        Some(Finding::SelfSigned) => SELF_SIGNED.into(),
        Some(Finding::Issued) => "was not signed by the authority that it names".into(),
        Some(Finding::Key(key)) => format!("has a key that is not taken here, {key}: {TAKEN}"),
        Some(Finding::IssuersKey(key)) => {
            format!("was signed by a key that is not taken here, {key}: {TAKEN}")
        }
        Some(Finding::Unproven) => "is somebody else's: the peer could not prove that it has its \
                                    key"
        .into(),
        None => unknown.into(),
    }
}

/// Errors of webpki for which rustls has no variant, by the name that they have there.
fn of_webpki(name: &str) -> String {
    match name {
        // As `openssl req -x509` makes them.
        "CaUsedAsEndEntity" => "is an authority's (CA:TRUE), not a server's or a client's: \
                                with -addext basicConstraints=CA:FALSE openssl makes one of those"
            .into(),
        // As `openssl x509 -req` makes them.
        "UnsupportedCertVersion" => "is of version 1, which has no place for names: with an \
                                     -extfile openssl makes one of version 3"
            .into(),
        "UnsupportedCriticalExtension" => {
            "has an extension that is marked critical and not known here".into()
        }
        "EndEntityUsedAsCa" => "was issued by one that is no authority's (CA:FALSE)".into(),
        "NameConstraintViolation" => "is for a name that its authority may not certify".into(),
        "PathLenConstraintViolated" => {
            "has more authorities behind it than one of them allows".into()
        }
        "SignatureAlgorithmMismatch" => "names two ways in which it is signed".into(),
        "UnsupportedNameType" => "cannot be compared with a name of this kind".into(),
        most if most.starts_with("Maximum") => "has too many others behind it".into(),
        other => format!("is not as it should be: {}", spelled(other)),
    }
}

/// The name of something in rustls or webpki in words: `MalformedDnsIdentifier`.
fn spelled(name: impl fmt::Debug) -> String {
    let name = format!("{name:?}");
    let mut words = String::new();
    for char in name.trim_matches('"').chars() {
        if char.is_ascii_uppercase() && words.ends_with(|last: char| last.is_ascii_alphanumeric()) {
            words.push(' ');
        }
        words.push(char.to_ascii_lowercase());
    }
    words
}

fn of_purpose(purpose: &ExtendedKeyPurpose) -> String {
    match purpose {
        ExtendedKeyPurpose::Other(parts) => {
            parts.iter().map(usize::to_string).collect::<Vec<_>>().join(".")
        }
        known => known.to_string(),
    }
}

fn of_names(expected: &ServerName<'_>, presented: &[String]) -> String {
    let (wanted, names) = (expected.to_str(), names_of(presented));
    let is_wanted = |name: &String| match expected {
        ServerName::IpAddress(addr) => name.parse() == Ok(IpAddr::from(*addr)),
        _ => false,
    };
    if names.is_empty() {
        return format!("is not for {wanted}, nor for any name: its subject (CN) does not count");
    }
    if names.iter().any(is_wanted) {
        return format!(
            "is not for the address {wanted}, but for a host of that name: an address is named by \
             IP:{wanted}, not by DNS:{wanted}"
        );
    }
    format!("is not for {wanted}, but for {}", names.join(", "))
}

/// The names in a certificate, as webpki shows them: `DnsName("a.example")`.
fn names_of(presented: &[String]) -> Vec<String> {
    let bare = |name: &String| match name.split_once('(') {
        Some((_, inner)) => inner.trim_end_matches(')').trim_matches('"').to_owned(),
        None => name.clone(),
    };
    presented.iter().map(bare).collect()
}

fn of_alert(alert: AlertDescription) -> String {
    use AlertDescription as A;
    match alert {
        A::CertificateRequired => "it wants a certificate from us".into(),
        A::UnknownCA => "it does not know who issued our certificate".into(),
        A::CertificateExpired => "our certificate has expired".into(),
        A::CertificateRevoked => "our certificate has been revoked".into(),
        A::BadCertificate | A::CertificateUnknown | A::UnsupportedCertificate => {
            "it does not accept our certificate".into()
        }
        A::AccessDenied => "it denies us access".into(),
        A::UnrecognisedName => "it does not know the name we asked for".into(),
        A::NoApplicationProtocol => "it speaks none of our protocols (ALPN)".into(),
        A::ProtocolVersion => "we have no version of TLS in common".into(),
        A::HandshakeFailure | A::InsufficientSecurity => {
            "we have no way to encrypt or to sign in common, or it wants a certificate from us"
                .into()
        }
        A::InternalError => "something is wrong on its side".into(),
        A::BadRecordMac | A::DecryptError => "what we sent was changed on its way".into(),
        other => spelled(other),
    }
}

fn of_incompatible(why: &PeerIncompatible) -> String {
    use PeerIncompatible as P;
    match why {
        P::NoCipherSuitesInCommon => "the peer and we have no way to encrypt in common".into(),
        P::NoKxGroupsInCommon => "the peer and we have no way to agree on keys in common".into(),
        P::NoSignatureSchemesInCommon | P::NoCertificateRequestSignatureSchemesInCommon => {
            "the peer and we have no way to sign in common: one does not take the other's kind of \
             key"
            .into()
        }
        P::ServerDoesNotSupportTls12Or13
        | P::SignatureAlgorithmsExtensionRequired // which TLS 1.1 did not have
        | P::ServerTlsVersionIsDisabledByOurConfig
        | P::SupportedVersionsExtensionRequired
        | P::Tls12NotOffered
        | P::Tls12NotOfferedOrEnabled => {
            "the peer and we have no version of TLS in common".into()
        }
        other => format!("the peer's TLS does not suit ours: {}", spelled(other)),
    }
}
