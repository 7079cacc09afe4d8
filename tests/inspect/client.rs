//! A client of the page, over a socket of std, and the program that it looks at.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Value, json};
use waterwheel::inspect::Setup;
use waterwheel::reactor::{Missed, Remote};
use waterwheel::{Context, Reactor};

/// How long a test waits for something that must come.
pub const LIMIT: Duration = Duration::from_secs(20);

/// A program with a loop that a page shows; it ends with this value.
pub struct Program {
    pub url: String,
    pub remote: Remote<u64>,
    thread: Option<JoinHandle<u64>>,
}

impl Program {
    /// Counts a timer of 1 ms.
    pub fn start(setup: Setup) -> Program {
        Program::of(setup, |reactor| {
            reactor.every(Duration::from_millis(1), Missed::Skip, |_, count: &mut u64, _| {
                *count += 1;
            });
        })
    }

    pub fn of<F>(setup: Setup, build: F) -> Program
    where
        F: FnOnce(&mut Context<u64>) + Send + 'static,
    {
        let (started, answer) = mpsc::channel();
        let thread = thread::spawn(move || {
            let inspect = setup.quiet().open("127.0.0.1:0").unwrap();
            let mut reactor = inspect.watch(Reactor::builder()).unwrap();
            build(&mut reactor);
            started.send((inspect.url(), reactor.remote())).unwrap();
            let mut count = 0;
            reactor.run(&mut count).unwrap();
            count
        });
        let (url, remote) = answer.recv().unwrap();
        Program { url, remote, thread: Some(thread) }
    }

    /// Only looks at a page that is there.
    pub fn at(url: String) -> Program {
        let mut reactor = Reactor::new().unwrap();
        Program { url, remote: reactor.remote(), thread: None }
    }

    pub fn address(&self) -> SocketAddr {
        self.url.split('/').nth(2).unwrap().parse().unwrap()
    }

    /// The path of something of the page's.
    pub fn path(&self, of: &str) -> String {
        format!("/{}/{of}", self.url.split('/').nth(3).unwrap())
    }

    /// A request with these further header lines; answers the status and the body.
    pub fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
        let host = if headers.contains("Host:") {
            String::new()
        } else {
            format!("Host: {}\r\n", self.address())
        };
        let mut stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\n{host}{headers}Content-Length: {length}\r\n\
             Connection: close\r\n\r\n{body}"
        )
        .unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        let (head, body) = response.split_once("\r\n\r\n").expect("a response");
        (head[9..12].parse().unwrap(), body.to_owned())
    }

    pub fn get(&self, of: &str) -> (u16, String) {
        self.ask("GET", &self.path(of), "", "")
    }

    /// Sends a command.
    pub fn command(&self, command: Value) -> (u16, String) {
        self.ask(
            "POST",
            &self.path("ctl"),
            "Content-Type: application/json\r\n",
            &command.to_string(),
        )
    }

    /// Opens a page's stream.
    pub fn page(&self) -> Page {
        self.page_since(None).expect("there is room for a page")
    }

    /// Opens a page's stream, which has got this one last; or answers the status.
    pub fn page_since(&self, last: Option<&str>) -> Result<Page, u16> {
        let last = last.map_or(String::new(), |id| format!("Last-Event-ID: {id}\r\n"));
        let mut stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let (path, address) = (self.path("events"), self.address());
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\n{last}\r\n").unwrap();
        let mut lines = BufReader::new(stream);
        let mut status = String::new();
        lines.read_line(&mut status).unwrap();
        match status[9..12].parse().unwrap() {
            200 => Ok(Page { lines, id: String::new() }),
            status => Err(status),
        }
    }

    /// Ends the loop; answers what it has counted.
    pub fn end(mut self) -> u64 {
        // A loop that stands still cannot end. The page may look only, and be gone a moment later.
        let _ = self.command(json!({ "do": "run" }));
        self.remote.stop().unwrap();
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.remote.stop();
    }
}

/// A page's stream of events.
pub struct Page {
    lines: BufReader<TcpStream>,
    /// Of the last event that had one.
    pub id: String,
}

impl Page {
    /// The next event: its name and its data.
    pub fn next(&mut self) -> (String, Value) {
        let (mut name, mut data) = (String::new(), String::new());
        loop {
            let mut line = String::new();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "the stream has ended");
            match line.trim_end().split_once(": ") {
                Some(("event", of)) => name = of.to_owned(),
                Some(("data", text)) => data = text.to_owned(),
                Some(("id", id)) => self.id = id.to_owned(),
                _ if line.trim_end().is_empty() && !name.is_empty() => {
                    return (name, serde_json::from_str(&data).unwrap());
                }
                _ => {} // Chunk sizes, heads, `retry`.
            }
        }
    }

    /// The data of the next event of this name that fits.
    pub fn until(&mut self, name: &str, fits: impl Fn(&Value) -> bool) -> Value {
        loop {
            let (of, data) = self.next();
            if of == name && fits(&data) {
                return data;
            }
        }
    }

    /// Reads on until so many beats have come, two a second. No event of that name may come meanwhile.
    pub fn beats(&mut self, count: usize, never: &str) {
        let mut beats = 0;
        while beats < count {
            let mut line = String::new();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "the stream has ended");
            assert_ne!(line.trim_end(), format!("event: {never}"));
            beats += usize::from(line.starts_with(": "));
        }
    }

    /// Waits until the loop stands at the gate.
    pub fn until_standing(&mut self) {
        self.until("state", |state| state["standing"] == true);
    }
}
