//! Where a call goes: redirects, proxies, other streams than TCP, names, real sockets.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use support::ceiling;
use support::tcp::{full, nobody, turn_until};
use support::web;
use support::web::{Lab, Told, ok};
use waterwheel::net::tcp::Connect;
use waterwheel::net::{Conn, Event, unix};
use waterwheel::protocols::http::{Client, ClientLimits, ClientRequest, Error};
use waterwheel::reactor::Alive;
use waterwheel::{Context, Reactor, SourceId};

const URL: &str = "http://a.test/from/here?q";
const LIMIT: Duration = Duration::from_secs(60);

fn redirect(status: u16, location: &str) -> String {
    format!("HTTP/1.1 {status} Elsewhere\r\nLocation: {location}\r\nContent-Length: 4\r\n\r\nsee.")
}

fn push(_: &mut Context<Told>, told: &mut Told, result: Result<web::ClientResponse, Error>) {
    told.responses.push(result);
}

#[test]
fn a_redirect_is_a_response_unless_it_is_to_be_followed() {
    let mut lab = Lab::new();
    lab.get(URL);
    lab.say(0, redirect(302, "/there"));
    let response = lab.response().unwrap();
    assert_eq!((response.status.as_u16(), response.text()), (302, Ok("see.")));
    lab.take_got(0);
    lab.send(ClientRequest::get(URL).redirects(2));
    lab.take_got(0);
    lab.say(0, redirect(302, "there#fragment"));
    assert!(lab.take_got(0).starts_with("GET /from/there HTTP/1.1\r\nHost: a.test\r\n"));
    lab.say(0, redirect(301, "https://b.test/secure"));
    assert!(lab.told.responses.is_empty() || cfg!(not(feature = "tls")));
    lab.told.responses.clear();
    lab.send(ClientRequest::get("http://c.test/").redirects(1));
    let at = lab.connections() - 1;
    lab.say(at, redirect(302, "http://d.test/"));
    lab.say(at + 1, redirect(302, "http://e.test/"));
    assert_eq!(lab.error(), "http://d.test/: not redirected: more than 1 redirects");
    lab.send(ClientRequest::get("http://f.test/").redirects(1));
    lab.say(at + 2, redirect(302, "http://a b/"));
    assert!(lab.error().contains("http://f.test/: not redirected: a bad Location"));
}

#[test]
fn what_a_person_types_is_asked_for_as_servers_know_it() {
    for (typed, target) in [
        ("http://a.test/a b?c d", "/a%20b?c%20d"),
        ("http://a.test/\u{fc}b\u{20ac}r", "/%C3%BCb%E2%82%ACr"),
        ("http://a.test/a%20b%C3%BC", "/a%20b%C3%BC"),
        ("http://a.test?\"<>`", "/?%22%3C%3E%60"),
        ("http://a.test/#\u{fc} x", "/"),
    ] {
        let mut lab = Lab::new();
        lab.get(typed);
        let got = lab.got(0);
        assert!(
            got.starts_with(&format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n\r\n")),
            "{got}"
        );
    }
    let mut lab = Lab::new();
    lab.get("http://b\u{fc}cher.test/");
    let error = lab.error();
    assert!(
        error.contains("its host has letters beyond ASCII, which are written as xn--"),
        "{error}"
    );
}

#[test]
fn a_location_is_followed_whatever_bytes_it_has() {
    for (location, target) in [
        (&b"/\xfc b"[..], "/%FC%20b"),
        ("../\u{fc}".as_bytes(), "/%C3%BC"),
        (b"http://a.test/c/../d/./\xe4?\xf6/..", "/d/%E4?%F6/.."),
        (b"//a.test/./..//\xff", "//%FF"),
        (b"?\xfc", "/from/here?%FC"),
        (b"there\r\n\t \xfc", "/from/there%20%20%20%20%FC"),
        (b"a\tb", ""),
    ] {
        let mut lab = Lab::new();
        lab.send(ClientRequest::get(URL).redirects(1));
        lab.take_got(0);
        let response =
            [b"HTTP/1.1 302 x\r\nLocation: ", location, b"\r\nContent-Length: 0\r\n\r\n"];
        lab.say(0, response.concat());
        let told = format!("{:?}", lab.told.responses);
        let got = lab.got(0);
        if target.is_empty() {
            assert!(told.contains("a bad Location"), "{told}"); // A tab is a control character.
        } else {
            assert!(got.starts_with(&format!("GET {target} HTTP/1.1\r\n")), "{got} {told}");
        }
    }
    let mut lab = Lab::new();
    lab.send(ClientRequest::get(URL).redirects(1));
    lab.say(0, b"HTTP/1.1 301 x\r\nLocation: //b\xfccher.test/\r\nContent-Length: 0\r\n\r\n");
    let error = lab.error();
    assert!(error.contains("not redirected: a bad Location") && error.contains("ASCII"), "{error}");
}

#[test]
fn methods_change_as_browsers_change_them() {
    for (status, method, becomes, body) in [
        (301, "POST", "GET", false),
        (302, "POST", "GET", false),
        (303, "PUT", "GET", false),
        (303, "HEAD", "HEAD", false),
        (302, "PUT", "PUT", true),
        (307, "POST", "POST", true),
        (308, "POST", "POST", true),
    ] {
        let mut lab = Lab::new();
        let method = method.parse().unwrap();
        let request =
            ClientRequest::new(method, URL).header("Content-Type", "text/plain").redirects(1);
        lab.send(if status == 303 && becomes == "HEAD" { request } else { request.body("text") });
        lab.take_got(0);
        let response = redirect(status, "/b");
        lab.say(0, if becomes == "HEAD" { response.trim_end_matches("see.") } else { &response });
        let got = lab.take_got(0);
        assert!(got.starts_with(&format!("{becomes} /b HTTP/1.1\r\n")), "{status}: {got}");
        assert_eq!(got.ends_with("\r\n\r\ntext"), body, "{status}: {got}");
        // What a HEAD was sent with says nothing of a body that is gone.
        assert_eq!(got.contains("Content-Type"), body || becomes == "HEAD", "{status}: {got}");
    }
    let mut lab = Lab::new();
    let call = lab.stream(ClientRequest::post(URL).body_stream(Some(1)).redirects(1));
    let _ = call.write(&mut lab.reactor, b"x");
    lab.settle();
    lab.say(0, redirect(307, "/b"));
    let events = lab.events();
    assert!(events.len() == 1 && events[0].contains("its body was sent and is gone"), "{events:?}");
    // Unless it waited for the server's word, and nothing has gone.
    let mut lab = Lab::new();
    let call =
        lab.stream(ClientRequest::post(URL).body_stream(Some(2)).expect_continue().redirects(1));
    let _ = call.write(&mut lab.reactor, b"x");
    lab.settle();
    lab.say(0, redirect(307, "/b"));
    let _ = call.write(&mut lab.reactor, b"y");
    lab.settle();
    assert!(lab.got(1).starts_with("POST /b HTTP/1.1\r\n"), "{}", lab.got(1));
    assert!(!lab.got(1).contains("xy"), "the second waits for the word of its own server");
    lab.say(1, "HTTP/1.1 100 Continue\r\n\r\n");
    assert!(lab.got(1).ends_with("\r\n\r\nxy"), "{}", lab.got(1));
    lab.say(1, ok("there"));
    assert_eq!(lab.events(), ["head 200", "data there", "end"]);
}

#[test]
fn secrets_stay_with_the_origin_they_were_meant_for() {
    for (location, keeps) in [
        ("/b", true),
        ("http://a.test/b", true),
        ("http://b.test/", false),
        ("http://a.test:81/", false),
    ] {
        for secret_in_url in [false, true] {
            let mut lab = Lab::new();
            let request = match secret_in_url {
                true => ClientRequest::get("http://user:word@a.test/"),
                false => ClientRequest::get(URL).header("authorization", "Basic dXNlcjp3b3Jk"),
            };
            lab.send(request.header("Cookie", "c").header("X", "y").redirects(1));
            let first = lab.take_got(0);
            assert!(first.contains("dXNlcjp3b3Jk") && first.contains("Cookie: c"), "{first}");
            lab.say(0, redirect(302, location));
            let got = lab.got(lab.connections() - 1);
            assert!(got.contains("\r\nX: y\r\n"), "{got}");
            assert_eq!(got.contains("dXNlcjp3b3Jk"), keeps, "{location}: {got}");
            assert_eq!(got.contains("Cookie"), keeps, "{location}: {got}");
        }
    }
}

#[test]
fn the_body_of_a_redirect_is_read_within_bounds() {
    let mut lab = Lab::new();
    lab.send(ClientRequest::get(URL).redirects(1));
    lab.say(0, "HTTP/1.1 302 Found\r\nLocation: /b\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(lab.connections(), 1);
    lab.say(0, format!("11000\r\n{}", "x".repeat(0x11000)));
    assert!(lab.is_left(0), "too long to be worth it");
    lab.say(1, ok("there"));
    assert_eq!(lab.body(), "there");
    let mut lab = Lab::new();
    lab.send(ClientRequest::get(URL).redirects(1));
    lab.say(0, "HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 10\r\n\r\nsee");
    lab.finish(0);
    lab.say(1, ok("there"));
    assert_eq!(lab.body(), "there", "nobody wanted the rest");
}

#[test]
fn a_location_is_read_as_browsers_read_it() {
    for (location, asks) in [
        ("/a b", "GET /a%20b HTTP/1.1\r\nHost: a.test\r\n"),
        ("c d?e f", "GET /from/c%20d?e%20f HTTP/1.1\r\nHost: a.test\r\n"),
        ("//b.test/<x>`", "GET /%3Cx%3E%60 HTTP/1.1\r\nHost: b.test\r\n"),
        ("http://b.test?a b", "GET /?a%20b HTTP/1.1\r\nHost: b.test\r\n"),
        ("/ü%20", "GET /%C3%BC%20 HTTP/1.1\r\nHost: a.test\r\n"),
    ] {
        let mut lab = Lab::new();
        lab.send(ClientRequest::get(URL).redirects(1));
        lab.take_got(0);
        lab.say(0, redirect(302, location));
        assert!(lab.told.responses.is_empty(), "{location}: {:?}", lab.told.responses);
        let got = lab.got(lab.connections() - 1);
        assert!(got.starts_with(asks), "{location}: {got}");
    }
}

#[test]
fn a_proxy_is_told_the_whole_url_and_who_we_are() {
    let mut lab = Lab::with(|client| client.proxy("http://me:pass@proxy.test:3128"));
    lab.get("http://a.test:81/path");
    assert_eq!(lab.seen.borrow()[0].to, "proxy.test:3128");
    assert_eq!(
        lab.take_got(0),
        "GET http://a.test:81/path HTTP/1.1\r\nHost: a.test:81\r\n\
         Proxy-Authorization: Basic bWU6cGFzcw==\r\n\r\n"
    );
    lab.say(0, ok("by proxy"));
    assert_eq!(lab.body(), "by proxy");
    lab.get("http://b.test/");
    assert!(lab.take_got(0).starts_with("GET http://b.test/ "), "one connection for all hosts");
    lab.say(0, ok(""));
    lab.response().unwrap();
    lab.send(ClientRequest::get(URL).header("Proxy-Authorization", "Bearer own"));
    assert_eq!(lab.got(0).matches("Proxy-Authorization: ").count(), 1, "{}", lab.got(0));
    for url in ["https://proxy.test/", "proxy", "ftp://x/"] {
        let mut lab = Lab::with(|client| client.proxy(url));
        lab.get(URL);
        let error = lab.response().unwrap_err();
        assert!(matches!(error, Error::Connect { .. }), "{url}");
        assert!(error.to_string().contains(": not the URL of a proxy: "), "{error}");
    }
}

#[test]
fn what_is_meant_for_a_proxy_is_told_to_nobody_else() {
    let mut lab = Lab::new();
    let request = |url| ClientRequest::get(url).header("Proxy-authorization", "Bearer secret");
    lab.send(request(URL));
    assert!(!lab.got(0).contains("secret"), "{}", lab.got(0));
    let mut lab = Lab::with(|client| client.proxy("http://proxy.test"));
    lab.send(request(URL));
    assert!(lab.got(0).contains("secret"), "{}", lab.got(0));
}

#[test]
fn a_tunnel_that_is_refused_says_what_the_proxy_says() {
    for (says, told) in [
        (
            "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
            "it responds with 407",
        ),
        ("HTTP/1.1 502 Bad Gateway\r\n\r\n", "it responds with 502 Bad Gateway"),
        ("no HTTP\r\n", "not HTTP/1.0 or HTTP/1.1"),
        ("", "it closed the connection"),
    ] {
        let mut lab = Lab::with(|client| client.proxy("http://proxy.test"));
        lab.get("https://a.test/");
        assert_eq!(lab.got(0), "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n");
        lab.say(0, says);
        if says.is_empty() {
            lab.finish(0);
        }
        let error = lab.error();
        assert!(
            error.contains("the proxy does not lead to a.test:443") && error.contains(told),
            "{error}"
        );
        assert!(lab.is_left(0) && !lab.reactor.is_alive());
        assert_eq!(lab.client.connections(), 0);
    }
}

#[test]
fn a_proxy_that_says_nothing_is_waited_for_as_long_as_a_connection_is() {
    let limits = ClientLimits { connect_timeout: Some(LIMIT), ..ClientLimits::default() };
    let mut lab = Lab::with(|client| client.proxy("http://proxy.test").limits(limits));
    lab.get("https://a.test/");
    lab.advance(LIMIT - Duration::from_millis(1));
    assert!(lab.told.responses.is_empty());
    lab.advance(Duration::from_millis(1));
    assert_eq!(lab.error(), "https://a.test/: connecting took too long");
    assert!(lab.is_left(0));
    let call = lab.get("https://a.test/");
    assert!(call.cancel(&mut lab.reactor));
    lab.settle();
    assert!(lab.is_left(1));
}

#[test]
fn a_unix_socket_is_spoken_to_like_any_other() {
    let _ceiling = ceiling(LIMIT);
    let path = std::env::temp_dir().join(format!("waterwheel-http-{}", std::process::id()));
    let mut reactor = Reactor::new().unwrap();
    let listener = unix::listen(&mut reactor, &path, |reactor, _, incoming| {
        incoming.open(reactor, |reactor, _, conn: SourceId<Conn>, event| {
            if let Event::Data(_) = event {
                let _ = reactor[conn].write(ok("from a path").as_bytes());
            }
        });
    });
    reactor.unref(listener.unwrap());
    let to = path.clone();
    let client = Client::new().dialer(move |reactor, _, done| {
        Ok(Some(unix::connect(reactor, to.as_path(), LIMIT, done)?.raw()))
    });
    client.get(&mut reactor, "http://any.thing/", |reactor, told, result| {
        push(reactor, told, result);
        reactor.stop();
    });
    let mut told = Told::default();
    reactor.run(&mut told).unwrap();
    assert_eq!(told.responses.remove(0).unwrap().text(), Ok("from a path"));
    let _ = std::fs::remove_file(path);
}

#[test]
fn a_name_without_anybody_behind_it_is_told_with_all_that_was_tried() {
    let _ceiling = ceiling(LIMIT);
    let (a, b) = (nobody(), nobody());
    let connect = Connect::new().resolver(move |name| match name {
        "two.test:80" => Ok(vec![a, b]),
        _ => Err(io::Error::new(ErrorKind::NotFound, "no such name")),
    });
    let mut reactor = Reactor::new().unwrap();
    let client = Client::new().connect(connect);
    client.get(&mut reactor, "http://two.test/", push);
    client.get(&mut reactor, "http://none.test/", push);
    client.get(&mut reactor, format!("http://{a}/"), push);
    let mut told = Told::default();
    reactor.run(&mut told).unwrap();
    let mut errors: Vec<_> =
        told.responses.into_iter().map(|response| response.unwrap_err().to_string()).collect();
    errors.sort();
    assert!(errors[0].contains(&format!("http://{a}/: cannot connect to {a}: ")), "{errors:?}");
    assert!(errors[1].contains("none.test:80: no such name"), "{errors:?}");
    assert!(errors[2].contains(&a.to_string()) && errors[2].contains(&b.to_string()), "{errors:?}");
}

#[test]
fn a_call_that_is_cancelled_while_it_connects_leaves_nothing() {
    let (_listener, _waiting, addr) = full();
    let mut reactor = Reactor::new().unwrap();
    let client = Client::new();
    let call = client.get(&mut reactor, format!("http://{addr}/"), push);
    let mut told = Told::default();
    reactor.turn(&mut told, Some(Duration::ZERO)).unwrap();
    assert_eq!(client.connections(), 1);
    let why = reactor.why_alive();
    let of_ours =
        |alive: &Alive| matches!(alive, Alive::Source(_, place) if place.file() == file!());
    assert!(why.iter().any(of_ours), "it names the line that asked: {why:?}");
    assert!(call.cancel(&mut reactor));
    reactor.run(&mut told).unwrap();
    assert_eq!(client.connections(), 0);
    assert!(told.responses.is_empty());
}

#[test]
fn a_response_reaches_an_upload_whose_server_has_hung_up() {
    let _ceiling = ceiling(LIMIT);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        for _ in 0..20 {
            let (mut peer, _) = listener.accept().unwrap();
            let mut some = [0; 1000];
            let _ = peer.read(&mut some).unwrap();
            // It says close: where all has gone to the kernel, the next might be sent behind it.
            let response =
                "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 4\r\n\r\nstop";
            peer.write_all(response.as_bytes()).unwrap();
            peer.shutdown(std::net::Shutdown::Write).unwrap();
            let mut rest = Vec::new();
            let _ = peer.take(200_000).read_to_end(&mut rest); // And then a reset.
        }
    });
    let mut reactor = Reactor::new().unwrap();
    let client = Client::new();
    let mut told = Told::default();
    for round in 0..20 {
        client.send(&mut reactor, ClientRequest::post(&url).body(vec![b'x'; 3_000_000]), push);
        turn_until(&mut reactor, &mut told, |_, told| told.responses.len() > round);
    }
    for response in told.responses {
        assert_eq!(response.unwrap().text(), Ok("stop"));
    }
    drop(client);
    server.join().unwrap();
}

#[test]
fn a_post_is_not_sent_over_a_connection_that_the_kernel_knows_is_closed() {
    let _ceiling = ceiling(LIMIT);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    post_after_an_end(Client::new(), url, move || listener.accept().unwrap().0);
    let path = std::env::temp_dir().join(format!("waterwheel-ways-{}", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    let own = path.clone();
    let client = Client::new()
        .dialer(move |reactor, _, done| Ok(Some(unix::connect(reactor, &own, LIMIT, done)?.raw())));
    post_after_an_end(client, "http://here/".into(), move || listener.accept().unwrap().0);
    std::fs::remove_file(path).unwrap();
}

/// A server answers twice, over a connection each that it then closes.
fn post_after_an_end<P: Read + Write>(
    client: Client<Told>,
    url: String,
    accept: impl Fn() -> P + Send + 'static,
) {
    let (closed, hears) = std::sync::mpsc::channel();
    let server = std::thread::spawn(move || {
        for _ in 0..2 {
            let mut peer = accept();
            let mut some = [0; 1000];
            let _ = peer.read(&mut some).unwrap();
            peer.write_all(ok("x").as_bytes()).unwrap();
            drop(peer); // Although it has said nothing of that.
            let _ = closed.send(()); // The second is not asked for.
        }
    });
    let mut reactor = Reactor::new().unwrap();
    let own = client.clone();
    client.get(&mut reactor, url.clone(), move |reactor, told, first| {
        push(reactor, told, first);
        hears.recv().unwrap(); // The loop has had no chance to hear of it.
        own.send(reactor, ClientRequest::post(url).body("once"), push);
    });
    let mut told = Told::default();
    reactor.run(&mut told).unwrap();
    assert!(told.responses.iter().all(Result::is_ok), "{:?}", told.responses);
    assert_eq!(told.responses.len(), 2);
    server.join().unwrap();
}
