//! Nc: stdin and stdout joined to a connection, as netcat does it.
//!
//! Run:  cargo run --release --example nc -- -l 7001
//! Then: cargo run --release --example nc -- localhost 7001      and type in both; or the real one:
//!       nc -N 127.0.0.1 7001 < sent      and `> got` behind the first, then: cmp sent got
//! See:  what is typed in one appear in the other. Ctrl-D: without -N nothing happens, since that
//!       ends our input, and the peer may still send.
//! Look: `end_if_over`. The two directions end separately; it only decides when both have ended.
//! Next: -k, to go on listening; -z, to check if a server listens; a progress line on stderr.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::process::exit;
use std::time::Duration;

use waterwheel::net::{self, Conn, Event, HostPort, Limits, Pressure, Reason, Stream, ToAddresses};
use waterwheel::net::{tcp, udp, unix};
use waterwheel::timers::TimerId;
use waterwheel::{Context, Reactor, SourceId};

mod cli;

const USAGE: &str = "\
Usage: nc [OPTIONS] HOST PORT
       nc [OPTIONS] -l [HOST] PORT
       nc [OPTIONS] [-l] -U PATH

Sends stdin to a connection and prints what comes from there, until both sides have
finished; with -l, until the peer has; with -u, until -w ends it. A port alone means
127.0.0.1. The exit code is 1 if there was no connection or it broke.

Options:
  -l               wait for a connection, and say where on stderr
  -N               at the end of stdin, tell the peer so (half-close)
  -u               UDP: a datagram for each piece of stdin; with -l, from and to
                   whoever sends the first
  -U               a Unix socket
  -w SECONDS       1 at least: give up connecting after so long, and end when so
                   long nothing is sent or comes
  -h, --help       show this";

/// The longest time that connect(2) would take, with Linux's defaults.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(127);
/// The most bytes of stdin in one datagram.
const DATAGRAM_BYTES_MAX: usize = 16 * 1024;
/// The most sent bytes that are kept, to send them again to the name's next address.
const UNHEARD_BYTES_MAX: usize = 64 * 1024;

#[derive(Default)]
struct Nc {
    listens: bool,
    half_closes: bool,
    patience: Option<Duration>,
    /// Ends the program when the patience is over.
    timer: Option<TimerId>,
    stdio: Option<SourceId<Conn>>,
    net: Option<SourceId<Conn>>,
    /// With -u, in place of `net`.
    udp: Option<(SourceId<udp::Socket>, SocketAddr)>,
    /// With -ul, our address as the peer knows it, if the system says: it may accept no other.
    ours: Option<IpAddr>,
    /// The other addresses of the name, the next one last, until somebody has answered or too much
    /// was sent.
    untried: Vec<SocketAddr>,
    /// The datagrams that were sent until then.
    unheard: Vec<Vec<u8>>,
    net_ended: bool,
    stdin_ended: bool,
    error: Option<String>,
}

fn main() {
    let args = cli::parse_values(USAGE, &["-w"], &["-l", "-N", "-u", "-U"]);
    let mut error = None;
    cli::exit_on_error(run(&args).map(|end| error = end));
    if let Some(error) = error {
        cli::warn(format_args!("error: {error}"));
        exit(1);
    }
}

/// Returns the error of the connection, if it had one; all that came before it is printed.
fn run(args: &cli::Args) -> Result<Option<String>, String> {
    let mut reactor = Reactor::new().map_err(|error| error.to_string())?;
    let mut nc = Nc {
        listens: args.has("-l"),
        half_closes: args.has("-N"),
        patience: args.number("-w").map(|seconds| Duration::from_secs(seconds.max(1))),
        ..Nc::default()
    };
    let timeout = nc.patience.unwrap_or(CONNECT_TIMEOUT);
    let local = "127.0.0.1".to_owned();
    let begun = match (&args.values[..], args.has("-U"), args.has("-u"), nc.listens) {
        ([path], true, false, false) => connect_unix(&mut reactor, path, timeout),
        ([path], true, false, true) => listen_unix(&mut reactor, path),
        ([host, port], false, false, false) => {
            tcp::connect_name(&mut reactor, &name(host, port), timeout, connected).map(drop)
        }
        ([host, port], false, true, false) => connect_udp(&mut reactor, name(host, port)),
        ([host, port], false, is_udp, true) => listen(&mut reactor, &name(host, port), is_udp),
        ([port], false, is_udp, true) => listen(&mut reactor, &name(&local, port), is_udp),
        _ => cli::bad_usage("wants HOST PORT, or -U PATH; try --help"),
    };
    if let Err(error) = begun {
        return Ok(Some(error.to_string()));
    }
    cli::run(&mut reactor, &mut nc)?;
    Ok(nc.error)
}

/// Host and port as one name; an IPv6 address has colons of its own. Any other is bad usage.
fn name(host: &str, port: &str) -> String {
    let name = if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    match name.parse::<HostPort>() {
        Ok(_) => name,
        Err(error) => cli::bad_usage(error),
    }
}

fn connected(reactor: &mut Context<Nc>, nc: &mut Nc, result: io::Result<Stream>) {
    match result {
        Ok(stream) => join(reactor, nc, stream),
        Err(error) => nc.error = Some(error.to_string()),
    }
}

fn listen(reactor: &mut Reactor<Nc>, at: &str, is_udp: bool) -> io::Result<()> {
    let addr = if is_udp {
        let bind = udp::Bind::new();
        #[cfg(all(feature = "packet-info", target_os = "linux"))]
        let bind = bind.packet_info(true);
        bind.open(reactor, at, from_udp).map(|socket| reactor[socket].local_addr())
    } else {
        let listener = tcp::listen(reactor, at, |reactor, nc: &mut Nc, stream| {
            for listener in reactor.ids::<tcp::Listener>() {
                reactor.remove(listener); // It was there for one connection.
            }
            join(reactor, nc, stream);
        });
        listener.map(|listener| reactor[listener].local_addr())
    };
    let refuse = |error| io::Error::other(format!("cannot listen on {error}"));
    cli::warn(format_args!("listening on {}", addr.map_err(refuse)?));
    Ok(())
}

/// The errors name the path.
fn connect_unix(reactor: &mut Reactor<Nc>, path: &str, timeout: Duration) -> io::Result<()> {
    let explain = |error| io::Error::other(format!("cannot connect to {error}"));
    let connected = move |reactor: &mut Context<Nc>, nc: &mut Nc, result: io::Result<Stream>| {
        connected(reactor, nc, result.map_err(explain));
    };
    unix::connect(reactor, path, timeout, connected).map(drop).map_err(explain)
}

fn listen_unix(reactor: &mut Reactor<Nc>, path: &str) -> io::Result<()> {
    let listener = unix::listen(reactor, path, |reactor, nc: &mut Nc, stream| {
        for listener in reactor.ids::<unix::Listener>() {
            reactor.remove(listener);
        }
        join(reactor, nc, stream);
    });
    listener.map_err(|error| io::Error::other(format!("cannot listen on {error}")))?;
    cli::warn(format_args!("listening on {path}"));
    Ok(())
}

/// Looking a name up blocks, so a worker does it.
fn connect_udp(reactor: &mut Reactor<Nc>, to: String) -> io::Result<()> {
    let look_up = move || to.to_addresses();
    reactor.offload(look_up, |reactor, nc: &mut Nc, found| {
        match found.unwrap_or_else(|error| Err(io::Error::other(error.to_string()))) {
            Ok(found) => {
                nc.untried = found.into_iter().rev().collect();
                match try_next(reactor, nc) {
                    Some(error) => nc.error = Some(format!("cannot connect to {error}")),
                    None => open_stdio(reactor, nc),
                }
            }
            Err(error) => nc.error = Some(format!("cannot connect to {error}")),
        }
    });
    Ok(())
}

/// Connects to the next address and sends it the datagrams that the one before did not get. A
/// later answer, or a refusal, shows if a peer is there.
fn try_next(reactor: &mut Context<Nc>, nc: &mut Nc) -> Option<io::Error> {
    let mut refused = None;
    while let Some(peer) = nc.untried.pop() {
        match udp::connect(reactor, peer, from_udp) {
            Ok(udp) => {
                nc.udp = Some((udp, peer));
                for datagram in &nc.unheard {
                    let _ = reactor[udp].send(datagram); // It may get lost, as any other.
                }
                return None;
            }
            Err(error) => refused = Some(error),
        }
    }
    refused
}

/// Joins the connection to stdin and stdout.
fn join(reactor: &mut Context<Nc>, nc: &mut Nc, stream: Stream) {
    if nc.net.is_none() {
        let limits = Limits { half_open: true, ..Limits::default() };
        nc.net = Some(stream.limits(limits).open(reactor, from_net));
        open_stdio(reactor, nc);
    } // Else it is a second one, accepted in the same turn.
}

/// Nobody reads stdin before there is somebody to send it to.
fn open_stdio(reactor: &mut Context<Nc>, nc: &mut Nc) {
    // The rest is printed, even if it is read slowly.
    let limits = Limits { half_open: true, close_grace: Duration::MAX, ..Limits::default() };
    match net::stdio(reactor) {
        Ok(stdio) => nc.stdio = Some(stdio.limits(limits).open(reactor, from_stdin)),
        Err(error) => {
            nc.error = Some(format!("stdin or stdout: {error}"));
            reactor.stop();
        }
    }
    if let Some(patience) = nc.patience {
        let timer = reactor.after(patience, |reactor, _| reactor.stop());
        reactor.unref(timer);
        nc.timer = Some(timer);
    }
}

fn from_stdin(reactor: &mut Context<Nc>, nc: &mut Nc, stdio: SourceId<Conn>, event: Event<'_>) {
    match event {
        Event::Data(bytes) if nc.udp.is_some() => send(reactor, nc, bytes, stdio),
        Event::Data(bytes) => pass(reactor, nc, bytes, stdio, nc.net),
        Event::Drained => resume(reactor, nc.net),
        Event::Eof => {
            nc.stdin_ended = true;
            if nc.half_closes
                && let Some(net) = nc.net
            {
                net.shutdown(reactor);
            }
            end_if_over(reactor, nc);
        }
        Event::Closed(Reason::Finished) => {}
        Event::Closed(why) => {
            if !matches!(why, Reason::Reset) {
                nc.error = Some(format!("stdin or stdout: {why}"));
            } // Else nobody reads our stdout any more.
            reactor.stop();
        }
    }
}

fn from_net(reactor: &mut Context<Nc>, nc: &mut Nc, net: SourceId<Conn>, event: Event<'_>) {
    match event {
        Event::Data(bytes) => pass(reactor, nc, bytes, net, nc.stdio),
        Event::Drained => resume(reactor, nc.stdio),
        Event::Eof => {
            nc.net_ended = true;
            end_if_over(reactor, nc);
        }
        Event::Closed(why) => {
            if !matches!(why, Reason::Finished) {
                nc.error = Some(format!("the connection broke: {why}"));
            }
            if let Some(stdio) = nc.stdio {
                stdio.close(reactor);
            }
        }
    }
}

fn from_udp(
    reactor: &mut Context<Nc>,
    nc: &mut Nc,
    udp: SourceId<udp::Socket>,
    event: udp::Event<'_>,
) {
    match event {
        udp::Event::Received { from, bytes, .. } => {
            if nc.udp.is_none() {
                nc.udp = Some((udp, from));
                nc.ours = reactor[udp].arrival().and_then(|arrival| arrival.own);
                open_stdio(reactor, nc);
            }
            // A datagram that nobody prints in time is lost, as datagrams may be.
            // A connected socket receives from nobody else.
            if !nc.listens || nc.udp.is_some_and(|(_, peer)| peer == from) {
                nc.untried.clear();
                nc.unheard.clear();
                if let Some(stdio) = nc.stdio {
                    let _ = stdio.write(reactor, bytes);
                }
                be_patient(reactor, nc);
            }
        }
        udp::Event::Writable => resume(reactor, nc.stdio),
        udp::Event::Error(error) => not_there(reactor, nc, &error),
    }
}

/// Sends a piece of stdin as datagrams; bytes for which there is no room come again.
fn send(reactor: &mut Context<Nc>, nc: &mut Nc, bytes: &[u8], stdio: SourceId<Conn>) {
    be_patient(reactor, nc);
    let mut sent = 0;
    for piece in bytes.chunks(DATAGRAM_BYTES_MAX) {
        let Some((udp, peer)) = nc.udp else { return };
        let offered = match nc.listens {
            true => udp.send_from(reactor, piece, &peer, nc.ours),
            false => udp.send(reactor, piece),
        };
        match offered {
            Ok(Pressure::Refused | Pressure::Closed) => {
                stdio.unread(reactor, bytes.len() - sent);
                stdio.pause(reactor);
                return;
            }
            Ok(_) => keep(nc, piece),
            Err(error) => {
                keep(nc, piece);
                not_there(reactor, nc, &error);
            }
        }
        sent += piece.len();
    }
}

/// Keeps a sent piece as long as no peer has answered and other addresses are left.
fn keep(nc: &mut Nc, piece: &[u8]) {
    let kept: usize = nc.unheard.iter().map(Vec::len).sum();
    if kept + piece.len() > UNHEARD_BYTES_MAX {
        nc.untried.clear();
    }
    if nc.untried.is_empty() {
        nc.unheard.clear();
    } else {
        nc.unheard.push(piece.to_vec());
    }
}

/// No peer is there: tries the next address, if there is one.
fn not_there(reactor: &mut Context<Nc>, nc: &mut Nc, error: &io::Error) {
    if let Some((udp, _)) = nc.udp
        && !nc.untried.is_empty()
    {
        reactor.remove(udp);
        if try_next(reactor, nc).is_none() {
            return;
        }
    }
    give_up(reactor, nc, error);
}

fn give_up(reactor: &mut Context<Nc>, nc: &mut Nc, error: &io::Error) {
    nc.error = Some(format!("the connection broke: {error}"));
    reactor.stop();
}

/// Something was sent or has come.
fn be_patient(reactor: &mut Context<Nc>, nc: &Nc) {
    if let (Some(timer), Some(patience)) = (nc.timer, nc.patience) {
        reactor.rearm(timer, patience);
    }
}

/// Passes bytes on. The side they come from waits while the other takes no more.
fn pass(
    reactor: &mut Context<Nc>,
    nc: &Nc,
    bytes: &[u8],
    from: SourceId<Conn>,
    to: Option<SourceId<Conn>>,
) {
    be_patient(reactor, nc);
    let Some(to) = to else { return };
    if to.write(reactor, bytes) == Pressure::AboveHigh {
        from.pause(reactor);
    }
}

fn resume(reactor: &mut Context<Nc>, from: Option<SourceId<Conn>>) {
    if let Some(from) = from {
        from.resume(reactor);
    }
}

/// It is over when both sides have finished. A server does not wait for its own stdin: the peer
/// was served. Unsent bytes still go, both ways.
fn end_if_over(reactor: &mut Context<Nc>, nc: &Nc) {
    if nc.net_ended && (nc.stdin_ended || nc.listens) {
        if let Some(net) = nc.net {
            net.shutdown(reactor);
        }
        if let Some(stdio) = nc.stdio {
            stdio.close(reactor);
        }
    }
}
