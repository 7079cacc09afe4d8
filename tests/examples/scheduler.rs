//! The scheduler: what its lines run, keeps and answers; and what a crash leaves of it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, test_kill_process};
use serde_json::Value;
use support::browser::Browser;
use support::clients::{CURL, FAKETIME, skip_without};
use support::process::{Client, Process, example, output};
use support::{Rng, ceiling};

use crate::ending::signal;

#[allow(dead_code)] // The program uses the rest.
#[path = "../../examples/scheduler"]
pub mod program {
    pub mod crontab;
    pub mod job;
    pub use crate::mq::program::journal;
    pub mod ledger;
    pub mod page;
    pub mod redis;
    #[path = "../resp/reply.rs"]
    pub mod reply;
    #[path = "../resp/mod.rs"]
    pub mod resp;
    pub mod server;
    #[cfg(test)]
    mod tests;
}

pub const LIMIT: Duration = Duration::from_secs(120);

/// An empty folder with a crontab in it.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(name: &str, crontab: &str) -> Folder {
        let name = format!("{name}-{}", std::process::id());
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("scheduler").join(name);
        fs::create_dir_all(&folder).unwrap();
        let folder = Folder(folder);
        folder.write("tab", crontab);
        folder
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap();
    }

    pub fn text(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.path(name)).unwrap_or_default()).into_owned()
    }

    /// A scheduler of the crontab, in the folder. Its stderr goes to the file `said`.
    pub fn start(&self, options: &[&str]) -> (Process, SocketAddr) {
        self.start_by(example("scheduler"), options)
    }

    pub fn start_by(&self, mut command: Command, options: &[&str]) -> (Process, SocketAddr) {
        let said = File::options().create(true).append(true).open(self.path("said")).unwrap();
        command.current_dir(&self.0).args(["tab", "--http", "0"]).args(options).stderr(said);
        Process::listening(&mut command)
    }

    pub fn when(&self, name: &str, is_there: impl Fn(&str) -> bool) -> String {
        wait(|| Some(self.text(name)).filter(|text| is_there(text)))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.0); // A program that was not waited for may have it.
        }
    }
}

/// As soon as there is something. Nothing tells when a file or a page changes.
pub fn wait<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < LIMIT / 2, "it does not come");
        std::thread::yield_now();
    }
}

fn ask_with(addr: SocketAddr, request: &str, headers: &str) -> String {
    let mut client = Client::connect(addr);
    client.send(format!("{request} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n"));
    client.rest()
}

/// Asks, and returns the whole answer.
pub fn ask(addr: SocketAddr, request: &str) -> String {
    ask_with(addr, request, &format!("Host: {addr}\r\n"))
}

/// Where the run is that an answer has accepted.
fn location(answer: &str) -> Option<String> {
    let is_accepted = answer.starts_with("HTTP/1.1 202");
    let line = answer.lines().find_map(|line| line.strip_prefix("Location: /runs/"));
    line.filter(|_| is_accepted).map(str::to_owned)
}

pub fn try_post(addr: SocketAddr, name: &str) -> Option<String> {
    location(&ask(addr, &format!("POST /tasks/{name}/run")))
}

pub fn post(addr: SocketAddr, name: &str) -> String {
    try_post(addr, name).expect("202")
}

pub fn try_status(addr: SocketAddr, run: &str) -> Option<Value> {
    let answer = ask(addr, &format!("GET /runs/{run}"));
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let is_there = head.starts_with("HTTP/1.1 200");
    assert!(is_there || head.starts_with("HTTP/1.1 404"), "{answer}");
    is_there.then(|| serde_json::from_str(body).expect(body))
}

pub fn status(addr: SocketAddr, run: &str) -> Value {
    try_status(addr, run).expect("a run")
}

/// Its status as soon as it is over.
pub fn over(addr: SocketAddr, run: &str) -> Value {
    wait(|| try_status(addr, run).filter(|run| run["state"] == "over"))
}

pub fn run(addr: SocketAddr, name: &str) -> Value {
    over(addr, &post(addr, name))
}

/// Asks for three runs, and kills the server (SIGKILL) after some answers and a moment. Gives the runs
/// that it has answered.
pub fn post_and_kill(server: Process, addr: SocketAddr, rng: &mut Rng) -> Vec<String> {
    let mut client = Client::connect(addr);
    for name in ["again", "once", "again"] {
        client.send(format!("POST /tasks/{name}/run HTTP/1.1\r\nHost: {addr}\r\n\r\n"));
    }
    let mut answered = Vec::new();
    let answers = rng.below(4) as usize;
    while answered.len() < answers {
        let line = client.line();
        answered.extend(line.strip_prefix("Location: /runs/").map(|run| run.trim().to_owned()));
    }
    let (begun, micros) = (Instant::now(), rng.below(15_000));
    while begun.elapsed() < Duration::from_micros(micros) {
        std::hint::spin_loop();
    }
    drop(server);
    answered
}

pub fn ends(mut server: Process) {
    signal(&server, Signal::TERM);
    assert_eq!(server.rest().1, Some(0));
}

#[test]
fn command_has_its_stdin_and_variables_and_its_output_and_exit_code_are_kept() {
    let _ceiling = ceiling(LIMIT);
    let folder = Folder::new(
        "command",
        "GREETING=\"good  day\"\n@yearly cat; echo \"$GREETING, $RUN $ATTEMPT\" >&2; exit 7%a%b\n\
         SHELL=/bin/none\n@yearly none\n",
    );
    let (server, addr) = folder.start(&[]);
    let run_of_cat = run(addr, "cat");
    let id = run_of_cat["id"].as_str().unwrap();
    assert_eq!(run_of_cat["code"], 7);
    assert_eq!(run_of_cat["how"], "exit status: 7");
    let output = run_of_cat["output"].as_str().unwrap();
    assert!(output.contains("a\nb\n") && output.contains(&format!("good  day, {id} 1\n")));
    let none = run(addr, "none");
    assert_eq!(none["code"], 127);
    assert!(none["how"].as_str().unwrap().contains("No such file"), "{none}");
    ends(server);
}

#[test]
fn flood_is_kept_by_its_ends_and_in_bounded_memory() {
    let _ceiling = ceiling(LIMIT);
    let folder = Folder::new("flood", "@yearly echo first; yes | head -c 300000000; echo last\n");
    let (server, addr) = folder.start(&["--output-bytes", "100000"]);
    let flood = run(addr, "echo");
    let output = flood["output"].as_str().unwrap();
    assert!(output.starts_with("first\ny\ny\n") && output.ends_with("y\nlast\n"));
    assert!(output.contains("\n[299900011 bytes left out]\n"));
    assert_eq!(flood["code"], 0);
    assert!(ask(addr, "GET /").len() < 5000, "a page shows its end");
    assert!(server.resident_kib_max() < 64 * 1024, "{} KiB", server.resident_kib_max());
    ends(server);
}

fn is_alive(pid: &str) -> bool {
    let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    let is_zombie = stat.is_ok_and(|stat| stat.contains(") Z "));
    test_kill_process(pid).is_ok() && !is_zombie
}

#[test]
fn timeout_ends_the_whole_group_also_one_that_ignores_term() {
    let _ceiling = ceiling(LIMIT);
    let folder = Folder::new(
        "timeout",
        "#: timeout=1\n@yearly trap '' TERM; sleep 1000 & echo $!; wait; sleep 1000\n\
         #: timeout=1\n@yearly sh -c 'sleep 1000 & echo $! >pid; wait'\n",
    );
    let (server, addr) = folder.start(&[]);
    let runs = ["trap", "sh"].map(|name| post(addr, name));
    let [ignores, obeys] = runs.map(|run| over(addr, &run));
    assert_eq!(ignores["code"], 137, "{ignores}");
    assert_eq!(ignores["how"], "timed out, signal: 9 (SIGKILL)");
    assert_eq!(obeys["how"], "timed out, signal: 15 (SIGTERM)");
    for pid in [ignores["output"].as_str().unwrap(), &folder.text("pid")] {
        wait(|| (!is_alive(pid)).then_some(()));
    }
    ends(server);
}

/// As a daemon does, in the group of the command or not.
#[test]
fn child_that_forks_away_holds_nothing_up() {
    let _ceiling = ceiling(LIMIT);
    let folder = Folder::new(
        "fork",
        "@yearly echo here; sleep 1000 & echo $! >pid\n\
         @yearly true; setsid sh -c 'echo $$ >away; exec yes' &\n",
    );
    let (server, addr) = folder.start(&[]);
    let begun = Instant::now();
    assert_eq!(run(addr, "echo")["output"], "here\n");
    assert_eq!(run(addr, "true")["code"], 0);
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    let pids = ["pid", "away"].map(|name| folder.when(name, |text| text.ends_with('\n')));
    assert!(pids.iter().all(|pid| is_alive(pid)), "cron leaves them, too");
    assert!(server.resident_kib_max() < 64 * 1024);
    ends(server);
    for pid in &pids {
        let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
        let _ = rustix::process::kill_process(pid, Signal::KILL); // A broken pipe has ended one.
    }
}

#[test]
fn overlap_is_skipped_queued_or_allowed_as_the_line_says() {
    let _ceiling = ceiling(LIMIT);
    let line = |name, overlap| {
        let wait = "echo >>NAME; for i in $(seq 6000); do [ -e go ] && break; sleep 0.01; done"
            .replace("NAME", name);
        format!("#: name={name} overlap={overlap}\n@yearly {wait}\n")
    };
    let lines = [line("skip", "skip"), line("queue", "queue"), line("allow", "allow")];
    let folder = Folder::new("overlap", &lines.concat());
    let (server, addr) = folder.start(&[]);
    let runs = ["skip", "queue", "allow"].map(|name| (name, [0; 3].map(|_| post(addr, name))));
    folder.when("allow", |text| text.len() == 3);
    for skipped in &runs[0].1[1..] {
        let skipped = over(addr, skipped);
        assert_eq!(skipped["how"], "skipped: others of this task are under way");
        assert_eq!(skipped["code"], Value::Null);
    }
    assert_eq!(status(addr, &runs[1].1[2])["state"], "waits");
    assert_eq!((folder.text("skip").len(), folder.text("queue").len()), (1, 1));
    folder.write("go", "");
    for (name, runs) in &runs[1..] {
        assert!(runs.iter().all(|run| over(addr, run)["code"] == 0), "{name}");
        assert_eq!(folder.text(name).len(), 3);
    }
    ends(server);
}

/// A queue that is full, however many ask.
#[test]
fn more_runs_than_may_wait_are_skipped() {
    let _ceiling = ceiling(LIMIT);
    let folder = Folder::new(
        "full",
        "#: overlap=queue\n@yearly for i in $(seq 6000); do [ -e go ] && break; sleep 0.01; done\n",
    );
    let (server, addr) = folder.start(&["--store", "runs"]);
    let mut client = Client::connect(addr);
    let request = format!("POST /tasks/for/run HTTP/1.1\r\nHost: {addr}\r\n\r\n");
    client.send(request.repeat(300));
    let mut runs = Vec::new();
    while runs.len() < 300 {
        let line = client.line();
        runs.extend(line.strip_prefix("Location: /runs/").map(|run| run.trim().to_owned()));
    }
    let skipped =
        runs.iter().filter(|run| status(addr, run)["how"].as_str().unwrap_or("").contains("skip"));
    assert_eq!(skipped.count(), 300 - 101, "one runs, and 100 wait");
    folder.write("go", "");
    drop(server);
}

#[test]
fn client_gets_202_and_a_place_to_look() {
    skip_without!(CURL);
    let _ceiling = ceiling(LIMIT);
    let folder =
        Folder::new("curl", "CRON_TZ=Asia/Kolkata\n0 3 * * 1-5 echo '<b>' && echo \"\\%\"\n");
    let (server, addr) = folder.start(&[]);
    let curl = |args: &[&str], path: &str| {
        let mut curl = CURL.command();
        let output = curl.args(["-s"]).args(args).arg(format!("http://{addr}{path}")).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    let answer = curl(&["-i", "-X", "POST"], "/tasks/echo/run");
    let run = location(&answer).expect("202");
    over(addr, &run);
    let page = curl(&[], "/");
    assert!(page.contains("<td>echo '&lt;b>' &amp;&amp; echo &quot;%&quot;<td>"), "{page}");
    assert!(page.contains("<td>0 3 * * 1-5<td>") && page.contains(" 03:00:00 IST<td>"), "{page}");
    assert!(!curl(&[], "/?after=echo").contains("0 3 * * 1-5"), "there is none behind it");
    assert!(page.contains("<pre>&lt;b>\n%\n"), "{page}");
    assert!(ask(addr, "GET /runs/echo@1").starts_with("HTTP/1.1 404"));
    assert!(ask(addr, "POST /tasks/none/run").starts_with("HTTP/1.1 404"));
    ends(server);
}

/// A page of another site, and a name that its owner points at this machine.
#[test]
fn requests_of_other_sites_start_nothing_and_read_nothing() {
    let _ceiling = ceiling(LIMIT);
    let folder = Folder::new("sites", "@yearly touch started\n");
    let (server, addr) = folder.start(&[]);
    let port = addr.port();
    let own = format!("Host: localhost:{port}\r\nOrigin: http://localhost:{port}\r\n");
    for bad in [
        format!("Host: evil.example:{port}\r\n"),
        "Host: 127.0.0.1.evil.example\r\n".to_owned(),
        format!("Host: {addr}\r\nOrigin: http://evil.example\r\n"),
        format!("Host: {addr}\r\nOrigin: http://localhost:{port}\r\n"),
        format!("Host: {addr}\r\nOrigin: https://{addr}\r\n"),
        format!("Host: {addr}\r\nOrigin: null\r\n"),
    ] {
        for request in ["POST /tasks/touch/run", "GET /", "GET /runs/touch@1"] {
            let answer = ask_with(addr, request, &bad);
            assert!(answer.starts_with("HTTP/1.1 403"), "{request} {bad}: {answer}");
        }
    }
    assert_eq!(folder.text("started"), "");
    assert!(!folder.path("started").exists());
    assert!(ask_with(addr, "POST /tasks/touch/run", &own).starts_with("HTTP/1.1 202"));
    ends(server);
}

#[test]
fn bad_arguments_and_crontabs_are_refused_with_the_line() {
    let folder = Folder::new("bad", "@daily x\n61 * * * * y\n* * 32 * * z\n");
    let tab = folder.path("tab").to_str().unwrap().to_owned();
    let refused = |args: &[&str], why: &str| {
        let done = output("scheduler", args);
        assert_eq!(done.status.code(), Some(2), "{args:?}");
        let said = String::from_utf8(done.stderr).unwrap();
        assert!(said.contains(why), "{args:?}: {said}");
    };
    refused(&[&tab], &format!("{tab}:2: minute \"61\": \"61\" is not in 0-59\n{tab}:3: day"));
    refused(&[&tab, "--check"], &format!("{tab}:2: minute"));
    folder.write("tab", "CRON_TZ=Europe/Wien\n@daily x\n");
    refused(&[&tab], &format!("{tab}:2: time zone \"Europe/Wien\""));
    refused(&[&tab, "--check"], &format!("{tab}:2: time zone \"Europe/Wien\""));
    folder.write("tab", "@daily x\n@often y\n");
    refused(&[&tab], &format!("{tab}:2: cron line \"@often\": it knows @yearly, "));
    folder.write("tab", "0 0 31 2 * x\n");
    let done = output("scheduler", &[&tab, "--check"]);
    assert_eq!(done.status.code(), Some(0));
    let warning = format!("{tab}:1: no day is like \"0 0 31 2 *\": never runs\n");
    assert!(String::from_utf8(done.stderr).unwrap().ends_with(&warning));
    refused(&[], "one CRONTAB is wanted");
    refused(&["/none/none"], "/none/none: No such file");
    refused(&["/dev/zero"], "/dev/zero: more than 64 MiB");
    refused(&[&tab, "--store", "a", "--redis", "b"], "--store or --redis, not both");
    refused(&[&tab, "--output-bytes", "1048577"], "--output-bytes wants 1 to 1048576");
    refused(&[&tab, "--redis", "nonsense"], "cannot connect to ");
    refused(&[&tab, "--lease", "0"], "--lease wants 1 to 86400");
    refused(&[&tab, "--name", "a b"], "--name wants a word");
    let done = output("scheduler", &[&tab, "--http", "0", "--store", "/dev/full"]);
    assert_eq!(done.status.code(), Some(1));
    assert!(String::from_utf8(done.stderr).unwrap().contains("/dev/full: it is no file"));
    assert!(
        String::from_utf8(output("scheduler", &["-h"]).stdout).unwrap().contains("--redis ADDR")
    );
}

#[test]
fn hangup_reads_the_crontab_again_and_a_bad_one_changes_nothing() {
    let _ceiling = ceiling(LIMIT);
    let folder = Folder::new("again", "@yearly echo old\n@yearly true\n@yearly sleep 1000\n");
    let (mut server, addr) = folder.start(&["--store", "runs", "--grace", "1"]);
    let sleeps = post(addr, "sleep");
    wait(|| (status(addr, &sleeps)["state"] == "runs").then_some(()));
    folder.write("tab", "@yearly echo new\n@yearly true\n@yearly false\n");
    signal(&server, Signal::HUP);
    assert_eq!(server.line(), "tab: 3 tasks");
    assert_eq!(run(addr, "echo")["output"], "new\n");
    assert_eq!(run(addr, "false")["code"], 1);
    assert!(ask(addr, "POST /tasks/sleep/run").starts_with("HTTP/1.1 404"));
    assert_eq!(status(addr, &sleeps)["state"], "runs", "it goes on");
    folder.write("tab", "@yearly echo newer\n@sometimes true\n");
    signal(&server, Signal::HUP);
    let said = folder.when("said", |text| text.contains("the last good crontab stays"));
    assert!(said.contains("tab:2: cron line \"@sometimes\": it knows @yearly"), "{said}");
    assert_eq!(run(addr, "echo")["output"], "new\n");
    ends(server);
}

#[test]
fn end_waits_for_what_runs_and_begins_nothing_more() {
    let _ceiling = ceiling(LIMIT);
    let folder = Folder::new(
        "end",
        "#: name=short overlap=queue\n@yearly echo >>began; for i in $(seq 6000); do [ -e go ] && break; sleep 0.01; done\n\
         #: name=long\n@yearly exec sleep 1000\n",
    );
    let (server, addr) = folder.start(&["--store", "runs", "--grace", "2"]);
    let [long, short, waits] = ["long", "short", "short"].map(|name| post(addr, name));
    folder.when("began", |text| text.len() == 1);
    signal(&server, Signal::TERM);
    wait(|| ask(addr, "POST /tasks/short/run").starts_with("HTTP/1.1 503").then_some(()));
    folder.write("go", "");
    assert_eq!(over(addr, &short)["code"], 0);
    assert_eq!(status(addr, &waits)["state"], "waits");
    let mut server = server;
    assert_eq!(server.rest().1, Some(0));
    assert_eq!(folder.text("began").len(), 1);
    let (server, addr) = folder.start(&["--store", "runs"]);
    assert_eq!(over(addr, &waits)["code"], 0, "it was planned, and so it runs");
    assert_eq!(status(addr, &long)["how"], "signal: 15 (SIGTERM)");
    ends(server);
}

#[test]
fn run_without_an_end_is_lost_and_begins_again_only_if_it_is_idempotent() {
    let _ceiling = ceiling(LIMIT);
    let folder = Folder::new(
        "lost",
        "#: name=once\n@yearly echo $ATTEMPT >>once; for i in $(seq 6000); do [ -e go ] && break; sleep 0.01; done\n\
         #: name=again idempotent\n@yearly echo $ATTEMPT >>again; for i in $(seq 6000); do [ -e go ] && break; sleep 0.01; done\n\
         @reboot echo >>boots\n",
    );
    let (server, addr) = folder.start(&["--store", "runs"]);
    let runs = ["once", "again"].map(|name| post(addr, name));
    for name in ["once", "again"] {
        folder.when(name, |text| text == "1\n");
    }
    folder.when("boots", |text| text.len() == 1);
    drop(server); // By SIGKILL.
    let (server, addr) = folder.start(&["--store", "runs"]);
    let once = over(addr, &runs[0]);
    assert_eq!(once["how"], "lost: nobody has seen its end");
    assert_eq!((&once["code"], &once["attempt"]), (&Value::Null, &1.into()));
    folder.when("again", |text| text == "1\n2\n");
    folder.write("go", "");
    let again = over(addr, &runs[1]);
    assert_eq!((&again["code"], &again["attempt"]), (&0.into(), &2.into()));
    assert_eq!(folder.text("once"), "1\n");
    folder.when("boots", |text| text.len() == 2);
    ends(server);
}

/// A scheduler whose clock is another one. The program faketime would be its parent, and in the way of
/// signals; so only its library is used.
pub fn with_clock(time: &str) -> Command {
    // It fails where an earlier one with this process id was killed.
    let library = wait(|| {
        let library = FAKETIME.command().args(["-f", "+0", "printenv", "LD_PRELOAD"]).output();
        Some(String::from_utf8(library.unwrap().stdout).unwrap()).filter(|text| !text.is_empty())
    });
    let mut command = example("scheduler");
    command.env("LD_PRELOAD", library.trim()).env("FAKETIME", time);
    command
}

#[test]
fn failed_run_is_tried_again_as_often_as_its_line_says() {
    skip_without!(FAKETIME);
    let _ceiling = ceiling(LIMIT);
    let folder = Folder::new("retries", "#: retries=2\n@yearly echo $ATTEMPT >>tried; false\n");
    // A clock that is 200 times as fast: the pauses are of 10 and 20 seconds, less by chance.
    let (server, addr) = folder.start_by(with_clock("+0 x200"), &[]);
    let run = run(addr, "echo");
    assert_eq!((&run["code"], &run["attempt"]), (&1.into(), &3.into()));
    assert_eq!(folder.text("tried"), "1\n2\n3\n");
    drop(server);
}

/// By the clock of a machine that wakes up, twice, on the day when summer time begins.
#[test]
fn what_was_due_while_it_was_down_is_made_up_for_as_the_line_says() {
    skip_without!(FAKETIME);
    let _ceiling = ceiling(LIMIT);
    let line = |name: &str, options: &str, fields: &str| {
        format!("#: name={name} {options}\n{fields} echo $RUN >>{name}\n")
    };
    let folder = Folder::new(
        "down",
        &[
            "CRON_TZ=Europe/Vienna\n",
            &line("two", "catch-up=5", "30 2 * * *"),
            &line("quarter", "catch-up=3", "*/15 * * * *"),
            &line("none", "", "*/15 * * * *"),
        ]
        .concat(),
    );
    let at = |time: &str| {
        let mut command = with_clock(&format!("@{time}"));
        command.env("DONT_FAKE_MONOTONIC", "1").env("TZ", "UTC");
        folder.start_by(command, &["--store", "runs"])
    };
    // At 01:00 UTC it is 03:00 in Vienna instead of 02:00.
    let first = at("2026-03-29 00:59:59");
    for name in ["two", "quarter", "none"] {
        assert_eq!(
            folder.when(name, |text| text.ends_with('\n')),
            format!("{name}@1774746000000\n")
        );
    }
    drop(first);
    let second = at("2026-03-29 02:44:40");
    // 02:00, 02:15 and 02:30: the last three of six.
    let made_up = "quarter@1774749600000\nquarter@1774750500000\nquarter@1774751400000\n";
    let quarter = folder.when("quarter", |text| text.matches('\n').count() == 4);
    assert!(quarter.ends_with(made_up), "{quarter}");
    drop(second);
    drop(at("2026-03-29 02:44:50"));
    let texts = ["two", "quarter", "none"].map(|name| folder.text(name).matches('\n').count());
    assert_eq!(texts, [1, 4, 1], "nothing is made up for twice");
}

#[test]
fn torn_store_is_cut_with_one_line_and_a_damaged_one_is_refused() {
    let _ceiling = ceiling(LIMIT);
    let folder = Folder::new("torn", "@yearly echo hello\n");
    let (server, addr) = folder.start(&["--store", "runs"]);
    let runs = [0; 3].map(|_| run(addr, "echo"));
    ends(server);
    let whole = fs::read(folder.path("runs")).unwrap();
    let mut rng = Rng::new();
    let mut cuts: Vec<usize> =
        (0..10).map(|_| 20 + rng.below(whole.len() as u64 - 20) as usize).collect();
    cuts.push(whole.len() - 1);
    for length in cuts {
        folder.write("runs", &whole[..length]);
        folder.write("said", "");
        let (server, addr) = folder.start(&["--store", "runs"]);
        let said = folder.text("said");
        assert!(said.lines().count() <= 1, "{said}");
        assert!(said.is_empty() || said.contains("bytes of an unfinished write are cut off"));
        for run in &runs {
            let path = format!("GET /runs/{}", run["id"].as_str().unwrap());
            let answer = ask(addr, &path);
            // Not there, or begun again from what is there: never half of it.
            let is_none = answer.starts_with("HTTP/1.1 404");
            assert!(
                is_none || answer.contains("\"lost") || {
                    let run = over(addr, run["id"].as_str().unwrap());
                    run["output"] == "hello\n" || run["how"].as_str().unwrap().starts_with("lost")
                }
            );
        }
        ends(server);
    }
    let mut damaged = whole.clone();
    damaged[60] ^= 1;
    folder.write("runs", &damaged);
    let tab = folder.path("tab");
    let store = folder.path("runs");
    let args = [tab.to_str().unwrap(), "--http", "0", "--store", store.to_str().unwrap()];
    let done = output("scheduler", &args);
    assert_eq!(done.status.code(), Some(1));
    assert!(String::from_utf8(done.stderr).unwrap().contains("damaged at byte"));
    assert_eq!(fs::read(&store).unwrap(), damaged, "and it stays as it was");
}

/// Killed after so many answers, and some microseconds more. The next process takes up what was left.
#[test]
fn hundred_kills_lose_no_run_and_double_none() {
    let _ceiling = ceiling(LIMIT);
    let line = |name: &str, options: &str| {
        format!("#: name={name} overlap=queue {options}\n@yearly echo $RUN $ATTEMPT >>{name}\n")
    };
    let lines = [line("again", "idempotent"), line("once", "")];
    let folder = Folder::new("kills", &lines.concat());
    let mut rng = Rng::new();
    let mut accepted: Vec<String> = Vec::new();
    for _ in 0..100 {
        let (server, addr) = folder.start(&["--store", "runs"]);
        accepted.extend(post_and_kill(server, addr, &mut rng));
    }
    let (server, addr) = folder.start(&["--store", "runs"]);
    let mut began = BTreeMap::new();
    let mut lost = 0;
    for id in &accepted {
        let run = over(addr, id);
        if run["code"] == Value::Null {
            assert!(id.starts_with("once@"), "an idempotent run is lost: {run}");
            assert_eq!(run["how"], "lost: nobody has seen its end");
            lost += 1;
        } else {
            assert_eq!(run["code"], 0, "{run}");
        }
        began.insert(id.clone(), run["attempt"].as_u64().unwrap());
    }
    ends(server);
    let text = folder.text("again") + &folder.text("once");
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    let count = lines.len();
    lines.dedup();
    assert_eq!(lines.len(), count, "no attempt began twice");
    for (id, attempts) in &began {
        let of = lines.iter().filter(|line| line.split_once(' ').unwrap().0 == id).count() as u64;
        assert!(of <= *attempts, "{id} began {of} times in {attempts} attempts");
        assert!(of >= 1 || id.starts_with("once@"), "{id} has not run");
    }
    println!("{} accepted, {lost} of them lost that must not run again", accepted.len());
    assert!(accepted.len() > 100);
}

#[test]
#[ignore = "wants chromium: cargo test --all-features --test examples -- --ignored"]
fn page_shows_the_tasks_and_its_button_starts_one() {
    let _ceiling = ceiling(LIMIT);
    let folder =
        Folder::new("page", "CRON_TZ=Europe/Vienna\n0 3 * * * echo '<i>hello</i>' | tee ran\n");
    let (server, addr) = folder.start(&[]);
    let browser = Browser::start();
    let page = browser.open(&format!("http://{addr}/"));
    let next = page
        .wait_for("document.querySelector('#tasks tr:nth-child(2) td:nth-child(3)').textContent");
    assert!(next.as_str().unwrap().contains(" 03:00:00 CE"), "{next}");
    // It also loads itself again every 5 s: a click that this has come before is made again.
    page.wait_for("document.querySelector('button').click() ?? 'clicked'");
    folder.when("ran", |text| text.ends_with('\n'));
    page.go(&format!("http://{addr}/"));
    page.wait_for("document.querySelector('#runs pre').textContent === '<i>hello</i>\\n'");
    ends(server);
}
