//! Dialling: from a URL to a stream over which a request can be sent.
//!
//! Knows names, proxies and TLS; never mentions the request.
//!
//! ```text
//!   connect ──▶ [CONNECT to the proxy] ──▶ [TLS] ──▶ stream
//!   a race, or   a connection with a        a handshake
//!   the dialer   handler of its own
//! ```
//!
//! Each step is a source. The call that dials keeps a [`StepGuard`], which owns the source of the
//! step under way: if the guard is dropped, that step ends. There is no timeout here: the caller
//! has a deadline.
//!
//! # Read next
//! `deliver.rs`: how the response reaches the program.

use std::io::{self, ErrorKind};
use std::rc::Rc;

use http::Method;

use super::Shared;
use super::client_url::ClientUrl;
use super::reader::{Reader, Step};
use super::source_guard::StepGuard;
use crate::net::{Conn, Event, Reason, Stream};
use crate::protocols::http::head;
use crate::reactor::{Context, RawId, SourceId};

/// The callback that gets the stream, or the reason why there is none.
pub type Dialed<S> = Box<dyn FnOnce(&mut Context<S>, &mut S, io::Result<Stream>)>;

/// Connects to a host and a port in place of TCP; see [`Client::dialer`].
pub(super) type Dialer<S> = dyn Fn(&mut Context<S>, &str, Dialed<S>) -> io::Result<Option<RawId>>;

/// A proxy.
#[derive(Clone, Debug)]
pub(super) struct Proxy {
    /// Its address, or why its URL is not valid.
    target: Result<ClientUrl, String>,
}

impl Proxy {
    /// `http://[user:password@]host[:port]`.
    pub(super) fn of(url: &str) -> Proxy {
        let target = ClientUrl::parse(url).and_then(|target| match target.secure {
            true => Err("it is used without TLS: http://".to_owned()),
            false => Ok(target),
        });
        Proxy { target: target.map_err(|why| format!("not the URL of a proxy: {why}")) }
    }

    /// The value of `Proxy-Authorization`, if its URL has a user.
    pub(super) fn authorization(&self) -> Option<&str> {
        self.target.as_ref().ok()?.authorization.as_deref()
    }
}

/// Connects to the host of a URL. `done` is called once, unless the guard is dropped before.
#[track_caller]
pub(super) fn dial<S: 'static>(
    shared: &Rc<Shared<S>>,
    reactor: &mut Context<S>,
    target: &ClientUrl,
    step: Rc<StepGuard>,
    done: Dialed<S>,
) -> io::Result<()> {
    let refuse = |why: &String| io::Error::new(ErrorKind::InvalidInput, why.clone());
    let proxy = match &shared.settings.proxy {
        Some(proxy) => Some(proxy.target.as_ref().map_err(refuse)?.address()),
        None => None,
    };
    let tunnels = proxy.is_some() && target.secure;
    let address = proxy.clone().unwrap_or_else(|| target.address());
    let dialing = Rc::new(Dial { shared: shared.clone(), target: target.clone(), step });
    let reaper = shared.reaper(reactor);
    let step = dialing.step.clone();
    let connected: Dialed<S> = Box::new(move |reactor, state, result: io::Result<Stream>| {
        dialing.step.release();
        match (result, proxy) {
            (Ok(stream), _) if tunnels => dialing.tunnel(reactor, stream, done),
            (Ok(stream), _) => dialing.secure(reactor, state, stream, done),
            (Err(error), Some(proxy)) => {
                let error = io::Error::new(error.kind(), format!("by the proxy {proxy}: {error}"));
                done(reactor, state, Err(error));
            }
            (Err(error), None) => done(reactor, state, Err(error)),
        }
    });
    let id = match &shared.settings.dialer {
        Some(dialer) => dialer(reactor, &address, connected)?,
        None => Some(shared.settings.connect.open(reactor, &address, connected)?.raw()),
    };
    if let Some(id) = id.filter(|id| reactor.contains(*id)) {
        step.take_up(&reaper, id);
    }
    Ok(())
}

/// The steps behind the first connection.
struct Dial<S: 'static> {
    shared: Rc<Shared<S>>,
    target: ClientUrl,
    step: Rc<StepGuard>,
}

impl<S: 'static> Dial<S> {
    /// Asks the proxy for a tunnel (RFC 9110, 9.3.6).
    fn tunnel(self: Rc<Self>, reactor: &mut Context<S>, mut stream: Stream, done: Dialed<S>) {
        let to = self.target.authority();
        let mut request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n");
        let proxy = self.shared.settings.proxy.as_ref();
        if let Some(value) = proxy.and_then(Proxy::authorization) {
            request.push_str(&format!("Proxy-Authorization: {value}\r\n"));
        }
        request.push_str("\r\n");
        let _ = stream.write(request.as_bytes()); // It is the first, and fits.
        let mut reader = Reader::new(Method::CONNECT, self.shared.limits.heads());
        let mut done = Some(done);
        let (reaper, step) = (self.shared.reaper(reactor), self.step.clone());
        let conn = stream.open(reactor, move |reactor, state, conn, event| {
            let Some(response) = proxy_response(reactor, conn, &mut reader, event) else { return };
            let Some(done) = done.take() else { return };
            self.step.release();
            match response {
                Ok(stream) => self.clone().secure(reactor, state, stream, done),
                Err(error) => {
                    reactor.remove(conn);
                    let error =
                        format!("the proxy does not lead to {}: {error}", self.target.authority());
                    done(reactor, state, Err(io::Error::other(error)));
                }
            }
        });
        step.take_up(&reaper, conn);
    }

    /// Puts TLS over the stream, if the URL wants it.
    #[cfg(not(feature = "tls"))]
    fn secure(
        self: Rc<Self>,
        reactor: &mut Context<S>,
        state: &mut S,
        stream: Stream,
        done: Dialed<S>,
    ) {
        let result = if self.target.secure {
            Err(io::Error::new(ErrorKind::Unsupported, "https wants the feature tls"))
        } else {
            Ok(stream)
        };
        done(reactor, state, result);
    }

    /// Puts TLS over the stream, if the URL wants it.
    #[cfg(feature = "tls")]
    fn secure(
        self: Rc<Self>,
        reactor: &mut Context<S>,
        state: &mut S,
        stream: Stream,
        done: Dialed<S>,
    ) {
        if !self.target.secure {
            return done(reactor, state, Ok(stream));
        }
        let tls = match self.shared.tls().cloned() {
            Ok(tls) => tls,
            Err(error) => return done(reactor, state, Err(error)),
        };
        let (reaper, step) = (self.shared.reaper(reactor), self.step.clone());
        let name = self.target.host().to_owned();
        let shaken = move |reactor: &mut Context<S>, state: &mut S, result: io::Result<Stream>| {
            self.step.release();
            let explain = |error: io::Error| {
                let said = format!("no TLS with {}: {error}", self.target.address());
                io::Error::new(error.kind(), said)
            };
            done(reactor, state, result.map_err(explain));
        };
        let id = tls.connect(reactor, stream, &name, shaken);
        step.take_up(&reaper, id);
    }
}

/// The proxy's response to CONNECT, when it is there: the stream behind it, out of the loop, or the
/// reason why there is none.
fn proxy_response<S: 'static>(
    reactor: &mut Context<S>,
    conn: SourceId<Conn>,
    reader: &mut Reader,
    event: Event<'_>,
) -> Option<Result<Stream, String>> {
    let mut input = match event {
        Event::Data(bytes) => bytes,
        Event::Drained => return None,
        Event::Eof | Event::Closed(Reason::Finished) => {
            return Some(Err("it closed the connection".to_owned()));
        }
        Event::Closed(reason) => return Some(Err(reason.to_string())),
    };
    loop {
        let mut room = head::room();
        match reader.step(input, &mut room) {
            Err(refusal) => return Some(Err(refusal.to_string())),
            Ok((_, Step::Head(head))) if !head.status.is_success() => {
                return Some(Err(format!("it responds with {}", head.status)));
            }
            Ok((used, Step::Head(_))) => {
                let stream = Stream::from(reactor.deregister(conn)?);
                return Some(Ok(stream.unread(&input[used..])));
            }
            Ok((used, Step::Interim(_))) => input = &input[used..],
            Ok((_, _)) => {
                reactor[conn].unread(input.len());
                return None;
            }
        }
    }
}
