//! HTTP servers and clients in simulated networks: every call is told one end, and every answer
//! that is told is whole and the right one.

use std::net::SocketAddr;
use std::time::Duration;

use support::Rng;
use support::sim::{Sim, explore};
use support::tcp::Flow;
use waterwheel::net::{Conn, Pressure, Stream};
use waterwheel::protocols::http::{
    Body, CallEvent, Client, ClientLimits, ClientRequest, Error, Limits, Method, Reply, Request,
    Response, Router, Server,
};
use waterwheel::{Context, SourceId};

const PATIENCE: Duration = Duration::from_secs(3600);

fn addr() -> SocketAddr {
    "10.0.0.1:80".parse().expect("an address")
}

/// What a call asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wants {
    /// So many bytes, at once.
    Bytes(usize),
    /// After so many milliseconds.
    Later(u64),
    /// In pieces, as there is room.
    Pieces(usize),
    /// Nothing of its body: the head alone.
    Head,
    /// To upload so many, and to hear how many they were.
    Echo(usize),
    Upload(usize),
    /// An upload that is refused at once.
    Refused(usize),
    /// A response that breaks off.
    Torn(usize),
    /// The reply is dropped.
    Nothing,
}

impl Wants {
    fn drawn(rng: &mut Rng) -> Wants {
        let bytes = match rng.below(3) {
            0 => rng.below(50),
            1 => rng.below(3000),
            _ => rng.below(60_000),
        } as usize;
        match rng.below(9) {
            0 => Wants::Bytes(bytes),
            1 => Wants::Later(rng.below(3000)),
            2 => Wants::Pieces(bytes),
            3 => Wants::Head,
            4 => Wants::Echo(bytes),
            5 => Wants::Upload(bytes),
            6 => Wants::Refused(bytes),
            7 => Wants::Torn(bytes),
            _ => Wants::Nothing,
        }
    }

    fn request(self, number: usize) -> ClientRequest {
        let url = |path: &str, count: u64| format!("http://sim/{path}/{number}/{count}");
        let own = |bytes: usize| Flow { at: number }.peek(bytes).to_vec();
        match self {
            Wants::Bytes(bytes) => ClientRequest::get(url("bytes", bytes as u64)),
            Wants::Later(wait_ms) => ClientRequest::get(url("later", wait_ms)),
            Wants::Pieces(bytes) => ClientRequest::get(url("pieces", bytes as u64)),
            Wants::Head => ClientRequest::head(url("bytes", 100)),
            Wants::Echo(bytes) => ClientRequest::post(url("echo", 0)).body(own(bytes)),
            Wants::Upload(bytes) => ClientRequest::post(url("upload", 0)).body(own(bytes)),
            Wants::Refused(bytes) => ClientRequest::post(url("refused", 0)).body(own(bytes)),
            Wants::Torn(bytes) => ClientRequest::get(url("torn", bytes as u64)),
            Wants::Nothing => ClientRequest::get(url("nothing", 0)),
        }
    }

    /// The status and the body of the right response.
    fn response(self, number: usize) -> Option<(u16, Vec<u8>)> {
        let own = |bytes: usize| Flow { at: number }.peek(bytes).to_vec();
        let said = |bytes: usize| own(bytes).len().to_string().into_bytes();
        Some(match self {
            Wants::Bytes(bytes) | Wants::Pieces(bytes) => (200, own(bytes)),
            Wants::Later(wait_ms) => (200, wait_ms.to_string().into_bytes()),
            Wants::Head => (200, Vec::new()),
            Wants::Echo(bytes) => (200, own(bytes)),
            Wants::Upload(bytes) => (200, said(bytes)),
            Wants::Refused(_) => (403, b"no".to_vec()),
            Wants::Torn(_) => return None,
            Wants::Nothing => (500, b"Internal Server Error".to_vec()),
        })
    }
}

/// Everybody in one network.
#[derive(Default)]
struct World {
    asked: Vec<Asked>,
    /// Requests that handlers have seen.
    served: usize,
    replies: usize,
    gone: usize,
}

/// One call, and what became of it.
#[derive(Debug)]
struct Asked {
    wants: Wants,
    number: usize,
    status: u16,
    got: Vec<u8>,
    ended: Option<Result<(), String>>,
    cancelled: bool,
}

fn of_path(request: &Request<'_>) -> (usize, u64) {
    let number = |name| request.param(name).and_then(|text| text.parse().ok()).unwrap_or(0);
    (number("number") as usize, number("count"))
}

/// Sends a body piece by piece, as there is room, and ends it or not.
fn pieces(
    reactor: &mut Context<World>,
    sender: waterwheel::protocols::http::Sender,
    mut flow: Flow,
    mut left: usize,
    ends: bool,
) {
    loop {
        let piece = flow.peek(left.min(997));
        if piece.is_empty() {
            if ends {
                sender.end(reactor);
            }
            return;
        }
        match sender.write(reactor, piece) {
            Pressure::Refused | Pressure::Closed if !sender.is_open(reactor) => return,
            Pressure::Refused | Pressure::Closed => {}
            _ => {
                flow.at += piece.len();
                left -= piece.len();
                continue;
            }
        }
        return sender.when_drained(reactor, move |reactor, _, sender| {
            pieces(reactor, sender, flow, left, ends);
        });
    }
}

fn router() -> Router<World> {
    let served = |world: &mut World| world.served += 1;
    Router::new()
        .get("/bytes/{number}/{count}", move |reactor, world, request, reply| {
            served(world);
            let (number, count) = of_path(request);
            reply.send(reactor, Flow { at: number }.peek(count as usize).to_vec());
        })
        .get("/later/{number}/{count}", move |reactor, world, request, reply| {
            served(world);
            let (_, count) = of_path(request);
            reply.on_gone(reactor, |_, world: &mut World| world.gone += 1);
            world.replies += 1;
            reactor.after(Duration::from_millis(count), move |reactor, world: &mut World| {
                reply.send(reactor, count.to_string());
                world.replies -= 1;
            });
        })
        .get("/pieces/{number}/{count}", move |reactor, world, request, reply| {
            served(world);
            let (number, count) = of_path(request);
            let sender = reply.stream(reactor, "");
            pieces(reactor, sender, Flow { at: number }, count as usize, true);
        })
        .get("/torn/{number}/{count}", move |reactor, world, request, reply| {
            served(world);
            let (number, count) = of_path(request);
            let sender = reply.stream(reactor, "");
            pieces(reactor, sender, Flow { at: number }, count as usize, false);
        })
        .get("/nothing/{number}/{count}", move |_, world, _, _| served(world))
        .post("/echo/{number}/{count}", move |reactor, world, request, reply| {
            served(world);
            reply.send(reactor, request.body().to_vec());
        })
        .stream(Method::POST, "/upload/{number}/{count}", upload)
        .stream(Method::POST, "/refused/{number}/{count}", |reactor, world, _, reply: Reply| {
            world.served += 1;
            let no = Response::text("no").status(http_status(403));
            reply.send(reactor, no);
            |_: &mut Context<World>, _: &mut World, _: Body<'_>| panic!("of a refused body")
        })
}

fn http_status(code: u16) -> waterwheel::protocols::http::StatusCode {
    waterwheel::protocols::http::StatusCode::from_u16(code).expect("a status")
}

/// Counts what comes, and now and then has enough for a while.
fn upload(
    _: &mut Context<World>,
    world: &mut World,
    request: &Request<'_>,
    reply: Reply,
) -> impl FnMut(&mut Context<World>, &mut World, Body<'_>) + use<> {
    world.served += 1;
    let (number, _) = of_path(request);
    let mut got = Flow { at: number };
    let reply = std::rc::Rc::new(std::cell::RefCell::new(Some(reply)));
    move |reactor, _, body| match body {
        Body::Data(bytes) => {
            got.check(bytes);
            if got.at.is_multiple_of(7)
                && let Some(reply) = &*reply.borrow()
            {
                reply.pause_body(reactor);
            }
            let later = reply.clone();
            reactor.after(Duration::from_millis(got.at as u64 % 40), move |reactor, _| {
                if let Some(reply) = &*later.borrow() {
                    reply.resume_body(reactor);
                }
            });
        }
        Body::End => {
            let reply = reply.take().expect("the end comes once");
            reply.send(reactor, (got.at - number).to_string());
        }
        Body::Failed(_) => drop(reply.take()),
    }
}

fn note(world: &mut World, index: usize, event: CallEvent<'_>) {
    let asked = &mut world.asked[index];
    assert!(asked.ended.is_none(), "{event:?} after the end of {asked:?}");
    assert!(!asked.cancelled, "{event:?} after it was cancelled");
    match event {
        CallEvent::Head(head) => {
            assert_eq!(asked.status, 0, "a second head");
            asked.status = head.status.as_u16();
        }
        CallEvent::Data(bytes) => asked.got.extend_from_slice(bytes),
        CallEvent::Drained => {}
        CallEvent::End => asked.ended = Some(Ok(())),
        CallEvent::Failed(error) => asked.ended = Some(Err(words(&error))),
    }
}

fn words(error: &Error) -> String {
    let text = error.to_string();
    assert!(text.starts_with("http://sim/"), "{text}");
    text
}

fn begin(reactor: &mut Context<World>, client: &Client<World>, world: &mut World, index: usize) {
    let Asked { wants, number, .. } = world.asked[index];
    let collects = number % 3 == 0;
    let call = if collects {
        client.send(reactor, wants.request(number), move |_, world: &mut World, result| {
            let asked = &mut world.asked[index];
            assert!(asked.ended.is_none() && !asked.cancelled, "told twice: {asked:?}");
            asked.ended = Some(result.map_err(|error| words(&error)).map(|response| {
                asked.status = response.status.as_u16();
                asked.got = response.body;
            }));
        })
    } else {
        client.stream(reactor, wants.request(number), move |_, world: &mut World, _, event| {
            note(world, index, event);
        })
    };
    if number % 11 == 0 {
        let after = Duration::from_millis(number as u64 % 97);
        reactor.after(after, move |reactor, world: &mut World| {
            if call.cancel(reactor) {
                world.asked[index].cancelled = true;
            }
        });
    }
}

fn serve(sim: &mut Sim<World>, limits: Limits) {
    let server = Server::routes(router()).limits(limits);
    let on_accept = move |reactor: &mut Context<World>, _: &mut World, stream: Stream| {
        let _: SourceId<Conn> = server.serve(reactor, stream);
    };
    let listener = sim.network.listen(&mut sim.reactor, addr(), on_accept).unwrap();
    sim.reactor.unref(listener);
    // It would be left over. By now every limit on time is up, of calls one after another.
    sim.reactor.after(100 * PATIENCE, move |reactor, _| {
        reactor.remove(listener);
    });
}

fn client(sim: &Sim<World>, limits: ClientLimits) -> Client<World> {
    let network = sim.network.clone();
    let client = Client::new().limits(limits);
    client.dialer(move |reactor, _, done| {
        network.connect(reactor, addr(), PATIENCE, done).map(|connecting| Some(connecting.raw()))
    })
}

/// Calls at drawn times, by clients with drawn patience.
fn set_up(sim: &mut Sim<World>, impatient: bool) -> World {
    let some = |rng: &mut Rng, most_ms: u64| Duration::from_millis(1 + rng.below(most_ms));
    let mut server_limits = Limits {
        discard_bytes_max: sim.rng.below(30_000),
        requests_max: 1 + sim.rng.below(20) as usize,
        pipelined_bytes_max: 1000,
        close_grace: PATIENCE,
        write_timeout: Some(PATIENCE),
        body_grace: PATIENCE,
        head_timeout: PATIENCE,
        idle_timeout: PATIENCE,
        ..Limits::default()
    };
    let mut limits = ClientLimits {
        connect_timeout: Some(PATIENCE),
        head_timeout: Some(PATIENCE),
        body_timeout: Some(PATIENCE),
        write_timeout: Some(PATIENCE),
        connections_per_host_max: 1 + sim.rng.below(3) as usize,
        idle_time_max: PATIENCE,
        ..ClientLimits::default()
    };
    if impatient {
        let rng = &mut sim.rng;
        server_limits.idle_timeout = some(rng, 500);
        server_limits.head_timeout = some(rng, 500);
        server_limits.body_grace = some(rng, 500);
        server_limits.close_grace = some(rng, 500);
        server_limits.write_timeout = Some(some(rng, 500));
        server_limits.reply_timeout = (rng.below(2) == 0).then(|| some(rng, 2000));
        server_limits.body_bytes_max = rng.below(60_000) as usize;
        limits.connect_timeout = Some(some(rng, 500));
        limits.head_timeout = Some(some(rng, 3000));
        limits.body_timeout = Some(some(rng, 500));
        limits.write_timeout = Some(some(rng, 500));
        limits.idle_time_max = some(rng, 1000);
        limits.total_timeout = (rng.below(2) == 0).then(|| some(rng, 5000));
    }
    serve(sim, server_limits);
    let client = client(sim, limits);
    let mut world = World::default();
    for index in 0..1 + sim.rng.below(10) as usize {
        let (wants, number) = (Wants::drawn(&mut sim.rng), 1 + sim.rng.below(1000) as usize);
        let (status, got) = (0, Vec::new());
        world.asked.push(Asked { wants, number, status, got, ended: None, cancelled: false });
        let at = Duration::from_millis(sim.rng.below(2000));
        let client = client.clone();
        sim.reactor.after(at, move |reactor, world| begin(reactor, &client, world, index));
    }
    world
}

/// What must hold of every call, whatever happens.
fn check_calls(world: &World) {
    assert_eq!(world.replies, 0);
    for asked in &world.asked {
        let Asked { wants, number, status, got, ended, cancelled } = asked;
        assert!(ended.is_some() != *cancelled, "one end: {asked:?}");
        let right = wants.response(*number);
        match ended {
            Some(Ok(())) if *status >= 400 && right.as_ref().is_none_or(|r| r.0 != *status) => {
                // The server's own words: too slow, too large.
                assert!([408, 413, 503].contains(status), "{status} to {wants:?}");
            }
            Some(Ok(())) => {
                let (right_status, body) = right.expect("a torn response is no response");
                assert_eq!(*status, right_status, "{wants:?}");
                assert!(*got == body, "{wants:?}: {} bytes", got.len());
            }
            _ if *status == 200 => {
                let whole = match wants {
                    Wants::Torn(bytes) => Flow { at: *number }.peek(*bytes).to_vec(),
                    _ => right.expect("a response").1,
                };
                assert!(whole.starts_with(got), "{wants:?}: not even a part of it");
            }
            _ => {}
        }
    }
}

#[test]
fn calls() {
    explore(
        "calls",
        |sim| set_up(sim, false),
        |sim, world| {
            check_calls(world);
            let traffic = sim.network.traffic();
            if (traffic.resets, traffic.refused, traffic.lost) == (0, 0, 0) {
                for asked in world.asked.iter().filter(|asked| !asked.cancelled) {
                    let torn = matches!(asked.wants, Wants::Torn(_));
                    assert_eq!(asked.ended.as_ref().unwrap().is_err(), torn, "{asked:?}");
                }
            }
        },
    );
}

#[test]
fn calls_that_are_in_a_hurry() {
    explore("calls_that_are_in_a_hurry", |sim| set_up(sim, true), |_, world| check_calls(world));
}
