//! Descriptors as streams: pipes, terminals, files, devices, and the three that are inherited.
#![cfg(unix)]

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{Read, Write, pipe};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use socket2::SockRef;
use support::tcp::{Flow, Told, note, turn_until, turns, unclosed, watched};
use support::{MS, ceiling};
use waterwheel::Reactor;
use waterwheel::net::{self, Event, Limits, Pressure, Reason, Stream, descriptor};

const LIMIT: Duration = Duration::from_secs(60);

fn half_open() -> Limits {
    Limits { half_open: true, ..Limits::default() }
}

/// A terminal: its other side, and the side that programs see.
fn terminal() -> (File, File) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let options = File::options().read(true).write(true).open(name);
    (File::from(master), options.unwrap())
}

/// A file of known bytes that is gone from its folder already.
fn file_of(count: usize) -> File {
    let mut file = tempfile();
    let mut flow = Flow::default();
    while flow.at < count {
        let piece = flow.peek(count - flow.at);
        file.write_all(piece).unwrap();
        flow.at += piece.len();
    }
    std::io::Seek::rewind(&mut file).unwrap();
    file
}

fn tempfile() -> File {
    let name = format!("waterwheel-{}-{:?}", std::process::id(), std::thread::current().id());
    let path = std::env::temp_dir().join(name);
    let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    fs::remove_file(path).unwrap();
    file
}

/// Opens a stream with a handler that only notes.
fn open(reactor: &mut Reactor<Told>, stream: Stream) -> waterwheel::SourceId<net::Conn> {
    stream.open(reactor, watched(note))
}

#[test]
fn pipe_is_read_to_its_end_and_refuses_writes() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let (reader, mut writer) = pipe().unwrap();
    let stream = descriptor::reader(&mut reactor, reader).unwrap();
    let conn = open(&mut reactor, stream);
    assert_eq!(reactor[conn].write(b"x"), Pressure::Closed);
    writer.write_all(b"one").unwrap();
    turn_until(&mut reactor, &mut told, |_, told| told.bytes == b"one");
    writer.write_all(b"two").unwrap();
    drop(writer);
    reactor.run(&mut told).unwrap();
    assert_eq!((&told.bytes[..], told.eof), (&b"onetwo"[..], true));
    assert!(matches!(told.closed, Some(Reason::Finished)), "{:?}", told.closed);
    assert_eq!(unclosed(), 0);
}

#[test]
fn pipe_that_is_full_holds_bytes_back_until_it_is_read() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let (mut reader, writer) = pipe().unwrap();
    let stream = descriptor::writer(&mut reactor, writer).unwrap();
    let conn = open(&mut reactor, stream);
    let sent = Flow::default().peek(1_000_000);
    assert_eq!(reactor[conn].write(sent), Pressure::AboveHigh);
    turns(&mut reactor, &mut told, 3);
    assert!(reactor[conn].unsent() > 900_000);
    reactor[conn].shutdown();
    let reading = std::thread::spawn(move || {
        let mut got = Vec::new();
        reader.read_to_end(&mut got).unwrap();
        got
    });
    reactor.run(&mut told).unwrap();
    assert!(reading.join().unwrap() == sent);
    assert!(matches!(told.closed, Some(Reason::Finished)), "{:?}", told.closed);
    assert!(!told.eof, "a writer has no input that could end");
}

#[test]
fn limits_of_a_users_own_do_not_end_a_stream_of_one_way() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let (mut reader, writer) = pipe().unwrap();
    let stream = descriptor::writer(&mut reactor, writer).unwrap().limits(Limits::default());
    let conn = open(&mut reactor, stream);
    let _ = reactor[conn].write(b"one");
    turns(&mut reactor, &mut told, 3);
    assert_eq!(reactor[conn].write(b"two"), Pressure::Below);
    reactor[conn].close();
    reactor.run(&mut told).unwrap();
    let mut got = String::new();
    reader.read_to_string(&mut got).unwrap();
    assert_eq!(got, "onetwo");
}

#[test]
fn end_of_the_input_is_no_reset_of_the_output() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let ((reader, input), (mut output, writer)) = (pipe().unwrap(), pipe().unwrap());
    let stream = descriptor::pair(&mut reactor, reader, writer).unwrap().limits(half_open());
    let conn = open(&mut reactor, stream);
    drop(input);
    turn_until(&mut reactor, &mut told, |_, told| told.eof);
    turns(&mut reactor, &mut told, 5);
    assert!(told.closed.is_none(), "{:?}", told.closed);
    assert_eq!(reactor[conn].write(b"still here"), Pressure::Below);
    reactor[conn].close();
    reactor.run(&mut told).unwrap();
    let mut got = String::new();
    output.read_to_string(&mut got).unwrap();
    assert_eq!(got, "still here");
    assert!(matches!(told.closed, Some(Reason::Finished)), "{:?}", told.closed);
}

#[test]
fn end_of_the_output_is_heard_while_input_goes_on() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let ((reader, mut input), (mut output, writer)) = (pipe().unwrap(), pipe().unwrap());
    let stream = descriptor::pair(&mut reactor, reader, writer).unwrap();
    let conn = open(&mut reactor, stream);
    let _ = reactor[conn].write(b"all");
    reactor[conn].shutdown();
    turns(&mut reactor, &mut told, 3);
    let mut got = String::new();
    output.read_to_string(&mut got).unwrap(); // Ends, though the stream is there.
    assert_eq!(got, "all");
    input.write_all(b"more").unwrap();
    turn_until(&mut reactor, &mut told, |_, told| told.bytes == b"more");
    drop(input);
    reactor.run(&mut told).unwrap();
    assert!(matches!(told.closed, Some(Reason::Finished)), "{:?}", told.closed);
}

#[test]
fn writer_is_told_at_once_that_its_reader_has_gone() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let (reader, writer) = pipe().unwrap();
    let stream = descriptor::writer(&mut reactor, writer).unwrap();
    open(&mut reactor, stream);
    turns(&mut reactor, &mut told, 2);
    drop(reader);
    reactor.run(&mut told).unwrap();
    assert!(matches!(told.closed, Some(Reason::Reset)), "{:?}", told.closed);
}

#[test]
fn write_to_a_pipe_nobody_reads_is_a_reset_and_no_signal() {
    let _ceiling = ceiling(LIMIT);
    let mut reactor = Reactor::new().unwrap();
    // An input that never ends: a reset must not wait for its last words.
    let (_, writer) = pipe().unwrap();
    let zero = File::open("/dev/zero").unwrap();
    let stream = descriptor::pair(&mut reactor, zero, writer).unwrap();
    let conn = stream.open(&mut reactor, |_, closed: &mut Vec<_>, _, event| {
        if let Event::Closed(why) = event {
            closed.push(why.to_string());
        }
    });
    let mut closed = Vec::new();
    let _ = reactor[conn].write(b"x");
    reactor.run(&mut closed).unwrap();
    assert_eq!(closed, ["reset by the peer"]);
}

#[test]
fn regular_file_is_read_in_pieces_and_others_get_their_turn() {
    let _ceiling = ceiling(LIMIT);
    const BYTES: usize = 3_000_001;
    let mut reactor = Reactor::new().unwrap();
    let stream = descriptor::reader(&mut reactor, file_of(BYTES)).unwrap();
    let per_turn = Limits::default().read_bytes_per_turn;
    let mut turn = (0, 0);
    stream.open(
        &mut reactor,
        watched(move |reactor, flow: &mut Flow, _, event| match event {
            Event::Data(bytes) => {
                let now = reactor.statistics().turns;
                turn = if turn.0 == now { (now, turn.1 + bytes.len()) } else { (now, bytes.len()) };
                assert!(turn.1 <= per_turn, "{turn:?}");
                flow.check(bytes);
            }
            Event::Closed(why) => assert!(matches!(why, Reason::Finished), "{why:?}"),
            _ => {}
        }),
    );
    let mut flow = Flow::default();
    reactor.run(&mut flow).unwrap();
    assert_eq!(flow.at, BYTES);
    let turns = reactor.statistics().turns;
    assert!((12..20).contains(&turns), "{turns} turns: it waits for nothing, and hurries nobody");
}

#[test]
fn regular_file_is_written() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let mut file = tempfile();
    let stream = descriptor::writer(&mut reactor, file.try_clone().unwrap()).unwrap();
    let conn = open(&mut reactor, stream);
    let sent = Flow::default().peek(1_000_000);
    assert_eq!(reactor[conn].write(sent), Pressure::Below);
    reactor[conn].close();
    reactor.run(&mut told).unwrap();
    let mut got = Vec::new();
    std::io::Seek::rewind(&mut file).unwrap();
    file.read_to_end(&mut got).unwrap();
    assert!(got == sent);
    assert!(matches!(told.closed, Some(Reason::Finished)), "{:?}", told.closed);
}

#[test]
fn full_disk_is_told_by_closed() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let full = File::options().write(true).open("/dev/full").unwrap();
    let stream = descriptor::writer(&mut reactor, full).unwrap();
    let conn = open(&mut reactor, stream);
    let _ = reactor[conn].write(b"x");
    reactor.run(&mut told).unwrap();
    let Some(Reason::Error(error)) = told.closed else { panic!("{:?}", told.closed) };
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
}

#[test]
fn folder_is_told_by_closed() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let stream = descriptor::reader(&mut reactor, File::open("/").unwrap()).unwrap();
    open(&mut reactor, stream);
    reactor.run(&mut told).unwrap();
    let Some(Reason::Error(error)) = told.closed else { panic!("{:?}", told.closed) };
    assert_eq!(error.kind(), std::io::ErrorKind::IsADirectory);
}

#[test]
fn dev_null_ends_at_once_and_takes_everything() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let null = File::options().read(true).write(true).open("/dev/null").unwrap();
    let stream = descriptor::both(&mut reactor, null).unwrap().limits(half_open());
    let conn = open(&mut reactor, stream);
    turn_until(&mut reactor, &mut told, |_, told| told.eof);
    assert_eq!(reactor[conn].write(&[0; 1_000_000]), Pressure::Below);
    reactor[conn].close();
    reactor.run(&mut told).unwrap();
    assert!(matches!(told.closed, Some(Reason::Finished)), "{:?}", told.closed);
}

#[test]
fn dev_zero_does_not_keep_a_timer_from_running() {
    let _ceiling = ceiling(LIMIT);
    let mut reactor = Reactor::new().unwrap();
    let zero = descriptor::reader(&mut reactor, File::open("/dev/zero").unwrap()).unwrap();
    let conn = zero.open(
        &mut reactor,
        watched(|_, bytes: &mut usize, _, event| {
            if let Event::Data(data) = event {
                *bytes += data.len();
            }
        }),
    );
    reactor.after(5 * MS, move |reactor, _| reactor[conn].close());
    let mut bytes = 0;
    reactor.run(&mut bytes).unwrap();
    assert!(bytes > 0 && unclosed() == 0);
}

#[test]
fn lines_that_wait_in_a_terminal_are_all_read() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let (mut master, slave) = terminal();
    let stream = descriptor::both(&mut reactor, slave).unwrap().limits(half_open());
    let conn = open(&mut reactor, stream);
    turns(&mut reactor, &mut told, 3);
    master.write_all(b"one\ntwo\nthree\nunfini").unwrap(); // One edge; a read gives one line.
    turn_until(&mut reactor, &mut told, |_, told| told.bytes == b"one\ntwo\nthree\n");
    turns(&mut reactor, &mut told, 3);
    let before = reactor.statistics().callbacks;
    turns(&mut reactor, &mut told, 5);
    assert_eq!(reactor.statistics().callbacks, before, "it spins");
    master.write_all(b"shed\n\x04").unwrap(); // And Ctrl-D.
    turn_until(&mut reactor, &mut told, |_, told| told.eof);
    assert!(told.bytes.ends_with(b"three\nunfinished\n"));
    let _ = reactor[conn].write(b"still here");
    reactor[conn].close();
    reactor.run(&mut told).unwrap();
    read_until(&mut master, "still here");
}

#[test]
fn terminal_that_shows_slowly_gets_every_byte() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let (mut master, slave) = terminal();
    let stream = descriptor::writer(&mut reactor, slave.try_clone().unwrap()).unwrap();
    let conn = open(&mut reactor, stream);
    let sent: Vec<u8> = (0..200_000u32).map(|i| b'a' + (i % 26) as u8).collect();
    let _ = reactor[conn].write(&sent);
    reactor[conn].close();
    let reading = std::thread::spawn(move || {
        let mut got = vec![0; 200_000];
        master.read_exact(&mut got).unwrap();
        got
    });
    reactor.run(&mut told).unwrap();
    assert!(reading.join().unwrap() == sent);
    assert!(matches!(told.closed, Some(Reason::Finished)), "{:?}", told.closed);
    drop(slave); // Until now: what is shown when the last one closes is lost.
}

#[test]
fn terminal_that_hangs_up_is_at_its_end() {
    let _ceiling = ceiling(LIMIT);
    for hang_up_ours in [false, true] {
        let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
        let (master, slave) = terminal();
        let (ours, other) = if hang_up_ours { (master, slave) } else { (slave, master) };
        let stream = descriptor::both(&mut reactor, ours).unwrap();
        open(&mut reactor, stream);
        turns(&mut reactor, &mut told, 2);
        drop(other);
        reactor.run(&mut told).unwrap();
        assert!(told.eof && matches!(told.closed, Some(Reason::Finished)), "{told:?}");
    }
}

#[test]
fn socket_from_elsewhere_is_half_closed_like_any() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let (ours, mut other) = UnixStream::pair().unwrap();
    let stream = descriptor::both(&mut reactor, OwnedFd::from(ours)).unwrap();
    let conn = open(&mut reactor, stream.limits(half_open()));
    let _ = reactor[conn].write(b"question");
    reactor[conn].shutdown();
    turns(&mut reactor, &mut told, 3);
    let mut got = String::new();
    other.read_to_string(&mut got).unwrap(); // It ends: that is the FIN.
    other.write_all(b"answer").unwrap();
    drop(other);
    reactor.run(&mut told).unwrap();
    assert_eq!((&got[..], &told.bytes[..]), ("question", &b"answer"[..]));
    assert!(matches!(told.closed, Some(Reason::Finished)), "{:?}", told.closed);
}

#[test]
fn closing_leaves_what_was_not_read_to_others() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let ((reader, mut input), (_output, writer)) = (pipe().unwrap(), pipe().unwrap());
    let mut shell = reader.try_clone().unwrap();
    let stream = descriptor::pair(&mut reactor, reader, writer).unwrap();
    let conn = open(&mut reactor, stream);
    turns(&mut reactor, &mut told, 2);
    reactor[conn].pause();
    input.write_all(b"for the shell").unwrap();
    reactor[conn].close();
    reactor.run(&mut told).unwrap();
    assert!(told.bytes.is_empty() && matches!(told.closed, Some(Reason::Finished)), "{told:?}");
    let mut got = [0; 13];
    shell.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"for the shell");
}

#[test]
fn shared_descriptor_blocks_again_and_is_not_watched_when_the_stream_is_gone() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let (reader, mut writer) = pipe().unwrap();
    let shared = reader.try_clone().unwrap();
    let stream = descriptor::reader(&mut reactor, reader).unwrap();
    let conn = open(&mut reactor, stream);
    turns(&mut reactor, &mut told, 2);
    assert!(SockRef::from(&shared).nonblocking().unwrap());
    reactor[conn].close();
    reactor.run(&mut told).unwrap();
    assert!(!SockRef::from(&shared).nonblocking().unwrap());
    let stale = reactor.statistics().stale;
    writer.write_all(b"x").unwrap();
    turns(&mut reactor, &mut told, 3);
    assert_eq!(reactor.statistics().stale, stale, "the selector still knows it");
}

#[test]
fn dropping_the_reactor_makes_shared_descriptors_block_again() {
    let (shared, _writer) = pipe().unwrap();
    let mut reactor = Reactor::<Told>::new().unwrap();
    let stream = descriptor::reader(&mut reactor, shared.try_clone().unwrap()).unwrap();
    stream.open(&mut reactor, |_, _, _, event| panic!("{event:?}"));
    assert!(SockRef::from(&shared).nonblocking().unwrap());
    drop(reactor);
    assert!(!SockRef::from(&shared).nonblocking().unwrap());
}

#[test]
fn stream_that_was_taken_out_goes_on_when_it_is_opened_again() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let (reader, mut writer) = pipe().unwrap();
    let stream = descriptor::reader(&mut reactor, reader).unwrap();
    let conn = stream.open(&mut reactor, note);
    writer.write_all(b"one").unwrap();
    turn_until(&mut reactor, &mut told, |_, told| told.bytes == b"one");
    let conn = reactor.deregister(conn).unwrap();
    let again = open(&mut reactor, conn.into());
    writer.write_all(b"two").unwrap();
    drop(writer);
    reactor.run(&mut told).unwrap();
    assert_eq!((&told.bytes[..], reactor.get(again).is_none()), (&b"onetwo"[..], true));
}

#[test]
fn pipes_can_be_linked_and_each_direction_ends_alone() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Vec::new());
    let [a_in, a_out, b_in, b_out] = [(); 4].map(|()| pipe().unwrap());
    let a = descriptor::pair(&mut reactor, a_in.0, a_out.1).unwrap();
    let b = descriptor::pair(&mut reactor, b_in.0, b_out.1).unwrap();
    net::link(&mut reactor, a, b, |_, told: &mut Vec<String>, report| {
        told.push(format!("{report:?}"))
    });
    let (mut to_a, mut to_b, mut from_a, mut from_b) = (a_in.1, b_in.1, a_out.0, b_out.0);
    to_a.write_all(b"there").unwrap();
    drop(to_a);
    for _ in 0..10 {
        reactor.turn(&mut told, Some(Duration::ZERO)).unwrap();
    }
    let mut got = String::new();
    from_b.read_to_string(&mut got).unwrap(); // Ends, while the other direction is open.
    to_b.write_all(b" and back").unwrap();
    drop(to_b);
    reactor.run(&mut told).unwrap();
    from_a.read_to_string(&mut got).unwrap();
    assert_eq!((&got[..], told.len()), ("there and back", 1));
    assert_eq!(told[0].matches("reason: Finished").count(), 2, "{told:?}");
}

/// Set in a process of its own, in which a test runs again with a stdin and stdout of its choice.
const CHILD: &str = "WATERWHEEL_STDIO_CHILD";

#[track_caller]
fn child(test: &str, stdin: impl Into<Stdio>, stdout: impl Into<Stdio>) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let (_, test) = support::named(test);
    command.args([&*test, "--exact", "--nocapture"]).env(CHILD, "1");
    command.stdin(stdin).stdout(stdout);
    command
}

fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Upper case to stdout of what comes from stdin, and a word after its end.
fn shout() {
    let mut reactor = Reactor::<()>::new().unwrap();
    let stdio = net::stdio(&mut reactor).unwrap();
    stdio.open(
        &mut reactor,
        watched(|reactor, _, stdio, event| match event {
            Event::Data(bytes) => {
                let _ = reactor[stdio].write(&bytes.to_ascii_uppercase());
            }
            Event::Eof => {
                let _ = reactor[stdio].write(b"BYE\n");
                reactor[stdio].close();
            }
            Event::Closed(why) => assert!(matches!(why, Reason::Finished), "{why:?}"),
            Event::Drained => {}
        }),
    );
    reactor.run(&mut ()).unwrap();
}

#[test]
fn stdio_goes_both_ways_and_leaves_the_parents_descriptors_blocking() {
    if is_child() {
        return shout();
    }
    let _ceiling = ceiling(LIMIT);
    let ((stdin, mut input), (mut output, stdout)) = (pipe().unwrap(), pipe().unwrap());
    let (theirs_in, theirs_out) = (stdin.try_clone().unwrap(), stdout.try_clone().unwrap());
    let test = "stdio_goes_both_ways_and_leaves_the_parents_descriptors_blocking";
    let mut running = child(test, stdin, stdout).spawn().unwrap();
    input.write_all(b"hello\n").unwrap();
    read_until(&mut output, "HELLO\n");
    assert!(!SockRef::from(&theirs_in).nonblocking().unwrap());
    assert!(!SockRef::from(&theirs_out).nonblocking().unwrap());
    drop((input, theirs_in, theirs_out));
    read_until(&mut output, "BYE\n");
    assert!(running.wait().unwrap().success());
}

#[test]
fn stdio_of_one_terminal_goes_both_ways() {
    if is_child() {
        return shout();
    }
    let _ceiling = ceiling(LIMIT);
    let (mut master, slave) = terminal();
    let both = || slave.try_clone().unwrap();
    let test = "stdio_of_one_terminal_goes_both_ways";
    let mut running = child(test, both(), both()).spawn().unwrap();
    master.write_all(b"one\ntwo\n").unwrap();
    read_until(&mut master, "ONE\r\nTWO\r\n");
    assert!(!SockRef::from(&slave).nonblocking().unwrap());
    master.write_all(b"\x04").unwrap();
    read_until(&mut master, "BYE\r\n");
    assert!(running.wait().unwrap().success());
}

#[test]
fn stdio_of_one_socket_goes_both_ways_and_is_left_as_it_was() {
    if is_child() {
        shout();
        std::process::exit(0); // The test harness has no stdout any more: the socket is shut down.
    }
    let _ceiling = ceiling(LIMIT);
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let both = || OwnedFd::from(theirs.try_clone().unwrap());
    let test = "stdio_of_one_socket_goes_both_ways_and_is_left_as_it_was";
    let mut running = child(test, both(), both()).spawn().unwrap();
    ours.write_all(b"hello\n").unwrap();
    read_until(&mut ours, "HELLO\n");
    ours.shutdown(std::net::Shutdown::Write).unwrap();
    read_until(&mut ours, "BYE\n");
    assert!(running.wait().unwrap().success());
    assert!(!SockRef::from(&theirs).nonblocking().unwrap());
}

#[test]
fn stdio_of_files_starts_where_they_stand_and_appends() {
    if is_child() {
        return shout();
    }
    let _ceiling = ceiling(LIMIT);
    let (mut input, mut output) = (tempfile(), tempfile());
    input.write_all(b"not this\nbut this\n").unwrap();
    std::io::Seek::seek(&mut input, std::io::SeekFrom::Start(9)).unwrap();
    output.write_all(b"first\n").unwrap();
    let (stdin, stdout) = (input.try_clone().unwrap(), output.try_clone().unwrap());
    let test = "stdio_of_files_starts_where_they_stand_and_appends";
    assert!(child(test, stdin, stdout).status().unwrap().success());
    std::io::Seek::rewind(&mut output).unwrap();
    let mut got = String::new();
    output.read_to_string(&mut got).unwrap();
    assert!(got.starts_with("first\n") && got.contains("BUT THIS\nBYE\n"), "{got}");
    assert!(!got.contains("NOT THIS"), "{got}");
}

#[test]
fn stdin_that_is_a_fifo_without_writers_ends() {
    if is_child() {
        return shout();
    }
    let _ceiling = ceiling(LIMIT);
    let path = std::env::temp_dir().join(format!("waterwheel-fifo-{}", std::process::id()));
    let made = Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    for last in ["", "last words\n"] {
        // Held open for both, so that neither end waits for the other.
        let mut held = File::options().read(true).write(true).open(&path).unwrap();
        let stdin = File::open(&path).unwrap();
        held.write_all(last.as_bytes()).unwrap();
        drop(held);
        let test = "stdin_that_is_a_fifo_without_writers_ends";
        let output = child(test, stdin, Stdio::piped()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains(&format!("{}BYE\n", last.to_uppercase())), "{said}");
    }
    fs::remove_file(path).unwrap();
}

#[test]
fn stdin_stdout_and_stderr_are_there_one_by_one() {
    if is_child() {
        let mut reactor = Reactor::<()>::new().unwrap();
        let (out, error) = (net::stdout(&mut reactor).unwrap(), net::stderr(&mut reactor).unwrap());
        let out = out.open(&mut reactor, watched(|_, _, _, _| {}));
        let error = error.open(&mut reactor, watched(|_, _, _, _| {}));
        let stdin = net::stdin(&mut reactor).unwrap();
        let handler = net::framed(net::Lines::new(80), move |reactor, _, _, frame| match frame {
            net::Framed::Frame(line) => {
                let _ = reactor[out].write(line);
                let _ = reactor[error].write(line);
            }
            net::Framed::Closed(_) => {
                reactor[out].close();
                reactor[error].close();
            }
            _ => {}
        });
        stdin.open(&mut reactor, handler);
        reactor.run(&mut ()).unwrap();
        return;
    }
    let _ceiling = ceiling(LIMIT);
    let test = "stdin_stdout_and_stderr_are_there_one_by_one";
    let mut command = child(test, Stdio::piped(), Stdio::piped());
    let mut running = command.stderr(Stdio::piped()).spawn().unwrap();
    running.stdin.take().unwrap().write_all(b"one\ntwo\n").unwrap();
    let output = running.wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("onetwo"));
    assert!(String::from_utf8_lossy(&output.stderr).contains("onetwo"));
}

fn read_until(from: &mut impl Read, end: &str) {
    let (mut got, mut byte) = (Vec::new(), [0]);
    while !got.ends_with(end.as_bytes()) {
        let text = || String::from_utf8_lossy(&got).into_owned();
        assert_eq!(from.read(&mut byte).unwrap(), 1, "ended without {end:?}: {}", text());
        got.push(byte[0]);
    }
}

#[test]
fn handler_of_a_reader_may_remove_itself() {
    let _ceiling = ceiling(LIMIT);
    let mut reactor = Reactor::new().unwrap();
    let stream = descriptor::reader(&mut reactor, File::open("/dev/zero").unwrap()).unwrap();
    let calls = Rc::new(RefCell::new(0));
    let counted = calls.clone();
    stream.open(&mut reactor, move |reactor, _: &mut (), conn, _| {
        *counted.borrow_mut() += 1;
        reactor.remove(conn);
    });
    reactor.run(&mut ()).unwrap();
    assert_eq!((*calls.borrow(), Rc::strong_count(&calls)), (1, 1));
}
