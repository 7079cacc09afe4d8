//! MQTT 3.1.1: packets from bytes, and bytes of packets.
//!
//! Knows the format, and no socket, session or topic tree. By hand: what a client may send is ten
//! packets of a few fields. A crate that decodes them (mqtt-protocol-core) copies each one first, and
//! lets pass what the standard forbids: U+0000, ids of 0, wildcards in a topic or in a wrong place.
//!
//! ```text
//!   kind and flags (1 byte) | length of the rest (1 to 4 bytes, 7 bits each) | the rest
//! ```

/// The longest packet that is read, without its head. 1 MiB; MQTT would allow 256.
pub const PACKET_BYTES_MAX: usize = 1024 * 1024;
/// Levels of a topic, as `a/b/c` has three. A tree of topics is as deep.
pub const LEVELS_MAX: usize = 64;

pub const PINGRESP: [u8; 2] = [0xd0, 0];
pub const PUBACK: u8 = 0x40;
pub const PUBREC: u8 = 0x50;
pub const PUBREL: u8 = 0x62;
pub const PUBCOMP: u8 = 0x70;

/// How surely a message is delivered: 0 at most once, 1 at least once, 2 exactly once.
pub type Qos = u8;

/// Why the bytes are no packets. There is no packet to say so: the connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    Connect(Connect<'a>),
    /// A CONNECT of another version of MQTT.
    OtherVersion,
    Publish(Publish<'a>),
    /// PUBACK, PUBREC, PUBREL or PUBCOMP, and the id of the packet that it is about.
    Ack(u8, u16),
    Subscribe(u16, Vec<(&'a str, Qos)>),
    Unsubscribe(u16, Vec<&'a str>),
    Ping,
    Disconnect,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect<'a> {
    pub client: &'a str,
    /// True if the session ends with the connection.
    pub clean: bool,
    pub keep_alive_s: u16,
    pub will: Option<Publish<'a>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    pub topic: &'a str,
    pub payload: &'a [u8],
    pub qos: Qos,
    pub retain: bool,
    /// True if it was sent before.
    pub dup: bool,
    /// 0 where the QoS is.
    pub id: u16,
}

type Decoded<T> = Result<T, Malformed>;

/// The first packet of the input and its length in bytes, if all of it is there.
pub fn next(input: &[u8]) -> Decoded<Option<(Packet<'_>, usize)>> {
    let (mut length, mut head) = (0, 1);
    loop {
        let Some(byte) = input.get(head) else { return Ok(None) };
        length |= usize::from(byte & 0x7f) << (7 * (head - 1));
        head += 1;
        if byte & 0x80 == 0 {
            break;
        } else if head == 5 {
            return Err(Malformed("a length of more than 4 bytes"));
        }
    }
    if length > PACKET_BYTES_MAX {
        return Err(Malformed("a packet is longer than 1 MiB"));
    }
    let Some(body) = input.get(head..head + length) else { return Ok(None) };
    Ok(Some((packet(input[0], Fields(body))?, head + length)))
}

fn packet(first: u8, mut fields: Fields<'_>) -> Decoded<Packet<'_>> {
    let packet = match first {
        0x10 => connect(&mut fields)?,
        0x30..=0x3f => return publish(first, fields),
        PUBACK | PUBREC | PUBREL | PUBCOMP => Packet::Ack(first, fields.id()?),
        0x82 => Packet::Subscribe(
            fields.id()?,
            fields.all(|fields| Ok((fields.filter()?, fields.qos()?)))?,
        ),
        0xa2 => Packet::Unsubscribe(fields.id()?, fields.all(Fields::filter)?),
        0xc0 => Packet::Ping,
        0xe0 => Packet::Disconnect,
        _ => return Err(Malformed("no packet that a client may send")),
    };
    if fields.0.is_empty() { Ok(packet) } else { Err(Malformed("bytes behind the last field")) }
}

fn connect<'a>(fields: &mut Fields<'a>) -> Decoded<Packet<'a>> {
    match (fields.bytes()?, fields.byte()?) {
        (b"MQTT", 4) => {}
        (b"MQTT" | b"MQIsdp", _) => {
            fields.0 = &[];
            return Ok(Packet::OtherVersion);
        }
        _ => return Err(Malformed("no MQTT")),
    }
    let flags = fields.byte()?;
    let (has_will, qos, retain) = (flags & 4 != 0, flags >> 3 & 3, flags & 0x20 != 0);
    let has_name = flags & 0x80 != 0;
    let (contradicts, is_half) = (!has_will && (qos > 0 || retain), !has_name && flags & 0x40 != 0);
    if flags & 1 != 0 || qos > 2 || contradicts || is_half {
        return Err(Malformed("flags of a CONNECT that contradict each other"));
    }
    let (keep_alive_s, client) = (fields.number()?, fields.text()?);
    let mut will = None;
    if has_will {
        let (topic, payload) = (fields.topic()?, fields.bytes()?);
        will = Some(Publish { topic, payload, qos, retain, dup: false, id: 0 });
    }
    if has_name {
        fields.text()?;
    }
    if flags & 0x40 != 0 {
        fields.bytes()?;
    }
    Ok(Packet::Connect(Connect { client, clean: flags & 2 != 0, keep_alive_s, will }))
}

fn publish(first: u8, mut fields: Fields<'_>) -> Decoded<Packet<'_>> {
    let (qos, retain, dup) = (first >> 1 & 3, first & 1 != 0, first & 8 != 0);
    if qos > 2 || (dup && qos == 0) {
        return Err(Malformed("flags of a PUBLISH that contradict each other"));
    }
    let topic = fields.topic()?;
    let id = if qos > 0 { fields.id()? } else { 0 };
    Ok(Packet::Publish(Publish { topic, payload: fields.0, qos, retain, dup, id }))
}

/// The part of a packet that was not looked at yet.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Decoded<&'a [u8]> {
        let (taken, rest) =
            self.0.split_at_checked(count).ok_or(Malformed("a field is not all there"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Decoded<u8> {
        Ok(self.take(1)?[0])
    }

    fn number(&mut self) -> Decoded<u16> {
        Ok(u16::from_be_bytes([self.byte()?, self.byte()?]))
    }

    fn id(&mut self) -> Decoded<u16> {
        Some(self.number()?).filter(|id| *id > 0).ok_or(Malformed("a packet id of 0"))
    }

    fn qos(&mut self) -> Decoded<Qos> {
        Some(self.byte()?).filter(|qos| *qos <= 2).ok_or(Malformed("a QoS above 2"))
    }

    fn bytes(&mut self) -> Decoded<&'a [u8]> {
        let count = self.number()?;
        self.take(count.into())
    }

    fn text(&mut self) -> Decoded<&'a str> {
        let text = str::from_utf8(self.bytes()?).map_err(|_| Malformed("a text is not UTF-8"))?;
        Some(text).filter(|text| !text.contains('\0')).ok_or(Malformed("a text with U+0000"))
    }

    /// What a message is published to.
    fn topic(&mut self) -> Decoded<&'a str> {
        let topic = self.text()?;
        if topic.is_empty() || topic.contains(['+', '#']) {
            return Err(Malformed("a topic that is empty, or has a wildcard"));
        }
        Some(topic).filter(|topic| is_shallow(topic)).ok_or(Malformed("a topic of over 64 levels"))
    }

    /// What is subscribed to: a level may be `+`, the last one may be `#`.
    fn filter(&mut self) -> Decoded<&'a str> {
        let filter = self.text()?;
        let is_fine = |level: &str| level.len() == 1 || !level.contains(['+', '#']);
        let head = filter.strip_suffix('#').unwrap_or(filter);
        if filter.is_empty() || head.contains('#') || !filter.split('/').all(is_fine) {
            return Err(Malformed("a filter that is empty, or has a wildcard in a wrong place"));
        }
        Ok(filter)
    }

    /// The rest, as one or more of the same kind.
    fn all<T>(&mut self, mut one: impl FnMut(&mut Self) -> Decoded<T>) -> Decoded<Vec<T>> {
        let mut all = vec![one(self)?];
        while !self.0.is_empty() {
            all.push(one(self)?);
        }
        Ok(all)
    }
}

/// Returns true if it has not more levels than the tree may have.
pub fn is_shallow(topic: &str) -> bool {
    topic.bytes().filter(|byte| *byte == b'/').count() < LEVELS_MAX
}

/// CONNACK: whether there is a session from before, and 0, or the reason of a refusal.
pub fn connack(present: bool, code: u8) -> [u8; 4] {
    [0x20, 2, present.into(), code]
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP.
pub fn ack(kind: u8, id: u16) -> [u8; 4] {
    let [high, low] = id.to_be_bytes();
    [kind, 2, high, low]
}

/// SUBACK, with a code for each filter; UNSUBACK, with none.
pub fn suback(id: u16, codes: &[u8]) -> Vec<u8> {
    let mut out = vec![if codes.is_empty() { 0xb0 } else { 0x90 }];
    push_length(&mut out, 2 + codes.len());
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(codes);
    out
}

/// Writes a PUBLISH. Returns where its packet id is, which is there if the QoS is not 0.
pub fn push_publish(out: &mut Vec<u8>, publish: &Publish<'_>) -> usize {
    let Publish { topic, payload, qos, retain, dup, id } = *publish;
    out.push(0x30 | u8::from(dup) << 3 | qos << 1 | u8::from(retain));
    push_length(out, 2 + topic.len() + if qos > 0 { 2 } else { 0 } + payload.len());
    out.extend_from_slice(&(topic.len() as u16).to_be_bytes());
    out.extend_from_slice(topic.as_bytes());
    let id_at = out.len();
    if qos > 0 {
        out.extend_from_slice(&id.to_be_bytes());
    }
    out.extend_from_slice(payload);
    id_at
}

fn push_length(out: &mut Vec<u8>, mut length: usize) {
    while length > 0x7f {
        out.push(0x80 | (length & 0x7f) as u8);
        length >>= 7;
    }
    out.push(length as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All packets of a stream, as text, and why it ends.
    fn all(mut input: &[u8]) -> (Vec<String>, Option<Malformed>) {
        let mut all = Vec::new();
        loop {
            match next(input) {
                Ok(None) => return (all, None),
                Ok(Some((packet, bytes))) => {
                    all.push(format!("{packet:?}"));
                    input = &input[bytes..];
                }
                Err(malformed) => return (all, Some(malformed)),
            }
        }
    }

    fn why(input: &[u8]) -> &'static str {
        next(input).expect_err("it is malformed").0
    }

    const CONNECT: &[u8] =
        b"\x10\x23\0\x04MQTT\x04\xee\0\x0a\0\x02id\0\x03w/t\0\x04gone\0\x04user\0\x02pw";

    #[test]
    fn packets_are_the_same_wherever_the_stream_is_cut() {
        let mut stream = CONNECT.to_vec();
        let publish =
            Publish { topic: "a/b", payload: &[7; 200], qos: 2, retain: true, dup: true, id: 9 };
        push_publish(&mut stream, &publish);
        stream.extend_from_slice(b"\x40\x02\0\x01\x50\x02\0\x02\x62\x02\0\x03\x70\x02\0\x04");
        stream.extend_from_slice(b"\x82\x0c\0\x05\0\x01#\x00\0\x03a/+\x02");
        stream.extend_from_slice(b"\xa2\x05\0\x06\0\x01#\xc0\0\xe0\0");
        let (whole, wrong) = all(&stream);
        assert_eq!((whole.len(), wrong), (10, None), "{whole:#?}");
        for cut in 0..stream.len() {
            let (before, wrong) = all(&stream[..cut]);
            assert_eq!(wrong, None, "cut at {cut}");
            assert_eq!(before, whole[..before.len()]);
        }
    }

    #[test]
    fn a_connect_says_who_comes_and_what_is_sent_when_it_is_lost() {
        let will =
            Publish { topic: "w/t", payload: b"gone", qos: 1, retain: true, dup: false, id: 0 };
        let connect = Connect { client: "id", clean: true, keep_alive_s: 10, will: Some(will) };
        assert_eq!(next(CONNECT), Ok(Some((Packet::Connect(connect), CONNECT.len()))));
        for level in [3, 5, 0x84] {
            let mut other = CONNECT.to_vec();
            other[8] = level;
            assert_eq!(next(&other), Ok(Some((Packet::OtherVersion, CONNECT.len()))));
        }
    }

    #[test]
    fn a_packet_is_what_it_was_written_as() {
        for length in [0, 1, 120, 121, 122, 127, 128, 16_376, 16_377, 16_384, 300_000] {
            for qos in 0..3 {
                let id = if qos > 0 { 513 } else { 0 };
                let payload = vec![1; length];
                let publish =
                    Publish { topic: "t", payload: &payload, qos, retain: false, dup: false, id };
                let mut bytes = Vec::new();
                push_publish(&mut bytes, &publish);
                assert_eq!(next(&bytes), Ok(Some((Packet::Publish(publish), bytes.len()))));
            }
        }
    }

    #[test]
    fn what_is_no_packet_is_refused_with_the_reason() {
        assert_eq!(why(b"\x30\xff\xff\xff\xff\x01"), "a length of more than 4 bytes");
        assert_eq!(why(b"\x30\x80\x80\x80\x80"), "a length of more than 4 bytes");
        assert_eq!(next(b"\x30\x80\x80\x80"), Ok(None));
        assert_eq!(why(b"\x30\xff\xff\xff\x7f"), "a packet is longer than 1 MiB");
        assert_eq!(why(b"\x30\x81\x80\x40"), "a packet is longer than 1 MiB");
        assert_eq!(next(b"\x30\x80\x80\x40"), Ok(None), "as long as a packet may be");
        // A length in more bytes than it needs is one.
        assert_eq!(next(b"\xc0\x80\x80\x00"), Ok(Some((Packet::Ping, 4))));
        for kind in [0x00, 0x11, 0x20, 0x41, 0x60, 0x80, 0x90, 0xa0, 0xb0, 0xc1, 0xd0, 0xe1, 0xf0] {
            assert_eq!(why(&[kind, 2, 0, 1]), "no packet that a client may send", "{kind:x}");
        }
        assert_eq!(why(b"\xc0\x01\0"), "bytes behind the last field");
        assert_eq!(why(b"\x40\x03\0\x01\0"), "bytes behind the last field");
        assert_eq!(why(b"\x40\x02\0\0"), "a packet id of 0");
        assert_eq!(why(b"\x32\x05\0\x01t\0\0"), "a packet id of 0");
        assert_eq!(why(b"\x36\x05\0\x01t\0\x01"), "flags of a PUBLISH that contradict each other");
        assert_eq!(why(b"\x38\x03\0\x01t"), "flags of a PUBLISH that contradict each other");
        assert_eq!(why(b"\x30\x03\0\x02t"), "a field is not all there");
        assert_eq!(why(b"\x30\x04\0\x02\xff\xff"), "a text is not UTF-8");
        // A surrogate, and the mark that begins some files, which is a text like any other.
        assert_eq!(why(b"\x30\x05\0\x03\xed\xa0\x80"), "a text is not UTF-8");
        assert!(next(b"\x30\x05\0\x03\xef\xbb\xbf").is_ok());
        assert_eq!(why(b"\x30\x04\0\x02a\0"), "a text with U+0000");
        assert_eq!(why(b"\x82\x02\0\x01"), "a field is not all there", "no filter");
        assert_eq!(why(b"\x82\x06\0\x01\0\x01a\x03"), "a QoS above 2");
        for (at, byte) in [(9, 0xef), (9, 0xfe), (9, 0xea), (9, 0x6e), (9, 0xf6 & !0x80)] {
            let mut bytes = CONNECT.to_vec();
            bytes[at] = byte;
            assert!(why(&bytes).contains("contradict"), "{byte:x}");
        }
        assert_eq!(why(b"\x10\x07\0\x04HTTP\x04"), "no MQTT");
    }

    #[test]
    fn topics_and_filters_have_wildcards_where_they_may() {
        let topic = |text: &str| {
            let bytes = [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat();
            [Fields(&bytes).topic().is_ok(), Fields(&bytes).filter().is_ok()]
        };
        for fine in ["a", "/", "//", "a b", "$SYS/x", "ü/€", "/a", "a/"] {
            assert_eq!(topic(fine), [true, true], "{fine:?}");
        }
        for filter in ["#", "+", "a/#", "+/+/#", "/#", "/+", "+/a", "//+"] {
            assert_eq!(topic(filter), [false, true], "{filter:?}");
        }
        for wrong in ["", "a#", "#/a", "a/#/b", "a+", "+a", "a/b+/c", "##", "#/#", "++", "+#"] {
            assert_eq!(topic(wrong), [false, false], "{wrong:?}");
        }
        let deep = "/".repeat(LEVELS_MAX - 1);
        assert_eq!(topic(&deep), [true, true]);
        assert_eq!(
            topic(&(deep.clone() + "/")),
            [false, true],
            "the broker refuses it by a SUBACK"
        );
        assert!(is_shallow(&deep) && !is_shallow(&(deep + "/")));
    }
}
