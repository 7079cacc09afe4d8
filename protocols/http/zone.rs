//! Zones in URLs: `http://[fe80::1%25eth0]/`, as RFC 6874 writes them.
//!
//! Knows text. The parser of URLs takes no zone, so it is taken out before; and only the
//! kernel gets it (section 4): the interface has that name on this host only.
//!
//! # Read next
//! `../../net/address.rs`: how it is used.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use super::percent::decoded;

/// A URL without its host's zone, and the zone. The `%` of `%25` may stand alone, as people write
/// it. Where there is none, and where it is a bad one, the URL stays as it is.
pub fn take_zone(url: &str) -> (Cow<'_, str>, Option<String>) {
    match find(url) {
        Some((start, end, zone)) => {
            (format!("{}{}", &url[..start], &url[end..]).into(), Some(zone))
        }
        None => (url.into(), None),
    }
}

/// Where the zone is, its `%` included, and its name.
fn find(url: &str) -> Option<(usize, usize, String)> {
    let authority = url.find("://")? + 3;
    let length = url[authority..].find(['/', '?', '#']).unwrap_or(url.len() - authority);
    let place = &url[authority..authority + length];
    let host = authority + place.rfind('@').map_or(0, |at| at + 1);
    let (ip, zone) = url[host..authority + length].strip_prefix('[')?.split_once('%')?;
    let zone = &zone[..zone.find(']')?];
    ip.parse::<Ipv6Addr>().ok()?;
    let name = zone.strip_prefix("25").filter(|name| !name.is_empty()).unwrap_or(zone);
    let name = String::from_utf8(decoded(name).collect()).ok()?;
    let is_one = !name.is_empty() && !name.contains(|char: char| char.is_control() || char == ']');
    let start = host + 1 + ip.len();
    is_one.then_some((start, start + 1 + zone.len(), name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zone_is_taken_out() {
        for (url, bare, zone) in [
            ("http://[fe80::1%25lo]:80/a?b", "http://[fe80::1]:80/a?b", "lo"),
            ("http://[fe80::1%lo]", "http://[fe80::1]", "lo"),
            ("ws://u:p@[::1%251]/", "ws://u:p@[::1]/", "1"),
            ("http://[fe80::1%25]/", "http://[fe80::1]/", "25"),
            ("http://[fe80::1%2525]/", "http://[fe80::1]/", "25"),
            ("http://[fe80::1%25en%2d0.12]?[", "http://[fe80::1]?[", "en-0.12"),
        ] {
            assert_eq!(take_zone(url), (bare.into(), Some(zone.to_owned())), "{url}");
        }
    }

    #[test]
    fn all_others_stay_as_they_are() {
        for url in [
            "",
            "http://[fe80::1]/%25lo",
            "http://a/[fe80::1%25lo]",
            "http://a?[fe80::1%25lo]",
            "http://a#[fe80::1%25lo]",
            "http://[fe80::1%]/",
            "http://[fe80::1%25lo/",
            "http://[name%25lo]/",
            "http://[fe80::1%25%ff]/",
            "http://[fe80::1%25%00]/",
            "http://fe80::1%25lo/",
            "[fe80::1%25lo]:80",
        ] {
            assert_eq!(take_zone(url), (url.into(), None), "{url}");
        }
    }
}
