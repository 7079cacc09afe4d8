//! slowhttptest, which holds a thousand connections open in three ways, against a server whose
//! other clients are to notice nothing.
//!
//! A server that has a thread or a process for each connection has none left for the others. Here
//! it is memory and a place in the wheel; what is measured is how long a new client waits.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::{ceiling, raise_open_files};
use waterwheel::Reactor;
use waterwheel::protocols::http::{Limits, Response, Router, Server};

const LIMIT: Duration = Duration::from_secs(120);
/// What a new client may wait for its response, in 99 of 100 cases. It takes a millisecond; the tool
/// and a debug build share the processor with it.
const WAIT_MAX: Duration = Duration::from_millis(250);
const CONNECTIONS: usize = 1000;

/// Runs it against a server of its own.
fn withstand(mode: &[&str], path: &str) {
    let _ceiling = ceiling(LIMIT);
    raise_open_files(); // It inherits this.
    let large: Rc<[u8]> = vec![b'x'; 8 << 20].into();
    let router = Router::<()>::new()
        .get("/", |reactor, _, _, reply| {
            reply.send(reactor, "hello");
        })
        .get("/large", move |reactor, _, _, reply| {
            reply.send(reactor, Response::bytes(large.clone()));
        })
        .post("/", |reactor, _, request, reply| {
            reply.send(reactor, request.body().to_vec());
        });
    let limits = Limits { write_timeout: Some(Duration::from_secs(10)), ..Limits::default() };
    let mut reactor = Reactor::new().unwrap();
    let listener = Server::routes(router).limits(limits).listen(&mut reactor, "127.0.0.1:0");
    let addr = reactor[listener.unwrap()].local_addr();
    let count = CONNECTIONS.to_string();
    let mut tool = Command::new("slowhttptest");
    tool.args(["-c", &count, "-r", "500", "-l", "20", "-p", "3", "-u"]);
    tool.arg(format!("http://{addr}{path}")).args(mode);
    let over = AtomicBool::new(false);
    let (said, mut waits, held_max) = std::thread::scope(|scope| {
        let tool = scope.spawn(|| {
            let said = tool.output().expect("slowhttptest is installed");
            over.store(true, Ordering::Relaxed);
            String::from_utf8_lossy(&said.stdout).into_owned()
        });
        let probe = scope.spawn(|| probe(addr, &over));
        let mut held_max = 0;
        while !probe.is_finished() || reactor.sources() > 1 {
            reactor.turn(&mut (), Some(Duration::from_millis(20))).unwrap();
            held_max = held_max.max(reactor.sources() - 1);
        }
        (tool.join().unwrap(), probe.join().unwrap(), held_max)
    });
    assert_eq!((reactor.sources(), reactor.timers()), (1, 0));
    assert!(held_max >= CONNECTIONS * 9 / 10, "{held_max} connections are no attack: {said}");
    waits.sort();
    let p99 = waits[waits.len() * 99 / 100];
    println!("{held_max} held, {} others: p99 {p99:?}", waits.len());
    assert!(waits.len() > 100 && p99 < WAIT_MAX, "p99 {p99:?} of {}", waits.len());
    assert!(said.contains("service available") && !said.contains("NO"), "{said}");
}

/// New clients, one after another: how long each waits for its response.
fn probe(addr: SocketAddr, over: &AtomicBool) -> Vec<Duration> {
    let mut waits = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let begin = Instant::now();
        let mut client = TcpStream::connect(addr).expect("room for one more");
        client.set_read_timeout(Some(LIMIT)).unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
        let mut response = String::new();
        client.read_to_string(&mut response).expect("a response");
        assert!(response.ends_with("hello"), "{response}");
        waits.push(begin.elapsed());
        std::thread::sleep(Duration::from_millis(10));
    }
    waits
}

#[test]
#[ignore = "wants slowhttptest: cargo test --all-features --test load -- --ignored slowhttptest"]
fn slow_heads_keep_nobody_out() {
    withstand(&["-H", "-i", "3", "-x", "24"], "/");
}

#[test]
#[ignore = "wants slowhttptest: cargo test --all-features --test load -- --ignored slowhttptest"]
fn slow_bodies_keep_nobody_out() {
    withstand(&["-B", "-i", "3", "-s", "8192", "-x", "10"], "/");
}

#[test]
#[ignore = "wants slowhttptest: cargo test --all-features --test load -- --ignored slowhttptest"]
fn slow_readers_keep_nobody_out() {
    withstand(&["-X", "-n", "3", "-w", "512", "-y", "1024", "-z", "32"], "/large");
}
