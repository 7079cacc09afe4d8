//! Requests: whatever the bytes and wherever they are cut, the same ones are read; what is accepted
//! is what a strict grammar accepts, and comes out the same when it is written again.
//!
//! The first bytes choose the limits, the cuts, and whether the rest is the stream itself or
//! choices of what to build one from.

use super::cut;
use support::Rng;
use waterwheel::protocols::http::parts::{
    Chunked, Framing, HeadLimits, Piece, RequestHead, Scan, parse_request, room,
};

pub fn http_request(bytes: &[u8]) {
    let (head, rest) = bytes.split_at(bytes.len().min(4));
    let mut rng = Rng::from_bytes(head);
    let built = rng.below(2) == 1;
    let limits = HeadLimits {
        head_bytes_max: [8192, 8192, 8192, 100][rng.below(4) as usize],
        headers_max: [64, 64, 64, 3][rng.below(4) as usize],
        target_bytes_max: [1024, 1024, 1024, 10][rng.below(4) as usize],
    };
    let stream = if built { build(&mut Rng::from_bytes(rest)) } else { rest.to_vec() };
    let mut cuts = Rng::from_seed(rng.below(256) + 1);
    let expected = read([&stream[..]], limits);
    let pieces = cut(&stream, &mut cuts);
    assert_eq!(
        read(pieces, limits),
        expected,
        "in pieces: {:?}",
        stream.escape_ascii().to_string()
    );
    assert_eq!(read(stream.chunks(1), limits), expected, "byte by byte");
    check_first(&stream, limits);
}

/// What was read: heads as text, bodies, and at the end whether the stream is refused.
#[derive(Debug, Default, PartialEq, Eq)]
struct Read {
    heads: Vec<String>,
    bodies: Vec<Vec<u8>>,
    refused: bool,
    /// Behind an upgrade or the last request.
    rest: Vec<u8>,
}

/// Reads as a server does.
fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, limits: HeadLimits) -> Read {
    let mut read = Read::default();
    let (mut input, mut scan, mut at) = (Vec::new(), Scan::default(), At::Head);
    let (mut parsed, mut length) = (0, 0);
    for piece in pieces {
        input.extend_from_slice(piece);
        length += piece.len();
        while !read.refused {
            let used = match &mut at {
                At::Head => {
                    if !scan.is_due(&input, limits) {
                        break;
                    }
                    parsed += input.len().min(limits.head_bytes_max);
                    match read.head(&input, limits) {
                        Some((used, next)) => {
                            (scan, at) = (Scan::default(), next);
                            used
                        }
                        None => break,
                    }
                }
                body => {
                    let Some(used) = read.body(body, &input) else { break };
                    used
                }
            };
            input.drain(..used);
            if used == 0 && matches!(at, At::Length(1..) | At::Chunked(_) | At::Over) {
                break;
            }
        }
    }
    // What is wrong with half a head is told when it has doubled, or ends: here is the end.
    if !read.refused && matches!(at, At::Head) {
        assert!(read.head(&input, limits).is_none(), "a whole head was not looked at");
    }
    // At each doubling, and once for each head that ends.
    let heads = read.heads.len() + 1;
    assert!(parsed <= 4 * length + heads * limits.head_bytes_max, "{parsed} bytes for {length}");
    read
}

enum At {
    Head,
    Length(u64),
    Chunked(Chunked),
    Over,
}

impl Read {
    fn head(&mut self, input: &[u8], limits: HeadLimits) -> Option<(usize, At)> {
        let mut fields = room();
        let mut head = Ok(None);
        let memory = allocation_counter::measure(|| {
            head = parse_request(input, limits, &mut fields);
        });
        let Ok(head) = head else {
            self.refused = true;
            return None;
        };
        let head = head?;
        // A method longer than fifteen bytes is put on the heap, and so is a head of a later
        // version, with its fields.
        let line = input.split_inclusive(|byte| *byte == b'\n').find(|line| line.len() > 2);
        let is_known = line
            .is_some_and(|line| line.ends_with(b"HTTP/1.1\r\n") || line.ends_with(b"HTTP/1.0\r\n"));
        let most = u64::from(head.method.as_str().len() > 15) + if is_known { 0 } else { 2 };
        assert!(memory.count_total <= most, "it allocates");
        assert!(head.bytes <= limits.head_bytes_max.min(input.len()));
        assert!(head.headers.len() <= limits.headers_max);
        assert!(head.target.len() <= limits.target_bytes_max);
        let at = match head.body {
            _ if head.upgrades || !head.keep_alive && head.body == Framing::NONE => At::Over,
            Framing::Length(length) => At::Length(length),
            Framing::Chunked => At::Chunked(Chunked::default()),
            Framing::UntilClose => panic!("a request that ends with the connection"),
        };
        self.heads.push(text(&head));
        self.bodies.push(Vec::new());
        Some((head.bytes, at))
    }

    fn body(&mut self, at: &mut At, input: &[u8]) -> Option<usize> {
        let body = self.bodies.last_mut().expect("a head");
        match at {
            At::Length(0) => {
                *at = At::Head;
                Some(0)
            }
            At::Length(left) => {
                let taken = usize::try_from(*left).map_or(input.len(), |n| n.min(input.len()));
                body.extend_from_slice(&input[..taken]);
                *left -= taken as u64;
                Some(taken)
            }
            At::Chunked(chunked) => match chunked.step(input) {
                Ok((used, Piece::End)) => {
                    *at = At::Head;
                    Some(used)
                }
                Ok((used, piece)) => {
                    if let Piece::Data(data) = piece {
                        body.extend_from_slice(data);
                    }
                    Some(used)
                }
                Err(_) => {
                    self.refused = true;
                    None
                }
            },
            At::Head | At::Over => {
                self.rest.extend_from_slice(input);
                Some(input.len())
            }
        }
    }
}

/// A head as it would be written, and what was made of it.
fn text(head: &RequestHead<'_>) -> String {
    let facts = (head.body, head.keep_alive, head.expects_continue, head.upgrades);
    let parts = (head.authority(), head.path, head.query);
    format!("{}{facts:?} {parts:?}", String::from_utf8_lossy(&written(head)))
}

fn written(head: &RequestHead<'_>) -> Vec<u8> {
    let mut out = format!("{} {} {:?}\r\n", head.method, head.target, head.version).into_bytes();
    for (name, value) in head.headers.iter() {
        out.extend_from_slice(&[name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// The first head against the grammar, and written again.
fn check_first(stream: &[u8], limits: HeadLimits) {
    let mut fields = room();
    let head = parse_request(stream, limits, &mut fields).ok().flatten();
    let expected = reference(stream, limits);
    let told = head.as_ref().map(|head| Grammar {
        length: head.bytes,
        fields: head.headers.len(),
        body: head.body,
        keep_alive: head.keep_alive,
    });
    assert_eq!(told, expected, "{:?}", stream.escape_ascii().to_string());
    let Some(head) = head else { return };
    let again = written(&head);
    let roomy = HeadLimits { head_bytes_max: 2 * limits.head_bytes_max, ..limits };
    let mut fields = room();
    let read = parse_request(&again, roomy, &mut fields).expect("accepted").expect("whole");
    assert_eq!((text(&read), read.bytes), (text(&head), again.len()), "written again");
    assert_eq!(written(&read), again);
}

/// What a head says by the grammar.
#[derive(Debug, PartialEq, Eq)]
struct Grammar {
    length: usize,
    fields: usize,
    body: Framing,
    keep_alive: bool,
}

fn is_token(bytes: &[u8]) -> bool {
    let is_tchar = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    !bytes.is_empty() && bytes.iter().all(is_tchar)
}

/// The head at the front by RFC 9112 and what we refuse beyond it, line by line.
fn reference(stream: &[u8], limits: HeadLimits) -> Option<Grammar> {
    let start = if stream.starts_with(b"\r\n") { 2 } else { 0 };
    let end = stream[start..].windows(4).position(|four| four == b"\r\n\r\n")? + start;
    if end + 4 > limits.head_bytes_max {
        return None;
    }
    let head = std::str::from_utf8(&stream[start..end]);
    // Beyond ASCII only values may be.
    let lossy = stream[start..end].iter().map(|byte| char::from(*byte)).collect::<String>();
    let mut lines = lossy.split("\r\n");
    let line: Vec<&str> = lines.next()?.split(' ').collect();
    let [method, target, version] = line[..] else { return None };
    let is_11 = matches!(version.strip_prefix("HTTP/1.").map(str::as_bytes), Some([b'1'..=b'9']));
    let target_bytes: Vec<u8> = target.chars().map(|c| c as u8).collect();
    let fits = is_token(method.as_bytes())
        && method.len() <= 32
        && (is_11 || version == "HTTP/1.0")
        && target.is_ascii()
        && target_bytes.len() <= limits.target_bytes_max
        && is_target(method, target);
    if !fits || head.is_ok_and(str::is_empty) {
        return None;
    }
    let mut fields = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':')?;
        let value = value.trim_matches([' ', '\t']);
        let is_value = value.chars().all(|c| c == '\t' || c >= ' ' && c != '\x7f');
        if !is_token(name.as_bytes()) || !is_value {
            return None;
        }
        fields.push((name.to_ascii_lowercase(), value));
    }
    if fields.len() > limits.headers_max {
        return None;
    }
    let all = |wanted: &str| -> Vec<&str> {
        fields.iter().filter(|(name, _)| name == wanted).map(|(_, value)| *value).collect()
    };
    let hosts = all("host");
    let bad_host = hosts.iter().any(|host| !host.is_empty() && !is_authority(host));
    let is_only = |list: &str, wanted: &str| members(list) == [wanted];
    let expects = all("expect").iter().any(|value| !is_only(value, "100-continue"));
    if hosts.len() > 1 || is_11 && hosts.is_empty() || bad_host || expects {
        return None;
    }
    let body = match (&all("transfer-encoding")[..], &all("content-length")[..]) {
        ([], []) => Framing::NONE,
        ([coding], []) if is_11 && is_only(coding, "chunked") => Framing::Chunked,
        ([], [length]) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
            Framing::Length(length.parse().ok()?)
        }
        _ => return None,
    };
    if method == "CONNECT" && body != Framing::NONE {
        return None;
    }
    let connection = all("connection").join(",").to_ascii_lowercase();
    let has = |token| connection.split(',').any(|t| t.trim_matches([' ', '\t']) == token);
    let keep_alive = !has("close") && (is_11 || has("keep-alive"));
    Some(Grammar { length: end + 4, fields: fields.len(), body, keep_alive })
}

/// The members of a list, in small letters; those that are empty do not count.
fn members(list: &str) -> Vec<String> {
    let members = list.split(',').map(|member| member.trim_matches([' ', '\t']));
    members.filter(|member| !member.is_empty()).map(str::to_ascii_lowercase).collect()
}

fn is_target(method: &str, target: &str) -> bool {
    let visible = target.chars().all(|c| c > ' ' && c < '\x7f' && c != '#');
    let after = |scheme: &str| {
        let front = target.get(..scheme.len())?;
        let rest = &target[scheme.len()..];
        front.eq_ignore_ascii_case(scheme).then(|| rest.split(['/', '?']).next().unwrap_or(rest))
    };
    let absolute = || after("http://").or_else(|| after("https://")).is_some_and(is_authority);
    visible
        && match method {
            "CONNECT" => {
                is_authority(target)
                    && target.contains(':')
                    && !target.ends_with(':')
                    && !target.ends_with(']')
            }
            "OPTIONS" if target == "*" => true,
            _ => target.starts_with('/') || absolute(),
        }
}

fn is_authority(authority: &str) -> bool {
    let port = authority.bytes().rev().take_while(u8::is_ascii_digit).count();
    let front = &authority[..authority.len() - port.min(authority.len())];
    let host = match front.strip_suffix(':') {
        Some(host) if port <= 5 => host,
        _ => authority,
    };
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(ip) => ip.len() > 1 && ip.chars().all(|c| c.is_ascii_hexdigit() || ":.".contains(c)),
        None => {
            let is_name = |c: char| c.is_ascii_alphanumeric() || "-._~%!$&'()*+;=".contains(c);
            !host.is_empty() && host.chars().all(is_name)
        }
    }
}

/// Requests that are nearly right.
pub fn build(rng: &mut Rng) -> Vec<u8> {
    const METHODS: [&str; 12] = [
        "GET",
        "GET",
        "POST",
        "HEAD",
        "OPTIONS",
        "CONNECT",
        "PUT",
        "M-SEARCH",
        "get",
        "G@T",
        "",
        "VERY-LONG-METHOD-BUT-NOT-TOO-LONG",
    ];
    const TARGETS: [&str; 16] = [
        "/",
        "/",
        "/a?b=c",
        "/a/../b%2f",
        "*",
        "http://h/",
        "http://h:80?x",
        "h:80",
        "[::1]:80",
        "/a#b",
        "http://u@h/",
        "a",
        "",
        "/\u{e9}",
        "/a b",
        "HTTPS://[::1]:1/",
    ];
    const VERSIONS: [&str; 8] = [
        "HTTP/1.1",
        "HTTP/1.1",
        "HTTP/1.2",
        "HTTP/1.0",
        "HTTP/1",
        "HTTP/2.0",
        "HTTP/1.1 ",
        "http/1.1",
    ];
    const FIELDS: [&str; 32] = [
        "Host: h",
        "Host: h",
        "Host: h:80",
        "Host: [::1]",
        "Host:",
        "Host: a b",
        "host: a,b",
        "Content-Length: 5",
        "Content-Length: 0",
        "content-length:  5 ",
        "Content-Length: +5",
        "Content-Length: 5, 5",
        "Content-Length:",
        "Content-Length: 18446744073709551615",
        "Content-Length: 18446744073709551616",
        "Transfer-Encoding: chunked",
        "transfer-encoding:CHUNKED",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding:",
        "Transfer-Encoding: chunked,",
        "Connection: close",
        "Connection: keep-alive, Upgrade",
        "Upgrade: websocket",
        "Expect: ,100-continue",
        "Expect: x",
        "X: a\tb",
        "X:\u{e9}",
        " X: folded",
        "X : 1",
        ": x",
        "X",
        "X: a\rb",
    ];
    const LINES: [&str; 8] = ["\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\n"];
    const BODIES: [&str; 8] =
        ["", "", "abcde", "5\r\nabcde\r\n0\r\n\r\n", "0\r\n\r\n", "5;x\r\nabcde\r\n", "\r\n", "\n"];
    let mut out = String::new();
    let of = |all: &[&'static str], rng: &mut Rng| all[rng.below(all.len() as u64) as usize];
    while !rng.is_spent() && out.len() < super::BYTES_MAX {
        out += of(&METHODS, rng);
        out += " ";
        out += of(&TARGETS, rng);
        out += " ";
        out += of(&VERSIONS, rng);
        out += of(&LINES, rng);
        if rng.below(4) > 0 {
            out += "Host: h\r\n";
        }
        for _ in 0..rng.below(5) {
            out += of(&FIELDS, rng);
            out += of(&LINES, rng);
        }
        out += of(&LINES, rng);
        out += of(&BODIES, rng);
    }
    out.into_bytes()
}
