//! Proxy: everything that comes in on one address goes to another, and back.
//!
//! Run:  cargo run --release --example echo & cargo run --release --example proxy
//! Then: nc 127.0.0.1 7002        and type; or, for a megabyte:
//!       head -c 1000000 /dev/urandom > sent; nc -N 127.0.0.1 7002 < sent | cmp - sent
//! See:  the echo of 7001, and a line for each connection that has ended.
//! Look: `net::link`. It pauses the side that sends faster than the other reads, passes each FIN
//!       on as a FIN, each reset as a reset. And `late`, which delays the bytes (`--delay 200`).
//! Next: print what passes, or cut off clients that send too much; choose among upstreams, and
//!       leave out for a while those that refuse; greet the upstream with the client's address (the
//!       PROXY protocol) by `Stream::write`.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use waterwheel::net::{
    self, Limits, Link, LinkReport, Passing, Rate, Stream, Tap, ToAddresses, tcp,
};
use waterwheel::{Context, Reactor, SourceId};

mod cli;

const USAGE: &str = "\
Usage: proxy [OPTIONS] [LISTEN [UPSTREAM]]

Passes each connection on to UPSTREAM (127.0.0.1:7001 unless given). LISTEN is
127.0.0.1:7002 unless given; a bare port means 127.0.0.1. If either side has
vanished both are closed: TCP's keep-alive asks every 15 s. All clients together
may have 16 MiB buffered; then the slowest reader is closed.

Options:
  --delay MS       hold up each piece so long, in both directions
  --rate BYTES     read so many a second, from all clients together and from
                   all upstreams (default: as many as there are)
  -h, --help       show this";

/// How long the upstream may take to accept.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long either side may read nothing while there is something for it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

fn main() {
    let args = cli::parse_two(USAGE, ["127.0.0.1:7002", "127.0.0.1:7001"], &["--delay", "--rate"]);
    cli::exit_on_error(run(&args));
}

fn run(args: &cli::Args) -> Result<(), String> {
    cli::raise_open_files();
    let upstream = args.second.clone();
    // Looking a name up blocks, which does no harm before the loop runs. Each connection asks
    // again: it finds an upstream that has moved, and tries all addresses if one of them is dead.
    upstream.to_addresses().map_err(cli::cannot("look up"))?;
    let mut reactor = Reactor::new().map_err(|error| error.to_string())?;
    let rate = args.number("--rate");
    let delay = args.number("--delay").map(Duration::from_millis);
    // Two buckets, one for each direction; each is shared by all connections with these limits.
    let buffers = Some(cli::buffers());
    let [clients, servers] = [(); 2].map(|()| Limits {
        buffers: buffers.clone(),
        write_timeout: Some(WRITE_TIMEOUT),
        read_rate: rate.map(|rate| Rate::new(rate, rate / 10)),
        ..Limits::default()
    });
    let listener = tcp::Listen::new()
        .limits(clients)
        .keepalive(Some(cli::KEEPALIVE))
        .open(&mut reactor, &args.addr, move |reactor, _, client| {
            pass_on(reactor, client, &upstream, servers.clone(), delay);
        })
        .map_err(cli::cannot("listen on"))?;
    cli::end_on_signals(&mut reactor, cli::GRACE)?;
    cli::say(format_args!("listening on {}", reactor[listener].local_addr()));
    cli::run(&mut reactor, &mut ())
}

/// Connects a client to the upstream. If that fails the client is dropped, which closes it.
fn pass_on(
    reactor: &mut Context<()>,
    client: Stream,
    upstream: &str,
    limits: Limits,
    delay: Option<Duration>,
) {
    let peer = client.peer();
    let refuse = move |error| cli::say(format_args!("{}: {error}", name(peer)));
    let connected = move |reactor: &mut _, _: &mut _, server: io::Result<Stream>| match server {
        Ok(server) => {
            let done = move |_: &mut _, _: &mut _, report| tell(peer, &report);
            let server = server.limits(limits);
            match delay {
                Some(delay) => net::link_with(reactor, client, server, late(delay), done),
                None => net::link(reactor, client, server, done),
            };
        }
        Err(error) => refuse(error),
    };
    // Only the name can be wrong at once, and that was checked.
    let connect = tcp::Connect::new().timeout(CONNECT_TIMEOUT).keepalive(Some(cli::KEEPALIVE));
    connect.open(reactor, upstream, connected).map_err(refuse).ok();
}

/// A piece waits when it is seen first, and passes when it is seen again.
fn late(
    delay: Duration,
) -> impl FnMut(&mut Context<()>, &mut (), SourceId<Link>, Passing<'_>) -> Tap {
    let mut waits = [false; 2];
    move |reactor, _, link, passing| {
        let Passing::Data(side, _) = passing else { return Tap::Pass };
        let waits = &mut waits[side as usize];
        *waits = !*waits;
        if !*waits {
            return Tap::Pass;
        }
        reactor.after(delay, move |reactor, _| {
            link.resume(reactor, side);
        });
        Tap::Wait
    }
}

fn tell(peer: Option<SocketAddr>, report: &LinkReport) {
    let LinkReport { a: client, b: server, duration, .. } = report;
    cli::say(format_args!(
        "{}: {} bytes there, {} back, {} ms; client {}, upstream {}",
        name(peer),
        client.bytes,
        server.bytes,
        duration.as_millis(),
        client.reason,
        server.reason,
    ));
}

fn name(peer: Option<SocketAddr>) -> String {
    peer.map_or_else(|| "?".to_owned(), |peer| peer.to_string())
}
