//! Trust: webpki's verdict, and a second look at a certificate that it refuses, for the text of
//! the error.
//!
//! rustls has one error for an authority that is unknown and for a certificate that is self-signed,
//! and the remedies differ: a root for the first, for the second the certificate itself. So one
//! that was refused is verified again, as if it were a root. It also has one error for a signature
//! that is wrong and for one by a key that ring does not take. The verdict stays webpki's.
//!
//! # Read next
//! `failure.rs`: the text of the errors.

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};

use super::der::{Key, Names};
use super::pem::provider;

/// RSA keys whose signatures ring verifies, by their length in bits.
const RSA_BITS: RangeInclusive<usize> = 2048..=8192;

/// The cause for which a certificate was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// Only it vouches for itself.
    SelfSigned,
    /// Another certificate vouches for it.
    Issued,
    /// Its key is of this kind, which is not taken.
    Key(Key),
    /// Its issuer's is.
    IssuersKey(Key),
    /// Its owner could not show that the key is theirs.
    Unproven,
}

thread_local! {
    /// Of the certificate that was refused last, until its error is put into words: the error is
    /// rustls's, and has no room for it.
    static FOUND: RefCell<Option<Finding>> = const { RefCell::new(None) };
}

/// The finding for the certificate of the present error, if there was a second look.
pub(super) fn take_finding() -> Option<Finding> {
    FOUND.take()
}

/// Verifies servers, or clients, as webpki does, and looks at those that it refuses.
#[derive(Debug)]
pub(super) struct Verifier<V: ?Sized> {
    verifier: Arc<V>,
    roots: Arc<RootCertStore>,
}

impl<V: ?Sized> Verifier<V> {
    pub(super) fn new(verifier: Arc<V>, roots: Arc<RootCertStore>) -> Verifier<V> {
        Verifier { verifier, roots }
    }

    /// Looks at a chain that was refused.
    fn look<T>(
        &self,
        verdict: Result<T, Error>,
        shown: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<T, Error> {
        // Of one that bears the name of a root, such as yesterday's, the signature is called bad.
        let finding = match &verdict {
            Err(Error::InvalidCertificate(
                why @ (CertificateError::UnknownIssuer
                | CertificateError::BadSignature
                | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
                    ..
                }),
            )) => Some(match self.issuers_key(shown, others) {
                Some(key) if why != &CertificateError::UnknownIssuer => Finding::IssuersKey(key),
                _ if is_self_signed(shown, now) => Finding::SelfSigned,
                _ => Finding::Issued,
            }),
            _ => None,
        };
        FOUND.set(finding);
        verdict
    }

    /// The first key by which one of the chain is signed, and that is not taken.
    fn issuers_key(
        &self,
        shown: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
    ) -> Option<Key> {
        let names = || std::iter::once(shown).chain(others).filter_map(|one| Names::of(one));
        let is_issuer = |subject: &[u8]| names().any(|names| names.issuer == subject);
        let roots = self.roots.roots.iter();
        let roots = roots.map(|root| (&*root.subject, &*root.subject_public_key_info));
        let others = others.iter().filter_map(|other| Names::of(other));
        let all = roots.chain(others.map(|other| (other.subject, other.key)));
        all.filter(|(subject, _)| is_issuer(subject)).find_map(|(_, key)| not_taken(key))
    }
}

/// Looks at a certificate whose owner did not prove that it is theirs.
fn look_at_proof<T>(verdict: Result<T, Error>, shown: &CertificateDer<'_>) -> Result<T, Error> {
    if verdict.is_err() {
        let key = Names::of(shown).and_then(|names| not_taken(names.key));
        FOUND.set(Some(key.map_or(Finding::Unproven, Finding::Key)));
    }
    verdict
}

/// The kind of a key, if it is one that is not taken.
fn not_taken(key: &[u8]) -> Option<Key> {
    Key::of_public(key).filter(|key| !key.is_taken(RSA_BITS))
}

/// The methods that both kinds of verifiers share.
macro_rules! verifies_proofs {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            shown: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            look_at_proof(self.verifier.verify_tls12_signature(message, shown, signed), shown)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            shown: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            look_at_proof(self.verifier.verify_tls13_signature(message, shown, signed), shown)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.verifier.supported_verify_schemes()
        }
    };
}

impl ServerCertVerifier for Verifier<WebPkiServerVerifier> {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict = self.verifier.verify_server_cert(shown, others, name, ocsp, now);
        self.look(verdict, shown, others, now)
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        self.verifier.root_hint_subjects()
    }

    verifies_proofs!();
}

impl ClientCertVerifier for Verifier<dyn ClientCertVerifier> {
    fn client_auth_mandatory(&self) -> bool {
        self.verifier.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        shown: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.look(self.verifier.verify_client_cert(shown, others, now), shown, others, now)
    }

    verifies_proofs!();
}

/// Returns true if a certificate names itself as its issuer, and its own key has signed it. If it
/// cannot be verified at all, the names decide.
fn is_self_signed(shown: &CertificateDer<'_>, now: UnixTime) -> bool {
    let mut itself = RootCertStore::empty();
    let Ok(parsed) = ParsedCertificate::try_from(shown) else { return false };
    let algorithms = provider().signature_verification_algorithms.all;
    if itself.add(shown.clone().into_owned()).is_err() {
        return false;
    }
    match verify_server_cert_signed_by_trust_anchor(&parsed, &itself, &[], now, algorithms) {
        Ok(()) => true,
        verdict => Names::of(shown).is_some_and(|names| {
            let forged = Err(Error::InvalidCertificate(CertificateError::BadSignature));
            names.issuer == names.subject && (verdict != forged || not_taken(names.key).is_some())
        }),
    }
}
