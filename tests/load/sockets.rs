//! The HTTP server on real sockets: curl, netcat, uploads that nobody wants, half-closed clients;
//! and the same on a simulated network where everything goes wrong.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use allocation_counter::measure;
use support::ceiling;
use support::clients::{CURL, NC, skip_without};
use support::http::{body, describe, get, post, statuses};
use waterwheel::Reactor;
use waterwheel::protocols::http::{self, Body, Limits, Method, Reply, Response, Router, Server};
use waterwheel::reactor::Remote;
use waterwheel::timers::ManualClock;

const LIMIT: Duration = Duration::from_secs(120);

/// A server in a thread of its own, as long as this lives.
struct Running {
    addr: SocketAddr,
    remote: Option<Remote<Vec<Reply>>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn start(make: fn() -> Server<Vec<Reply>>) -> Running {
        let (tell, told) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            let mut reactor = Reactor::new().unwrap();
            let listener = make().listen(&mut reactor, "127.0.0.1:0").unwrap();
            tell.send((reactor[listener].local_addr(), reactor.remote())).unwrap();
            reactor.run(&mut Vec::new()).unwrap();
        });
        let (addr, remote) = told.recv().unwrap();
        Running { addr, remote: Some(remote), thread: Some(thread) }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        stream
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.remote.take().map(|remote| remote.stop());
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(thread::panicking() || ended.is_some_and(|ended| ended.is_ok()));
    }
}

/// What the tests ask for.
fn site() -> Server<Vec<Reply>> {
    let router = Router::<Vec<Reply>>::new()
        .get("/hello", |reactor, _, _, reply| {
            reply.send(reactor, "Hello, world!");
        })
        .post("/echo", |reactor, _, request, reply| {
            reply.send(reactor, describe(request));
        })
        .get("/slow", |reactor, _, _, reply| {
            reactor.after(Duration::from_millis(50), |reactor, _| {
                reply.send(reactor, "at last");
            });
        })
        .get("/worker", |reactor, _, _, reply| {
            reactor.offload(
                || (1..=10u64).product::<u64>(),
                |reactor, _, product| {
                    reply.send(reactor, product.map_or(0, |n| n).to_string());
                },
            );
        })
        .get("/wait", |_, waiting, _, reply| waiting.push(reply))
        .get("/tell", |reactor, waiting, _, reply| {
            for reply in waiting.drain(..) {
                reply.send(reactor, "news from another");
            }
            reply.send(reactor, "told");
        })
        .get("/large", |reactor, _, _, reply| {
            reply.send(reactor, vec![b'x'; 20_000_000]);
        })
        .stream(Method::PUT, "/count", |_, _, _, reply| {
            let (mut count, mut reply) = (0, Some(reply));
            move |reactor, _, body| match body {
                Body::Data(bytes) => count += bytes.len(),
                Body::End => drop(reply.take().map(|reply| reply.send(reactor, count.to_string()))),
                Body::Failed(_) => {}
            }
        });
    Server::routes(router)
}

/// What curl prints.
fn curl(args: &[&str]) -> String {
    let output = CURL.command().args(["-sS", "--max-time", "60"]).args(args).output();
    let output = output.expect("curl starts");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn curl_is_served() {
    skip_without!(CURL);
    let _ceiling = ceiling(LIMIT);
    let server = Running::start(site);
    assert_eq!(curl(&[&server.url("/hello")]), "Hello, world!");
    assert_eq!(curl(&["-0", &server.url("/hello")]), "Hello, world!");
    let head = curl(&["-I", &server.url("/hello")]);
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("Content-Length: 13"));
    assert_eq!(curl(&["-d", "a=b", &server.url("/echo")]), "POST /echo a=b");
    let chunked = ["-H", "Transfer-Encoding: chunked", "-d", "a=b"];
    assert_eq!(curl(&[&chunked[..], &[&server.url("/echo")]].concat()), "POST /echo a=b");
    let twice = [server.url("/slow"), server.url("/worker")];
    assert_eq!(curl(&[&twice[0], &twice[1]]), "at last3628800");
    assert_eq!(curl(&[&server.url("/large")]).len(), 20_000_000);
    let nowhere = curl(&["-o", "/dev/null", "-w", "%{http_code}", &server.url("/nowhere")]);
    assert_eq!(nowhere, "404");
}

#[test]
fn curl_waits_for_100_and_hears_it() {
    skip_without!(CURL);
    let _ceiling = ceiling(LIMIT);
    let server = Running::start(site);
    let file = std::env::temp_dir().join(format!("waterwheel-http-{}", std::process::id()));
    std::fs::write(&file, vec![b'x'; 3_000_000]).unwrap();
    let name = file.to_str().unwrap();
    let expect = ["-H", "Expect: 100-continue", "--expect100-timeout", "60"];
    let (count, echo) = (server.url("/count"), server.url("/echo"));
    let put = [&expect[..], &["-T", name, &count]].concat();
    assert_eq!(curl(&put), "3000000");
    // Refused before it is sent.
    let upload = format!("@{name}");
    let timed = ["-o", "/dev/null", "-w", "%{http_code} %{size_upload}", "--data-binary", &upload];
    let refused = [&expect[..], &timed[..], &[&echo]].concat();
    assert_eq!(curl(&refused), "413 0");
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn long_poll_is_answered_from_another_connection() {
    skip_without!(CURL);
    let _ceiling = ceiling(LIMIT);
    let server = Running::start(site);
    let mut waiting = server.connect();
    waiting.write_all(get("/wait").as_bytes()).unwrap();
    // It is asked on a second connection until the first has been heard of.
    waiting.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut response = [0; 1000];
    let count = loop {
        assert_eq!(curl(&[&server.url("/tell")]), "told");
        if let Ok(count) = waiting.read(&mut response) {
            break count;
        }
    };
    assert!(String::from_utf8_lossy(&response[..count]).ends_with("news from another"));
}

#[test]
fn netcat_that_has_finished_hears_its_responses() {
    skip_without!(NC);
    let _ceiling = ceiling(LIMIT);
    let server = Running::start(site);
    let (host, port) = (server.addr.ip().to_string(), server.addr.port().to_string());
    let mut nc = support::process::Process::start(NC.command().args(["-N", &host, &port]));
    let heard = nc.pass([get("/slow"), get("/hello")].concat().as_bytes());
    let heard = String::from_utf8_lossy(&heard);
    assert_eq!(statuses(&heard), [200, 200]);
    assert!(heard.contains("at last") && heard.ends_with("Hello, world!"));
}

#[test]
fn early_refusal_reaches_a_client_that_is_still_sending() {
    let _ceiling = ceiling(LIMIT);
    let server = Running::start(site);
    for (begin, status) in [
        ("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 100000000\r\n\r\n", 413),
        ("POST /nowhere HTTP/1.1\r\nHost: h\r\nContent-Length: 100000000\r\n\r\n", 404),
        ("POST /echo HTTP/1.1\r\nContent-Length: 100000000\r\n\r\n", 400),
    ] {
        for round in 0..100 {
            let mut stream = server.connect();
            stream.write_all(begin.as_bytes()).unwrap();
            let upload = [b'x'; 64 * 1024];
            for _ in 0..8 {
                // It has not looked at the response yet.
                stream.write_all(&upload).expect("the server reads on");
            }
            stream.shutdown(Shutdown::Write).unwrap();
            let mut response = String::new();
            stream.read_to_string(&mut response).unwrap_or_else(|error| {
                panic!("round {round}: {error} behind {response:?}");
            });
            assert_eq!(statuses(&response), [status], "round {round}");
            assert!(!body(&response).is_empty() && response.contains("Connection: close"));
        }
    }
}

#[test]
fn sixteen_pipelined_requests_are_one_write() {
    let _ceiling = ceiling(LIMIT);
    let server = Running::start(site);
    let mut stream = server.connect();
    for _ in 0..100 {
        stream.write_all(get("/hello").repeat(16).as_bytes()).unwrap();
        let mut text = String::new();
        while statuses(&text).len() < 16 || !text.ends_with("Hello, world!") {
            let mut piece = [0; 16 * 1024];
            let count = stream.read(&mut piece).unwrap();
            text.push_str(std::str::from_utf8(&piece[..count]).unwrap());
        }
        assert_eq!(text.len() % 16, 0);
    }
}

/// Allocations of a thousand requests, after a hundred to get warm.
fn allocations(server: Server<()>, request: &str) -> u64 {
    let clock = ManualClock::held();
    let mut reactor = Reactor::builder().clock(&clock).build().unwrap();
    let listener = server.listen(&mut reactor, "127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(reactor[listener].local_addr()).unwrap();
    client.set_nonblocking(true).unwrap();
    let mut expected = 0;
    let mut converse = |count: usize| {
        let mut response = [0; 16 * 1024];
        for _ in 0..count {
            client.write_all(request.as_bytes()).unwrap();
            let mut received = 0;
            while received == 0 || received < expected {
                reactor.turn(&mut (), Some(Duration::ZERO)).unwrap();
                received += client.read(&mut response[received..]).unwrap_or(0);
            }
            expected = received;
            assert!(response.starts_with(b"HTTP/1.1 200 OK\r\n"));
        }
    };
    converse(100);
    let within_a_second = measure(|| converse(1000)).count_total;
    clock.advance(Duration::from_secs(1));
    within_a_second + measure(|| converse(1)).count_total // With a new date.
}

#[test]
fn answered_request_allocates_nothing() {
    let _ceiling = ceiling(LIMIT);
    let hello = || {
        Server::new(|reactor, _, _, reply| {
            reply.send(reactor, "Hello, world!");
        })
    };
    assert_eq!(allocations(hello(), &get("/")), 0);
    assert_eq!(allocations(hello(), &post("/", "a body")), 0, "with a body");
    let router = Router::new().get("/users/{id}", |reactor, _, request, reply| {
        let known = request.param("id").is_some_and(|id| id == "7");
        reply.send(reactor, if known { "yes" } else { "no" });
    });
    assert_eq!(allocations(Server::routes(router), &get("/users/7")), 0, "by a route");
}

#[test]
fn idle_connection_owns_little() {
    const CONNECTIONS: u64 = 512;
    let _ceiling = ceiling(LIMIT);
    support::raise_open_files();
    let mut reactor = Reactor::<()>::new().unwrap();
    let server = Server::new(|reactor, _, _, reply| {
        reply.send(reactor, "Hello, world!");
    });
    let listener = server.listen(&mut reactor, "127.0.0.1:0").unwrap();
    let addr = reactor[listener].local_addr();
    // Buffers that all of them share, and the doubling of tables, are not theirs.
    let mut clients = Vec::new();
    let mut more = |reactor: &mut Reactor<()>| {
        for _ in 0..CONNECTIONS {
            let mut client = TcpStream::connect(addr).unwrap();
            client.write_all(get("/").as_bytes()).unwrap();
            client.set_nonblocking(true).unwrap();
            let mut response = [0; 1000];
            while client.read(&mut response).is_err() {
                reactor.turn(&mut (), Some(Duration::ZERO)).unwrap();
            }
            clients.push(client);
        }
    };
    more(&mut reactor);
    let grown = measure(|| more(&mut reactor)).bytes_current;
    let each = grown / CONNECTIONS as i64;
    assert!(each < 800, "{each} bytes each");
    println!("{each} bytes each");
}

#[test]
fn hello_is_five_lines() {
    let _ceiling = ceiling(LIMIT);
    let mut reactor = Reactor::<()>::new().unwrap();
    let listener = http::listen(&mut reactor, "127.0.0.1:0", |reactor, _, _, reply| {
        reply.send(reactor, "Hello, world!");
    });
    let addr = reactor[listener.unwrap()].local_addr();
    let client = thread::spawn(move || {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        response
    });
    while !client.is_finished() {
        reactor.turn(&mut (), Some(Duration::from_millis(5))).unwrap();
    }
    assert!(client.join().unwrap().ends_with("Hello, world!"));
}

#[test]
fn listener_has_so_many_connections() {
    skip_without!(CURL);
    let _ceiling = ceiling(LIMIT);
    let server =
        Running::start(|| site().limits(Limits { connections_max: 2, ..Limits::default() }));
    let all: Vec<TcpStream> = (0..2).map(|_| server.connect()).collect();
    for extra in [&[][..], &["-I"], &["-d", "an upload"]] {
        let heard = curl(&[extra, &["-i", &server.url("/hello")]].concat());
        assert!(heard.starts_with("HTTP/1.1 503 ") && heard.contains("Connection: close"));
        let why = heard.ends_with("the limit on connections is reached");
        assert_eq!(why, extra != ["-I"], "{heard}");
    }
    for mut stream in all {
        stream.write_all(get("/hello").as_bytes()).unwrap();
        assert!(stream.read(&mut [0]).unwrap() == 1);
    }
    let response = loop {
        // The server learns of the free seats in its own time.
        let mut stream = server.connect();
        let mut response = String::new();
        let ask = "GET /hello HTTP/1.0\r\n\r\n";
        if stream.write_all(ask.as_bytes()).is_ok()
            && stream.read_to_string(&mut response).is_ok()
            && response.contains(" 200 ")
        {
            break response;
        }
    };
    assert!(response.ends_with("Hello, world!"));
}

#[test]
fn response_field_is_sent_as_it_was_set() {
    skip_without!(CURL);
    let _ceiling = ceiling(LIMIT);
    let server = Running::start(|| {
        Server::new(|reactor, _, _, reply| {
            let response = Response::text("x").header("X-Name", "a value").header("Date", "never");
            reply.send(reactor, response);
        })
    });
    let heads = curl(&["-i", &server.url("/")]);
    assert!(heads.contains("X-Name: a value\r\n") && heads.contains("Date: never\r\n"));
    assert_eq!(heads.matches("Date:").count(), 1);
}

#[test]
fn server_takes_over_a_listener_that_listens_already() {
    let _ceiling = ceiling(LIMIT);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut reactor = Reactor::new().unwrap();
    let server = Server::new(|reactor: &mut waterwheel::Context<()>, _: &mut (), _, reply| {
        reply.send(reactor, Response::text("adopted"));
        reactor.stop();
    });
    server.adopt(&mut reactor, listener, waterwheel::net::tcp::Listen::new()).unwrap();
    reactor.run(&mut ()).unwrap();
    drop(reactor);
    let mut response = String::new();
    client.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 200 ") && response.ends_with("adopted"), "{response}");
}
