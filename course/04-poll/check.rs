//! Seven sentences about `wait.rs`, with a scripted poll(2) that has its own clock.

use std::collections::BTreeMap;
use std::time::Duration;

use kit::{
    Heard, Interest, Kernel, PollScript, Polled, Said, Says, Seed, Wire, Wires, expect, refuse,
    same, seeds,
};

#[cfg_attr(kept = "03", path = "../03-asking/ask.rs")]
#[cfg_attr(not(kept = "03"), path = "../03-asking/solution.rs")]
#[allow(clippy::all, dead_code)]
mod ask;
#[path = "wait.rs"]
#[allow(clippy::all, dead_code)]
#[rustfmt::skip]
mod wait;

use ask::Client;
use wait::Wait;

const READS: Interest = Interest { readable: true, writable: false };
const NOTHING: Said =
    Said { readable: false, writable: false, hung_up: false, failed: false, unknown: false };

/// One call of `poll`. Gives what was heard, in the order of the tokens.
fn poll(wait: &mut Wait<PollScript>, timeout: Option<Duration>) -> Vec<Heard> {
    let mut heard = Vec::new();
    if let Err(error) = wait.poll(timeout, &mut heard) {
        refuse(&format!("poll gives what the kernel has said, and no error: {error}."));
    }
    heard.sort_by_key(|heard| heard.token);
    heard
}

fn nanoseconds(seed: &mut Seed, most: u64) -> Duration {
    Duration::from_nanos(seed.below(most))
}

#[test]
fn each_socket_is_heard_once_with_all_that_was_said_of_it() {
    seeds(200, |seed| {
        let mut wait = Wait::new(PollScript::default());
        let mut model: BTreeMap<usize, (i32, Interest)> = BTreeMap::new();
        for act in 0..60 {
            let token = 1 + seed.below(20) as usize;
            let wants = Interest { readable: seed.once_in(2), writable: seed.once_in(2) };
            match (seed.below(3), model.get_mut(&token)) {
                (0, Some(_)) => {
                    model.remove(&token);
                    wait.deregister(token);
                }
                (_, Some(known)) => {
                    known.1 = wants;
                    wait.change(token, wants);
                }
                (_, None) => {
                    let number = 100 + act;
                    model.insert(token, (number, wants));
                    wait.register(number, token, wants);
                }
            }
            // Something is true of each socket, old ones included.
            let mut said = Vec::new();
            for number in 100..=100 + act {
                let mut once = |times| seed.once_in(times);
                let (readable, writable) = (once(3), once(3));
                let (hung_up, failed, unknown) = (once(5), once(9), once(19));
                said.push((number, Said { readable, writable, hung_up, failed, unknown }));
            }
            let expected: Vec<Heard> = model
                .iter()
                .filter_map(|(token, (number, wants))| {
                    let (_, said) = said[(number - 100) as usize];
                    let (readable, writable) =
                        (said.readable && wants.readable, said.writable && wants.writable);
                    let hung_up = said.hung_up || said.failed || said.unknown;
                    let heard = Heard { token: *token, readable, writable, hung_up };
                    (readable || writable || hung_up).then_some(heard)
                })
                .collect();
            if expected.is_empty() {
                continue; // The kernel would go on waiting.
            }
            wait.poll = PollScript::new([Polled::Says(Duration::ZERO, said)]);
            let heard = poll(&mut wait, None);
            same(heard, expected, &format!("Act {act}: what was heard is what was said."));
        }
    });
}

#[test]
fn a_hang_up_is_heard_alone_and_beside_bytes() {
    let hung_up = Said { hung_up: true, ..NOTHING };
    let failed = Said { failed: true, ..NOTHING };
    let all = Said { readable: true, hung_up: true, ..NOTHING };
    let says = vec![(10, hung_up), (11, all), (12, NOTHING), (13, failed)];
    let mut wait = Wait::new(PollScript::new([Polled::Says(Duration::ZERO, says)]));
    (0..4).for_each(|token| wait.register(10 + token as i32, token, READS));
    let heard: Vec<_> =
        poll(&mut wait, None).iter().map(|h| (h.token, h.readable, h.hung_up)).collect();
    let expected = [(0, false, true), (1, true, true), (3, false, true)];
    same(heard, expected, "A hang-up is heard, with bytes and without; a failure is one, too.");
}

#[test]
fn a_signal_does_not_move_the_deadline() {
    seeds(200, |seed| {
        let timeout = Duration::from_millis(1 + seed.below(5000));
        let count = 1 + seed.below(8);
        let signals = (0..count).map(|_| Polled::Interrupted(nanoseconds(seed, 900_000_000)));
        let mut wait = Wait::new(PollScript::new(signals.collect::<Vec<_>>()));
        wait.register(7, 0, READS);
        let heard = poll(&mut wait, Some(timeout));
        same(heard.len(), 0, "Nothing was said of any socket.");
        let (now, slack) = (wait.poll.now, Duration::from_millis(1));
        let what = format!("poll returns after {timeout:?}, though signals came; not at {now:?}.");
        expect(timeout <= now && now <= timeout + slack, &what);
    });
}

#[test]
fn a_signal_does_not_end_a_wait_without_a_timeout() {
    let second = Duration::from_secs(1);
    let says = Polled::Says(second, vec![(7, Said { readable: true, ..NOTHING })]);
    let signals = [Polled::Interrupted(second), Polled::Interrupted(second), says];
    let mut wait = Wait::new(PollScript::new(signals));
    wait.register(7, 0, READS);
    same(poll(&mut wait, None).len(), 1, "It waits until a socket is ready.");
    same(&wait.poll.asked[..], [-1, -1, -1], "Each time without a timeout: that is -1.");
}

#[test]
fn a_wait_is_never_too_short_and_asks_no_more_than_it_needs() {
    seeds(200, |seed| {
        let most = 10u64.pow(1 + seed.below(13) as u32);
        let timeout = nanoseconds(seed, most);
        let mut wait = Wait::new(PollScript::default());
        poll(&mut wait, Some(timeout));
        let now = wait.poll.now;
        expect(now >= timeout, &format!("A wait of {timeout:?} does not end after {now:?}."));
        same(wait.poll.asked.len(), 1, &format!("A wait of {timeout:?} needs one call."));
    });
    // As many milliseconds as fit into an i32 are 24.8 days.
    let days = Duration::from_secs(60 * 24 * 60 * 60);
    let mut wait = Wait::new(PollScript::default());
    poll(&mut wait, Some(days));
    expect(wait.poll.now >= days, "A wait of 60 days ends after 60 days.");
    let calls = wait.poll.asked.len();
    expect(calls <= 60, &format!("It needs one call for each day at most, and not {calls}."));
    let says = Polled::Says(days, vec![(7, Said { readable: true, ..NOTHING })]);
    let mut wait = Wait::new(PollScript::new([says]));
    wait.register(7, 0, READS);
    same(
        poll(&mut wait, Some(Duration::MAX)).len(),
        1,
        "The longest timeout of all is no mistake.",
    );
}

/// A client that sends, and takes what comes back, when it likes. Gives what it sends, and how many
/// things happen.
fn scripted(seed: &mut Seed) -> (Wire, Vec<u8>, usize) {
    let (wire, mut sent, mut events) = (Wire::new(), Vec::new(), 1);
    for _ in 0..seed.below(12) {
        let count = 1 + seed.below(4000) as usize;
        let bytes = seed.bytes(count);
        sent.extend_from_slice(&bytes);
        if seed.once_in(2) {
            wire.to_read([Says::Later]);
        }
        wire.to_read([Says::Bytes(bytes)]);
        let room = seed.below(4);
        wire.to_write((0..room).map(|_| match seed.once_in(2) {
            true => Says::Later,
            false => Says::Takes(1 + seed.below(3000) as usize),
        }));
        events += 1 + room as usize;
    }
    wire.to_read([Says::Later, Says::End]);
    (wire, sent, events)
}

/// Serves the wires until all have ended.
fn serve(scripts: &[(Wire, Vec<u8>, usize)]) {
    let wires: Vec<_> = scripts.iter().map(|(wire, ..)| wire.clone()).collect();
    let events: usize = scripts.iter().map(|(.., events)| events).sum();
    let mut wait = Wait::new(Wires::level(&wires));
    let mut clients = BTreeMap::new();
    for (token, wire) in wires.iter().enumerate() {
        wait.register(token as i32, token, READS);
        clients.insert(token, Client::new(wire.clone()));
    }
    while !clients.is_empty() && wait.poll.polls < 1000 + 20 * events {
        if let Err(error) = wait::turn(&mut wait, &mut clients, None) {
            refuse(&format!("{} clients have not ended, and {error}.", clients.len()));
        }
    }
    let polls = wait.poll.polls;
    let what = format!("{polls} polls for {events} events: it asks, and nothing can be done.");
    expect(polls <= events + 2, &what);
    for (wire, sent, _) in scripts {
        expect(wire.written() == *sent, "Every byte comes back, in order.");
    }
}

#[test]
fn a_server_sleeps_while_nothing_can_be_done() {
    let wire = Wire::new();
    wire.to_read([Says::Bytes(b"one".into()), Says::Later, Says::Bytes(b"two".into())]);
    wire.to_read([Says::Later, Says::Later, Says::End]);
    serve(&[(wire, b"onetwo".into(), 3)]);
}

#[test]
fn a_client_that_is_owed_bytes_is_asked_when_there_is_room() {
    seeds(200, |seed| {
        let scripts: Vec<_> = (0..1 + seed.below(4)).map(|_| scripted(seed)).collect();
        serve(&scripts);
    });
}
