//! Nine sentences about `sim.rs`. Sends come from a seed, and each end is compared with what was sent
//! to it. A chat with a bug is tried in 2,000 networks.

use kit::{Act, Arrival, Bug, End, Faults, Network, Seed, acts, expect, refuse, same, seeds, talk};

#[path = "sim.rs"]
#[allow(clippy::all, dead_code)]
#[rustfmt::skip]
mod sim;

use sim::{Net, shrink};

const CALM: Faults = Faults { delay_max_ms: 20, cuts: 0, resets: 0 };
const CUTS: Faults = Faults { delay_max_ms: 20, cuts: 30, resets: 0 };
const ALL: Faults = Faults { delay_max_ms: 20, cuts: 30, resets: 2 };
const PEOPLE: usize = 4;
/// In so many networks a bug must be found.
const SEEDS: u64 = 2000;

fn end(line: usize, side: usize) -> End {
    End { line, side }
}

/// All that arrives, up to a ceiling.
fn rest(net: &mut Net) -> Vec<(u64, End, Arrival)> {
    let all: Vec<_> = (0..10_000).map_while(|_| net.next()).collect();
    expect(all.len() < 10_000, "Things arrive without end, though nobody sends any more.");
    all
}

/// What was sent to an end, and what has arrived there.
#[derive(Default)]
struct Way {
    sent: Vec<u8>,
    sent_at: u64,
    is_closed: bool,
    got: Vec<u8>,
    has_finished: bool,
    is_reset: bool,
}

/// Sends from a seed to both ends of three lines; the network moves on between them. Each arrival
/// must be one that is allowed.
fn exchange(seed: &mut Seed, faults: Faults) -> Vec<Way> {
    let mut net = Net::new(seed.number(), faults);
    let mut ways: Vec<Way> = (0..6).map(|_| Way::default()).collect();
    (0..3).for_each(|line| same(net.connect(), line, "Lines are numbered from 0 on."));
    let mut now = 0;
    for act in 0..200 {
        let from = end(seed.below(3) as usize, seed.below(2) as usize);
        let way = &mut ways[2 * from.line + from.other().side];
        if seed.once_in(2) {
            arrive(net.next(), &mut ways, &mut now, faults);
        } else if !way.is_closed && seed.once_in(40) {
            (way.is_closed, way.sent_at) = (true, now);
            net.close(from);
        } else if !way.is_closed {
            let bytes = format!("<{act}>");
            net.send(from, bytes.as_bytes());
            way.sent.extend(bytes.bytes());
            way.sent_at = now;
        }
    }
    for arrival in rest(&mut net) {
        arrive(Some(arrival), &mut ways, &mut now, faults);
    }
    ways
}

fn arrive(next: Option<(u64, End, Arrival)>, ways: &mut [Way], now: &mut u64, faults: Faults) {
    let Some((due, to, arrival)) = next else { return };
    let what = format!("{arrival:?} arrives at {to:?} after {due} ms.");
    expect(due >= *now, &format!("{what} It was {now} ms before that: time goes back."));
    *now = due;
    let way = &mut ways[2 * to.line + to.side];
    expect(!way.is_reset, &format!("{what} This end has got its Reset before."));
    expect(!way.has_finished || arrival == Arrival::Reset, &format!("{what} It has Finished."));
    let latest = way.sent_at + faults.delay_max_ms;
    match arrival {
        Arrival::Reset => return way.is_reset = true,
        Arrival::Finished => {
            let sent = way.sent.escape_ascii().to_string();
            same(way.got.escape_ascii().to_string(), sent, &format!("{what} All has come before."));
            expect(way.is_closed, &format!("{what} The other side has not closed."));
            way.has_finished = true;
        }
        Arrival::Bytes(bytes) => {
            expect(!bytes.is_empty(), &format!("{what} A piece is never empty."));
            way.got.extend(bytes);
            let (got, sent) = (way.got.escape_ascii(), way.sent.escape_ascii());
            let order = format!("{what} What has arrived is the beginning of what was sent.");
            let is_right = way.sent.starts_with(&way.got);
            expect(is_right, &format!("{order}\n  sent:     {sent}\n  arrived:  {got}"));
        }
    }
    let late = format!("{what} The last send to this end was at {} ms.", way.sent_at);
    expect(due <= latest, &late);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let mut traces = Vec::new();
    seeds(100, |seed| {
        let (number, acts) = (seed.number(), acts(seed, PEOPLE, 30));
        let run = || talk(&mut Net::new(number, ALL), None, PEOPLE, &acts).trace;
        same(run(), run(), "The same seed twice: each arrival is the same.");
    });
    for seed in 1..=100 {
        let acts = acts(&mut Seed::new(1), PEOPLE, 30);
        traces.push(format!("{:?}", talk(&mut Net::new(seed, ALL), None, PEOPLE, &acts).trace));
    }
    traces.sort();
    traces.dedup();
    expect(traces.len() > 90, "A hundred seeds: nearly each of them gives another run.");
}

#[test]
fn without_a_reset_all_bytes_arrive_in_order_and_then_the_end() {
    seeds(200, |seed| {
        for way in exchange(seed, CUTS) {
            same(way.got.len(), way.sent.len(), "There is no reset, so all bytes arrive.");
            same(way.has_finished, way.is_closed, "Who has closed, and nobody else, has Finished.");
            expect(!way.is_reset, "There are no resets here.");
        }
    });
}

#[test]
fn things_to_different_ends_overtake_each_other() {
    let (mut delays, mut overtaken) = (vec![0; 30], 0);
    for seed in 1..=500 {
        let mut net = Net::new(seed, CALM);
        (0..2).for_each(|line| same(net.connect(), line, "Lines are numbered."));
        net.send(end(0, 0), b"first");
        net.send(end(1, 0), b"second");
        let all = rest(&mut net);
        same(all.len(), 2, "Two sends, no cuts: two arrivals.");
        overtaken += usize::from(all[0].1.line == 1);
        all.iter().for_each(|(due, ..)| delays[(*due as usize).min(29)] += 1);
    }
    let seen: Vec<usize> = (0..30).filter(|delay| delays[*delay] > 0).collect();
    same(seen, (1..=20).collect::<Vec<_>>(), "A delay is any of 1 to delay_max_ms.");
    expect(
        (150..=350).contains(&overtaken),
        &format!(
            "Of 500 times the second comes first about half of the times, and not {overtaken}."
        ),
    );
    let mut net = Net::new(1, Faults { delay_max_ms: 1, ..CALM });
    (0..50).for_each(|line| same(net.connect(), line, "Lines are numbered."));
    (0..50).rev().for_each(|line| net.send(end(line, 0), b"x"));
    let lines: Vec<usize> = rest(&mut net).iter().map(|arrival| arrival.1.line).collect();
    let sentence = "All take 1 ms: they arrive in the order in which they were sent.";
    same(lines, (0..50).rev().collect::<Vec<_>>(), sentence);
}

#[test]
fn a_send_is_cut_at_any_place() {
    let (mut places, mut cut, mut ones) = ([0; 6], 0, 0);
    for seed in 1..=2000 {
        let mut net = Net::new(seed, CUTS);
        net.connect();
        net.send(end(0, 0), b"123456");
        let pieces = rest(&mut net);
        expect(pieces.len() <= 2, "A send arrives in one piece or in two.");
        if let (2, Arrival::Bytes(bytes)) = (pieces.len(), &pieces[0].2) {
            places[bytes.len().min(5)] += 1;
            cut += 1;
        }
        net.send(end(0, 0), b"1");
        ones = ones.max(rest(&mut net).len());
    }
    expect(
        places[1..].iter().all(|count| *count > 30),
        &format!("Six bytes can be cut at five places; so often it was there: {:?}.", &places[1..]),
    );
    expect(
        (450..=750).contains(&cut),
        &format!("Of 2,000 sends about 600 are cut, and not {cut}."),
    );
    same(ones, 1, "One byte cannot be cut.");
}

#[test]
fn after_a_reset_nothing_arrives_and_both_ends_hear_it_once() {
    seeds(200, |seed| {
        for pair in exchange(seed, Faults { resets: 5, ..ALL }).chunks(2) {
            let sentence = "A reset comes to both ends, or to none.";
            same(pair[0].is_reset, pair[1].is_reset, sentence);
            if !pair[0].is_reset {
                same(pair[0].got.len(), pair[0].sent.len(), "Without a reset all bytes arrive.");
            }
        }
    });
    let always = Faults { resets: 100, ..CALM };
    let mut apart = 0;
    for seed in 1..=200 {
        let mut net = Net::new(seed, always);
        net.connect();
        (0..2).for_each(|side| net.send(end(0, side), b"lost"));
        net.close(end(0, 0));
        let all = rest(&mut net);
        let sentence = "Each send meets a reset: one Reset to each end, and nothing else.";
        same(
            all.iter().map(|arrival| &arrival.2).collect::<Vec<_>>(),
            [&Arrival::Reset; 2],
            sentence,
        );
        expect(all[0].1 == all[1].1.other(), "The two are for the two ends.");
        apart += u64::from(all[0].0 != all[1].0);
    }
    expect(apart > 100, "Each end gets its Reset after a time of its own.");
    let mut resets = 0;
    for seed in 1..=2000 {
        let mut net = Net::new(seed, Faults { resets: 10, ..CALM });
        net.connect();
        net.send(end(0, 0), b"maybe");
        resets += u64::from(rest(&mut net).len() == 2);
    }
    expect(
        (130..=270).contains(&resets),
        &format!("Of 2,000 sends about 200 meet a reset, and not {resets}."),
    );
}

#[test]
fn what_happens_to_a_line_does_not_depend_on_the_others() {
    let (mut alone, mut among) = (0, 0);
    for seed in 1..=200 {
        let run = |others: bool| {
            let mut net = Net::new(seed, Faults { resets: 10, ..ALL });
            (0..3).for_each(|line| same(net.connect(), line, "Lines are numbered from 0 on."));
            for number in 0..5 {
                if others {
                    net.send(end(1, 0), b"another line");
                    net.send(end(0, 1), b"the other side");
                }
                net.send(end(0, 0), format!("send {number}").as_bytes());
            }
            let of_first = |arrival: &(u64, End, Arrival)| {
                arrival.1 == end(0, 1) && arrival.2 != Arrival::Reset
            };
            let all = rest(&mut net);
            let was_reset = all.iter().any(|it| it.1.line == 0 && it.2 == Arrival::Reset);
            (all.into_iter().filter(of_first).collect::<Vec<_>>(), was_reset)
        };
        let (quiet, was_reset) = run(false);
        let (busy, was_reset_too) = run(true);
        if !was_reset && !was_reset_too {
            let what =
                format!("Seed {seed}: others send as well, and this line's arrivals differ.");
            same(busy, quiet, &what);
            alone += 1;
        }
        among += 1;
    }
    expect(alone > among / 10, "Nearly each of these lines was reset: one send in ten is.");
}

/// The first seed in whose network this chat fails, its acts, and what is wrong.
fn find(bug: Option<Bug>) -> Option<(u64, Vec<Act>, String)> {
    (1..=SEEDS).find_map(|seed| {
        let acts = acts(&mut Seed::new(seed), PEOPLE, 30);
        let wrong = talk(&mut Net::new(seed, ALL), bug, PEOPLE, &acts).wrong;
        wrong.map(|wrong| (seed, acts, wrong))
    })
}

#[test]
fn each_bug_of_the_chat_is_found_and_a_chat_without_one_is_right() {
    if let Some((seed, _, wrong)) = find(None) {
        refuse(&format!("A chat without a bug fails in the network of seed {seed}: {wrong}."));
    }
    for bug in [Bug::OneBuffer, Bug::LostLine, Bug::Ghost] {
        if find(Some(bug)).is_none() {
            refuse(&format!("{bug:?} is found in none of {SEEDS} networks."));
        }
    }
}

#[test]
fn what_is_shrunk_fails_and_none_of_it_can_be_left_out() {
    seeds(200, |seed| {
        let acts: Vec<u64> = (0..seed.below(60)).collect();
        let (a, b, c) = (seed.below(60), seed.below(60), seed.below(60));
        // Two acts fail together; or three, of which one is needed only if another one is there.
        let fails = |acts: &[u64]| {
            let has = |act| acts.contains(&act);
            has(a) && has(b) && (has(c) || !has((c + 1) % 60))
        };
        if !fails(&acts) {
            return;
        }
        let shrunk = shrink(&acts, fails);
        expect(fails(&shrunk), "What is left still fails.");
        expect(shrunk.is_sorted(), "The acts that are left keep their order.");
        for place in 0..shrunk.len() {
            let fewer = [&shrunk[..place], &shrunk[place + 1..]].concat();
            let what = format!(
                "{} of {} acts are left, and number {} of them can go.",
                shrunk.len(),
                acts.len(),
                place + 1
            );
            expect(!fails(&fewer), &what);
        }
    });
    for bug in [Bug::OneBuffer, Bug::LostLine, Bug::Ghost] {
        let Some((seed, acts, _)) = find(Some(bug)) else { continue }; // Another sentence says so.
        let fails =
            |acts: &[Act]| talk(&mut Net::new(seed, ALL), Some(bug), PEOPLE, acts).wrong.is_some();
        let shrunk = shrink(&acts, fails);
        expect(
            fails(&shrunk) && shrunk.len() < acts.len(),
            &format!("{bug:?}: fewer acts, and it still fails."),
        );
    }
}

#[test]
fn large_pieces_are_left_out_first() {
    let acts: Vec<usize> = (0..1000).collect();
    for (a, b) in [(3, 4), (0, 999), (500, 501), (123, 789)] {
        let mut runs = 0;
        let shrunk = shrink(&acts, |acts| {
            runs += 1;
            acts.contains(&a) && acts.contains(&b)
        });
        same(shrunk, [a, b], "Two of 1,000 acts fail together.");
        expect(
            runs < 200,
            &format!("It took {runs} runs to find two of 1,000 acts; 200 are enough."),
        );
    }
}
