//! The example `redis`: with redis-cli, redis-benchmark, redis-py and ioredis; beside
//! redis-server, reply by reply; and with clients that mean no good.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;
use std::time::Duration;

use super::ending::signal;
use rustix::process::Signal;
use support::Rng;
use support::ceiling;
use support::clients::{IOREDIS, REDIS_BENCHMARK, REDIS_CLI, REDIS_PY, REDIS_SERVER, skip_without};
use support::process::{Client, Process, example, output};

const LIMIT: Duration = Duration::from_secs(120);

/// A reply, as it was sent.
#[derive(Clone, Debug, PartialEq, PartialOrd)]
enum Reply {
    /// Of one line: its kind, and the text.
    Line(char, String),
    Text(Vec<u8>),
    Null,
    /// Of several: their kind, and each.
    All(char, Vec<Reply>),
}

/// A client that sends requests and reads replies, whatever they are.
struct Talk(Client);

impl Talk {
    fn to(addr: SocketAddr) -> Talk {
        Talk(Client::connect(addr))
    }

    fn send(&mut self, strings: &[&str]) {
        let strings: Vec<&[u8]> = strings.iter().map(|text| text.as_bytes()).collect();
        self.0.send(request(&strings));
    }

    fn reply(&mut self) -> Reply {
        let line = self.0.line();
        let line = line.strip_suffix('\r').expect("a line ends with CR LF");
        let (kind, rest) = line.split_at(1);
        let kind = kind.chars().next().expect("one");
        match kind {
            '_' => Reply::Null,
            '$' | '*' if rest == "-1" => Reply::Null,
            '$' => {
                let mut text = vec![0; rest.parse::<usize>().expect("a length") + 2];
                self.0.0.read_exact(&mut text).expect("the text");
                assert!(text.ends_with(b"\r\n"));
                text.truncate(text.len() - 2);
                Reply::Text(text)
            }
            '*' | '~' | '%' | '>' => {
                let count =
                    rest.parse::<usize>().expect("a count") * if kind == '%' { 2 } else { 1 };
                Reply::All(kind, (0..count).map(|_| self.reply()).collect())
            }
            _ => Reply::Line(kind, rest.to_owned()),
        }
    }

    fn ask(&mut self, strings: &[&str]) -> Reply {
        self.send(strings);
        self.reply()
    }

    /// Asks for something that is done, or fails.
    fn ok(&mut self, strings: &[&str]) {
        assert_eq!(self.ask(strings), Reply::Line('+', "OK".into()), "{strings:?}");
    }

    fn integer(&mut self, strings: &[&str]) -> i64 {
        match self.ask(strings) {
            Reply::Line(':', number) => number.parse().expect("a number"),
            other => panic!("{strings:?}: {other:?}"),
        }
    }

    fn error(&mut self, strings: &[&str]) -> String {
        match self.ask(strings) {
            Reply::Line('-', error) => error,
            other => panic!("{strings:?}: {other:?}"),
        }
    }
}

fn request(strings: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", strings.len()).into_bytes();
    for text in strings {
        bytes.extend(format!("${}\r\n", text.len()).bytes());
        bytes.extend_from_slice(text);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

fn text(text: &str) -> Reply {
    Reply::Text(text.into())
}

fn port(addr: SocketAddr) -> String {
    addr.port().to_string()
}

/// What redis-cli prints for some lines.
fn cli(addr: SocketAddr, input: &str) -> String {
    let mut command = REDIS_CLI.command();
    command.args(["-p", &port(addr)]).stderr(Stdio::inherit());
    let output = Process::start(&mut command).pass(input.as_bytes());
    String::from_utf8(output).expect("text")
}

#[test]
fn redis_cli_gets_the_replies_that_the_header_promises() {
    skip_without!(REDIS_CLI);
    let (_server, addr) = Process::serve("redis");
    let said = cli(
        addr,
        "SET greeting \"hello world\"\nGET greeting\nINCR n\nNONSENSE\nLPUSH greeting x\n",
    );
    let expected = "OK\nhello world\n1\nERR unknown command 'NONSENSE'\n\n\
         WRONGTYPE Operation against a key holding the wrong kind of value\n\n";
    assert_eq!(said, expected);
    let mut waiting = REDIS_CLI.command();
    let mut waiting = Process::start(waiting.args(["-p", &port(addr), "BLPOP", "queue", "0"]));
    let mut talk = Talk::to(addr);
    while !info(&mut talk, "blocked_clients:1") {}
    assert_eq!(cli(addr, "LPUSH queue one\n"), "1\n");
    assert_eq!((waiting.line(), waiting.line()), ("queue".into(), "one".into()));
}

/// Returns true if INFO has that line now.
fn info(talk: &mut Talk, line: &str) -> bool {
    let Reply::Text(info) = talk.ask(&["INFO"]) else { panic!("INFO is a text") };
    String::from_utf8(info).expect("text").lines().any(|other| other == line)
}

/// The first words of redis-cli at a terminal are `COMMAND DOCS`; those of redis-benchmark are
/// `CONFIG GET save`, and then a `PING` as a line.
#[test]
fn first_words_of_each_client_are_understood() {
    let (_server, addr) = Process::serve("redis");
    let mut talk = Talk::to(addr);
    assert!(matches!(talk.ask(&["COMMAND", "DOCS"]), Reply::All('*', _)));
    let Reply::All('*', all) = talk.ask(&["COMMAND"]) else { panic!("COMMAND is an array") };
    assert_eq!(talk.integer(&["COMMAND", "COUNT"]), all.len() as i64);
    let save = Reply::All('*', vec![text("save"), text("")]);
    assert_eq!(talk.ask(&["CONFIG", "GET", "save"]), save);
    talk.0.send("PING\r\n");
    assert_eq!(talk.reply(), Reply::Line('+', "PONG".into()));
    let Reply::All('%', hello) = talk.ask(&["HELLO", "3", "SETNAME", "me"]) else {
        panic!("a map")
    };
    assert_eq!(hello[..2], [text("server"), text("redis")]);
    assert_eq!(talk.ask(&["CLIENT", "GETNAME"]), text("me"));
    assert_eq!(talk.ask(&["GET", "nothing"]), Reply::Null);
    assert!(talk.error(&["HELLO", "4"]).starts_with("NOPROTO"));
}

#[test]
fn redis_benchmark_runs_all_its_own_tests() {
    skip_without!(REDIS_BENCHMARK);
    let _ceiling = ceiling(LIMIT);
    let (_server, addr) = Process::serve("redis");
    for deep in ["1", "16"] {
        let args = ["-p", &port(addr), "-n", "500", "-c", "20", "-P", deep, "--csv"];
        let output = REDIS_BENCHMARK.command().args(args).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}");
        for test in
            ["PING_INLINE", "SET", "LRANGE_600 (first 600 elements)", "ZPOPMIN", "MSET (10 keys)"]
        {
            assert!(said.contains(&format!("\"{test}\"")), "{said}");
        }
    }
}

#[test]
fn redis_py_does_all_it_can_by_either_protocol() {
    skip_without!(REDIS_PY);
    let (_server, addr) = Process::serve("redis");
    let script = "
import redis, sys, threading
for protocol in 2, 3:
    r = redis.Redis(port=int(sys.argv[1]), protocol=protocol, decode_responses=True)
    assert r.ping() and r.flushall() and r.set('a', 1, ex=100) and r.ttl('a') == 100 and r.incr('a') == 2
    r.hset('h', mapping={'f': 'v', 'g': 'w'})
    assert r.hgetall('h') == {'f': 'v', 'g': 'w'}
    r.zadd('z', {'a': 1, 'b': 2.5})
    pairs = [tuple(pair) for pair in r.zrange('z', 0, -1, withscores=True)]
    assert pairs == [('a', 1.0), ('b', 2.5)] and r.zscore('z', 'b') == 2.5
    assert r.sadd('s', 1, 2, 3) == 3 and r.smembers('s') == {'1', '2', '3'}
    with r.pipeline() as p:
        p.watch('a'); p.multi(); p.set('a', 3)
        assert p.execute() == [True]
        p.watch('a'); r.set('a', 'x'); p.multi(); p.set('a', 9)
        try:
            p.execute()
            raise SystemExit('the watched key was changed')
        except redis.WatchError:
            pass
    heard = r.pubsub(ignore_subscribe_messages=False)
    heard.subscribe('news'); heard.psubscribe('n*')
    assert [heard.get_message(timeout=9)['type'] for _ in range(2)] == ['subscribe', 'psubscribe']
    assert r.publish('news', 'hello') == 2
    assert [heard.get_message(timeout=9)['data'] for _ in range(2)] == ['hello', 'hello']
    heard.close()
    pushed = threading.Timer(0, lambda: redis.Redis(port=int(sys.argv[1])).rpush('queue', 'one'))
    pushed.start()
    assert list(r.blpop('queue', timeout=9)) == ['queue', 'one'] and r.blpop('queue', timeout=0.01) is None
    pushed.join()
    assert sorted(r.scan_iter(count=2)) == ['a', 'h', 's', 'z'] and r.info()['maxmemory'] > 0
print('fine')
";
    let output = REDIS_PY.command().args(["-c", script, &port(addr)]).output().expect("it runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "fine\n", "{output:?}");
}

#[test]
fn ioredis_subscribes_and_does_transactions() {
    skip_without!(IOREDIS);
    let (_server, addr) = Process::serve("redis");
    let script = "
const Redis = require('ioredis');
(async () => {
  const r = new Redis(+process.argv[1]), heard = new Redis(+process.argv[1]);
  await heard.subscribe('news');
  heard.on('message', (channel, text) => { console.log(channel, text); r.disconnect(); heard.disconnect(); });
  console.log(JSON.stringify(await r.multi().set('n', 1).incr('n').get('n').exec()));
  await r.publish('news', 'hello');
})();
";
    let output = IOREDIS.command().args(["-e", script, &port(addr)]).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said, "[[null,\"OK\"],[null,2],[null,\"2\"]]\nnews hello\n", "{output:?}");
}

/// What a random client sends: few keys, so that they meet, of all kinds.
fn random_request(rng: &mut Rng) -> Vec<String> {
    let mut words = |of: &[&str]| of[rng.below(of.len() as u64) as usize].to_owned();
    let key = words(&["a", "b", "c", "d", "e"]);
    let item = words(&["x", "y", "z", "10", "-3", "2.5", "", "0x", "9223372036854775807"]);
    let other = words(&["x", "y", "z", "w"]);
    let place = words(&["0", "1", "2", "-1", "-2", "5", "-9", "x"]);
    let until = words(&["0", "1", "-1", "3", "-4", "100"]);
    let score = words(&["0", "1", "-1.5", "2", "inf", "-inf", "nan", "1e15", "x"]);
    let low = words(&["-inf", "(-inf", "(+inf", "+inf", "(1", "0", "(-1.5", "2"]);
    let high = words(&["+inf", "(+inf", "2", "(2", "1", "-inf"]);
    let form = words(&[
        "SET K I",
        "SET K I NX",
        "SET K I XX",
        "SET K I GET",
        "SET K I EX 100",
        "SET K I PX 0",
        "SET K I KEEPTTL",
        "SETNX K I",
        "SETEX K 100 I",
        "GET K",
        "GETDEL K",
        "MGET K k2 K",
        "MSET K I k2 I",
        "STRLEN K",
        "APPEND K I",
        "INCR K",
        "DECR K",
        "INCRBY K I",
        "DECRBY K I",
        "DEL K",
        "EXISTS K K k2",
        "TYPE K",
        "TTL K",
        "PERSIST K",
        "EXPIRE K 100",
        "EXPIRE K -1",
        "EXPIRE K I",
        "RENAME K k2",
        "DBSIZE",
        "LPUSH K I O",
        "RPUSH K O I",
        "LPOP K",
        "RPOP K",
        "LPOP K P",
        "LLEN K",
        "LRANGE K P U",
        "LINDEX K P",
        "LTRIM K P U",
        "LREM K P O",
        "HSET K O I",
        "HSET K O I x 1",
        "HMSET K O I",
        "HGET K O",
        "HMGET K O x",
        "HDEL K O x",
        "HLEN K",
        "HEXISTS K O",
        "HGETALL K",
        "HKEYS K",
        "HVALS K",
        "HINCRBY K O I",
        "SADD K I O",
        "SREM K O I",
        "SISMEMBER K O",
        "SCARD K",
        "SMEMBERS K",
        "SINTER K k2",
        "SUNION K k2",
        "SDIFF K k2",
        "ZADD K S O",
        "ZADD K NX S O",
        "ZADD K XX CH S O",
        "ZADD K GT S O S I",
        "ZADD K LT S O",
        "ZADD K INCR S O",
        "ZINCRBY K S O",
        "ZREM K O",
        "ZSCORE K O",
        "ZCARD K",
        "ZRANK K O",
        "ZRANGE K P U",
        "ZRANGE K P U WITHSCORES",
        "ZREVRANGE K P U WITHSCORES",
        "ZRANGE K L H BYSCORE",
        "ZRANGE K H L BYSCORE REV WITHSCORES LIMIT 0 2",
        "ZRANGEBYSCORE K L H",
        "ZRANGEBYSCORE K L H WITHSCORES LIMIT 1 1",
        "ZCOUNT K L H",
        "ZREMRANGEBYSCORE K L H",
        "ZPOPMIN K",
        "ZPOPMAX K 2",
        "BLPOP K k2 0.01 !",
        "MULTI",
        "EXEC",
        "EXEC",
        "DISCARD",
        "WATCH K",
        "UNWATCH",
        "GET",
        "GET K K",
        "ECHO I",
        "PING",
        "PING I",
        "SELECT 0",
        "SELECT 99",
        "KEYS *",
        "KEYS [a-c]",
        "SET K I EX",
        "SET K I NX XX",
        "nonsense K",
    ]);
    let words = form.split(' ').filter(|word| *word != "!");
    let chosen = words.map(|word| match word {
        "K" => key.clone(),
        "I" => item.clone(),
        "O" => other.clone(),
        "P" => place.clone(),
        "U" => until.clone(),
        "S" => score.clone(),
        "L" => low.clone(),
        "H" => high.clone(),
        "k2" => "b".to_owned(),
        word => word.to_owned(),
    });
    chosen.collect()
}

/// A reply with what has no order in a fixed one, and without what each server says in its own way.
fn comparable(request: &[String], reply: Reply) -> Reply {
    let name = request[0].as_str();
    match reply {
        Reply::All(kind, mut all)
            if matches!(
                name,
                "SMEMBERS" | "SINTER" | "SUNION" | "SDIFF" | "KEYS" | "HKEYS" | "HVALS"
            ) =>
        {
            all.sort_by(|a, b| a.partial_cmp(b).expect("they compare"));
            Reply::All(kind, all)
        }
        Reply::All(kind, all) if name == "HGETALL" => {
            let pairs: BTreeMap<String, Reply> =
                all.chunks(2).map(|pair| (format!("{:?}", pair[0]), pair[1].clone())).collect();
            Reply::All(kind, pairs.into_values().collect())
        }
        // Of two mistakes in a request each server may find another first.
        Reply::Line('-', _) => Reply::Line('-', String::new()),
        other => other,
    }
}

#[test]
fn replies_are_those_of_redis_whatever_is_asked() {
    skip_without!(REDIS_SERVER);
    let _ceiling = ceiling(LIMIT);
    let (_ours, addr) = Process::serve("redis");
    let (_theirs, their_addr) = redis_server();
    let mut rng = Rng::new();
    for protocol in ["2", "3"] {
        let mut talks = [addr, their_addr].map(Talk::to);
        for talk in &mut talks {
            talk.ask(&["HELLO", protocol]);
            talk.ok(&["FLUSHALL"]);
        }
        let mut asked: Vec<Vec<String>> = Vec::new();
        // Requests since MULTI: their replies come with EXEC, and are compared as what they are of.
        let mut queued: Vec<Vec<String>> = Vec::new();
        for _ in 0..6000 {
            let request = random_request(&mut rng);
            let strings: Vec<&str> = request.iter().map(String::as_str).collect();
            let replies = talks.each_mut().map(|talk| talk.ask(&strings));
            asked.push(request.clone());
            let tail = &asked[asked.len().saturating_sub(12)..];
            if let ("EXEC", [Reply::All(_, ours), Reply::All(_, theirs)]) = (strings[0], &replies) {
                assert_eq!(ours.len(), theirs.len(), "{tail:?}");
                for ((ours, theirs), request) in ours.iter().zip(theirs).zip(queued.drain(..)) {
                    let [ours, theirs] =
                        [ours, theirs].map(|reply| comparable(&request, reply.clone()));
                    assert_eq!(ours, theirs, "{request:?} in {tail:#?}");
                }
                continue;
            }
            if replies[0] == Reply::Line('+', "QUEUED".into()) {
                queued.push(request.clone());
            } else if matches!(strings[0], "EXEC" | "DISCARD" | "MULTI") {
                queued.clear();
            }
            let [ours, theirs] = replies.map(|reply| comparable(&request, reply));
            assert_eq!(ours, theirs, "{tail:#?}");
        }
    }
}

/// A redis-server that stores nothing, on a port that was free a moment ago.
fn redis_server() -> (Process, SocketAddr) {
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .expect("a port")
        .local_addr()
        .expect("its number");
    let mut command = REDIS_SERVER.command();
    let args = ["--port", &port(free), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
    let mut server = Process::start(command.args(args));
    while !server.line().contains("Ready to accept connections") {}
    (server, free)
}

/// Sends bytes and returns all that comes until the server closes.
fn answer(addr: SocketAddr, bytes: &[u8]) -> String {
    let mut client = Client::connect(addr);
    client.send(bytes);
    client.rest()
}

#[test]
fn what_is_no_request_gets_the_words_of_redis_and_is_closed() {
    let (_server, addr) = Process::serve("redis");
    let long = [b"a".repeat(64 * 1024 + 1), b"\r\n".to_vec()].concat();
    for (bytes, word) in [
        (&b"*2147483647\r\n"[..], "invalid multibulk length"),
        (b"*1048577\r\n", "invalid multibulk length"),
        (b"*x\r\n", "invalid multibulk length"),
        (b"*1\r\n$-5\r\n", "invalid bulk length"),
        (b"*1\r\n$536870913\r\n", "invalid bulk length"),
        (b"*1\r\n$8388609\r\n", "invalid bulk length"),
        (b"*1\r\n*1\r\n*1\r\n$4\r\nPING\r\n", "expected '$', got '*'"),
        (b"*1\r\n:1\r\n", "expected '$', got ':'"),
        (b"*1111111111111111111111111111111111111111111", "too big count string"),
        (b"SET a \"b\r\n", "unbalanced quotes in request"),
        (&long, "too big inline request"),
        (&long[..64 * 1024 + 1], "too big inline request"),
    ] {
        let said = answer(addr, bytes);
        assert_eq!(said, format!("-ERR Protocol error: {word}\r\n"));
    }
    // A page in somebody's browser that posts to this port.
    let post = b"POST / HTTP/1.1\r\nHost: 127.0.0.1:6379\r\n\r\nSET a b\r\n";
    assert_eq!(answer(addr, post), "");
    // What came before is answered first, and what comes behind is not.
    assert!(answer(addr, b"PING\r\n*x\r\nPING\r\n").starts_with("+PONG\r\n-ERR Protocol"));
}

#[test]
fn keys_and_values_are_bytes_and_requests_may_come_one_by_one() {
    let (_server, addr) = Process::serve("redis");
    let mut talk = Talk::to(addr);
    let all: Vec<u8> = (0..=255).collect();
    for byte in request(&[b"SET", b"a\0b\r\n", &all]) {
        talk.0.send([byte]);
    }
    assert_eq!(talk.reply(), Reply::Line('+', "OK".into()));
    talk.0.send(request(&[b"GET", b"a\0b\r\n"]));
    assert_eq!(talk.reply(), Reply::Text(all));
    // As a line, with quotes and escapes.
    talk.0.send("  set 'it''s' 1\r\n");
    assert!(matches!(talk.reply(), Reply::Line('-', _)));
    assert_eq!(talk.0.0.fill_buf().expect("an end"), b"", "closed");
    let mut talk = Talk::to(addr);
    talk.0.send("set \"a\\x00b\\r\\n\" 'it\\'s'\nget \"a\\x00b\\r\\n\"\n");
    assert_eq!([talk.reply(), talk.reply()], [Reply::Line('+', "OK".into()), text("it's")]);
}

/// The server's most memory, once others of its clients have been served as well.
fn memory_kib(server: &Process, addr: SocketAddr) -> usize {
    assert_eq!(Talk::to(addr).ask(&["PING"]), Reply::Line('+', "PONG".into()));
    server.resident_kib_max()
}

#[test]
fn a_client_keeps_a_mebibyte_in_the_server_and_no_more() {
    let _ceiling = ceiling(LIMIT);
    let (server, addr) = Process::serve("redis");
    let mut talk = Talk::to(addr);
    // A transaction of a million requests.
    talk.ok(&["MULTI"]);
    let ping = request(&[b"PING"]);
    let (mut refused, mut line) = (0, Vec::new());
    for _ in 0..100 {
        talk.0.send(ping.repeat(10_000));
        for _ in 0..10_000 {
            line.clear();
            talk.0.0.read_until(b'\n', &mut line).expect("a reply");
            refused += usize::from(line != b"+QUEUED\r\n");
        }
    }
    assert_eq!(refused, 1_000_000 - 1024 * 1024 / ping.len());
    assert!(talk.error(&["EXEC"]).starts_with("EXECABORT"));
    // A hundred thousand watched keys: so many as fit, and the one behind them is refused.
    let keys: Vec<String> = (0..100_000).map(|n| format!("key{n}")).collect();
    let strings: Vec<&str> = ["WATCH"].into_iter().chain(keys.iter().map(String::as_str)).collect();
    assert!(talk.error(&strings).contains("keeps more than 1 MiB"));
    talk.ok(&["UNWATCH"]);
    let names: Vec<&str> = ["SUBSCRIBE"].into_iter().chain(strings[1..].iter().copied()).collect();
    assert!(talk.error(&names).contains("keeps more than 1 MiB"));
    drop(talk);
    assert!(memory_kib(&server, addr) < 60 * 1024);
    assert!(info(&mut Talk::to(addr), "pubsub_channels:0"), "what a client kept goes with it");
}

#[test]
fn subscriber_that_never_reads_is_closed_and_the_others_hear_all() {
    let _ceiling = ceiling(LIMIT);
    let (server, addr) = Process::serve("redis");
    let [mut deaf, mut hearing, mut speaker] = [addr; 3].map(Talk::to);
    for talk in [&mut deaf, &mut hearing] {
        assert!(matches!(talk.ask(&["SUBSCRIBE", "news"]), Reply::All(..)));
    }
    let text = "x".repeat(100_000);
    let mut heard = 2;
    let mut sent = 0;
    while heard == 2 {
        sent += 1;
        heard = speaker.integer(&["PUBLISH", "news", &text]);
        assert!(matches!(hearing.reply(), Reply::All(_, all) if all.len() == 3));
        assert!(sent < 1000, "nobody closes it");
    }
    assert_eq!(heard, 1);
    assert!(memory_kib(&server, addr) < 40 * 1024);
}

#[test]
fn client_that_never_reads_its_replies_is_not_read_either() {
    let _ceiling = ceiling(LIMIT);
    let (server, addr) = Process::serve("redis");
    let mut talk = Talk::to(addr);
    talk.ok(&["SET", "big", &"x".repeat(1_000_000)]);
    let mut greedy = TcpStream::connect(addr).expect("it listens");
    let gets = request(&[b"GET", b"big"]).repeat(1_000_000);
    greedy.set_write_timeout(Some(Duration::from_millis(300))).expect("not zero");
    assert!(greedy.write_all(&gets).is_err(), "all was read");
    assert!(memory_kib(&server, addr) < 40 * 1024);
    // A reply that nobody could want: one value two hundred times, alone and in a transaction.
    let keys = vec!["big"; 200];
    let request = [&["MGET"][..], &keys].concat();
    assert!(talk.error(&request).contains("longer than 8 MiB"));
    talk.ok(&["MULTI"]);
    (0..200).for_each(|_| drop(talk.ask(&["GET", "big"])));
    let Reply::All('*', all) = talk.ask(&["EXEC"]) else { panic!("its replies") };
    let is_refused =
        |reply: &Reply| matches!(reply, Reply::Line('-', why) if why.contains("8 MiB"));
    assert_eq!((all.len(), all.iter().filter(|reply| is_refused(reply)).count()), (200, 192));
    assert!(matches!(talk.ask(&["GET", "big"]), Reply::Text(big) if big.len() == 1_000_000));
    assert!(memory_kib(&server, addr) < 60 * 1024);
    assert!(talk.error(&["KEYS", &"*a".repeat(200)]).contains("256 bytes at most"));
}

#[test]
fn what_would_need_more_memory_is_refused_and_the_rest_goes_on() {
    let mut command = example("redis");
    let (server, addr) = Process::listening(command.args(["--memory", "2", "127.0.0.1:0"]));
    let mut talk = Talk::to(addr);
    let mut keys = 0;
    let error = loop {
        match talk.ask(&["RPUSH", &format!("list{}", keys % 10), &"x".repeat(1000)]) {
            Reply::Line(':', _) => keys += 1,
            Reply::Line('-', error) => break error,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(error, "OOM command not allowed when used memory > 'maxmemory'.");
    assert!((1500..2100).contains(&keys), "{keys}");
    assert_eq!(talk.integer(&["LLEN", "list0"]), 1 + (keys - 1) / 10);
    assert_eq!(talk.integer(&["DEL", "list0", "list1"]), 2);
    talk.ok(&["SET", "a", "1"]);
    // All that was counted is given back.
    talk.ok(&["FLUSHALL"]);
    assert!(info(&mut talk, "used_memory:0"));
    assert!(memory_kib(&server, addr) < 20 * 1024);
}

/// Whatever is done to the keys, the number of bytes that they count is what it was before.
#[test]
fn memory_is_counted_to_zero_by_whatever_way_values_go() {
    let (_server, addr) = Process::serve("redis");
    let mut talk = Talk::to(addr);
    let mut rng = Rng::new();
    for _ in 0..20 {
        for _ in 0..300 {
            let request = random_request(&mut rng);
            talk.ask(&request.iter().map(String::as_str).collect::<Vec<_>>());
        }
        talk.ask(&["DISCARD"]);
        for key in ["a", "b", "c", "d", "e"] {
            talk.integer(&["DEL", key]);
        }
        assert!(info(&mut talk, "used_memory:0"));
    }
}

#[test]
fn keys_end_by_themselves_and_whoever_watches_them_is_told() {
    let (_server, addr) = Process::serve("redis");
    let mut talk = Talk::to(addr);
    talk.ok(&["SET", "short", "1", "PX", "30"]);
    talk.ok(&["WATCH", "short"]);
    let mut other = Talk::to(addr);
    while !info(&mut other, "expired_keys:1") {}
    assert_eq!(other.integer(&["DBSIZE"]), 0, "its timer has removed it: nobody has asked for it");
    talk.ok(&["MULTI"]);
    talk.ask(&["PING"]);
    assert_eq!(talk.ask(&["EXEC"]), Reply::Null);
}

#[test]
fn parked_clients_are_served_in_their_order_and_none_that_has_gone() {
    let _ceiling = ceiling(LIMIT);
    let (_server, addr) = Process::serve("redis");
    let mut talk = Talk::to(addr);
    let mut waiting = [addr; 3].map(Talk::to);
    for (at, one) in waiting.iter_mut().enumerate() {
        // What comes behind a request that waits has to wait as well.
        one.send(&["BLPOP", "other", "queue", "0"]);
        one.send(&["PING"]);
        while !info(&mut talk, &format!("blocked_clients:{}", at + 1)) {}
    }
    let [first, second, third] = waiting;
    drop(second);
    while !info(&mut talk, "blocked_clients:2") {}
    assert_eq!(talk.integer(&["RPUSH", "queue", "one", "two", "three"]), 3);
    for (mut one, item) in [(first, "one"), (third, "two")] {
        assert_eq!(one.reply(), Reply::All('*', vec![text("queue"), text(item)]));
        assert_eq!(one.reply(), Reply::Line('+', "PONG".into()));
    }
    assert_eq!(talk.ask(&["LRANGE", "queue", "0", "-1"]), Reply::All('*', vec![text("three")]));
    // In a transaction nothing waits.
    talk.ok(&["MULTI"]);
    talk.ask(&["BLPOP", "nothing", "0"]);
    assert_eq!(talk.ask(&["EXEC"]), Reply::All('*', vec![Reply::Null]));
}

/// A folder of its own, gone at the end.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("waterwheel-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn all_kinds_of_values_are_there_again_after_a_save_and_a_kill() {
    let folder = Folder::new("redis");
    let file = folder.0.join("all");
    let start = || {
        let mut command = example("redis");
        let mut server = Process::start(command.arg("--file").arg(&file).arg("127.0.0.1:0"));
        let loaded = server.line();
        let line = server.line();
        let addr = line.strip_prefix("listening on ").expect("where").parse::<SocketAddr>();
        (server, addr.expect("an address"), loaded)
    };
    let fill = [
        "SET text 1",
        "SET short x EX 1000",
        "RPUSH list a b c",
        "HSET hash f v g w",
        "SADD set x y",
        "ZADD sorted 1.5 a -inf b 1e300 c",
    ];
    let looks = [
        "GET text",
        "LRANGE list 0 -1",
        "HLEN hash",
        "HGET hash g",
        "SCARD set",
        "ZRANGE sorted 0 -1 WITHSCORES",
        "TTL short",
        "DBSIZE",
    ];
    let (server, addr, loaded) = start();
    assert!(loaded.starts_with("0 keys from "));
    let mut talk = Talk::to(addr);
    for line in fill {
        assert!(!matches!(talk.ask(&line.split(' ').collect::<Vec<_>>()), Reply::Line('-', _)));
    }
    let see = |talk: &mut Talk| looks.map(|line| talk.ask(&line.split(' ').collect::<Vec<_>>()));
    let seen = see(&mut talk);
    talk.ok(&["SAVE"]);
    talk.ok(&["MULTI"]);
    talk.ask(&["SAVE"]);
    talk.ask(&["PING"]);
    assert!(matches!(talk.ask(&["EXEC"]), Reply::All(_, all) if all.len() == 2), "nothing waits");
    talk.ok(&["SET", "later", "lost"]);
    drop(server); // kill -9.
    let (server, addr, loaded) = start();
    assert!(loaded.starts_with("6 keys from "));
    let mut talk = Talk::to(addr);
    assert_eq!(see(&mut talk), seen);
    // Ended in order it saves by itself.
    talk.ok(&["SET", "later", "kept"]);
    signal(&server, Signal::TERM);
    let mut server = server;
    assert_eq!(server.rest().1, Some(0));
    let (server, addr, _) = start();
    assert_eq!(Talk::to(addr).ask(&["GET", "later"]), text("kept"));
    drop(server);
    // A file that is no snapshot, or not all of one, is refused in one line.
    let whole = fs::read(&file).expect("the snapshot");
    for (bytes, why) in
        [(&whole[..whole.len() - 3], "it has no end"), (&b"hello"[..], "it has no end")]
    {
        fs::write(&file, bytes).expect("written");
        let args = ["--file", file.to_str().expect("a name"), "127.0.0.1:0"];
        let output = output("redis", &args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.starts_with("error: cannot load ") && said.contains(why), "{said}");
        assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1));
    }
}

#[test]
fn sigterm_ends_it_in_order_with_clients_that_wait() {
    let (mut server, addr) = Process::serve("redis");
    let mut talk = Talk::to(addr);
    talk.send(&["BLPOP", "queue", "0"]);
    while !info(&mut Talk::to(addr), "blocked_clients:1") {}
    signal(&server, Signal::TERM);
    let (said, code) = server.rest();
    assert_eq!(code, Some(0), "{}", String::from_utf8_lossy(&said));
    assert_eq!(talk.0.rest(), "");
}

#[test]
fn save_without_a_file_says_how_to_have_one() {
    let (_server, addr) = Process::serve("redis");
    assert!(Talk::to(addr).error(&["SAVE"]).contains("--file FILE"));
}

#[test]
fn bad_arguments_are_refused_in_one_line() {
    for (args, why) in [
        (&["--memory", "much"][..], "--memory wants a whole number"),
        (&["--nonsense"], "'--nonsense'; try --help"),
        (&["127.0.0.1:0", "more"], "\"more\""),
    ] {
        let output = output("redis", args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{said}");
        assert!(said.starts_with("error: ") && said.contains(why), "{said}");
    }
}
