//! Break: one client speaks, and ten thousand are silent. And: a peer that hangs up, of which nobody
//! takes notice.

use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::rc::Rc;
use std::time::{Duration, Instant};

use kit::mio::unix::SourceFd;
use kit::{Entry, Interest, Kernel, Mio, Poll, SystemPoll};

#[cfg_attr(kept = "03", path = "../03-asking/ask.rs")]
#[cfg_attr(not(kept = "03"), path = "../03-asking/solution.rs")]
#[allow(clippy::all, dead_code)]
mod ask;
#[path = "wait.rs"]
#[allow(clippy::all, dead_code)]
#[rustfmt::skip]
mod wait;

const READS: Interest = Interest { readable: true, writable: false };

fn main() -> io::Result<()> {
    let most = kit::open_files(10_100) as usize - 100;
    for silent in [10, 100, 1000, 10_000] {
        speak(silent.min(most))?;
    }
    hang_up()
}

/// How long the kernel takes to say that one is ready, by your table, and as waterwheel asks it.
fn speak(silent: usize) -> io::Result<()> {
    let (ours, mut theirs) = UnixStream::pair()?;
    let ours = Rc::new(ours);
    let quiet: Vec<_> =
        (0..silent).map(|_| UnixDatagram::unbound().map(Rc::new)).collect::<Result<_, _>>()?;
    let mut yours = wait::Wait::new(SystemPoll::new());
    let mut theirs_too = Mio::new()?;
    for (token, socket) in quiet.iter().enumerate() {
        let number = yours.poll.number_of(socket);
        yours.register(number, token, READS);
        theirs_too.register(&mut SourceFd(&socket.as_raw_fd()), token, READS)?;
    }
    let number = yours.poll.number_of(&ours);
    yours.register(number, silent, READS);
    theirs_too.register(&mut SourceFd(&ours.as_raw_fd()), silent, READS)?;
    let (table, epoll) =
        (fastest(&mut theirs, &mut yours)?, fastest(&mut theirs, &mut theirs_too)?);
    println!("{silent:>6} silent, 1 ready: your table {table:>8.1?}; waterwheel's way {epoll:.1?}");
    Ok(())
}

fn fastest(theirs: &mut UnixStream, kernel: &mut impl Kernel) -> io::Result<Duration> {
    let mut shortest = Duration::MAX;
    for _ in 0..20 {
        theirs.write_all(b"x")?;
        let (start, mut ready) = (Instant::now(), Vec::new());
        kernel.poll(Some(Duration::from_secs(1)), &mut ready)?;
        shortest = shortest.min(start.elapsed());
        assert_eq!(ready.len(), 1, "one is ready");
    }
    Ok(shortest)
}

/// A peer has gone. The loop looks only whether there is something to read, and nobody wants that.
fn hang_up() -> io::Result<()> {
    let (ours, theirs) = UnixStream::pair()?;
    let (ours, mut system) = (Rc::new(ours), SystemPoll::new());
    let number = system.number_of(&ours);
    let mut table = [Entry { number, ..Entry::default() }];
    drop(theirs);
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(100) {
        system.poll(&mut table, 1000)?; // It is to wait for a second.
    }
    println!("a hang-up that nobody hears: {} polls in 0.1 s, each of 1 s", system.polls);
    let mut yours = wait::Wait::new(system);
    yours.register(number, 5, Interest::default());
    let mut ready = Vec::new();
    yours.poll(Some(Duration::from_millis(100)), &mut ready)?;
    match ready.iter().any(|heard| heard.token == 5 && heard.hung_up) {
        true => println!("your table hears it, and the loop can forget the client"),
        false => println!("your table does not hear it either"),
    }
    Ok(())
}
