//! Addresses as text, wherever the library takes one: zones, brackets, and errors that say where.

use std::io::{self, ErrorKind};
use std::net::{Ipv6Addr, SocketAddr, TcpStream, UdpSocket};

use waterwheel::net::{self, ToAddresses, udp};
use waterwheel::{Context, Reactor};

fn listen(addr: impl ToAddresses) -> io::Result<SocketAddr> {
    let mut reactor = Reactor::<()>::new()?;
    let listener = net::tcp::listen(&mut reactor, addr, |_, _, _| {})?;
    Ok(reactor[listener].local_addr())
}

fn bind(addr: impl ToAddresses) -> io::Result<SocketAddr> {
    let mut reactor = Reactor::<()>::new()?;
    let socket = udp::bind(&mut reactor, addr, |_, _, _, _| {})?;
    Ok(reactor[socket].local_addr())
}

#[test]
fn whatever_cannot_be_listened_on_or_bound_to_is_named_in_the_error() {
    let mut reactor = Reactor::<()>::new().unwrap();
    let taken = net::tcp::listen(&mut reactor, "127.0.0.1:0", |_, _, _| {}).unwrap();
    let taken = reactor[taken].local_addr();
    let error = listen(taken).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(error.to_string().starts_with(&format!("{taken}: ")), "{error}");
    let udp = udp::bind(&mut reactor, "[::1]:0", |_, _, _, _| {}).unwrap();
    let udp = reactor[udp].local_addr();
    let error = bind(udp).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(error.to_string().starts_with(&format!("{udp}: ")), "{error}");
    for way in [listen, bind] {
        let error = way("192.0.2.1:0").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
        assert!(error.to_string().starts_with("192.0.2.1:0: "), "{error}");
        for text in ["nonsense", "", "80", ":80", "*:80", "::1", "::1:80", "a:+80", "[::1%no]:80"] {
            let error = way(text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{text}: ")), "{error}");
        }
        let error = way("name.invalid:80").unwrap_err().to_string();
        assert!(error.starts_with("name.invalid:80: "), "{error}");
    }
    let error = listen(&["192.0.2.1:7", "198.51.100.1:7"].map(|addr| addr.parse().unwrap())[..]);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("192.0.2.1:7: ") && error.contains("; 198.51.100.1:7: "), "{error}");
    assert_eq!(listen(&[][..] as &[SocketAddr]).unwrap_err().kind(), ErrorKind::InvalidInput);
    let nowhere = "255.255.255.255:9".parse().unwrap();
    let error = udp::connect(&mut reactor, nowhere, |_, _, _, _| {}).unwrap_err();
    assert!(error.to_string().starts_with("255.255.255.255:9: "), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn zones_have_names_and_numbers() {
    for host in ["[::1%lo]", "[::1%1]", "[::1]"] {
        let at = listen(&*format!("{host}:0")).unwrap();
        assert_eq!(at.ip(), Ipv6Addr::LOCALHOST);
        assert_eq!(bind(&*format!("{host}:0")).unwrap().ip(), Ipv6Addr::LOCALHOST);
        assert_eq!(listen((host, 0)).unwrap().ip(), Ipv6Addr::LOCALHOST);
    }
    for way in [listen, bind] {
        let error = way("[fe80::1%nosuch]:0").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let why = "[fe80::1%nosuch]:0: this host has no interface \"nosuch\"";
        assert_eq!(error.to_string(), why);
    }
}

#[test]
fn listener_on_all_addresses_of_ipv6_leaves_ipv4_alone_if_it_is_to() {
    for only in [true, false] {
        let mut reactor = Reactor::<()>::new().unwrap();
        let listen = net::tcp::Listen::new().only_v6(only);
        let listener = listen.open(&mut reactor, "[::]:0", |_, _, _| {});
        let port = reactor[listener.expect("this machine has IPv6")].local_addr().port();
        assert!(TcpStream::connect(("::1", port)).is_ok());
        assert_eq!(TcpStream::connect(("127.0.0.1", port)).is_err(), only);
        let socket = udp::Bind::new().only_v6(only).open(&mut reactor, "[::]:0", |_, _, _, _| {});
        let port = reactor[socket.unwrap()].local_addr().port();
        assert_eq!(UdpSocket::bind(("127.0.0.1", port)).is_ok(), only);
        let refused =
            net::tcp::Listen::new().only_v6(only).open(&mut reactor, "127.0.0.1:0", never);
        assert!(refused.unwrap_err().to_string().starts_with("127.0.0.1:0: "));
    }
}

fn never(_: &mut Context<()>, _: &mut (), _: waterwheel::net::Stream) {
    panic!("nobody is let in");
}

#[cfg(unix)]
#[test]
fn unix_sockets_say_where_they_cannot_listen() {
    use waterwheel::net::unix::{self, datagram};
    let mut reactor = Reactor::<()>::new().unwrap();
    let errors = [
        unix::listen(&mut reactor, "/no/such/folder/socket", |_, _, _| {}).unwrap_err(),
        datagram::bind(&mut reactor, "/no/such/folder/socket", |_, _, _, _| {}).unwrap_err(),
    ];
    for error in errors {
        assert!(error.to_string().starts_with("/no/such/folder/socket: "), "{error}");
    }
}

#[cfg(feature = "http")]
mod http {
    use waterwheel::protocols::http::{Client, ClientRequest};

    use support::web::{Lab, ok};

    #[test]
    fn zone_of_a_url_is_for_connecting_and_the_server_hears_nothing_of_it() {
        for url in ["http://[fe80::1%25eth0]:8080/a", "http://[fe80::1%eth0]:8080/a"] {
            let mut lab = Lab::new();
            lab.get(url);
            assert_eq!(lab.seen.borrow()[0].to, "[fe80::1%eth0]:8080");
            assert_eq!(lab.got(0), "GET /a HTTP/1.1\r\nHost: [fe80::1]:8080\r\n\r\n");
            lab.say(0, ok("here"));
            let response = lab.response().unwrap();
            assert_eq!(response.text(), Ok("here"));
        }
    }

    #[test]
    fn same_address_in_another_zone_is_another_server() {
        let mut lab = Lab::new();
        for (at, zone) in ["%25a", "%25b", ""].into_iter().enumerate() {
            for _ in 0..2 {
                lab.get(&format!("http://[fe80::1{zone}]/"));
                assert_eq!(lab.connections(), at + 1);
                lab.say(at, ok("here"));
                lab.response().unwrap();
            }
        }
    }

    #[test]
    fn redirect_to_the_same_address_stays_in_its_zone() {
        for (location, leads) in [
            ("/b", "[fe80::1%eth0]:80"),
            ("http://[fe80::1]/b", "[fe80::1%eth0]:80"),
            ("http://[fe80::1]:81/b", "[fe80::1%eth0]:81"),
            ("http://[fe80::2]/b", "[fe80::2]:80"),
            ("http://a.test/b", "a.test:80"),
        ] {
            let mut lab = Lab::new();
            lab.send(ClientRequest::get("http://[fe80::1%25eth0]/a").redirects(1));
            lab.say(0, format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"));
            lab.settle();
            assert_eq!(lab.seen.borrow()[1].to, leads, "{location}");
            assert!(lab.got(1).starts_with("GET /b HTTP/1.1\r\n"));
            assert!(!lab.got(1).contains('%'));
        }
    }

    #[test]
    fn proxy_is_reached_in_its_zone_and_hears_of_none() {
        let mut lab = Lab::with(|client: Client<_>| client.proxy("http://[fe80::9%25eth1]:3128"));
        lab.get("http://[fe80::1%25eth0]/a");
        assert_eq!(lab.seen.borrow()[0].to, "[fe80::9%eth1]:3128");
        assert_eq!(lab.got(0), "GET http://[fe80::1]/a HTTP/1.1\r\nHost: [fe80::1]\r\n\r\n");
        lab.say(0, ok("here"));
        lab.response().unwrap();
        #[cfg(feature = "tls")]
        {
            lab.get("https://[fe80::1%25eth0]/a");
            let asked = "CONNECT [fe80::1]:443 HTTP/1.1\r\nHost: [fe80::1]:443\r\n\r\n";
            assert_eq!(lab.got(1), asked);
        }
    }

    #[test]
    fn what_is_no_host_in_a_url_is_refused() {
        let mut lab = Lab::new();
        for url in ["http://[::1]8/", "http://[fe80::1%25]x/", "http://[a]/", "http://a:+80/"] {
            lab.get(url);
            assert!(lab.error().contains("a bad "), "{url}");
        }
        assert_eq!(lab.connections(), 0);
    }
}

#[cfg(all(feature = "ws", feature = "tls", target_os = "linux"))]
mod tls {
    use std::time::Duration;

    use waterwheel::Reactor;
    use waterwheel::protocols::{http, ws};

    use support::tcp::turn_until;
    use support::tls as certs;

    const LIMIT: Duration = Duration::from_secs(60);

    /// A server on the loopback of IPv6, its certificate for that address and for no zone.
    #[test]
    fn certificate_is_for_the_address_without_its_zone() {
        let _ceiling = support::ceiling(LIMIT);
        let mut reactor = Reactor::new().unwrap();
        let identity = certs::authority().issue(&["::1"]);
        let server = http::Server::new(|reactor, told: &mut Vec<String>, request, reply| {
            told.push(request.header("host").unwrap_or_default().to_owned());
            match request.path() {
                "/ws" => {
                    let _ = ws::accept(reactor, request, reply, |_, _, _, _| {});
                }
                _ => assert!(reply.send(reactor, http::Response::text("sealed"))),
            }
        });
        let server = server.tls(certs::server_of(&identity).alpn(["http/1.1"]));
        let listener = server.listen(&mut reactor, "[::1%lo]:0").unwrap();
        let port = reactor[listener].local_addr().port();
        let mut told = Vec::new();
        let client = http::Client::new().tls(certs::client());
        let url = format!("https://[::1%25lo]:{port}/");
        client.get(&mut reactor, &url, |_, told: &mut Vec<String>, response| {
            told.push(response.unwrap().text().unwrap().to_owned());
        });
        turn_until(&mut reactor, &mut told, |_, told| told.len() == 2);
        assert_eq!(told, [format!("[::1]:{port}"), "sealed".to_owned()]);
        told.clear();
        let connect = ws::Connect::new().tls(certs::client());
        let url = format!("wss://[::1%25lo]:{port}/ws");
        let socket = connect.open(&mut reactor, &url, |_, told: &mut Vec<String>, _, event| {
            told.push(format!("{event:?}"));
        });
        socket.unwrap();
        turn_until(&mut reactor, &mut told, |_, told| told.len() == 2);
        assert_eq!(told, [format!("[::1]:{port}"), "Open".to_owned()]);
    }
}
