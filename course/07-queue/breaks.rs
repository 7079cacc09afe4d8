//! Break: a callback that puts itself into the queue each time it runs, and a client that says
//! hello. Who is served? First with a queue that has no batch, then with yours, then by waterwheel.

use std::collections::VecDeque;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use kit::mio::net::UnixStream as Source;
use kit::{Interest, Kernel, Mio};
use waterwheel::Reactor;
use waterwheel::net::Fd;
use waterwheel::reactor::{Context, Priority};

#[path = "queue.rs"]
#[allow(clippy::all, dead_code)]
#[rustfmt::skip]
mod queue;

use queue::{Lane, Queue};

/// What waits.
#[derive(Clone, Copy, PartialEq)]
enum Entry {
    Again,
    Client,
}

/// How often the callback may run before the client gives up.
const TIMES_MAX: u64 = 1_000_000;

/// A queue, for the loop below.
trait Waits {
    fn push(&mut self, entry: Entry);
    fn begin_turn(&mut self);
    fn pop(&mut self) -> Option<Entry>;
}

impl Waits for VecDeque<Entry> {
    fn push(&mut self, entry: Entry) {
        self.push_back(entry);
    }

    fn begin_turn(&mut self) {}

    fn pop(&mut self) -> Option<Entry> {
        self.pop_front()
    }
}

impl Waits for Queue<Entry> {
    fn push(&mut self, entry: Entry) {
        Queue::push(self, if entry == Entry::Again { Lane::High } else { Lane::Normal }, entry);
    }

    fn begin_turn(&mut self) {
        Queue::begin_turn(self);
    }

    fn pop(&mut self) -> Option<Entry> {
        Queue::pop(self)
    }
}

fn main() -> std::io::Result<()> {
    say("a queue without a batch", turns(&mut VecDeque::new())?);
    say("your queue             ", turns(&mut Queue::new())?);
    say("waterwheel             ", waterwheel()?);
    Ok(())
}

fn say(name: &str, times: u64) {
    match times {
        TIMES_MAX => println!("{name}: {times} times, and the client has no answer; it gives up"),
        _ => println!("{name}: the callback runs {times} times before the client is served"),
    }
}

/// How often the callback runs before the client is served.
fn turns(queue: &mut dyn Waits) -> std::io::Result<u64> {
    let (ours, mut client) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let (mut kernel, mut ours) = (Mio::new()?, Source::from_std(ours));
    kernel.register(&mut ours, 0, Interest { readable: true, writable: false })?;
    let mut times = 0;
    queue.push(Entry::Again);
    loop {
        let mut ready = Vec::new();
        kernel.poll(Some(Duration::ZERO), &mut ready)?;
        ready.iter().for_each(|_| queue.push(Entry::Client));
        queue.begin_turn();
        while let Some(entry) = queue.pop() {
            match entry {
                Entry::Client => return Ok(times),
                Entry::Again if times == TIMES_MAX => return Ok(times),
                Entry::Again => {
                    times += 1;
                    queue.push(Entry::Again);
                    if times == 1 {
                        client.write_all(b"hello")?; // It comes while the turn runs.
                    }
                }
            }
        }
    }
}

fn waterwheel() -> std::io::Result<u64> {
    fn again(reactor: &mut Context<State>, state: &mut State) {
        state.times += 1;
        if state.times == 1 {
            state.client.write_all(b"hello").expect("the client can send");
        }
        if state.times < TIMES_MAX {
            reactor.enqueue(Priority::High, again);
        }
    }
    let (ours, client) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let mut reactor = Reactor::new()?;
    reactor.enqueue(Priority::High, again);
    let read = waterwheel::reactor::Interest::READABLE;
    reactor.register(Fd(ours), read, |reactor, _, _, _| reactor.stop())?;
    let mut state = State { times: 0, client };
    reactor.run(&mut state)?;
    Ok(state.times)
}

struct State {
    times: u64,
    client: UnixStream,
}
