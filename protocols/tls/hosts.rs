//! The choice of a certificate, by the name that the client sends (SNI, RFC 6066, 3).
//!
//! # Read next
//! `handshake.rs`: where clients send the name.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// Certificates by host name, and the one for clients that send none of these names.
#[derive(Clone, Debug)]
pub(super) struct Hosts {
    by_name: HashMap<String, Arc<CertifiedKey>>,
    otherwise: Arc<dyn ResolvesServerCert>,
}

impl Hosts {
    pub(super) fn new(otherwise: Arc<dyn ResolvesServerCert>) -> Hosts {
        Hosts { by_name: HashMap::new(), otherwise }
    }

    /// `*.example.org` stands for any one label in front.
    pub(super) fn insert(&mut self, name: &str, certified: Arc<CertifiedKey>) {
        self.by_name.insert(name.to_ascii_lowercase(), certified);
    }

    fn find(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let name = name.to_ascii_lowercase();
        let wild = || Some(format!("*.{}", name.split_once('.')?.1));
        self.by_name.get(&name).or_else(|| self.by_name.get(&wild()?)).cloned()
    }
}

impl ResolvesServerCert for Hosts {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let own = hello.server_name().and_then(|name| self.find(name));
        own.or_else(|| self.otherwise.resolve(hello))
    }
}
