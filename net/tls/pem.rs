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
use rustls::pki_types::pem::PemObject;
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
        .map_err(|error| invalid(format!("no private key can be read from the PEM: {error}")))?;
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
    let all = all.map_err(|error| invalid(format!("the PEM cannot be read: {error}")))?;
    if all.is_empty() { Err(invalid("there is no certificate in the PEM")) } else { Ok(all) }
}

/// The names of protocols, most wanted first.
pub(super) fn protocols<I>(names: I) -> Vec<Vec<u8>>
where
    I: IntoIterator<Item: AsRef<[u8]>>,
{
    names.into_iter().map(|name| name.as_ref().to_vec()).collect()
}
