//! A request on its way through a proxy: to one server or, if that fails, to another; and the response
//! back.
//!
//! Knows calls and replies by their public methods alone; which server is asked, and how often, is the
//! program's to say.
//!
//! ```text
//!              ┌── send ◀── the program, if it may be sent again ──┐
//!   request ───┴▶ call ─────────────────▶ Failed ──────────────────┴▶ a response by the proxy
//!                  └▶ Head ──▶ End             (after Head: the client is reset)
//!                       └────▶ Upgraded: two streams
//! ```
//!
//! # Rules
//! 1. One of `End`, `Upgraded`, `Gone` and `Failed` is the last event of each [`send`](Forward::send).
//! 2. A request without a response is answered: by the program, or with the error's status.
//! 3. A response that was begun and does not end looks like that to the client: a reset.
//!
//! # Read next
//! `forward.rs`: the heads. `join.rs`: the bodies.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use http::StatusCode;

use super::client::{Call, CallEvent, Client, ClientRequest, Error};
use super::request::Request;
use super::response::Response;
use super::server::{Body, Reply, Sender, Watch};
use crate::net::Stream;
use crate::reactor::{Context, SourceId};

/// An event of a request that is passed on.
#[derive(Debug)]
pub enum ForwardEvent<'a> {
    /// The server has answered. Its head was passed on; the body follows.
    Head(StatusCode),
    /// The response is whole.
    End,
    /// Both sides speak another protocol from here on: the client's stream and the server's, to be
    /// [linked](crate::net::link()).
    Upgraded(Box<(Stream, Stream)>),
    /// The client has gone, or only a part of its request has come; the call was cancelled.
    Gone,
    /// There is no whole response. The program may [`send`](Forward::send) the request again, or
    /// [`respond`](Forward::respond); otherwise the client gets [`Error::gateway_status`].
    Failed(&'a Error),
}

type OnEvent<S> = Box<dyn FnMut(&mut Context<S>, &mut S, &Forward<S>, ForwardEvent<'_>)>;

/// A request that is passed on, and its response, which is passed back: bodies as they come, in both
/// directions no faster than they are read. Clones are the same request.
///
/// ```
/// use waterwheel::protocols::http::{Client, Forward, Server};
///
/// // Everything that this server is asked, another one answers.
/// let client = Client::new();
/// let proxy = Server::<()>::streaming(move |reactor, _, request, reply| {
///     let forward = Forward::new(reactor, request, reply, "example");
///     forward.send(reactor, &client, "http://127.0.0.1:9000", |_, _, _, event| {
///         println!("{event:?}");
///     });
///     forward.body()
/// });
/// ```
pub struct Forward<S: 'static>(Rc<RefCell<Passing<S>>>);

struct Passing<S: 'static> {
    request: ClientRequest,
    name: Box<str>,
    /// Twice is the same as once (RFC 9110, 9.2.2).
    is_idempotent: bool,
    watch: Watch,
    /// Until the head of the response is there; from then on `sender`.
    reply: Option<Reply>,
    sender: Option<Sender>,
    call: Option<SourceId<Call>>,
    /// Taken out while it runs, and at the last event.
    on_event: Option<OnEvent<S>>,
    has_body: bool,
    /// The body so far, unless it is too long or the server has answered.
    kept: Option<Vec<u8>>,
    is_ended: bool,
}

impl<S: 'static> Forward<S> {
    /// Bytes of a request's body that are kept, so that it can be sent again. 16 KiB; a request with more
    /// is sent once.
    pub const KEPT_BYTES_MAX: usize = 16 * 1024;

    /// A request to be passed on as [`ClientRequest::forward`] says. `name` is the proxy's, for `Via`.
    /// [`send`](Forward::send) is to follow at once, and [`body`](Forward::body) to be the handler of the
    /// body.
    pub fn new(
        reactor: &mut Context<S>,
        request: &Request<'_>,
        reply: Reply,
        name: &str,
    ) -> Forward<S> {
        let watch = reply.watch();
        let forward = Forward(Rc::new(RefCell::new(Passing {
            request: ClientRequest::forward(request, "http://none", name),
            name: name.into(),
            is_idempotent: request.method().is_idempotent(),
            watch: watch.clone(),
            reply: Some(reply),
            sender: None,
            call: None,
            on_event: None,
            has_body: request.body_bytes() != Some(0),
            kept: Some(Vec::new()),
            is_ended: false,
        })));
        let own = forward.clone();
        watch.on_gone(reactor, move |reactor, state: &mut S| {
            // A client that has only finished sending may still read: a write shows that.
            let is_gone = !own.0.borrow().watch.is_open(reactor);
            if is_gone {
                own.give_up(reactor, state);
            }
        });
        forward
    }

    /// Adds a field to the request, such as `X-Forwarded-Proto`, before it is sent.
    pub fn header(self, name: &str, value: &str) -> Forward<S> {
        self.0.borrow_mut().request.add_header(name, value.as_bytes());
        self
    }

    /// The handler of the request's body, for [`Server::streaming`](super::Server::streaming).
    pub fn body(&self) -> impl FnMut(&mut Context<S>, &mut S, Body<'_>) + use<S> {
        let own = self.clone();
        move |reactor, state, body| own.pass_body(reactor, state, body)
    }

    /// Sends the request to the server at `origin`, such as `http://127.0.0.1:8001`. Not while it is
    /// under way, and not when there was a response.
    #[track_caller]
    pub fn send<F>(
        &self,
        reactor: &mut Context<S>,
        client: &Client<S>,
        origin: impl AsRef<str>,
        on_event: F,
    ) where
        F: FnMut(&mut Context<S>, &mut S, &Forward<S>, ForwardEvent<'_>) + 'static,
    {
        let passing = &mut *self.0.borrow_mut();
        debug_assert!(passing.call.is_none() && passing.sender.is_none());
        if passing.reply.is_none() {
            return;
        }
        let (request, own) = (passing.request.clone().to_origin(origin), self.clone());
        let call = client.stream(reactor, request, move |reactor, state, call, event| {
            own.on_call(reactor, state, call, event);
        });
        passing.call = Some(call);
        passing.on_event = Some(Box::new(on_event));
        if let Some(kept) = passing.kept.as_ref().filter(|_| passing.has_body) {
            let _ = call.write(reactor, kept); // There is room for it.
            if passing.is_ended {
                call.end(reactor);
            }
            passing.watch.resume_body(reactor);
        }
    }

    /// Returns true if after this error the request may be sent again: the server has got nothing of it,
    /// or has broken off before it answered one that may be sent twice (RFC 9110, 9.2.2); and all of its
    /// body so far is still there. Not after a timeout: a server that is slow gets slower so.
    pub fn may_repeat(&self, error: &Error) -> bool {
        let passing = self.0.borrow();
        let may = match error {
            Error::Connect { .. } => true,
            Error::Lost { .. } => passing.is_idempotent && !error.is_timeout(),
            _ => false,
        };
        may && passing.reply.is_some() && passing.kept.is_some()
    }

    /// Answers in place of a server, unless one has answered, or is being asked.
    pub fn respond(&self, reactor: &mut Context<S>, response: impl Into<Response>) {
        let passing = &mut *self.0.borrow_mut();
        if let Some(reply) = passing.reply.take_if(|_| passing.call.is_none()) {
            reply.send(reactor, response);
        }
    }

    fn pass_body(&self, reactor: &mut Context<S>, state: &mut S, body: Body<'_>) {
        let mut borrowed = self.0.borrow_mut();
        let passing = &mut *borrowed;
        let Some(call) = passing.call.filter(|_| passing.has_body) else { return };
        match body {
            Body::Data(bytes) => {
                passing.kept.take_if(|kept| kept.len() + bytes.len() > Self::KEPT_BYTES_MAX);
                passing.kept.iter_mut().for_each(|kept| kept.extend_from_slice(bytes));
                if !call.pass_on(reactor, &passing.watch, bytes) {
                    drop(borrowed);
                    self.give_up(reactor, state);
                }
            }
            Body::End => {
                passing.is_ended = true;
                call.end(reactor);
            }
            Body::Failed(_) => {
                drop(borrowed);
                self.give_up(reactor, state);
            }
        }
    }

    /// The server's side has an event.
    fn on_call(
        &self,
        reactor: &mut Context<S>,
        state: &mut S,
        call: SourceId<Call>,
        event: CallEvent<'_>,
    ) {
        let mut borrowed = self.0.borrow_mut();
        let passing = &mut *borrowed;
        match event {
            CallEvent::Head(head) => {
                passing.kept = None;
                let Some(reply) = passing.reply.take() else { return };
                if head.status != StatusCode::SWITCHING_PROTOCOLS {
                    passing.sender = Some(reply.forward(reactor, head, &passing.name));
                    drop(borrowed);
                    return self.deliver(reactor, state, ForwardEvent::Head(head.status));
                }
                passing.call = None;
                let streams = reply.forward_upgrade(reactor, call, head, &passing.name);
                drop(borrowed);
                call.cancel(reactor); // If the client has gone.
                self.deliver(
                    reactor,
                    state,
                    match streams {
                        Some(streams) => ForwardEvent::Upgraded(Box::new(streams)),
                        None => ForwardEvent::Gone,
                    },
                );
            }
            CallEvent::Data(bytes) => {
                let sender = passing.sender.as_ref();
                if !sender.is_some_and(|sender| sender.pass_on(reactor, call, bytes)) {
                    drop(borrowed);
                    self.give_up(reactor, state); // Nobody reads it.
                }
            }
            CallEvent::Drained => passing.watch.resume_body(reactor),
            CallEvent::End => {
                passing.call = None;
                passing.sender.take().map(|sender| sender.end(reactor));
                drop(borrowed);
                self.deliver(reactor, state, ForwardEvent::End);
            }
            CallEvent::Failed(error) => {
                passing.call = None;
                passing.sender = None; // Dropped, it resets the client (rule 3).
                drop(borrowed);
                self.deliver(reactor, state, ForwardEvent::Failed(&error));
                self.respond(reactor, error.gateway_status());
            }
        }
    }

    /// The client has gone, or will not send the rest of its request.
    fn give_up(&self, reactor: &mut Context<S>, state: &mut S) {
        let mut passing = self.0.borrow_mut();
        (passing.reply, passing.sender) = (None, None);
        let call = passing.call.take();
        drop(passing);
        if let Some(call) = call {
            call.cancel(reactor);
            self.deliver(reactor, state, ForwardEvent::Gone);
        }
    }

    fn deliver(&self, reactor: &mut Context<S>, state: &mut S, event: ForwardEvent<'_>) {
        let is_last = !matches!(event, ForwardEvent::Head(_));
        let Some(mut on_event) = self.0.borrow_mut().on_event.take() else { return };
        on_event(reactor, state, self, event);
        let passing = &mut *self.0.borrow_mut();
        if !is_last && passing.on_event.is_none() {
            passing.on_event = Some(on_event);
        }
    }
}

impl<S: 'static> Clone for Forward<S> {
    fn clone(&self) -> Forward<S> {
        Forward(self.0.clone())
    }
}

impl<S> fmt::Debug for Forward<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let passing = self.0.borrow();
        f.debug_struct("Forward").field("request", &passing.request).finish_non_exhaustive()
    }
}
