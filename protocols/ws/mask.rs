//! Masking: a client's bytes are XORed with a mask (RFC 6455, 5.3).
//!
//! Knows bytes only.
//!
//! A mask is no secret, it travels in front of the payload. It keeps a page from choosing the bytes
//! that its browser puts on the wire, which an old proxy could mistake for a request; so the
//! page must not be able to foresee the mask.
//!
//! # Read next
//! `utf8.rs`: text that comes in pieces.

/// Four bytes, again and again.
pub(super) type Mask = [u8; 4];

/// A mask that cannot be foreseen: 10.3 wants a strong source of entropy.
pub(super) fn fresh() -> Mask {
    rand::random()
}

/// Masks bytes, or unmasks them. Returns the mask, turned for the bytes that follow them.
///
/// # Cost
/// O(n), by words of eight bytes: the compiler makes vectors of them.
#[inline]
pub(super) fn apply(bytes: &mut [u8], mask: Mask) -> Mask {
    let [a, b, c, d] = mask;
    let word = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let next = turned(mask, bytes.len());
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for bytes in words {
        *bytes = (u64::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip([a, b, c, d, a, b, c]) {
        *byte ^= key;
    }
    next
}

/// The mask for the bytes that follow the first `by`.
fn turned(mut mask: Mask, by: usize) -> Mask {
    mask.rotate_left(by % 4);
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: Mask = [0x37, 0xFA, 0x21, 0x3D];

    fn one_by_one(bytes: &[u8]) -> Vec<u8> {
        bytes.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key).collect()
    }

    #[test]
    fn words_mask_as_single_bytes_do_at_every_length_and_offset() {
        let bytes: Vec<u8> = (0..100_u8).map(|n| n.wrapping_mul(7)).collect();
        for begin in 0..9 {
            for end in begin..bytes.len() {
                let mut masked = bytes[begin..end].to_vec();
                apply(&mut masked, MASK);
                assert_eq!(masked, one_by_one(&bytes[begin..end]), "{begin}..{end}");
            }
        }
    }

    #[test]
    fn a_payload_may_be_cut_anywhere() {
        let bytes: Vec<u8> = (0..40).collect();
        for one in 0..=bytes.len() {
            for two in one..=bytes.len() {
                let mut masked = bytes.clone();
                let mask = apply(&mut masked[..one], MASK);
                let mask = apply(&mut masked[one..two], mask);
                apply(&mut masked[two..], mask);
                assert_eq!(masked, one_by_one(&bytes), "{one} {two}");
            }
        }
    }

    #[test]
    fn two_masks_are_not_the_same() {
        // All are equal by chance: once in 2^96.
        let first = fresh();
        assert!((0..3).any(|_| fresh() != first));
    }
}
