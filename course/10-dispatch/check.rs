//! Eight sentences about `dispatch.rs`. What callbacks do is a script; a model does the same with
//! lists, and has no callbacks.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use kit::{expect, refuse, same, seeds};

#[path = "dispatch.rs"]
#[allow(clippy::all, dead_code)]
#[rustfmt::skip]
mod dispatch;
#[cfg_attr(kept = "07", path = "../07-queue/queue.rs")]
#[cfg_attr(not(kept = "07"), path = "../07-queue/solution.rs")]
#[allow(clippy::all, dead_code)]
mod queue;
#[cfg_attr(kept = "06", path = "../06-ids/registry.rs")]
#[cfg_attr(not(kept = "06"), path = "../06-ids/solution.rs")]
#[allow(clippy::all, dead_code)]
mod registry;

use dispatch::{DEFERRED_MAX, Loop};
use queue::Lane;
use registry::Id;

/// What a callback does. A number names a callback, in the order of insertion.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Act {
    Wake(Lane, usize),
    Remove(usize),
    /// Inserts a callback that does the script of this number.
    Insert(usize),
    /// Defers a call that does the script of this number.
    Defer(usize),
    Turn,
    Panic,
}

use Act::{Defer, Insert, Panic, Remove, Turn, Wake};

type Scripts = Rc<Vec<Vec<Act>>>;

/// The most acts of one run of a script: callbacks that wake each other twice fill any memory.
const ACTS_MAX: usize = 2000;

/// What callbacks share: what has run, and who is there.
struct Seen {
    log: String,
    ids: Vec<Id>,
    scripts: Scripts,
    acts: usize,
}

fn insert(rill: &mut Loop<Seen>, seen: &mut Seen, script: usize) {
    let number = seen.ids.len();
    let id = rill.insert(move |rill, seen, id| {
        let whose = if seen.ids[number] == id { "" } else { "(with the id of another one)" };
        seen.log += &format!(" {number}{whose}");
        act(rill, seen, script);
    });
    seen.ids.push(id);
}

fn act(rill: &mut Loop<Seen>, seen: &mut Seen, script: usize) {
    let scripts = seen.scripts.clone();
    for act in &scripts[script] {
        seen.acts += 1;
        if seen.acts > ACTS_MAX {
            return;
        }
        let id = |number: usize| seen.ids.get(number).copied();
        match *act {
            Wake(lane, number) => id(number).into_iter().for_each(|id| rill.wake(lane, id)),
            Remove(number) => {
                let removed = id(number).is_some_and(|id| rill.remove(id));
                seen.log += if removed { " -" } else { " =" };
            }
            Insert(script) => insert(rill, seen, script),
            Defer(script) => rill.defer(move |rill, seen: &mut Seen| {
                seen.log += &format!(" d{script}");
                self::act(rill, seen, script);
            }),
            Turn => {
                let ran = rill.turn(seen);
                seen.log += if ran { " TURN" } else { " t" };
            }
            Panic => resume_unwind(Box::new("the script says so")),
        }
    }
}

/// The same with lists. An event is its turn, its lane, its arrival and its callback.
#[derive(Default)]
struct Model {
    log: String,
    alive: Vec<Option<usize>>,
    events: Vec<(usize, Lane, usize, usize)>,
    deferred: VecDeque<usize>,
    left: usize,
    turn: usize,
    pushed: usize,
    panics: usize,
    acts: usize,
    scripts: Scripts,
}

impl Model {
    fn wake(&mut self, lane: Lane, number: usize) {
        self.pushed += 1;
        self.events.push((self.turn + 1, lane, self.pushed, number));
    }

    fn act(&mut self, script: usize) -> bool {
        let scripts = self.scripts.clone();
        for act in &scripts[script] {
            self.acts += 1;
            if self.acts > ACTS_MAX {
                return true;
            }
            match *act {
                Wake(lane, number) if number < self.alive.len() => self.wake(lane, number),
                Wake(..) => {}
                Remove(number) => {
                    let removed = self.alive.get_mut(number).and_then(Option::take).is_some();
                    self.log += if removed { " -" } else { " =" };
                }
                Insert(script) => self.alive.push(Some(script)),
                Defer(script) => self.deferred.push_back(script),
                Turn => self.log += " t",
                Panic => {
                    self.panics += 1;
                    return false;
                }
            }
        }
        true
    }

    fn run_deferred(&mut self) {
        while self.left > 0 && !self.deferred.is_empty() {
            self.left -= 1;
            let script = self.deferred.pop_front().unwrap();
            self.log += &format!(" d{script}");
            self.act(script);
        }
    }

    fn turn(&mut self) {
        self.turn += 1;
        self.left = DEFERRED_MAX;
        self.run_deferred();
        while let Some(event) = self.events.iter().copied().filter(|e| e.0 <= self.turn).min() {
            self.events.retain(|other| *other != event);
            let number = event.3;
            if let Some(script) = self.alive[number] {
                self.log += &format!(" {number}");
                if !self.act(script) {
                    self.alive[number] = None;
                }
            }
            self.run_deferred();
        }
    }
}

/// A turn, or a sentence if a panic comes out of it.
fn turn<S>(rill: &mut Loop<S>, state: &mut S, what: &str) -> bool {
    let ran = catch_unwind(AssertUnwindSafe(|| rill.turn(state)));
    ran.unwrap_or_else(|panic| match panic.downcast::<String>() {
        Ok(sentence) => refuse(&sentence), // Another check has failed inside.
        Err(_) => refuse(&format!("{what}: a panic has come out of `turn`; the rest is lost.")),
    })
}

/// Runs three callbacks with the first three scripts for so many turns, and the model beside them.
fn compare(scripts: &[Vec<Act>], turns: usize, what: &str) {
    let scripts: Scripts = Rc::new(scripts.to_vec());
    let mut rill = Loop::new();
    let mut seen = Seen { log: String::new(), ids: Vec::new(), scripts: scripts.clone(), acts: 0 };
    let mut model = Model { scripts, ..Model::default() };
    for number in 0..3 {
        insert(&mut rill, &mut seen, number);
        model.alive.push(Some(number));
        rill.wake(Lane::Normal, seen.ids[number]);
        model.wake(Lane::Normal, number);
    }
    for number in 1..=turns {
        let ran = turn(&mut rill, &mut seen, what);
        expect(ran, &format!("{what}: turn {number} is not inside a callback, and is refused."));
        model.turn();
        let (ours, theirs) = (std::mem::take(&mut seen.log), std::mem::take(&mut model.log));
        same(ours.trim(), theirs.trim(), &format!("{what}: what runs in turn {number}, in order."));
        same(rill.panics, model.panics, &format!("{what}: panics up to turn {number}."));
        let idle = model.events.is_empty() && model.deferred.is_empty();
        same(rill.is_idle(), idle, &format!("{what}: is_idle after turn {number}."));
    }
}

/// What callback 0 does, while 1 and 2 wait in the same turn. In script 3 nothing is done.
const CASES: [(&str, &[Act]); 12] = [
    ("removes itself", &[Remove(0)]),
    ("removes itself twice", &[Remove(0), Remove(0)]),
    ("removes its neighbour", &[Remove(1)]),
    ("removes all three", &[Remove(2), Remove(0), Remove(1)]),
    ("inserts another one and wakes it", &[Insert(3), Wake(Lane::High, 3)]),
    ("removes itself; another one takes its place", &[Remove(0), Insert(3), Wake(Lane::Low, 3)]),
    ("puts another one in its neighbour's place", &[Remove(1), Insert(3), Wake(Lane::Normal, 1)]),
    ("wakes itself", &[Wake(Lane::High, 0)]),
    ("wakes itself and removes itself", &[Wake(Lane::Normal, 0), Remove(0), Insert(3)]),
    ("wakes its neighbour again", &[Wake(Lane::High, 1), Wake(Lane::Low, 1)]),
    ("runs the loop", &[Turn]),
    ("wakes its neighbour and runs the loop", &[Wake(Lane::High, 1), Turn, Turn]),
];

#[test]
fn a_callback_runs_each_time_that_it_is_woken() {
    let (mut rill, mut count) = (Loop::new(), 0);
    let id = rill.insert(|_, count: &mut usize, _| *count += 1);
    for runs in 1..=100 {
        rill.wake(Lane::Normal, id);
        turn(&mut rill, &mut count, "One callback");
        same(count, runs, "It was woken once more, so it runs once more.");
    }
}

#[test]
fn a_callback_may_do_anything_to_the_loop() {
    for (name, acts) in CASES {
        let wake = vec![Wake(Lane::Normal, 0), Wake(Lane::Normal, 1)];
        let what = format!("Callback 0 {name}");
        compare(&[acts.to_vec(), vec![], wake, vec![]], 4, &what);
    }
}

#[test]
fn a_callback_that_was_removed_is_dropped() {
    /// The neighbour, and how many have the value while the callback runs.
    type State = (Option<Id>, usize);
    let (mut rill, kept, mut ids) = (Loop::new(), Rc::new(()), Vec::new());
    for _ in 0..2 {
        let kept = kept.clone();
        ids.push(rill.insert(move |rill: &mut Loop<State>, state: &mut State, id| {
            let neighbour = state.0.take();
            for gone in neighbour.into_iter().chain([id]) {
                rill.remove(gone);
            }
            rill.insert(|_, _, _| {}); // It takes a place that was free just now.
            state.1 = Rc::strong_count(&kept);
        }));
    }
    let mut state = (Some(ids[1]), 0);
    rill.wake(Lane::Normal, ids[0]);
    turn(&mut rill, &mut state, "A callback removes itself and its neighbour");
    same(state.1, 2, "While it runs its neighbour has been dropped, and it has not.");
    same(Rc::strong_count(&kept), 1, "It has ended: nobody has what the two callbacks held.");
}

#[test]
fn a_deferred_call_runs_before_the_next_event() {
    let scripts = [
        vec![Defer(3), Defer(4), Wake(Lane::High, 1)],
        vec![Defer(4)],
        vec![],
        vec![Defer(4)],
        vec![],
    ];
    compare(&scripts, 3, "Calls are deferred, and one of them defers another");
    let (mut rill, mut log) = (Loop::new(), String::new());
    let id = rill.insert(|_, log: &mut String, _| log.push('e'));
    rill.wake(Lane::Normal, id);
    rill.defer(move |rill, log| {
        log.push('d');
        rill.wake(Lane::High, id);
    });
    turn(&mut rill, &mut log, "A call that was deferred between two turns");
    same(&*log, "de", "It was deferred before the turn, so it runs before the event.");
    turn(&mut rill, &mut log, "The second turn");
    same(&*log, "dee", "It has woken the callback after the turn began: that event waits.");
}

#[test]
fn a_call_that_defers_itself_does_not_stop_the_loop() {
    // It gives up after a while: a loop without a budget has failed by then.
    fn again(rill: &mut Loop<(usize, Vec<usize>)>, state: &mut (usize, Vec<usize>)) {
        state.0 += 1;
        if state.0 < 20 * DEFERRED_MAX {
            rill.defer(again);
        }
    }
    let (mut rill, mut state) = (Loop::new(), (0, Vec::new()));
    let id = rill.insert(|_, state: &mut (usize, Vec<usize>), _| state.1.push(state.0));
    rill.defer(again);
    for number in 1..=3 {
        rill.wake(Lane::Normal, id);
        turn(&mut rill, &mut state, "A call that defers itself");
        let what = format!("Deferred calls after turn {number}: each has its budget.");
        same(state.0, number * DEFERRED_MAX, &what);
        let before = state.1.last().copied();
        same(before, Some(state.0), "The event of the turn has run, and after them.");
        expect(!rill.is_idle(), "A deferred call waits, so the loop must not sleep.");
    }
}

#[test]
fn after_a_panic_the_rest_of_the_turn_runs() {
    let again = vec![Wake(Lane::Normal, 0), Wake(Lane::Normal, 1), Wake(Lane::Normal, 2)];
    for acts in [vec![Panic], vec![Remove(0), Panic], vec![Defer(3), Insert(3), Panic]] {
        let what = format!("A callback that panics ({acts:?})");
        compare(&[acts, vec![], again.clone(), vec![]], 3, &what);
    }
    let what = "A deferred call that panics";
    compare(&[vec![Defer(3), Defer(4)], vec![], again, vec![Panic], vec![]], 3, what);
}

#[test]
fn a_deferred_call_may_do_anything_to_the_loop() {
    for (name, acts) in CASES {
        let wake = vec![Wake(Lane::Normal, 0), Wake(Lane::Normal, 1)];
        let what = format!("In a deferred call, callback 0 {name}");
        compare(&[vec![Defer(4)], vec![], wake, vec![], acts.to_vec()], 4, &what);
    }
}

#[test]
fn the_loop_does_what_the_model_does() {
    seeds(200, |seed| {
        let script = |_| {
            let mut acts = Vec::new();
            for _ in 0..seed.below(5) {
                let lane = seed.pick(&[Lane::High, Lane::Normal, Lane::Low]);
                acts.push(match seed.below(12) {
                    0..=5 => Wake(lane, seed.below(6) as usize),
                    6 => Remove(seed.below(6) as usize),
                    7 => Insert(seed.below(6) as usize),
                    8..=9 => Defer(seed.below(6) as usize),
                    10 => Turn,
                    _ => Panic,
                });
            }
            acts
        };
        let scripts: Vec<_> = (0..6).map(script).collect();
        compare(&scripts, 5, &format!("With the scripts {scripts:?}"));
    });
}
