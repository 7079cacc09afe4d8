//! The properties of a connection over TLS that both ends have agreed on.
//!
//! # Read next
//! `failure.rs`: the errors if they do not agree.

use std::fmt;

use rustls::{HandshakeKind, ProtocolVersion};

use super::session::Session;
use super::tls_transport::Tls;
use crate::net::{Conn, Stream};
use crate::reactor::{Context, SourceId};

/// The properties that both ends have agreed on: of [`Conn::tls`](crate::net::Conn::tls) and
/// [`Stream::tls`](crate::net::Stream::tls).
#[derive(Clone, Copy)]
pub struct Info<'a>(pub(super) &'a Session);

impl<'a> Info<'a> {
    /// The protocol that was chosen (ALPN); `None` if one end named none.
    pub fn alpn(&self) -> Option<&'a [u8]> {
        self.0.state().alpn_protocol()
    }

    /// The name of the server that the client wants. A server knows it if the client sent it (SNI).
    pub fn server_name(&self) -> Option<&'a str> {
        self.0.server_name()
    }

    /// The version: `"TLSv1.3"` or `"TLSv1.2"`; `""` while that is not agreed on.
    pub fn version(&self) -> &'static str {
        match self.0.state().protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "",
        }
    }

    /// The name of the cipher suite, as rustls has it; `""` while that is not agreed on.
    pub fn cipher_suite(&self) -> &'static str {
        let suite = self.0.state().negotiated_cipher_suite();
        suite.and_then(|suite| suite.suite().as_str()).unwrap_or("")
    }

    /// The peer's certificate and those behind it, in DER; nothing from a client that showed none.
    pub fn peer_certificates(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.0.state().peer_certificates().into_iter().flatten().map(|one| &**one)
    }

    /// Returns true if it goes on from an earlier connection, which saved half of the handshake.
    pub fn is_resumed(&self) -> bool {
        self.0.state().handshake_kind() == Some(HandshakeKind::Resumed)
    }
}

impl Conn {
    /// The properties that both ends have agreed on, if this is a connection over TLS.
    pub fn tls(&self) -> Option<Info<'_>> {
        self.transport::<Tls>().map(Tls::info)
    }
}

impl Stream {
    /// The properties that both ends have agreed on; see [`Conn::tls`].
    pub fn tls(&self) -> Option<Info<'_>> {
        self.transport::<Tls>().map(Tls::info)
    }
}

impl SourceId<Conn> {
    /// The properties that both ends have agreed on, if this is a connection over TLS.
    pub fn tls<S: 'static>(self, reactor: &Context<S>) -> Option<Info<'_>> {
        reactor.get(self)?.tls()
    }
}

impl fmt::Debug for Info<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Info")
            .field("version", &self.version())
            .field("cipher_suite", &self.cipher_suite())
            .field("alpn", &self.alpn().map(String::from_utf8_lossy))
            .field("server_name", &self.server_name())
            .field("peer_certificates", &self.peer_certificates().count())
            .field("is_resumed", &self.is_resumed())
            .finish()
    }
}
