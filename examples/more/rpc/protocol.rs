//! JSON-RPC 2.0 without a socket: where messages end, what they are, and what errors are called.

use serde_json::{Value, json};
use waterwheel::net::{Codec, Frame, FrameError};

/// Bytes of a message. As values it takes up to ninety times as much memory, for a moment. 64 KiB.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Messages of a batch. 100.
pub const BATCH_MAX: usize = 100;
/// Bytes of the lines in front of a message, where it has some.
const HEAD_BYTES_MAX: usize = 1024;

pub const PARSE_ERROR: (i32, &str) = (-32700, "Parse error");
pub const INVALID_REQUEST: (i32, &str) = (-32600, "Invalid Request");
pub const METHOD_NOT_FOUND: (i32, &str) = (-32601, "Method not found");
pub const INVALID_PARAMS: (i32, &str) = (-32602, "Invalid params");
pub const INTERNAL_ERROR: (i32, &str) = (-32603, "Internal error");
pub const EMPTY_BATCH: (i32, &str) = (-32600, "an empty batch");
pub const LONG_BATCH: (i32, &str) = (-32600, "a batch of more than 100");
pub const ID_IN_USE: (i32, &str) = (-32600, "a call with this id is still to be answered");
pub const TIMED_OUT: (i32, &str) = (-32000, "it took too long");
pub const TOO_MANY: (i32, &str) = (-32001, "too many calls at a time");
pub const NO_WAY_BACK: (i32, &str) = (-32002, "over HTTP nobody can be called back");
/// As the Language Server Protocol has it.
pub const CANCELLED: (i32, &str) = (-32800, "Request cancelled");

/// Where messages end on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// One on each line.
    Lines,
    /// `Content-Length: 17`, an empty line, and so many bytes.
    Headers,
    /// Each is the body of a POST.
    Http,
}

/// The framing of a connection that begins so; `None` if that is still to be seen. JSON begins with a
/// bracket, `Content-…` and the methods of HTTP with a letter.
pub fn detect(input: &[u8]) -> Option<Framing> {
    const HEAD: &[u8] = b"content-";
    let first = input.first()?;
    let begin = &input[..input.len().min(HEAD.len())];
    Some(match begin.eq_ignore_ascii_case(&HEAD[..begin.len()]) {
        true if begin.len() < HEAD.len() => return None,
        true => Framing::Headers,
        false if first.is_ascii_uppercase() => Framing::Http,
        false => Framing::Lines,
    })
}

/// [`Framing::Headers`], as the Language Server Protocol has it.
#[derive(Default)]
pub struct Headers {
    /// Bytes known to hold no end of a head.
    looked_at: usize,
    /// Once the head is there: its bytes, and those of the message.
    lengths: Option<(usize, usize)>,
}

impl Codec for Headers {
    fn decode(&mut self, input: &[u8]) -> Result<Option<Frame>, FrameError> {
        let (head, body) = match self.lengths {
            Some(lengths) => lengths,
            None => {
                let begin = self.looked_at.saturating_sub(3);
                let end = input[begin..].windows(4).position(|bytes| bytes == b"\r\n\r\n");
                let head = end.map_or(input.len() + 1, |at| begin + at + 4);
                if head > HEAD_BYTES_MAX {
                    return Err(FrameError::TooLong { bytes_max: HEAD_BYTES_MAX });
                }
                self.looked_at = input.len();
                if end.is_none() {
                    return Ok(None);
                }
                (head, content_length(&input[..head - 4])?)
            }
        };
        self.lengths = Some((head, body));
        if input.len() < head + body {
            return Ok(None);
        }
        *self = Headers::default();
        Ok(Some(Frame { payload: head..head + body, consumed: head + body }))
    }

    fn encode(&self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
        out.extend_from_slice(format!("Content-Length: {}\r\n\r\n", payload.len()).as_bytes());
        out.extend_from_slice(payload);
        Ok(())
    }
}

fn content_length(head: &[u8]) -> Result<usize, FrameError> {
    let head = std::str::from_utf8(head).map_err(|_| FrameError::Malformed("a head"))?;
    let mut length = None;
    for line in head.split("\r\n") {
        let (name, value) = line.split_once(':').ok_or(FrameError::Malformed("a head"))?;
        if name.eq_ignore_ascii_case("content-length") {
            let digits = value.trim_ascii();
            if length.is_some() || digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit())
            {
                return Err(FrameError::Malformed("a Content-Length"));
            }
            length = Some(digits.parse().unwrap_or(usize::MAX)); // Or it is too long even for that.
        }
    }
    match length {
        None => Err(FrameError::Malformed("no Content-Length")),
        Some(length) if length > MESSAGE_BYTES_MAX => {
            Err(FrameError::TooLong { bytes_max: MESSAGE_BYTES_MAX })
        }
        Some(length) => Ok(length),
    }
}

/// What one JSON value is.
#[derive(Debug, PartialEq)]
pub enum Message {
    /// It wants an answer.
    Call { id: Value, method: String, params: Value },
    /// It gets none, not even an error.
    Notification { method: String, params: Value },
    /// To a call of ours: the result, or the error.
    Answer { id: Value, result: Result<Value, Value> },
    /// None of them. The id, if there is one.
    Invalid { id: Value },
}

pub fn read(mut value: Value) -> Message {
    let mut take = |name: &str| value.get_mut(name).map(Value::take);
    let is_version_2 = take("jsonrpc").is_some_and(|version| version == "2.0");
    let (id, method, params) = (take("id"), take("method"), take("params"));
    let is_id = matches!(id, None | Some(Value::Null | Value::Number(_) | Value::String(_)));
    let is_params = matches!(params, None | Some(Value::Array(_) | Value::Object(_)));
    let params = params.unwrap_or(Value::Null);
    match (method, id, take("result"), take("error")) {
        (_, id, _, _) if !is_version_2 || !is_id || !is_params => {
            Message::Invalid { id: id.filter(|_| is_id).unwrap_or_default() }
        }
        (Some(Value::String(method)), Some(id), ..) => Message::Call { id, method, params },
        (Some(Value::String(method)), None, ..) => Message::Notification { method, params },
        (None, Some(id), Some(result), None) => Message::Answer { id, result: Ok(result) },
        (None, Some(id), None, Some(error)) => Message::Answer { id, result: Err(error) },
        (_, id, ..) => Message::Invalid { id: id.unwrap_or_default() },
    }
}

pub fn answer(id: Value, result: Result<Value, (i32, &str)>) -> Value {
    match result {
        Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
        Err((code, message)) => {
            json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Message {
        read(serde_json::from_str(text).expect("JSON"))
    }

    #[test]
    fn message_is_a_call_a_notification_an_answer_or_nothing() {
        let call = |id, params| Message::Call { id, method: "m".into(), params };
        let text = r#"{"jsonrpc":"2.0","id":1,"method":"m","params":[2]}"#;
        assert_eq!(of(text), call(json!(1), json!([2])));
        let text = r#"{"jsonrpc":"2.0","id":null,"method":"m"}"#;
        assert_eq!(of(text), call(Value::Null, Value::Null));
        let text = r#"{"jsonrpc":"2.0","method":"m","params":{"a":1}}"#;
        let params = json!({"a": 1});
        assert_eq!(of(text), Message::Notification { method: "m".into(), params });
        let text = r#"{"jsonrpc":"2.0","id":"x","result":null}"#;
        assert_eq!(of(text), Message::Answer { id: json!("x"), result: Ok(Value::Null) });
        let text = r#"{"jsonrpc":"2.0","id":7,"error":{"code":1}}"#;
        assert_eq!(of(text), Message::Answer { id: json!(7), result: Err(json!({"code": 1})) });
        for (text, id) in [
            ("1", Value::Null),
            ("[]", Value::Null),
            ("{}", Value::Null),
            (r#"{"id":1,"method":"m"}"#, json!(1)),
            (r#"{"jsonrpc":2.0,"id":1,"method":"m"}"#, json!(1)),
            (r#"{"jsonrpc":"2.0","id":1,"method":2}"#, json!(1)),
            (r#"{"jsonrpc":"2.0","id":[1],"method":"m"}"#, Value::Null),
            (r#"{"jsonrpc":"2.0","id":"a","method":"m","params":"b"}"#, json!("a")),
            (r#"{"jsonrpc":"2.0","id":1}"#, json!(1)),
            (r#"{"jsonrpc":"2.0","id":1,"result":1,"error":2}"#, json!(1)),
            (r#"{"jsonrpc":"2.0","result":1}"#, Value::Null),
        ] {
            assert_eq!(of(text), Message::Invalid { id }, "{text}");
        }
    }

    #[test]
    fn framing_is_found_by_the_first_bytes() {
        for (begin, framing) in [
            ("{", Framing::Lines),
            ("[1", Framing::Lines),
            (" \n{", Framing::Lines),
            ("co mpany", Framing::Lines),
            ("nonsense", Framing::Lines),
            ("\u{16}\u{3}", Framing::Lines),
            ("Content-Length: 1", Framing::Headers),
            ("content-type:", Framing::Headers),
            ("POST / HTTP/1.1", Framing::Http),
            ("CONNECT a:1", Framing::Http),
            ("G", Framing::Http),
        ] {
            let found = (1..=begin.len()).find_map(|cut| detect(&begin.as_bytes()[..cut]));
            assert_eq!(found, Some(framing), "{begin}");
            assert_eq!(detect(begin.as_bytes()), Some(framing), "{begin}");
        }
        assert_eq!([detect(b""), detect(b"C"), detect(b"Content")], [None; 3]);
    }

    #[test]
    fn head_says_how_long_a_message_is_wherever_the_stream_is_cut() {
        let stream = b"Content-Length: 2\r\n\r\n{}content-type: x\r\nCONTENT-LENGTH:0\r\n\r\n";
        for cut in 0..=stream.len() {
            let (mut codec, mut input, mut found) = (Headers::default(), Vec::new(), Vec::new());
            for piece in [&stream[..cut], &stream[cut..]] {
                input.extend_from_slice(piece);
                while let Some(frame) = codec.decode(&input).unwrap() {
                    found.push(input[frame.payload].to_vec());
                    input.drain(..frame.consumed);
                }
            }
            assert_eq!((found, input.len()), (vec![b"{}".to_vec(), Vec::new()], 0), "{cut}");
        }
    }

    #[test]
    fn head_that_lies_or_is_none_is_refused() {
        let decode = |head: &str| Headers::default().decode(head.as_bytes()).unwrap_err();
        for length in ["65537", "4294967296", "18446744073709551616", "99999999999999999999999"] {
            let error = decode(&format!("Content-Length: {length}\r\n\r\n"));
            assert_eq!(error, FrameError::TooLong { bytes_max: MESSAGE_BYTES_MAX });
        }
        for head in [
            "\r\n\r\n",
            "Content-Type: x\r\n\r\n",
            "Content-Length: -1\r\n\r\n",
            "Content-Length: +1\r\n\r\n",
            "Content-Length: \r\n\r\n",
            "Content-Length: 1 2\r\n\r\n",
            "Content-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "Content-Length 1\r\n\r\n",
        ] {
            assert!(matches!(decode(head), FrameError::Malformed(_)), "{head:?}");
        }
        assert!(matches!(decode(&"x".repeat(1024)), FrameError::TooLong { bytes_max: 1024 }));
        let mut codec = Headers::default();
        assert_eq!(codec.decode(b"Content-Length: 65536\r\n\r\n{"), Ok(None));
    }
}
