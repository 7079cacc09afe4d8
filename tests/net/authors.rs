//! What a protocol of one's own may do: see the head of `net/authors.rs`.

use std::time::Duration;

use waterwheel::net::{self, Conn, DrainReport, Event, memory};
use waterwheel::timers::ManualClock;
use waterwheel::{Context, Reactor, SourceId};

const SECOND: Duration = Duration::from_secs(1);

/// What the peer has heard, and how the drain has ended.
#[derive(Default)]
struct Program {
    heard: Vec<u8>,
    reports: Vec<DrainReport>,
    nudges: usize,
}

/// Runs a server's handler that closes itself, over memory. Its peer says `says`, a drain with a
/// grace of a minute begins behind that, and the loop runs until the report.
fn drained(
    says: &[u8],
    mut handler: impl FnMut(&mut Context<Program>, &mut Program, SourceId<Conn>, &[u8]) + 'static,
) -> (Program, Duration) {
    let clock = ManualClock::new();
    let mut reactor = Reactor::builder().clock(&clock).build().unwrap();
    let mut program = Program::default();
    let (client, server) = memory::pair(&mut reactor);
    let client = client.open(&mut reactor, |_, program: &mut Program, _, event| {
        if let Event::Data(bytes) = event {
            program.heard.extend_from_slice(bytes);
        }
    });
    let mut server = server.accepted();
    assert!(server.closes_itself());
    server.open(&mut reactor, move |reactor, program, id, event| {
        if let Event::Data(bytes) = event {
            handler(reactor, program, id, bytes);
        }
    });
    let _ = client.write(&mut reactor, says);
    reactor.turn(&mut program, Some(Duration::ZERO)).unwrap();
    let begun = reactor.now();
    net::drain(&mut reactor, 60 * SECOND, |reactor, program: &mut Program, report| {
        program.reports.push(report);
        reactor.stop();
    });
    reactor.run(&mut program).unwrap();
    let took = reactor.now() - begun;
    (program, took)
}

/// Says goodbye if it is to end and nothing is in flight.
fn end_if_drained(conn: &mut Conn) {
    if conn.is_drained() {
        let _ = conn.write(b"bye");
        conn.close();
    }
}

/// Answers later, in the nudge that says so, with `answer`.
fn answered(answer: &'static [u8]) -> (Program, Duration) {
    let mut asked = false;
    drained(b"ask", move |reactor, program, id, bytes| {
        let conn = &mut reactor[id];
        if bytes == b"ask" {
            asked = true;
            conn.hold();
            reactor.after(SECOND, move |reactor, _| assert!(id.nudge(reactor)));
            return;
        }
        program.nudges += 1;
        if std::mem::take(&mut asked) {
            conn.release();
            let _ = conn.write(answer);
        }
        end_if_drained(conn);
    })
}

#[test]
fn answer_that_is_sent_in_a_nudge_is_followed_by_a_goodbye() {
    for (answer, heard) in [(&b"answer, "[..], "answer, bye"), (b"", "bye")] {
        let (program, took) = answered(answer);
        assert_eq!(String::from_utf8(program.heard).unwrap(), heard);
        assert!(took < 3 * SECOND, "{took:?}");
        assert_eq!((program.reports[0].finished, program.reports[0].aborted), (1, 0));
    }
}

#[test]
fn handler_that_does_not_close_is_left_alone_until_something_happens() {
    let (program, took) = drained(b"begun", |reactor, program, id, bytes| {
        program.nudges += usize::from(bytes.is_empty());
        if program.nudges == 1 {
            let _ = id.write(reactor, b"still here"); // And not again and again.
        }
    });
    assert!((1..=2).contains(&program.nudges), "{} nudges", program.nudges);
    assert_eq!((program.reports[0].aborted, took), (1, 60 * SECOND));
}
