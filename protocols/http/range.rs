//! Byte ranges: requests for parts of a representation (RFC 9110, 14).
//!
//! Knows field values and a length; never sees the bytes.
//!
//! A server may ignore a range, so an odd request gets the whole: with another unit, bad syntax,
//! more than [`RANGES_MAX`] ranges, or ranges that add up to more than the length (an attempt to
//! make work). 416 is for good ranges that all lie behind the end. Only GET has ranges: the caller
//! checks the method.
//!
//! # Read next
//! `head.rs`: where fields come from.

use std::fmt::Write;
use std::ops::Range;

use super::headers::Headers;

/// Ranges that a request may have; with more it gets the whole. 16.
pub const RANGES_MAX: usize = 16;

/// The result of a request for a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ranges {
    /// 200, and all of it.
    Whole,
    /// 206: one part is the body, with `Content-Range`; several make a [`multipart`](part_head)
    /// body. There is at least one, none is empty, and all are within the length.
    Parts(Vec<Range<u64>>),
    /// 416, with `Content-Range`: it lies behind the end.
    Unsatisfiable,
}

/// Which parts a GET asks for, by its `Range` and `If-Range`. `length` is the whole in bytes. The
/// validators are those that it has now: an `ETag` with its quotes, and the value of
/// `Last-Modified` as it is sent. [`Response::ranged`](super::Response::ranged) does it all for a
/// body in memory.
///
/// ```
/// # use waterwheel::{Context, protocols::http::Sender};
/// use waterwheel::protocols::http::{Ranges, Response, Server, StatusCode, content_range, ranges};
///
/// const LENGTH: u64 = 1 << 40; // Of something that is read piece by piece.
/// let server = Server::<()>::new(|reactor, _, request, reply| {
///     let (head, bytes) = match ranges(request.headers(), LENGTH, Some("\"v1\""), None) {
///         Ranges::Parts(parts) if parts.len() == 1 => {
///             let head = Response::new(StatusCode::PARTIAL_CONTENT);
///             let field = content_range(Some(&parts[0]), LENGTH);
///             (head.header("Content-Range", field), parts[0].clone())
///         }
///         Ranges::Unsatisfiable => {
///             let head = Response::new(StatusCode::RANGE_NOT_SATISFIABLE);
///             (head.header("Content-Range", content_range(None, LENGTH)), 0..0)
///         }
///         _ => (Response::new(StatusCode::OK), 0..LENGTH),
///     };
///     let head = head.header("ETag", "\"v1\"");
///     let sender = reply.stream_sized(reactor, head, bytes.end - bytes.start);
///     write(reactor, sender, bytes); // By `Sender::write` and `Sender::when_drained`.
/// });
/// # fn write(_: &mut Context<()>, _: Sender, _: std::ops::Range<u64>) {}
/// ```
pub fn ranges(
    headers: Headers<'_>,
    length: u64,
    etag: Option<&str>,
    last_modified: Option<&str>,
) -> Ranges {
    let mut fields = headers.get_all("range");
    let (Some(field), None) = (fields.next(), fields.next()) else { return Ranges::Whole };
    let mut conditions = headers.get_all("if-range");
    let is_same = match (conditions.next(), conditions.next()) {
        (None, _) => true,
        (Some(condition), None) => {
            // Strongly: a weak tag never does, and a date only to the letter (RFC 9110, 13.1.5).
            let validator = if condition.starts_with(b"\"") { etag } else { last_modified };
            !condition.starts_with(b"W/")
                && validator.is_some_and(|validator| validator.as_bytes() == condition)
        }
        _ => false,
    };
    if is_same { parse(field, length) } else { Ranges::Whole }
}

fn parse(field: &[u8], length: u64) -> Ranges {
    let Some(at) = field.iter().position(|byte| *byte == b'=') else { return Ranges::Whole };
    // An empty body has no parts; some clients request a range of every resource.
    if length == 0 || !field[..at].eq_ignore_ascii_case(b"bytes") {
        return Ranges::Whole;
    }
    let (mut parts, mut count, mut total) = (Vec::new(), 0, 0u64);
    let members = field[at + 1..].split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    for member in members.filter(|member| !member.is_empty()) {
        let Some(part) = parse_one(member, length) else { return Ranges::Whole };
        count += 1;
        if count > RANGES_MAX {
            return Ranges::Whole;
        }
        if !part.is_empty() {
            total = total.saturating_add(part.end - part.start);
            parts.push(part);
        }
    }
    match count {
        0 => Ranges::Whole,
        _ if total > length => Ranges::Whole,
        _ if parts.is_empty() => Ranges::Unsatisfiable,
        _ => Ranges::Parts(parts),
    }
}

/// `first-last`, `first-` or `-last so many`; empty if it lies behind the end.
fn parse_one(member: &[u8], length: u64) -> Option<Range<u64>> {
    let dash = member.iter().position(|byte| *byte == b'-')?;
    match (&member[..dash], &member[dash + 1..]) {
        ([], count) => Some(length.saturating_sub(number(count)?)..length),
        (first, []) => Some(number(first)?.min(length)..length),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            // Both may be more than 64 bits, and then they are equal here.
            (first <= last).then(|| first.min(length)..last.saturating_add(1).min(length))
        }
    }
}

/// Digits. A number that is too large becomes the largest, which is behind any end.
fn number(digits: &[u8]) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let add =
        |number: u64, digit: &u8| number.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    is_number.then(|| digits.iter().fold(0, add))
}

/// The value of `Content-Range` of a part, or with `None` of a 416.
pub fn content_range(part: Option<&Range<u64>>, length: u64) -> String {
    match part {
        Some(part) => format!("bytes {}-{}/{length}", part.start, part.end - 1),
        None => format!("bytes */{length}"),
    }
}

/// The text ahead of a part in a body of `multipart/byteranges; boundary=…`; behind the last one
/// goes [`parts_end`].
pub fn part_head(boundary: &str, content_type: &str, part: &Range<u64>, length: u64) -> String {
    let range = content_range(Some(part), length);
    let mut head = format!("\r\n--{boundary}\r\n");
    if !content_type.is_empty() {
        let _ = write!(head, "Content-Type: {content_type}\r\n");
    }
    head + "Content-Range: " + &range + "\r\n\r\n"
}

/// The text behind the last part.
pub fn parts_end(boundary: &str) -> String {
    format!("\r\n--{boundary}--\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(field: &str, length: u64) -> Result<Vec<(u64, u64)>, u16> {
        match parse(field.as_bytes(), length) {
            Ranges::Whole => Err(200),
            Ranges::Unsatisfiable => Err(416),
            Ranges::Parts(parts) => {
                assert!(!parts.is_empty() && parts.len() <= RANGES_MAX);
                assert!(parts.iter().all(|part| part.start < part.end && part.end <= length));
                Ok(parts.iter().map(|part| (part.start, part.end)).collect())
            }
        }
    }

    #[test]
    fn ranges_are_cut_to_the_length() {
        let ten = |field| parts(field, 10);
        assert_eq!(ten("bytes=0-0"), Ok(vec![(0, 1)]));
        assert_eq!(ten("bytes=0-9"), Ok(vec![(0, 10)]));
        assert_eq!(ten("bytes=0-10"), Ok(vec![(0, 10)]));
        assert_eq!(ten("bytes=9-"), Ok(vec![(9, 10)]));
        assert_eq!(ten("bytes=-1"), Ok(vec![(9, 10)]));
        assert_eq!(ten("bytes=-10"), Ok(vec![(0, 10)]));
        assert_eq!(ten("bytes=-11"), Ok(vec![(0, 10)]));
        assert_eq!(ten("BYTES=0-1 ,\t8-, ,,3-3"), Ok(vec![(0, 2), (8, 10), (3, 4)]));
        assert_eq!(ten("bytes=0-99999999999999999999999"), Ok(vec![(0, 10)]));
        assert_eq!(ten("bytes=-99999999999999999999999"), Ok(vec![(0, 10)]));
        assert_eq!(ten("bytes=0-18446744073709551615"), Ok(vec![(0, 10)]));
        assert_eq!(ten("bytes=5-6,20-30"), Ok(vec![(5, 7)]), "one of them will do");
        let most = u64::MAX;
        assert_eq!(parts("bytes=-1", most), Ok(vec![(most - 1, most)]));
        assert_eq!(parts("bytes=0-18446744073709551615", most), Ok(vec![(0, most)]));
    }

    #[test]
    fn what_lies_behind_the_end_is_416() {
        for field in ["10-", "10-10", "10-20,30-", "-0", "99999999999999999999-"] {
            assert_eq!(parts(&format!("bytes={field}"), 10), Err(416), "{field}");
        }
    }

    #[test]
    fn what_is_odd_gets_the_whole() {
        for field in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=a-b",
            "bytes=1",
            "bytes=2-1",
            "bytes=1-2-3",
            "bytes=+1-2",
            "bytes=1 -2",
            "bytes=--1",
            "bytes=0-1,x",
            "items=0-1",
            "bytes =0-1",
            "bytes= 0x1-2",
            "bytes=1-+2",
            "bytes=0-1;2-3",
            "bytes:0-1",
            "bytes=0-9,0-9",
            "bytes=0-,-1",
        ] {
            assert_eq!(parts(field, 10), Err(200), "{field}");
        }
        assert_eq!(parts("bytes=0-1", 0), Err(200));
        assert_eq!(parts("bytes=-1", 0), Err(200));
    }

    #[test]
    fn more_ranges_than_the_limit_get_the_whole() {
        let field = |count: usize| {
            let members: Vec<String> = (0..count).map(|at| format!("{at}-{at}")).collect();
            format!("bytes={}", members.join(","))
        };
        assert_eq!(parts(&field(RANGES_MAX - 1), 100).map(|parts| parts.len()), Ok(15));
        assert_eq!(parts(&field(RANGES_MAX), 100).map(|parts| parts.len()), Ok(16));
        assert_eq!(parts(&field(RANGES_MAX + 1), 100), Err(200));
        // Those behind the end count as well: they were work.
        assert_eq!(parts(&field(RANGES_MAX + 1), 5), Err(200));
        assert_eq!(parts(&field(RANGES_MAX), 5).map(|parts| parts.len()), Ok(5));
    }

    fn is_partial(fields: &[(&str, &str)], etag: Option<&str>, modified: Option<&str>) -> bool {
        let header = |(name, value): &(&'static str, &'static str)| httparse::Header {
            name,
            value: value.as_bytes(),
        };
        // Leaked, since what a head is parsed into is borrowed.
        let fields: Vec<(&'static str, &'static str)> = fields
            .iter()
            .map(|(name, value)| (&*name.to_string().leak(), &*value.to_string().leak()))
            .collect();
        let fields: Vec<_> = fields.iter().map(header).collect();
        ranges(Headers::new(&fields), 10, etag, modified) != Ranges::Whole
    }

    #[test]
    fn range_of_another_version_gets_the_whole() {
        const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
        let range = ("Range", "bytes=0-1");
        let with =
            |condition| is_partial(&[("If-Range", condition), range], Some("\"a\""), Some(DATE));
        assert!(is_partial(&[range], None, None));
        assert!(with("\"a\"") && with(DATE));
        for condition in
            ["\"b\"", "W/\"a\"", "a", "", "*", "\"a\", \"b\"", "Sun, 06 Nov 1994 08:49:38 GMT"]
        {
            assert!(!with(condition), "{condition}");
        }
        assert!(
            !is_partial(&[("If-Range", "W/\"a\""), range], Some("W/\"a\""), None),
            "both are weak"
        );
        assert!(!is_partial(&[("If-Range", "\"a\""), range], None, Some(DATE)));
        assert!(!is_partial(&[("If-Range", DATE), range], Some("\"a\""), None));
        assert!(!is_partial(&[("If-Range", DATE), ("If-Range", DATE), range], None, Some(DATE)));
        assert!(!is_partial(&[range, range], None, None), "two of them");
    }

    #[test]
    fn parts_are_named_as_they_are_sent() {
        assert_eq!(content_range(Some(&(0..1)), 10), "bytes 0-0/10");
        assert_eq!(content_range(None, 10), "bytes */10");
        let head = part_head("x", "text/plain", &(2..4), 10);
        let expected = "\r\n--x\r\nContent-Type: text/plain\r\nContent-Range: bytes 2-3/10\r\n\r\n";
        assert_eq!(head, expected);
        assert_eq!(parts_end("x"), "\r\n--x--\r\n");
    }
}
