//! A body joined to a body: bytes that one side receives go out on the other, no faster than that
//! side takes them.
//!
//! Knows calls and replies by their public methods alone: a program could have all of this.
//!
//! ```text
//!   client ──Body::Data──────▶ call.pass_on(&watch) ──▶ upstream     too fast: the client's body is paused
//!   client ◀─ sender.pass_on(call) ◀──CallEvent::Data── upstream     too fast: the call is paused
//! ```
//!
//! # Read next
//! `server/watch.rs`: how a body is paused whose reply is elsewhere.

use super::client::Call;
use super::server::{Sender, Watch};
use crate::net::Pressure;
use crate::reactor::{Context, SourceId};

impl Sender {
    /// Sends a piece of the response of `from`, in its callback. If the client has too much unread,
    /// the call is paused, and resumed when there is room; so this sender's
    /// [`on_drained`](Sender::on_drained) is taken.
    ///
    /// Returns false, and cancels the call, if the piece cannot be sent: the client has gone, or
    /// there is no memory for it.
    ///
    /// ```
    /// use waterwheel::protocols::http::{CallEvent, Client, ClientRequest, Response, Server};
    ///
    /// // Answers each GET with what another server has at the same path.
    /// let client = Client::new();
    /// let server = Server::<()>::new(move |reactor, _, request, reply| {
    ///     let (mut reply, mut sender) = (Some(reply), None);
    ///     let there = ClientRequest::get(format!("http://127.0.0.1:9000{}", request.path()));
    ///     client.stream(reactor, there, move |reactor, _, call, event| match event {
    ///         CallEvent::Head(head) => {
    ///             let reply = reply.take();
    ///             sender = reply.map(|reply| reply.stream(reactor, Response::new(head.status)));
    ///         }
    ///         CallEvent::Data(bytes) => {
    ///             sender.take_if(|sender| !sender.pass_on(reactor, call, bytes));
    ///         }
    ///         CallEvent::End => _ = sender.take().map(|sender| sender.end(reactor)),
    ///         // The reply is dropped: a 500. Or the sender: a reset, so that a part looks like one.
    ///         CallEvent::Drained | CallEvent::Failed(_) => {}
    ///     });
    /// });
    /// ```
    pub fn pass_on<S: 'static>(
        &self,
        reactor: &mut Context<S>,
        from: SourceId<Call>,
        bytes: &[u8],
    ) -> bool {
        match self.write(reactor, bytes) {
            Pressure::Below => true,
            Pressure::AboveHigh => {
                from.pause(reactor);
                self.on_drained(reactor, move |reactor, _: &mut S| from.resume(reactor));
                true
            }
            Pressure::Refused | Pressure::Closed => {
                from.cancel(reactor);
                false
            }
        }
    }
}

impl SourceId<Call> {
    /// Sends a piece of the body of the request that `from` watches, in the handler of that body.
    /// If the server has too much unread, the body is paused; the call's callback resumes it at
    /// [`CallEvent::Drained`](super::CallEvent::Drained), by [`Watch::resume_body`].
    ///
    /// Returns false if the piece cannot be sent: the call or its body has ended; or there is no memory
    /// for the piece, and then the call is cancelled.
    pub fn pass_on<S: 'static>(self, reactor: &mut Context<S>, from: &Watch, bytes: &[u8]) -> bool {
        let pressure = self.write(reactor, bytes);
        match pressure {
            Pressure::Below | Pressure::Closed => {}
            Pressure::AboveHigh => from.pause_body(reactor),
            Pressure::Refused => _ = self.cancel(reactor),
        }
        pressure.is_taken()
    }
}
