//! The article on one machine: its list, run by `shell`, and loaded while its parts are killed; and its parts,
//! each by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use support::process::{Client, Process, built, example, output};
use support::{Rng, ceiling, home};

#[path = "../../examples/article"]
mod program {
    #[allow(dead_code)] // For its tests.
    pub mod queue;
}

const LIMIT: Duration = Duration::from_secs(120);

fn kill(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid as i32).unwrap(), signal).unwrap();
}

/// An address at which nobody listens now: of a host of our own, since servers that are killed must find it
/// free when they are back.
fn free_addrs(count: usize) -> Vec<SocketAddr> {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let bind = |_| TcpListener::bind((Ipv4Addr::new(127, 77, high, low), 0)).unwrap();
    let listeners: Vec<_> = (0..count).map(bind).collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap()).collect()
}

/// A folder with nothing in it.
fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("article").join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// An HTTP request over a connection that stays open: the status, the head and the body; `None` if the
/// connection ended before.
fn ask(client: &mut Client, request: &str) -> Option<(u16, String, String)> {
    client.0.get_mut().write_all(request.as_bytes()).ok()?;
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if !matches!(client.0.read_line(&mut line), Ok(1..)) {
            return None;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim_end().is_empty() {
            break;
        }
        head += &line;
    }
    let mut body = vec![0; length];
    client.0.read_exact(&mut body).ok()?;
    Some((head[9..12].parse().unwrap(), head, String::from_utf8(body).unwrap()))
}

fn post(client: &mut Client, body: &str) -> Option<(u16, String, String)> {
    let length = body.len();
    ask(
        client,
        &format!("POST /orders HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n{body}"),
    )
}

const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

/// Sends orders until so many are accepted, and each order's number and text on the way.
fn order(addr: SocketAddr, name: usize, count: usize, accepted: &Sender<(u64, String)>) {
    let mut client = Client::connect(addr);
    let (mut done, mut attempt) = (0, 0);
    while done < count {
        attempt += 1;
        let text = format!("{name} {attempt}");
        match post(&mut client, &text) {
            Some((202, _, body)) => {
                accepted.send((body.trim().parse().unwrap(), text)).unwrap();
                done += 1;
            }
            Some((status, ..)) => assert!([502, 503, 504].contains(&status), "{status}"),
            None => client = Client::connect(addr),
        }
    }
}

/// The child of a process that runs this example with this among its arguments, once there is one.
fn child(parent: u32, name: &str, argument: &str) -> u32 {
    let file = built().join("examples").join(name);
    loop {
        for entry in fs::read_dir("/proc").unwrap() {
            let path = entry.unwrap().path();
            let read = |file| fs::read(path.join(file)).unwrap_or_default();
            let stat = String::from_utf8_lossy(&read("stat")).into_owned();
            let ppid = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1));
            if ppid != Some(parent.to_string().as_str()) {
                continue;
            }
            let line = String::from_utf8_lossy(&read("cmdline")).into_owned();
            let mut words = line.split('\0');
            if words.next() == file.to_str() && words.any(|word| word == argument) {
                return path.file_name().unwrap().to_str().unwrap().parse().unwrap();
            }
        }
        thread::yield_now(); // It is being started again.
    }
}

/// The list of the examples, with these programs, a folder and addresses of our own; and the new address of
/// each.
fn list(folder: &str) -> (String, BTreeMap<String, SocketAddr>) {
    let mut text = fs::read_to_string(home().join("examples/article/list")).unwrap();
    let is_addr = |word: &&str| word.starts_with("127.0.0.1:");
    let words = text.split(|c: char| c.is_whitespace() || c == '/');
    let known: BTreeSet<String> = words.filter(is_addr).map(str::to_owned).collect();
    let addrs: BTreeMap<String, SocketAddr> =
        known.iter().cloned().zip(free_addrs(known.len())).collect();
    assert_eq!(addrs.len(), 8, "{known:?}");
    for name in ["logs", "metrics", "mq", "worker", "orders", "balance", "load"] {
        let program = example(name).get_program().to_str().unwrap().to_owned();
        let before = format!("exec target/release/examples/{name} ");
        assert!(text.contains(&before), "{name}");
        text = text.replace(&before, &format!("exec {program} "));
    }
    for (before, addr) in &addrs {
        let port = before.rsplit(':').next().unwrap();
        text = text.replace(&format!(":{port}\n"), &format!(":{port} \n"));
        text = text.replace(&format!("{before} "), &format!("{addr} "));
        text = text.replace(&format!("{before}/"), &format!("{addr}/"));
    }
    let text =
        text.replace("target/article", folder).replace("--rate 200 -d 30", "--rate 200 -d 5");
    (text, addrs)
}

/// The orders in the collector's file so far, each with its text; one may be there more than once.
#[derive(Default)]
struct Worked {
    read: usize,
    orders: BTreeMap<u64, String>,
    lines: usize,
}

impl Worked {
    fn read(&mut self, file: &mut File) {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        self.read += bytes.len();
        // A line that is not all there is read again.
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        std::io::Seek::seek_relative(file, whole as i64 - bytes.len() as i64).unwrap();
        for line in String::from_utf8_lossy(&bytes[..whole]).lines() {
            let Some((_, rest)) = line.split_once("] order ") else { continue };
            let (id, text) = rest.split_once(" worked: ").expect(line);
            let before = self.orders.insert(id.parse().unwrap(), text.to_owned());
            assert!(before.is_none_or(|before| before == text), "{line}");
            self.lines += 1;
        }
    }
}

#[test]
fn no_accepted_order_is_lost_whatever_is_killed() {
    let _ceiling = ceiling(LIMIT);
    let mut rng = Rng::new();
    let folder = folder("killed");
    let (text, addrs) = list(folder.to_str().unwrap());
    fs::write(folder.join("list"), text).unwrap();
    let mut shell = example("shell");
    shell.args(["--restarts", "1000", "--backoff", "20", "--list"]).arg(folder.join("list"));
    let mut shell = Process::start(&mut shell);
    while !shell.line().starts_with("load| 16 at a time") {}
    let addr = |port: u16| addrs[&format!("127.0.0.1:{port}")];
    let victims = [
        ("orders", addr(8081)),
        ("worker", addr(5514)),
        ("logs", addr(5514)),
        ("orders", addr(8082)),
        ("mq", addr(11300)),
        ("worker", addr(5514)),
        ("logs", addr(5514)),
    ];
    const CLIENTS: usize = 8;
    const ORDERS: usize = 300;
    let (sender, accepted) = channel();
    for name in 0..CLIENTS {
        let (sender, addr) = (sender.clone(), addr(7001));
        thread::spawn(move || order(addr, name, ORDERS, &sender));
    }
    drop(sender);
    // Each is killed somewhere in its part of the orders.
    let part = CLIENTS * ORDERS / (victims.len() + 1);
    let mut orders = BTreeMap::new();
    for (at, (name, argument)) in victims.iter().enumerate() {
        let count = at * part + 1 + rng.below(part as u64) as usize;
        while orders.len() < count {
            let (id, text) = accepted.recv().unwrap();
            assert_eq!(orders.insert(id, text), None, "order {id} was accepted twice");
        }
        kill(child(shell.id(), name, &argument.to_string()), Signal::KILL);
    }
    orders.extend(accepted);
    assert_eq!(orders.len(), CLIENTS * ORDERS);
    // Those of `load`, too, which says only how many.
    let mut lines = Vec::new();
    while !shell_line(&mut shell, &mut lines).starts_with("load: exit status") {}
    let report = lines.iter().find_map(|line| line.strip_prefix("load| ")?.split_once(" answered"));
    let loaded: usize = report.unwrap().0.parse().unwrap();
    let (mut file, mut worked) =
        (File::open(folder.join("orders.log")).unwrap(), Worked::default());
    let is_done = |worked: &Worked| {
        let teas = worked.orders.values().filter(|text| *text == "two teas").count();
        teas >= loaded && orders.keys().all(|id| worked.orders.contains_key(id))
    };
    let mut queue = Client::connect(addr(11300));
    while !is_done(&worked) {
        let left = ["ready", "reserved"]
            .map(|of| stat(&mut queue, "stats", &format!("current-jobs-{of}: ")));
        worked.read(&mut file);
        let lost = || orders.keys().find(|id| !worked.orders.contains_key(id));
        assert!(left != ["0", "0"] || is_done(&worked), "the queue is empty: {:?} is lost", lost());
    }
    assert!(orders.iter().all(|(id, text)| worked.orders[id] == *text));
    println!("{} orders, {} lines; {loaded} by load", worked.orders.len(), worked.lines);
    let page = ask(&mut Client::connect(addr(9102)), GET.replace("/ ", "/metrics ").as_str());
    let page = page.unwrap().2;
    let count = page.lines().find_map(|line| line.strip_prefix("orders_accepted"));
    let count = count.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    assert!(count.is_some_and(|count| count > 0.0), "{page}");
    kill(shell.id(), Signal::TERM);
    let (rest, code) = shell.finish();
    let rest = String::from_utf8(rest).unwrap();
    assert_eq!(code, Some(143), "{rest}");
    let names =
        ["logs", "metrics", "mq", "worker-1", "worker-2", "orders-1", "orders-2", "balance"];
    for name in names {
        assert!(rest.contains(&format!("{name}: exit status: 0\n")), "{name}: {rest}");
    }
}

/// The next line of a shell, which is also kept.
fn shell_line(shell: &mut Process, lines: &mut Vec<String>) -> String {
    let line = shell.line();
    lines.push(line.clone());
    line
}

#[test]
fn orders_are_accepted_while_there_is_a_queue() {
    let _ceiling = ceiling(LIMIT);
    let queue = free_addrs(1)[0].to_string();
    let (mut orders, addr) =
        Process::listening(example("orders").args(["--queue", &queue, "127.0.0.1:0"]));
    let mut client = Client::connect(addr);
    let log = folder("orders").join("jobs");
    for round in 1..=2 {
        assert_eq!(ask(&mut client, GET).unwrap().0, 503);
        let (status, head, _) = post(&mut client, "tea").unwrap();
        assert!(
            status == 503 && head.to_ascii_lowercase().contains("retry-after: 1\r\n"),
            "{head}"
        );
        let mut mq = example("mq");
        let (_mq, _) = Process::listening(mq.arg("--log").arg(&log).arg(&queue));
        assert_eq!(orders.line(), format!("connected to {queue}"));
        assert_eq!(ask(&mut client, GET).unwrap().0, 200);
        assert_eq!(post(&mut client, "tea").unwrap().2, format!("{}\n", 2 * round - 1));
        // Any bytes, none, and as many as may be.
        let most = "\r\n".repeat(8192);
        let (status, _, body) = post(&mut client, if round == 1 { "" } else { &most }).unwrap();
        assert_eq!((status, body), (202, format!("{}\n", 2 * round)));
        assert_eq!(post(&mut Client::connect(addr), &(most + "x")).unwrap().0, 413);
        drop(_mq);
        assert!(orders.line().starts_with(&format!("lost {queue}: ")));
    }
    kill(orders.id(), Signal::TERM);
    assert_eq!(orders.finish().1, Some(0));
}

#[test]
fn orders_that_wait_for_a_queue_that_goes_get_503() {
    let _ceiling = ceiling(LIMIT);
    let queue = TcpListener::bind("127.0.0.1:0").unwrap();
    let name = queue.local_addr().unwrap().to_string();
    let (mut orders, addr) =
        Process::listening(example("orders").args(["--queue", &name, "127.0.0.1:0"]));
    for bad in ["", "OUT_OF_MEMORY\r\n", "RESERVED 1 99999999\r\n", "x".repeat(300).as_str()] {
        let mut peer = Client::over(queue.accept().unwrap().0);
        assert_eq!(orders.line(), format!("connected to {name}"));
        let asks = thread::spawn(move || post(&mut Client::connect(addr), "tea").unwrap().0);
        assert_eq!((peer.line().as_str(), peer.line().as_str()), ("put 0 0 60 3\r", "tea\r"));
        peer.send(bad);
        if bad.is_empty() {
            drop(peer);
            assert_eq!(asks.join().unwrap(), 503);
        } else {
            assert_eq!(asks.join().unwrap(), 503, "{bad}");
            drop(peer);
        }
        assert!(orders.line().starts_with(&format!("lost {name}: ")));
    }
}

/// The message behind its length, which a worker has sent.
fn message(from: &mut Client) -> String {
    let mut length = Vec::new();
    from.0.read_until(b' ', &mut length).unwrap();
    let length: usize = String::from_utf8(length).unwrap().trim_end().parse().unwrap();
    let mut message = vec![0; length];
    from.0.read_exact(&mut message).unwrap();
    String::from_utf8(message).unwrap()
}

/// A command for the queue, and the first line of the answer.
fn say(queue: &mut Client, command: &str) -> String {
    queue.send(format!("{command}\r\n"));
    queue.line().trim_end().to_owned()
}

/// The value behind this in the answer to a command; or the answer, if it has no values.
fn stat(queue: &mut Client, command: &str, key: &str) -> String {
    let line = say(queue, command);
    let Some(length) = line.strip_prefix("OK ") else { return line };
    let mut text = vec![0; length.parse::<usize>().unwrap() + 2];
    queue.0.read_exact(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    text.lines().find_map(|line| line.strip_prefix(key)).unwrap().to_owned()
}

fn state(queue: &mut Client, job: u64) -> String {
    stat(queue, &format!("stats-job {job}"), "state: ")
}

fn await_state(queue: &mut Client, job: u64, wanted: &str) {
    while state(queue, job) != wanted {
        thread::yield_now(); // The ceiling ends it.
    }
}

#[test]
fn a_job_is_deleted_when_its_line_is_acknowledged_and_not_before() {
    let _ceiling = ceiling(LIMIT);
    let (_mq, queue) = Process::serve("mq");
    let logs = TcpListener::bind("127.0.0.1:0").unwrap();
    let to_logs = logs.local_addr().unwrap().to_string();
    let queue_name = queue.to_string();
    let args = ["--queue", &queue_name, "--logs", &to_logs, "--work", "0"];
    let worker = Process::start(example("worker").args(args));
    let mut queue = Client::connect(queue);
    assert_eq!(say(&mut queue, "put 0 0 60 7\r\na\r\n\"]\u{7f}\\"), "INSERTED 1");
    let mut collector = Client::over(logs.accept().unwrap().0);
    let first = message(&mut collector);
    let element = first.split_once('[').unwrap().1.split_once(']').unwrap().0;
    assert!(element.starts_with("ww@32473 id=\"1\" from=\""), "{first}");
    assert!(first.ends_with(r#"] order 1 worked: a\r\n\"]\x7f\\"#), "{first}");
    // What is no acknowledgement of this line changes nothing; a lost connection gets it again.
    collector.send("ack 2\nack\nack x\nnonsense\nack -1\r\n");
    drop(collector);
    let mut collector = Client::over(logs.accept().unwrap().0);
    assert_eq!(message(&mut collector), first);
    assert_eq!(state(&mut queue, 1), "reserved");
    collector.send("ack 1\n");
    await_state(&mut queue, 1, "NOT_FOUND");
    // A worker that dies leaves its job to the next one; a line from another run has another sender.
    assert_eq!(say(&mut queue, "put 0 0 60 3\r\ntea"), "INSERTED 2");
    assert!(message(&mut collector).ends_with("order 2 worked: tea"));
    kill(worker.id(), Signal::KILL);
    await_state(&mut queue, 2, "ready");
    let mut worker = Process::start(example("worker").args(args));
    let mut collector = Client::over(logs.accept().unwrap().0);
    let second = message(&mut collector);
    assert!(second.contains(" id=\"1\" ") && !second.contains(element), "{second}");
    // It finishes what it has when it is to end.
    kill(worker.id(), Signal::TERM);
    while worker.line() != "SIGTERM: no new jobs, 1 to finish" {}
    collector.send("ack 1\n");
    assert_eq!(worker.rest().1, Some(0));
    await_state(&mut queue, 2, "NOT_FOUND");
}

#[test]
fn a_worker_has_as_many_jobs_as_it_may_and_ends_although_nobody_acknowledges() {
    let _ceiling = ceiling(LIMIT);
    let (_mq, queue) = Process::serve("mq");
    let logs = TcpListener::bind("127.0.0.1:0").unwrap();
    let names = [queue.to_string(), logs.local_addr().unwrap().to_string()];
    let mut queue = Client::connect(queue);
    for job in 1..=8 {
        assert_eq!(say(&mut queue, "put 0 0 60 0\r\n"), format!("INSERTED {job}"));
    }
    let args = ["--queue", &names[0], "--logs", &names[1], "--work", "1", "--jobs", "5"];
    let mut worker = Process::start(example("worker").args(args));
    let mut collector = Client::over(logs.accept().unwrap().0);
    (0..5).for_each(|_| drop(message(&mut collector)));
    assert_eq!(state(&mut queue, 6), "ready");
    collector.send("ack 3\n");
    assert!(message(&mut collector).contains("order 6 worked: "));
    assert_eq!(state(&mut queue, 3), "NOT_FOUND");
    kill(worker.id(), Signal::TERM);
    assert_eq!(worker.finish().1, Some(0)); // After its grace.
    await_state(&mut queue, 6, "ready");
}

/// The last job is done while the worker asks for one that is there now.
#[test]
fn a_worker_asks_again_when_its_last_job_was_done_before_the_answer() {
    let _ceiling = ceiling(LIMIT);
    let queue = TcpListener::bind("127.0.0.1:0").unwrap();
    let logs = TcpListener::bind("127.0.0.1:0").unwrap();
    let names = [&queue, &logs].map(|listener| listener.local_addr().unwrap().to_string());
    let args = ["--queue", &names[0], "--logs", &names[1], "--work", "1"];
    let _worker = Process::start(example("worker").args(args));
    let mut queue = Client::over(queue.accept().unwrap().0);
    let mut collector = Client::over(logs.accept().unwrap().0);
    assert_eq!(queue.line().trim_end(), "reserve");
    queue.send("RESERVED 7 1\r\na\r\n");
    assert_eq!(queue.line().trim_end(), "reserve-with-timeout 0");
    assert!(message(&mut collector).contains("order 7 worked: a"));
    collector.send("ack 1\n");
    assert_eq!(queue.line().trim_end(), "delete 7");
    queue.send("TIMED_OUT\r\nDELETED\r\n");
    assert_eq!(queue.line().trim_end(), "reserve");
}

#[test]
fn bad_arguments_are_refused_in_one_line() {
    for (name, args, because) in [
        ("orders", &["nonsense"][..], "cannot listen on nonsense"),
        ("orders", &["--queue", "nonsense", "0"], "cannot connect to"),
        ("orders", &["--logs", "nonsense", "0"], "cannot look up nonsense"),
        ("orders", &["--metrics", "[::1]:1", "0"], "--metrics [::1]:1 is no address of IPv4"),
        ("worker", &["--queue", "nonsense"], "cannot connect to"),
        ("worker", &["--jobs", "0"], "--jobs wants 1 to 1000"),
        ("worker", &["--jobs", "1001"], "--jobs wants 1 to 1000"),
        ("worker", &["--work", "10001"], "--work wants 10000 at most"),
        ("worker", &["7001"], "try --help"),
    ] {
        let out = output(name, args);
        let said = String::from_utf8(out.stderr).unwrap();
        assert_eq!((out.status.code(), said.lines().count()), (Some(2), 1), "{args:?}: {said}");
        assert!(said.starts_with("error: ") && said.contains(because), "{args:?}: {said}");
    }
    for name in ["orders", "worker"] {
        let help = String::from_utf8(output(name, &["--help"]).stdout).unwrap();
        assert!(help.starts_with(&format!("Usage: {name} [OPTIONS]")), "{help}");
    }
}
