//! Break: one who sleeps in a chat, and whose memory it costs. And: a server that closes while the
//! client still speaks, and what is left of its answer.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::mem;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kit::mio::net::{TcpStream as Source, UnixStream as UnixSource};
use kit::{Event, Heard, Interest, Kernel, Limits, Mio, Next, Pressure};

#[path = "stream.rs"]
#[allow(clippy::all, dead_code, unused)]
#[rustfmt::skip]
mod stream;

use stream::Stream;

const LIMITS: Limits = Limits { low: 64 << 10, high: 256 << 10, max: 4 << 20 };
const BOTH: Interest = Interest { readable: true, writable: true };
const ROOM: Heard = Heard { token: 0, readable: false, writable: true, hung_up: false };
/// 128 MiB, in lines of 4 KiB.
const LINES: usize = 32_768;
const ANSWER: usize = 400_000;
/// How long your stream has to come to its end.
const PATIENCE: Duration = Duration::from_secs(3);

fn main() -> io::Result<()> {
    sleeper()?;
    println!();
    naive_close()?;
    your_close()
}

/// Somebody says 128 MiB, and one who does not read is to hear all of it.
fn sleeper() -> io::Result<()> {
    let memory = || kit::memory_kib().unwrap_or_default();
    let line = [7; 4096];
    let (ours, _theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let (mut io, mut outbox, before) = (&ours, VecDeque::new(), memory());
    for _ in 0..LINES {
        outbox.extend(line);
        while let Ok(count @ 1..) = io.write(outbox.as_slices().0) {
            outbox.drain(..count);
        }
    }
    println!("an outbox without a limit: {} KiB of memory more", memory() - before);
    drop(outbox);
    let (ours, _theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let (mut stream, before) = (Stream::new(UnixSource::from_std(ours), LIMITS), memory());
    let mut said = [0; 3];
    for _ in 0..LINES {
        said[stream.write(&line) as usize] += 1;
        stream.drive(ROOM, |_, _| {});
    }
    let [below, above, refused] = [Pressure::Below, Pressure::AboveHigh, Pressure::Refused]
        .map(|pressure| said[pressure as usize]);
    println!("your stream: {} KiB of memory more", memory().saturating_sub(before));
    println!("your stream said Below {below}, AboveHigh {above}, Refused {refused} times");
    Ok(())
}

/// A client that sends 100,000 bytes, and reads only when it is told to. Gives our end of it.
fn client() -> io::Result<(TcpStream, Sender<()>, JoinHandle<String>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    client.set_read_timeout(Some(PATIENCE))?;
    client.write_all(&[7; 100_000])?;
    let (send, receive) = channel();
    let reader = thread::spawn(move || {
        let _ = receive.recv();
        let mut got = Vec::new();
        let end = match client.read_to_end(&mut got) {
            Ok(_) => "the end".to_owned(),
            Err(error) => format!("{:?}", error.kind()),
        };
        format!("the client gets {} of {ANSWER} bytes, and then {end}", got.len())
    });
    Ok((listener.accept()?.0, send, reader))
}

fn naive_close() -> io::Result<()> {
    let (mut ours, read, client) = client()?;
    ours.set_write_timeout(Some(PATIENCE))?;
    ours.read_exact(&mut [0; 10])?; // It has seen enough.
    ours.write_all(&[b'n'; ANSWER])?;
    drop(ours);
    let _ = read.send(());
    println!("answer, and drop: {}", client.join().expect("the client ends"));
    Ok(())
}

fn your_close() -> io::Result<()> {
    let (ours, read, client) = client()?;
    ours.set_nonblocking(true)?;
    let (mut kernel, mut source) = (Mio::new()?, Source::from_std(ours));
    kernel.register(&mut source, 0, BOTH)?;
    let max = ANSWER;
    let mut stream = Stream::new(source, Limits { max, ..LIMITS });
    let (mut next, mut has_answered, start) = (Next::Wait, false, Instant::now());
    while next != Next::Over && start.elapsed() < PATIENCE {
        let wait = if next == Next::Again { Duration::ZERO } else { Duration::from_millis(100) };
        let mut ready = Vec::new();
        kernel.poll(Some(wait), &mut ready)?;
        if next == Next::Wait && ready.is_empty() {
            let _ = read.send(()); // Nothing goes on until the client reads.
        }
        next = stream.drive(ready.pop().unwrap_or_default(), |stream, event| {
            if matches!(event, Event::Data(_)) && !mem::replace(&mut has_answered, true) {
                stream.write(&[b'n'; ANSWER]);
                stream.close();
            }
        });
    }
    drop(stream);
    let _ = read.send(());
    println!("your close:       {}", client.join().expect("the client ends"));
    Ok(())
}
