//! HTTP: a greeting, JSON, an upload, and a slow page that holds up nobody.
//!
//! Run:  cargo run --release --features http --example http
//! Then: open http://127.0.0.1:8080/index in a browser, or
//!       curl 127.0.0.1:8080/hello/Ann
//!       curl -d '{"answer": 42}' 127.0.0.1:8080/echo
//!       curl '127.0.0.1:8080/slow?ms=2000' & curl 127.0.0.1:8080/
//!       seq 1000000 | curl -T - 127.0.0.1:8080/count
//!       wrk -t1 -c64 http://127.0.0.1:8080/
//! See:  the slow page come last, and nobody wait for it; a gigabyte counted in a few kilobytes of
//!       memory; on Ctrl-C no new clients, and those that wait still get their response; with
//!       RUST_LOG=info, each request that it refuses, and why (`nc 127.0.0.1 8080`, and type).
//! Look: `slow`. The reply is a value: it is moved into a timer, and sent when that fires.
//! Next: add each count to a total in the state, and show that at `/total`; let `/count` refuse an
//!       upload by its `Content-Length`; a route that answers from a worker (`offload`).

use std::time::Duration;

use serde_json::Value;
use waterwheel::protocols::http::{Body, BodyHandler, Limits, Method, Reply, Request};
use waterwheel::protocols::http::{Response, Router, Server, StatusCode};
use waterwheel::{Context, Reactor};

#[path = "../cli/mod.rs"]
mod cli;

const USAGE: &str = "\
Usage: http [OPTIONS] [ADDR]

Serves HTTP/1.1: /, /index, /hello/NAME, /echo, /slow?ms=N, /count, /source. ADDR
is 127.0.0.1:8080 unless given; a bare port means 127.0.0.1. /echo takes 64 KiB,
/count as much as comes. All clients together may have 16 MiB buffered; then who
reads least is closed.

Options:
  -h, --help      show this";

/// A page that tries all the others.
const INDEX: &str = include_str!("http/index.html");
const SOURCE: &str = include_str!("http.rs");

/// Bytes of a body that is collected, here the JSON of `/echo`: while it is read everybody waits, and
/// as values it takes up to ninety times as much memory. 64 KiB: some milliseconds, and 6 MB.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// How long those that wait for a response may still wait when the server is to end.
const DRAIN_GRACE: Duration = Duration::from_secs(30);
/// The longest wait of `/slow`: during it a timer and a reply take memory.
const SLOW_MS_MAX: u64 = 60_000;

fn main() {
    let args = cli::parse(USAGE, "127.0.0.1:8080", &[]);
    cli::exit_on_error(run(&args));
}

fn run(args: &cli::Args) -> Result<(), String> {
    cli::raise_open_files();
    let mut reactor = Reactor::new().map_err(|error| error.to_string())?;
    let routes = Router::new()
        .get("/", |reactor, _, _, reply| {
            reply.send(reactor, "Hello, world!\n");
        })
        .get("/index", |reactor, _, _, reply| {
            reply.send(reactor, Response::html(INDEX));
        })
        .get("/source", source)
        .get("/hello/{name}", hello)
        .post("/echo", echo)
        .get("/slow", slow)
        .stream(Method::PUT, "/count", count);
    let buffers = Some(cli::buffers());
    let limits = Limits { body_bytes_max: BODY_BYTES_MAX, buffers, ..Limits::default() };
    let listener = Server::routes(routes)
        .limits(limits)
        .listen(&mut reactor, &args.addr)
        .map_err(cli::cannot("listen on"))?;
    cli::end_on_signals(&mut reactor, DRAIN_GRACE)?;
    cli::say(format_args!("listening on {}", reactor[listener].local_addr()));
    cli::run(&mut reactor, &mut ())
}

/// Sends this program; or a part, so that a download that was cut can go on.
fn source(reactor: &mut Context<()>, _: &mut (), request: &Request<'_>, reply: Reply) {
    reply.send(reactor, Response::text(SOURCE).ranged(request));
}

fn hello(reactor: &mut Context<()>, _: &mut (), request: &Request<'_>, reply: Reply) {
    let name = request.param("name").unwrap_or_default();
    reply.send(reactor, format!("Hello, {name}!\n"));
}

/// Sends JSON back, as it was understood.
fn echo(reactor: &mut Context<()>, _: &mut (), request: &Request<'_>, reply: Reply) {
    let response = match serde_json::from_slice::<Value>(request.body()) {
        Ok(value) => Response::json(format!("{value}\n")),
        Err(error) => {
            Response::text(format!("not JSON: {error}\n")).status(StatusCode::BAD_REQUEST)
        }
    };
    reply.send(reactor, response);
}

/// Answers later. If the client goes before that, the timer is cancelled, and the reply with it.
fn slow(reactor: &mut Context<()>, _: &mut (), request: &Request<'_>, reply: Reply) {
    let given = request.query_param("ms").and_then(|ms| ms.parse().ok());
    let ms = given.unwrap_or(1000).min(SLOW_MS_MAX);
    let watch = reply.watch();
    let timer = reactor.after(Duration::from_millis(ms), move |reactor, _| {
        reply.send(reactor, format!("Here I am, {ms} ms later.\n"));
    });
    watch.on_gone(reactor, move |reactor, _: &mut ()| {
        reactor.cancel(timer);
    });
}

/// Counts an upload while it arrives, as `wc` does. None of it is kept.
fn count(_: &mut Context<()>, _: &mut (), _: &Request<'_>, reply: Reply) -> BodyHandler<()> {
    let (mut lines, mut bytes, mut reply) = (0, 0, Some(reply));
    Box::new(move |reactor, _, body| match body {
        Body::Data(data) => {
            lines += data.iter().filter(|byte| **byte == b'\n').count();
            bytes += data.len();
        }
        Body::End => {
            if let Some(reply) = reply.take() {
                reply.send(reactor, format!("{lines} lines, {bytes} bytes\n"));
            }
        }
        Body::Failed(why) => log::info!("an upload failed after {bytes} bytes: {why}"),
    })
}
