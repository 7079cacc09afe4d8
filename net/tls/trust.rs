//! Who is trusted: webpki's verdict, and for one that nobody vouches for whether it tried itself.
//!
//! rustls has one error for an authority that is unknown and for a certificate that is self-signed,
//! and what is to be done differs: the first wants a root, the second the certificate itself. So
//! one that was refused is verified again, as if it were a root. The verdict stays the first one.
//!
//! # Read next
//! `words.rs`: what is said of it.

use std::cell::Cell;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::pem::provider;

thread_local! {
    /// Of the certificate that was refused last, until its error is put into words: the error is
    /// rustls's, and has no room for it.
    static SELF_SIGNED: Cell<Option<bool>> = const { Cell::new(None) };
}

/// Whether the certificate of the error at hand was self-signed, if anybody has looked.
pub(super) fn was_self_signed() -> Option<bool> {
    SELF_SIGNED.take()
}

/// Verifies servers as webpki does.
#[derive(Debug)]
pub(super) struct Verifier(pub(super) Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict = self.0.verify_server_cert(shown, others, name, ocsp, now);
        // Of one that bears the name of a root, such as yesterday's, the signature is called bad.
        let is_unvouched = matches!(
            verdict,
            Err(Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature
            ))
        );
        SELF_SIGNED.set(is_unvouched.then(|| is_self_signed(shown, now)));
        verdict
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, shown, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, shown, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[rustls::DistinguishedName]> {
        self.0.root_hint_subjects()
    }
}

/// Whether a certificate was issued by whoever it names, with the key that it holds.
fn is_self_signed(shown: &CertificateDer<'_>, now: UnixTime) -> bool {
    let mut itself = RootCertStore::empty();
    let Ok(parsed) = ParsedCertificate::try_from(shown) else { return false };
    let algorithms = provider().signature_verification_algorithms.all;
    itself.add(shown.clone().into_owned()).is_ok()
        && verify_server_cert_signed_by_trust_anchor(&parsed, &itself, &[], now, algorithms).is_ok()
}
