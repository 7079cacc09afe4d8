//! The state that clones of a client share: its settings, its limits and its connections.
//!
//! Knows the pool and how connections are made; never mentions a request.
//!
//! # Read next
//! `client_pool.rs`: the connections.

#[cfg(feature = "tls")]
use std::cell::OnceCell;
use std::cell::{Cell, RefCell};
#[cfg(feature = "tls")]
use std::io;
use std::rc::Rc;
use std::time::Duration;

use super::ClientLimits;
use super::client_pool::Pool;
use super::client_url::ClientUrl;
use super::dial::{Dialer, Proxy};
use super::source_guard::Reaper;
use crate::net::tcp::Connect;
#[cfg(feature = "tls")]
use crate::protocols::tls;

/// The state that clones share.
pub(super) struct Shared<S: 'static> {
    pub(super) limits: Rc<ClientLimits>,
    pub(super) settings: Settings<S>,
    pub(super) pool: RefCell<Pool<S>>,
    pub(super) reaper: RefCell<Option<Rc<Reaper>>>,
    /// The buffer in which the head of a request is written.
    pub(super) head: Cell<Vec<u8>>,
    /// Made when it is first needed, unless the program has set it.
    #[cfg(feature = "tls")]
    tls: OnceCell<tls::Client>,
}

/// How connections are made.
pub(super) struct Settings<S: 'static> {
    pub(super) connect: Connect,
    pub(super) dialer: Option<Rc<Dialer<S>>>,
    pub(super) proxy: Option<Proxy>,
    #[cfg(feature = "tls")]
    pub(super) tls: Option<tls::Client>,
}

impl<S> Default for Settings<S> {
    fn default() -> Settings<S> {
        Settings {
            connect: Connect::new(),
            dialer: None,
            proxy: None,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}

impl<S> Clone for Settings<S> {
    fn clone(&self) -> Settings<S> {
        Settings {
            connect: self.connect.clone(),
            dialer: self.dialer.clone(),
            proxy: self.proxy.clone(),
            #[cfg(feature = "tls")]
            tls: self.tls.clone(),
        }
    }
}

impl<S: 'static> Shared<S> {
    pub(super) fn new(limits: Rc<ClientLimits>, mut settings: Settings<S>) -> Shared<S> {
        let timeout = limits.connect_timeout.unwrap_or(Duration::MAX);
        settings.connect = settings.connect.timeout(timeout);
        Shared {
            limits,
            settings,
            pool: RefCell::default(),
            reaper: RefCell::default(),
            head: Cell::default(),
            #[cfg(feature = "tls")]
            tls: OnceCell::new(),
        }
    }

    /// The key of the pool: connections of one key go to the same host, or all by the proxy.
    pub(super) fn key(&self, target: &ClientUrl) -> Rc<str> {
        let name = match (&self.settings.proxy, &target.zone) {
            (Some(_), _) if !target.secure => "proxy",
            (_, Some(zone)) => &*format!("{}%{zone}", target.origin()),
            _ => target.origin(),
        };
        self.pool.borrow().key(name).unwrap_or_else(|| name.into())
    }

    /// The client of TLS for all connections.
    #[cfg(feature = "tls")]
    pub(super) fn tls(&self) -> io::Result<&tls::Client> {
        if let Some(made) = self.tls.get() {
            return Ok(made);
        }
        let given = self.settings.tls.clone();
        let patience = self.limits.connect_timeout.unwrap_or(Duration::MAX);
        let tls = given.map_or_else(tls::Client::new, Ok)?.handshake_timeout(patience);
        Ok(self.tls.get_or_init(|| tls.alpn(["http/1.1"])))
    }
}
