//! Balance: an HTTP load balancer that keeps what works: health, ejection, retry within a budget.
//!
//! Run:  cargo run --release --features http --example balance -- 7001 --to 127.0.0.1:8001 --to 127.0.0.1:8002
//! Then: python3 -m http.server 8001 & python3 -m http.server 8002 &
//!       curl -i 127.0.0.1:7001/      again and again; kill one of the two, and again
//!       wrk -t1 -c64 http://127.0.0.1:7001/
//! See:  no failed request when one upstream dies; with `--status 7009`, `curl 127.0.0.1:7009`: who is out.
//! Look: `fails` in `pool.rs`: an upstream is left out after three failures in a row, but never more than
//!       half of them: if all seem broken, it is more likely the network, and half can still try.
//! Next: weights; https to the clients (`Server::tls`); a cookie that keeps a client at its upstream.
//!
//! A client costs 16 KiB of a head and 16 KiB of a body, kept for another attempt, and while its upstream
//! does not read, 320 KiB of an upload. All may have 16 MiB buffered for them, then the slowest is closed.

use std::time::Duration;

use waterwheel::net::ToAddresses;
use waterwheel::protocols::http::{Client, ClientLimits, Limits, Server};
use waterwheel::reactor::Missed;
use waterwheel::{Context, Reactor};

#[path = "../cli/mod.rs"]
mod cli;
mod pool;
mod proxy;

use pool::{By, Pool, UPSTREAMS_MAX};
use proxy::State;

const USAGE: &str = "\
Usage: balance [OPTIONS] [ADDR] --to UPSTREAM [--to UPSTREAM ...]

Passes HTTP requests on to 64 upstreams at most, each a host and a port. ADDR is
127.0.0.1:7001 unless given; a bare port means 127.0.0.1. An upstream that fails
three times in a row is left out for 1 s, then 2 s, up to 60 s; never more than half
are. A request that failed goes to another one if it may be sent twice; one in five
may. 502: it broke, 503: all are broken (or no connection in 3 s), 504: too slow.

1,024 clients at a time, with 16 KiB of a body kept for another attempt. All may
have 16 MiB buffered; then the slowest reader is closed.

Options:
  --by HOW        round (default), least: fewest requests under way, or client:
                  the same upstream for the same client's address
  --check PATH    ask each upstream for that, too; 2xx and 3xx pass
  --every MS      how often (default: 1000)
  --timeout MS    how long an upstream may be silent (default: 30000)
  --status ADDR   a page about the upstreams
  -h, --help      show this";

/// Clients at a time.
const CLIENTS_MAX: usize = 1024;
/// Connections to one upstream; further requests wait.
const CONNECTIONS_MAX: usize = 1024;
/// How long one may take to accept, and a request may wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

fn main() {
    let options = ["--to", "--by", "--check", "--every", "--timeout", "--status"];
    cli::exit_on_error(run(&cli::parse(USAGE, "127.0.0.1:7001", &options)));
}

fn run(args: &cli::Args) -> Result<(), String> {
    cli::raise_open_files();
    let by = match args.text("--by") {
        None | Some("round") => By::Round,
        Some("least") => By::Least,
        Some("client") => By::Client,
        Some(other) => {
            cli::bad_usage(format_args!("--by is round, least or client, not {other:?}"))
        }
    };
    let names: Vec<String> = args.all("--to").map(str::to_owned).collect();
    if !(1..=UPSTREAMS_MAX).contains(&names.len()) {
        cli::bad_usage(format_args!("--to UPSTREAM is wanted, 1 to {UPSTREAMS_MAX} times"));
    }
    for name in &names {
        name.to_addresses().map_err(cli::cannot("look up"))?;
    }
    let ms = |option, usual| Duration::from_millis(args.number(option).unwrap_or(usual).max(1));
    let mut reactor = Reactor::new().map_err(|error| error.to_string())?;
    let client = Client::new().limits(upstream_limits(ms("--timeout", 30_000)));
    let mut state = State { pool: Pool::new(names, by), client, limits: cli::limits() };
    let limits =
        Limits { buffers: Some(cli::buffers()), connections_max: CLIENTS_MAX, ..Limits::default() };
    let server = proxy::server().limits(limits);
    let listener = server.listen(&mut reactor, &args.addr).map_err(cli::cannot("listen on"))?;
    if let Some(addr) = args.text("--status") {
        let addr = addr.parse::<u16>().map_or(addr.to_owned(), |port| format!("127.0.0.1:{port}"));
        let status = Server::new(|reactor, state: &mut State, _, reply| {
            let page = page(reactor, &state.pool);
            reply.send(reactor, page);
        });
        status.listen(&mut reactor, &addr).map_err(cli::cannot("listen on"))?;
    }
    if let Some(path) = args.text("--check") {
        check(&mut reactor, path.to_owned(), ms("--every", 1000));
    }
    cli::end_on_signals(&mut reactor, cli::GRACE)?;
    cli::say(format_args!("listening on {}", reactor[listener].local_addr()));
    cli::run(&mut reactor, &mut state)
}

fn upstream_limits(timeout: Duration) -> ClientLimits {
    ClientLimits {
        queue_timeout: Some(CONNECT_TIMEOUT),
        connect_timeout: Some(CONNECT_TIMEOUT),
        head_timeout: Some(timeout),
        body_timeout: Some(timeout),
        write_timeout: Some(timeout),
        connections_per_host_max: CONNECTIONS_MAX,
        waiting_max: CLIENTS_MAX,
        idle_per_host_max: CONNECTIONS_MAX,
        idle_max: CONNECTIONS_MAX,
        ..ClientLimits::default()
    }
}

/// Asks each upstream now and then; that counts as a client's request does.
fn check(reactor: &mut Context<State>, path: String, every: Duration) {
    let limits = ClientLimits { total_timeout: Some(every), ..ClientLimits::default() };
    let client = Client::new().limits(limits);
    reactor.every(every, Missed::Skip, move |reactor, state: &mut State, _| {
        for (at, upstream) in state.pool.upstreams.iter().enumerate() {
            let url = format!("http://{}{path}", upstream.name);
            client.get(reactor, url, move |reactor, state: &mut State, result| {
                match result.is_ok_and(|r| r.status.is_success() || r.status.is_redirection()) {
                    true => state.pool.works(at, reactor.now()),
                    false => state.pool.fails(at, reactor.now()),
                }
            });
        }
    });
}

/// What is known of the upstreams.
fn page(reactor: &Context<State>, pool: &Pool) -> String {
    let mut page = format!("{} retries\n", pool.retries);
    for one in &pool.upstreams {
        let left = one.out.map(|until| until.saturating_duration_since(reactor.now()));
        let state = left.map_or("in".to_owned(), |left| format!("out for {} ms", left.as_millis()));
        page += &format!(
            "{}: {state}, {} under way, {} requests, {} failures, {} us\n",
            one.name,
            one.under_way,
            one.requests,
            one.failures,
            one.latency.as_micros(),
        );
    }
    page
}
