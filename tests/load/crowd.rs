//! Many clients of an HTTP server at a time, and what each of them costs.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::rc::Rc;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use allocation_counter::measure;
use support::process::Process;
use support::siege::Siege;
use support::tcp as peers;
use support::tcp::{Peer, reset_on_drop, turns};
use support::{ceiling, raise_open_files};
use waterwheel::net::Conn;
use waterwheel::protocols::http::{Limits, Response, Server};

const LIMIT: Duration = Duration::from_secs(180);
const SECOND: Duration = Duration::from_secs(1);

const WHO: &str = "WATERWHEEL_CROWD";
/// One crowd at a time: together they would want more open files than a process may have.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    raise_open_files();
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

fn hello(limits: Limits) -> Siege<usize> {
    let server = Server::new(|reactor, requests: &mut usize, _, reply| {
        *requests += 1;
        reply.send(reactor, "hello");
    });
    Siege::of(server, limits)
}

/// Clients in a process of their own, since one may have no more open files than this: so many,
/// each of which has sent what is to be sent, and with `answers` has read the response.
fn crowd(addr: SocketAddr, count: usize, sends: &str, answers: bool) -> Process {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args([&support::named("clients").1, "--exact", "--ignored", "--nocapture"]);
    child.env(WHO, format!("{addr} {count} {answers} {sends}"));
    Process::start(&mut child)
}

#[test]
#[ignore = "the child process of the tests below"]
fn clients() {
    raise_open_files();
    let who = std::env::var(WHO).expect("the address, how many, and what they send");
    let mut words = who.splitn(4, ' ');
    let mut word = || words.next().expect("four words");
    let addr: SocketAddr = word().parse().unwrap();
    let count: usize = word().parse().unwrap();
    let (answers, sends) = (word() == "true", word());
    let mut response = [0; 1000];
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = TcpStream::connect(addr).unwrap();
        reset_on_drop(&client).unwrap();
        client.write_all(sends.as_bytes()).unwrap();
        if answers {
            let count = client.read(&mut response).unwrap();
            assert!(response[..count].ends_with(b"hello"));
        }
        clients.push(client);
    }
    println!("\nall there");
    let mut end = String::new();
    std::io::stdin().read_to_string(&mut end).unwrap();
}

/// Turns until all of them are there, and answers what each costs in bytes.
fn cost_of(siege: &mut Siege<usize>, count: usize, sends: &str, answers: bool) -> (u64, Process) {
    let mut clients = None;
    let heads = if answers { count } else { 0 };
    let memory = measure(|| {
        clients = Some(crowd(siege.addr, count, sends, answers));
        // The child may take its time to begin.
        let begin = std::time::Instant::now();
        while siege.reactor.sources() <= count || siege.state < heads {
            assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", siege.reactor);
            siege.reactor.turn(&mut siege.state, Some(Duration::ZERO)).unwrap();
            peers::await_readiness(&siege.reactor, 10);
        }
        let child = clients.as_mut().unwrap();
        while child.try_line().expect("it goes well") != "all there" {}
        siege.settle();
    });
    let each = memory.bytes_current as u64 / count as u64;
    println!("{count} clients that have sent {} bytes: {each} bytes each", sends.len());
    (each, clients.unwrap())
}

#[test]
fn ten_thousand_idle_connections_cost_little_and_nothing_afterwards() {
    const COUNT: usize = 10_000;
    let _alone = alone();
    let _ceiling = ceiling(LIMIT);
    let mut siege = hello(Limits::default());
    let (each, mut clients) = cost_of(&mut siege, COUNT, GET, true);
    assert!(each < 700, "{each} bytes for an idle connection");
    // They hang up.
    clients.finish();
    siege.until(|reactor| reactor.sources() == 1);
    assert_eq!((siege.reactor.timers(), siege.state), (0, COUNT));
}

#[test]
fn ten_thousand_half_heads_cost_what_they_have_sent_and_end_in_time() {
    const COUNT: usize = 10_000;
    let _alone = alone();
    let _ceiling = ceiling(LIMIT);
    let limits = Limits::default();
    let mut siege = hello(limits.clone());
    let head = format!("GET / HTTP/1.1\r\nHost: h\r\nA: {}", "b".repeat(970));
    let (each, clients) = cost_of(&mut siege, COUNT, &head, false);
    assert!(each < 700 + 2 * head.len() as u64, "{each} bytes for {}", head.len());
    siege.wait(limits.head_timeout + limits.close_grace + SECOND);
    assert_eq!((siege.reactor.sources(), siege.reactor.timers(), siege.state), (1, 0, 0));
    drop(clients);
}

#[test]
fn largest_half_heads_cost_no_more_than_the_limit_allows() {
    const COUNT: usize = 1000;
    let _alone = alone();
    let _ceiling = ceiling(LIMIT);
    let limits = Limits { head_bytes_max: 64 * 1024, ..Limits::default() };
    let mut siege = hello(limits.clone());
    let head = format!("GET / HTTP/1.1\r\nHost: h\r\nA: {}", "b".repeat(64 * 1024 - 100));
    let (each, clients) = cost_of(&mut siege, COUNT, &head, false);
    assert!(each < 700 + 2 * head.len() as u64, "{each} bytes for {}", head.len());
    drop(clients);
    siege.until(|reactor| reactor.sources() == 1);
    assert_eq!(siege.reactor.timers(), 0);
}

#[test]
fn flood_of_requests_whose_responses_nobody_reads_is_held_up_and_then_answered() {
    const COUNT: usize = 100_000;
    let _ceiling = ceiling(LIMIT);
    let server = Server::new(|reactor, requests: &mut usize, request, reply| {
        *requests += 1;
        let of = request.path()[1..].to_owned();
        reply.send(reactor, of + &"x".repeat(100));
    });
    let mut siege = Siege::of(server, Limits::default());
    let mut peer = siege.peer();
    let all: String =
        (0..COUNT).map(|n| format!("GET /{n:05} HTTP/1.1\r\nHost: h\r\n\r\n")).collect();
    let mut left = all.as_bytes();
    let memory = measure(|| {
        for _ in 0..100 {
            left = &left[peer.write(left)..];
            siege.settle();
        }
    });
    let answered = siege.state;
    assert!(answered > 0 && answered < COUNT, "{answered} are answered to nobody");
    assert!(memory.bytes_max < 1024 * 1024, "{} bytes for a flood", memory.bytes_max);
    // And now it reads.
    let (mut heard, mut next, mut piece) = (Vec::new(), 0, vec![0; 256 * 1024]);
    let mut wrong = None;
    let memory = measure(|| {
        siege.until(|_| {
            left = &left[peer.write(left)..];
            while let Ok(count @ 1..) = peer.socket.read(&mut piece) {
                heard.extend_from_slice(&piece[..count]);
                let whole = take_responses(&heard, &mut next, &mut wrong);
                heard.drain(..whole);
            }
            next == COUNT || wrong.is_some()
        });
    });
    assert_eq!(wrong, None);
    assert!(memory.bytes_max < 2 * 1024 * 1024, "{} bytes to answer", memory.bytes_max);
    assert_eq!((siege.state, left.len(), heard.len()), (COUNT, 0, 0));
    drop(peer);
    siege.assert_clean("a flood");
}

#[test]
fn flood_of_requests_delays_the_others_by_no_more_than_its_share_of_a_turn() {
    let _ceiling = ceiling(LIMIT);
    let server = Server::new(|reactor, asked: &mut Vec<bool>, request, reply| {
        asked.push(request.path() == "/flood");
        reply.send(reactor, "");
    });
    let mut siege = Siege::of(server, Limits::default());
    let mut peers = [siege.peer(), siege.peer()];
    let flood = "GET /flood HTTP/1.1\r\nHost: h\r\n\r\n".repeat(1500);
    // Whoever of the two is called first, the flood has no more than a turn's share.
    for flooder in [0, 1] {
        peers[flooder].send(flood.as_bytes());
        peers[1 - flooder].send(GET.as_bytes());
        siege.until(|reactor| reactor.statistics().callbacks > 0);
        turns(&mut siege.reactor, &mut siege.state, 3);
        let before = siege.state.iter().position(|flood| !flood).expect("it had its turn");
        assert!(before <= 200, "{before} requests came first");
        assert!(siege.state.len() < 1000, "{} in three turns", siege.state.len());
        siege.settle();
        assert_eq!(std::mem::take(&mut siege.state).len(), 1501);
    }
    // The end of the flood's input ends none of it.
    peers[0].send(flood.as_bytes());
    peers[0].finish();
    siege.until(|_| peers[0].read_all().is_some());
    assert_eq!(siege.state.len(), 1500);
    drop(peers);
    siege.assert_clean("a flood");
}

/// Checks the whole responses in front; how many bytes they have.
fn take_responses(heard: &[u8], next: &mut usize, wrong: &mut Option<String>) -> usize {
    const BEHIND: usize = 105;
    let mut at = 0;
    while let Some(end) = heard[at..].windows(4).position(|bytes| bytes == b"\r\n\r\n") {
        let body = at + end + 4;
        if heard.len() < body + BEHIND {
            break;
        }
        if !heard[body..].starts_with(format!("{next:05}x").as_bytes()) {
            *wrong = Some(format!("in place of {next}: {:?}", heard[body..].get(..20)));
            break;
        }
        *next += 1;
        at = body + BEHIND;
    }
    at
}

#[test]
fn one_reader_in_a_thousand_that_never_reads_delays_nobody() {
    const OTHERS: usize = 999;
    const ROUNDS: usize = 10;
    let _alone = alone();
    let _ceiling = ceiling(LIMIT);
    let large: Rc<[u8]> = vec![b'x'; 32 << 20].into();
    let server = Server::<()>::new(move |reactor, _, request, reply| {
        match request.path() {
            "/large" => reply.send(reactor, Response::bytes(large.clone())),
            _ => reply.send(reactor, "0123456789"),
        };
    });
    let limits = Limits::default();
    let mut siege = Siege::of(server, limits.clone());
    let mut slow = siege.peer();
    let id = siege.reactor.ids::<Conn>()[0];
    let mut others: Vec<Peer> = (0..OTHERS).map(|_| Peer::to(siege.addr)).collect();
    siege.until(|reactor| reactor.sources() == OTHERS + 2);
    slow.send(b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n");
    let (mut late, mut response) = (0, 0);
    let mut unsent_max = 0;
    for round in 0..ROUNDS {
        others.iter_mut().for_each(|other| other.send(GET.as_bytes()));
        turns(&mut siege.reactor, &mut siege.state, 2);
        unsent_max = unsent_max.max(siege.reactor[id].unsent());
        for other in &mut others {
            let count = other.read(4096).len();
            response = response.max(count);
            late += usize::from(count < response);
        }
        siege.wait(limits.write_timeout.unwrap() / ROUNDS as u32);
        // None is left behind.
        siege.settle();
        for other in &mut others {
            other.read_all();
            assert_eq!(other.got.len(), (round + 1) * response);
        }
    }
    assert!(late <= OTHERS * ROUNDS / 100, "{late} answers were late");
    assert!(unsent_max > 0 && unsent_max < 1024 * 1024, "{unsent_max} bytes wait for one");
    siege.wait(2 * SECOND);
    assert!(!siege.reactor.contains(id), "it is given up");
    assert_eq!(siege.reactor.sources(), OTHERS + 1);
    drop((slow, others));
    siege.assert_clean("a thousand");
}
