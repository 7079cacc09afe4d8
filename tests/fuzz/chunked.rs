//! The chunked coding: whatever the bytes and wherever they are cut, the body is the grammar's.
//!
//! The first bytes choose the cuts, and whether the rest is the stream itself or choices of what to
//! build one from: bytes by chance are hardly ever a chunk.

use super::cut;
use support::Rng;
use waterwheel::protocols::http::parts::{Chunked, Piece};

/// A body, and how it ended: used so many bytes, wants more, or was refused.
pub type Decoded = (Vec<u8>, Result<Option<usize>, ()>);

pub fn chunked(bytes: &[u8]) {
    let (head, rest) = bytes.split_at(bytes.len().min(2));
    let mut rng = Rng::from_bytes(head);
    let built = rng.below(2) == 1;
    let stream = if built { build(&mut Rng::from_bytes(rest)) } else { rest.to_vec() };
    let expected = reference(&stream);
    let pieces = cut(&stream, &mut Rng::from_seed(rng.below(256) + 1));
    let memory = allocation_counter::measure(|| {
        let mut chunked = Chunked::default();
        let _ = chunked.step(&stream);
    });
    assert_eq!(memory.count_total, 0, "a decoder allocates");
    assert_eq!(decode([&stream[..]]), expected, "whole: {stream:?}");
    assert_eq!(decode(pieces), expected, "in pieces: {stream:?}");
    assert_eq!(decode(stream.chunks(1)), expected, "byte by byte: {stream:?}");
    if let (body, Ok(Some(_))) = &expected {
        let again = [format!("{:x}\r\n", body.len()).as_bytes(), body, b"\r\n0\r\n\r\n"].concat();
        let again = if body.is_empty() { b"0\r\n\r\n".to_vec() } else { again };
        assert_eq!(decode([&again[..]]), (body.clone(), Ok(Some(again.len()))), "coded again");
    }
}

/// Decodes a stream that arrives in these pieces.
pub fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Decoded {
    let (mut chunked, mut body, mut used) = (Chunked::default(), Vec::new(), 0);
    for mut piece in pieces {
        loop {
            let Ok((count, found)) = chunked.step(piece) else { return (body, Err(())) };
            used += count;
            piece = &piece[count..];
            match found {
                Piece::Data(data) => {
                    assert!(!data.is_empty(), "a step without an end");
                    body.extend_from_slice(data);
                }
                Piece::More => break,
                Piece::End => {
                    // It is said again, and takes nothing.
                    assert_eq!(chunked.step(b"0\r\n\r\n"), Ok((0, Piece::End)));
                    return (body, Ok(Some(used)));
                }
            }
        }
        assert!(piece.is_empty(), "{piece:?} is not used");
    }
    (body, Ok(None))
}

/// The grammar of RFC 9112, 7.1, line by line, over all that there is.
pub fn reference(stream: &[u8]) -> Decoded {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let (line, whole) = line(&stream[at..]);
        let Some(size) = size(line, whole) else { return (body, Err(())) };
        if whole != Whole::Yes {
            return (body, Ok(None));
        }
        at += line.len() + 2;
        if size == 0 {
            break;
        }
        let rest = &stream[at..];
        let taken = usize::try_from(size).map_or(rest.len(), |size| size.min(rest.len()));
        body.extend_from_slice(&rest[..taken]);
        if (taken as u64) < size {
            return (body, Ok(None));
        }
        at += taken;
        match &stream[at..] {
            [b'\r', b'\n', ..] => at += 2,
            [] | [b'\r'] => return (body, Ok(None)),
            _ => return (body, Err(())),
        }
    }
    loop {
        let (line, whole) = line(&stream[at..]);
        if !is_field(line, whole) {
            return (body, Err(()));
        }
        if whole != Whole::Yes {
            return (body, Ok(None));
        }
        at += line.len() + 2;
        if line.is_empty() {
            return (body, Ok(Some(at)));
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Whole {
    Yes,
    /// Its CR is there.
    Nearly,
    No,
}

fn line(bytes: &[u8]) -> (&[u8], Whole) {
    match bytes.windows(2).position(|pair| pair == b"\r\n") {
        Some(end) => (&bytes[..end], Whole::Yes),
        None => match bytes.strip_suffix(b"\r") {
            Some(line) => (line, Whole::Nearly),
            None => (bytes, Whole::No),
        },
    }
}

fn is_text(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| !byte.is_ascii_control() || *byte == b'\t')
}

/// The size; of a line that is not whole any number, if it can become one.
fn size(line: &[u8], whole: Whole) -> Option<u64> {
    let count = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (digits, rest) = line.split_at(count);
    let may_be_empty = whole == Whole::No && line.is_empty();
    let fits = digits.len() <= 16
        && (may_be_empty || !digits.is_empty())
        && are_extensions(rest, whole == Whole::No);
    let digits = std::str::from_utf8(digits).ok()?;
    fits.then(|| u64::from_str_radix(digits, 16).unwrap_or(0))
}

/// Whether it is `*( BWS ";" BWS name [ BWS "=" BWS value ] )`, or where more may come whether it
/// can become that.
fn are_extensions(mut rest: &[u8], more: bool) -> bool {
    let skip = |rest: &mut &[u8], of: &dyn Fn(u8) -> bool| {
        let count = rest.iter().take_while(|byte| of(**byte)).count();
        *rest = &rest[count..];
        count
    };
    let is_space = |byte: u8| matches!(byte, b' ' | b'\t');
    let is_tchar = |b: u8| b.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(&b);
    while !rest.is_empty() {
        skip(&mut rest, &is_space);
        match rest.split_first() {
            Some((b';', behind)) => rest = behind,
            Some(_) => return false,
            None => return more,
        }
        skip(&mut rest, &is_space);
        if skip(&mut rest, &is_tchar) == 0 {
            return rest.is_empty() && more;
        }
        let mut value = rest;
        skip(&mut value, &is_space);
        let Some((b'=', behind)) = value.split_first() else { continue };
        rest = behind;
        skip(&mut rest, &is_space);
        match rest.split_first() {
            Some((b'"', quoted)) => {
                let mut at = 0;
                while quoted.get(at).is_some_and(|byte| *byte != b'"') {
                    at += if quoted[at] == b'\\' { 2 } else { 1 };
                }
                if !is_text(&quoted[..at.min(quoted.len())]) {
                    return false;
                }
                if at >= quoted.len() {
                    return more;
                }
                rest = &quoted[at + 1..];
            }
            None => return more,
            Some(_) if skip(&mut rest, &is_tchar) == 0 => return false,
            Some(_) => {}
        }
    }
    true
}

/// Whether it is a field, or nothing, or can become one.
fn is_field(line: &[u8], whole: Whole) -> bool {
    let colon = line.iter().position(|byte| *byte == b':');
    let name = &line[..colon.unwrap_or(line.len())];
    let is_name = name.iter().all(|b| b.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(b));
    let (named, valued) = (!name.is_empty(), is_text(&line[name.len()..]));
    line.is_empty() || is_name && named && valued && (colon.is_some() || whole == Whole::No)
}

/// A stream that is nearly right.
pub fn build(rng: &mut Rng) -> Vec<u8> {
    const LINES: [&str; 8] = ["\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r", "\r\r\n"];
    const EXTENSIONS: [&str; 8] = ["", "", ";a=b", " ;\ta", ";a = \"b;\\\"\"", ";a ", ";", ";\0"];
    const TRAILERS: [&str; 8] = ["a: b", "a:", "A-b:\tc", "a", ": b", " a: b", "a : b", "a: b\x7f"];
    let mut out = Vec::new();
    while !rng.is_spent() && out.len() < super::BYTES_MAX {
        let length = rng.below(20) as usize;
        let told = match rng.below(16) {
            0 => format!("{:x}", length + 1),
            1 => format!("0x{length:x}"),
            2 => format!("{length:016x}"),
            3 => format!("{length:017x}"),
            4 => format!("{length:X}"),
            5 => format!("+{length:x}"),
            6 => "ffffffffffffffff".to_owned(),
            7 => String::new(),
            _ => format!("{length:x}"),
        };
        let mut put = |text: &str| out.extend_from_slice(text.as_bytes());
        put(&told);
        put(EXTENSIONS[rng.below(8) as usize]);
        put(LINES[rng.below(8) as usize]);
        if length == 0 {
            for _ in 0..rng.below(3) {
                put(TRAILERS[rng.below(8) as usize]);
                put(LINES[rng.below(8) as usize]);
            }
        }
        out.extend((0..length).map(|_| b"a\r\n0;"[rng.below(5) as usize]));
        out.extend_from_slice(LINES[rng.below(8) as usize].as_bytes());
    }
    out
}
