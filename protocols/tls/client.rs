//! The client's side: which servers it trusts, and which certificate it shows.
//!
//! Knows rustls's configuration; the protocol itself is in `session.rs`.
//!
//! # Read next
//! `handshake.rs`: from a stream to one over TLS. `pem.rs`: from text to certificates.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::client::{UnbufferedClientConnection, WebPkiServerVerifier};
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};

use super::failure::failure;
use super::handshake::{self, HANDSHAKE_TIMEOUT, Handshake};
use super::pem::{certified, invalid, protocols, provider, roots};
use super::session::Session;
use super::trust::Verifier;
use crate::net::Stream;
use crate::net::authors::without_zone;
use crate::reactor::{Context, SourceId};

/// The configuration of TLS for a client. Cheap to clone, and worth keeping: its clones resume each
/// other's sessions.
///
/// ```no_run
/// use std::time::Duration;
/// use waterwheel::{Reactor, net::tcp, protocols::tls};
///
/// let tls = tls::Client::new()?;
/// let mut reactor = Reactor::<()>::new()?;
/// let patience = Duration::from_secs(5);
/// tcp::connect_name(&mut reactor, "example.org:443", patience, move |reactor, _, result| {
///     let Ok(stream) = result else { return };
///     tls.connect(reactor, stream, "example.org", |reactor, _, result| match result {
///         Ok(stream) => println!("{:?}", stream.tls()),
///         Err(error) => eprintln!("handshake failed: {error}"),
///     });
/// });
/// reactor.run(&mut ())?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    config: Arc<ClientConfig>,
    handshake_timeout: Duration,
}

/// A client with a configuration of rustls's.
impl From<Arc<ClientConfig>> for Client {
    fn from(config: Arc<ClientConfig>) -> Client {
        Client { config, handshake_timeout: HANDSHAKE_TIMEOUT }
    }
}

impl Client {
    /// A client that trusts those that the platform trusts. The first one in a program reads some
    /// hundred files, or one large one, and blocks meanwhile: make it before the loop runs.
    ///
    /// # Errors
    /// The platform's roots cannot be read, or there are none.
    pub fn new() -> io::Result<Client> {
        Client::trusting(platform_roots()?)
    }

    /// A client that trusts only these roots: certificates as PEM.
    ///
    /// # Errors
    /// `InvalidInput`: the PEM cannot be read.
    pub fn with_roots(pem: impl AsRef<[u8]>) -> io::Result<Client> {
        Client::trusting(roots(pem.as_ref())?.into())
    }

    fn trusting(roots: Arc<RootCertStore>) -> io::Result<Client> {
        let builder = ClientConfig::builder_with_provider(provider());
        let builder = builder.with_safe_default_protocol_versions().map_err(failure)?;
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider());
        let verifier = verifier.build().map_err(|error| invalid(error.to_string()))?;
        let verifier = Arc::new(Verifier::new(verifier, roots));
        // rustls calls any verifier dangerous that is not its own; this one calls rustls's own.
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        Ok(Arc::new(builder.with_no_client_auth()).into())
    }

    /// The protocols spoken here (ALPN), most wanted first.
    pub fn alpn<I>(mut self, names: I) -> Client
    where
        I: IntoIterator<Item: AsRef<[u8]>>,
    {
        Arc::make_mut(&mut self.config).alpn_protocols = protocols(names);
        self
    }

    /// The certificate for servers that ask for one, and its private key; both as PEM.
    ///
    /// # Errors
    /// `InvalidInput`: the PEM cannot be read, or the key belongs to another certificate.
    pub fn certificate(
        mut self,
        chain: impl AsRef<[u8]>,
        key: impl AsRef<[u8]>,
    ) -> io::Result<Client> {
        let shown = SingleCertAndKey::from(certified(chain.as_ref(), key.as_ref())?);
        Arc::make_mut(&mut self.config).client_auth_cert_resolver = Arc::new(shown);
        Ok(self)
    }

    /// How long a handshake may take. [`HANDSHAKE_TIMEOUT`] (10 s) by default.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Client {
        self.handshake_timeout = timeout;
        self
    }

    /// Shakes hands with the server of this name, or address, and calls `done` once: with a stream
    /// over TLS, or with an error that says why not. Remove the source to cancel; no callback comes
    /// then. The stream may be in the middle of its life, as for
    /// [`Server::accept`](super::Server::accept).
    ///
    /// A server of TLS 1.3 that does not accept our certificate says so after the handshake:
    /// `Closed` has the reason.
    ///
    /// # Panics
    /// As [`Stream::open`], with more sources than a token can number.
    #[track_caller]
    pub fn connect<S, F>(
        &self,
        reactor: &mut Context<S>,
        stream: impl Into<Stream>,
        name: &str,
        done: F,
    ) -> SourceId<Handshake>
    where
        S: 'static,
        F: FnOnce(&mut Context<S>, &mut S, io::Result<Stream>) + 'static,
    {
        let session = self.session(name);
        handshake::start(reactor, stream.into(), session, self.handshake_timeout, done)
    }

    fn session(&self, name: &str) -> io::Result<Session> {
        // An address of IPv6 may stand in brackets, as in a URL, and have a zone, which no
        // certificate names: it is the network by which we reach the server.
        let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        let bare = without_zone(bare);
        let server = ServerName::try_from(bare.to_owned())
            .map_err(|_| invalid(format!("not the name of a server: {name:?}")))?;
        let client = UnbufferedClientConnection::new(self.config.clone(), server);
        Ok(Session::client(client.map_err(failure)?, bare))
    }
}

/// Those that the platform trusts, read once: a new list is for the next start of the program.
fn platform_roots() -> io::Result<Arc<RootCertStore>> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(roots) = ROOTS.get() {
        return Ok(roots.clone());
    }
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map_or("there are none".into(), ToString::to_string);
        return Err(io::Error::other(format!("no roots to trust on this platform: {why}")));
    }
    Ok(ROOTS.get_or_init(|| roots.into()).clone())
}
