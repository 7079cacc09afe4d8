//! Break: a callback that runs the loop, a call that defers itself, and a panic in the middle. First
//! with your loop, then with waterwheel.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use waterwheel::Reactor;
use waterwheel::reactor::{Context, PanicPolicy, Priority};

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

use dispatch::Loop;
use queue::Lane;

/// How often a call defers itself before it gives up.
const TIMES_MAX: usize = 100_000;
/// How many callbacks may stand on the stack before the attack gives up.
const DEPTH_MAX: usize = 100;

fn main() -> std::io::Result<()> {
    println!("each callback inserts another one and runs the loop. How many run at the same time?");
    println!("your loop:  {}", depth());
    println!("waterwheel: 1, because a callback has a Context, and that has no `run`");

    println!(
        "\na call defers itself, and a client waits. How often does it run before the client?"
    );
    let yours = deferred();
    let gives_up = if yours >= TIMES_MAX { "; then it gives up" } else { "" };
    println!("your loop:  {yours}{gives_up}");
    println!("waterwheel: {}", waterwheel_deferred()?);

    println!("\nthree clients wait, and the callback of the second one panics. Who is served?");
    println!("your loop:  {}", served());
    println!("waterwheel: {}", waterwheel_served()?);
    Ok(())
}

/// The callbacks on the stack now, and the most there were.
#[derive(Default)]
struct Depth {
    now: usize,
    most: usize,
}

fn depth() -> usize {
    fn add(rill: &mut Loop<Depth>) {
        let id = rill.insert(|rill, depth: &mut Depth, _| {
            depth.now += 1;
            depth.most = depth.most.max(depth.now);
            if depth.now < DEPTH_MAX {
                add(rill);
                rill.turn(depth);
            }
            depth.now -= 1;
        });
        rill.wake(Lane::Normal, id);
    }
    let (mut rill, mut depth) = (Loop::new(), Depth::default());
    add(&mut rill);
    rill.turn(&mut depth);
    depth.most
}

/// How often the call has run when the client is served.
fn deferred() -> usize {
    fn again(rill: &mut Loop<(usize, usize)>, state: &mut (usize, usize)) {
        state.0 += 1;
        if state.0 < TIMES_MAX {
            rill.defer(again);
        }
    }
    let (mut rill, mut state) = (Loop::new(), (0, 0));
    let first = rill.insert(|rill, _, _| rill.defer(again));
    let client = rill.insert(|_, state: &mut (usize, usize), _| state.1 = state.0);
    rill.wake(Lane::Normal, first);
    rill.turn(&mut state); // The calls begin; the client comes.
    rill.wake(Lane::Normal, client);
    rill.turn(&mut state);
    state.1
}

fn waterwheel_deferred() -> std::io::Result<usize> {
    fn again(reactor: &mut Context<(usize, usize)>, state: &mut (usize, usize)) {
        state.0 += 1;
        if state.0 < TIMES_MAX {
            reactor.defer(again);
        }
    }
    let mut reactor = Reactor::new()?;
    reactor.enqueue(Priority::Normal, |reactor, _| {
        reactor.defer(again);
        reactor.enqueue(Priority::Normal, |_, state: &mut (usize, usize)| state.1 = state.0);
    });
    let mut state = (0, 0);
    reactor.run(&mut state)?;
    Ok(state.1)
}

/// The panic of the second client. It prints nothing.
fn serve(number: usize, served: &mut Vec<usize>) {
    if number == 2 {
        resume_unwind(Box::new("the second client"));
    }
    served.push(number);
}

fn served() -> String {
    let (mut rill, mut clients) = (Loop::new(), Vec::new());
    for number in 1..=3 {
        let id = rill.insert(move |_, served: &mut Vec<usize>, _| serve(number, served));
        rill.wake(Lane::Normal, id);
    }
    match catch_unwind(AssertUnwindSafe(|| rill.turn(&mut clients))) {
        Ok(_) => format!("{clients:?}"),
        Err(_) => format!("{clients:?}, and then the program ends"),
    }
}

fn waterwheel_served() -> std::io::Result<String> {
    let mut reactor = Reactor::builder().panic_policy(PanicPolicy::Drop).build()?;
    for number in 1..=3 {
        let serve = move |_: &mut Context<_>, served: &mut Vec<usize>| serve(number, served);
        reactor.enqueue(Priority::Normal, serve);
    }
    let mut clients = Vec::new();
    reactor.run(&mut clients)?;
    Ok(format!("{clients:?}"))
}
