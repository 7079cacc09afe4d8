//! Predict: three sockets are ready. How long does the kernel take to say so?

use std::io::{self, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::Instant;

use kit::rustix::event::{PollFd, PollFlags, Timespec, poll};

fn main() -> io::Result<()> {
    kit::open_files(1200);
    // Three sockets with something to read, and 997 in which nothing happens.
    let ready = [speaking()?, speaking()?, speaking()?];
    let quiet: Vec<_> = (0..997).map(|_| UnixDatagram::unbound()).collect::<Result<_, _>>()?;
    let mut small: Vec<_> =
        ready.iter().map(|(ours, _)| PollFd::new(ours, PollFlags::IN)).collect();
    let silent = quiet.iter().map(|socket| PollFd::new(socket, PollFlags::IN));
    let mut large: Vec<_> = silent.chain(small.clone()).collect();
    let (short, long) = (fastest(&mut small)?, fastest(&mut large)?);
    println!("a table of 3: {short} ns; a table of 1,000: {long} ns");
    let ratio = long as f64 / short as f64;
    println!(
        "answer: {}",
        if ratio < 1.5 {
            'a'
        } else if ratio < 10.0 {
            'b'
        } else {
            'c'
        }
    );
    Ok(())
}

/// A socket with something to read, and its other end.
fn speaking() -> io::Result<(UnixStream, UnixStream)> {
    let (ours, mut theirs) = UnixStream::pair()?;
    theirs.write_all(b"hello")?;
    Ok((ours, theirs))
}

/// The shortest of 500 calls, in nanoseconds. Each says that three are ready.
fn fastest(table: &mut [PollFd<'_>]) -> io::Result<u128> {
    let mut shortest = u128::MAX;
    for _ in 0..500 {
        let start = Instant::now();
        let ready = poll(table, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
        shortest = shortest.min(start.elapsed().as_nanos());
        assert_eq!(ready, 3);
    }
    Ok(shortest)
}
