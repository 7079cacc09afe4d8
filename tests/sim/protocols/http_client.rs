//! The client and our own server in simulated networks: whatever the seed draws, each call ends
//! once, with the whole response or an error, and nothing is left.

use std::net::SocketAddr;
use std::time::Duration;

use support::sim::{Sim, explore};
use support::tcp::Flow;
use waterwheel::net::{Pressure, sim::Listener};
use waterwheel::protocols::http::{
    Call, CallEvent, Client, ClientLimits, ClientRequest, ClientResponse, Error, Method, Server,
};
use waterwheel::{Context, SourceId};

fn addr() -> SocketAddr {
    "10.0.0.1:80".parse().expect("an address")
}

/// Calls of one client, and what became of them.
#[derive(Default)]
struct Calls {
    client: Option<Client<Calls>>,
    listener: Option<SourceId<Listener>>,
    calls: Vec<One>,
}

#[derive(Default)]
struct One {
    id: Option<SourceId<Call>>,
    /// How many bytes the response has to have.
    bytes: usize,
    got: Flow,
    /// What is still to be uploaded, of a call that does so piece by piece.
    upload: Option<Flow>,
    cancelled: bool,
    ended: Option<Result<(), Error>>,
}

/// A part of the known flow.
fn flow(bytes: usize) -> Vec<u8> {
    Flow::default().peek(bytes).to_vec()
}

/// GET /N is answered with N bytes, POST with what was sent.
fn serve(sim: &mut Sim<Calls>) -> SourceId<Listener> {
    let server = Server::new(|reactor: &mut Context<Calls>, _: &mut Calls, request, reply| {
        let request: &waterwheel::protocols::http::Request<'_> = request;
        let body = match request.method() == Method::POST {
            true => request.body().to_vec(),
            false => flow(request.path()[1..].parse().expect("a number")),
        };
        reply.send(reactor, body);
    });
    let network = sim.network.clone();
    let listener = network.listen(&mut sim.reactor, addr(), move |reactor, _, stream| {
        server.serve(reactor, stream);
    });
    listener.expect("the address is free")
}

/// Makes calls of all kinds at times of all kinds.
fn set_up(sim: &mut Sim<Calls>) -> Calls {
    let listener = serve(sim);
    let patience = Some(Duration::from_secs(3600));
    let limits = ClientLimits {
        connect_timeout: patience,
        head_timeout: patience,
        body_timeout: patience,
        write_timeout: patience,
        connections_per_host_max: 1 + sim.rng.below(4) as usize,
        idle_per_host_max: sim.rng.below(3) as usize,
        idle_time_max: Duration::from_millis(sim.rng.below(500)),
        ..ClientLimits::default()
    };
    let network = sim.network.clone();
    let client = Client::new().limits(limits).dialer(move |reactor, _, done| {
        Ok(Some(network.connect(reactor, addr(), Duration::from_secs(3600), done)?.raw()))
    });
    let mut calls = Calls { listener: Some(listener), ..Calls::default() };
    for at in 0..1 + sim.rng.below(8) as usize {
        let most = 1 << sim.rng.below(16);
        let bytes = sim.rng.below(most) as usize;
        let when = Duration::from_millis(sim.rng.below(800));
        let kind = sim.rng.below(4);
        calls.calls.push(One { bytes, ..One::default() });
        sim.reactor.after(when, move |reactor, calls| begin(reactor, calls, at, kind));
        if sim.rng.below(6) == 0 {
            let when = when + Duration::from_millis(sim.rng.below(300));
            sim.reactor.after(when, move |reactor, calls: &mut Calls| {
                let one = &mut calls.calls[at];
                one.cancelled = one.id.is_some_and(|id| id.cancel(reactor));
                end_if_over(reactor, calls);
            });
        }
    }
    calls.client = Some(client);
    calls
}

fn begin(reactor: &mut Context<Calls>, calls: &mut Calls, at: usize, kind: u64) {
    let Some(client) = &calls.client else { return };
    let bytes = calls.calls[at].bytes;
    let collected = move |reactor: &mut Context<Calls>, calls: &mut Calls, result| {
        let result: Result<ClientResponse, Error> = result;
        let one = &mut calls.calls[at];
        let result = result.map(|response| {
            assert_eq!(response.status, 200);
            one.got.check(&response.body);
        });
        end(reactor, calls, at, result);
    };
    let id = match kind {
        0 => client.get(reactor, format!("http://a/{bytes}"), collected),
        1 => client.send(reactor, ClientRequest::post("http://a/").body(flow(bytes)), collected),
        2 => {
            let request = ClientRequest::get(format!("http://a/{bytes}"));
            client.stream(reactor, request, move |reactor, calls, id, event| {
                on_event(reactor, calls, (at, id), event);
            })
        }
        _ => {
            let length = at.is_multiple_of(2).then_some(bytes as u64);
            let request = ClientRequest::post("http://a/").body_stream(length);
            let id = client.stream(reactor, request, move |reactor, calls, id, event| {
                on_event(reactor, calls, (at, id), event);
            });
            calls.calls[at].upload = Some(Flow::default());
            feed(reactor, &mut calls.calls[at], id);
            id
        }
    };
    calls.calls[at].id = Some(id);
}

fn feed(reactor: &mut Context<Calls>, one: &mut One, id: SourceId<Call>) {
    let Some(flow) = &mut one.upload else { return };
    while flow.at < one.bytes {
        let piece = flow.peek((one.bytes - flow.at).min(777));
        let pressure = id.write(reactor, piece);
        if pressure.is_taken() {
            flow.at += piece.len();
        }
        if pressure != Pressure::Below {
            return;
        }
    }
    one.upload = None;
    id.end(reactor);
}

fn on_event(
    reactor: &mut Context<Calls>,
    calls: &mut Calls,
    (at, id): (usize, SourceId<Call>),
    event: CallEvent<'_>,
) {
    let one = &mut calls.calls[at];
    assert!(one.ended.is_none() && !one.cancelled, "{event:?} after the end");
    match event {
        CallEvent::Head(head) => assert_eq!(head.status, 200),
        CallEvent::Data(bytes) => {
            one.got.check(bytes);
            if one.got.at.is_multiple_of(3) {
                id.pause(reactor);
                reactor.after(Duration::from_millis(20), move |reactor, _| id.resume(reactor));
            }
        }
        CallEvent::Drained => feed(reactor, one, id),
        CallEvent::End => end(reactor, calls, at, Ok(())),
        CallEvent::Failed(error) => end(reactor, calls, at, Err(error)),
    }
}

fn end(reactor: &mut Context<Calls>, calls: &mut Calls, at: usize, result: Result<(), Error>) {
    let one = &mut calls.calls[at];
    assert!(one.ended.is_none() && !one.cancelled, "told twice, or after a cancel");
    assert!(!reactor.contains(one.id.expect("begun")), "its id is stale by then");
    one.ended = Some(result);
    end_if_over(reactor, calls);
}

/// When the last call has ended, client and listener go.
fn end_if_over(reactor: &mut Context<Calls>, calls: &mut Calls) {
    if calls.calls.iter().all(|one| one.ended.is_some() || one.cancelled) {
        calls.client = None;
        if let Some(listener) = calls.listener.take() {
            reactor.remove(listener);
        }
        reactor.after(Duration::from_millis(1), |_, _| {}); // For the keeper, which holds nothing.
    }
}

#[test]
fn each_call_ends_once_whatever_the_network_does() {
    explore("each_call_ends_once_whatever_the_network_does", set_up, |_, calls| {
        for one in &calls.calls {
            match &one.ended {
                Some(Ok(())) => assert_eq!(one.got.at, one.bytes, "whole"),
                Some(Err(error)) => {
                    let fits = matches!(error, Error::Lost { .. } | Error::Connect { .. });
                    assert!(fits || error.is_timeout(), "{error}");
                }
                None => assert!(one.cancelled, "a call hangs"),
            }
        }
    });
}

#[test]
fn each_call_is_answered_where_nothing_is_lost() {
    let set_up = |sim: &mut Sim<Calls>| {
        sim.lossless();
        set_up(sim)
    };
    explore("each_call_is_answered_where_nothing_is_lost", set_up, |_, calls| {
        for one in &calls.calls {
            match &one.ended {
                Some(result) => assert!(result.is_ok() && one.got.at == one.bytes, "{result:?}"),
                None => assert!(one.cancelled),
            }
        }
    });
}
