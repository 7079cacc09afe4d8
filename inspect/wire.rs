//! The wire: records as bytes, and the bytes as text.
//!
//! Knows packed records. A record is a few small numbers most of the time, so each is a *varint*:
//! seven bits a byte, the lowest first, and the highest bit set in each but the last (LEB128). An echo
//! of 64 clients took six bytes a record. Server-sent events are text, so the bytes are sent in
//! base64 (RFC 4648, section 4).
//!
//! ```text
//!  kind   time since the last   index·8 + subject   generation   place   cause   argument
//!  1 byte 1–3, in 64 ns         1–2                 1–2, if any  1       1–2     1–3
//! ```

use super::ring::Packed;

/// The unit of time on the wire, in nanoseconds.
pub const UNIT: u64 = 64;

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 128 {
        out.push(value as u8 | 128);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a record; `units` is the time of the record before, and becomes that of this one.
pub fn put(out: &mut Vec<u8>, units: &mut u64, record: &Packed) {
    let at = record.nanos / UNIT;
    out.push(record.kind);
    varint(out, at.saturating_sub(*units));
    *units = at.max(*units);
    varint(out, u64::from(record.index) << 3 | u64::from(record.subject));
    if record.subject != 0 {
        varint(out, record.generation.into());
    }
    varint(out, record.place.into());
    varint(out, record.cause.into());
    varint(out, record.argument.into());
}

/// The bytes in base64, with padding.
pub fn base64(bytes: &[u8]) -> String {
    let mut text = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    let digits = |three: [u8; 3]| {
        let all = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        [18, 12, 6, 0].map(|shift| DIGITS[(all >> shift & 63) as usize])
    };
    let (threes, rest) = bytes.as_chunks::<3>();
    threes.iter().for_each(|three| text.extend_from_slice(&digits(*three)));
    if let [first, more @ ..] = rest {
        let four = digits([*first, more.first().copied().unwrap_or(0), 0]);
        text.extend_from_slice(&four[..rest.len() + 1]);
        text.extend_from_slice(&b"=="[rest.len() - 1..]);
    }
    text.into_iter().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a record as the page does; `None` if the bytes end within it, or a number is too long.
    fn take(bytes: &mut &[u8], units: &mut u64) -> Option<Packed> {
        fn number(bytes: &mut &[u8]) -> Option<u64> {
            let mut value = 0u64;
            for place in 0..10 {
                let (byte, rest) = bytes.split_first()?;
                *bytes = rest;
                value |= u64::from(byte & 127).checked_shl(7 * place)?;
                if byte & 128 == 0 {
                    return Some(value);
                }
            }
            None
        }
        let (kind, rest) = bytes.split_first()?;
        *bytes = rest;
        *units += number(bytes)?;
        let of = number(bytes)?;
        let generation = if of & 7 == 0 { 0 } else { number(bytes)? as u32 };
        Some(Packed {
            nanos: *units * UNIT,
            subject: (of & 7) as u8,
            index: (of >> 3) as u32,
            generation,
            place: number(bytes)? as u16,
            cause: number(bytes)? as u32,
            argument: number(bytes)? as u32,
            kind: *kind,
        })
    }

    #[test]
    fn records_are_read_back_and_no_cut_reads_as_whole() {
        let records = [
            Packed::default(),
            Packed { nanos: 64 * 127, kind: 33, argument: 128, ..Packed::default() },
            Packed {
                nanos: u64::MAX / 64 * 64,
                subject: 3,
                index: u32::MAX,
                generation: u32::MAX,
                cause: u32::MAX,
                argument: u32::MAX,
                kind: 255,
                place: u16::MAX,
            },
        ];
        let (mut out, mut units) = (Vec::new(), 0);
        records.iter().for_each(|record| put(&mut out, &mut units, record));
        let (mut bytes, mut units) = (&out[..], 0);
        assert_eq!(records.map(|_| take(&mut bytes, &mut units).unwrap()), records);
        assert!(bytes.is_empty());
        for cut in 0..out.len() {
            let (mut bytes, mut units) = (&out[..cut], 0);
            assert!(records.iter().any(|_| take(&mut bytes, &mut units).is_none()), "{cut}");
        }
        assert_eq!(take(&mut &[0; 1][..], &mut 0), None);
        assert_eq!(take(&mut &[255; 20][..], &mut 0), None, "a number of more than ten bytes");
    }

    /// Time that goes back, as the clock of another processor might, is time that stands.
    #[test]
    fn earlier_record_has_the_time_of_the_one_before() {
        let (mut out, mut units) = (Vec::new(), 100);
        put(&mut out, &mut units, &Packed { nanos: 64, ..Packed::default() });
        assert_eq!((out[1], units), (0, 100));
    }

    /// The examples of RFC 4648, section 10.
    #[test]
    fn base64_is_that_of_the_rfc() {
        let of = |text: &str| base64(text.as_bytes());
        let expected = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
        assert_eq!(std::array::from_fn(|n| of(&"foobar"[..n])), expected);
    }
}
