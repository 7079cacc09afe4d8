//! A peer that is rustls's own connection, driven by hand over one end of a pair.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection, Connection, Error, ServerConfig, ServerConnection};
use waterwheel::net::{Conn, Event, Limits, Stream};
use waterwheel::{Context, Reactor, SourceId};

/// What came in, and whether it has ended.
type Inbox = Rc<RefCell<(Vec<u8>, bool)>>;

pub struct TlsPeer {
    pub tls: Connection,
    /// Carries ciphertext; half open, so that ends are seen one by one.
    pub conn: SourceId<Conn>,
    inbox: Inbox,
    /// All plaintext that has come.
    pub heard: Vec<u8>,
    /// Ciphertext that was sent.
    pub sent: usize,
    /// At this offset what is sent is cut in two, with turns between.
    pub cut: usize,
}

impl TlsPeer {
    pub fn client<S: 'static>(
        reactor: &mut Context<S>,
        stream: Stream,
        config: Arc<ClientConfig>,
    ) -> TlsPeer {
        let tls = ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
        TlsPeer::over(reactor, stream, tls.into())
    }

    pub fn server<S: 'static>(
        reactor: &mut Context<S>,
        stream: Stream,
        config: Arc<ServerConfig>,
    ) -> TlsPeer {
        TlsPeer::over(reactor, stream, ServerConnection::new(config).unwrap().into())
    }

    fn over<S: 'static>(reactor: &mut Context<S>, stream: Stream, tls: Connection) -> TlsPeer {
        let inbox = Inbox::default();
        let into = inbox.clone();
        let limits = Limits { half_open: true, ..Limits::default() };
        let conn = stream.limits(limits).open(reactor, move |_, _, _, event| match event {
            Event::Data(bytes) => into.borrow_mut().0.extend(bytes),
            Event::Eof | Event::Closed(_) => into.borrow_mut().1 = true,
            Event::Drained => {}
        });
        TlsPeer { tls, conn, inbox, heard: Vec::new(), sent: 0, cut: usize::MAX }
    }

    pub fn say(&mut self, bytes: &[u8]) {
        self.tls.writer().write_all(bytes).unwrap();
    }

    /// What is to be sent.
    pub fn sealed(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    pub fn flush<S: 'static>(&mut self, reactor: &mut Context<S>) {
        let bytes = self.sealed();
        if let Some(conn) = reactor.get_mut(self.conn) {
            let _ = conn.write(&bytes);
        }
    }

    /// Sends what is to be sent, cut where it is to be cut.
    pub fn flush_cut<S: 'static>(&mut self, reactor: &mut Reactor<S>, state: &mut S) {
        let bytes = self.sealed();
        let at = self.cut.saturating_sub(self.sent).min(bytes.len());
        for part in [&bytes[..at], &bytes[at..]] {
            if let Some(conn) = reactor.get_mut(self.conn) {
                let _ = conn.write(part);
            }
            for _ in 0..4 {
                reactor.turn(state, Some(Duration::ZERO)).unwrap();
            }
        }
        self.sent += bytes.len();
    }

    /// Takes in what has come.
    pub fn read<S>(&mut self, _: &mut Context<S>) -> Result<(), Error> {
        let bytes = std::mem::take(&mut self.inbox.borrow_mut().0);
        let mut bytes = &bytes[..];
        while !bytes.is_empty() {
            if self.tls.read_tls(&mut bytes).unwrap() == 0 {
                break;
            }
            self.tls.process_new_packets()?;
            let mut plain = [0; 20_000];
            while let Ok(count @ 1..) = self.tls.reader().read(&mut plain) {
                self.heard.extend_from_slice(&plain[..count]);
            }
        }
        Ok(())
    }

    /// Whether our side has said goodbye by TLS.
    pub fn was_told_goodbye(&mut self) -> bool {
        let mut byte = [0];
        matches!(self.tls.reader().read(&mut byte), Ok(0))
    }

    /// Whether the carrier has ended.
    pub fn has_ended(&self) -> bool {
        self.inbox.borrow().1
    }

    pub fn shake<S: 'static>(&mut self, reactor: &mut Reactor<S>, state: &mut S) {
        for _ in 0..1000 {
            self.flush_cut(reactor, state);
            self.read(reactor).unwrap();
            if !self.tls.is_handshaking() && !self.tls.wants_write() {
                return;
            }
        }
        panic!("no handshake");
    }
}
