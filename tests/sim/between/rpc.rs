//! The example `rpc`: clients that call, are called back and cancel, each in lines or with lengths in front.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use support::sim::{Sim, explore_program};
use waterwheel::net::{Codec, Framed, Lines, framed};

#[allow(dead_code, unused_imports)] // Its other part is the program's.
#[path = "../../../examples/more/rpc"]
mod example {
    pub mod methods;
    pub mod protocol;
    pub mod session;
}

use example::protocol::{Headers, MESSAGE_BYTES_MAX};
use example::session::{Server, serve};

const PATIENCE: Duration = Duration::from_secs(60);
const TIMEOUT: Duration = Duration::from_secs(20);

/// What a client has asked, by id, and the answers that have come.
#[derive(Default)]
struct Seen {
    asked: BTreeMap<u64, Asked>,
    answers: BTreeMap<u64, Value>,
    /// Calls of the server to it.
    called_back: usize,
    is_closed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Asked {
    Add,
    Sleep(u64),
    /// The client agrees, fails, or says nothing.
    Ask(u64),
    Cancelled,
    Nonsense,
}

fn addr(headers: bool) -> SocketAddr {
    (if headers { "10.0.0.1:4041" } else { "10.0.0.1:4040" }).parse().expect("an address")
}

fn codec(headers: bool) -> Box<dyn Codec> {
    if headers { Box::new(Headers::default()) } else { Box::new(Lines::new(MESSAGE_BYTES_MAX)) }
}

/// A codec that is one of several.
struct Boxed(Box<dyn Codec>);

impl Codec for Boxed {
    fn decode(
        &mut self,
        input: &[u8],
    ) -> Result<Option<waterwheel::net::Frame>, waterwheel::net::FrameError> {
        self.0.decode(input)
    }

    fn encode(&self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), waterwheel::net::FrameError> {
        self.0.encode(payload, out)
    }
}

/// The messages of a client, and what each call of them is. Some are one batch.
fn messages(sim: &mut Sim<Server>) -> (Vec<Value>, BTreeMap<u64, Asked>) {
    let (mut all, mut asked) = (Vec::new(), BTreeMap::new());
    let calls = 1 + sim.rng.below(8);
    for id in 0..calls {
        let (kind, method, params) = match sim.rng.below(5) {
            0 => (Asked::Add, "add", json!([id, 1])),
            1 => {
                let ms = sim.rng.below(2000);
                (Asked::Sleep(ms), "sleep", json!({ "ms": ms }))
            }
            2 => (Asked::Ask(sim.rng.below(3)), "ask", json!([format!("{id}")])),
            3 => (Asked::Cancelled, "sleep", json!([60_000])),
            _ => (Asked::Nonsense, "nonsense", json!([])),
        };
        asked.insert(id, kind);
        all.push(json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
    }
    if sim.rng.below(3) == 0 {
        all = vec![Value::Array(all)];
    }
    for (id, _) in asked.iter().filter(|(_, kind)| **kind == Asked::Cancelled) {
        let params = json!({ "id": id });
        all.push(json!({"jsonrpc": "2.0", "method": "$/cancelRequest", "params": params}));
    }
    (all, asked)
}

/// A client: sends its messages, answers calls, and goes when all of its own are answered.
fn client(sim: &mut Sim<Server>) -> Rc<RefCell<Seen>> {
    let (messages, asked) = messages(sim);
    let seen = Rc::new(RefCell::new(Seen { asked, ..Seen::default() }));
    let headers = sim.rng.below(2) == 1;
    let (at, network) = (Duration::from_millis(sim.rng.below(50)), sim.network.clone());
    let shared = seen.clone();
    sim.reactor.after(at, move |reactor, _| {
        let connected =
            move |reactor: &mut waterwheel::Context<Server>,
                  _: &mut Server,
                  stream: std::io::Result<waterwheel::net::Stream>| {
                let Ok(stream) = stream else {
                    shared.borrow_mut().is_closed = true;
                    return;
                };
                let encode = move |values: &[Value]| {
                    let (encoder, mut bytes) = (codec(headers), Vec::new());
                    for value in values {
                        encoder
                            .encode(value.to_string().as_bytes(), &mut bytes)
                            .expect("short enough");
                    }
                    bytes
                };
                let seen = shared.clone();
                let conn = stream.open(
                    reactor,
                    framed(Boxed(codec(headers)), move |reactor, _, conn, event| {
                        let mut seen = seen.borrow_mut();
                        match event {
                            Framed::Frame(text) => {
                                let value = serde_json::from_slice(text).expect("JSON");
                                let replies = seen.told(value);
                                let _ = conn.write(reactor, &encode(&replies));
                                if seen.answers.len() == seen.asked.len() {
                                    conn.close(reactor);
                                }
                            }
                            Framed::Error(error) => panic!("{error}"),
                            Framed::Closed(_) => seen.is_closed = true,
                            Framed::Drained | Framed::Eof => {}
                        }
                    }),
                );
                let _ = conn.write(reactor, &encode(&messages));
            };
        network.connect(reactor, addr(headers), PATIENCE, connected).expect("an address");
    });
    seen
}

impl Seen {
    /// A message has come; answers those to send.
    fn told(&mut self, value: Value) -> Vec<Value> {
        if let Value::Array(all) = value {
            return all.into_iter().flat_map(|value| self.told(value)).collect();
        }
        if value["method"] == "confirm" {
            self.called_back += 1;
            let id: u64 =
                value["params"]["question"].as_str().expect("a text").parse().expect("an id");
            let answer = match self.asked[&id] {
                Asked::Ask(0) => json!({"jsonrpc": "2.0", "id": value["id"], "result": true}),
                Asked::Ask(1) => json!({"jsonrpc": "2.0", "id": value["id"], "error": {"code": 1}}),
                _ => return Vec::new(),
            };
            return vec![answer];
        }
        let id = value["id"].as_u64().expect("an id of ours");
        let before = self.answers.insert(id, value);
        assert_eq!(before, None, "{id} is answered twice");
        Vec::new()
    }

    /// Each answer is that to its question.
    fn check(&self) {
        for (id, answer) in &self.answers {
            let (result, code) = (&answer["result"], answer["error"]["code"].as_i64());
            let is_right = match self.asked[id] {
                Asked::Add => *result == json!(id + 1),
                Asked::Sleep(ms) => *result == json!(ms),
                Asked::Ask(0) => *result == json!(true) || code == Some(-32000),
                Asked::Ask(1) => code == Some(-32603) || code == Some(-32000),
                Asked::Ask(_) => code == Some(-32000),
                // The time may be up before a slow network has brought the wish.
                Asked::Cancelled => code == Some(-32800) || code == Some(-32000),
                Asked::Nonsense => code == Some(-32601),
            };
            assert!(is_right, "{:?}: {answer}", self.asked[id]);
        }
    }
}

#[test]
fn each_call_is_answered_once_and_rightly_whatever_the_network_does() {
    thread_local!(static SEEN: RefCell<Vec<Rc<RefCell<Seen>>>> = RefCell::default());
    let set_up = |sim: &mut Sim<Server>| {
        for headers in [false, true] {
            let accept = move |reactor: &mut _, _: &mut _, stream| {
                serve(reactor, stream, Boxed(codec(headers)), Boxed(codec(headers)));
            };
            let listener =
                sim.network.listen(&mut sim.reactor, addr(headers), accept).expect("it is free");
            sim.reactor.unref(listener);
            sim.reactor.after(4 * PATIENCE, move |reactor, _| {
                reactor.remove(listener);
            });
        }
        let clients = 1 + sim.rng.below(4);
        SEEN.set((0..clients).map(|_| client(sim)).collect());
        Server { timeout: TIMEOUT }
    };
    let check = |sim: &Sim<Server>, _: &Server| {
        let traffic = sim.network.traffic();
        let is_whole = (traffic.resets, traffic.refused, traffic.lost) == (0, 0, 0);
        for seen in SEEN.take() {
            let seen = seen.borrow();
            assert!(seen.is_closed);
            seen.check();
            if is_whole {
                assert_eq!(seen.answers.len(), seen.asked.len(), "one is not answered");
                let asks = seen.asked.values().filter(|asked| matches!(asked, Asked::Ask(_)));
                assert_eq!(seen.called_back, asks.count());
            }
        }
    };
    explore_program(
        "each_call_is_answered_once_and_rightly_whatever_the_network_does",
        set_up,
        check,
    );
}
