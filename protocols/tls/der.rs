//! DER, as far as the text of an error needs it: the kind of a key, and the issuer of a
//! certificate.
//!
//! Knows the forms of keys and certificates; never decides which are trusted.
//!
//! # Read next
//! `failure.rs`: the text of the errors.

use std::fmt;
use std::ops::RangeInclusive;

use rustls::pki_types::PrivateKeyDer;

const INTEGER: u8 = 0x02;
const BITS: u8 = 0x03;
const BYTES: u8 = 0x04;
const NUMBER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
/// The first optional field: the version of a certificate, the curve of a key.
const FIRST: u8 = 0xa0;

const RSA: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";
const EC: &[u8] = b"\x2a\x86\x48\xce\x3d\x02\x01";
const ED25519: &[u8] = b"\x2b\x65\x70";
const P256: &[u8] = b"\x2a\x86\x48\xce\x3d\x03\x01\x07";
const P384: &[u8] = b"\x2b\x81\x04\x00\x22";

/// Kinds of keys, curves, and ways to sign, by their numbers (object identifiers).
const NAMES: [(&[u8], &str); 22] = [
    (RSA, "RSA"),
    (EC, "EC"),
    (ED25519, "Ed25519"),
    (b"\x2b\x65\x71", "Ed448"),
    (b"\x2b\x65\x6e", "X25519"),
    (b"\x2b\x65\x6f", "X448"),
    (b"\x2a\x86\x48\xce\x38\x04\x01", "DSA"),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a", "RSA-PSS"),
    (P256, "P-256"),
    (P384, "P-384"),
    (b"\x2b\x81\x04\x00\x23", "P-521"),
    (b"\x2b\x81\x04\x00\x21", "P-224"),
    (b"\x2b\x81\x04\x00\x0a", "secp256k1"),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x02", "MD2 with RSA"),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x04", "MD5 with RSA"),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05", "SHA-1 with RSA"),
    (b"\x2a\x86\x48\xce\x3d\x04\x01", "SHA-1 with ECDSA"),
    (b"\x2a\x86\x48\xce\x38\x04\x03", "SHA-1 with DSA"),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0e", "SHA-224 with RSA"),
    (b"\x2a\x86\x48\xce\x3d\x04\x03\x01", "SHA-224 with ECDSA"),
    (b"\x2a\x86\x48\xce\x3d\x04\x03\x04", "SHA-512 with ECDSA"),
    (b"\x60\x86\x48\x01\x65\x03\x04\x03\x02", "SHA-256 with DSA"),
];

/// Takes the next element of `input`, if it has this tag; returns its contents.
fn take<'a>(input: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (head, mut rest) = input.split_at_checked(2)?;
    let mut count = usize::from(head[1]);
    if count >= 0x80 {
        let (bytes, behind) = rest.split_at_checked(count - 0x80)?;
        if !(1..=4).contains(&bytes.len()) {
            return None;
        }
        count = bytes.iter().fold(0, |count, byte| count << 8 | usize::from(*byte));
        rest = behind;
    }
    let (contents, behind) = rest.split_at_checked(count)?;
    if head[0] != tag {
        return None;
    }
    *input = behind;
    Some(contents)
}

/// A kind of key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Rsa { bits: usize },
    Curve { name: String, is_taken: bool },
    Ed25519,
    Other { name: String },
}

impl Key {
    /// Of a private key; `None` if it cannot be read.
    pub(super) fn of_private(key: &PrivateKeyDer<'_>) -> Option<Key> {
        let mut der = key.secret_der();
        let mut fields = take(&mut der, SEQUENCE)?;
        let _version = take(&mut fields, INTEGER)?;
        match key {
            PrivateKeyDer::Pkcs1(_) => Key::of_modulus(take(&mut fields, INTEGER)?),
            PrivateKeyDer::Sec1(_) => {
                take(&mut fields, BYTES)?;
                Key::on_curve(take(&mut fields, FIRST)?)
            }
            _ => {
                let algorithm = take(&mut fields, SEQUENCE)?;
                let mut inner = take(&mut fields, BYTES)?;
                Key::of(algorithm, || {
                    let mut inner = take(&mut inner, SEQUENCE)?;
                    take(&mut inner, INTEGER)?;
                    take(&mut inner, INTEGER)
                })
            }
        }
    }

    /// Of a public key: the contents of a SubjectPublicKeyInfo (RFC 5280, 4.1).
    pub(super) fn of_public(mut info: &[u8]) -> Option<Key> {
        let algorithm = take(&mut info, SEQUENCE)?;
        let bits = take(&mut info, BITS)?;
        Key::of(algorithm, || {
            let mut inner = bits.strip_prefix(&[0])?;
            take(&mut take(&mut inner, SEQUENCE)?, INTEGER)
        })
    }

    /// By an algorithm's number and its parameters; `modulus` reads that of an RSA key.
    fn of<'a>(mut algorithm: &[u8], modulus: impl FnOnce() -> Option<&'a [u8]>) -> Option<Key> {
        match take(&mut algorithm, NUMBER)? {
            RSA => Key::of_modulus(modulus()?),
            EC => Key::on_curve(algorithm),
            ED25519 => Some(Key::Ed25519),
            other => Some(Key::Other { name: name(other) }),
        }
    }

    fn of_modulus(modulus: &[u8]) -> Option<Key> {
        let first = modulus.iter().position(|byte| *byte != 0)?;
        let modulus = &modulus[first..];
        Some(Key::Rsa { bits: modulus.len() * 8 - modulus[0].leading_zeros() as usize })
    }

    /// Where no name follows, the curve is described number by number.
    fn on_curve(mut parameters: &[u8]) -> Option<Key> {
        Some(match take(&mut parameters, NUMBER) {
            Some(curve) => {
                Key::Curve { name: name(curve), is_taken: [P256, P384].contains(&curve) }
            }
            None => Key::Curve { name: "a curve without a name".into(), is_taken: false },
        })
    }

    /// Returns true if it is of a kind that is taken here, with so many bits if it is RSA.
    pub(super) fn is_taken(&self, rsa_bits: RangeInclusive<usize>) -> bool {
        match self {
            Key::Rsa { bits } => rsa_bits.contains(bits),
            Key::Curve { is_taken, .. } => *is_taken,
            Key::Ed25519 => true,
            Key::Other { .. } => false,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Rsa { bits } => write!(f, "RSA of {bits} bits"),
            Key::Curve { name, .. } => write!(f, "EC on {name}"),
            Key::Ed25519 => f.write_str("Ed25519"),
            Key::Other { name } => f.write_str(name),
        }
    }
}

/// The names in a certificate: of its issuer, and of its owner.
pub(super) struct Names<'a> {
    pub(super) issuer: &'a [u8],
    pub(super) subject: &'a [u8],
    /// The contents of its SubjectPublicKeyInfo.
    pub(super) key: &'a [u8],
}

impl<'a> Names<'a> {
    /// `None` if it cannot be read.
    pub(super) fn of(mut certificate: &'a [u8]) -> Option<Names<'a>> {
        let mut outer = take(&mut certificate, SEQUENCE)?;
        let mut fields = take(&mut outer, SEQUENCE)?;
        let _version = take(&mut fields, FIRST);
        let _serial = take(&mut fields, INTEGER)?;
        let _signature = take(&mut fields, SEQUENCE)?;
        let issuer = take(&mut fields, SEQUENCE)?;
        let _validity = take(&mut fields, SEQUENCE)?;
        let subject = take(&mut fields, SEQUENCE)?;
        Some(Names { issuer, subject, key: take(&mut fields, SEQUENCE)? })
    }
}

/// The way to sign that an AlgorithmIdentifier names, with or without the head of its sequence.
pub(super) fn signature(mut identifier: &[u8]) -> String {
    let mut inner = take(&mut identifier, SEQUENCE).unwrap_or(identifier);
    take(&mut inner, NUMBER).map_or_else(|| "an unknown way to sign".into(), name)
}

/// The name of a number, or the number as it is usually written.
fn name(number: &[u8]) -> String {
    if let Some((_, name)) = NAMES.iter().find(|(of, _)| *of == number) {
        return (*name).into();
    }
    let (mut parts, mut part) = (Vec::new(), 0_u64);
    for byte in number {
        part = part.wrapping_shl(7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            // The first two share a byte.
            match parts.len() {
                0 => parts.extend([part.min(80) / 40, part - part.min(80) / 40 * 40]),
                _ => parts.push(part),
            }
            part = 0;
        }
    }
    let parts: Vec<String> = parts.iter().map(u64::to_string).collect();
    format!("the kind {}", parts.join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_without_a_name_are_written_as_usual() {
        assert_eq!(name(b"\x2b\x06\x01\x04\x01\x86\x8d\x1f\x01"), "the kind 1.3.6.1.4.1.99999.1");
        assert_eq!(name(b"\x88\x37\x03"), "the kind 2.999.3");
        assert_eq!(name(b""), "the kind ");
    }

    #[test]
    fn what_is_cut_anywhere_is_not_read() {
        let key =
            [&[SEQUENCE, 16, SEQUENCE, 5, NUMBER, 3][..], ED25519, &[BITS, 7, 0, 1, 2, 3, 4, 5, 6]];
        let key = key.concat();
        let whole = take(&mut &key[..], SEQUENCE).unwrap();
        assert_eq!(Key::of_public(whole), Some(Key::Ed25519));
        for end in 0..whole.len() {
            assert_eq!(Key::of_public(&whole[..end]), None, "{end} bytes");
        }
        for head in [&[SEQUENCE, 0x80][..], &[SEQUENCE, 0x85, 0, 0, 0, 0, 0], &[SEQUENCE, 0xff]] {
            assert_eq!(take(&mut &head[..], SEQUENCE), None);
        }
    }

    #[test]
    fn nonsense_is_read_as_nothing() {
        let mut dice = 88_172_645_463_325_252_u64;
        let mut roll = |sides: usize| {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            dice as usize % sides
        };
        let tags = [INTEGER, BITS, BYTES, NUMBER, SEQUENCE, FIRST];
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..roll(60))
                .map(|_| match roll(3) {
                    0 => tags[roll(tags.len())],
                    1 => roll(20) as u8,
                    _ => roll(256) as u8,
                })
                .collect();
            let _ = (Names::of(&bytes), Key::of_public(&bytes), signature(&bytes));
            for key in [
                PrivateKeyDer::Pkcs1(bytes.clone().into()),
                PrivateKeyDer::Sec1(bytes.clone().into()),
                PrivateKeyDer::Pkcs8(bytes.clone().into()),
            ] {
                let _ = Key::of_private(&key).map(|key| key.to_string());
            }
        }
    }
}
