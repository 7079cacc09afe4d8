//! Texts of addresses, read and written.

use super::*;

fn parsed(text: &str) -> Result<(String, u16), String> {
    match text.parse::<HostPort>() {
        Ok(HostPort { host, port }) => Ok((host, port)),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn host_and_port_are_taken_apart_and_put_together_again() {
    for (text, host, port) in [
        ("example.org:80", "example.org", 80),
        ("localhost:0", "localhost", 0),
        ("127.0.0.1:65535", "127.0.0.1", 65535),
        ("[::1]:80", "::1", 80),
        ("[::]:80", "::", 80),
        ("[::ffff:127.0.0.1]:80", "::ffff:127.0.0.1", 80),
        ("[fe80::1%lo]:80", "fe80::1%lo", 80),
        ("[fe80::1%25]:80", "fe80::1%25", 80),
        ("[ff02::1%br-0.12:1]:80", "ff02::1%br-0.12:1", 80),
        ("grün.example:80", "grün.example", 80),
    ] {
        assert_eq!(parsed(text), Ok((host.to_owned(), port)));
        let same = HostPort::new(host, port).unwrap();
        assert_eq!(same.to_string(), text);
        if host.contains(':') {
            assert_eq!(HostPort::new(&format!("[{host}]"), port).unwrap(), same);
        }
    }
    assert_eq!(parsed("a:00080"), Ok(("a".to_owned(), 80)));
}

#[test]
fn what_is_no_host_and_port_is_refused_with_why() {
    for (text, why) in [
        ("", "it has no host; all addresses are 0.0.0.0 or [::]"),
        (":80", "it has no host; all addresses are 0.0.0.0 or [::]"),
        ("*:80", "all addresses are 0.0.0.0 or [::]"),
        ("80", "it has no port"),
        ("a", "it has no port"),
        ("[::1]", "it has no port"),
        ("a:", "a port is a number, 65535 at most"),
        ("a:+80", "a port is a number, 65535 at most"),
        ("a:-1", "a port is a number, 65535 at most"),
        ("a: 80", "a port is a number, 65535 at most"),
        ("a:http", "a port is a number, 65535 at most"),
        ("a:65536", "a port is a number, 65535 at most"),
        ("[::1]:", "a port is a number, 65535 at most"),
        ("[::1]:99999999999999999999", "a port is a number, 65535 at most"),
        ("::1", BRACKETS),
        ("::", BRACKETS),
        ("::1:80", BRACKETS),
        ("fe80::1%lo", BRACKETS),
        ("fe80::1%lo:80", BRACKETS),
        ("2001:db8::1:443", BRACKETS),
        ("[::1", "a bracket is not closed"),
        ("[::1]80", "behind the brackets comes a colon"),
        ("[::1]]:80", "behind the brackets comes a colon"),
        ("[]:80", "brackets are for addresses of IPv6"),
        ("[127.0.0.1]:80", "brackets are for addresses of IPv6"),
        ("[localhost]:80", "brackets are for addresses of IPv6"),
        ("[[::1]]:80", "behind the brackets comes a colon"),
        ("[fe80::1%]:80", "brackets are for addresses of IPv6"),
        ("[%lo]:80", "brackets are for addresses of IPv6"),
        ("a:80:80", "a host has no colons and no brackets"),
        ("http://a:80", "a host has no colons and no brackets"),
        ("a]:80", "a host has no colons and no brackets"),
        ("a b:80", "a host has no spaces and no control characters"),
        ("a\0:80", "a host has no spaces and no control characters"),
        ("a\n:80", "a host has no spaces and no control characters"),
    ] {
        assert_eq!(parsed(text), Err(format!("{WANTED}: {text:?} ({why})")));
        let error = text.to_addresses().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(error.to_string(), format!("{text}: {WANTED} ({why})"));
    }
    for host in ["", "*", "a:80", "[a]", "[::1", "::1]", "a\0"] {
        let error = HostPort::new(host, 80).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{host:?}");
        assert!(error.to_string().starts_with(&format!("not a host: {host:?} (")));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn zone_is_an_interface_by_name_or_number() {
    let address = |text: &str| text.parse::<HostPort>().unwrap().address();
    for (text, shown) in [
        ("[fe80::1%lo]:80", "[fe80::1%1]:80"),
        ("[::1%lo]:80", "[::1%1]:80"),
        ("[ff02::1%lo]:80", "[ff02::1%1]:80"),
        ("[fe80::1%7]:80", "[fe80::1%7]:80"),
        ("[::1]:80", "[::1]:80"),
        ("127.0.0.1:80", "127.0.0.1:80"),
    ] {
        assert_eq!(address(text).unwrap().unwrap().to_string(), shown);
    }
    assert_eq!(address("localhost:80").unwrap(), None);
    assert_eq!(address("fe80%lo:80").unwrap(), None, "a name");
    for zone in ["nosuch", "4294967296", "lo lo"] {
        let text = format!("[fe80::1%{zone}]:80");
        assert_eq!(address(&text).unwrap_err().kind(), ErrorKind::NotFound);
        let error = text.to_addresses().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(error.to_string(), format!("{text}: this host has no interface {zone:?}"));
    }
}

#[test]
fn all_that_std_takes_for_addresses_is_taken() {
    fn of(addresses: impl ToAddresses) -> Vec<SocketAddr> {
        addresses.to_addresses().unwrap()
    }
    let one: SocketAddr = "127.0.0.1:80".parse().unwrap();
    let SocketAddr::V4(v4) = one else { panic!() };
    let text = one.to_string();
    assert_eq!(of(one), [one]);
    assert_eq!(of(v4), [one]);
    assert_eq!(of((v4.ip().to_owned(), 80)), [one]);
    assert_eq!(of((one.ip(), 80)), [one]);
    assert_eq!(of(("127.0.0.1", 80)), [one]);
    assert_eq!(of(("127.0.0.1".to_owned(), 80)), [one]);
    assert_eq!(of(&*text), [one]);
    assert_eq!(of(&text), [one]);
    assert_eq!(of(text), [one]);
    assert_eq!(of(&[one, one][..]), [one, one]);
    let six: SocketAddr = "[::1]:80".parse().unwrap();
    assert_eq!(of(("::1", 80)), [six]);
    assert_eq!(of((Ipv6Addr::LOCALHOST, 80)), [six]);
    assert!(of("localhost:80").iter().all(|found| found.ip().is_loopback()));
}
