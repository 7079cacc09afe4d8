//! Ten sentences about `stream.rs`. The kernel reports changes of a scripted stream; time passes
//! in it only while nothing is ready.

use std::slice;
use std::time::Duration;

use kit::{
    Event, Heard, Kernel, Limits, Next, Pressure, Says, Wire, Wires, expect, refuse, same, seeds,
};

#[path = "stream.rs"]
#[allow(clippy::all, dead_code, unused)]
#[rustfmt::skip]
mod stream;

use stream::{READS_MAX, Stream};

const LIMITS: Limits = Limits { low: 2000, high: 6000, max: 11_000 };
const BOTH: Heard = Heard { token: 0, readable: true, writable: true, hung_up: false };
const ROOM: Heard = Heard { readable: false, ..BOTH };
/// How often a stream may be driven before the check gives up.
const DRIVES_MAX: usize = 20_000;

/// Drives the stream until it is over. `after` is called after each time.
fn serve(
    wire: &Wire,
    stream: &mut Stream<Wire>,
    mut handler: impl FnMut(&mut Stream<Wire>, Event<'_>),
    mut after: impl FnMut(&mut Stream<Wire>),
) {
    let (mut kernel, mut next) = (Wires::edge(slice::from_ref(wire)), Next::Wait);
    for _ in 0..DRIVES_MAX {
        let (mut ready, at_once) = (Vec::new(), next == Next::Again);
        if kernel.poll(at_once.then_some(Duration::ZERO), &mut ready).is_err() {
            let unsent = stream.outbox.len();
            refuse(&format!(
                "It says Wait, and the kernel will report nothing more: {unsent} bytes are unsent."
            ));
        }
        next = stream.drive(ready.pop().unwrap_or_default(), &mut handler);
        after(stream);
        if next == Next::Over {
            return;
        }
    }
    refuse("It was driven 20,000 times, and is not over.");
}

/// Sends back what comes, and stops reading while too much is unsent.
fn echo(stream: &mut Stream<Wire>, event: Event<'_>) {
    match event {
        Event::Data(bytes) => match stream.write(bytes) {
            Pressure::Below => {}
            Pressure::AboveHigh => stream.is_paused = true,
            Pressure::Refused => refuse("Data came though it was paused, and had no room."),
        },
        Event::Drained => stream.is_paused = false,
        Event::End => stream.shutdown(),
    }
}

#[test]
fn a_write_is_taken_whole_or_not_at_all() {
    seeds(200, |seed| {
        let (wire, mut taken) = (Wire::new(), 0);
        let mut stream = Stream::new(wire.clone(), LIMITS);
        for act in 0..50 {
            let (count, unsent) = (seed.below(3000) as usize, taken - wire.written().len());
            let expected = match unsent + count {
                0..=6000 => Pressure::Below,
                6001..=11_000 => Pressure::AboveHigh,
                _ => Pressure::Refused,
            };
            let what = format!("Act {act}: {unsent} bytes are unsent, and write gets {count}.");
            same(stream.write(&vec![7; count]), expected, &what);
            taken += if expected == Pressure::Refused { 0 } else { count };
            let unsent = taken - wire.written().len();
            same(stream.outbox.len(), unsent, "The outbox has all bytes of a write, or none.");
            if unsent > 1 && seed.once_in(5) {
                wire.to_write([Says::Takes(unsent / 2), Says::Later]);
                stream.drive(ROOM, |_, _| {});
                wire.time_passes();
            }
        }
        same(wire.calls().writes_after_later, 0, "After WouldBlock it does not write again.");
    });
    let mut stream = Stream::new(Wire::new(), LIMITS);
    same(stream.write(&[7; 6000]), Pressure::Below, "The high mark itself is not above it.");
    same(stream.write(&[7; 5000]), Pressure::AboveHigh, "As many as the limit are taken.");
    same(stream.write(&[7; 1]), Pressure::Refused, "One more is not.");
}

#[test]
fn drained_comes_once_and_at_the_low_mark() {
    let wire = Wire::new();
    let mut stream = Stream::new(wire.clone(), LIMITS);
    let drive = |stream: &mut Stream<Wire>, takes: usize| {
        wire.to_write([Says::Takes(takes), Says::Later]);
        let mut count = 0;
        stream.drive(ROOM, |_, event| count += usize::from(event == Event::Drained));
        wire.time_passes();
        count
    };
    stream.write(&[7; 6000]);
    same(drive(&mut stream, 5000), 0, "6,000 bytes are not above the high mark: no Drained.");
    stream.write(&[7; 9000]);
    same(drive(&mut stream, 7000), 0, "3,000 bytes are unsent; that is more than the low mark.");
    same(drive(&mut stream, 999), 0, "2,001 bytes are unsent; that is more than the low mark.");
    same(drive(&mut stream, 1), 1, "2,000 bytes are unsent: now there is room.");
    same(drive(&mut stream, 1000), 0, "Drained comes once.");
    stream.write(&[7; 6000]);
    same(drive(&mut stream, 3000), 0, "4,000 bytes are unsent; that is more than the low mark.");
    same(stream.write(&[7; 100]), Pressure::Below, "4,100 bytes are not above the high mark.");
    same(
        drive(&mut stream, 3000),
        1,
        "Nobody has told the one that was to stop: now there is room.",
    );
    stream.write(&[7; 9000]);
    stream.shutdown();
    same(drive(&mut stream, 10_000), 0, "After shutdown nobody can write, so there is no Drained.");
}

#[test]
fn a_hang_up_alone_is_read_out() {
    let wire = Wire::new();
    let mut stream = Stream::new(wire.clone(), LIMITS);
    wire.to_read([Says::Bytes(b"bye".into()), Says::End]);
    let (mut got, mut ends) = (Vec::new(), 0);
    let hang_up = Heard { token: 0, readable: false, writable: false, hung_up: true };
    stream.drive(hang_up, |_, event| match event {
        Event::Data(bytes) => got.extend_from_slice(bytes),
        Event::End => ends += 1,
        Event::Drained => {}
    });
    same(String::from_utf8_lossy(&got), "bye", "The peer has hung up, and these bytes were there.");
    same(ends, 1, "Behind them is the end.");
}

#[test]
fn the_stream_is_finished_behind_its_last_byte() {
    let wire = Wire::new();
    let mut stream = Stream::new(wire.clone(), LIMITS);
    wire.to_write([Says::Takes(400), Says::Later]);
    stream.write(&[7; 1000]);
    stream.shutdown();
    same(stream.write(b"more"), Pressure::Refused, "After shutdown a write is refused.");
    stream.drive(BOTH, |_, _| {});
    expect(!wire.is_finished(), "600 bytes are unsent, and it has sent the end already.");
    wire.time_passes();
    let next = stream.drive(ROOM, |_, _| {});
    same(wire.written().len(), 1000, "All bytes are sent.");
    expect(wire.is_finished(), "All bytes are sent, so the end follows.");
    same(next, Next::Wait, "The peer has not finished, so the stream is not over.");
    wire.to_read([Says::Bytes(b"bye".into()), Says::End]);
    let mut got = Vec::new();
    let next = stream.drive(Heard { hung_up: true, ..BOTH }, |_, event| match event {
        Event::Data(bytes) => got.extend_from_slice(bytes),
        Event::Drained => refuse("Nobody has written, so there is no Drained."),
        Event::End => got.push(b'.'),
    });
    same(String::from_utf8_lossy(&got), "bye.", "What the peer sends is still received.");
    same(next, Next::Over, "Both directions have ended.");
}

#[test]
fn the_end_of_the_peer_is_not_ours() {
    let (wire, mut ends) = (Wire::new(), 0);
    let mut stream = Stream::new(wire.clone(), LIMITS);
    wire.to_read([Says::Bytes(b"how many?".into()), Says::End]);
    let mut end = |_: &mut Stream<Wire>, event: Event<'_>| {
        ends += usize::from(event == Event::End);
    };
    same(stream.drive(BOTH, &mut end), Next::Wait, "The peer has finished, and we have not.");
    same(stream.write(b"five"), Pressure::Below, "It can still write.");
    same(stream.drive(BOTH, &mut end), Next::Wait, "It has not called shutdown.");
    stream.shutdown();
    same(stream.drive(BOTH, &mut end), Next::Over, "Both directions have ended.");
    same(String::from_utf8_lossy(&wire.written()), "five", "The answer was sent.");
    same(ends, 1, "The handler gets one End.");
}

#[test]
fn a_paused_stream_reads_nothing_and_then_all() {
    let wire = Wire::new();
    let mut stream = Stream::new(wire.clone(), LIMITS);
    wire.to_read((0..5).map(|_| Says::Bytes(vec![7; 100])));
    let mut got = 0;
    let mut pause = |stream: &mut Stream<Wire>, event: Event<'_>| {
        if let Event::Data(bytes) = event {
            got += bytes.len();
            stream.is_paused = got < 300;
        }
    };
    same(stream.drive(BOTH, &mut pause), Next::Wait, "It is paused, so there is nothing to do.");
    same(stream.drive(BOTH, &mut pause), Next::Wait, "It is still paused.");
    same(wire.calls().reads, 1, "The handler has paused it after the first read.");
    stream.is_paused = false;
    let what = "The handler has paused it again, after the second read.";
    same(stream.drive(Heard::default(), &mut pause), Next::Wait, what);
    same(wire.calls().reads, 2, "The bytes were there; the kernel reports no change for them.");
    stream.is_paused = false;
    stream.drive(Heard::default(), &mut pause);
    same(got, 500, "Then the rest is read, without a report.");
}

#[test]
fn a_flood_is_read_in_parts() {
    let wire = Wire::new();
    let mut stream = Stream::new(wire.clone(), LIMITS);
    wire.to_read((0..100).map(|_| Says::Bytes(vec![7; 100])));
    for turn in 1..=100 / READS_MAX {
        let next = stream.drive(if turn == 1 { BOTH } else { Heard::default() }, |_, _| {});
        same(wire.calls().reads, turn * READS_MAX, "In one drive it reads READS_MAX times.");
        same(next, Next::Again, "More may be there, and the kernel will not report it.");
    }
    same(stream.drive(Heard::default(), |_, _| {}), Next::Wait, "All has been read.");
    same(wire.calls().reads_after_later, 0, "After WouldBlock it does not read again.");
}

#[test]
fn close_takes_the_input_to_its_end() {
    for is_paused in [false, true] {
        let wire = Wire::new();
        let mut stream = Stream::new(wire.clone(), LIMITS);
        wire.to_read([Says::Bytes(vec![7; 9000]), Says::Later, Says::Bytes(vec![7; 5])]);
        wire.to_read([Says::Later, Says::End]);
        wire.to_write([Says::Takes(4), Says::Later]);
        stream.write(b"too large");
        stream.is_paused = is_paused;
        stream.close();
        serve(&wire, &mut stream, |_, _| refuse("It was closed; nobody is called."), |_| {});
        same(String::from_utf8_lossy(&wire.written()), "too large", "The answer was sent.");
        expect(wire.is_finished(), "It has sent its end.");
        expect(
            wire.clone().has_end() && wire.calls().reads >= 6,
            "It is over only after the peer's end was read.",
        );
    }
}

#[test]
fn every_byte_comes_back_and_the_outbox_keeps_its_limit() {
    seeds(200, |seed| {
        let (wire, mut sent) = (Wire::new(), Vec::new());
        for _ in 0..seed.below(15) {
            let count = 1 + seed.below(9000) as usize;
            let bytes = seed.bytes(count);
            sent.extend_from_slice(&bytes);
            wire.to_read(seed.once_in(3).then_some(Says::Later));
            wire.to_read(seed.once_in(9).then_some(Says::Interrupted));
            wire.to_read([Says::Bytes(bytes)]);
            wire.to_write((0..seed.below(4)).map(|_| match seed.below(5) {
                0 | 1 => Says::Later,
                2 => Says::Interrupted,
                _ => Says::Takes(1 + seed.below(5000) as usize),
            }));
        }
        wire.to_read([Says::End]);
        let mut stream = Stream::new(wire.clone(), LIMITS);
        serve(&wire, &mut stream, echo, |stream| {
            let unsent = stream.outbox.len();
            expect(unsent <= 11_000, &format!("{unsent} bytes are unsent; 11,000 is the limit."));
        });
        expect(wire.written() == sent, "Every byte comes back, once and in order.");
        expect(wire.is_finished(), "The end comes behind the last byte.");
        let calls = wire.calls();
        same(calls.reads_after_later, 0, "After WouldBlock it does not read again.");
        same(calls.writes_after_later, 0, "After WouldBlock it does not write again.");
    });
}

#[test]
fn a_stream_that_is_never_empty_takes_no_more_memory() {
    let (wire, mut held) = (Wire::new(), 0);
    let mut stream = Stream::new(wire.clone(), LIMITS);
    stream.write(&[7; 500]);
    for turn in 0..10_000 {
        wire.to_read([Says::Bytes(vec![7; 1000]), Says::Later]);
        // The outbox may offer its bytes in two pieces; then it is asked once more.
        for _ in 0..3 {
            let room = if wire.is_read_out() { stream.outbox.len() - 500 } else { 1000 };
            if room > 0 {
                wire.to_write([Says::Takes(room), Says::Later]);
                stream.drive(BOTH, echo);
                wire.time_passes();
            }
        }
        same(stream.outbox.len(), 500, "1,000 bytes come in each turn, and 1,000 are sent.");
        let now = stream.outbox.capacity();
        expect(turn < 10 || now == held, "The outbox has moved into another piece of memory.");
        held = now;
    }
}
