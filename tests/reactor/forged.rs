//! Nobody can pretend by a public call to be the loop, the kernel, or a source of the library: to
//! whatever a source is resumed for it looks itself, and finds that nothing has happened.

use std::time::Duration;

use waterwheel::mio::Token;
use waterwheel::net::{self, Conn, Event, Limits, Stream, link, memory, sim, tcp, udp};
use waterwheel::patterns::tasks::{Run, Schedule, Task, TaskQueue};
use waterwheel::reactor::{Interest, RawId, Readiness, Script, VirtualSource};
use waterwheel::timers::ManualClock;
use waterwheel::{Context, Reactor, SourceId};

const MS: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(10);
/// Sources of one test, and registrations.
const MANY: usize = 48;

const PUBLIC: [Readiness; 8] = [
    Readiness::READABLE,
    Readiness::WRITABLE,
    Readiness::READ_CLOSED,
    Readiness::WRITE_CLOSED,
    Readiness::ERROR,
    Readiness::PRIORITY,
    Readiness::DEADLINE,
    Readiness::FLUSH,
];

/// What was told to anybody, in order.
#[derive(Default)]
struct World {
    log: Vec<String>,
    runs: Vec<Run>,
    #[cfg(feature = "http")]
    replies: Vec<waterwheel::protocols::http::Reply>,
}

impl World {
    fn note(&mut self, what: impl Into<String>) {
        self.log.push(what.into());
    }
}

struct Lab {
    reactor: Reactor<World>,
    clock: ManualClock,
    world: World,
}

impl Lab {
    fn new() -> Lab {
        let clock = ManualClock::held();
        let reactor = Reactor::builder().clock(&clock).build().unwrap();
        clock.advance(1000 * LONG);
        Lab { reactor, clock, world: World::default() }
    }

    fn settle(&mut self) {
        let mut quiet = 0;
        while quiet < 6 {
            let ran = self.reactor.turn(&mut self.world, Some(Duration::ZERO)).unwrap();
            quiet = if ran == 0 { quiet + 1 } else { 0 };
        }
    }

    /// Turns until that was told: real sockets and processes take their time.
    fn await_told(&mut self, what: &str) {
        let end = std::time::Instant::now() + LONG;
        while !self.world.log.iter().any(|told| told == what) {
            self.reactor.turn(&mut self.world, Some(MS)).unwrap();
            assert!(std::time::Instant::now() < end, "not told {what:?}: {:?}", self.world.log);
        }
        self.settle();
        self.world.log.clear();
    }

    /// Opens a stream that notes what it is told under this name.
    fn open(&mut self, name: &'static str, stream: Stream, limits: Limits) -> SourceId<Conn> {
        stream.limits(limits).open(&mut self.reactor, noting(name))
    }

    /// Two connections of this loop that are each other's peer, `a` with these limits.
    fn pair(&mut self, limits: Limits, buffer_bytes: usize) -> [SourceId<Conn>; 2] {
        let (a, b) = memory::pair_with(&mut self.reactor, buffer_bytes);
        [self.open("a", a, limits), self.open("b", b, half_open())]
    }

    /// Every source there is, our own hidden ones included.
    fn all(&self) -> Vec<RawId> {
        let token = |index, generation| Token(index | generation << (usize::BITS / 2));
        let ids = (0..MANY).flat_map(|index| (0..MANY).map(move |number| token(index, number)));
        let ids: Vec<_> =
            ids.map(RawId::from_token).filter(|id| self.reactor.contains(*id)).collect();
        assert_eq!(ids.len(), self.reactor.sources(), "more sources than are looked for");
        ids
    }
}

fn half_open() -> Limits {
    Limits { half_open: true, ..Limits::default() }
}

fn noting(
    name: &'static str,
) -> impl FnMut(&mut Context<World>, &mut World, SourceId<Conn>, Event<'_>) + 'static {
    move |_, world, _, event| match event {
        Event::Data(bytes) => world.note(format!("{name} {}", String::from_utf8_lossy(bytes))),
        event => world.note(format!("{name} {event:?}")),
    }
}

/// Makes what `begin` says, resumes every source by each public call for each public reason and for
/// all of them, and sees that nothing comes of it; `goes_on` then shows that nothing was lost.
fn comes_of_nothing<T>(what: &str, begin: impl Fn(&mut Lab) -> T, goes_on: impl Fn(&mut Lab, T)) {
    let all = PUBLIC.into_iter().fold(Readiness::NONE, |all, one| all | one);
    for ready in PUBLIC.into_iter().chain([all]) {
        let mut lab = Lab::new();
        let made = begin(&mut lab);
        lab.settle();
        lab.world.log.clear();
        let (sources, timers) = (lab.all(), lab.reactor.timers());
        let resumer = lab.reactor.resumer();
        for round in 0..4 {
            for id in &sources {
                if round % 2 == 0 {
                    assert!(lab.reactor.resume(*id, ready));
                } else {
                    resumer.resume(*id, ready);
                }
            }
            if round == 3 {
                lab.clock.advance(MS);
            }
            lab.settle();
            assert_eq!(lab.world.log, [""; 0], "{what}, resumed for {ready:?}");
            assert_eq!(lab.all(), sources, "{what}, resumed for {ready:?}");
            assert_eq!(lab.reactor.timers(), timers, "{what}, resumed for {ready:?}");
        }
        goes_on(&mut lab, made);
    }
}

#[test]
fn connections_are_not_reset_by_it() {
    let passes = |lab: &mut Lab, [a, b]: [SourceId<Conn>; 2]| {
        let _ = a.write(&mut lab.reactor, b"to b");
        lab.await_told("b to b");
        assert!(lab.reactor.contains(b));
    };
    comes_of_nothing("an open connection", |lab| lab.pair(half_open(), 100), passes);
    comes_of_nothing(
        "one whose peer has finished",
        |lab| {
            let [a, b] = lab.pair(half_open(), 100);
            lab.reactor[b].shutdown();
            [a, b]
        },
        passes,
    );
    comes_of_nothing(
        "a paused one whose handler is at work",
        |lab| {
            let [a, b] = lab.pair(half_open(), 100);
            lab.reactor[a].pause();
            lab.reactor[a].hold();
            let _ = lab.reactor[b].write(b"waits");
            [a, b]
        },
        |lab, [a, _]| {
            a.resume(&mut lab.reactor);
            lab.await_told("a waits");
        },
    );
    comes_of_nothing(
        "one that keeps half a frame",
        |lab| {
            let (a, b) = memory::pair(&mut lab.reactor);
            let a = a.open(&mut lab.reactor, |reactor, world: &mut World, conn, event| {
                let Event::Data(bytes) = event else { return world.note("ended") };
                world.note(String::from_utf8_lossy(bytes));
                reactor[conn].unread(bytes.len());
            });
            let b = lab.open("b", b, half_open());
            let _ = lab.reactor[b].write(b"half");
            (a, b)
        },
        |lab, (_, b)| {
            let _ = lab.reactor[b].write(b" a frame");
            lab.await_told("half a frame");
        },
    );
    comes_of_nothing(
        "one with timeouts",
        |lab| {
            let time = Some(LONG);
            let limits = Limits {
                idle_timeout: time,
                read_timeout: time,
                write_timeout: time,
                ..half_open()
            };
            let [a, b] = lab.pair(limits, 10);
            lab.reactor[b].pause();
            lab.settle();
            let _ = lab.reactor[a].write(&[b'x'; 30]);
            [a, b]
        },
        |lab, [a, b]| {
            lab.clock.advance(LONG / 2);
            b.resume(&mut lab.reactor);
            lab.settle();
            assert_eq!(lab.reactor[a].unsent(), 0);
        },
    );
    comes_of_nothing(
        "one in the grace of its close",
        |lab| {
            let [a, b] = lab.pair(Limits { close_grace: LONG, ..half_open() }, 100);
            lab.reactor[a].close();
            [a, b]
        },
        |lab, [_, b]| {
            b.close(&mut lab.reactor);
            lab.await_told("a Closed(Finished)");
        },
    );
}

/// As above, with the kernel between them.
#[test]
fn sockets_are_not_reset_by_it() {
    fn connected(lab: &mut Lab) -> SourceId<Conn> {
        let listener = tcp::listen(&mut lab.reactor, "127.0.0.1:0", |reactor, _, incoming| {
            incoming.limits(half_open()).open(reactor, noting("server"));
        });
        let addr = lab.reactor[listener.unwrap()].local_addr();
        tcp::connect(&mut lab.reactor, addr, LONG, |reactor, world: &mut World, stream| {
            let conn = stream.unwrap().limits(half_open()).open(reactor, noting("client"));
            let _ = conn.write(reactor, b"hello");
            world.note("connected");
        })
        .unwrap();
        lab.await_told("server hello");
        let conns = lab.reactor.ids::<Conn>();
        let accepted = |id: &SourceId<Conn>| lab.reactor[*id].peer_addr().unwrap() != addr;
        conns.into_iter().find(accepted).unwrap()
    }
    let answers = |lab: &mut Lab, server: SourceId<Conn>| {
        let _ = server.write(&mut lab.reactor, b"answer");
        lab.await_told("client answer");
    };
    comes_of_nothing("a socket", connected, answers);
    comes_of_nothing(
        "a socket whose peer has finished",
        |lab| {
            let server = connected(lab);
            let client = lab.reactor.ids::<Conn>().into_iter().find(|id| *id != server).unwrap();
            client.shutdown(&mut lab.reactor);
            lab.await_told("server Eof");
            server
        },
        answers,
    );
    comes_of_nothing(
        "a paused socket",
        |lab| {
            let server = connected(lab);
            lab.reactor[server].pause();
            lab.reactor[server].hold();
            server
        },
        answers,
    );
}

#[test]
fn a_link_is_not_reset_by_it() {
    comes_of_nothing(
        "a link",
        |lab| {
            let (client, a) = memory::pair(&mut lab.reactor);
            let (b, server) = memory::pair(&mut lab.reactor);
            link(&mut lab.reactor, a, b, |_, world: &mut World, _| world.note("report"));
            let client = lab.open("client", client, half_open());
            (client, lab.open("server", server, half_open()))
        },
        |lab, (client, server)| {
            let _ = client.write(&mut lab.reactor, b"there");
            lab.await_told("server there");
            let _ = server.write(&mut lab.reactor, b"and back");
            lab.await_told("client and back");
            client.close(&mut lab.reactor);
            server.close(&mut lab.reactor);
            lab.await_told("report");
        },
    );
}

#[test]
fn what_is_connecting_or_listening_goes_on() {
    let addr = "10.0.0.1:80".parse().unwrap();
    comes_of_nothing(
        "a simulated connect",
        |lab| {
            let slow = sim::Faults { latency_min: LONG, latency_max: LONG, ..Default::default() };
            let network = sim::Network::new(&mut lab.reactor, 1, slow);
            network
                .listen(&mut lab.reactor, addr, |_, world: &mut World, _| world.note("accepted"))
                .unwrap();
            network
                .connect(&mut lab.reactor, addr, 10 * LONG, |_, world, result| {
                    world.note(if result.is_ok() { "connected" } else { "failed" });
                })
                .unwrap();
        },
        |lab, ()| {
            lab.clock.advance(LONG);
            lab.settle();
            lab.clock.advance(LONG);
            lab.await_told("connected");
        },
    );
    comes_of_nothing(
        "a listener",
        |lab| {
            let listener = tcp::listen(&mut lab.reactor, "127.0.0.1:0", |_, world, _| {
                World::note(world, "accepted");
            });
            lab.reactor[listener.unwrap()].local_addr()
        },
        |lab, addr| {
            let _client = std::net::TcpStream::connect(addr).unwrap();
            lab.await_told("accepted");
        },
    );
    comes_of_nothing(
        "a race to who does not answer",
        |lab| {
            // Nobody accepts, and one waits already: Linux answers no more.
            let deaf = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
            let deaf = deaf.unwrap();
            let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
            deaf.bind(&any.into()).unwrap();
            deaf.listen(0).unwrap();
            let addr = deaf.local_addr().unwrap().as_socket().unwrap();
            let waits = std::net::TcpStream::connect(addr).unwrap();
            tcp::connect_name(&mut lab.reactor, &addr.to_string(), LONG, |_, world, result| {
                World::note(world, format!("race {:?}", result.unwrap_err().kind()));
            })
            .unwrap();
            (deaf, waits)
        },
        |lab, _| {
            lab.clock.advance(LONG);
            lab.await_told("race TimedOut");
        },
    );
}

/// Its deadline, which it arms itself, comes up though it is resumed in every turn.
#[test]
fn a_deadline_is_not_put_off_by_it() {
    let mut lab = Lab::new();
    let slow = sim::Faults { latency_min: 10 * LONG, latency_max: 10 * LONG, ..Default::default() };
    let network = sim::Network::new(&mut lab.reactor, 1, slow);
    let addr = "10.0.0.1:80".parse().unwrap();
    network
        .connect(&mut lab.reactor, addr, LONG, |_, world: &mut World, result| {
            world.note(format!("connect {:?}", result.unwrap_err().kind()));
        })
        .unwrap();
    let limits = Limits { write_timeout: Some(LONG), ..half_open() };
    let [a, b] = lab.pair(limits, 10);
    lab.reactor[b].pause();
    lab.settle();
    let _ = lab.reactor[a].write(&[b'x'; 30]);
    lab.settle();
    for step in [LONG - MS, MS] {
        assert!(lab.world.log.is_empty(), "{:?}", lab.world.log);
        lab.clock.advance(step);
        for _ in 0..20 {
            for id in lab.all() {
                lab.reactor.resume(id, Readiness::READABLE | Readiness::WRITABLE);
            }
            lab.reactor.turn(&mut lab.world, Some(Duration::ZERO)).unwrap();
        }
    }
    lab.world.log.sort();
    assert_eq!(lab.world.log[..2], ["a Closed(WriteTimeout)", "connect TimedOut"]);
}

#[test]
fn datagrams_and_their_room_are_not_told_early() {
    comes_of_nothing(
        "a datagram socket",
        |lab| {
            let socket =
                udp::bind(&mut lab.reactor, "127.0.0.1:0", |_, world: &mut World, _, event| {
                    let udp::Event::Received { bytes, .. } = event else {
                        return world.note("other");
                    };
                    world.note(String::from_utf8_lossy(bytes));
                });
            lab.reactor[socket.unwrap()].local_addr()
        },
        |lab, addr| {
            let other = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            other.send_to(b"hello", addr).unwrap();
            lab.await_told("hello");
        },
    );
}

#[cfg(unix)]
#[test]
fn room_for_datagrams_is_told_when_there_is_some() {
    use std::os::unix::net::UnixDatagram;
    use waterwheel::net::{Pressure, unix::datagram};
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    comes_of_nothing(
        "a full datagram socket",
        |lab| {
            let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let name = format!("waterwheel-forged-{}-{number}", std::process::id());
            let path = std::env::temp_dir().join(name);
            let peer = UnixDatagram::bind(&path).unwrap();
            let socket =
                datagram::connect(&mut lab.reactor, &path, |_, world: &mut World, _, event| {
                    world.note(format!("{event:?}"));
                });
            std::fs::remove_file(&path).unwrap();
            let socket = socket.unwrap();
            while lab.reactor[socket].send(b"x").unwrap() != Pressure::Refused {}
            peer
        },
        |lab, peer| {
            peer.set_nonblocking(true).unwrap();
            while peer.recv(&mut [0; 9]).is_ok() {}
            lab.clock.advance(LONG);
            lab.await_told("Writable");
        },
    );
}

#[test]
fn a_drain_reports_when_all_have_gone() {
    comes_of_nothing(
        "a drain",
        |lab| {
            let addr = "10.0.0.1:80".parse().unwrap();
            let quick = sim::Faults {
                latency_min: Duration::ZERO,
                latency_max: Duration::ZERO,
                ..Default::default()
            };
            let network = sim::Network::new(&mut lab.reactor, 1, quick);
            network
                .listen(&mut lab.reactor, addr, |reactor, _, stream| {
                    let conn = stream.open(reactor, noting("server"));
                    conn.hold(reactor);
                })
                .unwrap();
            network
                .connect(&mut lab.reactor, addr, LONG, |reactor, _, stream| {
                    stream.unwrap().limits(half_open()).open(reactor, noting("client"));
                })
                .unwrap();
            lab.settle();
            net::drain(&mut lab.reactor, LONG, |_, world, report| {
                world.note(format!("aborted {}", report.aborted));
            });
        },
        |lab, ()| {
            lab.clock.advance(LONG);
            lab.await_told("aborted 1");
        },
    );
}

#[test]
fn tasks_begin_and_end_in_their_time() {
    comes_of_nothing(
        "a task queue",
        |lab| {
            let queue = TaskQueue::new().open(&mut lab.reactor).unwrap();
            queue.on_end(&mut lab.reactor, |_, world: &mut World, record| {
                world.note(format!("{} {}", record.name, record.outcome));
            });
            for (name, after) in [("later", LONG), ("held", Duration::ZERO)] {
                let task = Task::new(name, Schedule::after(after)).timeout(5 * LONG);
                queue
                    .add(&mut lab.reactor, task, |_, world: &mut World, run: Run| {
                        world.note(format!("begins {}", run.name()));
                        world.runs.push(run);
                    })
                    .unwrap();
            }
        },
        |lab, ()| {
            lab.clock.advance(LONG);
            lab.await_told("begins later");
            lab.world.runs.remove(0).ok();
            lab.await_told("held done");
        },
    );
}

/// A source of the program's own is told what was asked for, and nothing that only the loop says.
#[test]
fn sources_of_the_program_hear_the_reports_alone() {
    let all = PUBLIC.into_iter().fold(Readiness::NONE, |all, one| all | one);
    let script = Script::new();
    let mut reactor = Reactor::builder().script(&script).build().unwrap();
    let source = reactor
        .register(VirtualSource, Interest::READABLE, |_, heard: &mut Vec<Readiness>, _, ready| {
            heard.push(ready);
        })
        .unwrap();
    let own = reactor.own((), |_, heard, _, ready| heard.push(ready));
    let reports = PUBLIC[..6].iter().fold(Readiness::NONE, |all, one| all | *one);
    let mut heard = Vec::new();
    for id in [source.raw(), own.raw()] {
        for ask in 0..3 {
            match ask {
                0 => drop(reactor.resume(id, all)),
                1 => reactor.resumer().resume(id, all),
                _ => script.report([(id, all)]),
            }
            reactor.turn(&mut heard, Some(Duration::ZERO)).unwrap();
            assert_eq!(std::mem::take(&mut heard), [reports]);
        }
        for alone in [Readiness::DEADLINE, Readiness::FLUSH] {
            assert!(reactor.resume(id, alone));
            script.report([(id, alone)]);
            reactor.turn(&mut heard, Some(Duration::ZERO)).unwrap();
            assert_eq!(heard, []);
        }
    }
}

/// A script stands for the kernel, whose word is believed.
#[test]
fn a_hang_up_that_the_kernel_tells_is_believed() {
    let script = Script::new();
    let mut reactor = Reactor::builder().script(&script).build().unwrap();
    let mut world = World::default();
    let (a, b) = memory::pair(&mut reactor);
    let a = a.limits(half_open()).open(&mut reactor, noting("a"));
    let b = b.limits(half_open()).open(&mut reactor, noting("b"));
    b.shutdown(&mut reactor);
    for _ in 0..5 {
        reactor.turn(&mut world, Some(Duration::ZERO)).unwrap();
    }
    script.report([(a.raw(), Readiness::WRITE_CLOSED | Readiness::ERROR)]);
    reactor.turn(&mut world, Some(Duration::ZERO)).unwrap();
    assert_eq!(world.log, ["a Eof", "a Closed(Reset)"]);
}

#[cfg(all(unix, feature = "process"))]
mod process {
    use std::process::{Command, Stdio};

    use waterwheel::process::Signal;
    use waterwheel::process::Spawn;

    use super::*;

    #[test]
    fn a_signal_that_did_not_come_is_not_told() {
        comes_of_nothing(
            "a signal",
            |lab| {
                lab.reactor
                    .on_signal(Signal::WINCH, |_, world: &mut World, _| world.note("signal"))
                    .unwrap();
            },
            |lab, ()| {
                let own = rustix::process::getpid();
                rustix::process::kill_process(own, rustix::process::Signal::WINCH).unwrap();
                lab.await_told("signal");
            },
        );
    }

    #[test]
    fn a_child_lives_on_and_its_end_is_told_once() {
        comes_of_nothing(
            "a child",
            |lab| {
                let mut command = Command::new("cat");
                command.stdin(Stdio::piped()).stdout(Stdio::piped());
                let spawned = Spawn::new(command)
                    .open(&mut lab.reactor, |_, world: &mut World, _, exit| {
                        world.note(format!("exit {}", exit.code()));
                    })
                    .unwrap();
                lab.open("stdout", spawned.stdout.unwrap(), Limits::default());
                let stdin = lab.open("stdin", spawned.stdin.unwrap(), Limits::default());
                let _ = stdin.write(&mut lab.reactor, b"hello");
                lab.await_told("stdout hello");
                // Its end was asked for, and is not due yet.
                stdin
            },
            |lab, stdin| {
                stdin.close(&mut lab.reactor);
                lab.await_told("exit 0");
            },
        );
    }
}

#[cfg(feature = "http")]
mod http {
    use waterwheel::protocols::http::{CallEvent, Client, ClientLimits, ClientRequest, Server};

    use super::*;

    /// A server whose replies are kept, and a client of raw bytes which says this.
    fn serve(lab: &mut Lab, says: &[u8]) -> SourceId<Conn> {
        let server = Server::new(|_, world: &mut World, request, reply| {
            world.note(request.target());
            world.replies.push(reply);
        });
        let (own, other) = memory::pair(&mut lab.reactor);
        server.serve(&mut lab.reactor, other);
        let conn = lab.open("client", own, half_open());
        let _ = conn.write(&mut lab.reactor, says);
        conn
    }

    fn is_answered(lab: &mut Lab) {
        let reply = lab.world.replies.remove(0);
        reply.send(&mut lab.reactor, "answer");
        lab.settle();
        assert!(lab.world.log.iter().any(|told| told.ends_with("answer")), "{:?}", lab.world.log);
    }

    #[test]
    fn requests_are_served_on() {
        comes_of_nothing(
            "a request that waits for its response, and one behind it",
            |lab| {
                serve(lab, b"GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n")
            },
            |lab, _| {
                is_answered(lab);
                is_answered(lab);
            },
        );
        comes_of_nothing(
            "half a head",
            |lab| serve(lab, b"GET / HTTP/1.1\r\nHo"),
            |lab, client| {
                let _ = client.write(&mut lab.reactor, b"st: h\r\n\r\n");
                lab.settle();
                is_answered(lab);
            },
        );
        comes_of_nothing(
            "half a body",
            |lab| serve(lab, b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nha"),
            |lab, client| {
                let _ = client.write(&mut lab.reactor, b"lf");
                lab.settle();
                is_answered(lab);
            },
        );
        comes_of_nothing(
            "silence",
            |lab| serve(lab, b""),
            |lab, client| {
                let _ = client.write(&mut lab.reactor, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
                lab.settle();
                is_answered(lab);
            },
        );
        comes_of_nothing(
            "a client that has finished and waits",
            |lab| {
                let client = serve(lab, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
                lab.settle();
                client.shutdown(&mut lab.reactor);
            },
            |lab, ()| is_answered(lab),
        );
    }

    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

    /// A client of one connection, and the server's end of it, which says this.
    fn client(lab: &mut Lab, says: &'static [u8]) -> Client<World> {
        let limits = ClientLimits { connections_per_host_max: 1, ..ClientLimits::default() };
        let client = Client::new().limits(limits).dialer(move |reactor, _, done| {
            let (ours, theirs) = memory::pair(reactor);
            let conn =
                theirs.limits(half_open()).open(reactor, move |_, world: &mut World, _, event| {
                    match event {
                        Event::Data(_) => world.note("asked"),
                        event => world.note(format!("server {event:?}")),
                    }
                });
            let _ = conn.write(reactor, says);
            reactor.defer(move |reactor, state| done(reactor, state, Ok(ours)));
            Ok(None)
        });
        for n in 0..3 {
            request(lab, &client, n);
        }
        client
    }

    fn request(lab: &mut Lab, client: &Client<World>, n: u32) {
        let request = ClientRequest::get(format!("http://a.test/{n}"));
        client.stream(
            &mut lab.reactor,
            request,
            move |_, world: &mut World, _, event| match event {
                CallEvent::End => world.note(format!("end {n}")),
                CallEvent::Failed(error) => world.note(format!("failed {n}: {error}")),
                _ => {}
            },
        );
    }

    /// Lets the server say more.
    fn say(lab: &mut Lab, bytes: &[u8]) {
        for id in lab.reactor.ids::<Conn>() {
            // Its end is the one that may be half open.
            if lab.reactor[id].limits().half_open {
                let _ = id.write(&mut lab.reactor, bytes);
            }
        }
        lab.settle();
    }

    #[test]
    fn calls_go_on_in_their_order() {
        comes_of_nothing(
            "a call that waits for its response, and two in the queue",
            |lab| client(lab, b""),
            |lab, _client| {
                for n in 0..3 {
                    lab.world.log.clear();
                    say(lab, OK);
                    let told: Vec<_> =
                        lab.world.log.iter().filter(|told| *told != "asked").collect();
                    assert_eq!(told, [&format!("end {n}")]);
                }
            },
        );
        comes_of_nothing(
            "a call amid its response",
            |lab| client(lab, &OK[..OK.len() - 1]),
            |lab, _client| {
                say(lab, b"k");
                assert_eq!(lab.world.log[0], "end 0");
            },
        );
        comes_of_nothing(
            "a connection that idles",
            |lab| {
                let client = client(lab, OK);
                lab.settle();
                say(lab, OK);
                say(lab, OK);
                assert_eq!(client.idle(), 1);
                client
            },
            |lab, client| {
                assert_eq!((client.idle(), client.connections()), (1, 1));
                request(lab, &client, 9);
                lab.settle();
                say(lab, OK);
                assert_eq!(lab.world.log, ["asked", "end 9"]);
            },
        );
    }
}

#[cfg(feature = "ws")]
mod ws {
    use waterwheel::protocols::ws::{self, Limits, Role};

    use super::*;

    #[test]
    fn websockets_go_on() {
        comes_of_nothing(
            "two WebSockets",
            |lab| {
                let (a, b) = memory::pair(&mut lab.reactor);
                let open = |lab: &mut Lab, stream, role, name: &'static str| {
                    ws::open(
                        &mut lab.reactor,
                        stream,
                        role,
                        Limits::default(),
                        move |_, world: &mut World, _, event| {
                            world.note(match event {
                                ws::Event::Text(text) => format!("{name} {text}"),
                                ws::Event::Open => format!("{name} open"),
                                _ => format!("{name} other"),
                            });
                        },
                    )
                };
                let a = open(lab, a, Role::Client, "a");
                (a, open(lab, b, Role::Server, "b"))
            },
            |lab, (a, b)| {
                let _ = a.text(&mut lab.reactor, "there");
                lab.await_told("b there");
                let _ = b.text(&mut lab.reactor, "and back");
                lab.await_told("a and back");
            },
        );
    }
}

#[cfg(feature = "tls")]
mod tls {
    use waterwheel::protocols::tls::Client;

    use super::*;

    #[test]
    fn a_handshake_goes_on_and_has_its_time() {
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let roots = own.cert.pem();
        comes_of_nothing(
            "a handshake",
            move |lab| {
                let (own, peer) = memory::pair(&mut lab.reactor);
                lab.open("peer", peer, half_open());
                let client = Client::with_roots(&roots).unwrap().handshake_timeout(LONG);
                client.connect(
                    &mut lab.reactor,
                    own,
                    "localhost",
                    |_, world: &mut World, result| {
                        world.note(format!("{:?}", result.unwrap_err().kind()));
                    },
                );
            },
            |lab, ()| {
                lab.clock.advance(LONG);
                lab.await_told("TimedOut");
            },
        );
    }
}
