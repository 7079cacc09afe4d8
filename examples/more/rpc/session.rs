//! A client's calls, and ours to it: what is still to be answered, and what it waits for.
//!
//! Knows messages and the loop. A message comes by a connection or by a POST; all else is the same.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use waterwheel::net::{Codec, Conn, Framed, Pressure, Stream, framed};
use waterwheel::patterns::JobId;
use waterwheel::protocols::http::{Reply, Response, StatusCode};
use waterwheel::timers::TimerId;
use waterwheel::{Context, SourceId};

use super::methods::{Begun, run};
use super::protocol::{self, Message, answer};

/// Calls of a client that are still to be answered. 100; a batch may have as many.
const CALLS_MAX: usize = 100;

/// What all clients share.
pub struct Server {
    /// How long a call may take until it is answered.
    pub timeout: Duration,
}

/// A client is closed after so many messages in a row that are no JSON: it speaks something else, and
/// each of its bytes costs us forty.
pub const NONSENSE_MAX: usize = 100;

/// What a call waits for, to be stopped if nobody waits for the call any more.
pub enum Waits {
    Timer(TimerId),
    Job(JobId),
    /// For the client's answer: our call has the number of this one.
    Client,
}

struct Call {
    id: Value,
    waits: Waits,
    timeout: TimerId,
    message: Rc<Calls>,
}

/// The calls that came in one message, and go in one.
struct Calls {
    is_batch: bool,
    left: Cell<usize>,
    answers: RefCell<Vec<Value>>,
}

/// Where answers go.
enum Way {
    Conn(SourceId<Conn>, Box<dyn Codec>),
    Reply(Cell<Option<Reply>>),
}

pub struct Session {
    way: Way,
    /// By numbers of our own: an id may be used again once its call is answered.
    calls: RefCell<BTreeMap<u64, Call>>,
    next: Cell<u64>,
    /// Messages in a row that were no JSON.
    nonsense: Cell<usize>,
    /// True when the client will send no more.
    has_ended: Cell<bool>,
}

/// Serves a connection whose messages this codec finds.
pub fn serve<C: Codec>(reactor: &mut Context<Server>, stream: Stream, codec: C, encoder: C) {
    let (mut session, mut encoder) = (None, Some(Box::new(encoder) as Box<dyn Codec>));
    let stream = stream.adjust_limits(|limits| limits.half_open = true);
    stream.open(
        reactor,
        framed(codec, move |reactor, server: &mut Server, conn, event| {
            let session: &Rc<Session> = session.get_or_insert_with(|| {
                let encoder = encoder.take().expect("it is taken once");
                Session::new(Way::Conn(conn, encoder))
            });
            match event {
                // An empty line is one that a person has typed.
                Framed::Frame(text) if text.trim_ascii().is_empty() => {}
                Framed::Frame(text) => session.heard(reactor, server, text),
                Framed::Error(error) => {
                    let text = error.to_string();
                    let error = (protocol::PARSE_ERROR.0, &*text);
                    session.send(reactor, &answer(Value::Null, Err(error)));
                }
                Framed::Drained => drop(conn.resume(reactor)),
                Framed::Eof => {
                    session.has_ended.set(true);
                    session.settle(reactor);
                }
                Framed::Closed(_) => session.stop_all(reactor),
            }
        }),
    );
}

/// Answers the body of a POST.
pub fn post(reactor: &mut Context<Server>, server: &mut Server, body: &[u8], reply: Reply) {
    let watch = reply.watch();
    let session = Session::new(Way::Reply(Cell::new(Some(reply))));
    session.heard(reactor, server, body);
    watch.on_gone(reactor, move |reactor, _: &mut Server| session.stop_all(reactor));
}

impl Session {
    fn new(way: Way) -> Rc<Session> {
        let (calls, next) = (RefCell::default(), Cell::new(1));
        Rc::new(Session { way, calls, next, nonsense: Cell::new(0), has_ended: Cell::new(false) })
    }

    /// A message has come: one, or a batch.
    fn heard(self: &Rc<Self>, reactor: &mut Context<Server>, server: &Server, text: &[u8]) {
        let refused = |error| answer(Value::Null, Err(error));
        let message = serde_json::from_slice(text);
        self.nonsense.set(if message.is_ok() { 0 } else { self.nonsense.get() + 1 });
        match message {
            Err(_) => {
                self.send(reactor, &refused(protocol::PARSE_ERROR));
                if let Way::Conn(conn, _) = self.way
                    && self.nonsense.get() >= NONSENSE_MAX
                {
                    log::info!("a client that sends no JSON is closed");
                    conn.close(reactor);
                }
            }
            Ok(Value::Array(all)) if all.is_empty() => {
                self.send(reactor, &refused(protocol::EMPTY_BATCH));
            }
            Ok(Value::Array(all)) if all.len() > protocol::BATCH_MAX => {
                self.send(reactor, &refused(protocol::LONG_BATCH));
            }
            Ok(Value::Array(all)) => self.take(reactor, server, all, true),
            Ok(one) => self.take(reactor, server, vec![one], false),
        }
        self.settle(reactor);
    }

    fn take(
        self: &Rc<Self>,
        reactor: &mut Context<Server>,
        server: &Server,
        all: Vec<Value>,
        is_batch: bool,
    ) {
        // One more than there are, so that it is not sent before the last has been looked at.
        let (left, answers) = (Cell::new(all.len() + 1), RefCell::default());
        let message = Rc::new(Calls { is_batch, left, answers });
        for value in all {
            let answer = match protocol::read(value) {
                Message::Call { id, method, params } => {
                    match self.begin(reactor, server, &message, (&id, &method, params)) {
                        Ok(None) => continue, // It comes later.
                        Ok(Some(result)) => Some(answer(id, Ok(result))),
                        Err(error) => Some(answer(id, Err(error))),
                    }
                }
                Message::Notification { method, params } => {
                    if method == "$/cancelRequest" {
                        self.cancel(reactor, params.get("id").unwrap_or(&Value::Null));
                    }
                    None
                }
                Message::Answer { id, result } => {
                    self.answered(reactor, &id, result);
                    None
                }
                Message::Invalid { id } => Some(answer(id, Err(protocol::INVALID_REQUEST))),
            };
            self.put(reactor, &message, answer);
        }
        self.put(reactor, &message, None);
    }

    /// Begins a call. `None` if the answer comes later.
    fn begin(
        self: &Rc<Self>,
        reactor: &mut Context<Server>,
        server: &Server,
        message: &Rc<Calls>,
        (id, method, params): (&Value, &str, Value),
    ) -> Result<Option<Value>, (i32, &'static str)> {
        if self.calls.borrow().values().any(|call| call.id == *id) {
            return Err(protocol::ID_IN_USE);
        }
        if self.calls.borrow().len() == CALLS_MAX {
            return Err(protocol::TOO_MANY);
        }
        let number = self.next.replace(self.next.get() + 1);
        let waits = match run(reactor, self, number, method, params)? {
            Begun::Done(result) => return Ok(Some(result)),
            Begun::Waits(waits) => waits,
        };
        let session = self.clone();
        let timeout = reactor.after(server.timeout, move |reactor, _| {
            session.end(reactor, number, Err(protocol::TIMED_OUT));
        });
        let (id, message) = (id.clone(), message.clone());
        self.calls.borrow_mut().insert(number, Call { id, waits, timeout, message });
        Ok(None)
    }

    /// Answers a call, unless it was answered before: its client has cancelled it, or its time was up.
    pub fn end(
        &self,
        reactor: &mut Context<Server>,
        number: u64,
        result: Result<Value, (i32, &str)>,
    ) {
        let Some(call) = self.calls.borrow_mut().remove(&number) else { return };
        call.stop(reactor);
        self.put(reactor, &call.message, Some(answer(call.id, result)));
        self.settle(reactor);
    }

    fn cancel(&self, reactor: &mut Context<Server>, id: &Value) {
        let found =
            self.calls.borrow().iter().find(|(_, call)| call.id == *id).map(|(number, _)| *number);
        if let Some(number) = found {
            self.end(reactor, number, Err(protocol::CANCELLED));
        }
    }

    /// Calls a method of the client. Its answer ends our own call of this number.
    pub fn call_back(
        &self,
        reactor: &mut Context<Server>,
        number: u64,
        method: &str,
        params: Value,
    ) -> Result<Waits, (i32, &'static str)> {
        if matches!(self.way, Way::Reply(_)) {
            return Err(protocol::NO_WAY_BACK);
        }
        let call = json!({"jsonrpc": "2.0", "id": number, "method": method, "params": params});
        self.send(reactor, &call);
        Ok(Waits::Client)
    }

    /// The client has answered us. An answer to nothing is none.
    fn answered(&self, reactor: &mut Context<Server>, id: &Value, result: Result<Value, Value>) {
        let Some(number) = id.as_u64() else { return };
        let call_waits = |call: &Call| matches!(call.waits, Waits::Client);
        if self.calls.borrow().get(&number).is_some_and(call_waits) {
            let result = result.map_err(|_| (protocol::INTERNAL_ERROR.0, "the client has failed"));
            self.end(reactor, number, result);
        }
    }

    /// One call less is left of a message; with the last of them its answers are sent.
    fn put(&self, reactor: &mut Context<Server>, message: &Calls, answer: Option<Value>) {
        message.answers.borrow_mut().extend(answer);
        message.left.set(message.left.get() - 1);
        if message.left.get() > 0 {
            return;
        }
        let mut answers = message.answers.take();
        match (&self.way, answers.len(), message.is_batch) {
            (Way::Conn(..), 0, _) => {}
            (Way::Reply(reply), 0, _) => {
                reply.take().map(|reply| reply.send(reactor, StatusCode::NO_CONTENT));
            }
            (_, _, true) => self.send(reactor, &Value::Array(answers)),
            (_, _, false) => self.send(reactor, &answers.remove(0)),
        }
    }

    fn send(&self, reactor: &mut Context<Server>, value: &Value) {
        let text = value.to_string();
        let (conn, encoder) = match &self.way {
            Way::Conn(conn, encoder) => (*conn, encoder),
            Way::Reply(reply) => {
                reply.take().map(|reply| reply.send(reactor, Response::json(text)));
                return;
            }
        };
        let mut bytes = Vec::new();
        let _ = encoder.encode(text.as_bytes(), &mut bytes);
        match conn.write(reactor, &bytes) {
            Pressure::AboveHigh => drop(conn.pause(reactor)),
            Pressure::Refused => {
                log::warn!("a client left too many answers unread: closed");
                conn.abort(reactor);
            }
            Pressure::Below | Pressure::Closed => {}
        }
    }

    /// While a call is to be answered, neither the end of the server nor that of the input ends it.
    fn settle(&self, reactor: &mut Context<Server>) {
        let Way::Conn(conn, _) = self.way else { return };
        if !self.calls.borrow().is_empty() {
            conn.hold(reactor);
        } else if self.has_ended.get() {
            conn.close(reactor);
        } else {
            conn.release(reactor);
        }
    }

    fn stop_all(&self, reactor: &mut Context<Server>) {
        self.calls.take().into_values().for_each(|call| call.stop(reactor));
    }
}

impl Call {
    fn stop(&self, reactor: &mut Context<Server>) {
        reactor.cancel(self.timeout);
        match self.waits {
            Waits::Timer(timer) => drop(reactor.cancel(timer)),
            Waits::Job(job) => drop(reactor.cancel_job(job)),
            Waits::Client => {}
        }
    }
}
