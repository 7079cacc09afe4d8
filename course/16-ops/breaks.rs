//! Break: more clients than descriptors, for a loop that takes no notice, for yours, and for
//! waterwheel in a process of its own. Then a clock that is put back.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use kit::rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use kit::{Door, DoorScript};
use waterwheel::Reactor;
use waterwheel::net::{Event, tcp};

#[path = "ops.rs"]
#[allow(clippy::all, dead_code)]
#[rustfmt::skip]
mod ops;

use ops::Ops;

/// Descriptors of the machine in the script, and clients who come.
const DESCRIPTORS: usize = 256;
const CLIENTS: usize = 5000;
/// The same for the process of waterwheel.
const ITS_DESCRIPTORS: u64 = 256;
const ITS_CLIENTS: usize = 1000;
const PATIENCE: Duration = Duration::from_secs(5);

fn main() -> io::Result<()> {
    if std::env::args().nth(1).as_deref() == Some("serve") {
        return serve();
    }
    println!("{CLIENTS} clients, {DESCRIPTORS} descriptors:");
    takes_no_notice();
    yours();
    println!("{ITS_CLIENTS} clients, {ITS_DESCRIPTORS} descriptors:");
    waterwheel()?;
    clock();
    Ok(())
}

/// The kernel says in each turn that somebody waits, and `accept` fails in each.
fn takes_no_notice() {
    let (mut door, mut inside) = (DoorScript::new(DESCRIPTORS), Vec::new());
    door.come(CLIENTS);
    for _ in 0..100_000 {
        if let Ok(socket) = door.accept() {
            inside.push(socket);
        }
    }
    let (calls, waiting, count) = (door.calls(), door.waiting(), inside.len());
    println!("  no notice:  {count} inside, {waiting} wait for ever; {calls} calls, and no sleep");
}

fn yours() {
    let door = DoorScript::new(DESCRIPTORS);
    let mut ops = Ops::new(door.clone(), usize::MAX);
    door.come(CLIENTS);
    let mut inside = Vec::new();
    for ms in 0..1000 {
        inside.extend(ops.accept(Duration::from_millis(ms)));
    }
    let (calls, waiting, count, told) =
        (door.calls(), door.waiting(), inside.len(), door.closed().len());
    println!("  yours:      {count} inside, {waiting} wait, {told} were told; {calls} calls");
}

/// The other process: an echo server that may open few files.
fn serve() -> io::Result<()> {
    let current = Some(ITS_DESCRIPTORS);
    setrlimit(Resource::Nofile, Rlimit { current, maximum: getrlimit(Resource::Nofile).maximum })?;
    let mut reactor = Reactor::<()>::new()?;
    let address: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    let listener = tcp::listen(&mut reactor, address, |reactor, _, stream| {
        stream.open(reactor, |reactor, _, conn, event| {
            if let Event::Data(bytes) = event {
                let _ = conn.write(reactor, bytes);
            }
        });
    })?;
    println!("{}", reactor[listener].local_addr());
    reactor.run(&mut ())
}

fn waterwheel() -> io::Result<()> {
    kit::open_files(2 * ITS_CLIENTS as u64);
    let mut command = Command::new(std::env::current_exe()?);
    let mut child = command.arg("serve").stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line)?;
    let tried = line.trim().parse().map_err(io::Error::other).and_then(ask);
    child.kill()?;
    child.wait()?;
    let [served, told, silent] = tried?;
    println!("  waterwheel: {served} inside, {silent} wait, {told} were told");
    Ok(())
}

/// How many clients are served, are told that they are not, and hear nothing.
fn ask(address: SocketAddr) -> io::Result<[usize; 3]> {
    let (mut clients, mut counts) = (Vec::new(), [0; 3]);
    for _ in 0..ITS_CLIENTS {
        clients.push(TcpStream::connect_timeout(&address, PATIENCE)?);
    }
    for client in &mut clients {
        client.set_read_timeout(Some(PATIENCE))?;
        let sent = client.write_all(b"x");
        let outcome = match sent.and_then(|()| client.read(&mut [0])) {
            Ok(1..) => 0,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 2,
            Ok(0) | Err(_) => 1,
        };
        counts[outcome] += 1;
    }
    Ok(counts)
}

/// A drain that goes by the clock on the wall, which is put back by an hour.
fn clock() {
    let (door, hour) = (DoorScript::new(10), Duration::from_secs(3600));
    let mut ops = Ops::new(door.clone(), 10);
    door.come(1);
    let inside = ops.accept(2 * hour);
    ops.asked(0);
    ops.drain(2 * hour, Duration::from_secs(10));
    let mut now = hour; // It has been put back.
    while ops.expire(now).is_empty() {
        now += Duration::from_secs(1);
    }
    let took = (now - hour).as_secs();
    println!("the clock is put back an hour in a drain of 10 s: it ends after {took} s");
    drop(inside);
}
