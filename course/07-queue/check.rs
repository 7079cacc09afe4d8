//! Seven sentences about `queue.rs`. The model is a list, sorted by turn, lane and arrival.

use kit::{expect, refuse, same, seeds};

#[path = "queue.rs"]
#[allow(clippy::all, dead_code)]
#[rustfmt::skip]
mod queue;

use queue::{Lane, Queue};

const LANES: [Lane; 3] = [Lane::High, Lane::Normal, Lane::Low];

/// One turn: what the queue gives, up to a ceiling.
fn turn<T>(queue: &mut Queue<T>) -> Vec<T> {
    queue.begin_turn();
    (0..10_000).map_while(|_| queue.pop()).collect()
}

#[test]
fn a_lane_is_first_in_first_out() {
    for lane in LANES {
        let mut queue = Queue::new();
        (0..100).for_each(|value| queue.push(lane, value));
        let what =
            format!("Lane {lane:?}: the values come in the order in which they were pushed.");
        same(turn(&mut queue), (0..100).collect::<Vec<_>>(), &what);
    }
}

#[test]
fn lanes_order_a_turn() {
    let mut queue = Queue::new();
    for value in 0..30 {
        queue.push(LANES[2 - value % 3], value);
    }
    let mut expected: Vec<usize> = (0..30).collect();
    expected.sort_by_key(|value| 2 - value % 3);
    same(turn(&mut queue), expected, "High comes before Normal, and Normal before Low.");
}

#[test]
fn what_is_pushed_in_a_turn_waits_for_the_next_one() {
    for lane in LANES {
        let mut queue = Queue::new();
        LANES.into_iter().for_each(|lane| queue.push(lane, 1));
        queue.begin_turn();
        queue.pop();
        queue.push(lane, 2); // As a callback does that runs now.
        let rest: Vec<_> = (0..10).map_while(|_| queue.pop()).collect();
        let what = format!("It was pushed to {lane:?} after the turn began, so it waits.");
        same(rest, [1, 1], &what);
        same(turn(&mut queue), [2], "It comes in the next turn.");
    }
}

#[test]
fn the_low_lane_of_a_turn_comes_in_that_turn() {
    let mut queue = Queue::new();
    queue.push(Lane::Low, "low");
    for _ in 0..1000 {
        queue.push(Lane::High, "high");
    }
    same(queue.begin_turn(), 1001, "begin_turn gives the number of values in the batch.");
    let mut count = 0;
    while let Some(value) = queue.pop() {
        count += 1;
        queue.push(Lane::High, value); // High is never empty.
        if value == "low" {
            return same(count, 1001, "The Low value is the last of its turn.");
        }
        expect(count < 5000, "The Low value has waited for more values than there were.");
    }
    refuse("The turn is over, and the Low value was not in it.");
}

#[test]
fn one_that_pushes_itself_and_the_sources_take_turns() {
    let (mut queue, mut seen) = (Queue::new(), Vec::new());
    queue.push(Lane::High, 's'); // It pushes itself, each time it runs.
    for _ in 0..100 {
        queue.push(Lane::Normal, 'e'); // The kernel has an event: each turn one.
        queue.begin_turn();
        for _ in 0..10 {
            let Some(value) = queue.pop() else { break };
            seen.push(value);
            if value == 's' {
                queue.push(Lane::High, 's');
            }
        }
    }
    let seen: String = seen.into_iter().collect();
    same(seen, "se".repeat(100), "In each turn it runs once, and then the event.");
}

#[test]
fn the_queue_gives_what_the_model_gives() {
    seeds(200, |seed| {
        let mut ours = Queue::new();
        // Each with its turn, its lane, and its number.
        let (mut model, mut now): (Vec<(usize, Lane, usize)>, usize) = (Vec::new(), 0);
        for act in 0..1000 {
            match seed.below(8) {
                0 => {
                    now += 1;
                    // All that wait belong to this turn, also what an earlier one has left.
                    model.iter_mut().for_each(|entry| entry.0 = now);
                    let what = format!("Act {act}: begin_turn gives the number of all that wait.");
                    same(ours.begin_turn(), model.len(), &what);
                }
                1..=3 => {
                    let lane = seed.pick(&LANES);
                    ours.push(lane, act);
                    model.push((now + 1, lane, act));
                }
                _ => {
                    let next = model.iter().copied().filter(|entry| entry.0 == now).min();
                    model.retain(|entry| Some(*entry) != next);
                    let what = format!("Act {act}: pop gives the next value of the batch.");
                    same(ours.pop(), next.map(|entry| entry.2), &what);
                }
            }
            same(ours.len(), model.len(), &format!("Act {act}: len counts all that wait."));
        }
    });
}

#[test]
fn before_the_first_turn_there_is_nothing_to_pop() {
    let mut queue = Queue::new();
    same(queue.begin_turn(), 0, "The batch of an empty queue is empty.");
    queue.push(Lane::High, 1);
    same(queue.pop(), None, "It was pushed after that turn began.");
    same(turn(&mut queue), [1], "The next turn has it.");
    let mut queue = Queue::new();
    queue.push(Lane::Low, 1);
    same(queue.pop(), None, "No turn has begun.");
    same(queue.len(), 1, "The value is still there.");
}
