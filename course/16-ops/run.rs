//! A server that can be told to end: `cargo run -p course --example run16`, then
//! `curl 127.0.0.1:7116/slow`, and Ctrl-C while it waits.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use kit::mio::net::{TcpListener, TcpStream, UnixStream};
use kit::{Input, Interest, Kernel, Mio, Times};

#[cfg_attr(kept = "14", path = "../14-http/http.rs")]
#[cfg_attr(not(kept = "14"), path = "../14-http/solution.rs")]
#[allow(clippy::all, dead_code)]
mod http;
#[path = "ops.rs"]
#[allow(clippy::all, dead_code)]
#[rustfmt::skip]
mod ops;

use ops::Ops;

const LISTENER: usize = usize::MAX;
const SIGNAL: usize = usize::MAX - 1;
const BOTH: Interest = Interest { readable: true, writable: true };
const LIMIT: usize = 100;
/// How long an end may take.
const GRACE: Duration = Duration::from_secs(10);
/// How long `/slow` takes.
const SLOW: Duration = Duration::from_secs(3);

struct Client {
    stream: TcpStream,
    reader: http::Reader,
    input: Input,
    owed: Vec<u8>,
    /// The answer to `/slow` comes then. Nothing else is read before.
    slow_until: Option<Duration>,
    /// After what it is owed comes the end.
    is_last: bool,
    is_gone: bool,
}

struct Server {
    ops: Ops<TcpListener>,
    clients: BTreeMap<usize, Client>,
    times: Times,
    is_ending: bool,
}

fn main() -> io::Result<()> {
    let mut kernel = Mio::new()?;
    let address: SocketAddr = "127.0.0.1:7116".parse().expect("an address");
    let (mut listener, mut signal) =
        (TcpListener::bind(address)?, UnixStream::from_std(kit::told_to_end()?));
    kernel.register(&mut listener, LISTENER, BOTH)?;
    kernel.register(&mut signal, SIGNAL, BOTH)?;
    println!("listening on http://{address}; Ctrl-C ends it");
    let ops = Ops::new(listener, LIMIT);
    let mut server =
        Server { ops, clients: BTreeMap::new(), times: Times::new(), is_ending: false };
    let begin = Instant::now();
    loop {
        let slow = server.clients.values().filter_map(|client| client.slow_until).min();
        let wake = server.ops.wake_at().into_iter().chain(slow).min();
        let mut ready = Vec::new();
        match kernel.poll(wake.map(|at| at.saturating_sub(begin.elapsed())), &mut ready) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            result => result?,
        }
        let now = begin.elapsed();
        for heard in ready.iter().filter(|heard| heard.token < SIGNAL) {
            server.serve(heard.token, now);
        }
        for conn in server.clients.keys().copied().collect::<Vec<_>>() {
            if server.clients[&conn].slow_until.is_some_and(|until| until <= now) {
                server.serve(conn, now);
            }
        }
        for (conn, mut stream) in server.ops.accept(now) {
            kernel.register(&mut stream, conn, BOTH)?;
            server.clients.insert(conn, Client::new(stream));
        }
        while signal.read(&mut [0]).is_ok_and(|count| count > 0) {
            server.end(now);
        }
        for conn in server.ops.expire(now) {
            server.clients.remove(&conn);
        }
        if let Some(report) = server.ops.report() {
            println!("{report:?}");
            return Ok(());
        }
    }
}

impl Client {
    fn new(stream: TcpStream) -> Client {
        let (reader, input, owed) = (http::Reader::default(), Input::new(), Vec::new());
        Client { stream, reader, input, owed, slow_until: None, is_last: false, is_gone: false }
    }

    fn read(&mut self) {
        let mut bytes = [0; 4096];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(count @ 1..) if !self.is_last => self.input.push(&bytes[..count]),
                Ok(1..) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => return self.is_gone = true,
            }
        }
    }

    fn write(&mut self) {
        while !self.owed.is_empty() {
            match self.stream.write(&self.owed) {
                Ok(count) => drop(self.owed.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.is_gone = true,
            }
        }
        if self.is_last {
            let _ = self.stream.shutdown(Shutdown::Write);
        }
    }

    fn answer(&mut self, status: u16, text: &str) {
        let (length, last) = (text.len(), if self.is_last { "Connection: close\r\n" } else { "" });
        let head = format!("HTTP/1.1 {status} \r\n{last}Content-Length: {length}\r\n\r\n");
        self.owed.extend(head.bytes().chain(text.bytes()));
    }
}

impl Server {
    /// Told to end: once in order, and the second time at once.
    fn end(&mut self, now: Duration) {
        let grace = if self.is_ending { Duration::ZERO } else { GRACE };
        self.is_ending = true;
        for conn in self.ops.drain(now, grace) {
            self.clients.remove(&conn);
        }
        let why = self.ops.why_alive();
        println!("told to end; it still waits for: {}", why.join(", "));
    }

    fn serve(&mut self, conn: usize, now: Duration) {
        let Some(mut client) = self.clients.remove(&conn) else { return };
        client.read();
        while !client.is_last && self.step(&mut client, conn, now) {}
        client.write();
        let is_done = client.owed.is_empty() && client.slow_until.is_none();
        if client.is_gone {
            self.ops.gone(conn);
        } else if !(is_done && self.ops.answered(conn)) {
            self.clients.insert(conn, client);
        }
    }

    /// Answers the next request. Returns false if there is none.
    fn step(&mut self, client: &mut Client, conn: usize, now: Duration) -> bool {
        if let Some(until) = client.slow_until {
            if now < until {
                return false;
            }
            client.slow_until = None;
            client.is_last |= self.is_ending;
            client.answer(200, "That took a while.\n");
            return true;
        }
        let request = match client.reader.next(&mut client.input) {
            Ok(request) => request,
            Err(None) => return false,
            Err(Some(status)) => {
                self.ops.asked(conn);
                client.is_last = true;
                client.answer(status, "No.\n");
                return true;
            }
        };
        self.ops.asked(conn);
        client.is_last = !request.keep_alive || self.is_ending;
        let start = Instant::now();
        match &*request.target {
            "/slow" => {
                client.slow_until = Some(now + SLOW);
                client.is_last = false;
            }
            "/block" => {
                std::thread::sleep(Duration::from_millis(50)); // A mistake, to be found in /metrics.
                client.answer(200, "Nobody else was served for 50 ms.\n");
                self.times.ran(start.elapsed());
                return true;
            }
            "/metrics" => {
                let (count, refused) = (self.clients.len() + 1, self.ops.refused);
                let text = format!(
                    "# HELP rill_connections Open now.\n# TYPE rill_connections gauge\n\
                     rill_connections {count}\n# HELP rill_refused_total Closed at once.\n\
                     # TYPE rill_refused_total counter\nrill_refused_total {refused}\n{}",
                    self.times.text()
                );
                client.answer(200, &text);
            }
            _ => client.answer(200, "hello\n"),
        }
        self.times.ran(start.elapsed());
        true
    }
}
