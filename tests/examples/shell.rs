//! The example `shell`, with real commands.
#![cfg(unix)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use support::ceiling;
use support::process::{Process, example, output};

/// The lines a run prints, sorted, and its exit code.
fn run(args: &[&str]) -> (Vec<String>, i32) {
    let Output { status, stdout, stderr } = output("shell", args);
    assert!(stderr.is_empty(), "{}", String::from_utf8_lossy(&stderr));
    let text = String::from_utf8(stdout).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    (lines, status.code().expect("it was not killed"))
}

fn runs(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
    state.is_some_and(|state| state != 'Z' && state != 'X')
}

/// Children of a process, zombies among them.
fn children_of(parent: i32) -> Vec<String> {
    let stats = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("stat")).ok());
    let is_child = |stat: &String| {
        let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        fields.nth(1) == Some(parent.to_string().as_str())
    };
    stats.filter(is_child).collect()
}

fn await_that(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(30), "waited in vain: {what}");
        std::thread::yield_now();
    }
}

fn signal(process: &Process, signal: Signal) {
    kill_process(Pid::from_raw(process.id() as i32).unwrap(), signal).unwrap();
}

#[test]
fn lines_of_all_commands_come_with_their_numbers() {
    let (lines, code) = run(&["echo one; echo error >&2", "printf 'no end'", "true"]);
    let ends = ["1: exit status: 0", "2: exit status: 0", "3: exit status: 0"];
    assert_eq!(lines, [ends[0], "1| error", "1| one", ends[1], "2| no end", ends[2]]);
    assert_eq!(code, 0);
}

#[test]
fn command_that_fails_is_started_again_and_given_up_in_the_end() {
    let (lines, code) = run(&["--restarts", "2", "--backoff", "10", "echo x; exit 3", "true"]);
    let expected = [
        "1: exit status: 3",
        "1: exit status: 3; again in 10ms",
        "1: exit status: 3; again in 20ms",
        "1| x",
        "1| x",
        "1| x",
        "2: exit status: 0",
    ];
    assert_eq!((&lines[..], code), (&expected.map(str::to_owned)[..], 3));
}

#[test]
fn command_that_is_killed_or_missing_gives_the_codes_of_a_shell() {
    let (lines, code) = run(&["--restarts", "0", "kill -9 $$"]);
    assert_eq!((&lines[..], code), (&["1: signal: 9 (SIGKILL)".to_owned()][..], 137));
    let (_, code) = run(&["--restarts", "0", "no-such-program"]);
    assert_eq!(code, 127);
}

#[test]
fn command_that_succeeds_in_the_end_was_a_success() {
    let file = std::env::temp_dir().join(format!("waterwheel-shell-{}", std::process::id()));
    let script = format!("test -e {0} || {{ touch {0}; exit 1; }}", file.display());
    let (lines, code) = run(&["--backoff", "1", &script]);
    assert_eq!((lines.len(), code), (2, 0), "{lines:?}");
    fs::remove_file(file).unwrap();
}

#[test]
fn first_signal_is_passed_on_and_nothing_is_left() {
    let family = "sh -c 'echo $$; exec sleep 1000' & echo $$; wait";
    // The second one waits to be started again, and is not.
    let mut shell = Process::start(example("shell").args(["--backoff", "9999", family, "exit 1"]));
    let id = shell.id() as i32;
    let mut pids = Vec::new();
    let mut waits = false;
    while pids.len() < 2 || !waits {
        let line = shell.line();
        pids.extend(line.strip_prefix("1| ").map(|pid| pid.parse::<i32>().unwrap()));
        waits |= line == "2: exit status: 1; again in 9.999s";
    }
    assert!(pids.iter().all(|pid| runs(*pid)));
    signal(&shell, Signal::TERM);
    let mut rest: Vec<String> = (0..3).map(|_| shell.line()).collect();
    rest.sort();
    let told = ["1: SIGTERM sent", "1: signal: 15 (SIGTERM)", "2: not started again"];
    assert_eq!(rest, told);
    assert_eq!(shell.finish(), (Vec::new(), Some(143)));
    await_that("both are gone", || pids.iter().all(|pid| !runs(*pid)));
    assert!(children_of(id).is_empty());
}

#[test]
fn second_signal_kills() {
    let mut shell = Process::start(example("shell").args(["trap '' INT; echo up; sleep 1000"]));
    assert_eq!(shell.line(), "1| up");
    signal(&shell, Signal::INT);
    assert_eq!(shell.line(), "1: SIGINT sent");
    signal(&shell, Signal::INT);
    assert_eq!(shell.line(), "1: SIGKILL sent");
    assert_eq!(shell.finish(), (b"1: signal: 9 (SIGKILL)\n".to_vec(), Some(130)));
}

#[test]
fn finished_commands_leave_no_zombies_while_others_run() {
    let mut shell = Process::start(example("shell").args(["true", "true", "echo up; sleep 1000"]));
    let mut lines: Vec<String> = (0..3).map(|_| shell.line()).collect();
    lines.sort();
    assert_eq!(lines, ["1: exit status: 0", "2: exit status: 0", "3| up"]);
    assert_eq!(children_of(shell.id() as i32).len(), 1);
    signal(&shell, Signal::TERM);
    assert_eq!(shell.finish().1, Some(143));
}

#[test]
fn commands_end_when_nobody_reads_what_they_print() {
    let _ceiling = ceiling(Duration::from_secs(60));
    let mut shell = example("shell");
    shell.args(["echo $$; exec yes"]).stdout(Stdio::piped());
    let mut shell = shell.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let pid: i32 = line.trim().strip_prefix("1| ").unwrap().parse().unwrap();
    assert_eq!(shell.wait().unwrap().code(), Some(143));
    await_that("the command ends, too", || !runs(pid));
}

#[test]
fn command_that_prints_more_than_is_read_waits() {
    let mut shell = Process::start(example("shell").args(["yes", "yes n"]));
    for _ in 0..100_000 {
        let line = shell.line();
        assert!(line == "1| y" || line == "2| n", "{line}");
    }
    assert!(shell.resident_kib_max() < 20_000, "{} KiB", shell.resident_kib_max());
    signal(&shell, Signal::TERM);
    let (rest, code) = shell.finish();
    assert_eq!(code, Some(143));
    assert!(rest.ends_with(b"signal: 15 (SIGTERM)\n"));
}

#[test]
fn commands_that_leave_somebody_behind_are_over_all_the_same() {
    let cases = ["sleep 1000 & echo $!", "sleep 1000 >/dev/null & echo $!"];
    for (command, code) in cases.into_iter().flat_map(|command| [(command, 0), (command, 3)]) {
        let command = format!("{command}; exit {code}");
        let args = ["--restarts", "0", &command];
        let mut shell = Process::start(example("shell").args(args));
        let pid: i32 = shell.line().strip_prefix("1| ").unwrap().parse().unwrap();
        let told = format!("1: exit status: {code}\n");
        assert_eq!(shell.finish(), (told.into_bytes(), Some(code)));
        assert!(runs(pid), "it was left alone");
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    }
}

#[test]
fn signal_ends_it_when_only_its_output_is_left() {
    let mut shell = example("shell");
    shell.args(["--restarts", "0", "seq 1000000; echo up >&2", "sleep 1000"]);
    let mut shell = shell.stdout(Stdio::piped()).spawn().unwrap();
    let id = shell.id() as i32;
    await_that("both run", || children_of(id).len() == 2);
    // Nobody reads: the first waits, and what it has said holds the loop when it has gone.
    let pid = Pid::from_raw(id).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    await_that("they are gone", || children_of(id).is_empty());
    kill_process(pid, Signal::INT).unwrap();
    assert_eq!(shell.wait().unwrap().code(), Some(143));
}

#[test]
fn last_lines_come_to_a_slow_reader() {
    // More than our pipe and outbox take, so the pipe of a command that has ended holds the rest.
    let mut shell = Process::start(example("shell").args(["--restarts", "0", "seq 42000"]));
    let id = shell.id() as i32;
    assert_eq!(shell.line(), "1| 1");
    await_that("it was waited for", || children_of(id).is_empty());
    let (rest, code) = shell.finish();
    let lines = rest.iter().filter(|byte| **byte == b'\n').count();
    assert_eq!((lines, code), (42_000, Some(0)));
}

/// A file with a list, which one test uses.
fn list(name: &str, text: &str) -> String {
    let file = format!("waterwheel-list-{}-{name}", std::process::id());
    let path = std::env::temp_dir().join(file);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn commands_of_a_list_start_one_after_the_other() {
    let stays = "exec sleep 1000";
    let path = list(
        "order",
        &format!(
            "# A list.\n\none: echo up; {stays}\n  true\r\n\
             three-3: echo error >&2; read x </proc/self/stat; echo up; echo more; {stays}\n\
             a b: true\nlast: echo x; {stays}"
        ),
    );
    let mut shell = Process::start(example("shell").args(["--restarts", "0", "--list", &path]));
    let mut lines: Vec<String> = (0..8).map(|_| shell.line()).collect();
    // Which of the two pipes is read first is not known, nor if all lines of one come before the next starts.
    let mut of = |name: &str| {
        let (those, rest) = lines.drain(..).partition(|line| line.starts_with(name));
        lines = rest;
        let those: Vec<String> = those;
        those
    };
    assert_eq!(of("three-3| error").len(), 1);
    assert_eq!(of("three-3| more").len(), 1);
    let failed = of("4| ");
    assert_eq!(failed.len(), 1, "{failed:?}"); // sh knows no `a`.
    let expected =
        ["one| up", "2: exit status: 0", "three-3| up", "4: exit status: 127", "last| x"];
    assert_eq!(lines, expected);
    signal(&shell, Signal::TERM);
    assert_eq!(shell.finish().1, Some(143));
    fs::remove_file(path).unwrap();
}

#[test]
fn a_command_of_a_list_that_fails_is_started_again_before_the_next_one() {
    let path = list("fails", "bad: exit 3\ngood: echo x\n");
    let args = ["--restarts", "1", "--backoff", "1", "--list", &path];
    let done = output("shell", &args);
    let text = String::from_utf8(done.stdout).unwrap();
    let lines =
        "bad: exit status: 3; again in 1ms\nbad: exit status: 3\ngood| x\ngood: exit status: 0\n";
    assert_eq!((text.as_str(), done.status.code()), (lines, Some(3)));
    fs::remove_file(path).unwrap();
}

#[test]
fn nothing_of_a_list_starts_after_a_signal() {
    let path = list("signal", "up: echo up >&2; exec sleep 1000\nnever: echo never\n");
    let mut shell = Process::start(example("shell").args(["--list", &path]));
    assert_eq!(shell.line(), "up| up");
    signal(&shell, Signal::TERM);
    let (rest, code) = shell.finish();
    let rest = String::from_utf8(rest).unwrap();
    assert_eq!((rest.as_str(), code), ("up: SIGTERM sent\nup: signal: 15 (SIGTERM)\n", Some(143)));
    fs::remove_file(path).unwrap();
}

#[test]
fn a_list_that_is_none_is_a_mistake() {
    let empty = list("empty", "# nothing\n\n");
    for (args, because) in [
        (&["--list", "/no/such/list"][..], "cannot read the list: No such file"),
        (&["--list", &empty], "no command in the list"),
        (&["--list", &empty, "true"], "wants commands, or a list of them; try --help"),
    ] {
        let Output { status, stdout, stderr } = output("shell", args);
        let said = String::from_utf8(stderr).unwrap();
        assert_eq!((status.code(), stdout.len(), said.lines().count()), (Some(2), 0, 1), "{said}");
        assert!(said.contains(because), "{said}");
    }
    fs::remove_file(empty).unwrap();
}

#[test]
fn no_command_is_a_mistake() {
    let Output { status, stdout, stderr } = output("shell", &[]);
    assert_eq!((status.code(), stdout.len()), (Some(2), 0));
    assert_eq!(String::from_utf8(stderr).unwrap(), "error: no command to run; try --help\n");
    let help = String::from_utf8(output("shell", &["--help"]).stdout).unwrap();
    assert!(help.starts_with("Usage: shell [OPTIONS] COMMAND...") && help.contains("--restarts N"));
}
