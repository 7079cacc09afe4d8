//! Certificates and keys as PEM text (RFC 7468), the usual form of their files.
//!
//! Errors say what is wrong with the text; they are `InvalidInput`. The changes that
//! editors make are no mistake: a mark in front (BOM), UTF-16, indented lines.
//!
//! # Read next
//! `handshake.rs`: where they are used.

use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};

use super::der::Key;
use super::failure::of_own;

/// RSA keys with which ring signs, by their length in bits; it verifies those of others up to 8192.
const RSA_BITS: RangeInclusive<usize> = 2048..=4096;

/// The cryptography: named here, so that it does not depend on a provider that a program installs.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

pub(super) fn invalid(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what.into())
}

/// A certificate with those that certify it, and its key.
pub(super) fn certified(chain: &[u8], key: &[u8]) -> io::Result<Arc<CertifiedKey>> {
    let chain = certificates(chain)?;
    let text = plain(key);
    let key = PrivateKeyDer::from_pem_slice(&text)
        .map_err(|error| invalid(format!("no private key {}", why_no_key(&error, key, &text))))?;
    let kind = Key::of_private(&key);
    let certified =
        CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                invalid("the private key is not that of the certificate")
            }
            Error::General(_) => invalid(format!("the private key {}", why_not_taken(kind))),
            error => invalid(format!("the certificate {}", of_own(&error))),
        })?;
    Ok(Arc::new(certified))
}

/// Those whose signatures are trusted.
pub(super) fn roots(pem: &[u8]) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for root in certificates(pem)? {
        roots.add(root).map_err(|error| invalid(format!("a root {}", of_own(&error))))?;
    }
    Ok(roots)
}

fn certificates(pem: &[u8]) -> io::Result<Vec<CertificateDer<'static>>> {
    let text = plain(pem);
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        other => {
            let error = other.err().unwrap_or(pem::Error::NoItemsFound);
            Err(invalid(format!("no certificate {}", why_not(&error, pem, &text))))
        }
    }
}

/// The text without the marks and spaces that editors add.
fn plain(pem: &[u8]) -> Vec<u8> {
    let wide = |bytes: &[u8], read: fn([u8; 2]) -> u16| {
        let units = bytes.chunks_exact(2).map(|pair| read([pair[0], pair[1]]));
        char::decode_utf16(units).map(|char| char.unwrap_or('?')).collect::<String>().into_bytes()
    };
    let text = match pem {
        [0xff, 0xfe, rest @ ..] => wide(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => wide(rest, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => rest.to_vec(),
        text => text.to_vec(),
    };
    let lines = text.split(|byte| matches!(byte, b'\n' | b'\r')).map(<[u8]>::trim_ascii);
    lines.collect::<Vec<_>>().join(&b'\n')
}

fn why_not_taken(kind: Option<Key>) -> String {
    match kind {
        None => "cannot be read: it is damaged, or of a kind that is not known here".into(),
        Some(kind) if kind.is_taken(RSA_BITS) => {
            format!("cannot be used: it is {kind}, and damaged, or without its public half")
        }
        Some(kind) => format!(
            "is of a kind that is not taken here, {kind}: RSA of {} to {} bits, EC on P-256 or \
             P-384, and Ed25519 are",
            RSA_BITS.start(),
            RSA_BITS.end()
        ),
    }
}

fn why_no_key(error: &pem::Error, given: &[u8], text: &[u8]) -> String {
    // PKCS #8 says it in the first line, the older formats in a header (RFC 1421, 4.6.1.1).
    if has(text, b"BEGIN ENCRYPTED") || has(text, b"Proc-Type: 4,ENCRYPTED") {
        return "can be read from the PEM: it is encrypted; `openssl pkey -in …` asks for the \
                password and writes it in the clear"
            .into();
    }
    why_not(error, given, text)
}

fn has(text: &[u8], words: &[u8]) -> bool {
    text.windows(words.len()).any(|window| window == words)
}

/// The usual mistakes by name, and their remedies. `given` is the text as it was given.
fn why_not(error: &pem::Error, given: &[u8], text: &[u8]) -> String {
    const JOINED: &str = "can be read from the PEM: its lines are joined; BEGIN, END and what is \
                          between want lines of their own";
    match error {
        // As environment variables and JSON often have it.
        _ if has(text, b"-----\\n") => {
            "can be read from the PEM: its line breaks are spelled \\n, and must be real ones"
                .into()
        }
        pem::Error::NoItemsFound => match (label(text), given) {
            (Some(label), _) => {
                format!("is in the PEM, only something else: is it the wrong file? ({label})")
            }
            // A version and no other number comes first in it (RFC 7292, 4).
            (_, [0x30, 0x82, _, _, 2, 1, 3, ..]) => {
                "is in the PEM: it is PKCS #12; `openssl pkcs12 -nodes -in …` writes PEM".into()
            }
            (_, [0x30, ..]) => "is in the PEM: it is DER; openssl's -inform DER reads that".into(),
            _ => "is in the PEM".into(),
        },
        pem::Error::MissingSectionEnd { end_marker } if has(end_marker, b"-----") => JOINED.into(),
        pem::Error::MissingSectionEnd { .. } => {
            "can be read from the PEM: it ends in the middle, before an END line".into()
        }
        pem::Error::IllegalSectionStart { line } if line.len() > 64 => JOINED.into(),
        pem::Error::IllegalSectionStart { line } => {
            let line = String::from_utf8_lossy(line);
            format!("can be read from the PEM: a line is no BEGIN line, but nearly: {line}")
        }
        pem::Error::Base64Decode(_) => "can be read from the PEM: between its BEGIN and END is no \
                                        base64; something was lost or changed"
            .into(),
        other => format!("can be read from the PEM: {other}"),
    }
}

/// The kind of the first section of a PEM.
fn label(text: &[u8]) -> Option<String> {
    const BEGIN: &[u8] = b"-----BEGIN ";
    let at = text.windows(BEGIN.len()).position(|window| window == BEGIN)? + BEGIN.len();
    let label = text[at..].split(|byte| matches!(byte, b'-' | b'\n')).next()?;
    Some(String::from_utf8_lossy(label).into_owned())
}

/// The names of protocols, most wanted first.
pub(super) fn protocols<I>(names: I) -> Vec<Vec<u8>>
where
    I: IntoIterator<Item: AsRef<[u8]>>,
{
    names.into_iter().map(|name| name.as_ref().to_vec()).collect()
}
