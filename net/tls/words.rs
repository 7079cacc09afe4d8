//! Errors in plain words, with what rustls said as their source.
//!
//! Knows rustls's errors; never mentions where they occur.
//!
//! # Read next
//! `tests/tls_errors.rs`: how each comes about.

use std::error::Error;
use std::fmt;
use std::io;

use rustls::{AlertDescription, CertificateError, InvalidMessage, PeerIncompatible};

use super::trust::was_self_signed;

/// Why TLS has failed. It is what stands in an [`io::Error`] of kind `InvalidData`; its source is
/// the error of rustls.
#[derive(Debug)]
pub struct Failure {
    words: String,
    cause: rustls::Error,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.cause)
    }
}

pub(super) fn failure(cause: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, Failure { words: words(&cause), cause })
}

/// The peer's input has ended, and not by its word.
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

fn words(error: &rustls::Error) -> String {
    use rustls::Error::{
        AlertReceived, DecryptError, EncryptError, InvalidCertificate, InvalidMessage as Invalid,
        NoApplicationProtocol, NoCertificatesPresented, PeerIncompatible as Incompatible,
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
        Incompatible(why) => of_incompatible(why),
        other => format!("TLS has failed: {other}"),
    }
}

const SELF_SIGNED: &str = "is self-signed, and not among those that are trusted here";

fn of_certificate(why: &CertificateError) -> String {
    match why {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "has expired".into(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "is not valid yet".into()
        }
        CertificateError::Revoked => "has been revoked".into(),
        CertificateError::UnknownIssuer => match was_self_signed() {
            Some(true) => SELF_SIGNED.into(),
            Some(false) => {
                "was not issued by anybody who is trusted here: the authority is unknown".into()
            }
            None => "was not issued by anybody who is trusted here: the authority is unknown, \
                     or it is self-signed"
                .into(),
        },
        CertificateError::NotValidForName => "is for another name".into(),
        CertificateError::NotValidForNameContext { expected, presented } => {
            let expected = expected.to_str();
            match &presented[..] {
                [] => format!("is not for {expected}, nor for any name"),
                names => format!("is not for {expected}, but for {}", names_of(names)),
            }
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "is for another purpose".into()
        }
        CertificateError::BadSignature => match was_self_signed() {
            Some(true) => SELF_SIGNED.into(),
            Some(false) => "was not signed by the authority that it names".into(),
            None => "has a signature that is wrong".into(),
        },
        CertificateError::BadEncoding => "cannot be read".into(),
        // What webpki finds and rustls has no word for; as `openssl req -x509` makes them.
        CertificateError::Other(other) if other.0.to_string() == "CaUsedAsEndEntity" => {
            "is an authority's (CA:TRUE), not a server's or a client's: \
             with -addext basicConstraints=CA:FALSE openssl makes one of those"
                .into()
        }
        other => format!("is not accepted: {other}"),
    }
}

/// The names in a certificate, as webpki shows them: `DnsName("a.example")`.
fn names_of(presented: &[String]) -> String {
    let bare = |name: &String| match name.split_once('(') {
        Some((_, inner)) => inner.trim_end_matches(')').trim_matches('"').to_owned(),
        None => name.clone(),
    };
    presented.iter().map(bare).collect::<Vec<_>>().join(", ")
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
            "we have no way to encrypt in common, or it wants a certificate from us".into()
        }
        A::InternalError => "something is wrong on its side".into(),
        A::BadRecordMac | A::DecryptError => "what we sent was changed on its way".into(),
        other => format!("{other:?}"),
    }
}

fn of_incompatible(why: &PeerIncompatible) -> String {
    use PeerIncompatible as P;
    match why {
        P::NoCipherSuitesInCommon
        | P::NoKxGroupsInCommon
        | P::NoSignatureSchemesInCommon
        | P::NoCertificateRequestSignatureSchemesInCommon => {
            format!("the peer and we have no way to encrypt in common ({why:?})")
        }
        P::ServerDoesNotSupportTls12Or13
        | P::SignatureAlgorithmsExtensionRequired // which TLS 1.1 did not have
        | P::ServerTlsVersionIsDisabledByOurConfig
        | P::SupportedVersionsExtensionRequired
        | P::Tls12NotOffered
        | P::Tls12NotOfferedOrEnabled => {
            format!("the peer and we have no version of TLS in common ({why:?})")
        }
        other => format!("the peer's TLS does not suit ours: {other:?}"),
    }
}
