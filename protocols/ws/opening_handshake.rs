//! The opening handshake: the HTTP request and response with which a WebSocket begins (RFC 6455,
//! 4).
//!
//! Knows header fields; never mentions a connection. The server proves that it speaks
//! WebSocket: its response contains a value that is made of the client's key. So no page can use a
//! browser to send requests to a server of another protocol.
//!
//! # Read next
//! `ws_accept.rs`: a server's side; `ws_connect.rs`: a client's.

use tungstenite::handshake::derive_accept_key;

use super::origin;
use crate::protocols::http::{Headers, Method, Refusal, StatusCode, Version};

/// The version of the protocol, and the only one there is.
pub(super) const VERSION: &str = "13";

/// A correct request for a WebSocket.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct HandshakeRequest<'a> {
    key: &'a str,
    /// The page it comes from, where a browser sends it.
    pub(super) origin: Option<&'a str>,
    /// The server that it is sent to: a host, and a port if one was named.
    authority: Option<&'a str>,
    /// The subprotocols that the client offers, the best first.
    pub(super) protocols: Vec<&'a str>,
}

/// Checks a request (RFC 6455, 4.2.1); `authority` is the host it is for.
pub(super) fn check_request<'a>(
    method: &Method,
    version: Version,
    authority: Option<&'a str>,
    headers: Headers<'a>,
) -> Result<HandshakeRequest<'a>, Refusal> {
    if !headers.has_token("upgrade", "websocket") || !headers.has_token("connection", "upgrade") {
        return Err(Refusal::new(426, "this is a WebSocket: request an upgrade"));
    }
    if method != Method::GET || version < Version::HTTP_11 {
        return Err(Refusal::new(400, "an upgrade to WebSocket is a GET of HTTP/1.1"));
    }
    if only(headers, "sec-websocket-version") != Some(VERSION) {
        return Err(Refusal::new(426, "the version of WebSocket is 13"));
    }
    let key = only(headers, "sec-websocket-key").filter(|key| is_key(key));
    let Some(key) = key else { return Err(Refusal::new(400, "a bad Sec-WebSocket-Key")) };
    let lists = headers.get_all("sec-websocket-protocol");
    let lists = lists.map(|list| std::str::from_utf8(list).ok());
    let Some(lists) = lists.collect::<Option<Vec<_>>>() else {
        return Err(Refusal::new(400, "a bad Sec-WebSocket-Protocol"));
    };
    let protocols = lists.iter().flat_map(|list| list.split(',')).map(str::trim);
    Ok(HandshakeRequest {
        key,
        // An origin that is no text, or is there twice, is that of an unknown page.
        origin: headers.get_bytes("origin").map(|_| only(headers, "origin").unwrap_or_default()),
        authority,
        protocols: protocols.filter(|name| !name.is_empty()).collect(),
    })
}

impl<'a> HandshakeRequest<'a> {
    /// The proof that the request was understood.
    pub(super) fn accept(&self) -> String {
        derive_accept_key(self.key.as_bytes())
    }

    /// The first of the client's subprotocols that the server speaks, too.
    pub(super) fn choose(&self, spoken: &[String]) -> Option<&'a str> {
        self.protocols.iter().copied().find(|offered| spoken.iter().any(|spoken| spoken == offered))
    }

    /// Returns true if it comes from a page of the host that it is sent to, or from no page at all.
    /// A browser lets any page open a WebSocket to anywhere, with cookies; only the server can
    /// check.
    pub(super) fn is_same_origin(&self) -> bool {
        let Some(origin) = self.origin else { return true };
        self.authority.is_some_and(|authority| origin::leads_to(origin, authority))
    }
}

/// Returns true if it is sixteen bytes in Base64: 22 characters, the last with four bits unused,
/// and a filling.
fn is_key(key: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    let Some(digits) = key.strip_suffix("==") else { return false };
    digits.len() == 22 && digits.bytes().all(is_digit) && digits.ends_with(['A', 'Q', 'g', 'w'])
}

/// The members of a list, which may be spread over several fields; empty ones do not count.
fn members<'a>(headers: Headers<'a>, name: &str) -> impl Iterator<Item = &'a [u8]> {
    let members = headers.get_all(name).flat_map(|list| list.split(|byte| *byte == b','));
    members.map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

/// The value of a field that must be there exactly once.
fn only<'a>(headers: Headers<'a>, name: &str) -> Option<&'a str> {
    let mut all = headers.get_all(name);
    let value = all.next()?;
    if all.next().is_some() { None } else { std::str::from_utf8(value).ok() }
}

/// Checks the response to a request with that key and those subprotocols (RFC 6455, 4.1). Returns
/// the subprotocol that was chosen.
pub(super) fn check_response<'a>(
    status: StatusCode,
    headers: Headers<'a>,
    key: &str,
    offered: &[String],
) -> Result<Option<&'a str>, String> {
    if status != StatusCode::SWITCHING_PROTOCOLS {
        return Err(format!("the server responded with {status}"));
    }
    let mut upgrade = members(headers, "upgrade");
    let is_websocket = upgrade.next().is_some_and(|name| name.eq_ignore_ascii_case(b"websocket"));
    if !is_websocket || upgrade.next().is_some() || !headers.has_token("connection", "upgrade") {
        return Err("the server upgrades to something else".to_owned());
    }
    if only(headers, "sec-websocket-accept") != Some(&derive_accept_key(key.as_bytes())) {
        return Err("the server does not know WebSocket: a wrong Sec-WebSocket-Accept".to_owned());
    }
    if members(headers, "sec-websocket-extensions").next().is_some() {
        return Err("the server uses an extension that was not requested".to_owned());
    }
    if headers.get_bytes("sec-websocket-protocol").is_none() {
        return Ok(None);
    }
    let chosen = only(headers, "sec-websocket-protocol");
    let chosen = chosen.filter(|chosen| offered.iter().any(|offered| offered == chosen));
    chosen.map(Some).ok_or_else(|| "the server chose a subprotocol that was not offered".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocols::http::parts::{HeadLimits, parse_request, parse_response, room};

    const LIMITS: HeadLimits =
        HeadLimits { head_bytes_max: 4096, headers_max: 64, target_bytes_max: 1024 };
    /// Key and accepted value of RFC 6455, 1.3.
    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
    const GOOD: &str = "GET /chat HTTP/1.1\r\nHost: server.example\r\nUpgrade: websocket\r\n\
        Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Origin: http://server.example\r\nSec-WebSocket-Protocol: chat, superchat\r\n\
        Sec-WebSocket-Protocol: last\r\nSec-WebSocket-Version: 13\r\n\r\n";
    const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

    fn checked_request<T>(
        request: &str,
        look: impl FnOnce(Result<HandshakeRequest<'_>, Refusal>) -> T,
    ) -> T {
        let mut room = room();
        let head = parse_request(request.as_bytes(), LIMITS, &mut room).unwrap().unwrap();
        look(check_request(&head.method, head.version, head.authority(), head.headers))
    }

    fn checked_response(response: &str, offered: &[&str]) -> Result<Option<String>, String> {
        let mut room = room();
        let head = parse_response(response.as_bytes(), LIMITS, &Method::GET, &mut room);
        let head = head.unwrap().unwrap();
        let offered: Vec<String> = offered.iter().map(|name| name.to_string()).collect();
        check_response(head.status, head.headers, KEY, &offered)
            .map(|chosen| chosen.map(str::to_owned))
    }

    #[test]
    fn good_request_is_understood() {
        checked_request(GOOD, |request| {
            let request = request.unwrap();
            assert_eq!(request.accept(), ACCEPT);
            assert_eq!(request.protocols, ["chat", "superchat", "last"]);
            assert_eq!(
                request.choose(&["last".to_owned(), "superchat".to_owned()]),
                Some("superchat")
            );
            assert_eq!(request.choose(&["Chat".to_owned()]), None);
            assert!(request.is_same_origin());
        });
    }

    #[test]
    fn bad_requests_are_refused_each_with_its_status() {
        for (from, to, status) in [
            ("Upgrade: websocket", "Upgrade: h2c", 426),
            ("keep-alive, Upgrade", "keep-alive", 426),
            ("GET", "POST", 400),
            ("Version: 13", "Version: 8", 426),
            ("Version: 13", "Version: 13\r\nSec-WebSocket-Version: 13", 426),
            ("Sec-WebSocket-Key", "X-Key", 400),
            ("ZSBub25jZQ==", "ZSBub25jZQ==\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", 400),
            ("ZSBub25jZQ==", "ZSBub25jZ===", 400),
            ("ZSBub25jZQ==", "ZSBub25jZR==", 400),
            ("ZSBub25jZQ==", "ZSBub25jZQ", 400),
            ("chat, super", "ch\u{e4}t, super", 0), // Not checked here: no server will choose it.
        ] {
            let request = GOOD.replace(from, to);
            assert!(request != GOOD, "{from}");
            let refused =
                checked_request(&request, |request| request.map_or_else(Refusal::status, |_| 0));
            assert_eq!(refused, status, "{from} to {to}");
        }
    }

    #[test]
    fn pages_of_other_hosts_are_told_apart() {
        for (origin, same) in [
            ("http://SERVER.example", true),
            ("https://server.example", true),
            ("http://server.example:8080", false),
            ("http://evil.example", false),
            ("http://server.example.evil.example", false),
            ("http://server.example:80", true),
            ("https://server.example:443", true),
            ("http://server.example:443", false),
            ("null", false),
        ] {
            let request = GOOD.replace("http://server.example", origin);
            assert_eq!(
                checked_request(&request, |request| request.unwrap().is_same_origin()),
                same,
                "{origin}"
            );
        }
        let twice = GOOD.replace("Origin", "Origin: http://server.example\r\nOrigin");
        assert!(!checked_request(&twice, |request| request.unwrap().is_same_origin()));
        let request = GOOD.replace("Origin: http://server.example\r\n", "");
        assert!(checked_request(&request, |request| request.unwrap().is_same_origin()));
    }

    #[test]
    fn target_that_names_a_host_goes_before_the_field() {
        let request = GOOD.replace("Host: server.example", "Host: other.example");
        assert!(!checked_request(&request, |request| request.unwrap().is_same_origin()));
        let named = request.replace("GET /chat", "GET http://Server.example:80/chat");
        assert!(checked_request(&named, |request| request.unwrap().is_same_origin()));
        let named = GOOD.replace("GET /chat", "GET http://other.example/chat");
        assert!(!checked_request(&named, |request| request.unwrap().is_same_origin()));
    }

    #[test]
    fn response_must_prove_that_it_understood() {
        assert_eq!(checked_response(AGREED, &[]), Ok(None));
        let empty =
            AGREED.replace("WebSocket\r\n", ", WebSocket,\r\nSec-WebSocket-Extensions: ,\r\n");
        assert_eq!(checked_response(&empty, &[]), Ok(None), "empty members do not count");
        for (from, to) in [
            ("101 Switching Protocols", "200 OK"),
            ("WebSocket\r\n", "h2c\r\n"),
            ("WebSocket\r\n", "WebSocket, h2c\r\n"),
            ("WebSocket\r\n", "WebSocket\r\nUpgrade: WebSocket\r\n"),
            ("WebSocket\r\n", ",\r\n"),
            ("Connection: Upgrade", "Connection: close"),
            ("s3pP", "S3pP"),
            ("Connection:", "Sec-WebSocket-Extensions: permessage-deflate\r\nConnection:"),
            ("Connection:", "Sec-WebSocket-Protocol: chat\r\nConnection:"),
        ] {
            assert!(AGREED.contains(from));
            assert!(checked_response(&AGREED.replace(from, to), &[]).is_err(), "{from} to {to}");
        }
        let chosen = AGREED.replace("Connection:", "Sec-WebSocket-Protocol: chat\r\nConnection:");
        assert_eq!(checked_response(&chosen, &["super", "chat"]), Ok(Some("chat".to_owned())));
        assert!(checked_response(&chosen, &["super"]).is_err());
    }
}
