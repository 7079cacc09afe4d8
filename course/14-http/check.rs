//! Eight sentences about `http.rs`. The requests come from a seed, together with what must be read
//! out of them; and each stream is cut at every byte.

use kit::{Input, Request, Seed, expect, same, seeds};

#[path = "http.rs"]
#[allow(clippy::all, dead_code)]
#[rustfmt::skip]
mod http;

use http::{BODY_MAX, HEAD_MAX, Reader};

/// More requests than any stream here has.
const REQUESTS_MAX: usize = 1000;

/// What a request is to be read as: method, target, the body as it is printed, and true if another
/// one may follow.
type Read = (String, String, String, bool);

#[derive(Clone, Copy)]
enum Body {
    None,
    Length,
    Chunked,
}

/// A request as bytes, and as it is to be read.
fn request(seed: &mut Seed, body: Body) -> (Vec<u8>, Read) {
    let method = seed.pick(&["GET", "POST", "PUT", "DELETE"]);
    let target = format!("/{}?x={}", seed.below(1000), seed.below(10));
    let mut fields = vec!["Host: ann".to_owned()];
    for number in 0..seed.below(4) {
        fields.push(format!("X-{number}: a:b, Content-Length: {}", seed.below(9)));
    }
    let content = content(seed);
    let sent = match body {
        Body::None => Vec::new(),
        Body::Length => {
            let name = seed.pick(&["Content-Length", "content-length", "CONTENT-LENGTH"]);
            fields.push(format!("{name}:{}{}", seed.pick(&["", " ", "\t "]), content.len()));
            content.clone()
        }
        Body::Chunked => {
            let coding = seed.pick(&["chunked", "Chunked", " chunked "]);
            fields.push(format!("Transfer-Encoding:{coding}"));
            chunks(seed, &content)
        }
    };
    for place in (1..fields.len()).rev() {
        fields.swap(place, seed.below(place as u64 + 1) as usize);
    }
    let mut bytes =
        format!("{method} {target} HTTP/1.1\r\n{}\r\n\r\n", fields.join("\r\n")).into_bytes();
    bytes.extend(&sent);
    let content = if matches!(body, Body::None) { Vec::new() } else { content };
    (bytes, (method.to_owned(), target, content.escape_ascii().to_string(), true))
}

/// A body. Some look like a request, or like the end of one.
fn content(seed: &mut Seed) -> Vec<u8> {
    let count = seed.below(40) as usize;
    match seed.below(4) {
        0 => b"\r\n\r\nGET /not-me HTTP/1.1\r\nHost: ann\r\n\r\n".to_vec(),
        1 => b"0\r\n\r\n".repeat(count / 5),
        _ => seed.bytes(count),
    }
}

/// A body in chunks, with extensions and with lines behind the last one.
fn chunks(seed: &mut Seed, mut content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !content.is_empty() {
        let (chunk, rest) = content.split_at(1 + seed.below(content.len() as u64) as usize);
        let size = match seed.below(3) {
            0 => format!("{:X}", chunk.len()),
            1 => format!("000{:x}", chunk.len()),
            _ => format!("{:x};a=b;c", chunk.len()),
        };
        bytes.extend(size.bytes());
        bytes.extend(b"\r\n");
        bytes.extend(chunk);
        bytes.extend(b"\r\n");
        content = rest;
    }
    bytes
        .extend(seed.pick(&["0\r\n\r\n", "00;x\r\n\r\n", "0\r\nX-Sum: 1\r\nY: 2\r\n\r\n"]).bytes());
    bytes
}

/// Requests in a row, as bytes and as they are to be read.
fn row(seed: &mut Seed, count: u64, bodies: &[Body]) -> (Vec<u8>, Vec<Read>) {
    let (mut bytes, mut expected) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let body = seed.pick(bodies);
        let (more, read) = request(seed, body);
        bytes.extend(more);
        expected.push(read);
    }
    (bytes, expected)
}

fn as_read(request: Request) -> Read {
    let body = request.body.escape_ascii().to_string();
    (request.method, request.target, body, request.keep_alive)
}

/// What is read out of the pieces: requests, and the status if one is refused.
fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Read>, Option<u16>) {
    let (mut reader, mut input, mut requests) = (Reader::default(), Input::new(), Vec::new());
    for piece in pieces {
        input.push(piece);
        loop {
            match reader.next(&mut input) {
                Ok(request) => requests.push(as_read(request)),
                Err(None) => break,
                Err(status) => return (requests, status),
            }
            expect(requests.len() < REQUESTS_MAX, "It gives requests without end.");
        }
    }
    (requests, None)
}

/// Expects the same, in one piece and cut in two at every byte.
#[track_caller]
fn everywhere(bytes: &[u8], expected: &(Vec<Read>, Option<u16>), what: &str) {
    same(read([bytes]), expected.clone(), &format!("{what} (In one piece.)"));
    for cut in 1..bytes.len() {
        let (first, second) = bytes.split_at(cut);
        let what = format!("{what} (Cut in two behind byte {cut} of {}.)", bytes.len());
        same(read([first, second]), expected.clone(), &what);
    }
}

#[test]
fn a_request_is_given_with_its_last_byte_and_not_before() {
    seeds(100, |seed| {
        let body = seed.pick(&[Body::None, Body::Length]);
        let (bytes, expected) = request(seed, body);
        let (mut reader, mut input) = (Reader::default(), Input::new());
        for (count, byte) in bytes.iter().enumerate() {
            let got = reader.next(&mut input).map(as_read);
            let what =
                format!("{count} of {} bytes have come, so there is no request yet.", bytes.len());
            same(got, Err::<Read, _>(None), &what);
            input.push(&[*byte]);
        }
        input.push(b"GET"); // The next one has begun.
        let got = reader.next(&mut input).map(as_read);
        same(got, Ok::<_, Option<u16>>(expected), "Its last byte has come.");
        same(input.len(), 3, "The bytes behind it stay in the input.");
    });
}

#[test]
fn requests_are_the_same_wherever_the_stream_is_cut() {
    seeds(60, |seed| {
        let count = 1 + seed.below(3);
        let (bytes, expected) = row(seed, count, &[Body::None, Body::Length]);
        everywhere(&bytes, &(expected, None), "These requests were sent.");
    });
}

#[test]
fn requests_that_come_at_once_are_given_in_order() {
    seeds(200, |seed| {
        let (bytes, expected) = row(seed, 20, &[Body::None, Body::Length]);
        let (mut pieces, mut rest) = (Vec::new(), &bytes[..]);
        while !rest.is_empty() {
            let count = 1 + seed.below(rest.len() as u64) as usize;
            let (piece, after) = rest.split_at(count);
            pieces.push(piece);
            rest = after;
        }
        same(read(pieces), (expected, None), "Twenty requests were sent, in pieces of any size.");
    });
}

#[test]
fn no_byte_is_looked_at_more_than_five_times() {
    let field = |count| format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(count));
    let post =
        format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9000\r\n\r\n{}", "x".repeat(9000));
    for text in [field(10), field(8000), post, field(20).repeat(500)] {
        for size in [1, 7, 1000, text.len()] {
            let (mut reader, mut input) = (Reader::default(), Input::new());
            for piece in text.as_bytes().chunks(size) {
                input.push(piece);
                while reader.next(&mut input).is_ok() {}
            }
            let (count, looked) = (text.len(), input.looked());
            let what = format!(
                "{count} bytes came in pieces of {size}, and it has looked at {looked}: more than five times each."
            );
            expect(looked <= 5 * count, &what);
        }
    }
}

#[test]
fn chunks_are_joined_wherever_they_are_cut() {
    seeds(60, |seed| {
        let count = 1 + seed.below(3);
        let (bytes, expected) =
            row(seed, count, &[Body::Chunked, Body::Chunked, Body::Length, Body::None]);
        everywhere(&bytes, &(expected, None), "These requests were sent, some in chunks.");
    });
}

#[test]
fn what_two_readers_may_read_differently_is_refused() {
    let length = |fields: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\nhello");
    let chunked = |body: &str| {
        format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}\r\n0\r\n\r\n"
        )
    };
    let old = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned();
    let both = "Content-Length: 5\r\nTransfer-Encoding: chunked";
    let cases = [
        (length(both), 400, "It has a length and a coding."),
        (length("Transfer-Encoding: chunked\r\nContent-Length: 5"), 400, "A coding and a length."),
        (length("Content-Length: 5\r\nContent-Length: 6"), 400, "It has two lengths."),
        (length("Content-Length: 5\r\ncontent-length: 5"), 400, "It has a length twice."),
        (length("Content-Length: +5"), 400, "+5 is not digits alone."),
        (length("Content-Length: -0"), 400, "-0 is not digits alone."),
        (length("Content-Length: 5, 5"), 400, "5, 5 is not digits alone."),
        (length("Content-Length: 0x5"), 400, "0x5 is not digits alone."),
        (length("Content-Length:"), 400, "Nothing is no digit."),
        (length("Content-Length : 5"), 400, "There is a space before the colon."),
        (
            length("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
            400,
            "A coding twice.",
        ),
        (length("Transfer-Encoding: gzip, chunked"), 501, "gzip is not known."),
        (length("Transfer-Encoding: xchunked"), 501, "xchunked is not known."),
        (old, 400, "HTTP/1.0 has no coding."),
        (chunked("+5\r\nhello"), 400, "+5 is not digits alone."),
        (chunked("0x5\r\nhello"), 400, "0x5 is not hexadecimal digits alone."),
        (chunked("\r\nhello"), 400, "A size is missing."),
        (chunked("5 \r\nhello"), 400, "There is a space behind the size."),
        (chunked("4\r\nhello"), 400, "The chunk is longer than its size."),
        (chunked("6\r\nhello"), 400, "The chunk is shorter than its size."),
        (chunked("5;a\nb\r\nhello"), 400, "There is an LF in the line of the size."),
        (chunked("5;a\rb\r\nhello"), 400, "There is a CR in the line of the size."),
    ];
    seeds(3, |seed| {
        let (before, expected) = row(seed, 2, &[Body::None, Body::Length]);
        for (text, status, why) in &cases {
            let bytes = [&before, text.as_bytes()].concat();
            let what = format!("{why} It must be refused with {status}.");
            everywhere(&bytes, &(expected.clone(), Some(*status)), &what);
        }
    });
}

#[test]
fn a_head_has_a_limit() {
    let head = |length: usize| {
        let (begin, end) = ("GET / HTTP/1.1\r\nHost: a\r\nX: ", "\r\n\r\n");
        format!("{begin}{}{end}", "x".repeat(length - begin.len() - end.len()))
    };
    for size in [1, 1000, HEAD_MAX + 1] {
        let (requests, status) = read(head(HEAD_MAX).as_bytes().chunks(size));
        same((requests.len(), status), (1, None), "A head of HEAD_MAX bytes is read.");
        let (requests, status) = read(head(HEAD_MAX + 1).as_bytes().chunks(size));
        same((requests.len(), status), (0, Some(431)), "One byte more is refused with 431.");
    }
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (begin, what) in [
        (String::new(), "A head"),
        ("GET / HTTP/1.1\r\nX: ".into(), "A field"),
        (format!("{chunked}5;"), "The line of a size"),
        (format!("{chunked}0\r\nX: "), "A line behind the last chunk"),
    ] {
        let (mut reader, mut input) = (Reader::default(), Input::new());
        input.push(begin.as_bytes());
        let sentence = format!("{what} without an end is refused with 431, and not kept.");
        for _ in 0..=HEAD_MAX {
            match reader.next(&mut input) {
                Err(None) => input.push(b"x"),
                end => return_if_431(end, &sentence),
            }
        }
        expect(reader.next(&mut input) == Err(Some(431)), &sentence);
    }
}

fn return_if_431(end: Result<Request, Option<u16>>, sentence: &str) {
    same(end.map(as_read), Err::<Read, _>(Some(431)), sentence);
}

#[test]
fn a_body_has_a_limit() {
    let post = |fields: &str, body: &str| {
        format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{body}").into_bytes()
    };
    let (full, coding) = ("x".repeat(BODY_MAX), "Transfer-Encoding: chunked");
    let half = format!("{:x}\r\n{}\r\n", BODY_MAX / 2, "x".repeat(BODY_MAX / 2));
    for bytes in [
        post(&format!("Content-Length: {BODY_MAX}"), &full),
        post(coding, &format!("{BODY_MAX:x}\r\n{full}\r\n0\r\n\r\n")),
        post(coding, &format!("{half}{half}0\r\n\r\n")),
    ] {
        let (requests, status) = read([&bytes[..]]);
        let length = requests.first().map(|request| request.2.len());
        same((length, status), (Some(BODY_MAX), None), "A body of BODY_MAX bytes is read.");
    }
    let large = "9".repeat(40);
    for (bytes, what) in [
        (post(&format!("Content-Length: {}", BODY_MAX + 1), ""), "one byte too many"),
        (post(&format!("Content-Length: {large}"), ""), "a number of 40 digits"),
        (post(coding, &format!("{:x}\r\n", BODY_MAX + 1)), "one byte too many, in a chunk"),
        (post(coding, &format!("{half}{half}1\r\n")), "one byte too many, in the third chunk"),
        (post(coding, &format!("{large}\r\n")), "a chunk whose size has 40 digits"),
    ] {
        let what = format!("It is refused with 413 as soon as the size has come: {what}.");
        same(read([&bytes[..]]), (Vec::<Read>::new(), Some(413)), &what);
    }
}
