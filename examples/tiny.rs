//! Tiny: the loop before the loop. An event loop in one file, without the library.
//!
//! Run:  cargo run --release --example tiny
//! Then: nc 127.0.0.1 7001        in two terminals, and type into both
//! See:  each line come back, to any number of clients, on one thread; and once a second, if there
//!       is news, how many bytes that were. Ctrl-C ends it.
//! Look: `run`: sleep, call those that are ready, call those whose time has come. Each *shortcut*
//!       is named where it is taken, and `->` names the file of the library that does without it.
//! Next: greet each client; close clients that are silent for a minute, and see what a timer must
//!       know for that. Then `echo.rs`, the same server on the library.

use std::cell::Cell;
use std::io::{self, ErrorKind, Read, Write};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, event::Source};

/// Called when its socket is ready. Returns true if it wants to be called again.
type OnReady = Box<dyn FnMut(&mut Loop) -> bool>;
/// Called once, when its time has come.
type OnTime = Box<dyn FnOnce(&mut Loop)>;

struct Loop {
    poll: Poll,
    /// Shortcut: the descriptor is the id, and so the index. The kernel uses a number again as soon
    /// as it is free: an id that is kept too long reaches the next client. -> reactor/id.rs
    callbacks: Vec<Option<OnReady>>,
    /// Sorted; the last is the next to run. Shortcut: to insert one moves up to all the others, and
    /// none can be cancelled. -> timers/wheel.rs
    timers: Vec<(Instant, OnTime)>,
}

impl Loop {
    /// Calls `callback` when `socket` is ready. Shortcut: the callback alone owns the socket, so
    /// nobody else can write to it or close it. -> reactor/source.rs
    fn register<T: Source + AsRawFd + 'static>(
        &mut self,
        mut socket: T,
        interest: Interest,
        mut callback: impl FnMut(&mut Loop, &mut T) -> bool + 'static,
    ) -> io::Result<()> {
        let id = socket.as_raw_fd() as usize;
        self.poll.registry().register(&mut socket, Token(id), interest)?;
        self.callbacks.resize_with(self.callbacks.len().max(id + 1), || None);
        self.callbacks[id] = Some(Box::new(move |tiny| callback(tiny, &mut socket)));
        Ok(())
    }

    /// Calls `callback` after `delay`. Shortcut: one that arms itself again comes a little later
    /// each time, and does not know how often it was missed. -> reactor/timer.rs
    fn after(&mut self, delay: Duration, callback: impl FnOnce(&mut Loop) + 'static) {
        let due = Instant::now() + delay;
        let place = self.timers.partition_point(|(other, _)| *other > due);
        self.timers.insert(place, (due, Box::new(callback)));
    }

    /// The loop. Shortcut: it does not return when nothing is left to wait for
    /// (-> reactor/alive.rs), and Ctrl-C cuts off what is not yet sent (-> net/drain.rs).
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
            // Shortcut: in the order of the kernel, nothing can go first. -> reactor/queue.rs
            for event in &events {
                let Token(id) = event.token();
                // Taken out while it runs, for it may add others, and that moves them all.
                // Shortcut: if it panics, the loop ends. -> reactor/dispatch.rs
                let Some(mut callback) = self.callbacks[id].take() else { continue };
                if callback(&mut self) {
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

/// An echo server and a timer. Shortcut: they share the count by an `Rc`; a loop can hand each
/// callback the program's state instead. -> reactor/context.rs
fn serve(listener: std::net::TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    say(&format!("listening on {}", listener.local_addr()?));
    let mut tiny = Loop { poll: Poll::new()?, callbacks: Vec::new(), timers: Vec::new() };
    let echoed = Rc::new(Cell::new(0));
    report(&mut tiny, echoed.clone(), 0);
    let accept = move |tiny: &mut Loop, listener: &mut TcpListener| accept(tiny, listener, &echoed);
    tiny.register(TcpListener::from_std(listener), Interest::READABLE, accept)?;
    tiny.run()
}

fn report(tiny: &mut Loop, echoed: Rc<Cell<usize>>, before: usize) {
    let count = echoed.get();
    if count != before {
        say(&format!("{count} bytes echoed"));
    }
    tiny.after(Duration::from_secs(1), move |tiny| report(tiny, echoed, count));
}

fn accept(tiny: &mut Loop, listener: &TcpListener, echoed: &Rc<Cell<usize>>) -> bool {
    loop {
        // Shortcut: 4 KiB for each client, though most are silent. -> reactor/context.rs
        let (mut buffer, mut unsent, echoed) = ([0; 4096], 0..0, echoed.clone());
        let accepted = listener.accept().and_then(|(stream, _)| {
            tiny.register(stream, Interest::READABLE | Interest::WRITABLE, move |_, stream| {
                echo(stream, &mut buffer, &mut unsent, &echoed)
            })
        });
        match accepted.map_err(|error| (error.kind(), error)) {
            Ok(()) | Err((ErrorKind::ConnectionAborted, _)) => {}
            Err((ErrorKind::WouldBlock, _)) => return true,
            Err((_, error)) => {
                // Shortcut: if it is out of descriptors, a client left in the queue of the kernel
                // waits there until one more client comes. -> net/accept.rs
                say(&format!("cannot accept: {error}"));
                return true;
            }
        }
    }
}

/// Sends back what has come. Returns false if the client has finished or is gone.
///
/// It goes on until the kernel says `WouldBlock`, because mio is *edge-triggered*: it reports the
/// moment at which bytes come. A *level-triggered* poll reports, each time, that bytes are there:
///
/// ```text
///                     600 bytes come    you read 500, and stop    50 bytes come
///   unread            600               100                       150
///   level-triggered   ready             ready     ready           ready
///   edge-triggered    ready             (silent)  (silent)        ready
/// ```
///
/// So a reader that stops early, by edges, may wait without end: the client sends nothing more
/// before it has its echo of those 100 bytes.
fn echo(
    stream: &mut TcpStream,
    buffer: &mut [u8],
    unsent: &mut Range<usize>,
    echoed: &Cell<usize>,
) -> bool {
    // Shortcut: a client that sends without a pause keeps the loop from others. -> net/receive.rs
    loop {
        // What was read goes out before more is read: one that does not read its echo costs 4 KiB.
        // Shortcut: one can write no more than that ahead. -> net/outbox.rs
        let rest = &buffer[unsent.clone()];
        let moved = if rest.is_empty() {
            stream.read(buffer).inspect(|count| *unsent = 0..*count)
        } else {
            stream.write(rest).inspect(|count| {
                unsent.start += count;
                echoed.set(echoed.get() + count);
            })
        };
        match moved.map_err(|error| error.kind()) {
            Err(ErrorKind::WouldBlock) => return true,
            Err(ErrorKind::Interrupted) | Ok(1..) => {}
            Ok(0) | Err(_) => return false,
        }
    }
}

/// Prints a line. It is no error if nobody reads them any more.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

fn fail(error: &str, code: i32) -> ! {
    eprintln!("{error}");
    std::process::exit(code)
}

fn main() {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let addr = args.first().map_or("7001".into(), |addr| addr.to_string_lossy());
    if args.len() > 1 || addr.starts_with('-') {
        let code = if addr == "-h" || addr == "--help" { 0 } else { 2 };
        fail("Usage: tiny [ADDR]    (7001 unless given; a bare port means 127.0.0.1)", code);
    }
    let addr = if addr.contains(':') { addr } else { format!("127.0.0.1:{addr}").into() };
    let listener = std::net::TcpListener::bind(&*addr).unwrap_or_else(|error| {
        let code = if error.kind() == ErrorKind::InvalidInput { 2 } else { 1 };
        fail(&format!("error: cannot listen on {addr}: {error}"), code)
    });
    serve(listener).unwrap_or_else(|error| fail(&format!("error: {error}"), 1));
}
