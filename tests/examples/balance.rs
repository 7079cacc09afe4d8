//! The example `balance`: with curl and Python's websockets, in front of upstreams that die, flap, lie and
//! stall.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use support::ceiling;
use support::clients::skip_without;
use support::curl::{CurlResponse, ask, ask_with};
use support::process::{Client, Process, example, output};

const LIMIT: Duration = Duration::from_secs(120);

fn balance(upstreams: &[SocketAddr], options: &[&str]) -> (Process, SocketAddr) {
    let to = upstreams.iter().flat_map(|addr| ["--to".to_owned(), addr.to_string()]);
    Process::listening(example("balance").arg("127.0.0.1:0").args(to).args(options))
}

/// An upstream that does this with each connection; the second argument is its number.
fn upstream(serve: impl Fn(Peer, usize) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for (at, stream) in listener.incoming().enumerate() {
            let serve = serve.clone();
            thread::spawn(move || serve(Peer(Client::over(stream.unwrap())), at));
        }
    });
    addr
}

/// The other end of an upstream's connection.
struct Peer(Client);

impl Peer {
    /// The lines of the next head; `None` at the end of the input.
    fn head(&mut self) -> Option<Vec<String>> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if matches!(self.0.0.read_line(&mut line), Ok(0) | Err(_)) {
                return None;
            }
            match line.trim_end() {
                "" => return Some(lines),
                line => lines.push(line.to_owned()),
            }
        }
    }

    fn say(&mut self, text: impl AsRef<[u8]>) {
        let _ = self.0.0.get_mut().write_all(text.as_ref()); // The other side may have gone.
    }

    fn ok(&mut self, body: &str) {
        self.say(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    }

    fn reset(self) {
        reset(self.0.0.into_inner());
    }
}

fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// An upstream that answers each request with its name.
fn named(name: &'static str) -> SocketAddr {
    upstream(move |mut peer, _| {
        while peer.head().is_some() {
            peer.ok(name);
        }
    })
}

/// An address at which nobody listens.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Sends this, and returns all that comes until the end, which may be a reset.
fn raw(addr: SocketAddr, request: &str) -> (String, Option<ErrorKind>) {
    let mut client = Client::connect(addr);
    client.send(request);
    let mut got = Vec::new();
    let end = client.0.read_to_end(&mut got).err().map(|error| error.kind());
    (String::from_utf8(got).unwrap(), end)
}

const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";

fn get(addr: SocketAddr) -> (String, Option<ErrorKind>) {
    raw(addr, GET)
}

fn status(addr: SocketAddr) -> u16 {
    get(addr).0[9..12].parse().unwrap()
}

/// The lines of the status page.
fn page(addr: SocketAddr) -> Vec<String> {
    get(addr).0.split_once("\r\n\r\n").unwrap().1.lines().map(str::to_owned).collect()
}

#[test]
fn bad_arguments_are_refused_in_one_line() {
    let many: Vec<&str> = (0..65).flat_map(|_| ["--to", "127.0.0.1:1"]).collect();
    for (args, because) in [
        (&["0"][..], "--to UPSTREAM is wanted, 1 to 64 times"),
        (&many, "--to UPSTREAM is wanted, 1 to 64 times"),
        (&["0", "--to", "nonsense"], "cannot look up nonsense"),
        (
            &["0", "--to", "127.0.0.1:1", "--by", "luck"],
            "--by is round, least or client, not \"luck\"",
        ),
        (&["0", "--to", "127.0.0.1:1", "--timeout", "x"], "--timeout wants a whole number"),
        (&["nonsense", "--to", "127.0.0.1:1"], "cannot listen on nonsense"),
        (&["0", "--to", "127.0.0.1:1", "--status", "nonsense"], "cannot listen on nonsense"),
    ] {
        let out = output("balance", args);
        let said = String::from_utf8(out.stderr).unwrap();
        assert_eq!((out.status.code(), said.lines().count()), (Some(2), 1), "{said}");
        assert!(said.starts_with("error: ") && said.contains(because), "{said}");
    }
    let help = output("balance", &["--help"]).stdout;
    assert!(help.starts_with(b"Usage: balance [OPTIONS] [ADDR] --to UPSTREAM"));
}

#[test]
fn curl_gets_each_upstream_in_turn() {
    skip_without!(CURL);
    let (_balance, addr) = balance(&[named("one"), named("two"), named("three")], &[]);
    let bodies: Vec<String> = (0..6).map(|_| ask(addr, "/", &[]).body).collect();
    assert_eq!(bodies, ["one", "two", "three", "one", "two", "three"]);
    let (_balance, addr) = balance(&[named("one"), named("two")], &["--by", "client"]);
    let bodies: Vec<String> = (0..6).map(|_| ask(addr, "/", &[]).body).collect();
    assert!(bodies.windows(2).all(|pair| pair[0] == pair[1]), "{bodies:?}");
}

/// Of both directions: those for one connection do not go on, nor those that `Connection` names.
#[test]
fn fields_that_go_on_are_those_that_may() {
    let (to, heads) = channel();
    let up = upstream(move |mut peer, _| {
        while let Some(head) = peer.head() {
            to.send(head).unwrap();
            peer.say(
                "HTTP/1.1 203 Whatever\r\nContent-Length: 2\r\nServer: s\r\nDate: d\r\n\
                 Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nConnection: X-Inner\r\nX-Inner: 1\r\n\
                 Keep-Alive: timeout=5\r\nX-Kept: yes\r\nVia: 1.0 before\r\n\r\nhi",
            );
        }
    });
    let (_balance, addr) = balance(&[up], &[]);
    let (answer, _) = raw(
        addr,
        "GET /a%20b?c=%2F;d HTTP/1.1\r\nHost: Some.Host:81\r\nConnection: close, x-secret\r\n\
         X-Secret: 1\r\nTE: trailers\r\nKeep-Alive: 1\r\nProxy-Connection: x\r\nUpgrade: h2c\r\n\
         Proxy-Authorization: Basic x\r\nCookie: c\r\nX-Forwarded-For: 1.2.3.4\r\n\
         X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nVia: 1.1 other\r\n\r\n",
    );
    let head: Vec<String> = heads.recv().unwrap().iter().map(|line| line.to_lowercase()).collect();
    let expected = [
        "get /a%20b?c=%2f;d http/1.1",
        "cookie: c",
        "host: some.host:81",
        "x-forwarded-host: some.host:81",
        "x-forwarded-for: 1.2.3.4, 127.0.0.1",
        "via: 1.1 other, 1.1 waterwheel",
        "x-forwarded-proto: http",
    ];
    assert_eq!(head, expected);
    let answer: Vec<&str> = answer.lines().collect();
    let expected = [
        "HTTP/1.1 203 Non Authoritative Information",
        "Content-Length: 2",
        "Connection: close",
        "Server: s",
        "Date: d",
        "Set-Cookie: a=1",
        "Set-Cookie: b=2",
        "X-Kept: yes",
        "Via: 1.0 before, 1.1 waterwheel",
        "",
        "hi",
    ];
    assert_eq!(answer, expected);
    // What is for no upstream.
    for (request, code) in [
        ("OPTIONS * HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", 204),
        ("CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\n\r\n", 400),
    ] {
        let (answer, _) = raw(addr, request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{answer}");
    }
    assert!(heads.try_recv().is_err());
    assert_eq!(raw(addr, "HEAD / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").1, None);
    assert!(heads.recv().unwrap()[0].starts_with("HEAD / "));
}

/// A server that is asked by many at once, each with one connection: returns how many of `count` requests
/// by each did not get the greeting. `done` counts all.
fn load(
    addr: SocketAddr,
    clients: usize,
    count: usize,
    done: &Arc<AtomicUsize>,
) -> Receiver<String> {
    let (failed, failures) = channel();
    for _ in 0..clients {
        let (failed, done) = (failed.clone(), done.clone());
        thread::spawn(move || {
            let mut client = Client::connect(addr);
            for _ in 0..count {
                client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
                if let Err(why) = greeting(&mut client.0) {
                    failed.send(why).unwrap();
                    client = Client::connect(addr);
                }
                done.fetch_add(1, Relaxed);
            }
        });
    }
    failures
}

fn greeting(from: &mut BufReader<TcpStream>) -> Result<(), String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        match from.read_line(&mut head) {
            Ok(1..) => {}
            end => return Err(format!("{end:?} after {head:?}")),
        }
    }
    let mut body = [0; 14];
    if !head.starts_with("HTTP/1.1 200 ") || from.read_exact(&mut body).is_err() {
        return Err(head);
    }
    (&body == b"Hello, world!\n").then_some(()).ok_or(head)
}

fn reach(done: &AtomicUsize, count: usize) {
    while done.load(Relaxed) < count {
        thread::yield_now();
    }
}

/// One dies by SIGKILL with requests on their way; then it comes and goes.
#[test]
fn no_get_fails_when_one_of_three_dies_or_flaps() {
    let _ceiling = ceiling(LIMIT);
    let mut servers: Vec<_> = (0..3).map(|_| Process::serve("http")).collect();
    let upstreams: Vec<SocketAddr> = servers.iter().map(|server| server.1).collect();
    let (_balance, addr) = balance(&upstreams, &[]);
    let done = Arc::new(AtomicUsize::new(0));
    let failures = load(addr, 8, 1500, &done);
    let (mut flapping, place) = servers.pop().unwrap();
    for at in 1..6 {
        reach(&done, at * 2000);
        drop(flapping); // kill(2) with SIGKILL.
        reach(&done, at * 2000 + 1000);
        flapping = Process::listening(example("http").arg(place.to_string())).0;
    }
    let failed: Vec<String> = failures.iter().collect();
    assert_eq!((failed, done.load(Relaxed)), (Vec::new(), 8 * 1500));
}

#[test]
fn upstream_that_is_gone_is_left_out_and_all_gone_is_503() {
    let (alive, gone) = (named("alive"), nobody());
    let (_balance, addr) = balance(&[gone, alive], &["--status", "127.0.0.1:0"]);
    for _ in 0..10 {
        assert!(get(addr).0.ends_with("\r\n\r\nalive"));
    }
    // One upstream of one is never left out, but known to be broken: 502 until then.
    let (_balance, addr) = balance(&[gone], &[]);
    assert_eq!([(); 4].map(|()| status(addr)), [502, 502, 503, 503]);
    assert!(get(addr).0.contains("\r\nRetry-After: 1\r\n"));
    // A POST goes to the other upstream too, with its body: nothing of it was sent.
    let (to, bodies) = channel();
    let counts = upstream(move |mut peer, _| {
        while peer.head().is_some() {
            let mut body = [0; 5];
            peer.0.0.read_exact(&mut body).unwrap();
            to.send(body).unwrap();
            peer.ok("thanks");
        }
    });
    let (_balance, addr) = balance(&[gone, counts], &[]);
    let post = "POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello";
    for _ in 0..4 {
        assert!(raw(addr, post).0.ends_with("thanks"));
    }
    assert_eq!(bodies.try_iter().collect::<Vec<_>>(), [*b"hello"; 4]);
}

/// A request that may have been done is not done twice, unless twice is the same as once.
#[test]
fn what_broke_off_is_tried_again_only_if_that_is_the_same() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let breaks = upstream(move |mut peer, _| {
        if peer.head().is_some() {
            count.fetch_add(1, Relaxed);
            peer.reset();
        }
    });
    let (_balance, addr) = balance(&[breaks, named("alive")], &[]);
    assert!(get(addr).0.ends_with("alive"));
    assert!(get(addr).0.ends_with("alive"));
    let post = "POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let before = asked.load(Relaxed);
    let answers = [(); 2].map(|()| raw(addr, post).0[9..12].to_owned());
    assert_eq!((answers.contains(&"502".into()), answers.contains(&"200".into())), (true, true));
    assert_eq!(asked.load(Relaxed), before + 1);
}

/// It answers once and closes when it gets the second request.
#[test]
fn upstream_that_closes_an_idle_connection_as_we_send_is_asked_again() {
    let up = upstream(|mut peer, _| {
        if peer.head().is_some() {
            peer.ok("once");
            peer.head();
        }
    });
    let (_balance, addr) = balance(&[up], &[]);
    for _ in 0..6 {
        assert!(get(addr).0.ends_with("\r\n\r\nonce"));
    }
}

#[test]
fn lies_about_the_length_are_no_whole_responses() {
    let (honest, begun) = (named("honest"), Arc::new(AtomicUsize::new(0)));
    for (says, what) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", "too short"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", "no last chunk"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nx\r\n", "no chunk"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nreset", "reset"),
    ] {
        let count = begun.clone();
        let up = upstream(move |mut peer, _| {
            if peer.head().is_some() {
                peer.say(says);
                count.fetch_add(1, Relaxed);
                if says.ends_with("reset") {
                    peer.0.0.get_mut().set_nonblocking(false).unwrap();
                    peer.reset();
                }
            }
        });
        let (_balance, addr) = balance(&[up, honest], &[]);
        let (got, end) = get(addr);
        let is_cut = end == Some(ErrorKind::ConnectionReset) || got.starts_with("HTTP/1.1 502");
        let is_cut = is_cut || (says.ends_with("reset") && got.ends_with("honest"));
        assert!(is_cut, "{what}: {got:?} {end:?}");
        assert!(get(addr).0.ends_with("honest") || get(addr).0.ends_with("honest"), "{what}");
    }
    // Too long: what is behind is nobody's answer, and the connection is not used again.
    let up = upstream(|mut peer, at| {
        while peer.head().is_some() {
            let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
            peer.say(format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{at:02}{evil}"));
        }
    });
    let (_balance, addr) = balance(&[up], &[]);
    let bodies: Vec<String> = (0..5).map(|_| get(addr).0).collect();
    assert!(bodies.iter().all(|got| !got.contains("evil")), "{bodies:?}");
    assert!(bodies[4].ends_with("04"), "{bodies:?}");
}

#[test]
fn nonsense_is_502_and_silence_is_504() {
    for says in [
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX Y: 1\r\n\r\n",
    ] {
        let up = upstream(move |mut peer, _| {
            if peer.head().is_some() {
                peer.say(says);
                peer.head();
            }
        });
        let (_balance, addr) = balance(&[up, up], &[]);
        assert_eq!(status(addr), 502, "{says}");
    }
    let silent = upstream(|mut peer, _| while peer.head().is_some() {});
    let (_balance, addr) = balance(&[silent, named("alive")], &["--timeout", "100"]);
    let mut statuses = [(); 2].map(|()| status(addr));
    statuses.sort();
    assert_eq!(statuses, [200, 504]);
}

#[test]
fn others_are_served_while_an_upstream_trickles() {
    const TRICKLED: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow";
    let (to, go_on) = channel::<()>();
    let go_on = std::sync::Mutex::new(go_on);
    let up = upstream(move |mut peer, _| {
        while let Some(head) = peer.head() {
            if !head[0].starts_with("GET /slow ") {
                peer.ok("quick");
                continue;
            }
            for byte in TRICKLED.bytes() {
                go_on.lock().unwrap().recv().unwrap();
                peer.say([byte]);
            }
        }
    });
    let (_balance, addr) = balance(&[up], &[]);
    let mut slow = Client::connect(addr);
    slow.send("GET /slow HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    for _ in TRICKLED.bytes() {
        to.send(()).unwrap();
        assert!(get(addr).0.ends_with("quick"));
    }
    assert!(slow.rest().ends_with("slow"));
}

/// The requests that two servers may read differently end here: the upstream gets none of them.
#[test]
fn smuggled_requests_are_refused_in_front() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let up = upstream(move |mut peer, _| {
        while peer.head().is_some() {
            count.fetch_add(1, Relaxed);
            peer.ok("reached");
        }
    });
    let (_balance, addr) = balance(&[up], &[]);
    let inner = "GET /evil HTTP/1.1\r\nHost: h\r\n\r\n";
    for fields in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        "Content-Length: 4\r\nContent-Length: 5\r\n",
        "Content-Length: 4, 5\r\n",
        "Content-Length: +4\r\n",
        "Content-Length : 4\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding:\x0bchunked\r\n",
        "X: y\n\tTransfer-Encoding: chunked\r\n",
        "X: a\r\n folded\r\n",
        "X: a\rb\r\n",
        "X: a\0b\r\n",
        "Host: other\r\n",
        "no colon\r\n",
    ] {
        let (got, _) =
            raw(addr, &format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n0\r\n\r\n{inner}"));
        let refused = got.starts_with("HTTP/1.1 400 ") || got.starts_with("HTTP/1.1 501 ");
        assert!(refused && got.matches("HTTP/1.1").count() == 1, "{fields:?}: {got}");
    }
    assert_eq!(asked.load(Relaxed), 0);
    for chunks in ["5;\nxx\r\n", "0x5\r\nhello\r\n0\r\n\r\n", "-1\r\n", "5\r\nhelloX\r\n0\r\n\r\n"]
    {
        let fields = "Host: h\r\nTransfer-Encoding: chunked\r\n";
        let (got, _) = raw(addr, &format!("POST / HTTP/1.1\r\n{fields}\r\n{chunks}{inner}"));
        assert!(
            !got.contains("reached") || got.matches("HTTP/1.1").count() == 1,
            "{chunks:?}: {got}"
        );
    }
    assert!(get(addr).0.ends_with("reached"));
}

/// A gigabyte would not fit into its memory: neither what a client sends faster than the upstream reads,
/// nor what an upstream sends faster than the client reads.
#[test]
fn large_bodies_pass_both_ways_in_bounded_memory() {
    const BYTES: usize = 256 * 1024 * 1024;
    let _ceiling = ceiling(LIMIT);
    let (stuck, is_stuck) = channel::<()>();
    let is_stuck = std::sync::Mutex::new(is_stuck);
    let up = upstream(move |mut peer, _| {
        let head = peer.head().unwrap();
        if head[0].starts_with("GET") {
            peer.say(format!("HTTP/1.1 200 OK\r\nContent-Length: {BYTES}\r\n\r\n"));
            let piece = vec![7; 1 << 20];
            (0..BYTES >> 20).for_each(|_| peer.say(&piece));
            return;
        }
        let _ = is_stuck.lock().unwrap().recv(); // It reads when the client can send no more.
        let mut left = BYTES as u64;
        let mut sink = vec![0; 1 << 20];
        while left > 0 {
            left -= peer.0.0.read(&mut sink).unwrap() as u64;
        }
        peer.ok("all");
    });
    let (balance, addr) = balance(&[up], &[]);
    let mut client = Client::connect(addr);
    client.send(format!("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: {BYTES}\r\n\r\n"));
    let mut stream = client.0.get_ref().try_clone().unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let (piece, mut sent) = (vec![7; 1 << 16], 0);
    while sent < BYTES {
        match stream.write(&piece[..piece.len().min(BYTES - sent)]) {
            Ok(count) => sent += count,
            Err(_) => {
                let _ = stuck.send(());
                stream.set_write_timeout(Some(LIMIT)).unwrap();
            }
        }
    }
    assert_eq!(client.line(), "HTTP/1.1 200 OK\r");
    let mut client = Client::connect(addr);
    client.send(GET);
    let mut got = 0;
    let mut sink = vec![0; 1 << 16];
    loop {
        match client.0.read(&mut sink).unwrap() {
            0 => break,
            count => got += count,
        }
    }
    assert!(got > BYTES, "{got}");
    let kib = balance.resident_kib_max();
    assert!(kib < 40 * 1024, "{kib} KiB");
}

/// Some do not read what they have asked for, and what others send is not read by the upstream.
#[test]
fn crowds_are_bounded_and_others_are_served() {
    let _ceiling = ceiling(LIMIT);
    let up = upstream(|mut peer, _| {
        while let Some(head) = peer.head() {
            match head[0].split(' ').next().unwrap() {
                "PUT" => return thread::park(), // The connection stays, and is not read.
                "POST" => {
                    peer.say("HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n");
                    peer.say(vec![7; 99_999_999]);
                }
                _ => peer.ok("served"),
            }
        }
    });
    let (balance, addr) = balance(&[up], &[]);
    let deaf: Vec<_> = (0..40)
        .map(|_| {
            let mut client = Client::connect(addr);
            client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
            client
        })
        .collect();
    let uploads: Vec<_> = (0..40)
        .map(|_| {
            let mut client = Client::connect(addr);
            client.send("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999\r\n\r\n");
            client.0.get_ref().set_nonblocking(true).unwrap();
            client
        })
        .collect();
    let piece = vec![7; 1 << 16];
    for _ in 0..100 {
        for client in &uploads {
            while matches!(client.0.get_ref().write(&piece), Ok(1..)) {}
        }
        assert!(get(addr).0.ends_with("served"));
    }
    let kib = balance.resident_kib_max();
    assert!(kib < 56 * 1024, "{kib} KiB for {} clients", deaf.len() + uploads.len());
}

/// The client goes; what was asked for it is not needed any more.
#[test]
fn upstream_is_left_when_the_client_has_gone() {
    let (to, gone) = channel();
    let up = upstream(move |mut peer, _| {
        to.send(peer.head().is_some()).unwrap();
        to.send(peer.head().is_some()).unwrap(); // Waits for the end.
    });
    let (_balance, addr) = balance(&[up], &[]);
    let mut client = Client::connect(addr);
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(gone.recv(), Ok(true));
    reset(client.0.into_inner());
    assert_eq!(gone.recv(), Ok(false));
}

#[test]
fn checks_find_who_is_ill_and_the_page_shows_it() {
    let _ceiling = ceiling(LIMIT);
    let up = |code: &'static str| {
        upstream(move |mut peer, _| {
            while peer.head().is_some() {
                peer.say(format!("HTTP/1.1 {code}\r\nContent-Length: 0\r\n\r\n"));
            }
        })
    };
    let status_at = nobody();
    let ill = up("500 Ill");
    let at = status_at.to_string();
    let options = ["--check", "/health", "--every", "20", "--status", &at];
    let (_balance, _) = balance(&[up("204 No Content"), ill], &options);
    loop {
        let lines = page(status_at);
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(lines[0].ends_with(" retries") && lines[1].contains(": in, "), "{lines:?}");
        if lines[2].starts_with(&format!("{ill}: out for ")) {
            break;
        }
    }
}

#[test]
fn websocket_passes_through_and_h2c_does_not() {
    let (to, heads) = channel();
    let up = upstream(move |mut peer, _| {
        let head = peer.head().unwrap().join("\n").to_lowercase();
        let upgrades = head.contains("\nupgrade: websocket");
        to.send(head).unwrap();
        if upgrades {
            let accept = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
            let fields = format!("Connection: Upgrade\r\nUpgrade: websocket\r\n{accept}\r\n");
            peer.say(format!("HTTP/1.1 101 Switching Protocols\r\n{fields}\r\nfirst\n"));
            let line = peer.0.line();
            peer.say(format!("{line} back\n"));
        } else {
            peer.ok("no");
        }
    });
    let (_balance, addr) = balance(&[up], &[]);
    let mut client = Client::connect(addr);
    let ask = |protocol: &str| {
        format!(
            "GET /chat HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n"
        )
    };
    client.send(ask("websocket") + "early\n"); // In one piece with the request.
    let got = client.rest();
    assert!(got.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{got}");
    assert!(
        got.contains("\r\nsec-websocket-accept: ") || got.contains("\r\nSec-WebSocket-Accept: ")
    );
    assert!(got.ends_with("\r\n\r\nfirst\nearly back\n"), "{got}");
    assert!(heads.recv().unwrap().contains("\nconnection: upgrade"));
    let mut client = Client::connect(addr);
    client.send(ask("h2c"));
    assert_eq!(client.line(), "HTTP/1.1 200 OK\r");
    assert!(!heads.recv().unwrap().contains("upgrade"));
}

#[cfg(feature = "ws")]
#[test]
fn pythons_members_of_a_chat_meet_behind_it() {
    skip_without!(WEBSOCKETS);
    let _ceiling = ceiling(LIMIT);
    let (_chat, chat) = Process::serve("wschat");
    let (_balance, addr) = balance(&[chat], &[]);
    let script = format!(
        r#"
import asyncio, json
from websockets import connect
async def talk():
    async with connect("ws://{addr}/chat", origin=None) as one:
        await one.recv()
        async with connect("ws://{addr}/chat", origin=None) as two:
            await two.recv(), await one.recv()
            await two.send(json.dumps({{"text": "x" * 1000}}))
            heard = json.loads(await asyncio.wait_for(one.recv(), 30))
            assert heard["text"] == "x" * 1000, heard
    print("done")
asyncio.run(talk())
"#
    );
    assert_eq!(Process::start(&mut support::ws::python(&script)).line(), "done");
}

#[test]
fn curl_uploads_in_chunks_and_what_is_pending_is_answered_when_it_ends() {
    skip_without!(CURL);
    let (_http, http) = Process::serve("http");
    let (mut balance, addr) = balance(&[http], &[]);
    let lines = "line\n".repeat(100_000);
    let CurlResponse { status, body, .. } =
        ask_with(addr, "/count", &["-T", "-"], lines.as_bytes());
    assert_eq!((status, &body[..]), (200, "100000 lines, 500000 bytes\n"));
    let mut slow = Client::connect(addr);
    slow.send("GET /slow?ms=300 HTTP/1.1\r\nHost: h\r\n\r\n");
    let mut idle = Client::connect(addr);
    // Both were accepted, and the request read, before the signal is: this one comes behind them.
    assert_eq!(self::status(addr), 200);
    kill_process(Pid::from_raw(balance.id() as i32).unwrap(), Signal::TERM).unwrap();
    let said = balance.line();
    assert!(said.starts_with("SIGTERM: no new clients, waiting up to 5 s for "), "{said}");
    idle.rest(); // A FIN.
    assert!(slow.rest().ends_with("Here I am, 300 ms later.\n"));
    assert_eq!(balance.rest().1, Some(0));
    // The second signal does not wait for anybody.
    let (mut balance, addr) = self::balance(&[http], &[]);
    slow = Client::connect(addr);
    slow.send("GET /slow?ms=60000 HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(self::status(addr), 200);
    let pid = Pid::from_raw(balance.id() as i32).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    assert!(balance.line().starts_with("SIGTERM: "));
    kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(balance.rest().1, None);
}
