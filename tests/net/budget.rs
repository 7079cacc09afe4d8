//! A budget of buffered bytes that connections share: each is bounded, and so are all together.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::Duration;

use waterwheel::net::{
    BufferBudget, Conn, Event, Limits, Pressure, Reason, Stream, WhenFull, link, memory, tcp,
};
use waterwheel::timers::ManualClock;
use waterwheel::{Context, Reactor, SourceId};

const MAX: usize = 1024 * 1024;
const PIECE: &[u8] = &[7; 10_000];

/// What became of those who were told `Closed`.
type Told = Vec<Reason>;

fn reactor() -> Reactor<Told> {
    Reactor::builder().clock(&ManualClock::new()).build().unwrap()
}

fn within(budget: &BufferBudget) -> Limits {
    Limits { buffers: Some(budget.clone()), ..Limits::default() }
}

/// A server's end with this budget, and its peer, which is not opened and so never reads.
fn silent(reactor: &mut Reactor<Told>, budget: &BufferBudget) -> (SourceId<Conn>, Stream) {
    let (near, far) = memory::pair_with(reactor, 1000);
    let conn = near.limits(within(budget)).open(reactor, |_, told: &mut Told, _, event| {
        if let Event::Closed(reason) = event {
            told.push(reason);
        }
    });
    (conn, far)
}

fn turns(reactor: &mut Reactor<Told>, told: &mut Told) {
    for turn in 0.. {
        assert!(turn < 1000, "it never rests");
        if reactor.turn(told, Some(Duration::ZERO)).unwrap() == 0
            && reactor.next_wait() != Some(Duration::ZERO)
        {
            return;
        }
    }
}

#[test]
fn crowd_that_never_reads_stays_within_the_budget_and_the_largest_go() {
    let (mut reactor, budget) = (reactor(), BufferBudget::new(MAX));
    let mut told = Told::new();
    let crowd: Vec<_> = (0..200).map(|_| silent(&mut reactor, &budget)).collect();
    // One has a single piece to come, the others more and more.
    let (modest, _peer) = silent(&mut reactor, &budget);
    assert!(modest.write(&mut reactor, PIECE).is_taken());
    for _ in 0..30 {
        for (conn, _) in &crowd {
            let _ = conn.write(&mut reactor, PIECE);
            // A little for each who has nothing unsent, until the next flush.
            let most = MAX + crowd.len() * PIECE.len();
            assert!(budget.bytes() <= most, "{} bytes", budget.bytes());
        }
        turns(&mut reactor, &mut told);
        assert!(budget.bytes() <= MAX - MAX / 8, "{} bytes", budget.bytes());
    }
    assert!(modest.is_open(&reactor), "others had more");
    assert!(told.iter().all(|reason| matches!(reason, Reason::Buffers)), "{told:?}");
    assert!(told.len() >= 100 && told.len() as u64 == budget.closed(), "{}", told.len());
}

#[test]
fn who_reads_is_served_whatever_the_crowd_does() {
    let (mut reactor, budget) = (reactor(), BufferBudget::new(MAX));
    let mut told = Told::new();
    let heard = Rc::new(RefCell::new(0));
    let (near, far) = memory::pair_with(&mut reactor, 1000);
    let polite = near.limits(within(&budget)).open(&mut reactor, |_, _, _, _| {});
    let count = heard.clone();
    far.open(&mut reactor, move |_, _: &mut Told, _, event| {
        if let Event::Data(bytes) = event {
            *count.borrow_mut() += bytes.len();
        }
    });
    let mut crowd = Vec::new();
    for round in 1..=100 {
        crowd.push(silent(&mut reactor, &budget));
        for (conn, _) in &crowd {
            let _ = conn.write(&mut reactor, PIECE);
        }
        assert!(polite.write(&mut reactor, b"0123456789").is_taken(), "round {round}");
        turns(&mut reactor, &mut told);
        assert_eq!(*heard.borrow(), 10 * round);
    }
    assert!(budget.closed() > 0 && polite.is_open(&reactor));
}

#[test]
fn writes_answer_above_high_when_little_is_left_and_drained_comes_when_all_is_sent() {
    let (mut reactor, budget) = (reactor(), BufferBudget::new(MAX));
    let (hog, _peer) = silent(&mut reactor, &budget);
    let (near, far) = memory::pair_with(&mut reactor, 1000);
    let events = Rc::new(RefCell::new(Vec::new()));
    let log = events.clone();
    let conn = near.limits(within(&budget)).open(&mut reactor, move |_, _, _, event| {
        log.borrow_mut().push(format!("{event:?}"));
    });
    assert_eq!(conn.write(&mut reactor, PIECE), Pressure::Below);
    assert!(hog.write(&mut reactor, &vec![0; MAX * 3 / 4]).is_taken());
    // Far below its own high-water mark, but not below everybody's.
    assert_eq!(conn.write(&mut reactor, PIECE), Pressure::AboveHigh);
    let mut told = Told::new();
    turns(&mut reactor, &mut told);
    assert!(events.borrow().is_empty(), "the peer has not read");
    let reader = far.open(&mut reactor, |_, _: &mut Told, _, _| {});
    turns(&mut reactor, &mut told);
    assert_eq!(*events.borrow(), ["Drained"]);
    assert!(reader.is_open(&reactor));
}

#[test]
fn who_has_unsent_bytes_is_not_read_while_little_is_left() {
    let (mut reactor, budget) = (reactor(), BufferBudget::new(MAX));
    let mut told = Told::new();
    let heard = Rc::new(RefCell::new(0));
    let (near, far) = memory::pair_with(&mut reactor, 100_000);
    let count = heard.clone();
    let conn = near.limits(within(&budget)).open(&mut reactor, move |_, _, _, event| {
        if let Event::Data(bytes) = event {
            *count.borrow_mut() += bytes.len();
        }
    });
    let far = far.open(&mut reactor, |_, _: &mut Told, _, _| {});
    far.pause(&mut reactor);
    let (hog, _peer) = silent(&mut reactor, &budget);
    assert!(hog.write(&mut reactor, &vec![0; MAX * 3 / 4]).is_taken());
    assert!(conn.write(&mut reactor, &[1; 150_000]).is_taken());
    turns(&mut reactor, &mut told);
    assert!(far.write(&mut reactor, b"hello").is_taken());
    turns(&mut reactor, &mut told);
    assert_eq!(*heard.borrow(), 0, "it is not read: its peer takes nothing");
    // It is read on when it has sent all, whatever the others have.
    far.resume(&mut reactor);
    turns(&mut reactor, &mut told);
    assert_eq!((*heard.borrow(), conn.unsent(&reactor)), (5, Some(0)));

    // And when there is more left for all, whatever it has itself.
    far.pause(&mut reactor);
    assert!(conn.write(&mut reactor, &[1; 150_000]).is_taken());
    turns(&mut reactor, &mut told);
    assert!(far.write(&mut reactor, b"again").is_taken());
    turns(&mut reactor, &mut told);
    assert_eq!(*heard.borrow(), 5);
    assert!(hog.abort(&mut reactor));
    turns(&mut reactor, &mut told);
    assert_eq!(*heard.borrow(), 10);
}

#[test]
fn those_who_waited_and_went_are_not_remembered() {
    let (mut reactor, budget) = (reactor(), BufferBudget::new(MAX));
    let mut told = Told::new();
    let (hog, _peer) = silent(&mut reactor, &budget);
    assert!(hog.write(&mut reactor, &vec![0; MAX * 3 / 4]).is_taken());
    for _ in 0..100 {
        let (near, far) = memory::pair_with(&mut reactor, 1000);
        let conn = near.limits(within(&budget)).open(&mut reactor, |_, _, _, _| {});
        let far = far.open(&mut reactor, |_, _: &mut Told, _, _| {});
        far.pause(&mut reactor);
        assert!(conn.write(&mut reactor, &[1; 5000]).is_taken());
        assert!(far.write(&mut reactor, b"is anybody reading?").is_taken());
        turns(&mut reactor, &mut told);
        assert!(format!("{budget:?}").contains("waiting: 1 "), "{budget:?}");
        assert!(conn.abort(&mut reactor));
        turns(&mut reactor, &mut told);
    }
    assert!(format!("{budget:?}").contains("waiting: 0 "), "{budget:?}");
}

#[test]
fn who_reads_is_not_refused_when_one_callback_writes_much_to_all() {
    let mut reactor = reactor();
    let budget = BufferBudget::new(MAX).when_full(WhenFull::Refuse);
    let mut told = Told::new();
    let (hog, _peer) = silent(&mut reactor, &budget);
    assert!(hog.write(&mut reactor, &vec![0; MAX - 5000]).is_taken());
    turns(&mut reactor, &mut told);
    // Its kernel has room for 100,000 bytes; a flush comes only when all of this is written.
    let (near, _far) = memory::pair_with(&mut reactor, 100_000);
    let conn = near.limits(within(&budget)).open(&mut reactor, |_, _, _, _| {});
    let taken = |reactor: &mut Reactor<Told>| conn.write(reactor, PIECE).is_taken();
    assert!((0..10).all(|_| taken(&mut reactor)));
    assert!(taken(&mut reactor), "a little that no kernel has taken yet");
    assert!(!taken(&mut reactor), "its peer has read nothing");
}

#[test]
fn by_the_other_policy_nobody_is_closed_and_writes_are_refused() {
    let mut reactor = reactor();
    let budget = BufferBudget::new(MAX).when_full(WhenFull::Refuse);
    let mut told = Told::new();
    let crowd: Vec<_> = (0..100).map(|_| silent(&mut reactor, &budget)).collect();
    let mut refused = 0;
    for _ in 0..10 {
        for (conn, _) in &crowd {
            refused += u32::from(conn.write(&mut reactor, PIECE) == Pressure::Refused);
        }
        turns(&mut reactor, &mut told);
        assert!(budget.bytes() <= MAX, "{} bytes", budget.bytes());
    }
    assert!(refused > 500 && told.is_empty() && budget.closed() == 0, "{refused} refused");
}

#[test]
fn refused_for_the_others_sake_it_is_told_when_there_is_room_and_the_loop_rests_until_then() {
    let mut reactor = reactor();
    let budget = BufferBudget::new(MAX).when_full(WhenFull::Refuse);
    let mut told = Told::new();
    let (near, _far) = memory::pair(&mut reactor);
    let drained = Rc::new(RefCell::new(0));
    let count = drained.clone();
    let conn = near.limits(within(&budget)).open(&mut reactor, move |_, _, _, event| {
        *count.borrow_mut() += u32::from(matches!(event, Event::Drained));
    });
    let (hog, _peer) = silent(&mut reactor, &budget);
    assert!(hog.write(&mut reactor, &vec![0; MAX - 5000]).is_taken());
    turns(&mut reactor, &mut told);
    assert_eq!(conn.write(&mut reactor, &[0; 20_000]), Pressure::Refused);
    turns(&mut reactor, &mut told);
    assert_eq!(*drained.borrow(), 0);
    assert!(hog.abort(&mut reactor));
    turns(&mut reactor, &mut told);
    assert_eq!(*drained.borrow(), 1);
    assert!(conn.write(&mut reactor, &[0; 20_000]).is_taken());
}

#[test]
fn whatever_ends_a_connection_gives_back_what_it_had() {
    type End = fn(&mut Reactor<Told>, SourceId<Conn>);
    let ends: [End; 5] = [
        |reactor, conn| _ = conn.abort(reactor),
        |reactor, conn| _ = reactor.remove(conn),
        |reactor, conn| drop(reactor.deregister(conn)),
        |reactor, conn| drop(reactor.deregister(conn).map(Stream::from)),
        |reactor, conn| {
            let stream = Stream::from(reactor.deregister(conn).unwrap());
            let conn = stream.open(reactor, |_, _, _, _| {});
            assert!(conn.unsent(reactor).is_some_and(|unsent| unsent > 50_000));
            conn.abort(reactor);
        },
    ];
    for (number, end) in ends.into_iter().enumerate() {
        let (mut reactor, budget) = (reactor(), BufferBudget::new(MAX));
        let (conn, _far) = silent(&mut reactor, &budget);
        assert!(conn.write(&mut reactor, &[1; 60_000]).is_taken());
        turns(&mut reactor, &mut Told::new());
        assert!(budget.bytes() >= 59_000, "{number}: {}", budget.bytes());
        end(&mut reactor, conn);
        turns(&mut reactor, &mut Told::new());
        assert_eq!(budget.bytes(), 0, "{number}");
    }
}

#[test]
fn what_a_handler_leaves_for_later_counts_also_if_it_panics() {
    let (mut reactor, budget) = (reactor(), BufferBudget::new(MAX));
    let mut told = Told::new();
    let (near, far) = memory::pair(&mut reactor);
    let mut calls = 0;
    near.limits(within(&budget)).open(
        &mut reactor,
        move |reactor, _, conn: SourceId<Conn>, event| {
            if let Event::Data(bytes) = event {
                conn.unread(reactor, bytes.len());
                calls += 1;
                if calls == 2 {
                    resume_unwind(Box::new("on purpose"));
                }
            }
        },
    );
    let far = far.open(&mut reactor, |_, _: &mut Told, _, _| {});
    assert!(far.write(&mut reactor, &[1; 30_000]).is_taken());
    turns(&mut reactor, &mut told);
    assert!(budget.bytes() >= 30_000, "{}", budget.bytes());
    assert!(far.write(&mut reactor, b"!").is_taken());
    let run = AssertUnwindSafe(|| turns(&mut reactor, &mut told));
    assert!(catch_unwind(run).is_err());
    turns(&mut reactor, &mut told);
    drop(reactor);
    assert_eq!(budget.bytes(), 0);
}

#[test]
fn both_ends_of_a_link_share_the_budget_of_one() {
    let (mut reactor, budget) = (reactor(), BufferBudget::new(MAX));
    let mut told = Told::new();
    let (client, a) = memory::pair(&mut reactor);
    let (b, server) = memory::pair_with(&mut reactor, 1000);
    let link = link(&mut reactor, a.limits(within(&budget)), b, |_, _, _| {});
    let [_, b] = link.ends(&reactor).unwrap();
    assert_eq!(b.limits(&reactor).unwrap().buffers, Some(budget.clone()));
    let client = client.open(&mut reactor, |_, _, _, _| {});
    assert!(client.write(&mut reactor, &[1; 100_000]).is_taken());
    turns(&mut reactor, &mut told);
    assert!(budget.bytes() > 90_000, "what the server does not read waits: {}", budget.bytes());
    drop(server);
    turns(&mut reactor, &mut told);
    assert_eq!(budget.bytes(), 0);
}

#[test]
fn connections_of_a_listener_have_a_budget_without_being_asked() {
    let mut reactor = Reactor::<Vec<SourceId<Conn>>>::new().unwrap();
    let open = |reactor: &mut Context<_>, conns: &mut Vec<_>, incoming: Stream| {
        // Other limits do not take it away.
        let limits = Limits { outbox_bytes_max: 1000, ..Limits::default() };
        let incoming = if conns.is_empty() { incoming } else { incoming.limits(limits) };
        conns.push(incoming.open(reactor, |_, _: &mut Vec<_>, _, _| {}));
    };
    let listener = tcp::listen(&mut reactor, "127.0.0.1:0", open).unwrap();
    let addr = listener.local_addr(&reactor).unwrap();
    let clients = [(); 2].map(|()| std::net::TcpStream::connect(addr).unwrap());
    let mut conns = Vec::new();
    while conns.len() < 2 {
        reactor.turn(&mut conns, None).unwrap();
    }
    let [one, other] = [0, 1].map(|at| conns[at].limits(&reactor).unwrap().buffers.clone());
    assert_eq!(one.as_ref().map(BufferBudget::bytes_max), Some(256 * 1024 * 1024));
    assert_eq!(one, other);
    drop(clients);
}

#[test]
fn small_rest_of_a_large_write_does_not_keep_the_loops_whole_buffer() {
    let (mut reactor, budget) = (reactor(), BufferBudget::new(MAX));
    let mut told = Told::new();
    let (near, far) = memory::pair_with(&mut reactor, 100_000);
    let conn = near.limits(within(&budget)).open(&mut reactor, |reactor, _, conn, event| {
        if let Event::Data(_) = event {
            let answer = vec![1; 100_500];
            // In small pieces, so that all of it is in the loop's cork first.
            answer.chunks(500).for_each(|piece| assert!(conn.write(reactor, piece).is_taken()));
        }
    });
    let far = far.open(&mut reactor, |_, _: &mut Told, _, _| {});
    far.pause(&mut reactor);
    assert!(far.write(&mut reactor, b"?").is_taken());
    turns(&mut reactor, &mut told);
    assert!(conn.unsent(&reactor).is_some_and(|unsent| unsent > 0));
    assert!(budget.bytes() <= 32 * 1024, "{} bytes", budget.bytes());
}
