//! Operations on an id whose source is gone: nothing happens, and the answer says so.

use std::cell::Cell;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::rc::Rc;
use std::time::Duration;

use waterwheel::net::{Conn, Event, Limits, Pressure, Reason, link, memory, tcp, udp};
use waterwheel::reactor::Priority;
use waterwheel::timers::ManualClock;
use waterwheel::{Context, Reactor, SourceId};

/// A reactor in which time jumps to the next deadline.
fn manual<S>() -> Reactor<S> {
    Reactor::builder().clock(&ManualClock::new()).build().unwrap()
}

/// What came of a write to a connection that may have gone.
type Answers = Vec<Pressure>;

/// An echo that answers 300 ms later, and its client.
fn late_echo(client: impl FnMut(&mut Context<Answers>, SourceId<Conn>) + 'static) -> Answers {
    let mut reactor = manual::<Answers>();
    let (near, far) = memory::pair(&mut reactor);
    far.open(&mut reactor, |reactor, _, conn, event| {
        if let Event::Data(bytes) = event {
            let bytes = bytes.to_vec();
            reactor.after(Duration::from_millis(300), move |reactor, answers: &mut Answers| {
                answers.push(conn.write(reactor, &bytes));
            });
        }
    });
    let near = near.open(&mut reactor, |_, _, _, _| {});
    let mut client = client;
    assert!(near.write(&mut reactor, b"x").is_taken());
    reactor.after(Duration::from_millis(100), move |reactor, _| client(reactor, near));
    let mut answers = Answers::new();
    reactor.run(&mut answers).unwrap();
    answers
}

#[test]
fn answer_to_a_client_that_stays_is_taken() {
    assert_eq!(
        late_echo(|reactor, near| {
            reactor.after(Duration::from_secs(1), move |reactor, _| {
                near.close(reactor);
            });
        }),
        [Pressure::Below]
    );
}

#[test]
fn answer_to_a_client_that_went_is_closed_and_ends_nothing() {
    assert_eq!(
        late_echo(|reactor, near| {
            near.close(reactor);
        }),
        [Pressure::Closed]
    );
    assert_eq!(
        late_echo(|reactor, near| {
            near.abort(reactor);
        }),
        [Pressure::Closed]
    );
}

#[test]
fn client_of_a_late_echo_over_tcp_may_vanish() {
    let mut reactor = Reactor::<Answers>::new().unwrap();
    let listener = tcp::listen(&mut reactor, "127.0.0.1:0", |reactor, _, incoming| {
        incoming.open(reactor, |reactor, _, conn, event| {
            if let Event::Closed(_) = event {
                // As late as it can be: nothing else is left to do.
                reactor.enqueue(Priority::Low, move |reactor, answers: &mut Answers| {
                    answers.push(conn.write(reactor, b"late"));
                    reactor.stop();
                });
            }
        });
    })
    .unwrap();
    drop(TcpStream::connect(listener.local_addr(&reactor).unwrap()).unwrap());
    let mut answers = Answers::new();
    reactor.run(&mut answers).unwrap();
    assert_eq!(answers, [Pressure::Closed]);
}

#[test]
fn every_operation_on_a_connection_that_is_gone_says_so() {
    let mut reactor = manual::<()>();
    let (near, _far) = memory::pair(&mut reactor);
    let conn = near.open(&mut reactor, |_, _, _, _| {});
    assert!(conn.is_open(&reactor) && !conn.is_closing(&reactor) && !conn.is_paused(&reactor));
    assert!(conn.pause(&mut reactor) && conn.is_paused(&reactor) && conn.resume(&mut reactor));
    assert!(conn.hold(&mut reactor) && conn.release(&mut reactor));
    assert_eq!((conn.unsent(&reactor), conn.limits(&reactor).is_some()), (Some(0), true));
    assert!(reactor.remove(conn));

    let reactor = &mut reactor;
    assert_eq!(conn.write(reactor, b"x"), Pressure::Closed);
    let acts = [SourceId::<Conn>::pause, SourceId::<Conn>::resume, SourceId::<Conn>::shutdown];
    assert!(acts.iter().all(|act| !act(conn, reactor)));
    let acts = [SourceId::<Conn>::close, SourceId::<Conn>::abort, SourceId::<Conn>::hold];
    assert!(acts.iter().all(|act| !act(conn, reactor)));
    assert!(!conn.release(reactor) && !conn.unread(reactor, 1));
    assert!(!conn.set_limits(reactor, Limits::default()));
    assert!(!conn.is_open(reactor) && conn.is_closing(reactor) && !conn.is_paused(reactor));
    assert_eq!((conn.unsent(reactor), conn.limits(reactor).is_none()), (None, true));
    assert_eq!(conn.peer_addr(reactor).unwrap_err().kind(), ErrorKind::NotConnected);
}

#[test]
fn slot_in_use_again_is_not_touched_by_the_old_id() {
    let mut reactor = manual::<()>();
    let (near, far) = memory::pair(&mut reactor);
    let old = near.open(&mut reactor, |_, _, _, _| {});
    assert!(reactor.remove(old));
    let new = far.open(&mut reactor, |_, _, _, _| {});
    assert!(!old.pause(&mut reactor) && !old.close(&mut reactor) && !old.abort(&mut reactor));
    assert_eq!(old.write(&mut reactor, b"x"), Pressure::Closed);
    assert!(new.is_open(&reactor) && !new.is_paused(&reactor) && !new.is_closing(&reactor));
    assert_eq!(new.unsent(&reactor), Some(0));
}

#[test]
fn full_outbox_refuses_and_an_ended_half_is_closed() {
    let mut reactor = manual::<()>();
    let (near, far) = memory::pair(&mut reactor);
    let _reader = far.open(&mut reactor, |_, _, _, _| {});
    let conn = near.open(&mut reactor, |_, _, _, _| {});
    let max = conn.limits(&reactor).unwrap().outbox_bytes_max;
    assert_eq!(conn.write(&mut reactor, &vec![0; max + 1]), Pressure::Refused);
    assert_eq!(conn.write(&mut reactor, b"x"), Pressure::Below, "it was only too much at once");
    assert!(conn.shutdown(&mut reactor));
    assert_eq!(conn.write(&mut reactor, b"x"), Pressure::Closed);
    assert_eq!(conn.write(&mut reactor, b""), Pressure::Closed, "even nothing");
    // The size makes no difference to one that has ended.
    assert_eq!(conn.write(&mut reactor, &vec![0; max + 1]), Pressure::Closed);
}

#[test]
fn drop_policy_for_slow_readers_spares_those_who_have_left() {
    let mut reactor = manual::<()>();
    let (near, far) = memory::pair(&mut reactor);
    let _peer = far.open(&mut reactor, |_, _, _, _| {});
    let why = Rc::new(Cell::new(None));
    let told = why.clone();
    let conn = near.open(&mut reactor, move |_, _, _, event| {
        if let Event::Closed(reason) = event {
            told.set(Some(reason));
        }
    });
    assert!(conn.close(&mut reactor));
    // The policy: whoever cannot take more is reset.
    if conn.write(&mut reactor, b"news") == Pressure::Refused {
        conn.abort(&mut reactor);
    }
    reactor.run(&mut ()).unwrap();
    assert!(matches!(why.take(), Some(Reason::Finished)), "closed in order, not reset");
}

#[test]
fn datagram_socket_that_is_gone_says_so() {
    let mut reactor = Reactor::<()>::new().unwrap();
    let socket = udp::bind(&mut reactor, "127.0.0.1:0", |_, _, _, _| {}).unwrap();
    let to = socket.local_addr(&reactor).unwrap();
    assert_eq!(socket.send_to(&mut reactor, b"x", &to).unwrap(), Pressure::Below);
    #[cfg(target_os = "linux")]
    assert_eq!(socket.dropped(&reactor), Some(0));
    assert!(reactor.remove(socket));
    assert_eq!(socket.dropped(&reactor), None);
    assert_eq!(socket.send_to(&mut reactor, b"x", &to).unwrap(), Pressure::Closed);
    assert_eq!(socket.send(&mut reactor, b"x").unwrap(), Pressure::Closed);
    assert_eq!(socket.local_addr(&reactor).unwrap_err().kind(), ErrorKind::NotConnected);
}

#[test]
fn link_that_is_gone_says_so() {
    let mut reactor = manual::<()>();
    let (a, _left) = memory::pair(&mut reactor);
    let (b, _right) = memory::pair(&mut reactor);
    let link = link(&mut reactor, a, b, |_, _, _| {});
    let ends = link.ends(&reactor).unwrap();
    assert!(ends.iter().all(|end| end.is_open(&reactor)));
    assert!(link.bytes(&reactor) == Some([0, 0]) && link.abort(&mut reactor));
    reactor.run(&mut ()).unwrap();
    assert!(!link.abort(&mut reactor) && link.bytes(&reactor).is_none());
    assert_eq!(link.ends(&reactor), None);
}

#[cfg(feature = "process")]
#[test]
fn child_that_is_gone_says_so() {
    use waterwheel::process;
    use waterwheel::process::Signal;

    let mut reactor = Reactor::<()>::new().unwrap();
    let command = std::process::Command::new("true");
    let child = process::spawn(&mut reactor, command, |reactor, _, child, _| {
        assert!(!child.kill(reactor, Signal::TERM).unwrap());
        assert!(!child.terminate(reactor, Duration::ZERO).unwrap());
        assert_eq!(child.pid(reactor), None);
    })
    .unwrap();
    assert!(child.pid(&reactor).is_some_and(|pid| pid > 1));
    reactor.run(&mut ()).unwrap();
}
