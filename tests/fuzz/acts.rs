//! What a program may do to the loop, done to the loop and to the model alike.

use std::time::Duration;

use super::contract::{Item, Phase, Repeat, Run, Source};
use super::reactor::{Loop, World};
use support::MS;
use waterwheel::reactor::{
    Interest, Missed, Occurrence, Options, Priority, Readiness, SourceId, VirtualSource,
};
use waterwheel::timers::Tick;

const LANES: [Priority; 3] = [Priority::High, Priority::Normal, Priority::Low];

/// Does one thing, wherever it is called.
pub(super) fn act(reactor: &mut Loop, world: &mut World) {
    match world.rng.below(32) {
        0..3 => register(reactor, world),
        3..5 => once(reactor, world),
        5 => every(reactor, world),
        6..8 => defer(reactor, world),
        8..10 => enqueue(reactor, world),
        10..12 => post(world),
        12..18 => with_source(reactor, world),
        18..23 => with_timer(reactor, world),
        23 => hook(reactor, world),
        24 => unhook(reactor, world),
        25 => {
            reactor.stop();
            world.model.stopping = true;
        }
        26 => remote(reactor, world),
        27 => drop(world.drop_remote()),
        28 => {
            // A slow callback: the turn's time stands still meanwhile.
            let delay = world.rng.below(256) as u32 * MS / 7;
            let now = reactor.now();
            world.clock.advance(delay);
            world.seen += delay;
            if world.model.phase != Phase::Between {
                assert_eq!(reactor.now(), now);
            }
        }
        29 if world.rng.below(16) == 15 => crowd(reactor, world),
        _ => {}
    }
}

fn register(reactor: &mut Loop, world: &mut World) {
    let lane = world.rng.below(3) as usize;
    let flush = world.rng.below(4) == 3;
    let options = Options { priority: LANES[lane], flush, closes: world.rng.below(2) == 1 };
    let token = world.token.clone();
    let callback = move |reactor: &mut Loop, world: &mut World, id: SourceId<_>, ready| {
        let _ = &token;
        world.enter(reactor, Run::Source(id.raw(), ready));
    };
    let id =
        reactor.register_with(VirtualSource, Interest::READABLE, options, callback).expect("room");
    let source = Source {
        pending: Readiness::NONE,
        lane,
        referenced: true,
        flush,
        touched: false,
        deadline: None,
    };
    assert!(world.model.sources.insert(id.raw(), source).is_none(), "{id:?} is in use");
    world.sources.push(id);
}

fn once(reactor: &mut Loop, world: &mut World) {
    let delay = world.some_delay();
    let deadline = world.tick_after(reactor, delay);
    let key = world.model.arm(deadline, Repeat::Once);
    let token = world.token.clone();
    let callback = move |reactor: &mut Loop, world: &mut World| {
        let _ = &token;
        world.enter(reactor, Run::Once(key));
    };
    let now = reactor.now();
    let id = match now.checked_add(delay) {
        Some(instant) if world.rng.below(2) == 1 && !delay.is_zero() => {
            reactor.at(instant, callback)
        }
        _ => reactor.after(delay, callback),
    };
    world.timers.push((id, key));
}

fn every(reactor: &mut Loop, world: &mut World) {
    let period = world.some_delay();
    let missed = [Missed::Skip, Missed::Burst, Missed::Delay][world.rng.below(3) as usize];
    let deadline = world.tick_after(reactor, period.max(MS));
    let ticks = u64::try_from(period.max(MS).as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    let key = world.model.arm(deadline, Repeat::Every(ticks, missed));
    let token = world.token.clone();
    let callback = move |reactor: &mut Loop, world: &mut World, occurrence: Occurrence| {
        let _ = &token;
        let due = occurrence.deadline - world.origin;
        world.enter(reactor, Run::Every(key, due.as_millis() as u64, occurrence.missed));
    };
    let id = reactor.every(period, missed, callback);
    world.timers.push((id, key));
}

fn defer(reactor: &mut Loop, world: &mut World) {
    let number = world.model.number();
    world.model.deferred.push_back(number);
    let token = world.token.clone();
    reactor.defer(move |reactor, world| {
        let _ = &token;
        world.enter(reactor, Run::Deferred(number));
    });
}

fn enqueue(reactor: &mut Loop, world: &mut World) {
    let (number, lane) = (world.model.number(), world.rng.below(3) as usize);
    world.model.lanes[lane].push_back(Item::Call(number));
    let token = world.token.clone();
    reactor.enqueue(LANES[lane], move |reactor, world| {
        let _ = &token;
        world.enter(reactor, Run::Call(number));
    });
}

fn post(world: &mut World) {
    let number = world.model.number();
    let posts = &mut world.model.posts;
    let (Some(remote), token) = (world.remotes.last(), world.token.clone()) else { return };
    let posted = remote.post(move |reactor, world| {
        let _ = &token;
        world.enter(reactor, Run::Call(number));
    });
    let room = posts.waiting.len() + posts.taken < world.posts_max;
    assert_eq!(posted.is_ok(), room, "{posted:?}");
    if room {
        posts.waiting.push(number);
        posts.knocked = true;
    }
}

fn with_source(reactor: &mut Loop, world: &mut World) {
    let Some(id) = world.some_source() else { return };
    let model = &mut world.model;
    let is_there = model.sources.contains_key(&id.raw());
    let done = match world.rng.below(12) {
        0 => {
            model.remove(id.raw());
            reactor.remove(id.raw())
        }
        1 => {
            model.remove(id.raw());
            reactor.deregister(id).is_some()
        }
        2 | 3 => {
            let ready = world.some_readiness();
            world.model.resume(id.raw(), ready);
            reactor.resume(id.raw(), ready)
        }
        4 => {
            let ready = world.some_readiness();
            world.model.resumed.push((id.raw(), ready));
            world.resumer.resume(id.raw(), ready);
            is_there
        }
        5 | 6 => {
            let delay = world.some_delay();
            let tick = Some(reactor.tick_after(delay));
            let count = world.tick_after_this_moment(delay);
            assert_eq!(tick.map(Tick::count), Some(count));
            world.model.set_deadline(id.raw(), Some(count));
            reactor.set_deadline(id.raw(), tick)
        }
        7 => {
            model.set_deadline(id.raw(), None);
            reactor.set_deadline(id.raw(), None)
        }
        8 => {
            model.touch(id.raw());
            reactor.get_mut(id).is_some()
        }
        9 => {
            let lane = world.rng.below(3) as usize;
            model.set_lane(id.raw(), lane);
            reactor.set_priority(id.raw(), LANES[lane])
        }
        10 => {
            model.set_source_referenced(id.raw(), false);
            reactor.unref(id)
        }
        _ => {
            model.set_source_referenced(id.raw(), true);
            reactor.reref(id)
        }
    };
    assert_eq!(done, is_there, "{id:?}");
    assert_eq!(reactor.contains(id.raw()), world.model.sources.contains_key(&id.raw()));
}

fn with_timer(reactor: &mut Loop, world: &mut World) {
    let Some((id, key)) = world.some_timer() else { return };
    let is_there = world.model.timers.contains_key(&key);
    let done = match world.rng.below(8) {
        0..2 => {
            world.model.forget(key);
            reactor.cancel(id)
        }
        2..6 => {
            let delay = world.some_delay();
            let tick = world.tick_after(reactor, delay);
            world.model.rearm(key, tick);
            reactor.rearm(id, delay)
        }
        to => {
            let to = to == 7;
            world.model.set_timer_referenced(key, to);
            if to { reactor.reref(id) } else { reactor.unref(id) }
        }
    };
    assert_eq!(done, is_there, "{id:?}");
    let left = world.model.timers.get(&key).map(|timer| {
        let now = reactor.now() - world.origin;
        Duration::from_millis(timer.deadline).saturating_sub(now)
    });
    assert_eq!(reactor.time_left(id), left);
}

fn hook(reactor: &mut Loop, world: &mut World) {
    if world.model.hooks.len() >= 8 {
        return;
    }
    let (number, point) = (world.model.number(), world.rng.below(3) as usize);
    let token = world.token.clone();
    let callback = move |reactor: &mut Loop, world: &mut World| {
        let _ = &token;
        world.enter(reactor, Run::Hook(number));
    };
    let id = match point {
        0 => reactor.before_poll(callback),
        1 => reactor.after_poll(callback),
        _ => reactor.on_idle(callback),
    };
    world.model.hooks.insert(number, point);
    world.hooks.push((id, number));
}

fn unhook(reactor: &mut Loop, world: &mut World) {
    let at = world.rng.below(world.hooks.len() as u64) as usize;
    let Some(&(id, number)) = world.hooks.get(at) else { return };
    assert_eq!(reactor.remove_hook(id), world.model.hooks.remove(&number).is_some());
}

/// Makes a remote, or stops the loop by one.
fn remote(reactor: &mut Loop, world: &mut World) {
    let posts = &mut world.model.posts;
    match world.remotes.last() {
        Some(remote) if world.rng.below(4) == 3 => {
            remote.stop().expect("the loop is there");
            (posts.stop, posts.knocked) = (true, true);
        }
        _ if world.remotes.len() < 4 => {
            world.remotes.push(reactor.remote());
            posts.remotes += 1;
        }
        _ => {}
    }
}

/// More than a turn takes.
fn crowd(reactor: &mut Loop, world: &mut World) {
    let what = world.rng.below(3);
    remote(reactor, world);
    for _ in 0..1500 {
        match what {
            0 => defer(reactor, world),
            1 => once(reactor, world),
            _ => post(world),
        }
    }
}
