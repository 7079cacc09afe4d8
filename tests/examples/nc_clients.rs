//! The examples with the client that their headers name: nc(1), the one of OpenBSD.

use std::net::SocketAddr;
use std::process::Command;

use support::Rng;
use support::clients::{NC, skip_without};
use support::process::Process;

/// `nc`, ready to be started; `-N` sends FIN at the end of stdin.
fn nc(addr: SocketAddr) -> Command {
    let mut nc = NC.command();
    nc.args(["-N", &addr.ip().to_string(), &addr.port().to_string()]);
    nc
}

#[test]
fn nc_gets_its_lines_back_from_echo() {
    skip_without!(NC);
    let (_server, addr) = Process::serve("echo");
    let mut clients = [(); 3].map(|()| Process::start(&mut nc(addr)));
    for (number, client) in clients.iter_mut().enumerate() {
        client.type_in(format!("hello from {number}\n"));
    }
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.line(), format!("hello from {number}"));
    }
    for mut client in clients {
        assert_eq!(client.finish(), (Vec::new(), Some(0)));
    }
}

#[test]
fn nc_gets_three_megabytes_back_from_echo() {
    skip_without!(NC);
    let (_server, addr) = Process::serve("echo");
    let mut rng = Rng::new();
    let sent: Vec<u8> = (0..3_000_000).map(|_| rng.below(256) as u8).collect();
    let mut client = Process::start(&mut nc(addr));
    let got = client.pass(&sent);
    assert!(got == sent, "{} bytes came back of {}", got.len(), sent.len());
}

#[test]
fn three_nc_chat() {
    skip_without!(NC);
    let (_server, addr) = Process::serve("chat");
    let mut members = [1, 2, 3].map(|number| {
        let mut member = Process::start(&mut nc(addr));
        assert!(member.line().starts_with(&format!("* you are guest{number};")));
        member
    });
    let [ann, bob, cid] = &mut members;
    assert_eq!([ann.line(), ann.line()], ["* guest2 joined", "* guest3 joined"]);
    assert_eq!(bob.line(), "* guest3 joined");
    ann.type_in("/nick ann\nhello\n");
    assert_eq!(ann.line(), "* guest1 is now ann");
    for other in [&mut *bob, &mut *cid] {
        assert_eq!([other.line(), other.line()], ["* guest1 is now ann", "ann: hello"]);
    }
    cid.type_in("/quit\n");
    assert_eq!([ann.line(), bob.line()], ["* guest3 left", "* guest3 left"]);
    assert_eq!(bob.finish(), (Vec::new(), Some(0)));
    assert_eq!(ann.line(), "* guest2 left");
}

#[test]
fn nc_talks_to_embed_and_its_host() {
    skip_without!(NC);
    let (mut host, addr) = Process::serve("embed");
    let mut client = Process::start(&mut nc(addr));
    client.type_in("hello\n");
    assert_eq!(client.line(), "hello");
    host.type_in("from the host\nquit\n");
    assert_eq!(client.line(), "from the host");
    assert_eq!(host.finish(), (Vec::new(), Some(0)));
    assert_eq!(client.finish(), (Vec::new(), Some(0)));
}
