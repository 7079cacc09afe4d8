//! The example `balance` between clients and upstreams, all in simulated networks.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use support::sim::{Sim, explore_program};
use support::tcp::Flow;
use waterwheel::net::{Limits, Pressure};
use waterwheel::protocols::http::{
    Body, Call, CallEvent, Client, ClientLimits, ClientRequest, Method, Sender, Server, StatusCode,
};
use waterwheel::{Context, SourceId};

#[path = "../../../examples/balance"]
mod example {
    #[allow(dead_code)] // Its other part is the program's.
    pub mod pool;
    pub mod proxy;
}

use example::pool::{By, Pool};
use example::proxy::{State, server};

const PATIENCE: Duration = Duration::from_secs(3600);
const BALANCE: &str = "10.0.0.1:80";

fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// What the clients have seen.
#[derive(Default)]
struct Seen {
    ended: usize,
    whole: usize,
}

type Shared = Rc<RefCell<Seen>>;

/// A client whose calls go through the network, to wherever the URL says.
fn client(sim: &Sim<State>) -> Client<State> {
    let network = sim.network.clone();
    let patience = Some(PATIENCE);
    let limits = ClientLimits {
        connect_timeout: patience,
        head_timeout: patience,
        body_timeout: patience,
        write_timeout: patience,
        idle_time_max: Duration::from_millis(200),
        ..ClientLimits::default()
    };
    Client::new().limits(limits).dialer(move |reactor, to, done| {
        Ok(Some(network.connect(reactor, addr(to), PATIENCE, done)?.raw()))
    })
}

/// GET /N is answered with N bytes; of a POST, its body comes back, as it comes.
fn upstream() -> Server<State> {
    Server::streaming(|reactor, _: &mut State, request, reply| {
        let mut echo: Option<Sender> = if request.method() == Method::POST {
            Some(reply.stream(reactor, StatusCode::OK))
        } else {
            let bytes = request.path()[1..].parse().expect("a number");
            reply.send(reactor, Flow::default().peek(bytes).to_vec());
            None
        };
        move |reactor, _, body| match body {
            Body::Data(bytes) => {
                if let Some(sender) = &echo {
                    assert!(sender.write(reactor, bytes) != Pressure::Refused);
                }
            }
            Body::End => {
                echo.take().map(|sender| sender.end(reactor));
            }
            Body::Failed(_) => echo = None,
        }
    })
}

/// Asks once, and checks each byte that comes.
fn ask(
    reactor: &mut Context<State>,
    client: &Client<State>,
    seen: &Shared,
    (bytes, kind): (usize, u64),
) {
    let request = match kind {
        0 => ClientRequest::get(format!("http://{BALANCE}/{bytes}")),
        1 => ClientRequest::post(format!("http://{BALANCE}/"))
            .body(Flow::default().peek(bytes).to_vec()),
        _ => ClientRequest::post(format!("http://{BALANCE}/")).body_stream(None),
    };
    let (seen, mut got, mut status) = (seen.clone(), Flow::default(), StatusCode::OK);
    let call: SourceId<Call> = client.stream(reactor, request, move |_, _, _, event| {
        let seen = &mut *seen.borrow_mut();
        match event {
            CallEvent::Head(head) => status = head.status,
            CallEvent::Data(piece) if status == StatusCode::OK => got.check(piece),
            CallEvent::Data(_) | CallEvent::Drained => {}
            CallEvent::End if status == StatusCode::OK => {
                assert_eq!(got.at, bytes, "a part looks like the whole");
                seen.whole += 1;
                seen.ended += 1;
            }
            CallEvent::End => {
                let code = status.as_u16();
                assert!([400, 502, 503, 504].contains(&code), "{code}");
                seen.ended += 1;
            }
            CallEvent::Failed(_) => seen.ended += 1,
        }
    });
    if kind == 2 {
        let _ = call.write(reactor, Flow::default().peek(bytes));
        call.end(reactor);
    }
}

#[test]
fn responses_are_whole_or_look_cut_whatever_the_networks_do() {
    thread_local!(static SEEN: RefCell<(Shared, usize)> = RefCell::default());
    let set_up = |sim: &mut Sim<State>| {
        let (seen, network) = (Shared::default(), sim.network.clone());
        let count = 1 + sim.rng.below(4);
        let names: Vec<String> = (0..count).map(|at| format!("10.0.1.{at}:80")).collect();
        let mut listeners = Vec::new();
        for name in &names {
            let server = upstream();
            if sim.rng.below(4) > 0 {
                let serve = move |reactor: &mut Context<State>, _: &mut State, stream| {
                    server.serve(reactor, stream);
                };
                listeners.push(network.listen(&mut sim.reactor, addr(name), serve).unwrap());
            }
        }
        let front = server();
        let serve = move |reactor: &mut Context<State>, _: &mut State, stream| {
            front.serve(reactor, stream);
        };
        listeners.push(network.listen(&mut sim.reactor, addr(BALANCE), serve).unwrap());
        let clients = 1 + sim.rng.below(6) as usize;
        for _ in 0..clients {
            let (client, seen) = (client(sim), seen.clone());
            let most = 1 << sim.rng.below(13);
            let what = (sim.rng.below(most) as usize, sim.rng.below(3));
            let at = Duration::from_millis(sim.rng.below(500));
            sim.reactor.after(at, move |reactor, _| ask(reactor, &client, &seen, what));
        }
        sim.reactor.after(4 * PATIENCE, move |reactor, state: &mut State| {
            for listener in listeners {
                reactor.remove(listener);
            }
            state.client = Client::new(); // The other one has a source of its own.
            reactor.after(Duration::from_millis(1), |_, _| {}); // For that, which holds nothing.
        });
        SEEN.set((seen, clients));
        let by = [By::Round, By::Least, By::Client][sim.rng.below(3) as usize];
        State { pool: Pool::new(names, by), client: client(sim), limits: Limits::default() }
    };
    let check = |sim: &Sim<State>, state: &State| {
        SEEN.with_borrow(|(seen, clients)| {
            let seen = seen.borrow();
            assert_eq!(seen.ended, *clients, "each call ends");
            let under_way: usize = state.pool.upstreams.iter().map(|one| one.under_way).sum();
            assert_eq!(under_way, 0, "what was begun has ended");
            let traffic = sim.network.traffic();
            if (traffic.resets, traffic.refused, traffic.lost) == (0, 0, 0) {
                assert_eq!(seen.whole, *clients);
            }
        });
    };
    explore_program("responses_are_whole_or_look_cut_whatever_the_networks_do", set_up, check);
}
