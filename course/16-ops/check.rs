//! Eight sentences about `ops.rs`. The door is a script, on a machine whose descriptors are counted,
//! and the time is a number. Who comes and goes is drawn from a seed.

use std::collections::BTreeMap;
use std::time::Duration;

use kit::{Descriptor, DoorScript, Report, expect, same, seeds};

#[path = "ops.rs"]
#[allow(clippy::all, dead_code)]
#[rustfmt::skip]
mod ops;

use ops::{Ops, REST};

const GRACE: Duration = Duration::from_secs(10);

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A server with so many connections, numbers 0 and so on; those named are owed an answer.
fn serving(count: usize, owed: &[usize]) -> (Ops<DoorScript>, DoorScript, Vec<Descriptor>) {
    let door = DoorScript::new(1000);
    let mut ops = Ops::new(door.clone(), 1000);
    door.come(count);
    let sockets: Vec<_> = ops.accept(at(0)).into_iter().map(|(_, socket)| socket).collect();
    same(sockets.len(), count, "All who wait are let in.");
    owed.iter().for_each(|conn| ops.asked(*conn));
    (ops, door, sockets)
}

#[test]
fn one_more_than_the_limit_is_refused_and_a_leaver_makes_room() {
    seeds(200, |seed| {
        let (door, limit) = (DoorScript::new(1000), 1 + seed.below(8) as usize);
        let mut ops = Ops::new(door.clone(), limit);
        let (mut inside, mut refused, mut next) = (BTreeMap::new(), 0, 0);
        for act in 0..100 {
            if seed.once_in(2) {
                let count = seed.below(4) as usize;
                door.come(count);
                if seed.once_in(5) {
                    door.come_and_go();
                    door.come(1);
                }
                let waiting = door.waiting();
                let come_and_go = usize::from(waiting > count);
                let wanted = count + come_and_go;
                let room = wanted.min(limit - inside.len());
                let came = ops.accept(at(act));
                let numbers: Vec<_> = came.iter().map(|(number, _)| *number).collect();
                let expected: Vec<_> = (next..next + room).collect();
                same(numbers, expected, "Those are let in for whom there is room.");
                next += room;
                refused += (wanted - room) as u64;
                inside.extend(came);
            } else if !inside.is_empty() {
                let all: Vec<usize> = inside.keys().copied().collect();
                let conn = seed.pick(&all);
                inside.remove(&conn);
                expect(ops.gone(conn), "It was there, so `gone` says true.");
                expect(!ops.gone(conn), "It has gone before, so `gone` says false.");
            }
            same(ops.refused, refused, "Those without room are counted.");
            same(door.waiting(), 0, "Nobody is left waiting.");
            same(door.free(), 999 - inside.len(), "A refused one is closed; one spare is kept.");
        }
    });
}

#[test]
fn without_descriptors_all_who_wait_are_told_and_it_rests() {
    let door = DoorScript::new(6);
    let mut ops = Ops::new(door.clone(), 1000);
    door.come(20);
    let inside = ops.accept(at(0));
    same(inside.len(), 5, "Six descriptors, and one of them is the spare.");
    same(door.waiting(), 0, "Nobody is left waiting, who would not know why.");
    same(door.closed().len(), 15, "The other fifteen are closed.");
    same(ops.refused, 15, "They are counted as refused.");
    same(door.free(), 0, "The spare is taken again.");
    let calls = door.calls();
    expect(calls <= 25, &format!("{calls} calls of `accept` for 20 clients."));
    same(ops.wake_at(), Some(REST), "It wants to wake at the end of the rest.");
    door.come(3);
    (0..1000).for_each(|_| drop(ops.accept(REST - at(1))));
    same(door.calls(), calls, "While it rests, it does not ask the door.");
    let again = ops.accept(REST);
    same(again.len(), 0, "There is still no descriptor.");
    same((door.waiting(), ops.refused), (0, 18), "The next three are told, too.");
    drop(inside);
    door.come(1);
    let later = ops.accept(3 * REST);
    same(later.len(), 1, "Some have left, and it lets in again.");
    same(ops.wake_at(), None, "It does not rest any more.");
}

#[test]
fn who_has_gone_in_the_meantime_stops_nobody() {
    let door = DoorScript::new(100);
    let mut ops = Ops::new(door.clone(), 1000);
    for _ in 0..3 {
        door.come_and_go();
        door.come(1);
    }
    let came = ops.accept(at(0));
    same(came.len(), 3, "Three have gone, and three are let in, in one call.");
    same((ops.refused, ops.wake_at()), (0, None), "Nobody was refused, and it does not rest.");
}

#[test]
fn a_drain_closes_who_is_owed_nothing_and_waits_for_the_others() {
    let (mut ops, door, sockets) = serving(4, &[1, 3]);
    let free = door.free();
    same(ops.drain(at(0), GRACE), [0, 2], "0 and 2 are owed nothing: they are closed now.");
    same(door.free(), free + 1, "The spare is given back.");
    door.come(1);
    same(ops.accept(at(1)).len(), 0, "The door is closed: nobody comes in.");
    same(ops.report(), None, "Two are owed an answer, so it is not over.");
    ops.asked(0);
    expect(!ops.answered(0), "0 was closed before; an answer changes nothing.");
    expect(ops.answered(1), "1 has its answer: it is to be closed now.");
    ops.asked(3); // It asks again before its first answer.
    expect(ops.answered(3), "3 has its answer.");
    let report = Report { connections: 4, idle: 2, finished: 2, aborted: 0 };
    same(ops.report(), Some(report), "All have gone.");
    same(ops.wake_at(), None, "There is nothing to wait for.");
    let (mut ops, ..) = serving(1, &[0]);
    expect(!ops.answered(0), "There is no drain: the connection stays.");
    drop(sockets);
}

#[test]
fn at_the_deadline_the_rest_is_aborted() {
    let (mut ops, ..) = serving(5, &[0, 1, 2, 3]);
    ops.drain(at(500), GRACE);
    same(ops.wake_at(), Some(at(500) + GRACE), "It wants to wake at the deadline.");
    ops.answered(0);
    ops.gone(2);
    same(ops.expire(at(499) + GRACE), [], "It is not time yet.");
    same(ops.expire(at(500) + GRACE), [1, 3], "Those who are left are aborted.");
    let report = Report { connections: 5, idle: 1, finished: 2, aborted: 2 };
    same(ops.report(), Some(report), "Each counts once.");
    same(ops.expire(at(501) + GRACE), [], "Nobody is aborted twice.");
    let (mut ops, ..) = serving(1, &[0]);
    same(ops.expire(at(0) + 2 * GRACE), [], "Without a drain nobody is aborted.");
}

#[test]
fn a_second_drain_only_makes_the_deadline_earlier() {
    let (mut ops, ..) = serving(2, &[1]);
    ops.drain(at(0), GRACE);
    same(ops.drain(at(1000), GRACE), [], "The idle ones are closed already.");
    same(ops.wake_at(), Some(GRACE), "A later deadline is not taken.");
    ops.drain(at(2000), at(0));
    same(ops.wake_at(), Some(at(2000)), "An earlier one is.");
    same(ops.expire(at(2000)), [1], "And it counts.");
    let report = Report { connections: 2, idle: 1, finished: 0, aborted: 1 };
    same(ops.report(), Some(report), "There is one report, about the connections of the first.");
}

#[test]
fn a_report_adds_up_whatever_happens() {
    seeds(200, |seed| {
        let count = seed.below(20) as usize;
        let owed: Vec<usize> = (0..count).filter(|_| seed.once_in(2)).collect();
        let (mut ops, ..) = serving(count, &owed);
        let idle = ops.drain(at(0), GRACE).len();
        same(idle, count - owed.len(), "Those who are owed nothing are idle.");
        let mut left = owed.clone();
        for _ in 0..seed.below(40) {
            let conn = seed.below(20) as usize;
            let was_there = left.contains(&conn);
            match seed.below(3) {
                0 => {
                    ops.asked(conn);
                    continue;
                }
                1 => same(ops.answered(conn), was_there, "Who is left is closed with its answer."),
                _ => same(ops.gone(conn), was_there, "Who is left has gone."),
            }
            left.retain(|other| *other != conn);
        }
        let is_over = ops.report().is_some();
        same(is_over, left.is_empty(), "The report comes when nobody is left, and not before.");
        same(ops.expire(GRACE), left.clone(), "The deadline: who is left is aborted.");
        let finished = owed.len() - left.len();
        let report = Report { connections: count, idle, finished, aborted: left.len() };
        same(ops.report(), Some(report), "The numbers add up.");
    });
}

#[test]
fn it_says_why_it_runs() {
    let (mut ops, ..) = serving(3, &[2]);
    ops.gone(0);
    let why = ["the door is open", "connection 1 is open", "connection 2 is owed an answer"];
    same(ops.why_alive(), why, "The door and two connections.");
    ops.drain(at(0), GRACE);
    same(ops.why_alive(), ["connection 2 is owed an answer"], "One answer is owed.");
    ops.answered(2);
    same(ops.why_alive(), Vec::<String>::new(), "Nothing holds it any more.");
}
