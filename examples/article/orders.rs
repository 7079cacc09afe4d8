//! Orders: a web server that hands its work on, and says so only when the queue has it.
//!
//! Run:  cargo run --release --example mq -- --log jobs.log &
//!       cargo run --release --features http --example orders
//! Then: curl -i -d 'two teas' 127.0.0.1:8081/orders     and stop mq, and again
//! See:  202 and the order's number: from then on the order survives everything except its disk. Without
//!       a queue, 503 and `Retry-After`; and when mq is back, so are we.
//! Look: `answered`. The reply waits beside the others for its `INSERTED`, and holds up no other request.
//! Next: a number that the client chooses, so that an order sent twice is one; the state of an order
//!       at `/orders/NUMBER`; a worker's answer over server-sent events (`live`).
//!
//! A client costs 16 KiB of a head and 16 KiB of a body. 1,024 orders wait for the queue at most; one more
//! gets 503. The lines for `logs` and `metrics` are datagrams, which may be lost.

use std::collections::VecDeque;
use std::net::SocketAddr;

use waterwheel::net::{Conn, ToAddresses, udp};
use waterwheel::protocols::http::{Limits, Reply, Request, Response, Router, Server, StatusCode};
use waterwheel::{Context, Reactor, SourceId};

#[path = "../cli/mod.rs"]
mod cli;
mod keep;
#[allow(dead_code)] // The other program uses the rest.
mod queue;

use keep::News;
use queue::Answer;

const USAGE: &str = "\
Usage: orders [OPTIONS] [ADDR]

Takes orders over HTTP, POST /orders, and puts them into a queue, mq or beanstalkd.
The answer is 202 and the order's number when the queue has it, and 503 if it takes
none. GET / says if there is a queue. ADDR is 127.0.0.1:8081 unless given; a bare port
means 127.0.0.1. All clients together may have 16 MiB buffered.

Options:
  --queue ADDR    [127.0.0.1:11300]
  --logs ADDR     send a line about each request there, by syslog over UDP
  --metrics ADDR  count there, by statsd
  -h, --help      show this";

/// Bytes of an order.
const ORDER_BYTES_MAX: usize = 16 * 1024;
/// Orders that wait for the queue's answer.
const WAITING_MAX: usize = 1024;
/// Seconds after which a client that got 503 may try again.
const RETRY_AFTER: &str = "1";

#[derive(Default)]
struct Orders {
    queue: Option<SourceId<Conn>>,
    /// Those that the queue has not answered yet, in the order in which they were sent.
    waiting: VecDeque<Reply>,
    socket: Option<SourceId<udp::Socket>>,
    logs: Option<SocketAddr>,
    metrics: Option<SocketAddr>,
}

fn main() {
    let args = cli::parse(USAGE, "127.0.0.1:8081", &["--queue", "--logs", "--metrics"]);
    cli::exit_on_error(run(&args));
}

fn run(args: &cli::Args) -> Result<(), String> {
    cli::raise_open_files();
    let mut reactor = Reactor::new().map_err(|error| error.to_string())?;
    let (logs, metrics) = (address(args, "--logs")?, address(args, "--metrics")?);
    let mut orders = Orders { logs, metrics, ..Orders::default() };
    let socket = udp::bind(&mut reactor, "0.0.0.0:0", |_, _, _, event| {
        log::debug!("{event:?}"); // For instance that nobody listens there.
    });
    orders.socket = Some(socket.map_err(cli::cannot("send from"))?);
    let queue = args.text("--queue").unwrap_or("127.0.0.1:11300");
    keep::keep(&mut reactor, queue, queue::Answers, on_queue).map_err(cli::cannot("connect to"))?;
    let buffers = Some(cli::buffers());
    let limits = Limits { body_bytes_max: ORDER_BYTES_MAX, buffers, ..Limits::default() };
    let listener = Server::routes(Router::new().get("/", health).post("/orders", order))
        .limits(limits)
        .listen(&mut reactor, &args.addr)
        .map_err(cli::cannot("listen on"))?;
    cli::end_on_signals(&mut reactor, cli::GRACE)?;
    cli::say(format_args!("listening on {}", reactor[listener].local_addr()));
    cli::run(&mut reactor, &mut orders)
}

/// Where an option's datagrams go: an address of IPv4, as our socket is.
fn address(args: &cli::Args, option: &str) -> Result<Option<SocketAddr>, String> {
    let Some(name) = args.text(option) else { return Ok(None) };
    let found = name.to_addresses().map_err(cli::cannot("look up"))?;
    let address = found.into_iter().find(SocketAddr::is_ipv4);
    let refuse = || cli::bad_usage(format_args!("{option} {name} is no address of IPv4"));
    Ok(Some(address.unwrap_or_else(refuse)))
}

fn health(reactor: &mut Context<Orders>, orders: &mut Orders, _: &Request<'_>, reply: Reply) {
    match orders.queue {
        Some(_) => reply.send(reactor, "takes orders\n"),
        None => reply.send(reactor, unavailable()),
    };
}

fn order(reactor: &mut Context<Orders>, orders: &mut Orders, request: &Request<'_>, reply: Reply) {
    match orders.queue {
        Some(queue)
            if orders.waiting.len() < WAITING_MAX
                && queue.write(reactor, &queue::put(request.body())).is_taken() =>
        {
            orders.waiting.push_back(reply);
        }
        _ => orders.respond(reactor, reply, None),
    }
}

fn on_queue(reactor: &mut Context<Orders>, orders: &mut Orders, news: News<'_>) {
    match news {
        News::Up(conn) => orders.queue = Some(conn),
        News::Frame(frame) => answered(reactor, orders, &queue::answer(frame)),
        News::Down => {
            orders.queue = None;
            // It may have them or not. A client that asks again may order twice.
            while let Some(reply) = orders.waiting.pop_front() {
                orders.respond(reactor, reply, None);
            }
        }
    }
}

/// The queue has answered the first of those that wait.
fn answered(reactor: &mut Context<Orders>, orders: &mut Orders, answer: &Answer<'_>) {
    let Some(reply) = orders.waiting.pop_front() else { return };
    match answer {
        Answer::Inserted(job) => orders.respond(reactor, reply, Some(*job)),
        answer => {
            log::warn!("the queue says: {answer:?}");
            orders.respond(reactor, reply, None);
        }
    }
}

impl Orders {
    fn respond(&mut self, reactor: &mut Context<Orders>, reply: Reply, job: Option<u64>) {
        let (response, line, count) = match job {
            Some(job) => {
                let response = Response::text(format!("{job}\n")).status(StatusCode::ACCEPTED);
                (response, format!("order {job} accepted"), "orders.accepted:1|c")
            }
            None => (unavailable(), "an order refused".to_owned(), "orders.refused:1|c"),
        };
        reply.send(reactor, response);
        let line = format!("<134>1 - - orders {} - - {line}", std::process::id());
        for (to, text) in [(self.logs, line.as_str()), (self.metrics, count)] {
            if let (Some(to), Some(socket)) = (to, self.socket) {
                let _ = socket.send_to(reactor, text.as_bytes(), &to); // It may be lost anyway.
            }
        }
    }
}

fn unavailable() -> Response {
    Response::from(StatusCode::SERVICE_UNAVAILABLE).header("Retry-After", RETRY_AFTER)
}
