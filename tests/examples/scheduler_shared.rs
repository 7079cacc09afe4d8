//! Schedulers that share their work by a Redis server: nothing is lost or done twice, whoever is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::clients::{REDIS_CLI, REDIS_SERVER, skip_without};
use support::process::{Client, Process};
use support::{Rng, ceiling};

use super::scheduler::{
    Folder, LIMIT, ask, ends, over, post_and_kill, run, try_post, try_status, wait, with_clock,
};

/// A redis-server that has each write on the disk before it answers, in a folder of its own.
struct Redis {
    folder: Folder,
    addr: SocketAddr,
    process: Option<Process>,
}

impl Redis {
    fn start(name: &str) -> Redis {
        // A port that was free a moment ago.
        let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let folder = Folder::new(&format!("redis-{name}"), "");
        let mut redis = Redis { folder, addr, process: None };
        redis.again();
        redis
    }

    fn again(&mut self) {
        let port = self.addr.port().to_string();
        let dir = self.folder.path("");
        let dir = dir.to_str().unwrap();
        let mut command = REDIS_SERVER.command();
        command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--dir", dir]);
        let mut process =
            Process::start(command.args(["--appendonly", "yes", "--appendfsync", "always"]));
        while !process.line().contains("Ready to accept connections") {}
        self.process = Some(process);
    }

    fn cli(&self, args: &[&str]) -> String {
        let port = self.addr.port().to_string();
        let output = REDIS_CLI.command().args(["-p", &port]).args(args).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    fn worker(&self, folder: &Folder, name: &str, lease: &str) -> (Process, SocketAddr) {
        let addr = self.addr.to_string();
        folder.start(&["--redis", &addr, "--name", name, "--lease", lease])
    }
}

/// Posts as soon as the worker has its tasks, which it has when Redis has answered.
fn post_early(addr: SocketAddr, name: &str) -> String {
    wait(|| try_post(addr, name))
}

/// The lines of a file, none of which is there twice.
fn distinct(text: &str) -> BTreeSet<&str> {
    let lines: BTreeSet<&str> = text.lines().collect();
    assert_eq!(lines.len(), text.lines().count(), "one is there twice: {text}");
    lines
}

#[test]
fn runs_go_to_either_worker_and_both_know_them_all() {
    skip_without!(REDIS_SERVER, REDIS_CLI);
    let _ceiling = ceiling(LIMIT);
    let redis = Redis::start("either");
    let folder = Folder::new(
        "either",
        "#: overlap=queue\n@yearly echo $RUN >>ran; sleep 0.02; echo of $RUN\n@yearly exit 3\n",
    );
    let (a, at_a) = redis.worker(&folder, "a", "30");
    let (b, at_b) = redis.worker(&folder, "b", "30");
    post_early(at_b, "exit");
    let runs: Vec<String> = (0..60).map(|_| post_early(at_a, "echo")).collect();
    let by: BTreeSet<String> = runs
        .iter()
        .map(|id| {
            let [one, other] = [at_a, at_b]
                .map(|addr| wait(|| try_status(addr, id).filter(|run| run["state"] == "over")));
            assert_eq!(one, other);
            assert_eq!(one["output"], format!("of {id}\n"));
            one["by"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(by, BTreeSet::from(["a".to_owned(), "b".to_owned()]));
    assert_eq!(distinct(&folder.text("ran")), runs.iter().map(String::as_str).collect());
    let groups = redis.cli(&["XINFO", "GROUPS", "scheduler:runs"]);
    assert!(groups.contains("consumers\n2\n") && groups.contains("pending\n0\n"), "{groups}");
    assert_eq!(redis.cli(&["XLEN", "scheduler:runs"]), "0\n");
    ends(a);
    ends(b);
}

#[test]
fn minute_is_planned_once_however_many_plan_it() {
    skip_without!(REDIS_SERVER, FAKETIME);
    let _ceiling = ceiling(LIMIT);
    let redis = Redis::start("minute");
    let folder = Folder::new("minute", "* * * * * echo $RUN >>ran\n");
    let addr = redis.addr.to_string();
    let workers = ["a", "b", "c"].map(|name| {
        // A minute takes half a second.
        folder.start_by(with_clock("+0 x120"), &["--redis", &addr, "--name", name]).0
    });
    let text = folder.when("ran", |text| text.matches('\n').count() >= 6);
    drop(workers);
    distinct(&text);
}

/// One worker lives; of the other, one after another is killed after so many answers, and some
/// microseconds more: half of them come back under the same name, the runs of the others are taken
/// over.
#[test]
fn hundred_kills_of_a_worker_lose_no_run_and_double_none() {
    skip_without!(REDIS_SERVER);
    let _ceiling = ceiling(LIMIT);
    let redis = Redis::start("kills");
    let line = |name: &str, options: &str| {
        let command = format!("echo $RUN $ATTEMPT >>{name}");
        format!("#: name={name} overlap=queue {options}\n@yearly {command}\n")
    };
    let lines = [line("again", "idempotent"), line("once", "")];
    let folder = Folder::new("kills-shared", &lines.concat());
    let (a, at_a) = redis.worker(&folder, "a", "1");
    post_early(at_a, "again");
    let mut rng = Rng::new();
    let mut accepted = Vec::new();
    for round in 0..100 {
        let name = if round % 2 == 0 { "b".to_owned() } else { format!("b{round}") };
        let (b, at_b) = redis.worker(&folder, &name, "1");
        accepted.push(post_early(at_b, "once"));
        accepted.extend(post_and_kill(b, at_b, &mut rng));
    }
    let runs: BTreeMap<String, Value> =
        accepted.iter().map(|id| (id.clone(), over(at_a, id))).collect();
    ends(a);
    let text = folder.text("again") + &folder.text("once");
    let lines = distinct(&text);
    let mut lost = 0;
    for (id, run) in &runs {
        let began = lines.iter().filter(|line| line.split_once(' ').unwrap().0 == id).count();
        if id.starts_with("again@") {
            assert_eq!(run["code"], 0, "{run}");
            assert!(began as u64 <= run["attempt"].as_u64().unwrap(), "{id} began {began} times");
            assert!(began >= 1, "{id} has not run");
        } else {
            lost += usize::from(run["code"] == Value::Null);
            assert!(began <= 1, "{id} has run {began} times");
        }
    }
    println!("{} accepted, {lost} of them lost that must not run again", runs.len());
    assert!(runs.len() > 200);
}

#[test]
fn runs_of_a_dead_worker_go_to_another_after_its_lease() {
    skip_without!(REDIS_SERVER);
    let _ceiling = ceiling(LIMIT);
    let redis = Redis::start("lease");
    let wait_for_go = "for i in $(seq 6000); do [ -e go ] && break; sleep 0.01; done";
    let folder = Folder::new(
        "lease",
        &format!(
            "#: name=again idempotent\n@yearly echo $ATTEMPT >>again; {wait_for_go}\n\
             #: name=once\n@yearly echo $ATTEMPT >>once; {wait_for_go}\n"
        ),
    );
    let (a, at_a) = redis.worker(&folder, "a", "2");
    let runs = ["again", "once"].map(|name| post_early(at_a, name));
    for name in ["again", "once"] {
        folder.when(name, |text| text == "1\n");
    }
    let (b, at_b) = redis.worker(&folder, "b", "2");
    // It lives longer than its lease, and keeps its runs.
    let kept = Instant::now();
    wait(|| (kept.elapsed() > Duration::from_secs(3)).then_some(()));
    assert_eq!((&*folder.text("again"), &*folder.text("once")), ("1\n", "1\n"));
    drop(a); // By SIGKILL.
    let killed = Instant::now();
    folder.when("again", |text| text == "1\n2\n");
    println!("begun again after {:?}", killed.elapsed());
    let once = over(at_b, &runs[1]);
    assert_eq!(once["how"], "lost: nobody has seen its end");
    folder.write("go", "");
    let again = over(at_b, &runs[0]);
    assert_eq!(
        (&again["code"], &again["attempt"], &again["by"]),
        (&0.into(), &2.into(), &"b".into())
    );
    assert_eq!(folder.text("once"), "1\n");
    ends(b);
}

/// For three times as long as a lease: both workers come back, and neither takes the other's runs.
#[test]
fn while_redis_is_gone_runs_go_on_and_nobody_takes_them_over() {
    skip_without!(REDIS_SERVER);
    let _ceiling = ceiling(LIMIT);
    let mut redis = Redis::start("gone");
    let folder = Folder::new(
        "gone",
        "#: overlap=allow idempotent\n@yearly echo $RUN >>ran; for i in $(seq 6000); do [ -e go ] && break; sleep 0.01; done\n",
    );
    let (a, at_a) = redis.worker(&folder, "a", "1");
    let (b, at_b) = redis.worker(&folder, "b", "1");
    let mut runs: Vec<String> = (0..8).map(|_| post_early(at_a, "echo")).collect();
    folder.when("ran", |text| text.lines().count() == 8);
    redis.process = None; // By SIGKILL.
    folder.when("said", |_| true);
    let mut waits = Client::connect(at_b);
    waits.send(format!("POST /tasks/echo/run HTTP/1.1\r\nHost: {at_b}\r\n\r\n"));
    let gone = Instant::now();
    wait(|| (gone.elapsed() > Duration::from_secs(3)).then_some(()));
    assert!(ask(at_a, "GET /").starts_with("HTTP/1.1 200"), "it is here");
    redis.again();
    let location = loop {
        if let Some(run) = waits.line().strip_prefix("Location: /runs/") {
            break run.trim().to_owned();
        }
    };
    runs.push(location);
    folder.when("ran", |text| text.lines().count() == 9);
    folder.write("go", "");
    for id in &runs {
        assert_eq!((&over(at_a, id)["code"], &over(at_b, id)["attempt"]), (&0.into(), &1.into()));
    }
    assert_eq!(distinct(&folder.text("ran")).len(), 9);
    ends(a);
    ends(b);
}

#[test]
fn what_is_no_redis_or_refuses_is_said_once_and_tried_again() {
    skip_without!(REDIS_SERVER, REDIS_CLI);
    let _ceiling = ceiling(LIMIT);
    let folder = Folder::new("none", "@yearly true\n");
    let (chat, at) = Process::serve("chat");
    let (mut server, addr) = folder.start(&["--redis", &at.to_string()]);
    assert_eq!(server.line(), "Redis is gone: no reply of Redis");
    assert!(ask(addr, "POST /tasks/true/run").starts_with("HTTP/1.1 503"));
    drop(chat);
    ends(server);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = silent.local_addr().unwrap().to_string();
    let (mut server, _) = folder.start(&["--redis", &at]);
    assert_eq!(server.line(), "Redis is gone: the peer sent nothing useful for too long");
    ends(server);
    let redis = Redis::start("none");
    redis.cli(&["CONFIG", "SET", "requirepass", "x"]);
    let (mut server, addr) = redis.worker(&folder, "a", "1");
    assert!(server.line().starts_with("Redis is gone: NOAUTH "));
    redis.cli(&["-a", "x", "CONFIG", "SET", "requirepass", ""]);
    assert_eq!(server.line(), "Redis is back");
    assert_eq!(server.line(), "tab: 1 tasks");
    assert_eq!(run(addr, "true")["code"], 0);
    ends(server);
}
