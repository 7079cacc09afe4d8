//! The example `rpc` without its connections: messages are the same wherever a stream is cut, those with a
//! length in front are those of the definition, and none is what it must not be.
//!
//! The first two bytes choose the cuts; the rest is the stream.

#[allow(dead_code)] // Its other part is the program's.
#[path = "../../examples/more/rpc"]
mod example {
    pub mod protocol;
}

use example::protocol::{self, Headers, MESSAGE_BYTES_MAX, Message};
use serde_json::Value;
use support::Rng;
use support::decode::{Decoded, decode};
use waterwheel::net::{Codec, FrameError};

use super::cut;

pub fn rpc(bytes: &[u8]) {
    let (head, stream) = bytes.split_at(bytes.len().min(2));
    let mut cuts = Rng::from_bytes(head);
    // How a connection begins is found by its first bytes, as soon as they are there.
    let found = (0..=stream.len()).map(|count| protocol::detect(&stream[..count]));
    let mut found = found.skip_while(Option::is_none);
    let first = found.next().flatten();
    assert!(found.all(|framing| framing == first));
    let expected = frames(stream);
    let pieces = cut(stream, &mut cuts);
    assert_eq!(kinds(decode(&mut Headers::default(), [stream])), kinds(expected.clone()), "whole");
    assert_eq!(
        kinds(decode(&mut Headers::default(), pieces)),
        kinds(expected.clone()),
        "in pieces"
    );
    for frame in
        expected.0.iter().map(|frame| &frame[..]).chain(stream.split(|byte| *byte == b'\n'))
    {
        if let Ok(value) = serde_json::from_slice::<Value>(frame) {
            look(&value);
            let mut out = Vec::new();
            Headers::default().encode(frame, &mut out).expect("it has a length");
            assert_eq!(decode(&mut Headers::default(), [&out[..]]), (vec![frame.to_vec()], None));
        }
    }
}

/// Errors by their kind: which word is wrong in a head that is no head is not said here.
fn kinds((frames, error): Decoded) -> (Vec<Vec<u8>>, Option<&'static str>) {
    let kind = error.map(|error| match error {
        FrameError::TooLong { .. } => "too long",
        FrameError::Truncated => "truncated",
        _ => "malformed",
    });
    (frames, kind)
}

/// The definition, from the text between the lengths.
fn frames(mut stream: &[u8]) -> Decoded {
    let mut all = Vec::new();
    loop {
        if stream.is_empty() {
            return (all, None);
        }
        let one = |byte: &u8| if byte.is_ascii() { char::from(*byte) } else { '?' };
        let text: String = stream.iter().map(one).collect();
        let Some((head, _)) = text.split_once("\r\n\r\n") else {
            let is_long = text.len() >= 1024;
            let error = if is_long {
                FrameError::TooLong { bytes_max: 1024 }
            } else {
                FrameError::Truncated
            };
            return (all, Some(error));
        };
        if head.len() + 4 > 1024 {
            return (all, Some(FrameError::TooLong { bytes_max: 1024 }));
        }
        let is_text = std::str::from_utf8(&stream[..head.len()]).is_ok();
        let lines: Option<Vec<_>> = head.split("\r\n").map(|line| line.split_once(':')).collect();
        let lengths: Vec<_> = lines
            .iter()
            .flatten()
            .filter(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .collect();
        let malformed = Some(FrameError::Malformed("a head"));
        let (true, Some(_), [(_, length)]) = (is_text, &lines, &lengths[..]) else {
            return (all, malformed);
        };
        let length = length.trim_ascii();
        if length.is_empty() || length.contains(|char: char| !char.is_ascii_digit()) {
            return (all, malformed);
        }
        let length = length.trim_start_matches('0');
        let length = if length.len() > 9 { usize::MAX } else { length.parse().unwrap_or(0) };
        if length > MESSAGE_BYTES_MAX {
            return (all, Some(FrameError::TooLong { bytes_max: MESSAGE_BYTES_MAX }));
        }
        let Some(body) = stream[head.len() + 4..].get(..length) else {
            return (all, Some(FrameError::Truncated));
        };
        all.push(body.to_vec());
        stream = &stream[head.len() + 4 + length..];
    }
}

/// That a message is what its members make it.
fn look(value: &Value) {
    if let Value::Array(all) = value {
        return all.iter().for_each(look);
    }
    let has = |name: &str| value.get(name).is_some();
    match protocol::read(value.clone()) {
        Message::Call { id, method, params } => {
            assert!(value["jsonrpc"] == "2.0" && value["id"] == id && value["method"] == *method);
            assert_eq!(value.get("params").unwrap_or(&Value::Null), &params);
        }
        Message::Notification { .. } => assert!(has("method") && !has("id")),
        Message::Answer { .. } => {
            assert!(has("id") && has("result") != has("error") && !has("method"))
        }
        Message::Invalid { id } => {
            assert!(id.is_null() || value["id"] == id);
            let is_version_2 = value.get("jsonrpc").is_some_and(|version| version == "2.0");
            let is_id = value.get("id").is_some_and(|id| id.is_number() || id.is_string());
            let is_call = value.get("method").is_some_and(Value::is_string) && !has("params");
            assert!(!(is_version_2 && is_id && is_call), "{value}");
        }
    }
}
