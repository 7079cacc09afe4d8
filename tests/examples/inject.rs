//! Every system call that a server makes in a mixed run fails once, in every way it may.
//!
//! `strace` records a run; each call of it is then made to fail in a run of its own. A server that
//! serves must go on serving and give back every descriptor; one that starts may instead end with
//! one line and code 1, or code 2 if the kernel says that an argument was bad.
//!
//! `cargo test --test examples -- --ignored --nocapture inject` prints what was tried and what became of it.
#![cfg(target_os = "linux")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;
use support::ceiling;
use support::faults::{Call, errors, recorded, site, was_injected};
use support::process::{Process, example};

/// Runs at a time: they wait most of the time.
const WORKERS: usize = 8;
/// A client that hears nothing for so long is forgotten. Servers close silent ones after a second.
const PATIENCE: Duration = Duration::from_secs(5);
/// A server that takes nothing for so long has paused the connection.
const PAUSED: Duration = Duration::from_millis(40);
/// The buffers of a client that wants to be slow.
const SMALL_BUFFER: usize = 1 << 14;

/// A program under `strace`, and where that and stderr are written.
struct Traced {
    process: Process,
    trace: PathBuf,
    stderr: PathBuf,
}

impl Traced {
    /// `strace -D` stands beside the program and not above it, so that the program is our child.
    fn start(run: &str, server: &[&str], inject: &str) -> Traced {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("inject");
        fs::create_dir_all(&folder).unwrap();
        let [trace, stderr] = ["trace", "stderr"].map(|what| folder.join(format!("{run}.{what}")));
        let mut strace = Command::new("strace");
        strace.args(["-D", "-f", "-qq", "-o"]).arg(&trace).arg(inject);
        strace.arg(example(server[0]).get_program()).args(&server[1..]);
        strace.env_remove("RUST_LOG").stderr(File::create(&stderr).unwrap());
        Traced { process: Process::start(&mut strace), trace, stderr }
    }

    fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.process.id())).map_or(0, Iterator::count)
    }

    /// How it ended, as whoever typed the command sees it.
    fn end(mut self) -> Result<&'static str, String> {
        let (_, code) = self.process.finish();
        let said = fs::read_to_string(&self.stderr).unwrap();
        let is_one_line = said.starts_with("error: ") && said.lines().count() == 1;
        match code {
            Some(1) if is_one_line => Ok("ends"),
            Some(2) if is_one_line && said.contains("Invalid argument") => Ok("ends"),
            // Whoever read its output has gone.
            Some(0) if said.is_empty() => Ok("ends quietly"),
            _ => Err(format!("ended with {code:?}: {said}")),
        }
    }
}

fn connect(addr: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn echoed(stream: &mut TcpStream, text: &[u8]) -> std::io::Result<()> {
    stream.write_all(text)?;
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back)?;
    assert_eq!(back, text);
    Ok(())
}

/// More than the server can send: nothing is read until it takes no more, for it has paused.
fn large(addr: SocketAddr) -> std::io::Result<()> {
    let mut stream = connect(addr)?;
    let socket = SockRef::from(&stream);
    socket.set_recv_buffer_size(SMALL_BUFFER)?;
    socket.set_send_buffer_size(SMALL_BUFFER)?;
    stream.set_write_timeout(Some(PAUSED))?;
    let mut piece = &[b'x'; 1 << 18][..];
    loop {
        match stream.write(piece) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut reader = stream.try_clone()?;
    thread::scope(|scope| {
        let reader = scope.spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
        while !piece.is_empty() {
            piece = &piece[stream.write(piece)?..];
        }
        stream.shutdown(Shutdown::Write)?;
        reader.join().expect("no panic").map(drop)
    })
}

/// Clients of all kinds, one after the other. What becomes of them is not looked at: the fault may
/// have met any of them.
fn mixed(addr: SocketAddr) {
    let idle = connect(addr).map(|mut stream| {
        let _ = echoed(&mut stream, b"small\n");
        stream
    });
    let _ = large(addr);
    let _ = connect(addr).and_then(|mut stream| {
        echoed(&mut stream, b"reset\n")?;
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))
    });
    let _ = connect(addr).and_then(|mut stream| {
        stream.write_all(b"half-closed")?;
        stream.shutdown(Shutdown::Write)?;
        stream.read_to_end(&mut Vec::new())
    });
    let _ = idle.and_then(|mut stream| stream.read_to_end(&mut Vec::new()));
}

/// Runs the server through a mixed run. `Err` says what it should not have done.
fn serve(mut server: Traced, baseline: &AtomicUsize) -> Result<&'static str, String> {
    let Some(line) = server.process.try_line() else { return server.end() };
    let addr = line.strip_prefix("listening on ").and_then(|addr| addr.parse().ok());
    let addr: SocketAddr = addr.ok_or(format!("it said {line:?}"))?;
    let before =
        baseline.fetch_max(server.descriptors(), Ordering::SeqCst).max(server.descriptors());
    mixed(addr);
    // The fault may have waited for this client, but there is only one.
    let is_served = || connect(addr).and_then(|mut new| echoed(&mut new, b"are you there?\n"));
    if let Err(error) = is_served().or_else(|_| is_served()) {
        if error.kind() == ErrorKind::ConnectionRefused {
            return server.end();
        }
        return Err(format!("serves nobody any more: {error}"));
    }
    let fault = server.trace.to_string_lossy().into_owned();
    // A close(2) that never happened, as `strace` injects it, closes nothing.
    let close = usize::from(fault.contains("-close-"));
    let untrue_eagain = fault.contains("-recvfrom-EAGAIN-");
    let began = Instant::now();
    while server.descriptors() > before + close {
        if began.elapsed() > PATIENCE {
            let pair = before + 2;
            if untrue_eagain && server.descriptors() <= pair && edge_was_taken(&server.trace) {
                break;
            }
            return Err(format!("{before} descriptors became {}", server.descriptors()));
        }
        thread::park_timeout(Duration::from_millis(2));
    }
    let said = fs::read_to_string(&server.stderr).unwrap();
    if said.is_empty() { Ok("serves") } else { Err(said) }
}

/// Whether the read that failed was the last of its descriptor. Where EAGAIN was untrue, it has taken
/// the edge of what was there, such as the peer's end; no other edge comes, so nobody reads again, and
/// that pair stays until a limit of the program's ends it.
fn edge_was_taken(trace: &Path) -> bool {
    let trace = fs::read_to_string(trace).unwrap();
    let mut lines = trace.lines().skip_while(|line| !line.contains("(INJECTED)"));
    let read = lines.next().and_then(|line| line.split_once("recvfrom(")?.1.split_once(','));
    let Some((descriptor, _)) = read else { return false };
    let again = format!("recvfrom({descriptor},");
    !lines.any(|line| line.contains(&again))
}

/// A call to fail, and how.
struct Fault {
    /// Of the program's start, and else of its service.
    starts: bool,
    site: String,
    name: String,
    ordinal: usize,
    error: &'static str,
}

/// All faults that a recorded run suggests: of each kind of call the first, and one amid.
fn faults(calls: &[Call], starts: bool) -> Vec<Fault> {
    let mut sites: BTreeMap<String, Vec<&Call>> = BTreeMap::new();
    for call in calls {
        sites.entry(site(call)).or_default().push(call);
    }
    let mut faults = Vec::new();
    for (site, calls) in sites {
        let mut picks = vec![0, calls.len() / 2];
        picks.dedup();
        for call in picks.into_iter().map(|pick| calls[pick]) {
            faults.extend(errors(call).into_iter().map(|error| Fault {
                starts,
                site: site.clone(),
                name: call.name.clone(),
                ordinal: call.ordinal,
                error,
            }));
        }
    }
    faults
}

/// Tries every fault in turn; prints a table and fails if one was not survived.
fn survives(server: &[&str]) {
    let _ceiling = ceiling(Duration::from_secs(240));
    let baseline = AtomicUsize::new(0);
    let record = Traced::start(&format!("{}-record", server[0]), server, "--trace=all");
    let trace = record.trace.clone();
    assert_eq!(serve(record, &baseline), Ok("serves"), "without any fault");
    let (starting, serving) = recorded(&fs::read_to_string(trace).unwrap());
    let mut all = faults(&starting, true);
    all.extend(faults(&serving, false));
    println!("{} faults", all.len());
    let queue = Mutex::new(all.into_iter().enumerate());
    let tried = Mutex::new(Vec::new());
    let work = || {
        loop {
            let Some((number, fault)) = queue.lock().unwrap().next() else { break };
            let outcome = inject(server, number, &fault, &baseline);
            tried.lock().unwrap().push((fault, outcome));
        }
    };
    thread::scope(|scope| (0..WORKERS).for_each(|_| drop(scope.spawn(work))));
    judge(&tried.into_inner().unwrap());
}

/// One run with one fault.
fn inject(
    server: &[&str],
    number: usize,
    fault: &Fault,
    baseline: &AtomicUsize,
) -> Result<&'static str, String> {
    let Fault { name, error, .. } = fault;
    // How often a server writes depends on its peers: what came late once may not come again.
    for ordinal in [fault.ordinal, fault.ordinal, 1, 1] {
        let run = format!("{}-{number}-{name}-{error}-{ordinal}", server[0]);
        let inject = format!("--inject={name}:error={error}:when={ordinal}");
        let traced = Traced::start(&run, server, &inject);
        let trace = traced.trace.clone();
        let outcome = serve(traced, baseline);
        // epoll_wait(2) fails for a reason of its own only if the loop's descriptor is broken. What
        // a server cannot print is dropped.
        let breaks = name == "epoll_wait" && *error != "EINTR";
        let may_end = fault.starts || breaks;
        if was_injected(&trace) {
            return match outcome {
                Ok(outcome) if outcome != "serves" && !may_end => Err("it ended".to_owned()),
                outcome => outcome,
            };
        }
    }
    Ok("never came")
}

fn judge(tried: &[(Fault, Result<&'static str, String>)]) {
    let mut table: BTreeMap<_, BTreeSet<&str>> = BTreeMap::new();
    for (Fault { starts, site, error, .. }, outcome) in tried {
        let phase = if *starts { "start" } else { "serving" };
        let outcome = outcome.as_ref().map_or("FAILS", |outcome| outcome);
        table.entry((!starts, phase, site, outcome)).or_default().insert(error);
    }
    for ((_, phase, site, outcome), errors) in &table {
        let errors: Vec<&str> = errors.iter().copied().collect();
        println!("{phase:8} {site:24} {outcome:13} {}", errors.join(" "));
    }
    let mut failed = 0;
    for (Fault { site, ordinal, error, .. }, outcome) in tried {
        if let Err(why) = outcome {
            println!("{site} number {ordinal} fails with {error}: {why}");
            failed += 1;
        }
    }
    assert_eq!(failed, 0, "faults that were not survived");
    let came = |(fault, outcome): &(Fault, Result<&str, String>)| {
        (*outcome != Ok("never came")).then(|| fault.site.clone())
    };
    let came: BTreeSet<String> = tried.iter().filter_map(came).collect();
    assert!(tried.iter().all(|(fault, _)| came.contains(&fault.site)), "not tried at all");
}

#[test]
#[ignore = "wants strace: cargo test --test examples -- --ignored inject"]
fn echo_survives_every_failing_system_call() {
    survives(&["echo", "--idle", "1", "127.0.0.1:0"]);
}

#[test]
#[ignore = "wants strace: cargo test --test examples -- --ignored inject"]
fn proxy_survives_every_failing_system_call() {
    survives(&["proxy", "127.0.0.1:0", &upstream().to_string()]);
}

/// An echo that lives as long as this test, with a thread for each client.
fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut reader = stream.try_clone().unwrap();
            thread::spawn(move || {
                // As echo: it closes who is silent for a second.
                reader.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
                let _ = std::io::copy(&mut reader, &mut stream);
            });
        }
    });
    addr
}
