//! Unix sockets: their files, their names, and connections like any other.
#![cfg(unix)]

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use support::ceiling;
use support::clients::{NC, skip_without};
use support::process::Process;
use support::tcp::{Flow, Told, note, turn_until, turns, unclosed, watched};
use waterwheel::net::unix::{self, Address, Listen, Listener};
use waterwheel::net::{Event, Limits, Pressure, Reason, Stream};
use waterwheel::timers::ManualClock;
use waterwheel::{Context, Reactor, SourceId};

const MINUTE: Duration = Duration::from_secs(60);

/// A folder of the test's own, that goes with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("ww-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Folder(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// A socket file that nobody is behind.
    fn stale(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Listens with an echo on each connection.
fn echo(reactor: &mut Context<()>, addr: impl unix::ToAddress) -> SourceId<Listener> {
    let on_accept = |reactor: &mut Context<()>, _: &mut (), incoming: Stream| {
        incoming.open(
            reactor,
            watched(|reactor: &mut Context<()>, _, conn, event| {
                if let Event::Data(bytes) = event {
                    assert!(reactor[conn].write(bytes).is_taken());
                }
            }),
        );
    };
    unix::listen(reactor, addr, on_accept).unwrap()
}

/// Why nobody can listen there.
fn refusal(path: impl unix::ToAddress) -> (ErrorKind, String) {
    let mut reactor = Reactor::<()>::new().unwrap();
    let error = unix::listen(&mut reactor, path, |_, _, _| {}).unwrap_err();
    assert_eq!(reactor.sources(), 0);
    (error.kind(), error.to_string())
}

/// Sends, and turns the loop until as much has come back.
fn is_echoed(reactor: &mut Reactor<()>, client: &mut UnixStream, text: &[u8]) -> bool {
    client.set_nonblocking(true).unwrap();
    client.write_all(text).unwrap();
    let mut got: Vec<u8> = Vec::new();
    turn_until(reactor, &mut (), |_, _| {
        let mut buffer = [0; 100];
        let count = client.read(&mut buffer).unwrap_or(0);
        got.extend(&buffer[..count]);
        got.len() >= text.len()
    });
    got == text
}

#[test]
fn three_megabytes_come_back_bit_for_bit_through_a_socket_file() {
    let _ceiling = ceiling(MINUTE);
    let (folder, mut reactor) = (Folder::new(), Reactor::new().unwrap());
    let path = folder.path("echo");
    let listener = echo(&mut reactor, &path);
    assert_eq!(reactor[listener].local_addr().as_path(), Some(&*path));
    let mut client = UnixStream::connect(&path).unwrap();
    let (mut out, mut back) = (client.try_clone().unwrap(), Flow::default());
    let sender = std::thread::spawn(move || {
        let mut flow = Flow::default();
        while flow.at < 3 << 20 {
            let bytes = flow.peek(10_007);
            out.write_all(bytes).unwrap();
            flow.at += bytes.len();
        }
        out.shutdown(Shutdown::Write).unwrap();
        flow.at
    });
    let reader = std::thread::spawn(move || {
        let mut buffer = [0; 7001];
        loop {
            match client.read(&mut buffer).unwrap() {
                0 => return back.at,
                count => back.check(&buffer[..count]),
            }
        }
    });
    turn_until(&mut reactor, &mut (), |_, _| reader.is_finished());
    assert_eq!(sender.join().unwrap(), reader.join().unwrap());
    turn_until(&mut reactor, &mut (), |_, _| unclosed() == 0);
}

#[test]
fn nc_talks_to_a_socket_file() {
    skip_without!(NC);
    let (folder, mut reactor) = (Folder::new(), Reactor::new().unwrap());
    let path = folder.path("echo");
    echo(&mut reactor, &path);
    let mut nc = Process::start(NC.command().args(["-N", "-U"]).arg(&path));
    let client = std::thread::spawn(move || nc.pass(b"hello\n"));
    turn_until(&mut reactor, &mut (), |_, _| client.is_finished());
    assert_eq!(client.join().unwrap(), b"hello\n");
}

#[test]
fn file_without_a_listener_is_replaced() {
    let (folder, mut reactor) = (Folder::new(), Reactor::new().unwrap());
    let path = folder.stale("stale");
    let before = fs::metadata(&path).unwrap().ino();
    let keeps_the_inode_taken = folder.path("other name");
    fs::hard_link(&path, keeps_the_inode_taken).unwrap();
    echo(&mut reactor, &path);
    assert_ne!(fs::metadata(&path).unwrap().ino(), before);
    assert!(is_echoed(&mut reactor, &mut UnixStream::connect(&path).unwrap(), b"hello"));
    assert_eq!(folder.names().len(), 2, "something is left behind: {:?}", folder.names());
}

#[test]
fn somebody_who_listens_is_left_in_peace() {
    let (folder, mut reactor) = (Folder::new(), Reactor::new().unwrap());
    let path = folder.path("taken");
    echo(&mut reactor, &path);
    let (kind, said) = refusal(&path);
    assert_eq!(kind, ErrorKind::AddrInUse);
    assert_eq!(said, format!("{}: somebody is there already", path.display()));
    assert!(is_echoed(&mut reactor, &mut UnixStream::connect(&path).unwrap(), b"hello"));
    // So is one whose backlog is full, and one of another type.
    let full = folder.path("full");
    let deaf = Listen::new().backlog(0).open(&mut reactor, &full, |_, _, _| {}).unwrap();
    let _waits = UnixStream::connect(&full).unwrap();
    assert_eq!(refusal(&full).0, ErrorKind::AddrInUse);
    reactor.remove(deaf);
    let datagrams = folder.path("datagrams");
    let _bound = std::os::unix::net::UnixDatagram::bind(&datagrams).unwrap();
    assert_eq!(refusal(&datagrams).0, ErrorKind::AddrInUse);
    assert!(datagrams.exists());
}

#[test]
fn what_is_not_a_socket_is_left_alone() {
    let folder = Folder::new();
    let [file, sub, link, dangling] = ["file", "sub", "link", "dangling"].map(|n| folder.path(n));
    fs::write(&file, "precious").unwrap();
    fs::create_dir(&sub).unwrap();
    symlink(folder.stale("stale"), &link).unwrap();
    symlink("nowhere", &dangling).unwrap();
    for path in [&file, &sub, &link, &dangling] {
        let (kind, said) = refusal(path);
        assert_eq!(kind, ErrorKind::AlreadyExists);
        assert_eq!(said, format!("{}: it exists and is not a socket", path.display()));
        assert!(fs::symlink_metadata(path).is_ok());
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    let (kind, said) = refusal(folder.path("no/such/folder"));
    assert_eq!(kind, ErrorKind::NotFound);
    assert!(said.contains("no/such/folder: "), "{said}");
}

#[test]
fn file_goes_with_its_listener_however_that_goes() {
    let folder = Folder::new();
    let path = folder.path("goes");
    let mut reactor = Reactor::new().unwrap();
    let listener = echo(&mut reactor, &path);
    reactor.remove(listener);
    assert!(!path.exists());
    let listener = echo(&mut reactor, &path);
    let taken_out = reactor.deregister(listener);
    assert!(path.exists());
    drop(taken_out);
    assert!(!path.exists());
    echo(&mut reactor, &path);
    drop(reactor);
    assert!(!path.exists());
}

#[test]
fn file_removed_or_replaced_while_serving_keeps_serving_and_the_new_one_is_not_ours() {
    let (folder, mut reactor) = (Folder::new(), Reactor::new().unwrap());
    let path = folder.path("removed");
    let listener = echo(&mut reactor, &path);
    let mut client = UnixStream::connect(&path).unwrap();
    assert!(is_echoed(&mut reactor, &mut client, b"before"));
    assert!(reactor[listener].is_reachable());
    fs::remove_file(&path).unwrap();
    assert!(is_echoed(&mut reactor, &mut client, b"after"));
    assert!(!reactor[listener].is_reachable());
    // A second has the path now; the first one's end is not its end.
    let mut other = Reactor::new().unwrap();
    echo(&mut other, &path);
    reactor.remove(listener);
    assert!(is_echoed(&mut reactor, &mut client, b"still"));
    assert!(is_echoed(&mut other, &mut UnixStream::connect(&path).unwrap(), b"second"));
}

#[test]
fn path_that_is_too_long_is_refused_with_the_limit() {
    let (folder, mut reactor) = (Folder::new(), Reactor::new().unwrap());
    let limit = if cfg!(target_os = "linux") { 107 } else { 103 };
    let fits = folder.path(&"x".repeat(limit - folder.0.as_os_str().len() - 1));
    assert_eq!(fits.as_os_str().len(), limit);
    echo(&mut reactor, &fits);
    assert!(is_echoed(&mut reactor, &mut UnixStream::connect(&fits).unwrap(), b"hello"));
    // With a name as long as can be, a stale file is replaced all the same.
    drop(reactor);
    drop(UnixListener::bind(&fits).unwrap());
    echo(&mut Reactor::new().unwrap(), &fits);
    let long = PathBuf::from(format!("{}x", fits.display()));
    let (kind, said) = refusal(&long);
    assert_eq!(kind, ErrorKind::InvalidInput);
    assert!(said.contains(&format!("{} bytes are too long", limit + 1)), "{said}");
    assert!(said.contains(&format!("the limit is {limit}")) && said.contains("xxx"), "{said}");
    for (bad, because) in [("", "is empty"), ("a\0b", "zero byte")] {
        let (kind, said) = refusal(bad);
        assert_eq!(kind, ErrorKind::InvalidInput);
        assert!(said.contains(because), "{said}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn abstract_name_needs_no_file_and_is_free_when_its_listener_is_gone() {
    let mut reactor = Reactor::new().unwrap();
    let name = format!("@waterwheel/{}", std::process::id());
    let listener = echo(&mut reactor, &name);
    assert_eq!(reactor[listener].local_addr().to_string(), name);
    assert!(reactor[listener].is_reachable() && !Path::new(&name).exists());
    let (kind, said) = refusal(&name);
    assert_eq!(kind, ErrorKind::AddrInUse);
    assert_eq!(said, format!("{name}: somebody is there already"));
    let answered = Rc::new(Cell::new(false));
    let answers = answered.clone();
    unix::connect(&mut reactor, &name, MINUTE, move |reactor, _, stream| {
        let conn =
            stream.unwrap().open(reactor, move |reactor: &mut Context<()>, _, conn, event| {
                if let Event::Data(bytes) = event {
                    answers.set(bytes == b"hello");
                    reactor[conn].close();
                }
            });
        let _ = reactor[conn].write(b"hello");
    })
    .unwrap();
    turn_until(&mut reactor, &mut (), |_, _| answered.get());
    reactor.remove(listener);
    echo(&mut reactor, &name);
    assert_eq!(refusal("@").0, ErrorKind::InvalidInput);
    assert_eq!(Address::name([7; 108]).unwrap_err().kind(), ErrorKind::InvalidInput);
    let with_mode = Listen::new().mode(0o600).open(&mut reactor, "@x", |_, _, _| {});
    assert!(with_mode.unwrap_err().to_string().contains("only a socket file has permissions"));
}

#[test]
fn mode_is_that_of_the_file_whatever_the_umask() {
    let (folder, mut reactor) = (Folder::new(), Reactor::<()>::new().unwrap());
    for mode in [0o600, 0o660, 0o777, 0] {
        let path = folder.path(&format!("{mode:o}"));
        Listen::new().mode(mode).open(&mut reactor, &path, |_, _, _| {}).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, mode);
    }
}

#[test]
fn of_two_that_replace_the_same_stale_file_at_once_one_is_reachable_and_one_is_told() {
    let _ceiling = ceiling(MINUTE);
    let folder = Folder::new();
    for round in 0..100 {
        let path = folder.stale(&format!("round{round}"));
        let start = Barrier::new(2);
        let both: Vec<_> = std::thread::scope(|scope| {
            let contenders = [(); 2].map(|()| {
                scope.spawn(|| {
                    start.wait();
                    let mut reactor = Reactor::<()>::new().unwrap();
                    match unix::listen(&mut reactor, &path, |_, _, _| {}) {
                        Ok(_) => Some(()),
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::AddrInUse, "{error}");
                            None
                        }
                    }
                    .map(|()| std::mem::forget(reactor)) // It goes on listening.
                })
            });
            contenders.into_iter().filter_map(|contender| contender.join().unwrap()).collect()
        });
        assert_eq!(both.len(), 1, "round {round}");
        assert!(UnixStream::connect(&path).is_ok(), "round {round}: the winner is unreachable");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn lock_that_somebody_holds_for_ever_keeps_nobody_from_listening() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    let (folder, mut reactor) = (Folder::new(), Reactor::new().unwrap());
    let about = fs::metadata(&folder.0).unwrap();
    let name = format!("waterwheel/{:x}/{:x}", about.dev(), about.ino());
    let name = SocketAddr::from_abstract_name(name).unwrap();
    let _held = UnixDatagram::bind_addr(&name).unwrap();
    echo(&mut reactor, folder.stale("stale"));
}

#[test]
fn connections_past_the_limit_are_refused_and_counted() {
    let (folder, mut reactor) = (Folder::new(), Reactor::new().unwrap());
    let path = folder.path("full");
    let listen = Listen::new().connections_max(2).accepts_per_turn(1);
    let listener = listen.open(&mut reactor, &path, |reactor: &mut Context<Told>, _, incoming| {
        incoming.open(reactor, watched(note));
    });
    let (listener, told) = (listener.unwrap(), &mut Told::default());
    let mut clients: Vec<_> = (0..5).map(|_| UnixStream::connect(&path).unwrap()).collect();
    turn_until(&mut reactor, told, |reactor, _| reactor[listener].refused() == 3);
    assert_eq!(reactor[listener].connections(), 2);
    assert_eq!(clients[4].read(&mut [0]).unwrap(), 0);
    drop(clients);
    turn_until(&mut reactor, told, |reactor, _| reactor[listener].connections() == 0);
}

/// What `connect` tells, and how often.
type Told2 = Vec<Result<(), (ErrorKind, String)>>;

fn connect(reactor: &mut Reactor<Told2>, path: &Path, timeout: Duration) {
    unix::connect(reactor, path, timeout, |_, told: &mut Told2, result| {
        told.push(result.map(drop).map_err(|error| (error.kind(), error.to_string())));
    })
    .unwrap();
}

#[test]
fn connect_that_fails_tells_once_and_names_the_path() {
    let (folder, mut reactor, mut told) = (Folder::new(), Reactor::new().unwrap(), Told2::new());
    let file = folder.path("file");
    File::create(&file).unwrap();
    let cases = [
        (folder.path("nobody"), ErrorKind::NotFound),
        (folder.stale("stale"), ErrorKind::ConnectionRefused),
        (file, ErrorKind::ConnectionRefused),
    ];
    for (path, expected) in cases {
        connect(&mut reactor, &path, MINUTE);
        assert!(told.is_empty(), "told from within connect");
        reactor.run(&mut told).unwrap();
        let Some(Err((kind, said))) = told.pop() else { panic!("no error") };
        assert_eq!(kind, expected);
        assert!(said.starts_with(&format!("{}: ", path.display())), "{said}");
        assert!(told.is_empty() && reactor.sources() == 0);
    }
    let long = "x".repeat(200);
    let refused = unix::connect(&mut reactor, long.as_str(), MINUTE, |_, _, _| panic!("called"));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn connect_to_a_full_backlog_waits_for_room_or_its_timeout() {
    let folder = Folder::new();
    let path = folder.path("full");
    let clock = ManualClock::new();
    let mut reactor = Reactor::builder().clock(&clock).build().unwrap();
    let mut told = Told2::new();
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    socket.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
    socket.listen(0).unwrap();
    let waits = UnixStream::connect(&path).unwrap(); // Linux lets one more wait than it is told.
    connect(&mut reactor, &path, Duration::from_millis(500));
    let begin = reactor.now();
    reactor.run(&mut told).unwrap();
    assert_eq!(reactor.now() - begin, Duration::from_millis(500));
    let Some(Err((kind, said))) = told.pop() else { panic!("no error") };
    assert_eq!(kind, ErrorKind::TimedOut);
    assert!(said.starts_with(&format!("{}: ", path.display())), "{said}");
    assert!(reactor.statistics().turns < 200, "it spins");
    connect(&mut reactor, &path, MINUTE);
    turns(&mut reactor, &mut told, 5);
    assert!(told.is_empty());
    drop((socket.accept().unwrap(), waits));
    reactor.run(&mut told).unwrap();
    assert_eq!(told, [Ok(())]);
}

#[test]
fn bytes_written_while_connecting_come_first() {
    let (folder, mut reactor, mut told) = (Folder::new(), Reactor::new().unwrap(), Told::default());
    let path = folder.path("order");
    unix::listen(&mut reactor, &path, |reactor: &mut Context<Told>, _, incoming| {
        assert!(incoming.peer().is_none());
        incoming.open(reactor, watched(note));
    })
    .unwrap();
    let connecting = unix::connect(&mut reactor, &path, MINUTE, |reactor, _, stream| {
        let conn = stream.unwrap().open(reactor, |_, _, _, _| {});
        let _ = reactor[conn].write(b"second");
        reactor[conn].close();
    });
    let connecting = connecting.unwrap();
    assert_eq!(reactor[connecting].peer().as_path(), Some(&*path));
    assert_eq!(reactor[connecting].write(b"first "), Pressure::Below);
    turn_until(&mut reactor, &mut told, |_, told| told.closed.is_some());
    assert_eq!(told.bytes, b"first second");
    assert!(told.eof && matches!(told.closed, Some(Reason::Finished)));
}

#[test]
fn slow_reader_is_felt_and_a_peer_that_goes_with_unread_bytes_is_a_reset() {
    let (folder, mut reactor, mut told) = (Folder::new(), Reactor::new().unwrap(), Told::default());
    let path = folder.path("slow");
    let opened = Rc::new(Cell::new(None));
    let opens = opened.clone();
    let limits = Limits { outbox_bytes_max: 1 << 20, ..Limits::default() };
    let on_accept = move |reactor: &mut Context<Told>, _: &mut Told, incoming: Stream| {
        opens.set(Some(incoming.open(reactor, watched(note))));
    };
    Listen::new().limits(limits).open(&mut reactor, &path, on_accept).unwrap();
    let mut client = UnixStream::connect(&path).unwrap();
    turn_until(&mut reactor, &mut told, |_, _| opened.get().is_some());
    let conn = opened.get().unwrap();
    while reactor[conn].write(&[7; 10_000]).is_taken() {}
    turns(&mut reactor, &mut told, 3);
    assert_eq!(told.drained, 0);
    client.set_nonblocking(true).unwrap();
    turn_until(&mut reactor, &mut told, |_, told| {
        while client.read(&mut [0; 65536]).is_ok_and(|count| count > 0) {}
        told.drained == 1
    });
    let _ = reactor[conn].write(b"never read");
    turns(&mut reactor, &mut told, 2);
    drop(client);
    turn_until(&mut reactor, &mut told, |_, told| told.closed.is_some());
    assert!(matches!(told.closed, Some(Reason::Reset)), "{:?}", told.closed);
}

#[test]
fn peer_that_closes_in_order_is_heard_out_though_it_is_not_read_just_then() {
    let (folder, mut reactor, mut told) = (Folder::new(), Reactor::new().unwrap(), Told::default());
    let path = folder.path("paused");
    let opened = Rc::new(Cell::new(None));
    let opens = opened.clone();
    let on_accept = move |reactor: &mut Context<Told>, _: &mut Told, incoming: Stream| {
        let conn = incoming.open(reactor, watched(note));
        reactor[conn].pause();
        reactor[conn].hold();
        opens.set(Some(conn));
    };
    unix::listen(&mut reactor, &path, on_accept).unwrap();
    let mut client = UnixStream::connect(&path).unwrap();
    turn_until(&mut reactor, &mut told, |_, _| opened.get().is_some());
    client.write_all(b"said and gone").unwrap();
    drop(client);
    turns(&mut reactor, &mut told, 5);
    assert!(told.closed.is_none());
    reactor[opened.get().unwrap()].resume();
    turn_until(&mut reactor, &mut told, |_, told| told.closed.is_some());
    assert_eq!(told.bytes, b"said and gone");
}

#[cfg(feature = "peer-cred")]
#[test]
fn kernel_says_which_process_is_at_the_other_end() {
    skip_without!(NC);
    let (folder, mut reactor, mut seen) = (Folder::new(), Reactor::new().unwrap(), Vec::new());
    let path = folder.path("cred");
    unix::listen(&mut reactor, &path, |reactor, seen: &mut Vec<unix::Credentials>, incoming| {
        seen.push(incoming.peer_cred().unwrap());
        let conn = incoming.open(reactor, |_, _, _, _| {});
        seen.push(reactor[conn].peer_cred().unwrap());
    })
    .unwrap();
    let mut child =
        NC.command().arg("-U").arg(&path).stdin(std::process::Stdio::piped()).spawn().unwrap();
    turn_until(&mut reactor, &mut seen, |_, seen| seen.len() == 2);
    child.kill().unwrap();
    child.wait().unwrap();
    let me = fs::metadata(&folder.0).unwrap();
    let is_child = |pid: Option<u32>| pid.is_none_or(|pid| pid == child.id());
    assert!(seen.iter().all(|cred| is_child(cred.pid) && cred.uid == me.uid()));
    assert_eq!(seen[0].pid.is_some(), cfg!(target_os = "linux"));
    let tcp = Reactor::<()>::new().and_then(|mut reactor| {
        let any = waterwheel::net::tcp::listen(&mut reactor, "127.0.0.1:0", |_, _, incoming| {
            assert_eq!(incoming.peer_cred().unwrap_err().kind(), ErrorKind::Unsupported);
        })?;
        let _peer = support::tcp::Peer::to(reactor[any].local_addr());
        reactor.turn(&mut (), None)
    });
    assert_eq!(tcp.unwrap(), 1);
}
