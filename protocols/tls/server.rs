//! The server's side: its certificates, and those that it requires of clients.
//!
//! Knows rustls's configuration; the protocol itself is in `session.rs`.
//!
//! # Read next
//! `client.rs`: the other side. `hosts.rs`: which client gets which certificate.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::ring::Ticketer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientCertVerifierBuilder, UnbufferedServerConnection, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;

use super::failure::failure;
use super::handshake::{self, HANDSHAKE_TIMEOUT, Handshake};
use super::hosts::Hosts;
use super::pem::{certified, invalid, protocols, provider, roots};
use super::session::Session;
use super::trust::Verifier;
use crate::net::Stream;
use crate::reactor::{Context, SourceId};

/// The configuration of TLS for a server. Cheap to clone; may be shared by the loops of several
/// threads.
///
/// Sessions can be resumed, for six hours at least, by tickets that only this value and its clones
/// understand.
///
/// ```no_run
/// use waterwheel::{Reactor, net::{Event, tcp}, protocols::tls};
///
/// let cert = std::fs::read("cert.pem")?;
/// let key = std::fs::read("key.pem")?;
/// let tls = tls::Server::new(cert, key)?;
/// let mut reactor = Reactor::<()>::new()?;
/// tcp::listen(&mut reactor, "127.0.0.1:7009", move |reactor, _, incoming| {
///     tls.accept(reactor, incoming, |reactor, _, result| match result {
///         Ok(stream) => {
///             stream.open(reactor, |reactor, _, conn, event| {
///                 if let Event::Data(bytes) = event {
///                     let _ = conn.write(reactor, bytes);
///                 }
///             });
///         }
///         Err(error) => eprintln!("handshake failed: {error}"),
///     });
/// })?;
/// reactor.run(&mut ())?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Server {
    config: Arc<ServerConfig>,
    hosts: Arc<Hosts>,
    handshake_timeout: Duration,
}

/// A server with a configuration of rustls's. Early data, if that has it, is switched off.
impl From<Arc<ServerConfig>> for Server {
    fn from(mut config: Arc<ServerConfig>) -> Server {
        if config.max_early_data_size > 0 {
            Arc::make_mut(&mut config).max_early_data_size = 0;
        }
        let hosts = Arc::new(Hosts::new(config.cert_resolver.clone()));
        Server { config, hosts, handshake_timeout: HANDSHAKE_TIMEOUT }
    }
}

impl Server {
    /// A server with a certificate and its private key, both as PEM. `chain` is the certificate,
    /// followed by those that certify it. For tests, openssl makes both; to a client of
    /// [`Client::with_roots`](super::Client::with_roots) `cert.pem` is then its own root:
    ///
    /// ```sh
    /// openssl req -x509 -newkey rsa:2048 -nodes -days 90 -keyout key.pem -out cert.pem \
    ///     -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
    ///     -addext basicConstraints=CA:FALSE
    /// ```
    ///
    /// Without the last line it is an authority's, which this crate's client refuses.
    ///
    /// # Errors
    /// `InvalidInput`: the PEM cannot be read, or the key belongs to another certificate.
    pub fn new(chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> io::Result<Server> {
        let certified = certified(chain.as_ref(), key.as_ref())?;
        let hosts = Arc::new(Hosts::new(Arc::new(SingleCertAndKey::from(certified))));
        let builder = ServerConfig::builder_with_provider(provider());
        let builder = builder.with_safe_default_protocol_versions().map_err(failure)?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(hosts.clone());
        config.ticketer = Ticketer::new().map_err(failure)?;
        Ok(Server { config: Arc::new(config), hosts, handshake_timeout: HANDSHAKE_TIMEOUT })
    }

    /// A certificate for clients that ask for this name (SNI); `*.example.org` is for all of them
    /// one label below. A client that asks for another name, or for none, is shown the certificate
    /// of [`new`](Server::new).
    ///
    /// # Errors
    /// As [`new`](Server::new).
    pub fn host(
        mut self,
        name: &str,
        chain: impl AsRef<[u8]>,
        key: impl AsRef<[u8]>,
    ) -> io::Result<Server> {
        let certified = certified(chain.as_ref(), key.as_ref())?;
        Arc::make_mut(&mut self.hosts).insert(name, certified);
        Arc::make_mut(&mut self.config).cert_resolver = self.hosts.clone();
        Ok(self)
    }

    /// The protocols spoken here (ALPN), most wanted first: `["http/1.1"]`. A client that offers
    /// others only is refused.
    pub fn alpn<I>(mut self, names: I) -> Server
    where
        I: IntoIterator<Item: AsRef<[u8]>>,
    {
        Arc::make_mut(&mut self.config).alpn_protocols = protocols(names);
        self
    }

    /// Refuses clients that show no certificate issued by one of these roots (PEM). Sessions of the
    /// server that this was made from are not resumed.
    ///
    /// Of a server that was made from a `rustls::ServerConfig` only the certificates and the
    /// protocols (ALPN) are kept: set the verifier in that configuration instead.
    ///
    /// # Errors
    /// `InvalidInput`: the PEM cannot be read.
    pub fn require_clients(self, roots: impl AsRef<[u8]>) -> io::Result<Server> {
        self.verify(roots.as_ref(), |verifier| verifier)
    }

    /// As [`require_clients`](Server::require_clients), but lets in those that show none.
    ///
    /// # Errors
    /// As there.
    pub fn ask_clients(self, roots: impl AsRef<[u8]>) -> io::Result<Server> {
        self.verify(roots.as_ref(), ClientCertVerifierBuilder::allow_unauthenticated)
    }

    fn verify(
        mut self,
        pem: &[u8],
        how: impl Fn(ClientCertVerifierBuilder) -> ClientCertVerifierBuilder,
    ) -> io::Result<Server> {
        let roots = Arc::new(roots(pem)?);
        let builder = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider());
        let built = how(builder).build();
        let verifier: Arc<dyn ClientCertVerifier> =
            built.map_err(|error| invalid(format!("the roots are of no use: {error}")))?;
        let verifier = Arc::new(Verifier::new(verifier, roots));
        let old = &self.config;
        let builder = ServerConfig::builder_with_provider(old.crypto_provider().clone());
        let builder = builder.with_safe_default_protocol_versions().map_err(failure)?;
        let builder = builder.with_client_cert_verifier(verifier);
        let mut config = builder.with_cert_resolver(old.cert_resolver.clone());
        config.alpn_protocols = old.alpn_protocols.clone();
        // A ticket stands for the certificate of the client that got it, or for none: those of a
        // server that did not ask would let their holders in here without one.
        config.ticketer = match old.ticketer.enabled() {
            true => Ticketer::new().map_err(failure)?,
            false => old.ticketer.clone(),
        };
        self.config = Arc::new(config);
        Ok(self)
    }

    /// How long a handshake may take. [`HANDSHAKE_TIMEOUT`] (10 s) by default.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Server {
        self.handshake_timeout = timeout;
        self
    }

    /// Shakes hands with a client and calls `done` once: with a stream over TLS, or with an error
    /// that says why not. Remove the source to cancel; no callback comes then.
    ///
    /// The stream may be in the middle of its life: a [`Conn`](crate::net::Conn) that was
    /// deregistered. Its unsent bytes go out first, in the clear; its unread bytes are the
    /// beginning of the handshake. So a client can switch to TLS by a line:
    ///
    /// ```no_run
    /// use waterwheel::{Context, Reactor, net::{Framed, Lines, Stream, framed, tcp}, protocols::tls};
    ///
    /// let tls = tls::Server::new(std::fs::read("cert.pem")?, std::fs::read("key.pem")?)?;
    /// let mut reactor = Reactor::<()>::new()?;
    /// tcp::listen(&mut reactor, "127.0.0.1:2525", move |reactor, _, incoming| {
    ///     let tls = tls.clone();
    ///     incoming.open(reactor, framed(Lines::new(512), move |reactor, _, conn, event| match event {
    ///         Framed::Frame(b"STARTTLS") => {
    ///             let _ = conn.write(reactor, b"220 go ahead\r\n");
    ///             let Some(clear) = reactor.deregister(conn) else { return };
    ///             tls.accept(reactor, clear, |reactor, _, result| match result {
    ///                 Ok(stream) => serve(reactor, stream),
    ///                 Err(error) => eprintln!("handshake failed: {error}"),
    ///             });
    ///         }
    ///         Framed::Frame(_) => { conn.close(reactor); }
    ///         _ => {}
    ///     }));
    /// })?;
    /// # fn serve(_: &mut Context<()>, _: Stream) {}
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// Bytes that came behind the line in the same read are dropped with the codec, on purpose: a
    /// client waits for the 220 before its hello, so such bytes may be lines of an attacker on the
    /// way, and must not be taken for input that came over TLS.
    ///
    /// # Panics
    /// As [`Stream::open`], with more sources than a token can number.
    #[track_caller]
    pub fn accept<S, F>(
        &self,
        reactor: &mut Context<S>,
        stream: impl Into<Stream>,
        done: F,
    ) -> SourceId<Handshake>
    where
        S: 'static,
        F: FnOnce(&mut Context<S>, &mut S, io::Result<Stream>) + 'static,
    {
        let session = UnbufferedServerConnection::new(self.config.clone()).map(Session::server);
        handshake::start(
            reactor,
            stream.into(),
            session.map_err(failure),
            self.handshake_timeout,
            done,
        )
    }
}
