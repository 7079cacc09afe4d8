//! Tiny: the loop before the loop. An event loop in one file, without the library.
//!
//! Run:  cargo run --release --example tiny
//! Then: nc 127.0.0.1 7001        in two terminals, and type into both; Ctrl-C ends each
//! See:  each line come back; and once a second, if there is news, how many bytes came back in all.
//! Look: `run`. Each *shortcut* is named where it is taken; `->` names the file that answers it.
//! Next: close clients that are silent for a minute. Then read `echo.rs`, the same on the library.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token, net::TcpListener, net::TcpStream, unix::SourceFd};

/// Owns a socket and is called when that is ready. It is kept as long as it returns `WouldBlock`.
type OnReady = Box<dyn FnMut(&mut Loop) -> io::Result<()>>;
type OnTime = Box<dyn FnOnce(&mut Loop)>;

struct Loop {
    poll: Poll,
    /// Shortcut: the index is the descriptor, so an old one may name a new client. -> reactor/id.rs
    callbacks: Vec<Option<OnReady>>,
    /// The next comes last. Shortcut: a new one sorts all; none is cancelled. -> timers/wheel.rs
    timers: Vec<(Instant, OnTime)>,
    /// Shortcut: the loop knows its program. Ours takes any state `S`. -> reactor/context.rs
    echoed: usize,
}

impl Loop {
    /// Shortcut: no code but the callback can write to its socket or close it. -> reactor/source.rs
    fn register(&mut self, fd: RawFd, callback: OnReady) -> io::Result<()> {
        let (id, both) = (fd as usize, Interest::READABLE | Interest::WRITABLE);
        self.poll.registry().register(&mut SourceFd(&fd), Token(id), both)?;
        self.callbacks.resize_with(self.callbacks.len().max(id + 1), || None);
        self.callbacks[id] = Some(callback);
        Ok(())
    }

    /// Shortcut: a repeated timer comes later each time, and counts no misses. -> reactor/timer.rs
    fn after(&mut self, delay: Duration, callback: OnTime) {
        self.timers.insert(0, (Instant::now() + delay, callback));
        self.timers.sort_by(|(one, _), (other, _)| other.cmp(one));
    }

    /// Shortcut: it never ends (-> reactor/alive.rs); Ctrl-C loses unsent bytes (-> net/drain.rs).
    fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            let next = self.timers.last().map(|(due, _)| *due);
            let wait = next.map(|due| due.saturating_duration_since(Instant::now()));
            // It sleeps here. Shortcut: no other thread can wake it. -> reactor/remote/mod.rs
            match self.poll.poll(&mut events, wait) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            // Shortcut: in the order of the kernel; nothing can go first. -> reactor/queue.rs
            for Token(id) in events.iter().map(|event| event.token()) {
                // Taken out while it runs. Shortcut: a panic ends the loop. -> reactor/dispatch.rs
                let Some(mut callback) = self.callbacks[id].take() else { continue };
                if callback(&mut self).is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
                    self.callbacks[id] = Some(callback);
                }
            }
            let now = Instant::now();
            while let Some((_, callback)) = self.timers.pop_if(|(due, _)| *due <= now) {
                callback(&mut self);
            }
        }
    }
}

/// Shortcut: after an error (no descriptors) clients wait until one more comes. -> net/accept.rs
fn accept(listener: TcpListener) -> OnReady {
    Box::new(move |tiny| {
        while let Ok((stream, _)) = listener.accept() {
            let _ = tiny.register(stream.as_raw_fd(), echo(stream)); // On failure it is closed.
        }
        Err(ErrorKind::WouldBlock.into())
    })
}

/// Goes on until `WouldBlock`, because mio reports bytes once, when they come. -> reactor/poll.rs
fn echo(mut stream: TcpStream) -> OnReady {
    // Shortcut: 4 KiB for each client, though most are silent. -> reactor/context.rs
    let (mut buffer, mut unsent) = ([0; 4096], 0..0);
    Box::new(move |tiny| {
        // Shortcut: a client that sends without a pause keeps the loop busy. -> net/receive.rs
        loop {
            if unsent.is_empty() {
                let count @ 1.. = stream.read(&mut buffer)? else { return Ok(()) };
                unsent = 0..count;
            }
            // Shortcut: a client that does not read can write only 4 KiB ahead. -> net/outbox.rs
            let count = stream.write(&buffer[unsent.clone()])?;
            unsent.start += count;
            tiny.echoed += count;
        }
    })
}

fn report(tiny: &mut Loop, before: usize) {
    let count = tiny.echoed;
    if count != before {
        let _ = writeln!(io::stdout(), "{count} bytes echoed");
    }
    tiny.after(Duration::from_secs(1), Box::new(move |tiny| report(tiny, count)));
}

fn serve(listener: std::net::TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let _ = writeln!(io::stdout(), "listening on {}", listener.local_addr()?);
    let mut tiny = Loop { poll: Poll::new()?, callbacks: vec![], timers: vec![], echoed: 0 };
    tiny.register(listener.as_raw_fd(), accept(TcpListener::from_std(listener)))?;
    report(&mut tiny, 0);
    tiny.run()
}

fn main() {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let addr = args.first().map_or("7001".into(), |addr| addr.to_string_lossy());
    if args.len() > 1 || addr.starts_with('-') {
        eprintln!("Usage: tiny [ADDR]    (7001 unless given; a bare port means 127.0.0.1)");
        std::process::exit(if addr == "-h" || addr == "--help" { 0 } else { 2 });
    }
    let addr = if addr.contains(':') { addr } else { format!("127.0.0.1:{addr}").into() };
    if let Err(error) = std::net::TcpListener::bind(&*addr).and_then(serve) {
        eprintln!("error: cannot listen on {addr}: {error}");
        std::process::exit(if error.kind() == ErrorKind::InvalidInput { 2 } else { 1 });
    }
}
