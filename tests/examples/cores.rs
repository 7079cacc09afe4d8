//! The examples that use more than one thread: `workers` and `multicore`.

use std::net::{SocketAddr, TcpListener};
use std::thread;

use support::clients::{NC, skip_without};
use support::process::{Client, Process, example, output};

/// What the example prints of one way to hash: the median and the worst, in milliseconds.
fn latencies(line: &str, how: &str) -> (f64, f64) {
    let text = line.strip_prefix(how).unwrap_or_else(|| panic!("not {how}: {line}"));
    let mut numbers = text.split_whitespace().filter_map(|word| word.parse::<f64>().ok());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

#[test]
fn workers_keep_the_echo_alive_while_hashing_inline_does_not() {
    // So slow that, inline, one hash is hardly done when the next is due.
    let rounds = if cfg!(debug_assertions) { "2000000" } else { "32000000" };
    let args = ["--hashes", "5", "--rounds", rounds, "0"];
    let (mut server, addr) = Process::listening(example("workers").args(args));
    let mut client = Client::connect(addr);
    client.send("hello\n");
    assert_eq!(client.line(), "hello", "others are served meanwhile");
    let inline = latencies(&server.line(), "inline: ");
    let offloaded = latencies(&server.line(), "offloaded: ");
    println!("inline {inline:?}, offloaded {offloaded:?}");
    assert!(inline.1 >= inline.0 && offloaded.1 >= offloaded.0);
    assert!(inline.1 > 50.0, "a hash takes longer than that");
    assert!(offloaded.0 < inline.0);
    assert_eq!(server.finish(), (Vec::new(), Some(0)));
    assert_eq!(client.rest(), "");
}

/// Clients until there is one on each of `cores`; each with the number of its core.
fn spread(server: &mut Process, addr: SocketAddr, cores: usize) -> Vec<(Client, usize)> {
    let mut clients: Vec<(Client, usize)> = Vec::new();
    while (0..cores).any(|core| clients.iter().all(|(_, at)| *at != core)) {
        assert!(clients.len() < 200, "the kernel spreads connections");
        let client = Client::connect(addr);
        let line = server.line();
        let (core, peer) = line.strip_prefix("core ").unwrap().split_once(" serves ").unwrap();
        assert_eq!(peer, client.0.get_ref().local_addr().unwrap().to_string());
        clients.push((client, core.parse().unwrap()));
    }
    clients
}

#[test]
fn multicore_passes_a_line_to_the_clients_of_every_core_and_ends_with_its_input() {
    let (mut server, addr) = Process::listening(example("multicore").args(["--cores", "3", "0"]));
    let mut clients = spread(&mut server, addr, 3);
    for sender in 0..clients.len() {
        let (client, core) = &mut clients[sender];
        client.send(format!("hello from {sender}\n"));
        let expected = format!("core {core}: hello from {sender}");
        for (_, (client, _)) in clients.iter_mut().enumerate().filter(|(at, _)| *at != sender) {
            assert_eq!(client.line(), expected);
        }
    }
    // Each client closes when it is closed: the server waits for that, some seconds at most.
    let ends = clients.into_iter().map(|(mut client, _)| thread::spawn(move || client.rest()));
    let ends: Vec<_> = ends.collect();
    assert_eq!(server.finish(), (Vec::new(), Some(0)));
    for end in ends {
        assert_eq!(end.join().unwrap(), "", "closed in order, and told nothing twice");
    }
}

#[test]
fn multicore_ends_when_so_many_connections_have_come_and_gone() {
    let args = ["--cores", "2", "--connections", "3", "0"];
    let (mut server, addr) = Process::listening(example("multicore").args(args));
    let [one, two, mut three, mut four] = [(); 4].map(|()| {
        let client = Client::connect(addr);
        server.line();
        client
    });
    drop((one, two));
    three.send("still here\n");
    assert!(four.line().ends_with(": still here"));
    drop(three);
    assert_eq!(four.rest(), "");
    drop(four); // which is what the server waits for
    assert_eq!(server.rest(), (Vec::new(), Some(0)), "though its input goes on");
}

/// `nc`, whose input is ours.
fn nc(addr: SocketAddr) -> Process {
    Process::start(NC.command().args(["-N", &addr.ip().to_string(), &addr.port().to_string()]))
}

#[test]
fn nc_talks_across_cores() {
    skip_without!(NC);
    let (mut server, addr) = Process::listening(example("multicore").args(["--cores", "2", "0"]));
    let [mut one, mut other] = [(); 2].map(|()| {
        let client = nc(addr);
        server.line();
        client
    });
    one.type_in("hello\n");
    assert!(other.line().ends_with(": hello"));
    other.type_in("hello yourself\n");
    assert!(one.line().ends_with(": hello yourself"));
    assert_eq!(one.finish(), (Vec::new(), Some(0)));
    assert_eq!(other.finish(), (Vec::new(), Some(0)));
    assert_eq!(server.finish(), (Vec::new(), Some(0)));
}

#[test]
fn nc_is_echoed_while_workers_hash() {
    skip_without!(NC);
    let args = ["--hashes", "2", "--rounds", "1000", "0"];
    let (mut server, addr) = Process::listening(example("workers").args(args));
    let mut client = nc(addr);
    client.type_in("hello\n");
    assert_eq!(client.line(), "hello");
    assert_eq!(client.finish(), (Vec::new(), Some(0)));
    assert_eq!(server.finish().1, Some(0));
}

#[test]
fn they_say_what_they_take_and_refuse_what_they_do_not() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for name in ["workers", "multicore"] {
        let help = output(name, &["--help"]);
        let text = String::from_utf8(help.stdout).unwrap();
        assert!(
            help.status.success() && text.starts_with(&format!("Usage: {name} [OPTIONS] [ADDR]"))
        );
        assert!(text.contains("127.0.0.1:7001") && text.contains("-h, --help"));
        let refusals = [
            (["--nonsense", "1"], "'--nonsense'; try --help"),
            ([&taken, "--cores"], "--cores"),
            (["nonsense", "0"], "\"0\""),
        ];
        for (args, because) in refusals {
            assert_refused(name, &args, because);
        }
        assert_failed(name, &[&taken], &format!("cannot listen on {taken}: "), 1);
        assert_failed(name, &["192.0.2.1:7001"], "cannot listen on 192.0.2.1:7001: ", 1);
    }
    assert_refused("multicore", &["--cores", "many", "0"], "--cores wants a whole number");
    assert_refused("workers", &["--hashes", "many", "0"], "--hashes wants a whole number");
}

/// That it failed as a bad command line does: one line on stderr, nothing else, code 2.
fn assert_refused(name: &str, args: &[&str], because: &str) {
    assert_failed(name, args, because, 2);
}

/// That it failed: one line on stderr, nothing else, and this code.
fn assert_failed(name: &str, args: &[&str], because: &str, code: i32) {
    let refused = output(name, args);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(code), "{name} {args:?}: {said}");
    assert!(refused.stdout.is_empty(), "{name} {args:?}");
    assert_eq!(said.lines().count(), 1, "{name} {args:?}: {said}");
    assert!(said.starts_with("error: ") && said.contains(because), "{name} {args:?}: {said}");
}
