//! The example `rpc`: with nc, curl and vscode-jsonrpc, what an editor calls its servers by; the examples
//! of the specification; and clients that mean no good.

use std::io::{BufRead, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use support::ceiling;
use support::clients::{NC, VSCODE_JSONRPC, skip_without};
use support::curl;
use support::process::{Client, Process, example, output};

const LIMIT: Duration = Duration::from_secs(120);

/// A client that sends a message on each line, and gets answers so.
struct Talk(Client);

impl Talk {
    fn to(addr: SocketAddr) -> Talk {
        Talk(Client::connect(addr))
    }

    fn send(&mut self, message: &Value) {
        self.0.send(format!("{message}\n"));
    }

    fn call(&mut self, id: impl Into<Value>, method: &str, params: Value) {
        self.send(&json!({"jsonrpc": "2.0", "id": id.into(), "method": method, "params": params}));
    }

    fn next(&mut self) -> Value {
        serde_json::from_str(&self.0.line()).expect("JSON")
    }

    /// Answers the raw text of one message.
    fn ask(&mut self, text: impl AsRef<[u8]>) -> Value {
        self.0.send([text.as_ref(), b"\n"].concat());
        self.next()
    }

    /// That this client is served.
    fn is_served(&mut self) {
        self.call("here", "echo", json!(["x"]));
        assert_eq!(self.next(), json!({"jsonrpc": "2.0", "id": "here", "result": ["x"]}));
    }
}

fn result(id: impl Into<Value>, result: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id.into(), "result": result})
}

/// The id and the code of an error.
fn error(answer: &Value) -> (&Value, i64) {
    assert_eq!(answer["jsonrpc"], "2.0");
    assert!(answer.get("result").is_none() && answer["error"]["message"].is_string(), "{answer}");
    (&answer["id"], answer["error"]["code"].as_i64().unwrap_or_else(|| panic!("{answer}")))
}

#[test]
fn header_keeps_its_promises_to_nc() {
    skip_without!(NC);
    let (_server, addr) = Process::serve("rpc");
    let mut nc = NC.command();
    let mut nc = Process::start(nc.args(["-N", "127.0.0.1", &addr.port().to_string()]));
    nc.type_in("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"sleep\",\"params\":[50000]}\n");
    nc.type_in("{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"add\",\"params\":[1,2]}\n");
    assert_eq!(nc.line(), r#"{"id":2,"jsonrpc":"2.0","result":3}"#);
    nc.type_in("{\"jsonrpc\":\"2.0\",\"method\":\"$/cancelRequest\",\"params\":{\"id\":1}}\n");
    let line = nc.line();
    assert!(line.contains("-32800") && line.contains("\"id\":1"), "{line}");
    nc.type_in("{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":\"ask\",\"params\":[\"Go on?\"]}\n\n");
    let asked: Value = serde_json::from_str(&nc.line()).expect("JSON");
    assert_eq!(
        (&asked["method"], &asked["params"]["question"]),
        (&json!("confirm"), &json!("Go on?"))
    );
    nc.type_in(format!("{}\n", result(asked["id"].clone(), json!(true))));
    assert_eq!(nc.line(), r#"{"id":3,"jsonrpc":"2.0","result":true}"#);
    // What was asked is answered, also after the end of the input.
    nc.type_in("{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"sleep\",\"params\":{\"ms\":50}}\n");
    let (rest, code) = nc.finish();
    assert_eq!((&*rest, code), (&b"{\"id\":5,\"jsonrpc\":\"2.0\",\"result\":50}\n"[..], Some(0)));
}

#[test]
fn vscode_jsonrpc_calls_is_called_and_cancels() {
    skip_without!(VSCODE_JSONRPC);
    let (_server, addr) = Process::serve("rpc");
    let script = "
const rpc = require('vscode-jsonrpc/node');
const socket = require('net').connect(+process.argv[1], '127.0.0.1');
const c = rpc.createMessageConnection(new rpc.StreamMessageReader(socket), new rpc.StreamMessageWriter(socket));
c.onRequest('confirm', ({ question }) => { if (question === 'no') throw new Error('no'); return question.length; });
c.listen();
const code = promise => promise.then(() => 'none', error => error.code);
(async () => {
  const order = [];
  const note = name => promise => promise.then(result => order.push([name, result]));
  await Promise.all([
    note('slow')(c.sendRequest('sleep', 300)), note('fast')(c.sendRequest('sleep', { ms: 10 })),
    note('sum')(c.sendRequest('add', 1, 2.5)), note('hash')(c.sendRequest('hash', 'foobar', 1)) ]);
  console.log(order.map(([name]) => name).filter(name => name !== 'hash').join(), order.find(([name]) => name === 'hash')[1]);
  console.log(await c.sendRequest('ask', 'Go on?'), await code(c.sendRequest('ask', 'no')));
  console.log(await code(c.sendRequest('none')), await code(c.sendRequest('add', 'x')));
  const source = new rpc.CancellationTokenSource();
  const cancelled = code(c.sendRequest('sleep', 50000, source.token));
  source.cancel();
  console.log(await cancelled);
  c.sendNotification('whatever', 1);
  console.log(JSON.stringify(await c.sendRequest('echo', { text: '\\u20ac'.repeat(3) })));
  c.end(); socket.end();
})();
";
    let mut node = VSCODE_JSONRPC.command();
    let output = node.args(["-e", script, &addr.port().to_string()]).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let expected =
        "sum,fast,slow 85944171f73967e8\n6 -32603\n-32601 -32602\n-32800\n{\"text\":\"€€€\"}\n";
    assert_eq!(said, expected, "{output:?}");
}

#[test]
fn curl_posts_calls_and_gets_their_answers() {
    skip_without!(CURL);
    let (_server, addr) = Process::serve("rpc");
    let post = |body: &str| curl::ask(addr, "/", &["--data-binary", body]);
    let batch = r#"[{"jsonrpc":"2.0","id":1,"method":"sleep","params":[20]},
        {"jsonrpc":"2.0","id":2,"method":"add","params":{"a":2,"b":3}},{"jsonrpc":"2.0","method":"x"}]"#;
    let response = post(batch);
    assert_eq!(response.header("Content-Type"), Some("application/json"));
    let answers: Value = serde_json::from_str(&response.body).expect("JSON");
    assert_eq!(answers, json!([result(2, json!(5)), result(1, json!(20))]));
    let notified = post(r#"{"jsonrpc":"2.0","method":"echo"}"#);
    assert_eq!((notified.status, &*notified.body), (204, ""));
    let all = post(r#"[{"jsonrpc":"2.0","method":"echo"},{"jsonrpc":"2.0","method":"y"}]"#);
    assert_eq!((all.status, &*all.body), (204, ""));
    for (body, code) in [
        ("{", -32700),
        ("", -32700),
        ("[]", -32600),
        (r#"{"jsonrpc":"2.0","id":1,"method":"ask","params":["?"]}"#, -32002),
    ] {
        let response = post(body);
        let answer = serde_json::from_str(&response.body).expect("JSON");
        assert_eq!((response.status, error(&answer).1), (200, code), "{body}");
    }
    assert_eq!(curl::ask(addr, "/", &[]).status, 405);
    let long = format!("\"{}\"", "x".repeat(64 * 1024));
    assert_eq!(post(&long).status, 413);
}

/// As they stand in chapter 7 of the specification, with methods that are here.
#[test]
fn examples_of_the_specification_get_its_answers() {
    let (_server, addr) = Process::serve("rpc");
    let mut talk = Talk::to(addr);
    let sum = talk.ask(r#"{"jsonrpc": "2.0", "method": "add", "params": [42, -23], "id": 1}"#);
    assert_eq!(sum, result(1, json!(19)));
    let named = r#"{"jsonrpc": "2.0", "method": "add", "params": {"b": 23, "a": 42}, "id": "x"}"#;
    assert_eq!(talk.ask(named), result("x", json!(65)));
    for (text, id, code) in [
        (r#"{"jsonrpc": "2.0", "method": "foobar", "id": "1"}"#, json!("1"), -32601),
        (r#"{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]"#, Value::Null, -32700),
        (r#"{"jsonrpc": "2.0", "method": 1, "params": "bar"}"#, Value::Null, -32600),
        (
            r#"[{"jsonrpc": "2.0", "method": "add", "id": "1"},{"jsonrpc": "2.0", "method"]"#,
            Value::Null,
            -32700,
        ),
        ("[]", Value::Null, -32600),
        (r#"{"jsonrpc": "2.0", "method": "add", "params": [1], "id": 2}"#, json!(2), -32602),
        (
            r#"{"jsonrpc": "2.0", "method": "add", "params": [1e308, 1e308], "id": 2}"#,
            json!(2),
            -32602,
        ),
        (
            r#"{"jsonrpc": "2.0", "method": "sleep", "params": [60001], "id": 2.5}"#,
            json!(2.5),
            -32602,
        ),
        (
            r#"{"jsonrpc": "2.0", "method": "hash", "params": ["aa", 99999999], "id": null}"#,
            Value::Null,
            -32602,
        ),
    ] {
        assert_eq!(error(&talk.ask(text)), (&id, code), "{text}");
    }
    let three = talk.ask("[1,2,3]");
    let codes: Vec<_> = three.as_array().expect("a batch").iter().map(error).collect();
    assert_eq!(codes, [(&Value::Null, -32600); 3]);
    let batch = talk.ask(
        r#"[{"jsonrpc": "2.0", "method": "add", "params": [1,2], "id": "1"},
            {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]},
            {"foo": "boo"},
            {"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"}]"#
            .replace('\n', ""),
    );
    let batch = batch.as_array().expect("a batch");
    assert_eq!(batch[0], result("1", json!(3)));
    assert_eq!(
        [error(&batch[1]), error(&batch[2])],
        [(&Value::Null, -32600), (&json!("5"), -32601)]
    );
    assert_eq!(batch.len(), 3);
    // Notifications, whatever is wrong with them, get no answer: the next one is for the call.
    talk.0.send(
        "{\"jsonrpc\": \"2.0\", \"method\": \"update\", \"params\": [1]}\n\
         {\"jsonrpc\": \"2.0\", \"method\": \"add\"}\n\
         [{\"jsonrpc\": \"2.0\", \"method\": \"add\", \"params\": [\"x\"]}]\n",
    );
    talk.is_served();
}

#[test]
fn hostile_messages_are_refused_and_others_are_served() {
    let (server, addr) = Process::serve("rpc");
    let (mut bad, mut other) = (Talk::to(addr), Talk::to(addr));
    let deep =
        |open: &str, close: &str| format!("{}1{}", open.repeat(10_000), close.repeat(10_000));
    for text in [
        deep("[", "]"),
        deep("{\"a\":", "}"),
        "[".repeat(60_000),
        r#"{"jsonrpc":"2.0","id":1e400,"method":"echo"}"#.into(),
        "\u{1}".into(),
        "{\"jsonrpc\":\"2.0\",\"id\":\"\\ud800\",\"method\":\"echo\"}".into(),
    ] {
        assert_eq!(error(&bad.ask(&text)), (&Value::Null, -32700), "{:?}", text.get(..40));
        other.is_served();
    }
    assert_eq!(error(&bad.ask(b"\"\xff\"")).1, -32700);
    // A long batch is one error, and not as many.
    for count in [101, 30_000] {
        let batch = format!("[{}1]", "1,".repeat(count - 1));
        assert_eq!(error(&bad.ask(batch)), (&Value::Null, -32600));
    }
    assert_eq!(bad.ask(format!("[{}1]", "1,".repeat(99))).as_array().map(Vec::len), Some(100));
    // An id that is in use is refused; the call that has it goes on.
    bad.call(1, "sleep", json!([60_000]));
    bad.call(1, "echo", json!([]));
    assert_eq!(error(&bad.next()), (&json!(1), -32600));
    let batch: Vec<_> = (0..100)
        .map(|id| json!({"jsonrpc": "2.0", "id": id + 10, "method": "ask", "params": ["?"]}))
        .collect();
    bad.send(&batch.into());
    for _ in 0..99 {
        assert_eq!(bad.next()["method"], "confirm");
    }
    // With the one that sleeps there are a hundred. Answers to nothing are none.
    bad.call("more", "sleep", json!([0]));
    assert_eq!(error(&bad.next()), (&json!("more"), -32001));
    for text in
        [r#"{"jsonrpc":"2.0","id":99999,"result":1}"#, r#"{"jsonrpc":"2.0","id":"1","error":{}}"#]
    {
        bad.0.send(format!("{text}\n"));
    }
    bad.send(&json!({"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": 1}}));
    assert_eq!(error(&bad.next()), (&json!(1), -32800));
    bad.send(&json!({"jsonrpc": "2.0", "method": "$/cancelRequest", "params": [[[1]]]}));
    bad.is_served();
    // A line that does not end, and a length that lies.
    bad.0.send("[".repeat(100_000));
    assert_eq!(error(&bad.next()), (&Value::Null, -32700));
    assert_eq!(bad.0.rest(), "");
    for head in [
        "Content-Length: 2147483648\r\n\r\n",
        "Content-Length: 3\r\n\r\n[1]]]]\r\n\r\n",
        "Content-Type: x\r\n\r\n",
    ] {
        let mut bad = Client::connect(addr);
        bad.send(head);
        let said = bad.rest();
        assert!(said.contains("-32700") && said.ends_with('}'), "{head:?}: {said}");
        assert_eq!(said.matches("Content-Length: ").count(), 1 + usize::from(head.contains("[1]")));
    }
    other.is_served();
    #[cfg(target_os = "linux")]
    assert!(server.resident_kib_max() < 48 * 1024, "{} KiB", server.resident_kib_max());
    drop(server);
}

#[test]
#[cfg(target_os = "linux")]
fn client_that_never_reads_is_not_read_and_others_are_served() {
    let _ceiling = ceiling(LIMIT);
    let (server, addr) = Process::serve("rpc");
    let mut bad = Client::connect(addr);
    let text = "x".repeat(30_000);
    let call =
        format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"echo\",\"params\":[\"{text}\"]}}\n");
    let stream = bad.0.get_mut();
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let (mut sent, mut other) = (0, Talk::to(addr));
    // Until the kernel's buffers are full, in both directions.
    while stream.write_all(call.as_bytes()).is_ok() {
        sent += 1;
        assert!(sent < 3000, "it reads on and on");
        other.is_served();
    }
    other.is_served();
    assert!(server.resident_kib_max() < 32 * 1024, "{} KiB", server.resident_kib_max());
}

#[test]
fn call_that_takes_too_long_is_answered_with_an_error() {
    let (_server, addr) =
        Process::listening(example("rpc").args(["--timeout", "1", "127.0.0.1:0"]));
    let mut talk = Talk::to(addr);
    talk.call(1, "ask", json!(["?"]));
    let asked = talk.next();
    talk.call(2, "sleep", json!([50_000]));
    let answers = [talk.next(), talk.next()];
    assert_eq!(answers.each_ref().map(error), [(&json!(1), -32000), (&json!(2), -32000)]);
    // Too late.
    talk.send(&result(asked["id"].clone(), json!(true)));
    talk.is_served();
}

#[test]
fn framing_that_is_named_is_the_only_one() {
    let framed = |name| Process::listening(example("rpc").args(["--framing", name, "127.0.0.1:0"]));
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"echo"}"#;
    let (_server, addr) = framed("headers");
    let mut client = Client::connect(addr);
    client.send(format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    assert!(client.line().starts_with("Content-Length: 38"));
    let mut client = Client::connect(addr);
    client.send(format!("{body}\r\n\r\n"));
    assert!(client.rest().contains("-32700"));
    let (_server, addr) = framed("http");
    let mut client = Client::connect(addr);
    client.send(format!("{body}\r\n\r\n"));
    assert!(client.rest().starts_with("HTTP/1.1 400 "));
    let (_server, addr) = framed("lines");
    let mut client = Client::connect(addr);
    client.send("POST / HTTP/1.1\r\n");
    assert!(client.line().contains("-32700"));
}

#[test]
fn server_that_is_to_end_answers_what_was_asked() {
    let (mut server, addr) = Process::serve("rpc");
    let (mut talk, mut idle) = (Talk::to(addr), Talk::to(addr));
    idle.is_served();
    talk.call(1, "ask", json!(["?"]));
    let asked = talk.next();
    super::ending::signal(&server, Signal::TERM);
    let mut rest = String::new();
    idle.0.0.read_to_string(&mut rest).expect("an orderly end");
    assert!(server.line().contains("waiting up to 5 s for"));
    talk.send(&result(asked["id"].clone(), json!("yes")));
    assert_eq!(talk.next(), result(1, json!("yes")));
    let mut rest = String::new();
    talk.0.0.read_line(&mut rest).expect("an orderly end");
    assert_eq!((&*rest, server.rest().1), ("", Some(0)));
}

#[test]
fn bad_arguments_are_refused_in_one_line() {
    for (args, because) in [
        (&["--framing", "netstrings"][..], "--framing wants lines, headers or http"),
        (&["--framing"], "--framing"),
        (&["--timeout", "soon"], "--timeout wants a whole number"),
        (&["nonsense"], "cannot listen on nonsense: "),
        (&["0", "1"], "\"1\""),
    ] {
        let output = output("rpc", args);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{args:?}: {said}");
        assert!(said.starts_with("error: ") && said.contains(because), "{args:?}: {said}");
    }
}

#[test]
fn client_that_sends_nothing_but_nonsense_is_closed_and_one_that_errs_is_not() {
    let (_server, addr) = Process::serve("rpc");
    let mut client = Client::connect(addr);
    client.send("x\n".repeat(99) + "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"echo\"}\n");
    client.send("x\n".repeat(300));
    let answers = client.rest();
    let errors = answers.lines().filter(|line| line.contains("-32700")).count();
    assert_eq!((errors, answers.lines().count()), (99 + 100, 99 + 100 + 1));
}
