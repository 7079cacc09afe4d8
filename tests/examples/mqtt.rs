//! The example `mqtt`: with mosquitto's clients, paho, mqtt.js and curl; packet by packet; and with
//! clients that mean no good.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::ending::signal;
use rustix::process::Signal;
use support::Rng;
use support::ceiling;
use support::clients::skip_without;
use support::clients::{CURL_MQTT, MOSQUITTO, MOSQUITTO_PUB, MOSQUITTO_SUB, MQTT_JS, PAHO};
use support::process::{Client, Process, example, output};

const LIMIT: Duration = Duration::from_secs(120);
const PINGREQ: [u8; 2] = [0xc0, 0];
const DISCONNECT: [u8; 2] = [0xe0, 0];

/// A client that sends packets and reads packets, whatever they are.
struct Talk(Client);

impl Talk {
    /// A client that has connected, with a name; an empty one is for a session that ends with it.
    fn to(addr: SocketAddr, name: &str) -> Talk {
        let mut talk = Talk(Client::connect(addr));
        assert_eq!(talk.connect(&Hello { name, ..HELLO })[2..], [0]);
        talk
    }

    /// Sends a CONNECT, and returns what the CONNACK says: its kind, session present, code.
    fn connect(&mut self, hello: &Hello<'_>) -> [u8; 3] {
        self.0.send(hello.packet());
        let (kind, body) = self.packet();
        [kind, body[0], body[1]]
    }

    fn packet(&mut self) -> (u8, Vec<u8>) {
        self.try_packet().expect("a packet")
    }

    fn try_packet(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut byte = [0];
        let mut next = || self.0.0.read_exact(&mut byte).is_ok().then_some(byte[0]);
        let (kind, mut length, mut shift) = (next()?, 0, 0);
        loop {
            let byte = next()?;
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.0.read_exact(&mut body).ok()?;
        Some((kind, body))
    }

    /// Subscribes, and returns the codes of the SUBACK.
    fn subscribe(&mut self, filters: &[(&str, u8)]) -> Vec<u8> {
        self.0.send(subscribe(filters));
        let (kind, body) = self.packet();
        assert_eq!((kind, &body[..2]), (0x90, &[0, 1][..]));
        body[2..].to_vec()
    }

    /// Sends a message, and waits until it is acknowledged as its QoS wants.
    fn publish(&mut self, flags: u8, id: u16, topic: &str, payload: impl AsRef<[u8]>) {
        self.0.send(publish(flags, id, topic, payload));
        let [high, low] = id.to_be_bytes();
        match flags >> 1 & 3 {
            0 => self.ping(),
            1 => assert_eq!(self.packet(), (0x40, vec![high, low])),
            _ => {
                assert_eq!(self.packet(), (0x50, vec![high, low]));
                self.0.send([0x62, 2, high, low]);
                assert_eq!(self.packet(), (0x70, vec![high, low]));
            }
        }
    }

    /// Waits until all that it has sent is done.
    fn ping(&mut self) {
        self.0.send(PINGREQ);
        assert_eq!(self.packet(), (0xd0, vec![]));
    }

    /// The next packet has to be a message: its flags, id, topic and payload.
    fn message(&mut self) -> (u8, u16, String, Vec<u8>) {
        let (kind, body) = self.packet();
        assert_eq!(kind >> 4, 3, "{kind:x} {body:?}");
        let (topic, rest) = body[2..].split_at(usize::from(u16::from_be_bytes([body[0], body[1]])));
        let (id, payload) = match kind >> 1 & 3 {
            0 => (0, rest),
            _ => (u16::from_be_bytes([rest[0], rest[1]]), &rest[2..]),
        };
        (kind & 15, id, String::from_utf8(topic.to_vec()).expect("a topic"), payload.to_vec())
    }

    /// The next message, as text, with its flags.
    fn hears(&mut self) -> (u8, String) {
        let (flags, _, topic, payload) = self.message();
        (flags, format!("{topic} {}", String::from_utf8(payload).expect("text")))
    }

    /// The messages that have come, each acknowledged, in an order of their own. What acknowledges
    /// its own is answered, too.
    fn collect(&mut self) -> Vec<(u8, String, Vec<u8>)> {
        let mut all = Vec::new();
        self.0.send(PINGREQ);
        loop {
            let (kind, body) = self.packet();
            match kind {
                0xd0 => break,
                0x40 | 0x70 | 0x90 | 0xb0 => {}
                0x50 => self.0.send([0x62, 2, body[0], body[1]]),
                0x62 => self.0.send([0x70, 2, body[0], body[1]]),
                _ => {
                    let (topic, rest) = body[2..].split_at(body[1].into());
                    let topic = String::from_utf8(topic.to_vec()).expect("a topic");
                    let payload = if kind & 6 == 0 { rest } else { &rest[2..] };
                    all.push((kind & 7, topic, payload.to_vec()));
                    match kind & 6 {
                        0 => {}
                        2 => self.0.send([0x40, 2, rest[0], rest[1]]),
                        _ => self.0.send([0x50, 2, rest[0], rest[1]]),
                    }
                }
            }
        }
        all.sort();
        all
    }

    /// All that comes until the server closes.
    fn rest(&mut self) -> Vec<(u8, Vec<u8>)> {
        std::iter::from_fn(|| self.try_packet()).collect()
    }
}

/// A CONNECT.
#[derive(Clone, Copy)]
struct Hello<'a> {
    name: &'a str,
    keeps: bool,
    keep_alive_s: u16,
    /// Its flags in the CONNECT, its topic and text.
    will: Option<(u8, &'a str, &'a str)>,
}

const HELLO: Hello<'static> = Hello { name: "", keeps: false, keep_alive_s: 60, will: None };

impl Hello<'_> {
    fn packet(&self) -> Vec<u8> {
        let flags = if self.keeps { 0 } else { 2 } | self.will.map_or(0, |(flags, ..)| flags | 4);
        let mut body = [&text("MQTT")[..], &[4, flags]].concat();
        body.extend(self.keep_alive_s.to_be_bytes());
        body.extend(text(self.name));
        if let Some((_, topic, payload)) = self.will {
            body.extend([text(topic), text(payload)].concat());
        }
        packet(0x10, &body)
    }
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let (mut bytes, mut length) = (vec![first], body.len());
    while length > 127 {
        bytes.push((length & 127 | 128) as u8);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend(body);
    bytes
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat()
}

fn subscribe(filters: &[(&str, u8)]) -> Vec<u8> {
    let mut body = vec![0, 1];
    for (filter, qos) in filters {
        body.extend(text(filter));
        body.push(*qos);
    }
    packet(0x82, &body)
}

fn publish(flags: u8, id: u16, topic: &str, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let mut body = text(topic);
    if flags & 6 != 0 {
        body.extend(id.to_be_bytes());
    }
    body.extend(payload.as_ref());
    packet(0x30 | flags, &body)
}

fn port(addr: SocketAddr) -> String {
    addr.port().to_string()
}

/// Publishes by mosquitto_pub.
fn tell(addr: SocketAddr, args: &[&str]) {
    let output = MOSQUITTO_PUB.command().args(["-p", &port(addr)]).args(args).output();
    let output = output.expect("it runs");
    assert!(output.status.success(), "{output:?}");
}

/// What mosquitto_sub prints, which is there when its topic's retained message is.
fn listen(addr: SocketAddr, args: &[&str]) -> Process {
    let mut command = MOSQUITTO_SUB.command();
    Process::start(command.args(["-p", &port(addr), "-v"]).args(args))
}

#[test]
fn mosquittos_clients_hear_what_the_header_promises() {
    skip_without!(MOSQUITTO_PUB, MOSQUITTO_SUB);
    let (_server, addr) = Process::serve("mqtt");
    tell(addr, &["-t", "house/door", "-m", "shut", "-r"]);
    let mut heard = listen(addr, &["-t", "house/#", "-q", "2"]);
    assert_eq!(heard.line(), "house/door shut");
    for (at, qos) in ["0", "1", "2"].iter().enumerate() {
        let text = format!("on{at}");
        tell(addr, &["-t", "house/kitchen/light", "-m", &text, "-r", "-q", qos]);
        assert_eq!(heard.line(), format!("house/kitchen/light {text}"));
    }
    tell(addr, &["-t", "elsewhere", "-m", "nothing"]);
    let mut late = listen(addr, &["-t", "+/kitchen/#"]);
    assert_eq!(late.line(), "house/kitchen/light on2");
    // Killed it is lost, and its will is sent.
    let will = ["--will-topic", "house/dead", "--will-payload", "gone", "--will-qos", "1"];
    let mut dying = listen(addr, &[&["-t", "house/door"][..], &will].concat());
    assert_eq!(dying.line(), "house/door shut");
    drop(dying);
    assert_eq!(heard.line(), "house/dead gone");
}

#[test]
fn curl_publishes_and_subscribes() {
    skip_without!(CURL_MQTT);
    let (_server, addr) = Process::serve("mqtt");
    let url = format!("mqtt://{addr}/house/door");
    let mut talk = Talk::to(addr, "");
    talk.subscribe(&[("#", 0)]);
    let output = CURL_MQTT.command().args(["-sS", "-d", "open", &url]).output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(talk.hears(), (0, "house/door open".into()));
    // It prints each topic and text, without an end.
    Talk::to(addr, "").publish(1, 0, "house/door", "shut|");
    let mut curl = Process::start(CURL_MQTT.command().args(["-sSN", &url]));
    assert!(curl.until(b'|').expect("a message").ends_with(b"house/doorshut"));
}

#[test]
fn paho_does_all_it_can() {
    skip_without!(PAHO);
    let (_server, addr) = Process::serve("mqtt");
    let script = "
import queue, sys
import paho.mqtt.client as mqtt
port, heard = int(sys.argv[1]), queue.Queue()
def client(name, clean=True, will=None):
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, name, clean_session=clean)
    ready = queue.Queue()
    client.on_connect = lambda c, u, flags, code, p: ready.put((flags.session_present, code.value))
    client.on_subscribe = lambda c, u, mid, codes, p: ready.put([code.value for code in codes])
    client.on_disconnect = lambda c, u, flags, code, p: ready.put('gone')
    client.on_message = lambda c, u, m: heard.put((m.topic, m.payload.decode(), m.qos, m.retain))
    if will: client.will_set(*will)
    client.connect('127.0.0.1', port)
    client.loop_start()
    return client, lambda: ready.get(timeout=20)
def hears(*expected):
    for one in expected:
        got = heard.get(timeout=20)
        assert got == one, (got, one)
sub, ready = client('sub', clean=False)
assert ready() == (False, 0)
sub.subscribe([('a/#', 2), ('a/+', 1), ('$x/#', 0)])
assert ready() == [2, 1, 0]
pub, ready_pub = client('pub', will=('a/will', 'gone', 1, False))
assert ready_pub() == (False, 0)
for qos in 0, 1, 2:
    pub.publish('a/b', 'q%d' % qos, qos).wait_for_publish(20)
    hears(('a/b', 'q%d' % qos, qos, False))
pub.publish('$x/y', 'own', 2).wait_for_publish(20)
hears(('$x/y', 'own', 0, False))
pub.publish('a/kept', 'kept', 1, retain=True).wait_for_publish(20)
hears(('a/kept', 'kept', 1, False))
sub.disconnect(); assert ready() == 'gone'
for n in range(300): info = pub.publish('a/n', str(n), 1 + n % 2)
info.wait_for_publish(20)
sub.loop_stop(); sub.connect('127.0.0.1', port); sub.loop_start()
assert ready() == (True, 0)
got = [heard.get(timeout=20) for n in range(300)]
for qos in 1, 2: # Each in its order: of QoS 2 it hands a message on when that is released.
    in_order = [('a/n', str(n), qos, False) for n in range(300) if 1 + n % 2 == qos]
    assert [one for one in got if one[2] == qos] == in_order, got
late, ready = client('')
ready(); late.subscribe('+/kept', 2); ready()
hears(('a/kept', 'kept', 1, True))
late.disconnect()
pub._sock_close()
hears(('a/will', 'gone', 1, False))
print('fine')
";
    let output = PAHO.command().args(["-c", script, &port(addr)]).output().expect("it runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "fine\n", "{output:?}");
}

#[test]
fn mqtt_js_keeps_a_session_and_hears_each_qos() {
    skip_without!(MQTT_JS);
    let (_server, addr) = Process::serve("mqtt");
    let script = "
const mqtt = require('mqtt');
(async () => {
  const url = 'mqtt://127.0.0.1:' + process.argv[1];
  const options = { clean: false, clientId: 'sub', manualConnect: false, reconnectPeriod: 0 };
  let sub = await mqtt.connectAsync(url, options);
  console.log(JSON.stringify((await sub.subscribeAsync({ 'a/#': { qos: 2 } })).map(grant => grant.qos)));
  await sub.endAsync();
  const pub = await mqtt.connectAsync(url);
  for (const qos of [0, 1, 2]) await pub.publishAsync('a/b', 'q' + qos, { qos, retain: qos == 2 });
  sub = mqtt.connect(url, options);
  let left = 2;
  sub.on('connect', ack => console.log(ack.sessionPresent));
  sub.on('message', (topic, text, packet) => {
    console.log(topic, String(text), packet.qos, packet.retain);
    if (--left == 0) { sub.end(); pub.end(); }
  });
})();
";
    let output = MQTT_JS.command().args(["-e", script, &port(addr)]).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said, "[2]\ntrue\na/b q1 1 false\na/b q2 2 false\n", "{output:?}");
}

#[test]
fn each_hears_once_by_the_lower_of_both_qos() {
    let (_server, addr) = Process::serve("mqtt");
    let mut speaker = Talk::to(addr, "speaker");
    for (granted, sent, heard) in [(0, 2, 0), (1, 2, 1), (2, 2, 2), (2, 1, 1), (2, 0, 0)] {
        let mut talk = Talk::to(addr, "");
        assert_eq!(talk.subscribe(&[("a/#", granted), ("a/+", 0)]), [granted, 0]);
        speaker.publish(sent << 1, 5, "a/b", "text");
        let (flags, id, topic, payload) = talk.message();
        assert_eq!((flags, &*topic, &*payload), (heard << 1, "a/b", &b"text"[..]));
        assert_eq!(id > 0, heard > 0);
        talk.ping(); // Nothing else has come.
        talk.0.send(packet(0xa2, &[&[0, 7][..], &text("a/#"), &text("a/+")].concat()));
        assert_eq!(talk.packet(), (0xb0, vec![0, 7]));
        speaker.publish(sent << 1, 5, "a/b", "text");
        talk.ping();
    }
}

/// A mosquitto that stores nothing, on a port that was free a moment ago.
fn mosquitto() -> (Process, SocketAddr) {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = free.local_addr().expect("its number");
    drop(free);
    let file = std::env::temp_dir().join(format!("waterwheel-mosquitto-{}", addr.port()));
    let listens =
        format!("listener {} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\n", addr.port());
    std::fs::write(&file, listens).expect("a file");
    let mut command = MOSQUITTO.command();
    let server = Process::start(command.arg("-c").arg(&file).stderr(Stdio::null()));
    let begun = Instant::now();
    while TcpStream::connect(addr).is_err() {
        assert!(begun.elapsed() < LIMIT, "it does not listen");
    }
    std::fs::remove_file(&file).expect("it was read");
    (server, addr)
}

#[test]
fn messages_are_those_of_mosquitto_whatever_is_subscribed_and_published() {
    skip_without!(MOSQUITTO);
    let _ceiling = ceiling(LIMIT);
    let (_ours, our_addr) = Process::serve("mqtt");
    let (_theirs, their_addr) = mosquitto();
    let mut rng = Rng::new();
    let names = ["a", "b", "c"];
    let mut talks = [our_addr, their_addr].map(|addr| names.map(|name| Talk::to(addr, name)));
    for talk in talks.as_flattened() {
        talk.0.0.get_ref().set_nodelay(true).expect("it is connected");
    }
    let levels = ["a", "b", "", "$x", "+", "#"];
    let mut asked = Vec::new();
    for round in 0..1000 {
        let (who, act) = (rng.below(3) as usize, rng.below(8));
        let kinds = if act < 3 { 6 } else { 4 };
        let count = 1 + rng.below(3);
        let path: Vec<&str> = (0..count).map(|_| levels[rng.below(kinds) as usize]).collect();
        let mut path = path.join("/").replace("#/", "b/");
        if path.is_empty() {
            path.push('/');
        }
        let qos = rng.below(3) as u8;
        let (retain, payload) = (rng.below(2) as u8, if rng.below(4) == 0 { "" } else { "text" });
        asked.push((who, act, path.clone(), qos, retain, payload));
        let tail = &asked[asked.len().saturating_sub(30)..];
        let [ours, theirs] = talks.each_mut().map(|talks| {
            let talk = &mut talks[who];
            match act {
                // All of a client's by one QoS: of filters that overlap mosquitto takes any one's,
                // where the standard wants the highest.
                0 | 1 => talk.0.send(subscribe(&[(&path, who as u8)])),
                2 => talk.0.send(packet(0xa2, &[&[0, 7][..], &text(&path)].concat())),
                _ => talk.0.send(publish(qos << 1 | retain, 1 + round % 1000, &path, payload)),
            }
            // Three times: a message of QoS 2 may only go on when it is released.
            let mut all = talks.each_mut().map(|_| Vec::new());
            for _ in 0..3 {
                for at in [who, 0, 1, 2] {
                    all[at].extend(talks[at].collect());
                }
            }
            all.each_mut().map(|all| {
                all.sort();
                std::mem::take(all)
            })
        });
        assert_eq!(ours, theirs, "{tail:#?}");
    }
}

#[test]
fn message_may_have_a_mebibyte_and_no_more() {
    let (_server, addr) = Process::serve("mqtt");
    let mut heard = Talk::to(addr, "heard");
    heard.subscribe(&[("a", 2)]);
    let mut speaker = Talk::to(addr, "speaker");
    for qos in 0..3 {
        let head = if qos == 0 { 3 } else { 5 };
        let payload = vec![qos; 1024 * 1024 - head];
        speaker.publish(qos << 1, 1, "a", &payload);
        let (flags, id, _, got) = heard.message();
        assert!(flags == qos << 1 && got == payload);
        if qos > 0 {
            heard.0.send([if qos == 1 { 0x40 } else { 0x50 }, 2, 0, id as u8]);
        }
    }
    speaker.0.send(publish(0, 0, "a", vec![0; 1024 * 1024 - 2]));
    assert_eq!(speaker.rest(), []);
}

#[test]
fn will_is_sent_on_loss_and_on_a_takeover_but_not_on_a_disconnect() {
    let (_server, addr) = Process::serve("mqtt");
    let mut heard = Talk::to(addr, "heard");
    heard.subscribe(&[("will/#", 2)]);
    let hello = |text| Hello { name: "mortal", will: Some((1 << 3, "will/x", text)), ..HELLO };
    let mut polite = Talk(Client::connect(addr));
    polite.connect(&hello("polite"));
    polite.0.send(DISCONNECT);
    assert_eq!(polite.rest(), []);
    for ending in [&b""[..], b"\x10\x00", b"\xf0\x00", b"\x30\xff\xff\xff\xff\x01"] {
        let mut lost = Talk(Client::connect(addr));
        lost.connect(&hello("lost"));
        lost.0.send(ending);
        if ending.is_empty() {
            drop(lost);
        } else {
            assert_eq!(lost.rest(), []);
        }
        assert_eq!(heard.hears(), (1 << 1, "will/x lost".into()));
    }
    let [mut first, mut second] = [addr; 2].map(|addr| Talk(Client::connect(addr)));
    first.connect(&hello("first"));
    second.connect(&hello("second"));
    assert_eq!(first.rest(), [], "the older connection is closed");
    assert_eq!(heard.hears(), (1 << 1, "will/x first".into()));
    second.ping();
    // One that is retained is there for those who come later.
    let retained = Hello { will: Some((1 << 5, "will/x", "kept")), ..HELLO };
    Talk(Client::connect(addr)).connect(&retained);
    assert_eq!(heard.hears(), (0, "will/x kept".into()));
    let mut late = Talk::to(addr, "late");
    late.subscribe(&[("+/x", 0)]);
    assert_eq!(late.hears(), (1, "will/x kept".into()));
}

#[test]
fn kept_session_gets_what_it_missed_and_what_it_did_not_acknowledge() {
    let (_server, addr) = Process::serve("mqtt");
    let hello = Hello { name: "kept", keeps: true, ..HELLO };
    let mut speaker = Talk::to(addr, "speaker");
    let mut talk = Talk(Client::connect(addr));
    assert_eq!(talk.connect(&hello), [0x20, 0, 0]);
    talk.subscribe(&[("a", 2)]);
    for (flags, text) in [(2, "one"), (4, "two"), (4, "three")] {
        speaker.publish(flags, 9, "a", text);
    }
    let ids = [talk.message().1, talk.message().1, talk.message().1];
    // The second has come, the third as well and is released, the first nobody knows.
    let ack = |kind: u8, id: u16| [kind, 2, (id >> 8) as u8, id as u8];
    talk.0.send([ack(0x50, ids[1]), ack(0x50, ids[2])].concat());
    assert_eq!([talk.packet().0, talk.packet().0], [0x62; 2]);
    talk.0.send(ack(0x70, ids[2]));
    talk.0.send(DISCONNECT);
    assert_eq!(talk.rest(), []);
    speaker.publish(0, 0, "a", "not kept");
    speaker.publish(2, 9, "a", "four");
    let mut talk = Talk(Client::connect(addr));
    assert_eq!(talk.connect(&hello), [0x20, 1, 0]);
    assert_eq!(talk.message(), (8 | 2, ids[0], "a".into(), b"one".to_vec()));
    assert_eq!(talk.packet(), (0x62, ids[1].to_be_bytes().to_vec()));
    let (flags, id, _, payload) = talk.message();
    assert_eq!((flags, payload), (2, b"four".to_vec()));
    talk.0.send([ack(0x70, ids[1]), ack(0x40, ids[0]), ack(0x40, id)].concat());
    talk.ping();
    drop(talk);
    // All is done. A clean session forgets the rest, and is forgotten itself.
    let mut talk = Talk(Client::connect(addr));
    assert_eq!(talk.connect(&hello), [0x20, 1, 0]);
    talk.ping();
    drop(talk);
    for _ in 0..2 {
        let mut talk = Talk(Client::connect(addr));
        assert_eq!(talk.connect(&Hello { keeps: false, ..hello }), [0x20, 0, 0]);
        speaker.publish(2, 9, "a", "nobody hears it");
        talk.ping();
    }
    let mut talk = Talk(Client::connect(addr));
    assert_eq!(talk.connect(&hello), [0x20, 0, 0]);
}

#[test]
fn message_of_qos_2_that_comes_again_is_no_new_one_until_it_is_released() {
    let (_server, addr) = Process::serve("mqtt");
    let mut heard = Talk::to(addr, "heard");
    heard.subscribe(&[("a", 0)]);
    let hello = Hello { name: "speaker", keeps: true, ..HELLO };
    for round in ["one", "two"] {
        for flags in [4, 4 | 8, 4 | 8] {
            let mut talk = Talk(Client::connect(addr));
            talk.connect(&hello);
            talk.0.send(publish(flags, 0xffff, "a", round));
            assert_eq!(talk.packet(), (0x50, vec![0xff, 0xff]));
        }
        let mut talk = Talk(Client::connect(addr));
        talk.connect(&hello);
        for _ in 0..2 {
            talk.0.send([0x62, 2, 0xff, 0xff]);
            assert_eq!(talk.packet(), (0x70, vec![0xff, 0xff]));
        }
        assert_eq!(heard.hears(), (0, format!("a {round}")));
    }
    heard.ping();
}

#[test]
fn client_that_says_nothing_for_one_and_a_half_times_its_keep_alive_is_lost() {
    let (_server, addr) = Process::serve("mqtt");
    let mut heard = Talk::to(addr, "heard");
    heard.subscribe(&[("will", 0)]);
    let mut talk = Talk(Client::connect(addr));
    let begun = Instant::now();
    talk.connect(&Hello { keep_alive_s: 1, will: Some((0, "will", "silent")), ..HELLO });
    // Part of a packet is none.
    talk.0.send([0xc0]);
    assert_eq!(heard.hears(), (0, "will silent".into()));
    let took = begun.elapsed();
    assert!((1400..10_000).contains(&took.as_millis()), "{took:?}");
    assert_eq!(talk.rest(), []);
}

#[test]
fn what_is_no_mqtt_is_closed_and_others_are_served() {
    let (server, addr) = Process::serve("mqtt");
    let mut other = Talk::to(addr, "other");
    other.subscribe(&[("a", 0)]);
    let hello = HELLO.packet();
    let deep = "/".repeat(65_534) + "x";
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: 127.0.0.1:1883\r\n\r\n"[..],
        b"POST /a HTTP/1.1\r\nHost: 127.0.0.1:1883\r\n\r\n".repeat(10).as_slice(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(60).as_slice(),
        &PINGREQ,
        &publish(0, 0, "a", "too early"),
        b"\x10\xff\xff\xff\xff\x01",
        b"\x10\xff\xff\xff\x7f",
    ] {
        let mut talk = Talk(Client::connect(addr));
        talk.0.send(bytes);
        assert_eq!(talk.rest(), [], "{bytes:?}");
    }
    for bytes in [
        &hello[..],
        b"\x30\xff\xff\xff\xff\x01",
        b"\x30\xff\xff\xff\x7f",
        b"\x20\x02\x00\x00",
        b"\x36\x05\0\x01t\0\x01",
        b"\x80\x06\0\x01\0\x01#\x00",
        b"\x82\x02\0\x01",
        b"\x82\x07\0\x01\0\x02#a\x00",
        b"\x82\x06\0\x01\0\x01#\x03",
        b"\x32\x05\0\x01t\0\0",
        &publish(0, 0, "", "nowhere"),
        &publish(0, 0, "a/+", "everywhere"),
        &publish(0, 0, &deep, "deep"),
        &publish(1, 0, &deep, "deep"),
    ] {
        let mut talk = Talk(Client::connect(addr));
        talk.0.send([&hello, bytes, &publish(0, 0, "a", "behind")].concat());
        assert_eq!(talk.rest(), [(0x20, vec![0, 0])], "{bytes:?}");
    }
    // A topic that deep is refused by its SUBACK, and costs nothing.
    let deep = "+/".repeat(32_767) + "#";
    assert_eq!(other.subscribe(&[(&deep, 0), (&deep[..126], 0), (&deep[..128], 0)]), [128, 0, 128]);
    other.ping();
    assert!(server.resident_kib_max() < 30 * 1024, "{}", server.resident_kib_max());
}

#[test]
fn connect_is_refused_by_the_code_for_its_reason() {
    let (_server, addr) = Process::serve("mqtt");
    let refused = |bytes: &[u8]| {
        let mut talk = Talk(Client::connect(addr));
        talk.0.send(bytes);
        talk.rest()
    };
    for level in [3, 5, 0x83] {
        let mut other = HELLO.packet();
        other[8] = level;
        assert_eq!(refused(&other), [(0x20, vec![0, 1])]);
    }
    let nameless = Hello { keeps: true, ..HELLO };
    assert_eq!(refused(&nameless.packet()), [(0x20, vec![0, 2])]);
    let long = "x".repeat(257);
    assert_eq!(refused(&Hello { name: &long, ..HELLO }.packet()), [(0x20, vec![0, 2])]);
    Talk::to(addr, &long[1..]).ping();
}

#[test]
fn client_has_a_thousand_filters_and_no_more() {
    let (server, addr) = Process::serve("mqtt");
    let mut talk = Talk::to(addr, "greedy");
    let names: Vec<String> = (0..10_000).map(|n| format!("a/b/c/d/{n}")).collect();
    let filters: Vec<(&str, u8)> = names.iter().map(|name| (&**name, 1)).collect();
    let codes = talk.subscribe(&filters);
    assert_eq!(codes, [vec![1; 1000], vec![0x80; 9000]].concat());
    // One that it has may be asked for again, and another when one is given back.
    assert_eq!(talk.subscribe(&[("a/b/c/d/0", 2), ("x", 0)]), [2, 0x80]);
    talk.0.send(packet(0xa2, &[&[0, 2][..], &text("a/b/c/d/1")].concat()));
    assert_eq!(talk.packet(), (0xb0, vec![0, 2]));
    assert_eq!(talk.subscribe(&[("x", 0)]), [0]);
    assert!(server.resident_kib_max() < 30 * 1024, "{}", server.resident_kib_max());
}

#[test]
fn everybody_may_hear_everything_but_what_is_the_servers() {
    let _ceiling = ceiling(LIMIT);
    let (server, addr) = Process::serve("mqtt");
    let mut all: Vec<Talk> = (0..200).map(|_| Talk::to(addr, "")).collect();
    for talk in &mut all {
        assert_eq!(talk.subscribe(&[("#", 0), ("+/#", 0), ("+/+/#", 0)]), [0, 0, 0]);
    }
    let mut speaker = Talk::to(addr, "speaker");
    for n in 0..20 {
        speaker.publish(0, 0, "$SYS/broker", "hidden");
        speaker.publish(0, 0, "a/b/c", n.to_string());
    }
    for talk in &mut all {
        for n in 0..20 {
            assert_eq!(talk.hears(), (0, format!("a/b/c {n}")));
        }
        talk.ping();
    }
    assert!(server.resident_kib_max() < 40 * 1024, "{}", server.resident_kib_max());
}

/// A packet of 262,000 filters that each ask for everything, among as much as may be retained.
#[test]
fn asking_again_and_again_for_all_that_is_retained_holds_up_nobody() {
    let _ceiling = ceiling(LIMIT);
    let (server, addr) = Process::serve("mqtt");
    let mut speaker = Talk::to(addr, "speaker");
    for n in 0..100_u32 {
        let many: Vec<u8> =
            (0..1000).flat_map(|m| publish(1, 0, &format!("{n}/{m}"), "text")).collect();
        speaker.0.send(many);
        speaker.ping();
    }
    let mut greedy = Talk::to(addr, "greedy");
    greedy.0.send(subscribe(&vec![("#", 0); 250_000]));
    let begun = Instant::now();
    speaker.ping();
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    let (kind, codes) = greedy.packet();
    let granted = codes[2..].iter().filter(|code| **code == 0).count();
    assert_eq!((kind, codes.len()), (0x90, 250_002));
    assert!((1..100).contains(&granted), "{granted}");
    assert!(server.resident_kib_max() < 150 * 1024, "{}", server.resident_kib_max());
}

/// The message that never ends: what it may match is looked at again for each of thousands.
#[test]
fn messages_that_meet_many_filters_hold_up_nobody() {
    let _ceiling = ceiling(LIMIT);
    let (_server, addr) = Process::serve("mqtt");
    let mut greedy = Talk::to(addr, "greedy");
    let filter = |bits: u32| {
        let level = |at: u32| if bits >> at & 1 == 0 { "a/" } else { "+/" };
        (0..14).map(level).collect::<String>() + "nobody"
    };
    for part in 0..10 {
        let names: Vec<String> = (part * 100..(part + 1) * 100).map(filter).collect();
        let filters: Vec<(&str, u8)> = names.iter().map(|name| (&**name, 0)).collect();
        assert_eq!(greedy.subscribe(&filters), [0; 100]);
    }
    let mut other = Talk::to(addr, "other");
    let flood = publish(0, 0, &("a/".repeat(14) + "x"), "").repeat(20_000);
    std::thread::scope(|scope| {
        scope.spawn(|| greedy.0.send(&flood));
        for _ in 0..5 {
            let begun = Instant::now();
            other.ping();
            let took = begun.elapsed();
            assert!(took < Duration::from_secs(2), "{took:?}");
        }
        // Enough of it.
        other.0.send(Hello { name: "greedy", ..HELLO }.packet());
    });
}

#[test]
fn subscriber_that_never_reads_costs_a_bounded_number_of_bytes_and_the_others_hear_all() {
    let _ceiling = ceiling(LIMIT);
    let (server, addr) = Process::serve("mqtt");
    let mut deaf: Vec<Talk> = (0..3).map(|_| Talk::to(addr, "")).collect();
    for (qos, talk) in deaf.iter_mut().enumerate() {
        talk.subscribe(&[("news", qos as u8)]);
    }
    let mut heard = Talk::to(addr, "heard");
    heard.subscribe(&[("news", 0)]);
    let mut speaker = Talk::to(addr, "speaker");
    let text = "x".repeat(100_000);
    for n in 0..500 {
        speaker.publish(4, 1, "news", format!("{n} {text}"));
        let (_, _, _, payload) = heard.message();
        assert!(payload.starts_with(format!("{n} ").as_bytes()));
    }
    // Fifty megabytes for each of three. Each may have 2 MiB waiting, 256 KiB in flight, 64 KiB
    // unsent, and a message more.
    assert!(server.resident_kib_max() < 40 * 1024, "{}", server.resident_kib_max());
    // Who reads after all gets what had left, and then the newest: the oldest that waited are lost.
    let mut numbers = Vec::new();
    while numbers.last() != Some(&499) {
        let (_, _, _, payload) = deaf[0].message();
        let number = payload.split(|byte| *byte == b' ').next().expect("a number");
        numbers.push(String::from_utf8_lossy(number).parse::<u32>().expect("a number"));
    }
    assert!(numbers.is_sorted() && numbers[0] == 0 && numbers.len() < 400, "{numbers:?}");
    assert!(numbers.ends_with(&(480..500).collect::<Vec<_>>()), "{numbers:?}");
    deaf[0].ping();
}

#[test]
fn so_many_messages_are_in_flight_and_the_next_goes_when_one_is_acknowledged() {
    let (_server, addr) = Process::serve("mqtt");
    let mut speaker = Talk::to(addr, "speaker");
    for (bytes, most) in [(1, 100), (3000, 85), (100_000, 3), (300_000, 1)] {
        for qos in [1, 2] {
            let mut talk = Talk::to(addr, "talk");
            talk.subscribe(&[("a", qos)]);
            for n in 0..102 {
                speaker.publish(qos << 1, 1 + n, "a", vec![n as u8; bytes]);
            }
            let ids: Vec<u16> = (0..most).map(|_| talk.message().1).collect();
            talk.ping();
            // QoS 0 does not overtake them.
            speaker.publish(0, 0, "a", "");
            talk.ping();
            talk.0.send([if qos == 1 { 0x40 } else { 0x50 }, 2, 0, ids[0] as u8]);
            if qos == 2 {
                assert_eq!(talk.packet(), (0x62, vec![0, ids[0] as u8]));
                talk.0.send([0x70, 2, 0, ids[0] as u8]);
            }
            let (_, id, _, payload) = talk.message();
            assert!(!ids.contains(&id), "{ids:?}");
            // Of the largest more than 2 MiB waited: the oldest of these are lost.
            let is_next = usize::from(payload[0]) == most;
            assert!(is_next || bytes >= 100_000, "{}", payload[0]);
            talk.ping();
        }
    }
}

#[test]
fn full_queue_closes_the_client_if_the_command_line_says_so() {
    let _ceiling = ceiling(LIMIT);
    let mut command = example("mqtt");
    let args = ["--when-full", "disconnect", "127.0.0.1:0"];
    let (_server, addr) = Process::listening(command.args(args));
    let mut heard = Talk::to(addr, "heard");
    heard.subscribe(&[("will", 0)]);
    let mut deaf = Talk(Client::connect(addr));
    deaf.connect(&Hello { will: Some((0, "will", "deaf")), ..HELLO });
    deaf.subscribe(&[("news", 1)]);
    let mut speaker = Talk::to(addr, "speaker");
    for n in 1..=40 {
        speaker.publish(2, n, "news", vec![b'x'; 100_000]);
    }
    assert_eq!(heard.hears(), (0, "will deaf".into()));
    heard.ping();
}

#[test]
fn session_of_a_client_that_is_gone_keeps_two_mebibytes_of_the_newest() {
    let _ceiling = ceiling(LIMIT);
    let (server, addr) = Process::serve("mqtt");
    let hello = Hello { name: "kept", keeps: true, ..HELLO };
    let mut talk = Talk(Client::connect(addr));
    talk.connect(&hello);
    talk.subscribe(&[("news", 1)]);
    talk.0.send(DISCONNECT);
    talk.rest();
    let mut speaker = Talk::to(addr, "speaker");
    for n in 0..100_u8 {
        speaker.publish(2, 1, "news", vec![n; 100_000]);
    }
    assert!(server.resident_kib_max() < 30 * 1024, "{}", server.resident_kib_max());
    let mut talk = Talk(Client::connect(addr));
    assert_eq!(talk.connect(&hello), [0x20, 1, 0]);
    for n in 80..100 {
        let (flags, id, _, payload) = talk.message();
        assert_eq!((flags, payload[0]), (2, n));
        talk.0.send([0x40, 2, (id >> 8) as u8, id as u8]);
    }
    talk.ping();
}

/// Forty sessions want 80 MiB, and there are 32: a session that has most loses it, and those that
/// listen miss nothing.
#[test]
fn sessions_that_are_owed_too_much_together_do_not_keep_others_from_theirs() {
    let _ceiling = ceiling(LIMIT);
    let (server, addr) = Process::serve("mqtt");
    for n in 0..40 {
        let mut talk = Talk(Client::connect(addr));
        talk.connect(&Hello { name: &n.to_string(), keeps: true, ..HELLO });
        talk.subscribe(&[(&format!("for/{n}"), 1)]);
    }
    let mut heard = Talk::to(addr, "heard");
    heard.subscribe(&[("for/#", 1)]);
    let mut speaker = Talk::to(addr, "speaker");
    let text = vec![b'x'; 200_000];
    for m in 0..10 {
        for n in 0..40 {
            speaker.publish(2, 1, &format!("for/{n}"), &text);
            let (flags, id, topic, _) = heard.message();
            assert_eq!((flags, topic), (2, format!("for/{n}")), "{m}");
            heard.0.send([0x40, 2, (id >> 8) as u8, id as u8]);
        }
    }
    assert!(server.resident_kib_max() < 60 * 1024, "{}", server.resident_kib_max());
}

#[test]
fn client_that_never_reads_its_acknowledgements_is_not_read_either() {
    let _ceiling = ceiling(LIMIT);
    let (server, addr) = Process::serve("mqtt");
    let mut greedy = Talk::to(addr, "greedy");
    let flood = publish(2, 1, "a", "").repeat(10_000);
    let stream = greedy.0.0.get_mut();
    stream.set_write_timeout(Some(Duration::from_millis(300))).expect("not zero");
    assert!((0..1000).any(|_| stream.write_all(&flood).is_err()), "all was read");
    Talk::to(addr, "other").ping();
    assert!(server.resident_kib_max() < 30 * 1024, "{}", server.resident_kib_max());
}

#[test]
fn what_is_retained_has_a_bound_and_those_who_only_hear_go_on() {
    let _ceiling = ceiling(LIMIT);
    let (server, addr) = Process::serve("mqtt");
    let mut heard = Talk::to(addr, "heard");
    heard.subscribe(&[("big/#", 0)]);
    let mut speaker = Talk::to(addr, "speaker");
    let text = vec![b'x'; 500_000];
    for n in 0..100 {
        speaker.publish(1, 0, &format!("big/{n}"), &text);
        assert_eq!(heard.message().2, format!("big/{n}"));
    }
    assert!(server.resident_kib_max() < 50 * 1024, "{}", server.resident_kib_max());
    let mut late = Talk::to(addr, "late");
    assert_eq!(late.subscribe(&[("big/99", 0), ("big/0", 0)]), [0, 0]);
    assert_eq!(late.message().2, "big/0");
    late.ping();
    // What is removed makes room.
    speaker.publish(1, 0, "big/0", "");
    speaker.publish(1, 0, "big/99", &text);
    assert_eq!([late.message().2, late.message().2], ["big/0", "big/99"]);
}

#[test]
fn session_that_is_longest_gone_makes_room_for_a_new_one() {
    let _ceiling = ceiling(LIMIT);
    let (server, addr) = Process::serve("mqtt");
    // All of them by one connection after the other, which is closed by the next of its name.
    for n in 0..10_001 {
        let name = n.to_string();
        let mut stream = TcpStream::connect(addr).expect("it listens");
        let hello = Hello { name: &name, keeps: true, ..HELLO };
        stream.write_all(&[&hello.packet()[..], &DISCONNECT].concat()).expect("it reads");
        let mut said = Vec::new();
        stream.read_to_end(&mut said).expect("an orderly end");
        assert_eq!(said, [0x20, 2, 0, 0]);
    }
    for (name, present) in [("10000", 1), ("1", 1), ("0", 0), ("2", 0)] {
        let mut talk = Talk(Client::connect(addr));
        assert_eq!(talk.connect(&Hello { name, keeps: true, ..HELLO }), [0x20, present, 0]);
    }
    assert!(server.resident_kib_max() < 60 * 1024, "{}", server.resident_kib_max());
}

#[test]
fn sigterm_ends_it_in_order_with_clients_that_listen() {
    let (mut server, addr) = Process::serve("mqtt");
    let mut talk = Talk::to(addr, "talk");
    talk.subscribe(&[("#", 2)]);
    Talk::to(addr, "speaker").publish(0, 0, "a", "text");
    signal(&server, Signal::TERM);
    let (said, code) = server.rest();
    assert_eq!(code, Some(0), "{}", String::from_utf8_lossy(&said));
    assert_eq!(talk.hears(), (0, "a text".into()));
    assert_eq!(talk.rest(), []);
}

#[test]
fn bad_arguments_are_refused_in_one_line() {
    for (args, why) in [
        (&["--when-full", "panic"][..], "--when-full wants drop-oldest or disconnect"),
        (&["--nonsense"], "'--nonsense'; try --help"),
        (&["127.0.0.1:0", "more"], "\"more\""),
    ] {
        let output = output("mqtt", args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{said}");
        assert!(said.starts_with("error: ") && said.contains(why), "{said}");
    }
}
