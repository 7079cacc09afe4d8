//! A request of the client: built step by step, and encoded as bytes.
//!
//! Knows methods and fields; never mentions a connection.
//!
//! A request that a proxy on the way could take for two is refused before a byte is sent: line ends
//! in a value, fields that say where the body ends, a name that is no token.
//!
//! # Read next
//! `reader.rs`: the response.

use std::fmt;
use std::time::Duration;

use http::Method;

use super::client_url::ClientUrl;
use super::dial::Proxy;
use super::error::Error;
use super::fields::Fields;
use crate::protocols::http::headers::{is_text, is_token};
use crate::protocols::http::response::put_number;

/// Bytes that the head of a request may have. 256 KiB: servers allow much less.
const HEAD_BYTES_MAX: usize = 256 * 1024;

/// A request to be sent by a [`Client`](super::Client).
///
/// ```
/// use waterwheel::protocols::http::ClientRequest;
///
/// let request = ClientRequest::post("http://example.org/orders")
///     .header("Content-Type", "application/json")
///     .body(r#"{"count": 3}"#);
/// ```
#[derive(Clone)]
pub struct ClientRequest {
    pub(super) method: Method,
    /// Or the text that was given, and the reason why it is no URL.
    pub(super) url: Result<ClientUrl, (Box<str>, Box<str>)>,
    pub(super) headers: Fields,
    pub(super) body: RequestBody,
    pub(super) expects_continue: bool,
    /// The protocols to which the connection may change.
    pub(super) upgrade: Option<Box<str>>,
    pub(super) redirects_max: u32,
    pub(super) timeout: Option<Duration>,
    pub(super) body_bytes_max: Option<u64>,
}

/// The body that is sent behind the head.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum RequestBody {
    /// No body; the head does not mention one.
    None,
    Bytes(Vec<u8>),
    /// The caller writes it piece by piece: of this length, or chunked if the length is unknown.
    Stream(Option<u64>),
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestBody::None => f.write_str("None"),
            RequestBody::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            RequestBody::Stream(length) => write!(f, "Stream({length:?})"),
        }
    }
}

impl ClientRequest {
    /// A request of any method except CONNECT, which is for proxies. An error in the URL, or in
    /// anything else, is reported when the request is sent.
    ///
    /// Spaces and letters beyond ASCII behind the host are percent-encoded. In the host they are an
    /// error.
    pub fn new(method: Method, url: impl AsRef<str>) -> ClientRequest {
        let url = url.as_ref();
        ClientRequest {
            method,
            url: ClientUrl::parse(url).map_err(|why| (shown(url), why.into())),
            headers: Fields::default(),
            body: RequestBody::None,
            expects_continue: false,
            upgrade: None,
            redirects_max: 0,
            timeout: None,
            body_bytes_max: None,
        }
    }

    /// GET.
    pub fn get(url: impl AsRef<str>) -> ClientRequest {
        ClientRequest::new(Method::GET, url)
    }

    /// HEAD: the response has no body.
    pub fn head(url: impl AsRef<str>) -> ClientRequest {
        ClientRequest::new(Method::HEAD, url)
    }

    /// POST.
    pub fn post(url: impl AsRef<str>) -> ClientRequest {
        ClientRequest::new(Method::POST, url)
    }

    /// PUT.
    pub fn put(url: impl AsRef<str>) -> ClientRequest {
        ClientRequest::new(Method::PUT, url)
    }

    /// DELETE.
    pub fn delete(url: impl AsRef<str>) -> ClientRequest {
        ClientRequest::new(Method::DELETE, url)
    }

    /// The same request, with the same path, to another server: `origin` is such as
    /// `http://127.0.0.1:8001`.
    pub fn to_origin(mut self, origin: impl AsRef<str>) -> ClientRequest {
        if let Ok(target) = &self.url {
            let url = [origin.as_ref(), target.path()].concat();
            self.url = ClientUrl::parse(&url).map_err(|why| (shown(&url), why.into()));
        }
        self
    }

    /// Adds a field. A `Host` replaces the host of the URL in the head. Fields that say where the
    /// body ends, and `Expect` and `Upgrade`, are refused when the request is sent.
    /// `Proxy-Authorization` goes to a proxy that forwards, and never through a tunnel.
    pub fn header(mut self, name: impl AsRef<str>, value: impl AsRef<[u8]>) -> ClientRequest {
        self.add_header(name.as_ref(), value.as_ref());
        self
    }

    pub(in crate::protocols::http) fn add_header(&mut self, name: &str, value: &[u8]) {
        self.headers.push(name, value);
    }

    /// The body. It is kept until the response is there.
    pub fn body(mut self, bytes: impl Into<Vec<u8>>) -> ClientRequest {
        self.body = RequestBody::Bytes(bytes.into());
        self
    }

    /// The body is written piece by piece, by [`SourceId::<Call>::write`](crate::SourceId::write):
    /// `length` bytes, or chunked if it is `None`.
    pub fn body_stream(mut self, length: Option<u64>) -> ClientRequest {
        self.body = RequestBody::Stream(length);
        self
    }

    /// Sends the body only when the server agrees (`Expect: 100-continue`), or does not respond
    /// for [`ClientLimits::continue_timeout`](super::ClientLimits::continue_timeout). A server that
    /// does not know the field responds with 417: the request is then sent again without it. Off by
    /// default.
    pub fn expect_continue(mut self) -> ClientRequest {
        self.expects_continue = true;
        self
    }

    /// Asks the server to speak another protocol on this connection (RFC 9110, 7.8). If it does, the
    /// [`Head`](super::CallEvent::Head) has the status 101, and
    /// [`take_stream`](crate::SourceId::take_stream) is to be called in that callback. Only for a
    /// request without a body.
    pub fn upgrade(mut self, protocols: impl AsRef<str>) -> ClientRequest {
        self.upgrade = Some(protocols.as_ref().into());
        self
    }

    /// Follows at most so many redirects. 0 by default: a redirect is a response like any other.
    ///
    /// As in browsers, 301 and 302 turn POST into GET, and 303 turns all methods but HEAD into GET.
    /// 307 and 308 repeat the request. That is possible only if the body was given whole, or if
    /// nothing of it was sent ([`expect_continue`](ClientRequest::expect_continue)).
    /// `Authorization`, `Cookie` and `Proxy-Authorization` are sent to their own origin only.
    pub fn redirects(mut self, most: u32) -> ClientRequest {
        self.redirects_max = most;
        self
    }

    /// How long the whole call may take, in place of
    /// [`ClientLimits::total_timeout`](super::ClientLimits::total_timeout).
    pub fn timeout(mut self, timeout: Duration) -> ClientRequest {
        self.timeout = Some(timeout);
        self
    }

    /// How many bytes of a response's body are collected at most, in place of
    /// [`ClientLimits::body_bytes_max`](super::ClientLimits::body_bytes_max).
    pub fn body_bytes_max(mut self, bytes: u64) -> ClientRequest {
        self.body_bytes_max = Some(bytes);
        self
    }

    /// The URL, if the request can be sent.
    pub(super) fn check(&self) -> Result<ClientUrl, Error> {
        let target = self.url.clone().map_err(|(url, why)| Error::Request { url, why })?;
        match self.check_parts() {
            Ok(()) => Ok(target),
            Err(why) => Err(Error::Request { url: (&**target.url()).into(), why: why.into() }),
        }
    }

    fn check_parts(&self) -> Result<(), String> {
        if self.method == Method::CONNECT {
            return Err("CONNECT is for proxies".to_owned());
        }
        let mut bytes = 0;
        if let Some(protocols) = &self.upgrade {
            if protocols.trim().is_empty() || !protocols.bytes().all(is_text) {
                return Err("no protocol to upgrade to".to_owned());
            }
            if self.body != RequestBody::None || self.named("connection").next().is_some() {
                return Err("an upgrade has no body, and its own Connection".to_owned());
            }
            bytes += protocols.len();
        }
        for (name, value) in self.headers.iter() {
            if name.is_empty() || !name.bytes().all(is_token) {
                return Err(format!("not a field name: {name:?}"));
            }
            if !value.iter().copied().all(is_text) {
                return Err(format!("the value of {name} has a line end or a control character"));
            }
            let ours = ["content-length", "transfer-encoding", "expect", "upgrade"];
            if ours.iter().any(|ours| name.eq_ignore_ascii_case(ours)) {
                return Err(format!("{name} is the client's own to set"));
            }
            bytes += name.len() + value.len() + 4;
        }
        if self.named("host").any(|host| host.iter().any(|b| b" ,/?#@".contains(b))) {
            return Err("a bad Host field".to_owned());
        }
        // They replace the client's own fields; of two fields of one name, neither has precedence.
        for name in ["Host", "Authorization", "Proxy-Authorization"] {
            if self.named(name).nth(1).is_some() {
                return Err(format!("{name} is there twice"));
            }
        }
        if bytes > HEAD_BYTES_MAX {
            return Err(format!("its fields have more than {HEAD_BYTES_MAX} bytes"));
        }
        Ok(())
    }

    pub(super) fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let of_name = self.headers.iter().filter(move |(own, _)| own.eq_ignore_ascii_case(name));
        of_name.map(|(_, value)| value)
    }

    /// Returns true if it asks the server to close the connection after the response.
    pub(super) fn closes(&self) -> bool {
        let mut tokens = self.named("connection").flat_map(|value| value.split(|b| *b == b','));
        tokens.any(|token| token.trim_ascii().eq_ignore_ascii_case(b"close"))
    }

    /// Returns true if it may be sent twice (RFC 9110, 9.2.2): the outcome is the same if it is
    /// done once or twice.
    pub(super) fn is_repeatable(&self) -> bool {
        let idempotent = [Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS];
        idempotent.contains(&self.method) && !matches!(self.body, RequestBody::Stream(_))
    }

    /// Adds the head to `out`. To a proxy that forwards, the request target is the whole URL.
    pub(super) fn encode(&self, target: &ClientUrl, proxy: Option<&Proxy>, out: &mut Vec<u8>) {
        out.extend_from_slice(self.method.as_str().as_bytes());
        out.push(b' ');
        if proxy.is_some() {
            out.extend_from_slice(target.origin().as_bytes());
        }
        out.extend_from_slice(target.path().as_bytes());
        out.extend_from_slice(b" HTTP/1.1\r\n");
        let own = [
            ("Host", Some(target.host_field())),
            ("Proxy-Authorization", proxy.and_then(Proxy::authorization)),
            ("Authorization", target.authorization.as_deref()),
        ];
        for (name, value) in own {
            // A field that the caller has set replaces it.
            if let Some(value) = value.filter(|_| self.named(name).next().is_none()) {
                field(out, name, value.as_bytes());
            }
        }
        for (name, value) in self.headers.iter() {
            // For the next proxy (RFC 9110, 11.7.2): there is none, or it sees ciphertext only.
            if proxy.is_some() || !name.eq_ignore_ascii_case("proxy-authorization") {
                field(out, name, value);
            }
        }
        if let Some(protocols) = &self.upgrade {
            field(out, "Connection", b"Upgrade");
            field(out, "Upgrade", protocols.as_bytes());
        }
        match self.body_bytes() {
            Some(length) => {
                out.extend_from_slice(b"Content-Length: ");
                put_number(out, length, 10);
                out.extend_from_slice(b"\r\n");
            }
            None if self.body == RequestBody::None => {}
            None => field(out, "Transfer-Encoding", b"chunked"),
        }
        if self.waits_for_continue() {
            field(out, "Expect", b"100-continue");
        }
        out.extend_from_slice(b"\r\n");
    }

    /// The length that the head announces. Methods that usually have a body announce 0 if there is
    /// none.
    fn body_bytes(&self) -> Option<u64> {
        let has_body = [Method::POST, Method::PUT, Method::PATCH].contains(&self.method);
        match &self.body {
            RequestBody::None => has_body.then_some(0),
            RequestBody::Bytes(bytes) => Some(bytes.len() as u64),
            RequestBody::Stream(length) => *length,
        }
    }

    /// Returns true if there is a body to hold back. Without one the field must not be sent (RFC
    /// 9110, 10.1.1).
    pub(super) fn waits_for_continue(&self) -> bool {
        let has_body = match &self.body {
            RequestBody::None => false,
            RequestBody::Bytes(bytes) => !bytes.is_empty(),
            RequestBody::Stream(length) => *length != Some(0),
        };
        self.expects_continue && has_body
    }
}

/// A bad URL without its credentials, which do not belong in a log.
fn shown(url: &str) -> Box<str> {
    url.rsplit_once('@').map_or(url, |(_, rest)| rest).into()
}

fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    for piece in [name.as_bytes(), b": ", value, b"\r\n"] {
        out.extend_from_slice(piece);
    }
}

/// Without its secrets: the user in the URL, and the values of the fields.
impl fmt::Debug for ClientRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self.url.as_ref().map(ClientUrl::url);
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("ClientRequest")
            .field("method", &self.method)
            .field("url", &url)
            .field("headers", &names)
            .field("body", &self.body)
            .finish_non_exhaustive()
    }
}

/// A URL, for a plain GET.
impl From<&str> for ClientRequest {
    fn from(url: &str) -> ClientRequest {
        ClientRequest::get(url)
    }
}

impl From<String> for ClientRequest {
    fn from(url: String) -> ClientRequest {
        ClientRequest::get(url)
    }
}
