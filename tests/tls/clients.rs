//! TLS with those who did not write it: openssl(1) and curl(1).

use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::time::Duration;

use support::clients::{CURL, OPENSSL, skip_without};
use support::process::{Process, example, output};
use support::tcp::turn_until;
use support::tls as with;
use support::tls::{Authority, Scratch, authority, client, localhost};
use waterwheel::net::{Event, tcp as net_tcp};
use waterwheel::protocols::tls;
use waterwheel::{Context, Reactor};

/// `openssl`, ready to be started.
fn openssl(command: &str) -> Command {
    let mut openssl = OPENSSL.command();
    openssl.arg(command);
    openssl
}

fn s_client(addr: SocketAddr, ca: &Scratch) -> Command {
    let mut client = openssl("s_client");
    client.args(["-connect", &addr.to_string(), "-servername", "localhost"]);
    client.args(["-verify_hostname", "localhost", "-verify_return_error", "-CAfile"]);
    client.arg(&ca.0).stderr(Stdio::null());
    client
}

/// The example with a certificate of the tests' authority.
struct Echo {
    server: Process,
    addr: SocketAddr,
    ca: Scratch,
    _files: [Scratch; 2],
}

fn echo(test: &str) -> Echo {
    let cert = Scratch::new(&format!("{test}-cert.pem"), &localhost().chain);
    let key = Scratch::new(&format!("{test}-key.pem"), &localhost().key);
    let ca = Scratch::new(&format!("{test}-ca.pem"), &authority().pem);
    let mut command = example("tls_echo");
    command.args(["127.0.0.1:0", "--cert"]).arg(&cert.0).arg("--key").arg(&key.0);
    let (server, addr) = Process::listening(&mut command);
    Echo { server, addr, ca, _files: [cert, key] }
}

#[test]
fn openssl_gets_its_lines_back_and_a_goodbye() {
    skip_without!(OPENSSL);
    for version in ["-tls1_3", "-tls1_2"] {
        let mut echo = echo(&format!("lines{version}"));
        let mut client = s_client(echo.addr, &echo.ca);
        let mut client = Process::start(client.args(["-quiet", "-no_ign_eof", version]));
        for line in ["hello", "again"] {
            client.type_in(format!("{line}\n"));
            assert_eq!(client.line(), line);
        }
        let said = echo.server.line();
        assert!(said.contains(&version[1..].replace('_', ".").replace("tls", "TLSv")), "{said}");
        assert_eq!(client.finish(), (Vec::new(), Some(0)));
    }
}

#[test]
fn openssl_gets_three_megabytes_back() {
    skip_without!(OPENSSL);
    let echo = echo("megabytes");
    let mut rng = support::Rng::new();
    // Letters: some at the beginning of a line are commands.
    let sent: Vec<u8> = (0..3_000_000).map(|_| b'a' + rng.below(8) as u8).collect();
    let mut client = s_client(echo.addr, &echo.ca);
    let mut client = Process::start(client.args(["-quiet", "-nocommands"]));
    assert!(client.pass_some(&sent, sent.len()) == sent);
}

#[test]
fn openssl_agrees_on_the_protocol_and_resumes() {
    skip_without!(OPENSSL);
    let mut echo = echo("resumes");
    let session = Scratch::new("resumes-session.pem", "");
    let command = |option: &str| {
        let mut client = s_client(echo.addr, &echo.ca);
        client.args(["-alpn", "h2,echo", option]).arg(&session.0);
        client
    };
    for (option, news) in [("-sess_out", "New, TLSv1.3"), ("-sess_in", "Reused, TLSv1.3")] {
        let mut client = Process::start(&mut command(option));
        client.type_in("hello\n");
        let mut said = Vec::new();
        while said.last().is_none_or(|line| line != "hello") {
            said.push(client.line());
        }
        client.type_in("Q\n");
        client.finish();
        assert!(said.iter().any(|line| line.starts_with(news)), "{said:#?}");
        assert!(said.iter().any(|line| line == "ALPN protocol: echo"), "{said:#?}");
        assert_eq!(echo.server.line().contains("resumed"), option == "-sess_in");
    }
}

#[test]
fn openssl_may_change_its_keys_at_any_time() {
    skip_without!(OPENSSL);
    let echo = echo("keys");
    let client = s_client(echo.addr, &echo.ca);
    let mut loud = Command::new("sh"); // It says on stderr that it has done it.
    loud.args(["-c", "exec \"$0\" \"$@\" 2>&1"]).arg(client.get_program());
    let mut client = Process::start(loud.args(client.get_args()));
    for (letter, line) in [("k", "one"), ("K", "two"), ("k", "three"), ("K", "four")] {
        // A letter alone is a command: `k` changes the client's keys, `K` asks for ours, too.
        client.type_in(format!("{letter}\n"));
        while client.line() != "KEYUPDATE" {}
        client.type_in(format!("{line}\n"));
        while client.line() != line {}
    }
}

#[test]
fn curl_fetches_a_page_and_verifies_whom_from() {
    skip_without!(CURL);
    let ca = Scratch::new("curl-ca.pem", &authority().pem);
    let other = Scratch::new("curl-other.pem", &Authority::new("somebody else").pem);
    let addr = serve(with::server().alpn(["http/1.1"]), |reactor, conn, bytes| {
        if bytes.ends_with(b"\r\n\r\n") {
            let body = "x".repeat(1_000_000);
            let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\n";
            let _ = reactor[conn].write(head.as_bytes());
            let _ = reactor[conn].write(body.as_bytes());
            // No length: the body ends where the peer says goodbye, and not earlier.
            reactor[conn].close();
        }
    });
    let curl = |ca: &Scratch, name: &str| {
        let url = format!("https://{name}:{}/", addr.port());
        let mut curl = CURL.command();
        curl.args(["-sS", "--http1.1", "--max-time", "30", "--cacert"]);
        curl.arg(&ca.0).args(["--resolve", &format!("{name}:{}:127.0.0.1", addr.port()), &url]);
        curl.output().expect("curl starts")
    };
    let page = curl(&ca, "localhost");
    let errors = String::from_utf8_lossy(&page.stderr).into_owned();
    assert!(page.status.success() && errors.is_empty(), "{errors}");
    assert_eq!(page.stdout.len(), 1_000_000);
    assert_eq!(curl(&other, "localhost").status.code(), Some(60), "an authority it does not know");
    assert_eq!(curl(&ca, "other.example").status.code(), Some(60), "another name");
}

/// A loop in a thread that answers over TLS, until the process ends.
fn serve<F>(tls: tls::Server, on_data: F) -> SocketAddr
where
    F: Fn(&mut Context<()>, waterwheel::SourceId<waterwheel::net::Conn>, &[u8])
        + Send
        + Clone
        + 'static,
{
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut reactor = Reactor::new().unwrap();
        let listener = net_tcp::listen(&mut reactor, "127.0.0.1:0", move |reactor, _, incoming| {
            let on_data = on_data.clone();
            tls.accept(reactor, incoming, move |reactor, _, result| {
                let Ok(stream) = result else { return };
                stream.open(reactor, move |reactor, _, conn, event| {
                    if let Event::Data(bytes) = event {
                        on_data(reactor, conn, bytes);
                    }
                });
            });
        });
        tell.send(reactor[listener.unwrap()].local_addr()).unwrap();
        reactor.run(&mut ()).unwrap();
    });
    told.recv().unwrap()
}

/// `openssl s_server` with these options beside its certificate; says back what it hears, reversed.
fn s_server(test: &str, options: &[&str]) -> (Process, SocketAddr, [Scratch; 2]) {
    let cert = Scratch::new(&format!("{test}-cert.pem"), &localhost().chain);
    let key = Scratch::new(&format!("{test}-key.pem"), &localhost().key);
    let mut command = openssl("s_server");
    command.args(["-accept", "127.0.0.1:0", "-rev", "-cert"]).arg(&cert.0);
    command.arg("-key").arg(&key.0).args(options).stderr(Stdio::null());
    let mut server = Process::start(&mut command);
    let addr = loop {
        // "ACCEPT 127.0.0.1:34567"
        if let Some(addr) = server.line().strip_prefix("ACCEPT ") {
            break addr.parse().expect("an address");
        }
    };
    (server, addr, [cert, key])
}

/// Says a line to a server and hears one: what came back, or why nothing did.
fn speak(addr: SocketAddr, tls: tls::Client) -> Result<String, String> {
    type Heard = Option<Result<String, String>>;
    let mut reactor = Reactor::<Heard>::new().unwrap();
    let patience = Duration::from_secs(20);
    net_tcp::connect(&mut reactor, addr, patience, move |reactor, _, result| {
        tls.connect(reactor, result.unwrap(), "localhost", |reactor, heard, result| {
            let stream = match result {
                Ok(stream) => stream,
                Err(error) => return *heard = Some(Err(error.to_string())),
            };
            let conn =
                stream.open(reactor, |reactor, heard: &mut Heard, conn, event| match event {
                    Event::Data(bytes) => {
                        *heard = Some(Ok(String::from_utf8_lossy(bytes).into_owned()));
                        reactor[conn].close();
                    }
                    Event::Closed(why) => {
                        heard.get_or_insert(Err(why.to_string()));
                    }
                    _ => {}
                });
            let _ = reactor[conn].write(b"hello\n");
        });
    })
    .unwrap();
    let mut heard = None;
    turn_until(&mut reactor, &mut heard, |_, heard| heard.is_some());
    heard.unwrap()
}

#[test]
fn our_client_speaks_to_a_server_of_openssl() {
    skip_without!(OPENSSL);
    for version in ["-tls1_3", "-tls1_2"] {
        let (_server, addr, _files) = s_server(&format!("server{version}"), &[version]);
        let client = client();
        for _ in 0..2 {
            assert_eq!(speak(addr, client.clone()), Ok("olleh\n".into()));
        }
        let stranger = tls::Client::with_roots(&Authority::new("somebody else").pem).unwrap();
        let error = speak(addr, stranger).unwrap_err();
        assert!(error.contains("not issued by anybody who is trusted here"), "{error}");
    }
}

#[test]
fn a_server_whose_key_is_not_taken_is_told_so() {
    skip_without!(OPENSSL);
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/support/certs");
    let said = |name: &str, version: &str| {
        let file = format!("{folder}/{name}.pem");
        let weak = ["-cipher", "DEFAULT:@SECLEVEL=0"];
        let options = [&["-cert", &file, "-key", &file, version][..], &weak].concat();
        let (_server, addr, _files) = s_server(&format!("{name}{version}"), &options);
        let root = std::fs::read(format!("{folder}/{name}-root.pem")).unwrap();
        speak(addr, tls::Client::with_roots(root).unwrap()).unwrap_err()
    };
    for version in ["-tls1_3", "-tls1_2"] {
        assert_eq!(
            said("with-rsa-1024", version),
            "the peer's certificate has a key that is not taken here, RSA of 1024 bits: RSA of \
             2048 to 8192 bits, EC on P-256 or P-384, and Ed25519 are"
        );
        // We said what we take, and it has none of that.
        assert_eq!(
            said("with-p521", version),
            "the peer gave up: we have no way to encrypt or to sign in common, or it wants a \
             certificate from us"
        );
    }
}

#[test]
fn a_server_of_openssl_wants_a_certificate_and_gets_it() {
    skip_without!(OPENSSL);
    let ca = Scratch::new("wants-ca.pem", &authority().pem);
    let ca_path = ca.0.to_str().unwrap();
    let options = ["-Verify", "1", "-verify_return_error", "-CAfile", ca_path];
    let (_server, addr, _files) = s_server("wants", &options);
    let ann = authority().issue(&["ann"]);
    let known = client().certificate(&ann.chain, &ann.key).unwrap();
    assert_eq!(speak(addr, known), Ok("olleh\n".into()));
    let error = speak(addr, client()).unwrap_err();
    assert_eq!(error, "the peer gave up: it wants a certificate from us");
}

#[test]
fn the_example_makes_a_certificate_that_can_be_trusted() {
    skip_without!(OPENSSL);
    let saved = Scratch::new("saved.pem", "");
    let mut command = example("tls_echo");
    let (mut server, addr) =
        Process::listening(command.args(["127.0.0.1:0", "--save"]).arg(&saved.0));
    let mut client = Process::start(s_client(addr, &saved).arg("-quiet"));
    client.type_in("hello\n");
    assert_eq!(client.line(), "hello");
    assert!(server.line().contains("TLSv1.3 TLS13_"));
    let mut plain = support::process::Client::connect(addr);
    plain.send("GET / HTTP/1.1\r\n\r\n");
    assert!(server.line().ends_with("no handshake: the peer does not speak TLS"));
}

#[test]
fn the_example_refuses_bad_arguments_in_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let empty = Scratch::new("empty.pem", "");
    let path = empty.0.to_str().unwrap();
    for (args, because, code) in [
        (&["--cert", path][..], "--cert and --key go together", 2),
        (&["--cert", path, "--key", path], "no certificate is in the PEM", 2),
        (&["--cert", "/nowhere", "--key", path], "cannot read /nowhere", 2),
        (&["--save", "/nowhere/at/all"], "cannot write /nowhere/at/all", 2),
        (&[&taken], "cannot listen", 1),
        (&["--nonsense"], "--help", 2),
    ] {
        let output = output("tls_echo", args);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), said.lines().count()), (Some(code), 1), "{said}");
        assert!(said.contains(because), "{said}");
    }
    let help = String::from_utf8(output("tls_echo", &["--help"]).stdout).unwrap();
    assert!(help.starts_with("Usage: tls_echo [OPTIONS] [ADDR]"), "{help}");
}
