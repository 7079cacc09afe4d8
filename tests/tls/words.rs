//! Certificates and keys that are refused, in words that say what is wrong; and texts that are not.
//!
//! What rcgen does not make is in `support/certs`, with the script that made it.

use std::io::ErrorKind;
use std::sync::Arc;

use rcgen::{ExtendedKeyUsagePurpose, GeneralSubtree, NameConstraints};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use support::tls as with;
use support::tls::{Identity, authority, client, localhost, server, shake_over};
use waterwheel::Reactor;
use waterwheel::net::memory;
use waterwheel::protocols::tls;

macro_rules! pem {
    ($name:literal) => {
        include_str!(concat!("../support/certs/", $name, ".pem"))
    };
}

/// A server that shows this, whatever it is.
fn showing(pem: &str) -> tls::Server {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap();
    let key = ring::sign::any_supported_type(&key).unwrap();
    let shown = SingleCertAndKey::from(CertifiedKey::new(chain.unwrap(), key));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    Arc::new(config.with_cert_resolver(Arc::new(shown))).into()
}

/// What a client says of it that trusts these roots.
fn said_of(server: &tls::Server, roots: &str, name: &str) -> String {
    let mut reactor = Reactor::new().unwrap();
    let client = tls::Client::with_roots(roots).unwrap();
    let pair = memory::pair(&mut reactor);
    let shaken = shake_over(&mut reactor, &mut (), (server, &client), name, pair);
    let error = shaken.client.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert!(!shaken.server.unwrap().unwrap_err().to_string().is_empty());
    readable(error.to_string())
}

/// No word of it may be a name from a source.
#[track_caller]
fn readable(said: String) -> String {
    assert!(said.len() < 200, "{said}");
    let is_name = |word: &str| {
        let inner = word.trim_matches(|char: char| !char.is_ascii_alphanumeric());
        let humps = inner.as_bytes().windows(2);
        let humps = humps.filter(|two| two[0].is_ascii_lowercase() && two[1].is_ascii_uppercase());
        inner.bytes().all(|byte| byte.is_ascii_alphanumeric()) && humps.count() > 0
    };
    let names = ["subjectAltName"];
    let name = said.split_whitespace().find(|word| is_name(word) && !names.contains(word));
    assert_eq!(name, None, "{said}");
    assert!(!said.contains(['{', '[']), "{said}");
    said
}

#[test]
fn a_server_that_is_refused_is_told_why_in_plain_words() {
    let taken = "RSA of 2048 to 8192 bits, EC on P-256 or P-384, and Ed25519 are";
    let by = |key: &str| format!("was signed by a key that is not taken here, {key}: {taken}");
    let weak = "too weak to be trusted";
    for (shown, root, name, words) in [
        (
            pem!("version-1"),
            pem!("version-1"),
            "localhost",
            "is of version 1, which has no place for names: with an -extfile openssl makes one of \
             version 3"
                .to_owned(),
        ),
        (
            pem!("dns-address"),
            pem!("dns-address"),
            "127.0.0.1",
            "is not for the address 127.0.0.1, but for a host of that name: an address is named \
             by IP:127.0.0.1, not by DNS:127.0.0.1"
                .into(),
        ),
        (
            pem!("dns-address"),
            pem!("dns-address"),
            "[::1]",
            "is not for the address ::1, but for a host of that name: an address is named by \
             IP:::1, not by DNS:::1"
                .into(),
        ),
        (
            pem!("dns-address"),
            pem!("dns-address"),
            "127.0.0.2",
            "is not for 127.0.0.2, but for 127.0.0.1, ::1".into(),
        ),
        (
            pem!("no-names"),
            pem!("no-names"),
            "localhost",
            "is not for localhost, nor for any name: its subject (CN) does not count".into(),
        ),
        (
            pem!("critical"),
            pem!("critical"),
            "localhost",
            "has an extension that is marked critical and not known here".into(),
        ),
        (
            pem!("sha1"),
            pem!("sha1"),
            "localhost",
            format!("is signed by SHA-1 with RSA, which is {weak}"),
        ),
        (
            pem!("md5"),
            pem!("md5"),
            "localhost",
            format!("is signed by MD5 with RSA, which is {weak}"),
        ),
        (pem!("by-rsa-1024"), pem!("by-rsa-1024-root"), "localhost", by("RSA of 1024 bits")),
        (pem!("by-p521"), pem!("by-p521-root"), "localhost", by("EC on P-521")),
        (pem!("by-secp256k1"), pem!("by-secp256k1-root"), "localhost", by("EC on secp256k1")),
        (
            pem!("by-p521-sha512"),
            pem!("by-p521-sha512-root"),
            "localhost",
            "is signed by SHA-512 with ECDSA, which is not taken here".into(),
        ),
        (
            pem!("by-ed448"),
            pem!("by-ed448-root"),
            "localhost",
            "is signed by Ed448, which is not taken here".into(),
        ),
    ] {
        let said = said_of(&showing(shown), root, name);
        assert_eq!(said, format!("the peer's certificate {words}"));
    }
}

#[test]
fn where_nobody_has_looked_nothing_is_claimed() {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(with::der(pem!("by-rsa-1024-root"))).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let mut reactor = Reactor::new().unwrap();
    let both = (&showing(pem!("by-rsa-1024")), &tls::Client::from(Arc::new(config)));
    let pair = memory::pair(&mut reactor);
    let shaken = shake_over(&mut reactor, &mut (), both, "localhost", pair);
    assert_eq!(
        readable(shaken.client.unwrap().unwrap_err().to_string()),
        "the peer's certificate has a signature that is wrong, or by a key of a kind that is not \
         taken here"
    );
}

#[test]
fn what_nobody_vouches_for_is_told_so_whatever_it_is_signed_by() {
    let untrusted = |pem| said_of(&showing(pem), &authority().pem, "localhost");
    let self_signed =
        "the peer's certificate is self-signed, and not among those that are trusted here";
    assert_eq!(untrusted(pem!("sha1")), self_signed);
    assert_eq!(untrusted(pem!("md5")), self_signed);
    let unknown = "the peer's certificate was not issued by anybody who is trusted here: the \
                   authority is unknown";
    assert_eq!(untrusted(pem!("by-rsa-1024")), unknown);
    assert_eq!(untrusted(pem!("by-p521")), unknown);
}

#[test]
fn uses_and_names_that_an_authority_forbids_are_told_apart() {
    let said = |identity: &Identity, root: &str| {
        said_of(&showing(&(identity.chain.clone() + &identity.key)), root, "localhost")
    };
    let for_clients = authority().issue_with(&["localhost"], |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    assert_eq!(
        said(&for_clients, &authority().pem),
        "the peer's certificate is for another purpose: client authentication, not server \
         authentication"
    );
    let for_code = authority().issue_with(&["localhost"], |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    });
    assert_eq!(
        said(&for_code, &authority().pem),
        "the peer's certificate is for another purpose: 1.3.6.1.5.5.7.3.3, not server \
         authentication"
    );
    let narrow = with::Authority::with("a narrow one", |params| {
        let permitted_subtrees = vec![GeneralSubtree::DnsName("example.org".into())];
        params.name_constraints =
            Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
    });
    assert_eq!(
        said(&narrow.issue(&["localhost"]), &narrow.pem),
        "the peer's certificate is for a name that its authority may not certify"
    );
    // One that is no authority has issued it.
    let odd = with::Authority::with("a server", |params| params.is_ca = rcgen::IsCa::ExplicitNoCa);
    let issued = odd.issue(&["localhost"]);
    let both = Identity { chain: issued.chain.clone() + &odd.pem, key: issued.key };
    assert!(said(&both, &authority().pem).starts_with("the peer's certificate was"));
}

#[test]
fn a_client_that_is_refused_is_told_why_just_so() {
    let said = |client: &tls::Client, roots: &str| {
        let mut reactor = Reactor::new().unwrap();
        let server = server().require_clients(roots).unwrap();
        let pair = memory::pair(&mut reactor);
        let shaken = shake_over(&mut reactor, &mut (), (&server, client), "localhost", pair);
        readable(shaken.server.unwrap().unwrap_err().to_string())
    };
    let showing =
        |identity: &Identity| client().certificate(&identity.chain, &identity.key).unwrap();
    assert_eq!(
        said(&showing(&with::self_signed(&["ann"])), &authority().pem),
        "the peer's certificate is self-signed, and not among those that are trusted here"
    );
    let stranger = with::Authority::new("somebody else").issue(&["ann"]);
    assert_eq!(
        said(&showing(&stranger), &authority().pem),
        "the peer's certificate was not issued by anybody who is trusted here: the authority is \
         unknown"
    );
    let by_weak = pem!("by-rsa-1024");
    let by_weak = Identity { chain: by_weak.into(), key: by_weak.into() };
    let words = said(&showing(&by_weak), pem!("by-rsa-1024-root"));
    assert!(words.starts_with("the peer's certificate was signed by a key that is not"), "{words}");
    let old = pem!("sha1");
    let old = Identity { chain: old.into(), key: old.into() };
    let words = said(&showing(&old), old.chain.as_str());
    assert!(words.starts_with("the peer's certificate is signed by SHA-1 with RSA"), "{words}");
}

/// Why this is no server's.
#[track_caller]
fn refused(chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> String {
    let error = tls::Server::new(chain, key).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    readable(error.to_string())
}

#[test]
fn a_key_that_is_not_taken_is_called_by_its_kind() {
    let chain = &localhost().chain;
    for (key, kind) in [
        (pem!("key-p521"), "EC on P-521"),
        (pem!("key-p521-sec1"), "EC on P-521"),
        (pem!("key-secp256k1"), "EC on secp256k1"),
        (pem!("key-explicit"), "EC on a curve without a name"),
        (pem!("key-ed448"), "Ed448"),
        (pem!("key-x25519"), "X25519"),
        (pem!("key-rsa-pss"), "RSA-PSS"),
        (pem!("key-rsa-1024"), "RSA of 1024 bits"),
        (pem!("key-rsa-1024-pkcs1"), "RSA of 1024 bits"),
        (pem!("key-rsa-8192"), "RSA of 8192 bits"),
        (pem!("key-dsa-pkcs8"), "DSA"),
        (pem!("rsa-1024"), "RSA of 1024 bits"),
    ] {
        let words = format!(
            "the private key is of a kind that is not taken here, {kind}: RSA of 2048 to 4096 \
             bits, EC on P-256 or P-384, and Ed25519 are"
        );
        assert_eq!(refused(chain, key), words);
    }
    assert!(refused(chain, pem!("key-encrypted")).contains("it is encrypted"));
    let section = |label, body| format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
    let damaged = section("PRIVATE KEY", "MAMCAQA=");
    assert!(refused(chain, damaged).starts_with("the private key cannot be read: it is damaged"));
    let dsa = section("DSA PRIVATE KEY", "MAMCAQA=");
    assert!(refused(chain, dsa).ends_with("is it the wrong file? (DSA PRIVATE KEY)"));
}

#[test]
fn a_certificate_of_our_own_is_refused_in_the_words_for_a_peers() {
    let own = |pem: &str| refused(pem, pem);
    assert!(own(pem!("version-1")).starts_with("the certificate is of version 1"));
    assert!(own(pem!("critical")).starts_with("the certificate has an extension that is marked"));
    let damaged = "-----BEGIN CERTIFICATE-----\nMAMCAQA=\n-----END CERTIFICATE-----\n";
    assert_eq!(refused(damaged, &localhost().key), "the certificate cannot be read");
    let roots = readable(tls::Client::with_roots(damaged).unwrap_err().to_string());
    assert_eq!(roots, "a root cannot be read");
}

#[test]
fn what_an_editor_does_to_a_text_is_no_mistake() {
    let Identity { chain, key } = localhost();
    let utf16 = |text: &str, write: fn(u16) -> [u8; 2]| -> Vec<u8> {
        format!("\u{feff}{text}").encode_utf16().flat_map(write).collect()
    };
    let indented = |text: &str| format!("cert: |\n    {}", text.replace('\n', "\n    "));
    type Change = Box<dyn Fn(&str) -> Vec<u8>>;
    let with: [(&str, Change); 8] = [
        ("nothing", Box::new(|text| text.into())),
        ("a BOM", Box::new(|text| format!("\u{feff}{text}").into())),
        ("UTF-16", Box::new(move |text| utf16(text, u16::to_le_bytes))),
        ("UTF-16, the other way", Box::new(move |text| utf16(text, u16::to_be_bytes))),
        ("CRLF", Box::new(|text| text.replace('\n', "\r\n").into())),
        ("blanks behind", Box::new(|text| text.replace('\n', " \t\n").into())),
        ("indented lines", Box::new(move |text| indented(text).into())),
        (
            "all",
            Box::new(move |text| utf16(&indented(text).replace('\n', "\r\n"), u16::to_le_bytes)),
        ),
    ];
    for (what, change) in &with {
        let made = tls::Server::new(change(chain), change(key));
        assert!(made.is_ok(), "{what}: {made:?}");
        assert!(tls::Client::with_roots(change(&authority().pem)).is_ok(), "{what}");
    }
}

#[test]
fn what_somebody_did_to_a_text_is_told() {
    let Identity { chain, key } = localhost();
    let joined = chain.replace('\n', " ");
    let spelled = chain.replace('\n', "\\n");
    let der = with::der(chain).to_vec();
    let p12 = [&[0x30, 0x82, 9, 0, 2, 1, 3][..], &[7; 90]].concat();
    let lost = chain.replacen("\nM", "\nM*", 1);
    let nearly = chain.replace("-----BEGIN CERTIFICATE-----", "-----BEGIN CERTIFICATE----");
    for (chain, because) in [
        (joined.as_bytes(), "can be read from the PEM: its lines are joined"),
        (joined.replace(' ', "").as_bytes(), "is in the PEM"),
        (spelled.as_bytes(), "can be read from the PEM: its line breaks are spelled \\n"),
        (&der, "is in the PEM: it is DER; openssl"),
        (&p12, "is in the PEM: it is PKCS #12; `openssl pkcs12"),
        (lost.as_bytes(), "can be read from the PEM: between its BEGIN and END is no base64"),
        (nearly.as_bytes(), "can be read from the PEM: a line is no BEGIN line, but nearly: ----"),
        (b"\xef\xbb\xbf", "is in the PEM"),
        (key.as_bytes(), "is in the PEM, only something else: is it the wrong file? (PRIVATE KEY)"),
    ] {
        let said = refused(chain, key);
        assert!(said.starts_with(&format!("no certificate {because}")), "{said}, not {because}");
    }
    let said = refused(chain, chain);
    assert!(said.ends_with("only something else: is it the wrong file? (CERTIFICATE)"), "{said}");
}
