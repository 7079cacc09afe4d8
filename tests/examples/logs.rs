//! The log collector, with the programs that log.
#![cfg(unix)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rustix::process::Signal;
use support::clients::{LOGGER, OPENSSL, RSYSLOGD, skip_without};
use support::process::{Client, Process, example, output};
use support::{Rng, ceiling};

use crate::ending::signal;

#[path = "../../examples/journal/follow.rs"]
mod follow;

const LIMIT: Duration = Duration::from_secs(120);

/// An empty folder, and a server in it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("logs").join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// What it says on stderr is in a file of this name.
    fn start(&self, name: &str, options: &[&str], addr: &str) -> (Process, SocketAddr) {
        let said = File::options().create(true).append(true).open(self.path(name)).unwrap();
        let mut command = example("logs");
        Process::listening(command.current_dir(&self.0).args(options).arg(addr).stderr(said))
    }

    fn collector(&self, options: &[&str]) -> (Process, SocketAddr) {
        self.start("said", &[&["--output", "all"], options].concat(), "127.0.0.1:0")
    }

    fn text(&self, name: &str) -> String {
        let bytes = fs::read(self.path(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// As soon as the file has so many lines.
    fn lines(&self, name: &str, count: usize) -> Vec<String> {
        self.when(name, |text| text.matches('\n').count() >= count)
    }

    fn when(&self, name: &str, is_there: impl Fn(&str) -> bool) -> Vec<String> {
        let begun = std::time::Instant::now();
        loop {
            let text = self.text(name);
            if is_there(&text) {
                return text.lines().map(str::to_owned).collect();
            }
            assert!(begun.elapsed() < LIMIT, "it does not come: {text:.3000}");
            std::thread::yield_now(); // Nothing tells that a file was written.
        }
    }
}

fn ends(mut server: Process) {
    signal(&server, Signal::TERM);
    assert_eq!(server.rest().1, Some(0));
}

fn send(addr: SocketAddr, bytes: impl AsRef<[u8]>) {
    let mut client = Client::connect(addr);
    client.send(bytes);
    client.0.get_ref().shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.rest(), "", "a plain client gets no answer");
}

fn logger(addr: SocketAddr, args: &[&str]) {
    let port = addr.port().to_string();
    let mut logger = LOGGER.command();
    let done = logger.args(["-n", "127.0.0.1", "-P", &port]).args(args).status();
    assert!(done.unwrap().success());
}

#[test]
fn logger_is_understood_in_every_way_that_it_speaks() {
    skip_without!(LOGGER);
    let _ceiling = ceiling(LIMIT);
    let folder = Folder::new("logger");
    let (server, addr) = folder.collector(&[]);
    let mut count = 0;
    for network in ["--tcp", "--udp"] {
        for form in ["--rfc3164", "--rfc5424"] {
            let options = [network, form, "-t", "tester", "-p", "local0.warning"];
            // A datagram has no other framing.
            let framing = if network == "--tcp" { "--octet-count" } else { "--skip-empty" };
            logger(addr, &[&options[..], &["hello, Ärger"]].concat());
            logger(addr, &[&options[..], &[framing, "hello, Ärger"]].concat());
            count += 2;
            let lines = folder.lines("all", count);
            for line in &lines[count - 2..] {
                let head = if form == "--rfc5424" { "<132>1 " } else { "<132>" };
                assert!(line.starts_with(head) && line.ends_with("hello, Ärger"), "{line}");
                assert!(line.contains("tester"), "{line}");
            }
        }
    }
    ends(server);
    assert_eq!(folder.text("all").lines().count(), count, "each once");
}

/// rsyslogd, which gets them from logger, over TCP in both framings and over UDP.
#[test]
fn rsyslogd_passes_its_messages_on_to_us() {
    skip_without!(LOGGER, RSYSLOGD);
    let _ceiling = ceiling(LIMIT);
    let folder = Folder::new("rsyslogd");
    let (server, addr) = folder.collector(&[]);
    let (dir, port) = (folder.0.display(), addr.port());
    let forward = |more: &str| {
        format!(
            "action(type=\"omfwd\" target=\"127.0.0.1\" port=\"{port}\" {more} template=\"T\")\n"
        )
    };
    let config = format!(
        "global(workDirectory=\"{dir}\")\nmodule(load=\"imtcp\")\n\
         input(type=\"imtcp\" port=\"0\" address=\"127.0.0.1\" listenPortFileName=\"{dir}/port\")\n\
         template(name=\"T\" type=\"string\" string=\"<%PRI%>1 %timestamp:::date-rfc3339% h %app-name% - - - %msg%\\n\")\n{}{}{}",
        forward("protocol=\"tcp\" TCP_Framing=\"octet-counted\""),
        forward("protocol=\"tcp\""),
        forward("protocol=\"udp\"")
    );
    fs::write(folder.path("conf"), config).unwrap();
    let (conf, pid) = (folder.path("conf"), folder.path("pid"));
    let mut rsyslogd = RSYSLOGD.command();
    let args = ["-n", "-f", conf.to_str().unwrap(), "-i", pid.to_str().unwrap()];
    let _rsyslogd = Process::start(rsyslogd.args(args).stderr(Stdio::null()));
    let port = folder.lines("port", 0);
    let port = if port.is_empty() { folder.when("port", |text| !text.is_empty()) } else { port };
    let to = SocketAddr::from(([127, 0, 0, 1], port[0].trim().parse().unwrap()));
    logger(to, &["--tcp", "-t", "tester", "through rsyslogd"]);
    let lines = folder.when("all", |text| text.matches("through rsyslogd").count() >= 3);
    let ours = lines.iter().filter(|line| line.contains("through rsyslogd"));
    assert!(ours.clone().all(|line| line.contains(" h tester - - - ")), "{lines:?}");
    assert_eq!(ours.count(), 3);
    ends(server);
}

#[test]
#[cfg(feature = "tls")]
fn openssl_sends_its_lines_over_tls() {
    skip_without!(OPENSSL);
    let _ceiling = ceiling(LIMIT);
    let folder = Folder::new("tls");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(folder.path("cert"), made.cert.pem()).unwrap();
    fs::write(folder.path("key"), made.signing_key.serialize_pem()).unwrap();
    let (server, addr) = folder.collector(&["--tls", "cert", "key"]);
    let mut openssl = OPENSSL.command();
    openssl.current_dir(&folder.0).args(["s_client", "-connect", &addr.to_string(), "-quiet"]);
    let options = ["-no_ign_eof", "-CAfile", "cert", "-verify_return_error", "-servername"];
    let mut openssl = Process::start(openssl.args(options).arg("localhost").stderr(Stdio::null()));
    openssl.type_in("<14>over TLS\n12 <15>and more");
    assert_eq!(folder.lines("all", 2), ["<14>over TLS", "<15>and more"]);
    assert_eq!(openssl.finish().1, Some(0));
    let mut plain = Client::connect(addr);
    plain.send("<14>in the clear, and long enough for a record\n");
    drop(plain);
    folder.when("said", |text| text.contains("no handshake: "));
    ends(server);
    assert_eq!(folder.text("all").lines().count(), 2);
}

#[test]
fn what_is_no_message_is_kept_marked_or_cut_and_counted() {
    let _ceiling = ceiling(LIMIT);
    let folder = Folder::new("hostile");
    let (server, addr) = folder.collector(&[]);
    send(addr, "999999999 <13>not so long\n<13>next\n");
    send(addr, "30 <13>ends early"); // A frame larger than said.
    send(addr, "8 <13>abcdefgh\n"); // And one smaller.
    send(addr, "no priority\n<192>none\n<+1>none\n12 monkeys\n0 <13>\n70000 <13>too long\n\n\n");
    send(addr, b"<13>\xff\xfe bytes\n<13>tab\t, bell\x07, cr\r\n");
    send(addr, "14 <13>two\nlines\n");
    let expected = [
        "<13>999999999 <13>not so long",
        "<13>next",
        "<13>ends early",
        "<13>abcd",
        "<13>efgh",
        "<13>no priority",
        "<13><192>none",
        "<13><+1>none",
        "<13>12 monkeys",
        "<13>0 <13>",
        "<13>70000 <13>too long",
        "<13>\u{fffd}\u{fffd} bytes",
        "<13>tab\t, bell#007, cr#015",
        "<13>two#012lines",
    ];
    assert_eq!(folder.lines("all", expected.len()), expected);
    // A line of a megabyte is messages of 8 KiB; and a datagram, too.
    let before = expected.len();
    send(addr, [&vec![b'x'; 1 << 20][..], b"\n<13>behind\n"].concat());
    let lines = folder.lines("all", before + 129);
    let of_x: usize = lines[before..].iter().map(|line| line.matches('x').count()).sum();
    assert_eq!((of_x, lines.last().unwrap().as_str()), (1 << 20, "<13>behind"));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(&[b'y'; 20_000], addr).unwrap();
    let lines = folder.lines("all", before + 129 + 3);
    assert_eq!(
        lines[before + 129..].iter().map(|it| it.matches('y').count()).sum::<usize>(),
        20_000
    );
    ends(server);
    let said = folder.text("said");
    let last = said.lines().last().unwrap();
    // 8 + 128 + 3 without priority; the megabyte was cut 128 times, the datagram once.
    assert!(
        last.starts_with("messages: 146 (139 without priority, 1 no UTF-8, 129 cut)"),
        "{last}"
    );
}

#[test]
#[cfg(target_os = "linux")]
fn endless_lines_cost_little_memory_while_others_are_served() {
    let _ceiling = ceiling(LIMIT);
    let folder = Folder::new("endless");
    let (server, addr) = folder.collector(&[]);
    send(addr, "<13>first\n");
    let before = server.resident_kib_max();
    let mut clients = [(); 4].map(|()| Client::connect(addr));
    for _ in 0..16 {
        clients.iter_mut().for_each(|client| client.send([b'x'; 1 << 20]));
        let mut other = Client::connect(addr);
        other.send("<13>1 - h - - - [ww@32473 id=\"1\"] served\n");
        assert_eq!(other.line(), "ack 1");
    }
    let grown = server.resident_kib_max() - before;
    assert!(grown < 24 * 1024, "{grown} KiB");
}

#[test]
fn an_id_is_acknowledged_when_it_is_stored_and_taken_once_also_after_a_kill() {
    let _ceiling = ceiling(LIMIT);
    let folder = Folder::new("ids");
    let message =
        |host: &str, id: &str| format!("<13>1 - {host} - - - [ww@32473 id=\"{id}\"] text\n");
    let mut expected = 0;
    for round in 0..3 {
        let (_server, addr) = folder.collector(&[]);
        let mut client = Client::connect(addr);
        for id in ["1", "b-7", "1", "other"] {
            client.send(message("h", id));
            assert_eq!(client.line(), format!("ack {id}"));
        }
        client.send(message("g", "1")); // Another sender's.
        assert_eq!(client.line(), "ack 1");
        let id = format!("new-{round}");
        client.send(message("h", &id));
        assert_eq!(client.line(), format!("ack {id}"));
        expected = 4 + round + 1;
        assert_eq!(folder.text("all").lines().count(), expected);
    } // By SIGKILL.
    // And what a crash has left unfinished is cut off.
    let mut file = File::options().append(true).open(folder.path("all")).unwrap();
    file.write_all(b"<13>unfinish").unwrap();
    let (server, addr) = folder.collector(&[]);
    send(addr, "<13>whole\n");
    assert_eq!(folder.lines("all", expected + 1)[expected], "<13>whole");
    assert!(folder.text("said").contains("12 bytes of an unfinished write are cut off"));
    ends(server);
}

#[test]
fn files_are_followed_through_both_rotations_and_a_restart() {
    let _ceiling = ceiling(LIMIT);
    let folder = Folder::new("tail");
    let options = ["--tail", "log", "--spool", "spool"];
    let append = |name: &str, text: &str| {
        let file = File::options().create(true).append(true).open(folder.path(name));
        file.unwrap().write_all(text.as_bytes()).unwrap();
    };
    let rename = |to: &str| fs::rename(folder.path("log"), folder.path(to)).unwrap();
    append("log", "<13>1\n<13>2\n<13>ha");
    let (server, _) = folder.collector(&options);
    folder.lines("all", 2);
    append("log", "lf\n<13>mid");
    folder.lines("all", 3);
    // Renamed in the middle of a line, and the writer goes on in the old file for a while.
    rename("log.1");
    append("log.1", "dle\n<13>cut of");
    append("log", "<13>new\n");
    let lines = folder.when("all", |text| text.contains("new"));
    assert_eq!(lines[2..], ["<13>half", "<13>middle", "<13>cut of", "<13>new"]);
    // Emptied in the middle of a line.
    append("log", "<13>unfinished");
    append("log", ""); // It is seen, or it is lost: so that it is seen, another line.
    append("log", " line\n<13>rest");
    folder.when("all", |text| text.contains("unfinished line"));
    File::options().write(true).open(folder.path("log")).unwrap().set_len(0).unwrap();
    append("log", "<13>a\n");
    folder.when("all", |text| text.contains("<13>a\n"));
    ends(server);
    // While nobody looks: a line, a rotation, and a line.
    append("log", "<13>b\n");
    rename("log.2");
    append("log", "<13>c\n");
    let (server, _) = folder.collector(&options);
    let lines = folder.when("all", |text| text.contains("<13>c\n"));
    assert_eq!(lines.iter().rev().take(3).rev().collect::<Vec<_>>(), ["<13>a", "<13>b", "<13>c"]);
    ends(server);
    let lines = folder.lines("all", 0);
    let once: BTreeSet<&String> = lines.iter().collect();
    assert_eq!(once.len(), lines.len(), "{lines:?}");
}

/// What is unfinished when the file is emptied is a message; and of a renamed one when it is over.
#[test]
fn an_unfinished_line_is_kept_when_its_file_is_emptied_or_replaced() {
    use follow::{Behind, Follow, Position};
    let folder = Folder::new("follow");
    let path = folder.path("log");
    let mut follow = Follow::new(path.clone(), Position::default());
    let piece = |text: &str, behind| (text.as_bytes().to_vec(), behind);
    assert_eq!(follow.read().unwrap(), piece("", Behind::More), "there is none yet");
    let mut look = |text: &str, behind, took| {
        let found = follow.read().unwrap();
        assert_eq!(found, piece(text, behind));
        follow.took(&found, took);
        follow.position
    };
    fs::write(&path, "one\nunfin").unwrap();
    look("one\nunfin", Behind::More, 4);
    look("unfin", Behind::More, 0);
    fs::write(&path, "").unwrap();
    assert_eq!(look("unfin", Behind::Emptied, 5).at, 0);
    fs::write(&path, "two\nhalf").unwrap();
    look("two\nhalf", Behind::More, 4);
    fs::rename(&path, folder.path("log.1")).unwrap();
    look("half", Behind::More, 0);
    fs::write(&path, "new\n").unwrap();
    // Whoever writes to the old one may go on for a look.
    File::options().append(true).open(folder.path("log.1")).unwrap().write_all(b" more").unwrap();
    look("half more", Behind::More, 0);
    assert_eq!(look("half more", Behind::Nothing, 9), Position::default());
    let position = look("new\n", Behind::More, 4);
    // Another one reads on where this one was, also if the file has another name since.
    File::options().append(true).open(&path).unwrap().write_all(b"last\n").unwrap();
    fs::rename(&path, folder.path("log.2")).unwrap();
    fs::write(&path, "newer\n").unwrap();
    let mut follow = Follow::new(path, position);
    let found = follow.read().unwrap();
    assert_eq!(found, piece("last\n", Behind::More));
    follow.took(&found, 5);
    let found = follow.read().unwrap();
    assert_eq!(found, piece("", Behind::Nothing));
    follow.took(&found, 0);
    assert_eq!(follow.read().unwrap(), piece("newer\n", Behind::More));
}

#[test]
fn senders_wait_while_the_spool_is_full_and_datagrams_are_counted() {
    let _ceiling = ceiling(LIMIT);
    let folder = Folder::new("full");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let next = nobody.local_addr().unwrap();
    drop(nobody);
    let next = next.to_string();
    let options = ["--forward", &next, "--spool", "spool", "--spool-bytes", "100000"];
    let (forwarder, addr) = folder.start("forwarder", &options, "127.0.0.1:0");
    let lines: usize = 40_000;
    let text: String = (0..lines).map(|at| format!("<13>{at} {}\n", "x".repeat(200))).collect();
    let sender = std::thread::spawn(move || send(addr, text));
    // Full: datagrams are dropped, and that is said.
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let is_said = |text: &str| {
        socket.send_to(b"<13>datagram", addr).unwrap();
        text.lines().any(|line| line.contains("dropped: ") && !line.contains("dropped: 0"))
    };
    folder.when("forwarder", is_said);
    assert!(!sender.is_finished(), "8 MB had room in 100 KB");
    assert!(fs::metadata(folder.path("spool")).unwrap().len() < 400_000);
    let (collector, _) = folder.start("said", &["--output", "all"], &next);
    sender.join().unwrap();
    let all = folder.when("all", |text| text.contains(&format!(" {} x", lines - 1)));
    let numbers = all.iter().filter(|line| !line.contains("datagram"));
    let numbers: Vec<usize> =
        numbers.map(|line| line.split(' ').nth_back(1).unwrap().parse().unwrap()).collect();
    assert!(numbers == (0..lines).collect::<Vec<_>>(), "in order, each once");
    ends(forwarder);
    ends(collector);
}

/// With another id in it a frame is longer, and longer than the limit is none.
#[test]
fn the_greatest_messages_are_passed_on() {
    let _ceiling = ceiling(LIMIT);
    let folder = Folder::new("greatest");
    let (collector, next) = folder.collector(&[]);
    let options = ["--forward", &next.to_string(), "--spool", "spool"];
    let (forwarder, addr) = folder.start("forwarder", &options, "127.0.0.1:0");
    let mut client = Client::connect(addr);
    for (number, length) in (65_300..=65_536).step_by(59).enumerate() {
        let head = format!("<13>1 - h - - - [ww@32473 id=\"{number}\"] ");
        client.send(format!("{length} {head}{}", "x".repeat(length - head.len())));
        assert_eq!(client.line(), format!("ack {number}"));
    }
    client.send(format!("65536 <13>{}", "y".repeat(65_532)));
    client.send("<13>last\n");
    let lines = folder.when("all", |text| text.contains("last"));
    let count = |of: char| lines.iter().map(|line| line.matches(of).count()).sum::<usize>();
    let heads: usize = (65_300..=65_536).step_by(59).map(|length| length - 34).sum();
    // "logs" has no x of its own, and neither has our element.
    assert_eq!((count('x'), count('y')), (heads, 65_532));
    ends(forwarder);
    ends(collector);
}

#[test]
fn an_alarm_is_raised_once_a_second_at_most_and_all_are_counted() {
    let _ceiling = ceiling(LIMIT);
    let folder = Folder::new("alarm");
    let (server, addr) = folder.collector(&["--match", "panic", "--match", "Ärger"]);
    send(addr, format!("fine\n<13>a panic\x07\n{}", "<13>Ärger\n".repeat(99)));
    let said = folder.when("said", |text| text.contains("ALARM"));
    assert_eq!(said[0], "ALARM 1, \"panic\": <13>a panic#007");
    ends(server);
    let said = folder.text("said");
    assert!(said.trim_end().ends_with("alarms: 100"), "{said}");
    assert!(said.matches("ALARM").count() < 10);
}

/// What has been read is on the disk when the connection closes; a sender that does not end is closed.
#[test]
fn a_drain_stores_what_was_sent() {
    let _ceiling = ceiling(LIMIT);
    let folder = Folder::new("drain");
    let (server, addr) = folder.collector(&[]);
    let mut client = Client::connect(addr);
    client.send("<13>1 - h - - - [ww@32473 id=\"1\"] x\n");
    assert_eq!(client.line(), "ack 1");
    client.send("<13>line\n".repeat(1000));
    signal(&server, Signal::TERM);
    assert_eq!(client.rest(), "");
    assert_eq!(folder.text("all").lines().count(), 1001);
    let mut server = server;
    assert_eq!(server.rest().1, Some(0));
}

#[test]
fn messages_go_to_stdout_without_a_file() {
    let _ceiling = ceiling(LIMIT);
    let folder = Folder::new("stdout");
    let (mut server, addr) = folder.start("said", &[], "127.0.0.1:0");
    send(addr, "hello\n");
    assert_eq!(server.line(), "<13>hello");
    ends(server);
}

#[test]
fn arguments_that_make_no_sense_are_refused_in_one_line() {
    let cases: [(&[&str], &str); 7] = [
        (&["--nonsense"], "--nonsense"),
        (&["--output", "a", "--forward", "b"], "exclude each other"),
        (&["--match", ""], "--match wants a text"),
        (&["--tls", "/none"], "--tls"),
        (&["--tls", "/none", "/none"], "cannot read /none"),
        (&["--spool-bytes", "many"], "--spool-bytes wants a whole number"),
        (&["nonsense"], "cannot listen on nonsense"),
    ];
    for (args, because) in cases {
        let done = output("logs", args);
        let said = String::from_utf8(done.stderr).unwrap();
        assert_eq!((done.status.code(), said.lines().count()), (Some(2), 1), "{args:?}: {said}");
        assert!(said.contains(because), "{args:?}: {said}");
    }
    assert_eq!(output("logs", &["--output", "/none/none", "0"]).status.code(), Some(1));
}

/// A sender that keeps each line until it is acknowledged, wherever the forwarder is.
fn send_all(addr: SocketAddr, lines: u64, acknowledged: &AtomicU64) {
    let mut next = 0;
    while next < lines {
        let Ok(stream) = TcpStream::connect(addr) else { continue };
        let mut client = Client::over(stream);
        for from in (next..lines).step_by(200) {
            let ids = from..lines.min(from + 200);
            let line = |id| format!("<13>1 - sender - - - [ww@32473 id=\"{id}\"] line {id} end\n");
            let text: String = ids.clone().map(line).collect();
            if client.0.get_mut().write_all(text.as_bytes()).is_err() {
                break;
            }
            for id in ids {
                let mut answer = String::new();
                let read = std::io::BufRead::read_line(&mut client.0, &mut answer);
                if read.is_err() || answer != format!("ack {id}\n") {
                    break;
                }
                next = id + 1;
                acknowledged.store(next, Relaxed);
            }
            if next < lines.min(from + 200) {
                break;
            }
        }
    }
}

#[test]
fn no_line_is_lost_or_doubled_though_both_are_killed_twenty_times() {
    const LINES: u64 = 20_000;
    let _ceiling = ceiling(LIMIT);
    let folder = Folder::new("kill");
    let mut rng = Rng::new();
    let collect = |addr: &str| folder.start("said", &["--output", "all"], addr);
    let (collector, to) = collect("127.0.0.1:0");
    let to = to.to_string();
    let forward =
        |addr: &str| folder.start("passed", &["--forward", &to, "--spool", "spool"], addr);
    let (forwarder, addr) = forward("127.0.0.1:0");
    let mut both = [Some(collector), Some(forwarder)];
    let acknowledged = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| send_all(addr, LINES, &acknowledged));
        for kill in 0..40 {
            let at = kill * (LINES / 40) + rng.below(LINES / 40);
            while acknowledged.load(Relaxed) < at {
                std::thread::yield_now();
            }
            let which = kill as usize % 2;
            both[which] = None; // By SIGKILL.
            let again = if which == 0 { collect(&to) } else { forward(&addr.to_string()) };
            both[which] = Some(again.0);
        }
    });
    assert_eq!(acknowledged.load(Relaxed), LINES);
    let lines = folder.when("all", |text| text.contains(&format!("line {} end", LINES - 1)));
    let mut found = BTreeMap::new();
    for line in &lines {
        let words: Vec<&str> = line.rsplit(' ').collect();
        *found.entry(words[1].parse::<u64>().unwrap()).or_insert(0) += 1;
    }
    let lost: Vec<u64> = (0..LINES).filter(|id| !found.contains_key(id)).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    assert!(found.values().all(|times| *times == 1), "doubled");
}

/// The disk refuses everything; nothing is acknowledged, and nothing is lost in silence.
#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_said_and_nothing_is_acknowledged() {
    let _ceiling = ceiling(LIMIT);
    let folder = Folder::new("disk");
    let (server, addr) = folder.start("said", &["--output", "/dev/full"], "127.0.0.1:0");
    let mut client = Client::connect(addr);
    client.send("<13>1 - h - - - [ww@32473 id=\"1\"] x\n");
    folder.when("said", |text| text.matches("cannot write: No space left").count() >= 2);
    client.0.get_ref().set_nonblocking(true).unwrap();
    assert!(std::io::Read::read(&mut client.0, &mut [0; 1]).is_err(), "no answer");
    drop(server);
}

/// The spool's disk is full, and then is not: nothing is acknowledged that is not stored, and what waits
/// is stored as soon as there is room.
#[test]
#[cfg(target_os = "linux")]
fn on_a_full_disk_the_spool_goes_on_when_there_is_room() {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    const MESSAGES: usize = 100;
    let _ceiling = ceiling(LIMIT);
    let folder = Folder::new("full_spool");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let next = nobody.local_addr().unwrap().to_string();
    drop(nobody);
    let said = File::create(folder.path("forwarder")).unwrap();
    let script = "trap '' XFSZ; ulimit -S -f 200; exec \"$@\""; // Blocks of 512 bytes: 100 KiB.
    let mut command = std::process::Command::new("sh");
    command.args(["-c", script, "sh"]).arg(example("logs").get_program());
    command.args(["--forward", &next, "--spool", "spool", "127.0.0.1:0"]);
    let (forwarder, addr) = Process::listening(command.current_dir(&folder.0).stderr(said));
    let mut client = Client::connect(addr);
    let message =
        |id: usize| format!("<13>1 - h - - - [ww@32473 id=\"{id}\"] {}", "x".repeat(2000));
    for id in 0..MESSAGES {
        client.send(format!("{} {}", message(id).len(), message(id)));
    }
    folder.when("forwarder", |text| {
        text.matches("cannot write to the spool: File too large").count() >= 2
    });
    assert!(fs::metadata(folder.path("spool")).unwrap().len() <= 200 * 512);
    let pid = Pid::from_raw(forwarder.id() as i32);
    prlimit(pid, Resource::Fsize, Rlimit { current: None, maximum: None }).unwrap();
    for id in 0..MESSAGES {
        assert_eq!(client.line(), format!("ack {id}"));
    }
    drop(forwarder); // By SIGKILL: what was acknowledged is on the disk.
    let options = ["--forward", &next, "--spool", "spool"];
    let (forwarder, _) = folder.start("forwarder", &options, "127.0.0.1:0");
    let (collector, _) = folder.start("said", &["--output", "all"], &next);
    let lines = folder.lines("all", MESSAGES);
    for (id, line) in lines.iter().enumerate() {
        assert!(line.ends_with(&"x".repeat(2000)), "{id}: {line}");
    }
    ends(forwarder);
    ends(collector);
    assert_eq!(folder.text("all").lines().count(), MESSAGES, "each once");
}

/// A spool of which nearly all has been passed on is written anew, and is the same.
#[test]
fn a_spool_that_has_grown_is_written_anew() {
    const MESSAGES: usize = 3000;
    const BYTES: usize = 4000;
    let _ceiling = ceiling(LIMIT);
    let folder = Folder::new("rewrite");
    let (collector, next) = folder.collector(&[]);
    let options = ["--forward", &next.to_string(), "--spool", "spool"];
    let (forwarder, addr) = folder.start("forwarder", &options, "127.0.0.1:0");
    let mut client = Client::connect(addr);
    // 12 MB in all, and no file is made anew below 4 MiB.
    for id in 0..MESSAGES {
        let message = format!("<13>1 - h - - - [ww@32473 id=\"{id}\"] {}", "x".repeat(BYTES));
        client.send(format!("{} {message}", message.len()));
        assert_eq!(client.line(), format!("ack {id}"));
    }
    folder.lines("all", MESSAGES);
    let bytes = fs::metadata(folder.path("spool")).unwrap().len();
    assert!(bytes < (MESSAGES * BYTES) as u64 / 2, "{bytes} bytes are in the spool");
    drop(forwarder); // By SIGKILL.
    let (forwarder, addr) = folder.start("forwarder", &options, "127.0.0.1:0");
    send(addr, "<13>last\n");
    let lines = folder.when("all", |text| text.contains("last"));
    assert!(
        lines.len() <= MESSAGES + 1,
        "{} lines: what was passed on has come again",
        lines.len()
    );
    ends(forwarder);
    ends(collector);
}

/// The system refuses a thread, for which there is no memory, and then gives one.
#[test]
#[cfg(target_os = "linux")]
fn without_a_thread_nothing_is_lost() {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let _ceiling = ceiling(LIMIT);
    let folder = Folder::new("thread");
    let (server, addr) = folder.collector(&[]);
    let mut client = Client::connect(addr);
    client.send("x".repeat(1000)); // Its connection has its memory; no line yet, so no thread.
    let status = format!("/proc/{}/status", server.id());
    let status = fs::read_to_string(status).unwrap();
    let size = status.split("VmSize:").nth(1).unwrap().split_whitespace().next().unwrap();
    // A thread's stack takes 2 MiB.
    let most = Some(size.parse::<u64>().unwrap() * 1024 + (1 << 20));
    let pid = Pid::from_raw(server.id() as i32);
    prlimit(pid, Resource::As, Rlimit { current: most, maximum: None }).unwrap();
    client.send("\n<13>1 - h - - - [ww@32473 id=\"1\"] second\n");
    folder.when("said", |text| text.contains("cannot write: cannot start a worker thread"));
    prlimit(pid, Resource::As, Rlimit { current: None, maximum: None }).unwrap();
    assert_eq!(client.line(), "ack 1");
    let lines = folder.text("all");
    assert!(lines.contains("xxx") && lines.ends_with("second\n"), "{lines}");
    ends(server);
}
