//! Certificates and keys as PEM text (RFC 7468), which is what one has of them.
//!
//! Errors say what is wrong with the text; they are `InvalidInput`.
//!
//! # Read next
//! `handshake.rs`: where they are used.

use std::io;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};

/// The cryptography: named here, so that nothing depends on what a program installs.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

pub(super) fn invalid(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what.into())
}

/// A certificate with those that certify it, and its key.
pub(super) fn certified(chain: &[u8], key: &[u8]) -> io::Result<Arc<CertifiedKey>> {
    let chain = certificates(chain)?;
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|error| invalid(format!("no private key {}", why_no_key(&error, key))))?;
    let certified =
        CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                invalid("the private key is not that of the certificate")
            }
            error => invalid(format!("the certificate or its key is of no use: {error}")),
        })?;
    Ok(Arc::new(certified))
}

/// Those whose signatures are trusted.
pub(super) fn roots(pem: &[u8]) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for root in certificates(pem)? {
        roots.add(root).map_err(|error| invalid(format!("a root is of no use: {error}")))?;
    }
    Ok(roots)
}

fn certificates(pem: &[u8]) -> io::Result<Vec<CertificateDer<'static>>> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        other => {
            let error = other.err().unwrap_or(pem::Error::NoItemsFound);
            Err(invalid(format!("no certificate {}", why_not(&error, pem))))
        }
    }
}

fn why_no_key(error: &pem::Error, text: &[u8]) -> String {
    // PKCS #8 says it in the first line, the older formats in a header (RFC 1421, 4.6.1.1).
    if has(text, b"BEGIN ENCRYPTED") || has(text, b"Proc-Type: 4,ENCRYPTED") {
        return "can be read from the PEM: it is encrypted; `openssl pkey -in …` asks for the \
                password and writes it in the clear"
            .into();
    }
    why_not(error, text)
}

fn has(text: &[u8], words: &[u8]) -> bool {
    text.windows(words.len()).any(|window| window == words)
}

/// The usual mistakes by name, and what to do about them.
fn why_not(error: &pem::Error, text: &[u8]) -> String {
    match error {
        pem::Error::NoItemsFound => match (has(text, b"-----BEGIN "), text.first()) {
            (true, _) => "is in the PEM, only something else: is it the wrong file?".into(),
            (_, Some(0x30)) => "is in the PEM: it is DER; openssl's -inform DER reads that".into(),
            _ => "is in the PEM".into(),
        },
        pem::Error::MissingSectionEnd { .. } => {
            "can be read from the PEM: it ends in the middle, before an END line".into()
        }
        other => format!("can be read from the PEM: {other}"),
    }
}

/// The names of protocols, most wanted first.
pub(super) fn protocols<I>(names: I) -> Vec<Vec<u8>>
where
    I: IntoIterator<Item: AsRef<[u8]>>,
{
    names.into_iter().map(|name| name.as_ref().to_vec()).collect()
}
