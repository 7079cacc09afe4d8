//! Children: pipes and status in any order, and nothing of them left behind.
#![cfg(unix)]

use std::cell::Cell;
use std::fs;
use std::net::TcpListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use rustix::process::{Pid, WaitOptions, waitpid};
use support::clients::skip_without;
use support::tcp::{Flow, alone, alone_by, turn_until, turns, unclosed, watched};
use support::{MS, ceiling};
use waterwheel::net::{Event, Lines, Reason, Stream};
use waterwheel::net::{Framed, framed};
use waterwheel::process::Signal;
use waterwheel::process::{Exit, Spawn, spawn};
use waterwheel::reactor::Alive;
use waterwheel::timers::ManualClock;
use waterwheel::{Context, Reactor, SourceId};

const LIMIT: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(30);

/// What was told, in order.
type Log = Vec<String>;

fn sh(script: &str) -> Spawn {
    let mut command = Command::new("sh");
    command.args(["-c", script]).stdin(Stdio::null());
    Spawn::new(command)
}

fn exit(_: &mut Context<Log>, log: &mut Log, _: SourceId<waterwheel::process::Child>, exit: Exit) {
    log.push(format!("exit {} {}", exit.code(), if exit.drained { "drained" } else { "open" }));
}

/// Opens an output pipe whose lines and end are noted.
fn note(reactor: &mut Context<Log>, name: &'static str, pipe: Option<Stream>) {
    let pipe = pipe.expect("it was asked for");
    let told = framed(Lines::new(10_000), move |_, log: &mut Log, _, frame| match frame {
        Framed::Frame(line) => log.push(format!("{name} {}", String::from_utf8_lossy(line))),
        Framed::Closed(why) => log.push(format!("{name} {why}")),
        _ => {}
    });
    pipe.open(reactor, watched(told));
}

/// Whether a process of that number exists and runs: neither gone nor a zombie.
fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
    state.is_some_and(|state| state != 'Z' && state != 'X')
}

/// Whether it is one of ours that nobody has waited for.
fn is_zombie(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
}

#[test]
fn output_is_told_before_the_end() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut log) = (Reactor::new().unwrap(), Log::new());
    let script = "echo out; echo error >&2; exit 7";
    let child = sh(script).stdout().stderr().open(&mut reactor, exit).unwrap();
    assert!(child.stdin.is_none());
    let pid = reactor[child.id].pid();
    note(&mut reactor, "stdout", child.stdout);
    note(&mut reactor, "stderr", child.stderr);
    reactor.run(&mut log).unwrap();
    assert_eq!(log.pop().unwrap(), "exit 7 drained");
    log.sort();
    assert_eq!(log, ["stderr error", "stderr finished", "stdout finished", "stdout out"]);
    assert!(!runs(pid) && !is_zombie(pid) && !reactor.contains(child.id));
}

#[test]
fn signal_that_killed_a_child_is_told() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut log) = (Reactor::new().unwrap(), Log::new());
    sh("kill -9 $$")
        .open(&mut reactor, |_, log: &mut Log, _, exit| {
            log.push(format!("{exit} {} {}", exit.code(), exit.is_success()));
        })
        .unwrap();
    reactor.run(&mut log).unwrap();
    assert_eq!(log, ["signal: 9 (SIGKILL) 137 false"]);
}

#[test]
fn end_waits_for_output_that_comes_after_the_exit() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut log) = (Reactor::new().unwrap(), Log::new());
    // The grandchild writes when it is told to, which is after the child was seen to be a zombie.
    let script = "exec 3<&0; { read word <&3; echo $word; } & echo early; exit 3";
    let spawn = sh(script).stdin().stdout().drain_grace(LONG);
    let child = spawn.open(&mut reactor, exit).unwrap();
    let pid = reactor[child.id].pid();
    let stdin = child.stdin.unwrap().open(&mut reactor, watched(|_, _, _, _| {}));
    note(&mut reactor, "stdout", child.stdout);
    turn_until(&mut reactor, &mut log, |_, log| is_zombie(pid) && log.len() == 1);
    turns(&mut reactor, &mut log, 5);
    assert_eq!(log, ["stdout early"], "the end waits");
    let _ = reactor[stdin].write(b"late\n");
    reactor[stdin].close();
    reactor.run(&mut log).unwrap();
    assert_eq!(log[1..], ["stdout late", "stdout finished", "exit 3 drained"]);
    assert!(!is_zombie(pid));
}

#[test]
fn end_does_not_wait_for_ever_for_a_grandchild() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut log) = (Reactor::new().unwrap(), Log::new());
    let script = "exec 3<&0; { read word <&3; echo $word; } & echo early; exit 3";
    let spawn = sh(script).stdin().stdout().drain_grace(20 * MS);
    let child = spawn.open(&mut reactor, exit).unwrap();
    let stdin = child.stdin.unwrap().open(&mut reactor, watched(|_, _, _, _| {}));
    note(&mut reactor, "stdout", child.stdout);
    turn_until(&mut reactor, &mut log, |_, log| log.len() == 2);
    assert_eq!(log, ["stdout early", "exit 3 open"]);
    // What comes later still comes.
    let _ = reactor[stdin].write(b"late\n");
    reactor[stdin].close();
    reactor.run(&mut log).unwrap();
    assert_eq!(log[2..], ["stdout late", "stdout finished"]);
    assert_eq!(unclosed(), 0);
}

#[test]
fn end_does_not_wait_for_a_kill_that_is_not_needed_any_more() {
    let _ceiling = ceiling(LIMIT);
    for asks_late in [false, true] {
        let (mut reactor, mut log) = (Reactor::new().unwrap(), Log::new());
        let script = "exec 3<&0; { read word <&3; } & echo ready; wait";
        let spawn = sh(script).stdin().stdout().drain_grace(100 * MS);
        let child = spawn.open(&mut reactor, exit).unwrap();
        note(&mut reactor, "stdout", child.stdout);
        turn_until(&mut reactor, &mut log, |_, log| log.len() == 1);
        if asks_late {
            reactor[child.id].kill(Signal::TERM).unwrap();
            let pid = reactor[child.id].pid();
            turn_until(&mut reactor, &mut log, |_, _| is_zombie(pid));
            turns(&mut reactor, &mut log, 2);
        }
        // On a machine that stands still for so long its end is told already.
        reactor.get_mut(child.id).map_or(Ok(()), |child| child.terminate(Duration::MAX)).unwrap();
        turn_until(&mut reactor, &mut log, |_, log| log.len() == 2);
        assert_eq!(log, ["stdout ready", "exit 143 open"]);
        drop(child.stdin);
        reactor.run(&mut log).unwrap();
    }
}

#[test]
fn end_does_not_wait_for_ever_for_a_handler_that_has_paused() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut log) = (Reactor::new().unwrap(), Log::new());
    let spawn = sh("echo out").stdout().drain_grace(20 * MS);
    let child = spawn.open(&mut reactor, exit).unwrap();
    let stdout = child.stdout.unwrap().open(
        &mut reactor,
        watched(|_, log: &mut Log, _, event| {
            if let Event::Data(bytes) = event {
                log.push(String::from_utf8_lossy(bytes).into_owned());
            }
        }),
    );
    reactor[stdout].pause();
    turn_until(&mut reactor, &mut log, |_, log| !log.is_empty());
    reactor[stdout].resume();
    reactor.run(&mut log).unwrap();
    assert_eq!(log, ["exit 0 open", "out\n"]);
}

#[test]
fn children_of_a_crowd_are_each_told_once_and_none_is_left() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut codes) = (Reactor::new().unwrap(), Vec::new());
    let mut pids = Vec::new();
    for code in 0..60 {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("exit {code}")]);
        let child = spawn(&mut reactor, command, |_, codes: &mut Vec<i32>, _, exit| {
            codes.push(exit.code());
        });
        pids.push(reactor[child.unwrap()].pid());
    }
    reactor.run(&mut codes).unwrap();
    codes.sort();
    assert_eq!(codes, (0..60).collect::<Vec<_>>());
    assert!(pids.iter().all(|pid| !is_zombie(*pid)));
}

#[test]
fn program_that_cannot_be_started_is_named_by_the_error() {
    let mut reactor = Reactor::<()>::new().unwrap();
    let mut refused = |command: Command| {
        let child = spawn(&mut reactor, command, |_, _, _, _| unreachable!("it never ran"));
        child.unwrap_err()
    };
    let error = refused(Command::new("no-such-program"));
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    assert!(error.to_string().starts_with("cannot start no-such-program: No such file"), "{error}");
    let error = refused(Command::new("/etc/passwd"));
    assert!(
        error.to_string().starts_with("cannot start /etc/passwd: Permission denied"),
        "{error}"
    );
    let mut command = Command::new("true");
    command.current_dir("/no/such/folder");
    let error = refused(command).to_string();
    assert!(error.starts_with("cannot start true in /no/such/folder: No such file"), "{error}");
    reactor.run(&mut ()).unwrap(); // Nothing holds the loop.
}

#[test]
fn bytes_pass_through_a_child_unchanged() {
    let _ceiling = ceiling(LIMIT);
    const BYTES: usize = 3_000_000;
    let (mut reactor, mut flows) = (Reactor::new().unwrap(), (Flow::default(), Flow::default()));
    type Flows = (Flow, Flow);
    let cat = Spawn::new(Command::new("cat")).stdin().stdout();
    let told = Rc::new(Cell::new(None));
    let tell = told.clone();
    let child = cat.open(&mut reactor, move |_, _: &mut Flows, _, exit| {
        tell.set(Some((exit.code(), exit.drained)));
    });
    let child = child.unwrap();
    fn fill(reactor: &mut Context<Flows>, flows: &mut Flows, id: SourceId<waterwheel::net::Conn>) {
        while flows.0.at < BYTES {
            let piece = flows.0.peek((BYTES - flows.0.at).min(50_000));
            match reactor[id].write(piece) {
                waterwheel::net::Pressure::Refused | waterwheel::net::Pressure::Closed => return,
                waterwheel::net::Pressure::AboveHigh => {
                    flows.0.at += piece.len();
                    return;
                }
                waterwheel::net::Pressure::Below => flows.0.at += piece.len(),
            }
        }
        reactor[id].close();
    }
    let stdin = child.stdin.unwrap().open(
        &mut reactor,
        watched(|reactor, flows, id, event| {
            if let Event::Drained = event {
                fill(reactor, flows, id);
            }
        }),
    );
    child.stdout.unwrap().open(
        &mut reactor,
        watched(|_, flows: &mut Flows, _, event| {
            if let Event::Data(bytes) = event {
                flows.1.check(bytes);
            }
        }),
    );
    fill(&mut reactor, &mut flows, stdin);
    reactor.run(&mut flows).unwrap();
    assert_eq!((flows.1.at, told.get()), (BYTES, Some((0, true))));
}

#[test]
fn child_that_does_not_read_its_stdin_resets_it() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut log) = (Reactor::new().unwrap(), Log::new());
    let child = sh("exit 0").stdin().open(&mut reactor, exit).unwrap();
    child.stdin.unwrap().open(
        &mut reactor,
        watched(|_, log: &mut Log, _, event| {
            if let Event::Closed(why) = event {
                assert!(matches!(why, Reason::Reset), "{why:?}");
                log.push("stdin reset".to_owned());
            }
        }),
    );
    reactor.run(&mut log).unwrap();
    log.sort();
    assert_eq!(log, ["exit 0 drained", "stdin reset"]);
}

#[test]
fn pipes_that_are_dropped_are_closed_and_the_end_is_told() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut log) = (Reactor::new().unwrap(), Log::new());
    let spawn = sh("read word; echo $word; echo $word; exit 5").stdin().stdout().stderr();
    drop(spawn.drain_grace(LONG).open(&mut reactor, exit).unwrap());
    reactor.run(&mut log).unwrap();
    assert_eq!(log.len(), 1);
    assert!(log[0].ends_with(" drained"), "{log:?}");
}

#[test]
fn terminate_is_polite_first() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut log) = (Reactor::new().unwrap(), Log::new());
    let script = "trap 'echo bye; exit 9' TERM; echo ready; while :; do read word; done";
    let child = sh(script).stdin().stdout().open(&mut reactor, exit).unwrap();
    note(&mut reactor, "stdout", child.stdout);
    turn_until(&mut reactor, &mut log, |_, log| !log.is_empty());
    reactor[child.id].terminate(LONG).unwrap();
    reactor.run(&mut log).unwrap();
    assert_eq!(log, ["stdout ready", "stdout bye", "stdout finished", "exit 9 drained"]);
}

#[test]
fn terminate_kills_a_child_that_does_not_listen() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut log) = (Reactor::new().unwrap(), Log::new());
    let script = "trap '' TERM; echo ready; read word";
    let child = sh(script).stdin().stdout().open(&mut reactor, exit).unwrap();
    let stdin = child.stdin.unwrap().open(&mut reactor, watched(|_, _, _, _| {}));
    note(&mut reactor, "stdout", child.stdout);
    turn_until(&mut reactor, &mut log, |_, log| !log.is_empty());
    reactor[child.id].terminate(20 * MS).unwrap();
    reactor.run(&mut log).unwrap();
    assert_eq!(log, ["stdout ready", "stdout finished", "exit 137 drained"]);
    assert!(reactor.get(stdin).is_none());
}

#[test]
fn terminate_wakes_a_child_that_is_stopped() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut log) = (Reactor::new().unwrap(), Log::new());
    let mut command = Command::new("sleep");
    command.arg("1000");
    let child = spawn(&mut reactor, command, exit).unwrap();
    reactor[child].kill(Signal::STOP).unwrap();
    turns(&mut reactor, &mut log, 3);
    reactor[child].terminate(LONG).unwrap();
    reactor.run(&mut log).unwrap();
    assert_eq!(log, ["exit 143 drained"]);
}

/// A shell that starts a grandchild, which says its pid and does not listen to SIGTERM if it is
/// `stubborn`; both wait for ever.
fn family(stubborn: bool) -> Spawn {
    let trap = if stubborn { "trap '' TERM;" } else { "" };
    let script = format!("sh -c \"{trap} echo \\$\\$; exec sleep 1000\" & wait");
    sh(&script).stdout()
}

#[test]
fn group_is_signalled_as_a_whole() {
    let _ceiling = ceiling(LIMIT);
    for stubborn in [false, true] {
        let (mut reactor, mut log) = (Reactor::new().unwrap(), Log::new());
        let spawn = family(stubborn).group().drain_grace(LONG);
        let child = spawn.open(&mut reactor, exit).unwrap();
        note(&mut reactor, "", child.stdout);
        turn_until(&mut reactor, &mut log, |_, log| !log.is_empty());
        let grandchild: u32 = log[0].trim().parse().unwrap();
        assert!(runs(grandchild));
        reactor[child.id].terminate(50 * MS).unwrap();
        reactor.run(&mut log).unwrap();
        assert_eq!(log[1..], [" finished", "exit 143 drained"]);
        turn_until(&mut reactor, &mut log, |_, _| !runs(grandchild));
    }
}

#[test]
fn what_is_left_of_a_terminated_group_goes_with_its_leader() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut log) = (Reactor::new().unwrap(), Log::new());
    // It gives the pipe up, so nothing tells of it any more.
    let script = "sh -c \"trap '' TERM; echo \\$\\$; exec sleep 1000 >/dev/null\" & wait";
    let child = sh(script).stdout().group().open(&mut reactor, exit).unwrap();
    note(&mut reactor, "", child.stdout);
    turn_until(&mut reactor, &mut log, |_, log| !log.is_empty());
    let grandchild: u32 = log[0].trim().parse().unwrap();
    reactor[child.id].terminate(LONG).unwrap();
    reactor.run(&mut log).unwrap();
    turn_until(&mut reactor, &mut log, |_, _| !runs(grandchild));
}

#[test]
fn what_is_left_of_a_group_may_go_when_its_leader_ends_by_itself() {
    let _ceiling = ceiling(LIMIT);
    for goes in [true, false] {
        let (mut reactor, mut log) = (Reactor::new().unwrap(), Log::new());
        let spawn = sh("sh -c 'echo $$; exec sleep 1000 >/dev/null' & read line").stdin().stdout();
        let spawn = if goes { spawn.group_ends_with_it() } else { spawn.group() };
        let child = spawn.open(&mut reactor, exit).unwrap();
        note(&mut reactor, "", child.stdout);
        turn_until(&mut reactor, &mut log, |_, log| !log.is_empty());
        let grandchild: u32 = log[0].trim().parse().unwrap();
        drop(child.stdin); // The leader reads the end, and ends.
        reactor.run(&mut log).unwrap();
        assert_eq!(log[1..], [" finished", "exit 1 drained"]);
        if goes {
            turn_until(&mut reactor, &mut log, |_, _| !runs(grandchild));
        } else {
            assert!(runs(grandchild));
            let pid = rustix::process::Pid::from_raw(grandchild as i32).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
    }
}

/// The descriptors a child has, as `sh` sees them.
fn listing() -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "cd /proc/self/fd && for fd in *; do [ -e $fd ] && echo $fd; done"]);
    command
}

#[test]
#[cfg(target_os = "linux")]
fn child_inherits_no_descriptor() {
    if !alone("child_inherits_no_descriptor") {
        return;
    }
    // What this process was given itself is passed on; nothing else is to be.
    let before = listing().output().unwrap().stdout;
    let (mut reactor, mut log) = (Reactor::new().unwrap(), Log::new());
    let on = |_: &mut Context<Log>, _: &mut Log, _: Stream| {};
    waterwheel::net::tcp::listen(&mut reactor, "127.0.0.1:0", on).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let done = |_: &mut Context<Log>, _: &mut Log, _: std::io::Result<Stream>| {};
    let addr = listener.local_addr().unwrap();
    waterwheel::net::tcp::connect(&mut reactor, addr, LONG, done).unwrap();
    reactor.on_signal(Signal::WINCH, |_, _, _| {}).unwrap();
    let inherited = waterwheel::net::stdio(&mut reactor).unwrap();
    inherited.open(&mut reactor, |_, _, _, _| {});
    let sibling = sh("read word").stdin().stdout().stderr();
    let _sibling = sibling.open(&mut reactor, |_, _, _, _| {}).unwrap();
    let lister = Spawn::new(listing()).stdin().stdout();
    let child = lister.open(&mut reactor, |reactor, _, _, _| reactor.stop()).unwrap();
    note(&mut reactor, "", child.stdout);
    reactor.run(&mut log).unwrap();
    assert_eq!(log.pop().unwrap(), " finished");
    let after: String = log.iter().map(|line| format!("{}\n", line.trim())).collect();
    assert_eq!(after, String::from_utf8(before).unwrap());
    assert!(after.starts_with("0\n1\n"), "{after}");
}

#[test]
#[cfg(target_os = "linux")]
fn children_leave_no_descriptor_behind() {
    let _ceiling = ceiling(LIMIT);
    if !alone("children_leave_no_descriptor_behind") {
        return;
    }
    let open = || fs::read_dir("/proc/self/fd").unwrap().count();
    let (mut reactor, mut log) = (Reactor::new().unwrap(), Log::new());
    let mut counts = Vec::new();
    for _ in 0..3 {
        for _ in 0..40 {
            let spawn = sh("read word; echo out; exit 1").stdin().stdout().stderr();
            let child = spawn.open(&mut reactor, exit).unwrap();
            let stdin = child.stdin.unwrap().open(&mut reactor, watched(|_, _, _, _| {}));
            reactor[stdin].close();
            note(&mut reactor, "", child.stdout);
        }
        reactor.run(&mut log).unwrap();
        counts.push((open(), reactor.sources()));
    }
    assert!(counts[0] == counts[1] && counts[1] == counts[2], "{counts:?}");
    assert_eq!(unclosed(), 0);
}

#[test]
fn dropping_the_loop_leaves_a_child_running_unless_it_was_to_be_killed() {
    let _ceiling = ceiling(LIMIT);
    for killed in [false, true] {
        let mut reactor = Reactor::<()>::new().unwrap();
        let mut command = Command::new("sleep");
        command.arg("1000");
        let spawn = Spawn::new(command);
        let spawn = if killed { spawn.kill_on_drop() } else { spawn };
        let held = Rc::new(());
        let holds = held.clone();
        let child = spawn.open(&mut reactor, move |_, _, _, _| drop(holds)).unwrap();
        let pid = reactor[child.id].pid();
        drop(reactor);
        assert_eq!((runs(pid), Rc::strong_count(&held)), (!killed, 1));
        if !killed {
            let pid = Pid::from_raw(pid as i32).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
            waitpid(Some(pid), WaitOptions::empty()).unwrap();
        }
        assert!(!is_zombie(pid));
    }
}

#[test]
fn child_that_somebody_else_waited_for_is_told_all_the_same() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut log) = (Reactor::new().unwrap(), Log::new());
    let on_exit = |_: &mut Context<Log>, log: &mut Log, _, exit: Exit| {
        log.push(format!("{} {}", exit.code(), exit.status.is_err()));
    };
    let child = spawn(&mut reactor, Command::new("true"), on_exit).unwrap();
    let pid = Pid::from_raw(reactor[child].pid() as i32).unwrap();
    waitpid(Some(pid), WaitOptions::empty()).unwrap();
    reactor.run(&mut log).unwrap();
    assert_eq!(log, ["127 true"]);
}

#[test]
fn handler_that_panics_is_the_last_of_its_child() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut log) = (Reactor::new().unwrap(), Log::new());
    let bad =
        spawn(&mut reactor, Command::new("true"), |_, _: &mut Log, _, _| panic!("on purpose"));
    let pid = reactor[bad.unwrap()].pid();
    let end = catch_unwind(AssertUnwindSafe(|| reactor.run(&mut log)));
    assert!(end.is_err() && !is_zombie(pid));
    spawn(&mut reactor, Command::new("true"), exit).unwrap();
    reactor.run(&mut log).unwrap();
    assert_eq!(log, ["exit 0 drained"]);
}

#[test]
fn child_holds_the_loop_and_says_where_it_came_from() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut log) = (Reactor::new().unwrap(), Log::new());
    let mut command = Command::new("sleep");
    command.arg("1000");
    let child = Spawn::new(command).kill_on_drop().open(&mut reactor, exit).unwrap().id;
    let why = reactor.why_alive();
    let [Alive::Source(id, place)] = why[..] else { panic!("{why:?}") };
    assert_eq!((id, place.file()), (child.raw(), "tests/process/children.rs"));
    assert_eq!(reactor[child].name(), "sleep");
    reactor.unref(child);
    reactor.run(&mut log).unwrap(); // Returns, though it runs.
    assert!(runs(reactor[child].pid()));
    reactor[child].kill(Signal::KILL).unwrap();
    reactor.reref(child);
    reactor.run(&mut log).unwrap();
    assert_eq!(log, ["exit 137 drained"]);
}

#[test]
fn loops_of_several_threads_have_their_own_children() {
    let _ceiling = ceiling(LIMIT);
    let threads = (0..4).map(|thread| {
        std::thread::spawn(move || {
            let (mut reactor, mut log) = (Reactor::new().unwrap(), Log::new());
            for code in 0..10 {
                let script = format!("exit {}", 10 * thread + code);
                sh(&script).open(&mut reactor, exit).unwrap();
            }
            reactor.run(&mut log).unwrap();
            log.sort();
            let mut all: Vec<_> =
                (0..10).map(|code| format!("exit {} drained", 10 * thread + code)).collect();
            all.sort();
            assert_eq!(log, all);
        })
    });
    for thread in threads.collect::<Vec<_>>() {
        thread.join().unwrap();
    }
}

#[test]
fn callback_of_one_child_may_start_the_next() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut count) = (Reactor::new().unwrap(), 0);
    fn again(reactor: &mut Context<u32>, count: &mut u32) {
        if *count < 20 {
            *count += 1;
            spawn(reactor, Command::new("true"), |reactor, count, _, exit| {
                assert!(exit.is_success());
                again(reactor, count);
            })
            .unwrap();
        }
    }
    again(&mut reactor, &mut count);
    reactor.run(&mut count).unwrap();
    assert_eq!((count, reactor.why_alive().len()), (20, 0));
}

#[test]
#[cfg(target_os = "linux")]
fn end_is_told_whatever_the_parent_did_to_sigchld() {
    skip_without!(ENV);
    let scenes = ["--block-signal=CHLD", "--ignore-signal=CHLD", "--block-signal"];
    for scene in scenes {
        if alone_by(&["env", scene], "end_is_told_whatever_the_parent_did_to_sigchld") {
            let _ceiling = ceiling(LIMIT);
            let (mut reactor, mut log) = (Reactor::new().unwrap(), Log::new());
            spawn(&mut reactor, Command::new("true"), exit).unwrap();
            sh("exit 3").stdout().open(&mut reactor, exit).unwrap();
            reactor.run(&mut log).unwrap();
            log.sort();
            assert_eq!(log, ["exit 0 drained", "exit 3 drained"]);
            return;
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn child_hears_what_its_loop_handles_though_the_parent_had_blocked_or_ignored_it() {
    skip_without!(ENV);
    let test = "child_hears_what_its_loop_handles_though_the_parent_had_blocked_or_ignored_it";
    if !alone_by(&["env", "--block-signal=TERM,USR1", "--ignore-signal=TERM,USR2"], test) {
        return;
    }
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut log) = (Reactor::new().unwrap(), Log::new());
    reactor.on_signal(Signal::TERM, |_, _, _| {}).unwrap();
    // No shell, which would begin with a mask of its own. TERM is bit 14, USR1 bit 9, USR2 bit 11.
    let mut command = Command::new("grep");
    command.args(["-E", "^Sig(Blk|Ign):", "/proc/self/status"]);
    let child = Spawn::new(command).stdout().open(&mut reactor, exit).unwrap();
    note(&mut reactor, "", child.stdout);
    reactor.run(&mut log).unwrap();
    let mask = |line: &str| u64::from_str_radix(line.split('\t').next_back().unwrap(), 16).unwrap();
    assert_eq!(mask(&log[0]) & (1 << 14 | 1 << 9), 1 << 9, "{log:?}"); // Blocked: not asked for.
    assert_eq!(mask(&log[1]) & (1 << 14 | 1 << 11), 1 << 11, "{log:?}"); // Ignored: as with std.
    log.clear();
    let mut command = Command::new("sleep");
    command.arg("1000").stderr(Stdio::null());
    let child = Spawn::new(command).kill_on_drop().open(&mut reactor, exit).unwrap();
    reactor[child.id].terminate(LONG).unwrap();
    reactor.run(&mut log).unwrap();
    assert_eq!(log, ["exit 143 drained"]);
}

/// A child that has gone, whose pipes a grandchild has, and its number: where it was told is the
/// third line of the log.
fn orphan(spawn: Spawn, log: &mut Log) -> (Reactor<Log>, ManualClock, u32) {
    let clock = ManualClock::held();
    let mut reactor = Reactor::builder().clock(&clock).build().unwrap();
    let child = spawn.stderr().drain_grace(20 * MS).linger(50 * MS).open(&mut reactor, exit);
    let child = child.unwrap();
    let pid = reactor[child.id].pid();
    note(&mut reactor, "stderr", child.stderr);
    if let Some(stdout) = child.stdout {
        note(&mut reactor, "stdout", Some(stdout));
    }
    if let Some(stdin) = child.stdin {
        stdin.open(&mut reactor, watched(|_, _, _, _| {}));
    }
    turn_until(&mut reactor, log, |reactor, log| {
        !log.is_empty() && (is_zombie(pid) || !reactor.contains(child.id))
    });
    let grandchild = log.remove(0).strip_prefix("stderr ").unwrap().parse().unwrap();
    (reactor, clock, grandchild)
}

fn kill(pid: u32) {
    let pid = Pid::from_raw(pid as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn pipe_that_a_grandchild_keeps_holds_the_loop_for_a_while_only() {
    let _ceiling = ceiling(LIMIT);
    let all = "sleep 1000 & echo $! >&2; exit 3";
    let stderr = "sleep 1000 >/dev/null & echo $! >&2; exit 3";
    let stdin = "exec 3<&0; sleep 1000 <&3 3<&- >/dev/null 2>&1 & echo $! >&2; exit 3";
    let cases = [
        (sh(all).stdout(), "exit 3 open"),
        (sh(stderr), "exit 3 open"),
        (sh(stdin).stdin(), "exit 3 drained"),
    ];
    for (spawn, told) in cases {
        let mut log = Log::new();
        let (mut reactor, clock, grandchild) = orphan(spawn, &mut log);
        turns(&mut reactor, &mut log, 5);
        if told.ends_with("open") {
            clock.advance(20 * MS);
        }
        turn_until(&mut reactor, &mut log, |_, log| log.iter().any(|line| line == told));
        clock.advance(49 * MS);
        turns(&mut reactor, &mut log, 3);
        assert!(!reactor.why_alive().is_empty() && runs(grandchild), "{told}");
        clock.advance(MS);
        turns(&mut reactor, &mut log, 3);
        assert!(reactor.why_alive().is_empty(), "{told}: {:?}", reactor.why_alive());
        // It is open all the same, and its end is told if the loop goes on.
        let open = reactor.sources();
        kill(grandchild);
        turn_until(&mut reactor, &mut log, |reactor, _| reactor.sources() < open);
    }
}

#[test]
fn pipe_that_its_handler_has_paused_is_not_let_go() {
    let _ceiling = ceiling(LIMIT);
    let clock = ManualClock::held();
    let (mut reactor, mut log) = (Reactor::builder().clock(&clock).build().unwrap(), Log::new());
    let spawn = sh("sleep 1000 & echo $!").stdout().drain_grace(20 * MS).linger(Duration::ZERO);
    let child = spawn.open(&mut reactor, exit).unwrap();
    let pid = reactor[child.id].pid();
    let stdout = child.stdout.unwrap().open(
        &mut reactor,
        watched(|_, log: &mut Log, _, event| {
            if let Event::Data(bytes) = event {
                log.push(String::from_utf8_lossy(bytes).into_owned());
            }
        }),
    );
    reactor[stdout].pause();
    turn_until(&mut reactor, &mut log, |_, _| is_zombie(pid));
    turns(&mut reactor, &mut log, 5);
    clock.advance(20 * MS);
    turn_until(&mut reactor, &mut log, |_, log| !log.is_empty());
    clock.advance(10 * LONG);
    turns(&mut reactor, &mut log, 5);
    assert_eq!((&log[..], reactor.why_alive().len()), (&["exit 0 open".to_owned()][..], 1));
    reactor[stdout].resume();
    turn_until(&mut reactor, &mut log, |_, log| log.len() == 2);
    clock.advance(Duration::from_secs(1));
    reactor.run(&mut log).unwrap(); // Returns, though the grandchild lives.
    kill(log[1].trim().parse().unwrap());
}
