//! Certificates made on the spot, and both ends of a connection over TLS in one loop.

use std::cell::RefCell;
use std::io::{self, Write};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use crate::tcp::turn_until;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PKCS_ED25519};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ALL_VERSIONS, ClientConfig, ServerConfig};
use waterwheel::net::{Stream, memory};
use waterwheel::protocols::tls;
use waterwheel::{Context, Reactor};

/// Somebody who issues certificates.
pub struct Authority {
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub struct Identity {
    pub chain: String,
    pub key: String,
}

fn key_pair() -> KeyPair {
    KeyPair::generate().expect("a key")
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        Authority::with(name, |_| {})
    }

    pub fn with(name: &str, change: impl Fn(&mut CertificateParams)) -> Authority {
        let mut params = CertificateParams::new([]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        change(&mut params);
        let key = key_pair();
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Authority { pem, issuer: Issuer::new(params, key) }
    }

    pub fn issue(&self, names: &[&str]) -> Identity {
        self.issue_with(names, |_| {})
    }

    pub fn issue_with(&self, names: &[&str], change: impl Fn(&mut CertificateParams)) -> Identity {
        self.sign(params(names, change), key_pair())
    }

    fn sign(&self, params: CertificateParams, key: KeyPair) -> Identity {
        let chain = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        Identity { chain, key: key.serialize_pem() }
    }
}

fn params(names: &[&str], change: impl Fn(&mut CertificateParams)) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    let common = "one that a test has made";
    params.distinguished_name.push(DnType::CommonName, common);
    change(&mut params);
    params
}

/// One that nobody but itself vouches for.
pub fn self_signed(names: &[&str]) -> Identity {
    self_signed_with(names, |_| {})
}

pub fn self_signed_with(names: &[&str], change: impl Fn(&mut CertificateParams)) -> Identity {
    let key = key_pair();
    let chain = params(names, change).self_signed(&key).expect("a certificate").pem();
    Identity { chain, key: key.serialize_pem() }
}

/// Moves the dates of a certificate: from so many days ago, to so many.
pub fn valid(params: &mut CertificateParams, from_days_ago: u64, to_days_ago: u64) {
    let ago = |days: u64| (SystemTime::now() - Duration::from_secs(days * 86_400)).into();
    (params.not_before, params.not_after) = (ago(from_days_ago), ago(to_days_ago));
}

/// What the tests' authority is called.
pub const AUTHORITY_NAME: &str = "an authority for tests";

pub fn authority() -> &'static Authority {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    AUTHORITY.get_or_init(|| Authority::new(AUTHORITY_NAME))
}

/// A certificate for `localhost` and 127.0.0.1.
pub fn localhost() -> &'static Identity {
    static LOCALHOST: OnceLock<Identity> = OnceLock::new();
    LOCALHOST.get_or_init(|| authority().issue(&["localhost", "127.0.0.1"]))
}

/// [`localhost`] with a key whose signatures are all of one size, so that the same seed of a
/// simulated network is the same run.
pub fn of_one_size() -> &'static Identity {
    static LOCALHOST: OnceLock<Identity> = OnceLock::new();
    LOCALHOST.get_or_init(|| {
        let key = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
        authority().sign(params(&["localhost"], |_| {}), key)
    })
}

pub fn server() -> tls::Server {
    server_of(localhost())
}

pub fn server_of(identity: &Identity) -> tls::Server {
    tls::Server::new(&identity.chain, &identity.key).expect("what rcgen makes is in order")
}

pub fn client() -> tls::Client {
    tls::Client::with_roots(&authority().pem).expect("what rcgen makes is in order")
}

/// The first certificate in a PEM.
pub fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate")
}

/// What `localhost` shows, as rustls wants it.
pub fn server_config() -> Arc<ServerConfig> {
    server_config_of(localhost(), ALL_VERSIONS)
}

pub fn server_config_of(identity: &Identity, versions: &[Version]) -> Arc<ServerConfig> {
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider);
    let config = config.with_protocol_versions(versions).unwrap().with_no_client_auth();
    Arc::new(config.with_single_cert(vec![der(&identity.chain)], key).unwrap())
}

/// What a client has that trusts the tests' authority.
pub fn client_config() -> Arc<ClientConfig> {
    client_config_of(ALL_VERSIONS)
}

pub fn client_config_of(versions: &[Version]) -> Arc<ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(der(&authority().pem)).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider);
    let config = config.with_protocol_versions(versions).unwrap();
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

/// A client that resumes nothing: each of its handshakes is like the first.
pub fn forgetful_config() -> Arc<ClientConfig> {
    let mut config = Arc::unwrap_or_clone(client_config());
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(config)
}

type Version = &'static rustls::SupportedProtocolVersion;

/// What becomes of both sides of a handshake.
#[derive(Default)]
pub struct Shaken {
    pub server: Option<io::Result<Stream>>,
    pub client: Option<io::Result<Stream>>,
}

impl Shaken {
    /// Both streams, of a handshake that has to succeed.
    pub fn both(self) -> (Stream, Stream) {
        let both = (self.server.expect("told"), self.client.expect("told"));
        (both.0.expect("a server's stream"), both.1.expect("a client's stream"))
    }
}

/// Shakes hands over two streams until both sides know.
pub fn shake_over<S: 'static>(
    reactor: &mut Reactor<S>,
    state: &mut S,
    (server, client): (&tls::Server, &tls::Client),
    name: &str,
    (ours, theirs): (Stream, Stream),
) -> Shaken {
    let shaken = begin(reactor, (server, client), name, (ours, theirs));
    turn_until(reactor, state, |_, _| {
        let shaken = shaken.borrow();
        shaken.server.is_some() && shaken.client.is_some()
    });
    shaken.take()
}

/// Lets two streams shake hands; what they are told is in the cell.
pub fn begin<S: 'static>(
    reactor: &mut Context<S>,
    (server, client): (&tls::Server, &tls::Client),
    name: &str,
    (ours, theirs): (Stream, Stream),
) -> Rc<RefCell<Shaken>> {
    let shaken: Rc<RefCell<Shaken>> = Rc::default();
    let told = shaken.clone();
    server.accept(reactor, ours, move |_, _, result| {
        assert!(told.borrow_mut().server.replace(result).is_none(), "told twice");
    });
    let told = shaken.clone();
    client.connect(reactor, theirs, name, move |_, _, result| {
        assert!(told.borrow_mut().client.replace(result).is_none(), "told twice");
    });
    shaken
}

/// Shakes hands in memory.
pub fn shake<S: 'static>(
    reactor: &mut Reactor<S>,
    state: &mut S,
    server: &tls::Server,
    client: &tls::Client,
) -> Shaken {
    let pair = memory::pair(reactor);
    shake_over(reactor, state, (server, client), "localhost", pair)
}

/// Two streams over TLS in memory, with so much room below.
pub fn pair<S: 'static>(
    reactor: &mut Reactor<S>,
    state: &mut S,
    buffer_bytes: usize,
) -> (Stream, Stream) {
    let pair = memory::pair_with(reactor, buffer_bytes);
    shake_over(reactor, state, (&server(), &client()), "localhost", pair).both()
}

/// A file of this test's own that goes with it.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str, text: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("waterwheel-{}-{name}", std::process::id()));
        let mut file = std::fs::File::create(&path).expect("a directory to write to");
        file.write_all(text.as_bytes()).expect("room for it");
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
