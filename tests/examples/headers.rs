//! Every example does what its header promises, to real clients and in real terminals' terms.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Output};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use support::Rng;
use support::process::{Client, Process, example, output};

const SERVERS: [&str; 4] = ["chat", "components", "echo", "embed"];
const OTHERS: [&str; 4] = ["bus", "order", "promises", "timers"];

/// That it failed as a bad command line does: one line on stderr, nothing else, code 2.
fn assert_refused(name: &str, args: &[&str], because: &str) {
    assert_failed(name, args, because, 2);
}

/// That it failed: one line on stderr, nothing else, and this code.
fn assert_failed(name: &str, args: &[&str], because: &str, code: i32) {
    let Output { status, stdout, stderr } = output(name, args);
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(code), "{name} {args:?}: {said}");
    assert!(stdout.is_empty(), "{name} {args:?}");
    assert_eq!(said.lines().count(), 1, "{name} {args:?}: {said}");
    assert!(said.starts_with("error: ") && said.contains(because), "{name} {args:?}: {said}");
}

/// What a program prints that ends by itself.
fn printed(name: &str, args: &[&str]) -> String {
    let Output { status, stdout, stderr } = output(name, args);
    assert!(status.success(), "{name}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

#[test]
fn help_names_the_program_and_all_of_its_options() {
    for name in SERVERS.into_iter().chain(OTHERS) {
        let help = printed(name, &["--help"]);
        assert!(help.starts_with(&format!("Usage: {name} [OPTIONS]")), "{help}");
        assert!(help.contains("-h, --help"), "{help}");
        assert_eq!(help, printed(name, &["-h"]));
    }
    assert!(printed("echo", &["--help"]).contains("--spin MICROS"));
    assert!(printed("timers", &["--help"]).contains("--fast"));
    for name in SERVERS {
        assert!(printed(name, &["--help"]).contains("127.0.0.1:7001"), "{name}");
    }
}

#[test]
fn bad_arguments_are_refused_in_one_line() {
    for name in SERVERS.into_iter().chain(OTHERS) {
        assert_refused(name, &["--nonsense"], "'--nonsense'; try --help");
    }
    for name in OTHERS {
        assert_refused(name, &["7001"], "\"7001\"; try --help");
    }
    assert_refused("echo", &["--spin"], "--spin");
    assert_refused("echo", &["--spin", "much"], "--spin wants a whole number");
    assert_refused("timers", &["--fast=yes"], "--fast");
    assert_refused("chat", &["7001", "7002"], "\"7002\"");
}

#[test]
fn numbers_that_are_too_large_are_refused_in_one_line() {
    let most = u64::MAX.to_string();
    assert_refused("workers", &["--hashes", &most, "0"], "--hashes wants 1000000 at most");
    assert_refused("workers", &["--hashes", "1000001", "0"], "--hashes wants 1000000 at most");
    assert_refused("multicore", &["--cores", &most, "0"], "--cores wants 1024 at most");
    for args in [&["127.0.0.1", "65536"][..], &["-u", "::1", "99999"], &["-l", "65536"]] {
        assert_refused("nc", args, "a port is a number, 65535 at most");
    }
}

#[test]
fn bad_addresses_are_refused_in_one_line() {
    for name in SERVERS {
        assert_refused(name, &["nonsense"], "cannot listen on nonsense: ");
        assert_refused(name, &["127.0.0.1:65536"], "cannot listen on 127.0.0.1:65536: ");
        // TEST-NET-1 of RFC 5737: nobody's.
        assert_failed(name, &["192.0.2.1:7001"], "cannot listen on 192.0.2.1:7001: ", 1);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_run_that_breaks_is_no_bad_command_line() {
    for name in ["bus", "order", "promises"] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let run = example(name).stdout(full).output().unwrap();
        let said = String::from_utf8(run.stderr).unwrap();
        assert_eq!((run.status.code(), said.lines().count()), (Some(1), 1), "{name}: {said}");
        assert!(said.starts_with("error: cannot print: No space left"), "{name}: {said}");
    }
}

#[test]
fn a_taken_port_is_refused_in_one_line() {
    let (_server, addr) = Process::serve("echo");
    for name in SERVERS {
        let because = format!("cannot listen on {addr}: ");
        assert_failed(name, &[&addr.to_string()], &because, 1);
        // A bare port means the same one.
        assert_failed(name, &[&addr.port().to_string()], &because, 1);
    }
}

#[test]
fn echo_sends_lines_back() {
    let (_server, addr) = Process::serve("echo");
    let mut clients = [(); 3].map(|()| Client::connect(addr));
    for round in 0..3 {
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(format!("round {round} of client {number}\n"));
        }
        for (number, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.line(), format!("round {round} of client {number}"));
        }
    }
}

#[test]
fn echo_sends_three_megabytes_back_bit_for_bit() {
    sends_three_megabytes_back("echo");
}

fn sends_three_megabytes_back(name: &str) {
    let (_server, addr) = Process::serve(name);
    let mut rng = Rng::new();
    let sent: Vec<u8> = (0..3_000_000).map(|_| rng.below(256) as u8).collect();
    let client = Client::connect(addr);
    let stream = client.0.get_ref();
    let mut got = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (&mut &*stream).write_all(&sent).expect("the server reads");
            stream.shutdown(Shutdown::Write).expect("it is connected");
        });
        (&mut &*stream).read_to_end(&mut got).expect("an orderly end");
    });
    assert!(got == sent, "{} bytes came back of {}", got.len(), sent.len());
}

#[test]
fn tiny_sends_lines_back_and_counts_their_bytes() {
    let (mut server, addr) = Process::serve("tiny");
    let mut clients = [(); 3].map(|()| Client::connect(addr));
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(format!("I am {number}\n"));
    }
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.line(), format!("I am {number}"));
        client.0.get_ref().shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.rest(), "");
    }
    while server.line() != "21 bytes echoed" {}
}

#[test]
fn tiny_sends_three_megabytes_back_bit_for_bit() {
    sends_three_megabytes_back("tiny");
}

#[test]
fn tiny_goes_on_though_clients_reset_it_or_do_not_read() {
    let (_server, addr) = Process::serve("tiny");
    let silent = Client::connect(addr);
    silent.0.get_ref().set_nonblocking(true).unwrap();
    // Until nobody takes any more: it waits for us to read.
    while (silent.0.get_ref()).write(&[b'x'; 65536]).is_ok() {}
    for _ in 0..10 {
        let mut rude = Client::connect(addr);
        rude.send("what comes back is not read\n");
        socket2::SockRef::from(rude.0.get_ref()).set_linger(Some(Duration::ZERO)).unwrap();
        drop(rude);
        let mut polite = Client::connect(addr);
        polite.send("hello\n");
        assert_eq!(polite.line(), "hello");
    }
}

#[test]
fn tiny_refuses_what_it_cannot_listen_on() {
    let (_server, addr) = Process::serve("tiny");
    assert_failed("tiny", &[&addr.to_string()], &format!("cannot listen on {addr}: "), 1);
    assert_failed("tiny", &[&addr.port().to_string()], &format!("cannot listen on {addr}: "), 1);
    assert_failed("tiny", &["192.0.2.1:7001"], "cannot listen on 192.0.2.1:7001: ", 1);
    assert_refused("tiny", &["nonsense"], "cannot listen on 127.0.0.1:nonsense: ");
    assert_refused("tiny", &["127.0.0.1:65536"], "cannot listen on 127.0.0.1:65536: ");
    for (args, code) in [(&["--help"][..], 0), (&["--nonsense"], 2), (&["7001", "7002"], 2)] {
        let Output { status, stdout, stderr } = output("tiny", args);
        assert!(stdout.is_empty() && stderr.starts_with(b"Usage: tiny [ADDR]"), "{args:?}");
        assert_eq!(status.code(), Some(code), "{args:?}");
    }
}

#[test]
#[cfg(unix)]
fn tiny_ends_by_a_signal_and_says_nothing() {
    use rustix::process::{Pid, Signal, kill_process};
    let (mut server, addr) = Process::serve("tiny");
    let mut client = Client::connect(addr);
    client.send("hello\n");
    assert_eq!(client.line(), "hello");
    let pid = Pid::from_raw(server.id() as i32).unwrap();
    // A shell that runs these tests in the background may have SIGINT ignored: then the second.
    for signal in [Signal::INT, Signal::TERM] {
        kill_process(pid, signal).unwrap();
    }
    let (said, code) = server.rest();
    assert!(said.is_empty() || said == b"6 bytes echoed\n");
    assert_eq!(code, None, "a signal ended it");
}

#[test]
fn a_spinning_echo_echoes() {
    let (_server, addr) = Process::listening(example("echo").args(["--spin", "50", "0"]));
    let mut client = Client::connect(addr);
    client.send("hello\n");
    assert_eq!(client.line(), "hello");
}

#[test]
fn a_server_raises_the_soft_limit_on_open_files() {
    let echo = example("echo").get_program().to_owned();
    let limited = "ulimit -S -n 24; exec \"$0\" 0";
    let (_server, addr) = Process::listening(Command::new("sh").args(["-c", limited]).arg(echo));
    let mut clients = [(); 32].map(|()| Client::connect(addr));
    for client in &mut clients {
        client.send("hello\n");
        assert_eq!(client.line(), "hello");
    }
}

/// A chat with this many members, each past its welcome and the joining of those behind it.
fn chat<const MEMBERS: usize>() -> (Process, [Client; MEMBERS]) {
    let (server, addr) = Process::serve("chat");
    let mut members: Vec<Client> = Vec::new();
    for number in 1..=MEMBERS {
        let mut new = Client::connect(addr);
        assert!(new.line().starts_with(&format!("* you are guest{number};")));
        for old in &mut members {
            assert_eq!(old.line(), format!("* guest{number} joined"));
        }
        members.push(new);
    }
    (server, members.try_into().ok().expect("as many as were pushed"))
}

#[test]
fn chat_passes_lines_to_all_the_others() {
    let (_server, [mut ann, mut bob, mut cid]) = chat();
    ann.send("hello\r\nthis comes in two ");
    assert_eq!(bob.line(), "guest1: hello");
    ann.send("parts\n");
    assert_eq!(bob.line(), "guest1: this comes in two parts");
    assert_eq!([cid.line(), cid.line()], ["guest1: hello", "guest1: this comes in two parts"]);
    bob.send("hi\n");
    assert_eq!([ann.line(), cid.line()], ["guest2: hi", "guest2: hi"]);
}

/// A word of five bytes is answered by two kilobytes at most, however many there are.
#[test]
fn chat_names_a_hundred_and_counts_the_others() {
    let (_chat, addr) = Process::serve("chat");
    let mut members: Vec<Client> = Vec::new();
    for number in 1..=103 {
        let mut member = Client::connect(addr);
        assert!(member.line().starts_with(&format!("* you are guest{number};")));
        members.push(member);
        let here: Vec<String> = (1..=number.min(100)).map(|name| format!("guest{name}")).collect();
        let here = here.join(", ");
        let more = if number > 100 { format!(" and {} more", number - 100) } else { String::new() };
        let newest = members.last_mut().unwrap();
        newest.send("/who\n");
        assert_eq!(newest.line(), format!("* here are {here}{more}"));
    }
}

#[test]
fn chat_knows_names_and_who_has_left() {
    let (_server, [mut ann, mut bob, mut cid]) = chat();
    ann.send("/nick ann\n");
    for member in [&mut ann, &mut bob, &mut cid] {
        assert_eq!(member.line(), "* guest1 is now ann");
    }
    for bad in ["", "ann", "guest9", "two words", "abcdefghijklmnopqrstuvwxyz"] {
        bob.send(format!("/nick {bad}\n"));
        assert_eq!(bob.line(), "! that name will not do, or is taken");
    }
    bob.send("/who\n");
    assert_eq!(bob.line(), "* here are ann, guest2, guest3");
    ann.send("bye\n/quit\nnobody hears this\n");
    assert_eq!(ann.rest(), "");
    assert_eq!([bob.line(), bob.line()], ["ann: bye", "* ann left"]);
    drop(cid);
    assert_eq!(bob.line(), "* guest3 left");
}

#[test]
fn chat_moves_nobodys_cursor() {
    let (_server, [mut ann, mut bob]) = chat();
    ann.send(b"\x1b[2Jred\x07 \xff alert\n");
    assert_eq!(bob.line(), "guest1: [2Jred \u{fffd} alert");
}

#[test]
fn chat_refuses_a_line_without_end() {
    let (_server, [mut ann, mut bob]) = chat();
    ann.send([b'x'; 1024]);
    ann.send("\n");
    assert_eq!(bob.line().len(), "guest1: ".len() + 1024);
    ann.send([b'x'; 1026]);
    assert_eq!(ann.rest(), "! that line is too long: good-bye\n");
    drop(ann);
    assert_eq!(bob.line(), "* guest1 left");
}

/// Twenty megabytes are more than two sockets' buffers hold, and the mark above which lines are
/// missed comes on top.
#[test]
fn chat_goes_on_though_one_member_does_not_read() {
    const ROUNDS: usize = 200;
    const LINES: usize = 100;
    let (_server, addr) = Process::serve("chat");
    let slow = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    slow.set_recv_buffer_size(4096).unwrap();
    slow.connect(&addr.into()).unwrap();
    let mut slow = Client::over(TcpStream::from(slow));
    assert!(slow.line().starts_with("* you are guest1;"));
    let [mut reader, mut writer] = [(); 2].map(|()| Client::connect(addr));
    let [_, _, _] = [reader.line(), reader.line(), writer.line()];

    let text = "x".repeat(1000);
    for _ in 0..ROUNDS {
        writer.send(format!("{text}\n").repeat(LINES));
        for _ in 0..LINES {
            assert!(reader.line().ends_with(&text));
        }
    }
    let [mut got, mut missed] = [0, 0];
    while missed == 0 {
        let line = slow.line();
        got += usize::from(line.ends_with(&text));
        if let Some(rest) = line.strip_prefix("* you missed ") {
            missed = rest.strip_suffix(" lines").unwrap().parse().unwrap();
        }
    }
    assert!(got > 0);
    assert_eq!(got + missed, ROUNDS * LINES);
    writer.send("are you there?\n");
    assert!(slow.line().ends_with(": are you there?"));
}

#[test]
fn timers_on_the_manual_clock_always_draw_the_same_picture() {
    let printed = printed("timers", &["--fast"]);
    let (events, picture) = printed.split_once("\n\n").unwrap();
    assert_eq!(picture, TIMERS);
    for line in [
        "  50 ms  never  cancelled, it was due at 150",
        "  50 ms  idle   put off from 150 to 250",
        " 250 ms  idle   ran",
        " 550 ms  skip   due at 500, 50 ms late, 1 missed",
        " 550 ms  burst  due at 400, 150 ms late, 0 missed",
        " 550 ms  burst  due at 500, 50 ms late, 0 missed",
        " 550 ms  delay  due at 400, 150 ms late, 0 missed",
        " 650 ms  delay  on time",
    ] {
        assert!(events.lines().any(|event| event == line), "no {line:?} in\n{events}");
    }
}

const TIMERS: &str = "  ms    0   100 200 300 400 500 600 700 800
  once  ..o................................
  never ..x................................
  idle  ..>.......o........................
  skip  ....o...o...o.........L.o...o...o..
  burst ....o...o...o.........2.o...o...o..
  delay ....o...o...o.........L...o...o...o
  work  ....o...o...o#########L.o...o...o..

  o on time  L late  2 two at once  # busy  x cancelled  > put off
";

#[test]
fn order_gives_the_answer_of_the_contract() {
    let printed = printed("order", &[]);
    let (puzzle, answer) = printed.split_once("\n\nL").expect("the letters, and L is the first");
    assert!(puzzle.starts_with("What runs first?\n\n    let a = reactor.after("), "{puzzle}");
    for letter in 'A'..='L' {
        assert_eq!(puzzle.matches(&format!("push('{letter}')")).count(), 1, "{letter} of {puzzle}");
    }
    assert_eq!(format!("L{answer}"), ORDER);
}

const ORDER: &str = "LKGIJDBEFHC

             | turn 1            | turn 2
  deferred   | L . . I J . . . . | . .
  High       | . K . . . . . . . | H .
  Normal     | . . G . . D B E . | . C
  Low        | . . . . . . . . F | . .

  L  deferred before the loop ran: before any event (R2)
  K  lane High: first of its turn (R7)
  G  lane Normal: queued before the loop looked at its sources
  I  deferred by G: before the next event (R2)
  J  deferred by I: before the next event (R2)
  D  the pipe is readable: I/O before timers (R3)
  A  never runs: was up, but D of the same turn cancelled it (R3)
  B  a timer that is up: behind the I/O of its turn (R3)
  E  a post: collected last
  F  lane Low: last, and yet of this turn (R7)
  H  enqueued by G: not before the next turn, whatever its lane (R2)
  C  a timer that is up: behind the I/O of its turn (R3)
";

#[test]
fn components_count_what_passes_and_send_away_who_is_silent() {
    let mut command = example("components");
    let (mut server, addr) =
        Process::listening(command.args(["--idle", "300", "--every", "5", "0"]));
    let clients = [(); 2].map(|()| Client::connect(addr));
    assert_eq!(clients.map(|mut client| client.rest()), ["", ""]);
    let mut seen = Vec::new();
    while !seen.contains(&"a client has gone: 0 here, 2 were silent".to_owned()) {
        seen.push(server.line());
    }
    assert!(seen.contains(&"2 clients, 0 bytes".to_owned()), "{seen:?}");
}

#[test]
fn components_leave_alone_who_talks() {
    let mut command = example("components");
    let (mut server, addr) = Process::listening(command.args(["--every", "5", "0"]));
    let mut client = Client::connect(addr);
    client.send("hello\n");
    assert_eq!(client.line(), "hello");
    while server.line() != "1 clients, 6 bytes" {}
    drop(client);
    assert_eq!(server.line(), "a client has gone: 0 here, 0 were silent");
}

#[test]
fn embed_serves_clients_from_the_hosts_loop() {
    let (mut host, addr) = Process::serve("embed");
    let mut clients = [(); 2].map(|()| Client::connect(addr));
    for client in &mut clients {
        client.send("hello\n");
        assert_eq!(client.line(), "hello");
    }
    // Two lines in one write, the second in two: none may wait for the next key.
    host.type_in("to all\nremind 1\nremind so");
    assert_eq!([clients[0].line(), clients[1].line()], ["to all", "to all"]);
    assert_eq!(host.line(), "1 ms are over");
    host.type_in("on\n");
    assert_eq!(host.line(), "remind wants a whole number of milliseconds");
    let [mut left, right] = clients;
    drop(right);
    host.type_in("last words\nquit\n");
    assert_eq!(left.rest(), "last words\n");
    assert_eq!(host.finish(), (Vec::new(), Some(0)));
}

#[test]
fn embed_ends_with_its_stdin() {
    let (mut host, addr) = Process::serve("embed");
    let mut client = Client::connect(addr);
    client.send("hello\n");
    assert_eq!(client.line(), "hello");
    assert_eq!(host.finish(), (Vec::new(), Some(0)));
    assert_eq!(client.rest(), "");
}
