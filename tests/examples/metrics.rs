//! The example `metrics`: with nc, the statsd of PyPI, curl and promtool; by a clock that tests move; and
//! with senders that mean no good.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

use rustix::process::Signal;
use support::ceiling;
use support::clients::{NC, PROMTOOL, STATSD, skip_without};
use support::http::{Bench, body, get};
use support::process::{Client, Process, example, output};
use waterwheel::SourceId;
use waterwheel::net::udp;
use waterwheel::protocols::http;

#[allow(dead_code, unused_imports)] // Its other part is the program's.
#[path = "../../examples/metrics"]
mod program {
    pub mod alert;
    pub mod protocol;
    pub mod server;
    pub mod store;
}

use program::alert::Rule;
use program::server::{self, Server};
use program::store;

const LIMIT: Duration = Duration::from_secs(120);

/// The example, started: where datagrams go, and where its pages are.
struct Metrics {
    process: Process,
    to: SocketAddr,
    pages: SocketAddr,
    socket: UdpSocket,
}

impl Metrics {
    fn start(args: &[&str]) -> Metrics {
        let mut command = example("metrics");
        let (mut process, to) =
            Process::listening(command.args(args).args(["127.0.0.1:0", "127.0.0.1:0"]));
        let line = process.line();
        let pages = line.strip_prefix("pages at http://").and_then(|line| line.strip_suffix('/'));
        let pages = pages.expect("where the pages are").parse().expect("an address");
        Metrics { process, to, pages, socket: UdpSocket::bind("127.0.0.1:0").unwrap() }
    }

    fn send(&self, datagram: impl AsRef<[u8]>) {
        self.socket.send_to(datagram.as_ref(), self.to).expect("it is sent");
    }

    fn get(&self, path: &str) -> String {
        let mut client = Client::connect(self.pages);
        client.send(format!("GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"));
        body(&client.rest()).to_owned()
    }

    /// The page, as values by name and tags.
    fn page(&self) -> BTreeMap<String, f64> {
        values(&self.get("/metrics"))
    }

    /// Waits until so many datagrams were received or dropped, by the small page.
    fn wait_for(&self, datagrams: f64) {
        let _ceiling = ceiling(LIMIT);
        let count = |page: &str| {
            let words: Vec<_> = page.split(|char: char| !char.is_alphanumeric()).collect();
            let number = |before| {
                let at = words.iter().rposition(|word| *word == before).expect("it is there");
                words[at - 1].parse::<f64>().expect("a number")
            };
            number("received") + number("dropped")
        };
        while count(&self.get("/")) < datagrams {}
    }

    /// The page as soon as so many datagrams were received or dropped.
    fn page_after(&self, datagrams: f64) -> BTreeMap<String, f64> {
        let _ceiling = ceiling(LIMIT);
        loop {
            let page = self.page();
            if page["waterwheel_datagrams_total"] + page["waterwheel_dropped_total"] >= datagrams {
                return page;
            }
        }
    }
}

fn values(page: &str) -> BTreeMap<String, f64> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    let values = lines.map(|line| {
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        (name.to_owned(), value.parse().expect("a number"))
    });
    values.collect()
}

/// The server in this process, on a clock that stands, and what it has said.
struct Lab {
    bench: Bench<Server>,
    socket: SourceId<udp::Socket>,
    said: Rc<RefCell<Vec<String>>>,
}

impl Lab {
    fn new(rules: &[&str], buffer_bytes: usize) -> Lab {
        let rules = rules.iter().map(|rule| Rule::parse(rule).expect("a rule")).collect();
        let pages = http::Server::routes(server::pages());
        let mut bench = Bench::with_state(pages, Server::new(store::NAMES_MAX, rules));
        let said = Rc::new(RefCell::new(Vec::new()));
        let lines = said.clone();
        let window = (buffer_bytes, Duration::from_secs(1));
        let say = move |line| lines.borrow_mut().push(line);
        let socket = server::open(&mut bench.reactor, "127.0.0.1:0", window, say).unwrap();
        Lab { bench, socket, said }
    }

    /// Seconds pass, one after the other.
    fn pass(&mut self, seconds: u64) -> Vec<String> {
        (0..seconds).for_each(|_| self.bench.wait(Duration::from_secs(1)));
        self.said.take()
    }

    fn heard(&mut self, datagram: &str) {
        self.bench.state.store.heard(datagram.as_bytes());
    }

    fn get(&mut self, path: &str) -> String {
        body(&self.bench.ask(get(path))).to_owned()
    }
}

#[test]
fn header_keeps_its_promises_to_nc_curl_and_promtool() {
    skip_without!(NC, CURL, PROMTOOL);
    let mut metrics = Metrics::start(&["--window", "1", "--alert", "queue > 5 for 1s"]);
    let port = metrics.to.port().to_string();
    for line in ["hits:1|c", "queue:7|g", "time:320|ms", "nonsense"] {
        let mut nc = NC.command();
        let mut nc = Process::start(nc.args(["-u", "-w1", "127.0.0.1", &port]));
        nc.pass(format!("{line}\n").as_bytes());
    }
    metrics.page_after(4.0);
    let page = support::curl::ask(metrics.pages, "/metrics", &[]);
    assert_eq!(page.header("Content-Type"), Some("text/plain; version=0.0.4"));
    let found = values(&page.body);
    for (name, value) in [
        ("hits_total", 1.0),
        ("queue", 7.0),
        ("time_seconds_bucket{le=\"0.25\"}", 0.0),
        ("time_seconds_bucket{le=\"0.5\"}", 1.0),
        ("time_seconds_bucket{le=\"+Inf\"}", 1.0),
        ("time_seconds_sum", 0.32),
        ("time_seconds_count", 1.0),
        ("waterwheel_lines_total{result=\"good\"}", 3.0),
        ("waterwheel_lines_total{result=\"bad\"}", 1.0),
    ] {
        assert_eq!(found.get(name), Some(&value), "{name}: {}", page.body);
    }
    assert!(found["waterwheel_turns_total"] >= 4.0);
    assert_eq!(metrics.process.line(), "FIRING queue > 5 for 1s (7)");
    assert_eq!(metrics.get("/alerts"), "FIRING queue > 5 for 1s (7)\n");
    assert!(metrics.get("/").contains("FIRING queue > 5"));
    metrics.send("queue:-4|g");
    assert_eq!(metrics.process.line(), "RESOLVED queue > 5 for 1s");
    promtool_accepts(&page.body);
}

/// It reads a page as Prometheus does, and finds nothing to criticise.
fn promtool_accepts(page: &str) {
    let mut command = PROMTOOL.command();
    let command = command.args(["check", "metrics"]).stderr(Stdio::piped());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}\n{page}");
}

#[test]
fn whatever_names_and_tags_are_promtool_reads_the_page() {
    skip_without!(PROMTOOL);
    let mut lab = Lab::new(&[], 65_536);
    // Names that end as the lines of another do, and names that are the same on the page.
    for line in [
        "a:1|h\na.count:1|g\na_sum:1|s\na.bucket:1|c\na_total:1|g\na:1|c\na:1|ms\na_seconds:1|g",
        "9lives:1|c\n\u{e9}t\u{e9}:1|g\nsp ace:1|g\n-:1|c\nb{x}:1|c\nb\"c\":1|g\nb,c:1|h\n_:1|s",
        "t:1|h|#le:5,quantile:0.9,__name__:x\nt:1|h|#a:1,a:2,a.b:3,a-b:4\nt:1|h|#:x,,y,9:z",
        "e:1|g|#path:c:\\temp\\,say:\"hi\",empty:,\u{e9}:\u{e9}\ne:2|g|#empty:",
        "big:1e308|c\nbig:1e308|c\nbig:1e308|c|@0.000001\nlow:-1e308:-1e308|h\nlow:0.1|g\nlow:+1e308|g",
        "waterwheel_lines:1|c\nwaterwheel_names:1|g\nwaterwheel.turns:1|c",
    ] {
        lab.heard(line);
    }
    lab.pass(1);
    let page = lab.get("/metrics");
    promtool_accepts(&page);
    let found = values(&page);
    assert_eq!(found["big_total"], f64::MAX);
    assert_eq!(found["e{path=\"c:\\\\temp\\\\\",say=\"\\\"hi\\\"\",tag__=\"\u{e9}\"}"], 1.0);
    assert_eq!(found["t_count{a=\"1\",a_b=\"3\"}"], 1.0);
    assert_eq!((found["a_count_value"], found["e"]), (1.0, 2.0));
    // Its own are not everybody's.
    assert_eq!(found["waterwheel_datagrams_total"], 0.0);
}

#[test]
fn statsd_of_pypi_sends_all_its_kinds() {
    skip_without!(STATSD);
    let metrics = Metrics::start(&["--window", "1"]);
    let script = "
import statsd, sys
c = statsd.StatsClient('127.0.0.1', int(sys.argv[1]), prefix='app')
for _ in range(3): c.incr('hits')
c.incr('hits', 5); c.gauge('queue', 7); c.gauge('queue', -3, delta=True); c.gauge('cold', -4)
c.timing('t', 320); c.set('users', 'ann'); c.set('users', 'bob'); c.set('users', 'ann')
with c.pipeline() as p: p.incr('piped'); p.gauge('level', 0.5); p.timing('t', 7.5)
with c.timer('took'): pass
";
    let mut python = STATSD.command();
    let output = python.args(["-c", script, &metrics.to.port().to_string()]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    // `cold` is set to zero first, in the same datagram, or it would be lowered.
    let page = metrics.page_after(13.0);
    for (name, value) in [
        ("app_hits_total", 8.0),
        ("app_queue", 4.0),
        ("app_cold", -4.0),
        ("app_t_seconds_count", 2.0),
        ("app_t_seconds_bucket{le=\"0.01\"}", 1.0),
        ("app_piped_total", 1.0),
        ("app_level", 0.5),
        ("app_took_seconds_count", 1.0),
        ("waterwheel_lines_total{result=\"bad\"}", 0.0),
    ] {
        assert_eq!(page.get(name), Some(&value), "{name}: {page:?}");
    }
    let _ceiling = ceiling(LIMIT);
    // The set is counted when its window ends; the next one has nobody.
    while metrics.page().get("app_users") != Some(&0.0) {}
}

#[test]
fn rules_fire_and_resolve_by_the_clock() {
    let rules =
        ["queue > 5 for 10s", "hits >= 3", "slow > 0.5", "users > 1", "waterwheel_lines_total > 6"];
    let mut lab = Lab::new(&rules, 65_536);
    lab.heard("queue:7|g");
    assert_eq!(lab.pass(10), [""; 0]);
    assert_eq!(lab.pass(1), ["FIRING queue > 5 for 10s (7)"]);
    // Of a counter what came in a second; of times the longest; of a set how many.
    lab.heard("hits:1:1|c\nhits:1|c|@0.5\nslow:20:700|ms\nusers:a|s\nusers:b|s\nusers:a|s");
    assert_eq!(
        lab.pass(1),
        ["FIRING hits >= 3 (4)", "FIRING slow > 0.5 (0.7)", "FIRING users > 1 (2)"]
    );
    let alerts = lab.get("/alerts");
    assert!(alerts.starts_with("FIRING queue > 5 for 10s (7)\nFIRING hits"), "{alerts}");
    assert!(alerts.ends_with("QUIET waterwheel_lines_total > 6\n"), "{alerts}");
    lab.heard("queue:-2|g");
    assert_eq!(
        lab.pass(1),
        [
            "RESOLVED queue > 5 for 10s",
            "RESOLVED hits >= 3",
            "RESOLVED slow > 0.5",
            "RESOLVED users > 1",
        ]
    );
    lab.heard("queue:+1|g\nx\nx\nx\nx\nx\nx\nx");
    assert_eq!(
        lab.pass(9),
        ["FIRING waterwheel_lines_total > 6 (7)", "RESOLVED waterwheel_lines_total > 6"]
    );
    // Late by a minute, as a machine that slept: all of it is one window of that length.
    lab.heard("hits:60|c");
    lab.bench.clock.advance(Duration::from_secs(60));
    lab.bench.settle();
    assert_eq!(lab.said.take(), ["FIRING queue > 5 for 10s (6)"]);
}

/// The socket's buffer is as small as the kernel lets it be, and nobody reads meanwhile.
#[test]
#[cfg(target_os = "linux")]
fn datagrams_that_the_kernel_drops_are_counted_and_said() {
    let mut lab = Lab::new(&["waterwheel_dropped > 0"], 1);
    let to = lab.bench.reactor[lab.socket].local_addr();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    (0..1000).for_each(|_| assert_eq!(socket.send_to(b"hits:1|c", to).unwrap(), 8));
    let said = lab.pass(1);
    let page = values(&lab.get("/metrics"));
    let (hits, dropped) = (page["hits_total"], page["waterwheel_dropped_total"]);
    assert!(dropped > 900.0 && hits > 0.0, "{page:?}");
    assert_eq!((hits + dropped, page["waterwheel_datagrams_total"]), (1000.0, hits));
    let line = format!("the kernel has dropped {dropped} datagrams: a greater --buffer takes more");
    assert_eq!(said, [line, format!("FIRING waterwheel_dropped > 0 ({dropped})")]);
    assert_eq!(lab.pass(1), ["RESOLVED waterwheel_dropped > 0"]);
}

#[test]
fn hostile_lines_are_counted_and_others_are_served() {
    let metrics = Metrics::start(&[]);
    let mut sent = 0.0;
    let mut send = |datagram: &[u8]| {
        metrics.send(datagram);
        sent += 1.0;
        metrics.page_after(sent)
    };
    let bad = |page: &BTreeMap<String, f64>| page["waterwheel_lines_total{result=\"bad\"}"];
    let all: [&[u8]; 12] = [
        &[b'n'; 65_507],
        &[&[b'n'; 65_500][..], b":1|c"].concat(),
        &[&[b'n'; 129][..], b":1|g"].concat(),
        &[b"a:1|g|#", &[b't'; 300][..]].concat(),
        b"nan:NaN|g",
        b":",
        b"|",
        b"rate:1|c|@-0.5",
        b"rate:1|c|@0",
        b"big:1e400|c",
        b"\xff\xfe:1|c",
        b"down:-1|c",
    ];
    for (at, datagram) in all.iter().enumerate() {
        assert_eq!(
            bad(&send(datagram)),
            at as f64 + 1.0,
            "{:?}",
            &datagram[..datagram.len().min(20)]
        );
    }
    // A datagram full of lines, and one of values; a name that is of another kind already.
    let page = send("x:1|c\n".repeat(10_000).as_bytes());
    assert_eq!(page["x_total"], 10_000.0);
    let page = send(format!("y{}|ms", ":1".repeat(32_000)).as_bytes());
    assert_eq!(page["y_seconds_count"], 32_000.0);
    assert_eq!(bad(&send(b"y.seconds:1|ms\ny_seconds:1|g\n\0:1|g")), 13.0);
    assert_eq!(send(b"hits:1|c")["hits_total"], 1.0);
}

#[test]
#[cfg(target_os = "linux")]
fn a_million_names_cost_no_more_than_the_ten_thousand_that_are_kept() {
    let metrics = Metrics::start(&["--buffer", "4096", "--window", "1"]);
    metrics.send("mine:1|c");
    metrics.page_after(1.0);
    let mut datagrams = 1.0;
    // The longest names and tags that are taken, of all kinds, and members of sets.
    for from in (0..1_000_000).step_by(500) {
        let number = |n: usize| format!("{n:0100}");
        let line = |n: usize| match (from / 500) % 4 {
            0 => format!("{}:1|ms|#t:{}\n", number(n), "v".repeat(20)),
            1 => format!("{n}:1|g\n"),
            2 => format!("set:{n}|s\n"),
            _ => format!("n:1|c|#t:{}\n", number(n)),
        };
        let datagram: String = (from..from + 500).map(line).collect();
        for piece in datagram
            .as_bytes()
            .split_inclusive(|byte| *byte == b'\n')
            .collect::<Vec<_>>()
            .chunks(400)
        {
            metrics.send(piece.concat());
            datagrams += 1.0;
        }
        if from % 20_000 == 0 {
            metrics.wait_for(datagrams); // So that few are dropped.
        }
    }
    metrics.send("mine:1|c");
    let page = metrics.page_after(datagrams + 1.0);
    let lines = |result: &str| page[&format!("waterwheel_lines_total{{result=\"{result}\"}}")];
    assert!(page["waterwheel_names"] <= 10_000.0 && page["waterwheel_names"] > 9_900.0);
    assert_eq!(lines("bad"), 0.0);
    assert!(lines("no_room") > 500_000.0, "{}", lines("no_room"));
    if page["waterwheel_dropped_total"] == 0.0 {
        assert_eq!(lines("good") + lines("no_room"), 1_000_002.0);
        assert_eq!(page["mine_total"], 2.0);
    }
    // A crowd that asks for the page, and does not read it: the others get theirs.
    let crowd: Vec<_> = (0..100)
        .map(|_| {
            let mut client = Client::connect(metrics.pages);
            client.send("GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n");
            client
        })
        .collect();
    assert!(metrics.get("/metrics").len() > 1_000_000);
    assert_eq!(metrics.get("/alerts"), "");
    drop(crowd);
    let kib = metrics.process.resident_kib_max();
    println!("{kib} KiB");
    assert!(kib < 64 * 1024, "{kib} KiB");
}

#[test]
fn server_ends_in_order_by_a_signal() {
    let mut metrics = Metrics::start(&[]);
    let _waits = Client::connect(metrics.pages);
    metrics.page();
    super::ending::signal(&metrics.process, Signal::TERM);
    let (said, code) = metrics.process.rest();
    let said = String::from_utf8(said).unwrap();
    assert!(said.starts_with("SIGTERM: no new clients"), "{said}");
    assert_eq!(code, Some(0));
}

#[test]
fn bad_arguments_are_refused_in_one_line() {
    for (args, because) in [
        (&["--alert", "queue >> 5"][..], "not by \">>\""),
        (&["--alert", "queue > 5 for"], "a rule is"),
        (&["--alert", "queue > 5", "--alert", "queue > much"], "\"much\" is no number"),
        (&["--alert", "queue > 5 for 10 parsecs"], "a rule is"),
        (&["--alert", "queue > 5 for 10parsecs"], "a time is like"),
        (&["--alert"], "--alert"),
        (&["--window", "0"], "--window wants a second"),
        (&["--window", "soon"], "--window wants a whole number"),
        (&["--names", "-1"], "--names"),
        (&["nonsense"], "cannot listen on nonsense: "),
        (&["0", "nonsense"], "cannot listen on nonsense: "),
        (&["0", "0", "0"], "\"0\""),
    ] {
        let output = output("metrics", args);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{args:?}: {said}");
        assert!(said.starts_with("error: ") && said.contains(because), "{args:?}: {said}");
    }
    let help = String::from_utf8(output("metrics", &["--help"]).stdout).unwrap();
    for word in ["--alert RULE", "128 bytes", "[10000]", "100,000 members", "-h, --help"] {
        assert!(help.contains(word), "{word}");
    }
}
