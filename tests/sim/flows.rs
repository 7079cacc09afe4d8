//! Links, rates and drains in simulated networks.

use std::net::SocketAddr;
use std::time::Duration;

use support::Rng;
use support::sim::{Sim, explore};
use support::tcp::{Flow, watched};
use waterwheel::net::{self, Conn, DrainReport, Event, Framed, Limits, Lines, Link, LinkReport};
use waterwheel::net::{Pressure, Rate, Reason, Stream, framed};
use waterwheel::{Context, SourceId};

const PATIENCE: Duration = Duration::from_secs(60);
const A_DAY: Duration = Duration::from_secs(24 * 3600);

fn upstream() -> SocketAddr {
    "10.0.0.1:7001".parse().expect("an address")
}

fn proxy() -> SocketAddr {
    "10.0.0.2:7002".parse().expect("an address")
}

fn finished(reason: &Option<Reason>) -> bool {
    matches!(reason, Some(Reason::Finished))
}

/// A client and a server with a link between them: each sends all it has, and FIN.
#[derive(Debug, Default)]
struct Pipe {
    limits: Limits,
    /// Of the two ends of the link.
    narrow: Limits,
    /// The link is aborted so long after its beginning.
    aborts: Option<Duration>,
    client: Party,
    server: Party,
    linked: usize,
    reports: Vec<LinkReport>,
}

#[derive(Debug, Default)]
struct Party {
    bytes: usize,
    sent: Flow,
    got: Flow,
    /// The peer's FIN has come.
    ended: bool,
    closed: Option<Reason>,
}

impl Party {
    fn of(bytes: u64) -> Party {
        Party { bytes: bytes as usize, ..Party::default() }
    }

    fn feed(&mut self, conn: &mut Conn) {
        while self.sent.at < self.bytes {
            let bytes = self.sent.peek((self.bytes - self.sent.at).min(700));
            let pressure = conn.write(bytes);
            if !pressure.is_taken() {
                return;
            }
            self.sent.at += bytes.len();
            if pressure == Pressure::AboveHigh {
                break;
            }
        }
        if self.sent.at == self.bytes {
            conn.shutdown();
        }
    }

    fn open(stream: Stream, reactor: &mut Context<Pipe>, pipe: &mut Pipe, which: Which) {
        let on_event =
            move |reactor: &mut Context<Pipe>, pipe: &mut Pipe, conn, event: Event<'_>| {
                let party = which(pipe);
                match event {
                    Event::Data(bytes) => party.got.check(bytes),
                    Event::Drained => party.feed(&mut reactor[conn]),
                    Event::Eof => party.ended = true,
                    Event::Closed(why) => party.closed = Some(why),
                }
            };
        let conn = stream.limits(pipe.limits.clone()).open(reactor, watched(on_event));
        which(pipe).feed(&mut reactor[conn]);
    }
}

type Which = fn(&mut Pipe) -> &mut Party;

fn join(reactor: &mut Context<Pipe>, pipe: &mut Pipe, client: Stream, server: Stream) {
    pipe.linked += 1;
    let (client, server) = (client.limits(pipe.narrow.clone()), server.limits(pipe.narrow.clone()));
    let link = net::link(reactor, client, server, |reactor, pipe: &mut Pipe, report| {
        assert_eq!(reactor.ids::<Link>(), []);
        pipe.reports.push(report);
    });
    if let Some(after) = pipe.aborts {
        reactor.after(after, move |reactor, _| {
            reactor.get_mut(link).map(Link::abort);
        });
    }
}

/// What the two ends hold, and how fast they are, is for the seed to say.
fn narrow(rng: &mut Rng) -> Limits {
    let high = 1 + rng.below(4000) as usize;
    Limits {
        outbox_bytes_high: high,
        outbox_bytes_low: rng.below(1000) as usize,
        outbox_bytes_max: if rng.below(2) == 0 { 1 + rng.below(2000) as usize } else { 4 << 20 },
        read_bytes_per_turn: 1 + rng.below(5000) as usize,
        close_grace: A_DAY,
        read_rate: (rng.below(4) == 0)
            .then(|| Rate::new(500 + rng.below(100_000), rng.below(5000))),
        write_rate: (rng.below(4) == 0)
            .then(|| Rate::new(500 + rng.below(100_000), rng.below(5000))),
        ..Limits::default()
    }
}

fn piped(sim: &mut Sim<Pipe>) -> Pipe {
    if sim.rng.below(2) == 0 {
        sim.lossless();
    }
    let on_accept = |reactor: &mut Context<Pipe>, pipe: &mut Pipe, stream| {
        Party::open(stream, reactor, pipe, |pipe| &mut pipe.server);
    };
    let server = sim.network.listen(&mut sim.reactor, upstream(), on_accept).unwrap();
    let network = sim.network.clone();
    let on_accept = move |reactor: &mut Context<Pipe>, _: &mut Pipe, client| {
        let done = move |reactor: &mut Context<Pipe>, pipe: &mut Pipe, server| {
            if let Ok(server) = server {
                join(reactor, pipe, client, server);
            }
        };
        network.connect(reactor, upstream(), PATIENCE, done).unwrap();
    };
    let between = sim.network.listen(&mut sim.reactor, proxy(), on_accept).unwrap();
    let done = |reactor: &mut Context<Pipe>, pipe: &mut Pipe, stream| {
        if let Ok(stream) = stream {
            Party::open(stream, reactor, pipe, |pipe| &mut pipe.client);
        }
    };
    sim.network.connect(&mut sim.reactor, proxy(), PATIENCE, done).unwrap();
    sim.reactor.after(3 * PATIENCE, move |reactor, _| {
        reactor.remove(server);
        reactor.remove(between);
    });
    let rng = &mut sim.rng;
    Pipe {
        limits: Limits { half_open: true, close_grace: A_DAY, ..Limits::default() },
        narrow: narrow(rng),
        aborts: (rng.below(6) == 0).then(|| Duration::from_millis(rng.below(300))),
        client: Party::of(rng.below(9000)),
        server: Party::of(rng.below(9000)),
        ..Pipe::default()
    }
}

#[test]
fn link() {
    explore("link", piped, |sim, pipe| {
        assert_eq!(pipe.reports.len(), pipe.linked);
        let (client, server) = (&pipe.client, &pipe.server);
        let Some(report) = pipe.reports.first() else {
            assert_eq!((client.got.at, server.got.at), (0, 0));
            return;
        };
        for (from, to, end) in [(client, server, &report.a), (server, client, &report.b)] {
            assert!(to.got.at as u64 <= end.bytes && end.bytes <= from.sent.at as u64, "{pipe:?}");
            let all = to.got.at == from.bytes;
            assert!(all || !to.ended, "FIN came behind lost bytes: {pipe:?}");
        }
        if sim.network.traffic().resets == 0 && pipe.aborts.is_none() {
            for (from, to, end) in [(client, server, &report.a), (server, client, &report.b)] {
                assert_eq!((to.got.at, end.bytes), (from.bytes, from.bytes as u64), "{pipe:?}");
                assert!(finished(&to.closed) && matches!(end.reason, Reason::Finished), "{pipe:?}");
            }
        }
        let by_force = |end: &net::LinkEnd| !matches!(end.reason, Reason::Finished);
        if by_force(&report.a) || by_force(&report.b) {
            assert!(sim.network.traffic().resets > 0 || pipe.aborts.is_some(), "{pipe:?}");
        }
    });
}

/// A server that is drained while clients ask, one question after the other's answer.
#[derive(Debug, Default)]
struct Service {
    limits: Limits,
    /// How long each answer takes; 0 is at once.
    takes: Vec<u64>,
    guests: Vec<Guest>,
    reports: Vec<DrainReport>,
    /// How each connection has ended at the server, and whose it was.
    closed: Vec<(Option<usize>, Reason)>,
}

#[derive(Debug, Default)]
struct Guest {
    questions: usize,
    asked: usize,
    seen: usize,
    answered: usize,
    got: usize,
}

fn serve(reactor: &mut Context<Service>, service: &mut Service, stream: Stream) {
    let mut whose = None;
    let handler =
        framed(Lines::new(50), move |reactor: &mut Context<Service>, service, id, event| {
            let service: &mut Service = service;
            match event {
                Framed::Frame(line) => {
                    let index = std::str::from_utf8(line).unwrap().parse::<usize>().unwrap();
                    whose = Some(index);
                    let guest = &mut service.guests[index];
                    guest.seen += 1;
                    match service.takes[(index + guest.seen) % service.takes.len()] {
                        0 => answer(&mut reactor[id], guest),
                        ms => {
                            reactor[id].hold();
                            reactor.after(Duration::from_millis(ms), move |reactor, service| {
                                if let Some(conn) = reactor.get_mut(id) {
                                    answer(conn, &mut service.guests[index]);
                                }
                            });
                        }
                    }
                }
                Framed::Closed(why) => service.closed.push((whose, why)),
                _ => {}
            }
        });
    stream.limits(service.limits.clone()).open(reactor, watched(handler));
}

fn answer(conn: &mut Conn, guest: &mut Guest) {
    if conn.write(b"an answer\n").is_taken() {
        guest.answered += 1;
    }
    conn.release();
}

fn visit(index: usize, pause: Duration, reactor: &mut Context<Service>, stream: Stream) {
    let handler =
        framed(Lines::new(50), move |reactor: &mut Context<Service>, service, id, event| {
            let service: &mut Service = service;
            if let Framed::Frame(_) = event {
                service.guests[index].got += 1;
                reactor.after(pause, move |reactor, service| ask(reactor, service, id, index));
            }
        });
    let conn = stream.open(reactor, watched(handler));
    reactor.defer(move |reactor, service| ask(reactor, service, conn, index));
}

fn ask(reactor: &mut Context<Service>, service: &mut Service, id: SourceId<Conn>, index: usize) {
    let guest = &mut service.guests[index];
    if let Some(conn) = reactor.get_mut(id)
        && guest.asked < guest.questions
        && conn.write(format!("{index}\n").as_bytes()).is_taken()
    {
        guest.asked += 1;
    }
}

fn drained(sim: &mut Sim<Service>) -> Service {
    if sim.rng.below(2) == 0 {
        sim.lossless();
    }
    sim.network.listen(&mut sim.reactor, upstream(), serve).unwrap();
    let guests: Vec<_> = (0..1 + sim.rng.below(6))
        .map(|_| Guest { questions: sim.rng.below(8) as usize, ..Guest::default() })
        .collect();
    for index in 0..guests.len() {
        let [at, pause] = [40, 30].map(|ms| Duration::from_millis(sim.rng.below(ms)));
        let network = sim.network.clone();
        sim.reactor.after(at, move |reactor, _| {
            let done = move |reactor: &mut Context<Service>, _: &mut Service, stream| {
                if let Ok(stream) = stream {
                    visit(index, pause, reactor, stream);
                }
            };
            network.connect(reactor, upstream(), PATIENCE, done).unwrap();
        });
    }
    let [at, grace] = [200, 1500].map(|ms| Duration::from_millis(sim.rng.below(ms)));
    for _ in 0..1 + sim.rng.below(5) / 4 {
        sim.reactor.after(at, move |reactor, _| {
            net::drain(reactor, grace, |_, service: &mut Service, report| {
                service.reports.push(report);
            });
        });
    }
    let takes = (0..7).map(|_| sim.rng.below(2) * sim.rng.below(300)).collect();
    let limits = Limits { close_grace: A_DAY, ..Limits::default() };
    Service { limits, takes, guests, ..Service::default() }
}

#[test]
fn drain() {
    explore("drain", drained, |sim, service| {
        let report = service.reports[0];
        for report in &service.reports {
            let DrainReport { connections, idle, finished, aborted, .. } = *report;
            assert_eq!(connections, idle + finished + aborted, "{report}");
        }
        assert_eq!(report.listeners, 1, "{report}");
        assert!(report.connections <= service.closed.len());
        let by_force = |(_, why): &&(_, Reason)| matches!(why, Reason::Aborted);
        assert_eq!(service.closed.iter().filter(by_force).count() > 0, {
            service.reports.iter().any(|report| report.aborted > 0)
        });
        if sim.faults.reset_per_mille == 0 {
            for (whose, why) in &service.closed {
                let Some(guest) = whose.map(|index| &service.guests[index]) else { continue };
                if matches!(why, Reason::Finished) {
                    let counts = (guest.answered, guest.got);
                    assert_eq!(counts, (guest.seen, guest.seen), "{guest:?} {report}");
                }
            }
        }
    });
}
