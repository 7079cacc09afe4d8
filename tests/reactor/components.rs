//! Parts of a program with states of their own, in loops of any state.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use waterwheel::mio::Interest;
use waterwheel::reactor::{Alive, Context, Options, PanicPolicy, Readiness, VirtualSource};
use waterwheel::timers::ManualClock;
use waterwheel::{Reactor, SourceId};

const MS: Duration = Duration::from_millis(1);

/// A part that fills up with time, and is emptied by whoever likes.
struct Bucket {
    level: u32,
    /// The ticks in which it was called.
    called: Vec<u64>,
}

fn bucket<S: 'static>(reactor: &mut Context<S>) -> SourceId<Bucket> {
    let bucket = Bucket { level: 0, called: Vec::new() };
    let id = reactor.own(bucket, |reactor, _, id, ready| {
        assert!(ready.contains(Readiness::DEADLINE));
        let (now, next) = (reactor.tick().count(), reactor.tick_after(5 * MS));
        reactor[id].level += 1;
        reactor[id].called.push(now);
        reactor.set_deadline(id, Some(next));
    });
    let first = reactor.tick_after(5 * MS);
    reactor.set_deadline(id, Some(first));
    id
}

fn manual<S: 'static>() -> Reactor<S> {
    Reactor::builder().clock(&ManualClock::new()).build().unwrap()
}

#[test]
fn parts_of_one_type_have_a_state_each_in_a_loop_of_any_state() {
    fn two<S: 'static>(state: &mut S) {
        let mut reactor = manual::<S>();
        let (a, b) = (bucket(&mut reactor), bucket(&mut reactor));
        reactor.after(12 * MS, move |reactor, _| {
            reactor[a].level = 0;
        });
        reactor.after(22 * MS, |reactor, _| reactor.stop());
        reactor.run(state).unwrap();
        assert_eq!((reactor[a].level, reactor[b].level), (2, 4));
        assert_eq!(reactor[a].called, [5, 10, 15, 20]);
        assert_eq!(reactor.ids::<Bucket>(), [a, b]);
    }
    two(&mut ());
    two(&mut String::new());
}

#[test]
fn a_value_holds_the_loop_until_it_is_removed_or_unreferenced_and_says_where_it_is_from() {
    let mut reactor = manual::<()>();
    let id = bucket(&mut reactor);
    let why = reactor.why_alive();
    let [Alive::Source(raw, place)] = &why[..] else { panic!("{why:?}") };
    assert_eq!((*raw, place.file()), (id.raw(), file!()));
    assert!(reactor.unref(id));
    reactor.run(&mut ()).unwrap();
    assert!(reactor.reref(id) && reactor.is_alive());
    assert_eq!(reactor.deregister(id).map(|bucket| bucket.level), Some(0));
    assert!(!reactor.is_alive() && reactor.timers() == 0, "its deadline goes with it");
}

#[test]
fn a_value_that_is_removed_is_dropped_with_its_turn_and_one_handed_back_is_not() {
    struct Dropped(Rc<Cell<u32>>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    let drops = Rc::new(Cell::new(0));
    let mut reactor = manual::<()>();
    let ids = [(); 3].map(|()| reactor.own(Dropped(drops.clone()), |_, _, _, _| {}));
    let seen = drops.clone();
    reactor.defer(move |reactor, _| {
        assert!(reactor.remove(ids[0]) && !reactor.remove(ids[0]));
        assert!(reactor.get(ids[0]).is_none() && reactor.get_mut(ids[0]).is_none());
        assert_eq!(seen.get(), 0, "not before the turn ends");
    });
    reactor.turn(&mut (), Some(Duration::ZERO)).unwrap();
    assert_eq!(drops.get(), 1);
    let back = reactor.deregister(ids[1]).unwrap();
    assert_eq!(drops.get(), 1);
    drop((back, reactor));
    assert_eq!(drops.get(), 3, "the last went with the loop");
}

#[test]
fn a_value_is_called_when_it_is_resumed_or_was_borrowed_by_others_if_it_asked() {
    let mut reactor = manual::<Vec<Readiness>>();
    let options = Options { flush: true, ..Options::default() };
    let id = reactor.own_with(1, options, |reactor, log: &mut Vec<Readiness>, id, ready| {
        reactor[id] += 1; // By itself: no reason to be called.
        log.push(ready);
    });
    let mut log = Vec::new();
    reactor.resume(id, Readiness::PRIORITY);
    reactor.turn(&mut log, Some(Duration::ZERO)).unwrap();
    reactor.turn(&mut log, Some(Duration::ZERO)).unwrap();
    assert_eq!(log, [Readiness::PRIORITY]);
    reactor[id] = 10;
    reactor.turn(&mut log, Some(Duration::ZERO)).unwrap();
    assert_eq!((log.len(), log[1], reactor[id]), (2, Readiness::FLUSH, 11));
}

#[test]
fn values_and_sources_of_one_type_are_told_apart_and_found_together() {
    let mut reactor = manual::<()>();
    let owned = reactor.own(VirtualSource, |_, _, _, _| {});
    let registered = reactor.register(VirtualSource, Interest::READABLE, |_, _, _, _| {}).unwrap();
    assert_eq!(reactor.ids::<VirtualSource>(), [owned, registered]);
    // No selector knows it, so none refuses.
    assert!(reactor.set_interest(owned, Interest::WRITABLE).unwrap());
    assert_eq!(reactor.deregister(owned), Some(VirtualSource));
    assert_eq!(reactor.deregister(registered), Some(VirtualSource));
    let number = reactor.own(1u8, |_, _, _, _| {});
    assert_eq!(reactor.ids::<u16>(), []);
    assert_eq!(reactor.ids::<u8>(), [number]);
}

#[test]
fn by_policy_a_value_whose_callback_panics_is_dropped_and_the_loop_goes_on() {
    let builder = Reactor::<()>::builder().panic_policy(PanicPolicy::Drop);
    let mut reactor = builder.clock(&ManualClock::new()).build().unwrap();
    let id = reactor.own(0, |_, _, _, _| panic!("on purpose"));
    reactor.resume(id, Readiness::READABLE);
    reactor.run(&mut ()).unwrap();
    assert!(reactor.get(id).is_none());
    assert_eq!(reactor.statistics().panicked, 1);
}
