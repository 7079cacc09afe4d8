//! The example `fetch`, against real servers and small ones that a thread plays.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};

use support::clients::skip_without;
use support::process::{Client, Process, example, output, python_server};

#[allow(dead_code)] // The program uses the rest.
#[path = "../../examples/fetch/progress.rs"]
mod progress;

/// Runs fetch; its exit code, stdout and stderr.
fn fetch(args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = output("fetch", args);
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (status.code(), text(stdout), text(stderr))
}

/// A server that answers each connection's first request with `answer`, and hands the request on.
fn scripted(response: &'static str) -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (told, hears) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut client = Client::over(stream.unwrap());
            let (mut request, mut length) = (String::new(), 0);
            loop {
                let line = client.line();
                if let Some(value) = line.strip_prefix("Content-Length: ") {
                    length = value.trim().parse().unwrap();
                }
                request.push_str(&line);
                request.push('\n');
                if line == "\r" {
                    break;
                }
            }
            let mut body = vec![0; length];
            client.0.read_exact(&mut body).unwrap();
            request.push_str(&String::from_utf8(body).unwrap());
            let _ = told.send(request);
            let _ = client.0.get_mut().write_all(response.as_bytes());
            if response.is_empty() {
                let _ = client.0.read_to_end(&mut Vec::new()); // Silent until the client goes.
            }
        }
    });
    (addr, hears)
}

/// A file name of this test's own.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let name = format!("waterwheel-fetch-{}-{name}", std::process::id());
        Scratch(std::env::temp_dir().join(name))
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("text")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A file that Python's server has.
fn source(file: &str) -> String {
    fs::read_to_string(path(file)).unwrap()
}

fn path(file: &str) -> String {
    support::home().join(file).to_str().expect("a path in UTF-8").to_owned()
}

#[test]
fn pages_come_in_the_order_of_their_urls() {
    skip_without!(PYTHON);
    let (_server, addr) = python_server();
    let urls = ["Cargo.toml", "Cargo.lock", "lib.rs"];
    let args: Vec<String> = urls.iter().map(|file| format!("http://{addr}/{file}")).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (code, got, said) = fetch(&args);
    let whole: String = urls.iter().map(|file| source(file)).collect();
    assert!(got == whole, "{} bytes are not {}", got.len(), whole.len());
    assert_eq!((code, said.lines().count()), (Some(0), 3), "a line for each: {said}");
    assert!(said.contains(&format!("http://{addr}/lib.rs: 200, ")), "{said}");
}

#[test]
fn files_are_written_side_by_side_and_the_rest_to_stdout() {
    skip_without!(PYTHON);
    let (_server, addr) = python_server();
    let (a, b) = (Scratch::new("a"), Scratch::new("b"));
    let url = |file| format!("http://{addr}/{file}");
    let (code, got, said) = fetch(&[
        "-s",
        "-o",
        a.path(),
        "-o",
        b.path(),
        &url("Cargo.toml"),
        &url("Cargo.lock"),
        &url("lib.rs"),
    ]);
    assert_eq!((code, &said[..]), (Some(0), ""));
    assert_eq!(got, source("lib.rs"));
    for (scratch, file) in [(a, "Cargo.toml"), (b, "Cargo.lock")] {
        assert_eq!(fs::read_to_string(&scratch.0).unwrap(), source(file));
    }
}

#[test]
fn heads_are_printed_when_they_are_wanted() {
    skip_without!(PYTHON);
    let (_server, addr) = python_server();
    let url = format!("http://{addr}/lib.rs");
    let source = source("lib.rs");
    let (_, got, _) = fetch(&["-i", &url]);
    let (head, body) = got.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("Content-Length: "), "{head}");
    assert_eq!(body, source);
    let (code, got, _) = fetch(&["-I", &url]);
    assert!(got.starts_with("HTTP/1.1 200 OK\r\n") && got.ends_with("\r\n\r\n"), "{got}");
    assert_eq!(code, Some(0));
}

#[test]
fn what_is_asked_is_what_the_options_say() {
    let (addr, hears) = scripted("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nseen");
    let url = format!("http://{addr}/path");
    let (code, got, _) = fetch(&["-d", "a=b", "-H", "Accept: x/y", "-H", "X-Z:1", &url]);
    assert_eq!((code, &got[..]), (Some(0), "seen"));
    let request = hears.recv().unwrap();
    assert!(request.starts_with("POST /path HTTP/1.1\r\n"), "{request}");
    assert!(
        request.contains("\r\nAccept: x/y\r\n") && request.contains("\r\nX-Z: 1\r\n"),
        "{request}"
    );
    assert!(request.ends_with("\r\n\r\na=b"), "{request}");
    assert!(request.contains("\r\nUser-Agent: waterwheel-fetch\r\n"), "{request}");
    let body = format!("@{}", path("lib.rs"));
    let (code, ..) = fetch(&["-X", "PUT", "-d", &body, "-H", "user-agent: me", &url]);
    let request = hears.recv().unwrap();
    assert!(request.starts_with("PUT ") && code == Some(0), "{request}");
    assert!(request.ends_with(&source("lib.rs")));
    assert_eq!(request.to_lowercase().matches("\nuser-agent: ").count(), 1, "{request}");
    let proxy = format!("http://me:pass@{addr}");
    let (_, got, _) = fetch(&["--proxy", &proxy, "http://nowhere.invalid/"]);
    let request = hears.recv().unwrap();
    assert!(request.starts_with("GET http://nowhere.invalid/ HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("Proxy-Authorization: Basic ") && got == "seen", "{request}");
}

#[test]
fn redirects_are_followed_when_they_are_to_be() {
    let (addr, _) = scripted("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nthere");
    let redirect =
        format!("HTTP/1.1 302 Found\r\nLocation: http://{addr}/\r\nContent-Length: 0\r\n\r\n");
    let (from, _) = scripted(redirect.leak());
    let url = format!("http://{from}/");
    assert_eq!(fetch(&["-L", &url]).1, "there");
    let (code, got, said) = fetch(&[&url]);
    assert_eq!((code, &got[..]), (Some(0), ""));
    assert!(said.contains(": 302, 0 bytes"), "{said}");
}

#[test]
fn failures_have_their_line_and_the_exit_code_one() {
    skip_without!(PYTHON);
    let (_server, addr) = python_server();
    let none = format!("http://{addr}/none");
    assert_eq!(fetch(&[&none]).0, Some(0), "a page that says so is a page");
    let (code, got, said) = fetch(&["-f", &none]);
    assert_eq!((code, got, said), (Some(1), String::new(), format!("error: {none}: status 404\n")));
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (dead, good) = (format!("http://{nobody}/"), format!("http://{addr}/lib.rs"));
    let (code, got, said) = fetch(&["-s", &dead, &good]);
    assert_eq!((code, got), (Some(1), source("lib.rs")), "the others go on");
    assert!(said.starts_with(&format!("error: {dead}: cannot connect to {nobody}: ")), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    let (silent, _) = scripted("");
    let (code, _, said) = fetch(&["--max-time", "1", &format!("http://{silent}/")]);
    assert_eq!(code, Some(1));
    assert!(said.contains("the call took too long"), "{said}");
    let (broken, _) = scripted("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
    let (code, got, said) = fetch(&[&format!("http://{broken}/")]);
    assert_eq!((code, &got[..]), (Some(1), "half"));
    assert!(said.contains("closed the connection while receiving the body"), "{said}");
}

#[test]
fn a_reader_that_has_gone_is_a_failure_and_files_are_written_all_the_same() {
    let file = Scratch::new("whole");
    let long = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(1 << 20)).leak();
    let (addr, hears) = scripted(long);
    let url = format!("http://{addr}/");
    let mut command = example("fetch");
    command.args(["-s", "--max-time", "60", "-o", file.path(), &url, &url]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    hears.recv().unwrap();
    drop(child.stdout.take()); // More was asked for than a pipe has room for.
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "error: nobody reads what is written\n");
    assert_eq!(fs::read(file.path()).unwrap().len(), 1 << 20);
}

/// A page over TLS, from a server of ours on a thread of its own; and where.
#[cfg(feature = "tls")]
fn sealed() -> (u16, String) {
    use waterwheel::protocols::{http, tls};

    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (pem, key) = (own.cert.pem(), own.signing_key.serialize_pem());
    let (told, hears) = channel();
    let roots = pem.clone();
    std::thread::spawn(move || {
        let mut reactor = waterwheel::Reactor::<()>::new().unwrap();
        let server = http::Server::new(|reactor, _, _, reply| {
            reply.send(reactor, "sealed");
        });
        let server = server.tls(tls::Server::new(&pem, &key).unwrap());
        let listener = server.listen(&mut reactor, "127.0.0.1:0").unwrap();
        told.send(reactor[listener].local_addr().port()).unwrap();
        reactor.run(&mut ())
    });
    (hears.recv().unwrap(), roots)
}

#[cfg(feature = "tls")]
#[test]
fn a_page_over_tls_is_fetched_if_its_server_is_trusted() {
    let (port, roots) = sealed();
    let (url, file) = (format!("https://localhost:{port}/"), Scratch::new("roots"));
    fs::write(&file.0, roots).unwrap();
    let (code, got, said) = fetch(&["--cacert", file.path(), &url]);
    assert_eq!((code, &got[..]), (Some(0), "sealed"), "{said}");
    let (code, got, said) = fetch(&[&url]);
    assert_eq!((code, &got[..]), (Some(1), ""));
    assert!(said.contains("no TLS with localhost") || said.contains("no roots"), "{said}");
    let (code, _, said) = fetch(&["--cacert", &path("lib.rs"), &url]);
    assert_eq!(code, Some(2), "{said}");
}

#[test]
fn bad_command_lines_are_refused_in_one_line() {
    for (args, says) in [
        (&[][..], "wants a URL"),
        (&["--nonsense"], "--nonsense"),
        (&["--max-time", "long", "http://a/"], "a whole number"),
        (&["-H", "no colon", "http://a/"], "no header field"),
        (&["-X", "a b", "http://a/"], "no method"),
        (&["-d", "@/none/such", "http://a/"], "/none/such: "),
        (&["-o", "/none/such", "http://a/"], "/none/such: "),
        (&["--cacert", "/none/such", "http://a/"], "cacert wants the feature tls"),
    ] {
        let (code, got, said) = fetch(args);
        assert_eq!((code, &got[..], said.lines().count()), (Some(2), "", 1), "{args:?}: {said}");
        let is_named = said.contains(says) || said.contains("/none/such: ");
        assert!(said.starts_with("error: ") && is_named, "{args:?}: {said}");
    }
    let (code, got, said) = fetch(&["no-url"]);
    assert_eq!((code, &got[..]), (Some(1), ""), "that is the call's to say: {said}");
    assert!(fetch(&["--help"]).1.starts_with("Usage: fetch [OPTIONS] URL..."));
}

#[test]
fn the_bar_is_drawn_where_it_is_wanted() {
    skip_without!(PYTHON);
    let (_server, addr) = python_server();
    let url = format!("http://{addr}/lib.rs");
    let (_, _, said) = fetch(&["--progress", &url]);
    assert!(said.contains("[##############################] 100% of "), "{said}");
    assert!(said.ends_with("1/1\n") && said.starts_with('\r'), "{said:?}");
}

#[test]
fn bars_are_right_at_their_ends_and_with_numbers_of_any_size() {
    let empty = ".".repeat(30);
    assert_eq!(progress::line(0, Some(10), 1.0), format!("[{empty}]   0% of 10 B, 0 B/s"));
    let half = format!("[{}{}]  50% of 2.0 KiB, 1.0 KiB/s", "#".repeat(15), ".".repeat(15));
    assert_eq!(progress::line(1024, Some(2048), 1.0), half);
    assert!(progress::line(3, Some(2), 1.0).contains("100%"), "more than was told");
    assert_eq!(progress::line(5, None, 0.0), "5 B so far, 4.9 KiB/s");
    assert_eq!(progress::line(5, Some(0), 1.0), "5 B so far, 5 B/s");
    assert!(progress::line(u64::MAX, Some(u64::MAX), 1.0).contains("100% of 16.0 EiB"));
}

#[test]
fn a_slow_reader_slows_the_server_down_and_one_that_goes_ends_it() {
    const LINE: usize = 1 << 20;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = sent.clone();
    let server = std::thread::spawn(move || {
        let mut client = Client::over(listener.accept().unwrap().0);
        while client.line() != "\r" {}
        client.send("HTTP/1.1 200 OK\r\n\r\n");
        let line = [&vec![b'x'; LINE - 1][..], b"\n"].concat();
        while client.0.get_mut().write_all(&line).is_ok() {
            counted.fetch_add(LINE, Ordering::Relaxed);
        }
    });
    let mut process = Process::start(example("fetch").args(["-s", &format!("http://{addr}/")]));
    for read in 1..=64 {
        assert_eq!(process.line().len(), LINE - 1);
        let ahead = sent.load(Ordering::Relaxed).saturating_sub(read * LINE);
        assert!(ahead < 32 * LINE, "{ahead} bytes are somewhere: in the kernel there is no room");
    }
    let memory = process.resident_kib_max();
    assert!(memory < 48 * 1024, "{memory} KiB");
    drop(process);
    server.join().unwrap(); // It was told.
}
