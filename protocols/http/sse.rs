//! Server-sent events: how one is written (HTML standard, 9.2).
//!
//! Knows text; never mentions a connection.
//!
//! ```text
//!   : a comment, which clients ignore     a blank line ends an event, and the end of a line
//!   event: tick                           (CR, LF, both) ends a field: `data` goes on in another
//!   id: 7                                 one, in the others it becomes a space
//!   data: first line
//!   data: second line
//! ```
//!
//! # Read next
//! `chunked.rs`: the coding of such a stream.

use std::time::Duration;

/// An event for a client's `EventSource`. It borrows its texts: send it in the statement that
/// makes it, or keep them in variables. To send one to many clients, or later, write it once, into
/// bytes, and send these to each by [`Sender::write`](super::Sender::write).
///
/// ```
/// use waterwheel::protocols::http::SseEvent;
///
/// let mut out = Vec::new();
/// SseEvent::data("one\ntwo").id("7").event("tick").write(&mut out);
/// assert_eq!(out, b"event: tick\nid: 7\ndata: one\ndata: two\n\n");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SseEvent<'a> {
    data: Option<&'a str>,
    event: Option<&'a str>,
    id: Option<&'a str>,
    retry: Option<Duration>,
    comment: Option<&'a str>,
}

impl<'a> SseEvent<'a> {
    /// An event with data, of as many lines as it has.
    pub fn data(data: &'a str) -> SseEvent<'a> {
        SseEvent { data: Some(data), ..SseEvent::default() }
    }

    /// A comment alone, which clients ignore: it shows that the connection lives.
    pub fn comment(comment: &'a str) -> SseEvent<'a> {
        SseEvent { comment: Some(comment), ..SseEvent::default() }
    }

    /// Names its type; without a name it is `message`.
    pub fn event(self, event: &'a str) -> SseEvent<'a> {
        SseEvent { event: Some(event), ..self }
    }

    /// The value that the client sends as `Last-Event-ID` when it comes back. After an empty one it
    /// does not send the field.
    pub fn id(self, id: &'a str) -> SseEvent<'a> {
        SseEvent { id: Some(id), ..self }
    }

    /// How long the client is to wait before it comes back, to the millisecond.
    pub fn retry(self, retry: Duration) -> SseEvent<'a> {
        SseEvent { retry: Some(retry), ..self }
    }

    /// Appends it, with the blank line that ends it.
    pub fn write(&self, out: &mut Vec<u8>) {
        for line in self.comment.into_iter().flat_map(lines) {
            field(out, "", line);
        }
        if let Some(event) = self.event {
            one_line(out, "event", event);
        }
        if let Some(id) = self.id {
            one_line(out, "id", id);
        }
        if let Some(retry) = self.retry {
            field(out, "retry", &retry.as_millis().to_string());
        }
        for line in self.data.into_iter().flat_map(lines) {
            field(out, "data", line);
        }
        out.push(b'\n');
    }
}

/// The lines of a text, however they end; of an empty one there is one.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        // Byte by byte, and not char by char: a third of the work of an event. Both are ASCII, so
        // the text is cut between characters.
        let Some(at) = text.bytes().position(|byte| matches!(byte, b'\r' | b'\n')) else {
            return rest.take();
        };
        let end = if text[at..].starts_with("\r\n") { 2 } else { 1 };
        rest = Some(&text[at + end..]);
        Some(&text[..at])
    })
}

fn field(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.push(b'\n');
}

/// A field that has one line: a NUL would make the client ignore an id.
fn one_line(out: &mut Vec<u8>, name: &str, value: &str) {
    let from = out.len() + name.len();
    field(out, name, value);
    let end = out.len() - 1;
    for byte in &mut out[from..end] {
        if matches!(byte, b'\r' | b'\n' | 0) {
            *byte = b' ';
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a client dispatches, read by the standard's algorithm: kind, data, id; and the time to
    /// wait.
    fn read(stream: &[u8]) -> (Vec<(String, String, String)>, Option<u64>) {
        let text = str::from_utf8(stream).unwrap().replace("\r\n", "\n").replace('\r', "\n");
        let (mut events, mut wait) = (Vec::new(), None);
        let (mut kind, mut data, mut id) = (String::new(), String::new(), String::new());
        assert!(text.ends_with("\n\n") || text == "\n");
        for line in text.lines() {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match name {
                "" if line.is_empty() => {
                    if data.pop().is_some() {
                        events.push((kind.clone(), data.clone(), id.clone()));
                    }
                    kind.clear();
                    data.clear();
                }
                "event" => kind = value.to_owned(),
                "data" => data = data + value + "\n",
                "id" if !value.contains('\0') => id = value.to_owned(),
                "retry" => wait = value.parse().ok(),
                _ => {}
            }
        }
        (events, wait)
    }

    fn written(event: SseEvent<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        event.write(&mut out);
        out
    }

    const NASTY: [&str; 14] = [
        "",
        " ",
        "a",
        " a ",
        "a\nb",
        "a\r\nb",
        "a\rb",
        "\n",
        "\r\n\r\n",
        "a\n\ndata: b",
        "x\nid: 9\n",
        "a\0b",
        ": a",
        "\u{feff}a\u{2028}b\u{85}c",
    ];

    #[test]
    fn no_value_breaks_out_of_its_field() {
        for data in NASTY {
            for other in NASTY {
                let stream = written(SseEvent::data(data).event(other).id(other));
                let one_line = other.replace(['\r', '\n', '\0'], " ");
                let data = data.replace("\r\n", "\n").replace('\r', "\n");
                let event = (one_line.clone(), data, one_line);
                assert_eq!(read(&stream), (vec![event], None), "{stream:?}");
            }
        }
        for comment in NASTY {
            let stream = written(SseEvent::comment(comment));
            assert_eq!(read(&stream), (vec![], None), "{stream:?}");
        }
    }

    #[test]
    fn events_are_written_one_behind_the_other() {
        let mut out = written(SseEvent::comment("hello"));
        SseEvent::data("1").retry(Duration::from_millis(1500)).write(&mut out);
        SseEvent::data("2").id("").write(&mut out);
        assert_eq!(out, b": hello\n\nretry: 1500\ndata: 1\n\nid: \ndata: 2\n\n");
        assert_eq!(read(&out).1, Some(1500));
        assert_eq!(read(&out).0.len(), 2);
    }
}
