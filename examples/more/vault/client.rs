//! The vault's client: it does one job, and ends.

use std::io::{self, Read, Write};
use std::time::Duration;

use waterwheel::net::authors::split;
use waterwheel::net::{Codec, Conn, Event, Lines, Stream, tcp};
use waterwheel::protocols::tls;
use waterwheel::{Context, Reactor, SourceId};

use super::wire::{self, Kind};
use super::{certificate, cli};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The work to be done, and its result.
struct Errand {
    name: String,
    /// The value to be sent, from this offset on.
    value: Option<(Vec<u8>, usize)>,
    outcome: Option<Result<(), String>>,
}

impl Errand {
    fn end(
        &mut self,
        reactor: &mut Context<Errand>,
        id: SourceId<Conn>,
        outcome: Result<(), String>,
    ) {
        self.outcome.get_or_insert(outcome);
        id.close(reactor);
    }
}

pub fn run(args: &cli::Args) -> Result<(), String> {
    let Some(ca) = args.text("--ca") else { cli::bad_usage("a client wants --ca, too") };
    let client = tls::Client::with_roots(certificate::read(ca));
    let client = client.unwrap_or_else(|error| cli::bad_usage(error)).alpn(["vault"]);
    let (name, value) = match (args.text("--get"), args.text("--put")) {
        (Some(name), None) => (name, None),
        (None, Some(name)) => (name, Some((input()?, 0))),
        _ => cli::bad_usage("either --get or --put"),
    };
    wire::name(name.as_bytes()).unwrap_or_else(|error| cli::bad_usage(error));
    let mut errand = Errand { name: name.into(), value, outcome: None };
    let (host, _) = split(&args.addr).unwrap_or_else(|error| cli::bad_usage(error));
    let host = host.to_owned();
    let mut reactor = Reactor::new().map_err(|error| error.to_string())?;
    let connect = tcp::Connect::new().timeout(CONNECT_TIMEOUT);
    connect
        .open(
            &mut reactor,
            args.addr.as_str(),
            move |reactor, errand: &mut Errand, made| match made {
                Ok(stream) => ask_for_tls(reactor, stream, client, host),
                Err(error) => errand.outcome = Some(Err(error.to_string())),
            },
        )
        .map_err(cli::cannot("connect to"))?;
    cli::run(&mut reactor, &mut errand)?;
    errand.outcome.unwrap_or_else(|| Err("the server has gone".into()))
}

/// All of stdin. It is read before there is a server that it could keep waiting.
fn input() -> Result<Vec<u8>, String> {
    let (mut value, max) = (Vec::new(), wire::VALUE_BYTES_MAX);
    let read = io::stdin().take(max as u64 + 1).read_to_end(&mut value);
    read.map_err(|error| format!("cannot read stdin: {error}"))?;
    if value.len() > max { Err(format!("a value is {max} bytes at most")) } else { Ok(value) }
}

fn ask_for_tls(
    reactor: &mut Context<Errand>,
    mut stream: Stream,
    client: tls::Client,
    host: String,
) {
    let _ = stream.write(&[wire::UPGRADE, b"\n"].concat());
    let mut lines = Lines::new(wire::LINE_BYTES_MAX);
    stream.open(reactor, move |reactor, errand, id, event| match event {
        Event::Data(input) => match lines.decode(input) {
            Ok(Some(line)) if &input[line.payload.clone()] == wire::GO_AHEAD => {
                let Some(conn) = reactor.deregister(id) else { return };
                let stream = Stream::from(conn).unread(&input[line.consumed..]);
                client.connect(reactor, stream, &host, |reactor, errand, made| match made {
                    Ok(stream) => talk(reactor, errand, stream),
                    Err(error) => errand.outcome = Some(Err(format!("no handshake: {error}"))),
                });
            }
            Ok(None) => drop(id.unread(reactor, input.len())),
            _ => errand.end(reactor, id, Err("the server does not speak this protocol".into())),
        },
        Event::Closed(why) => drop(errand.outcome.get_or_insert(Err(gone(why)))),
        Event::Drained | Event::Eof => {}
    });
}

fn talk(reactor: &mut Context<Errand>, errand: &Errand, stream: Stream) {
    let id = stream.open(reactor, |reactor, errand: &mut Errand, id, event| match event {
        Event::Data(input) => match hear(input) {
            Ok((used, None)) => drop(id.unread(reactor, input.len() - used)),
            Ok((_, Some(outcome))) => errand.end(reactor, id, outcome),
            Err(error) => errand.end(reactor, id, Err(error)),
        },
        Event::Drained => {
            if let Some((value, at)) = &mut errand.value
                && wire::send(&mut reactor[id], value, at)
            {
                errand.value = None;
            }
        }
        Event::Closed(why) => drop(errand.outcome.get_or_insert(Err(gone(why)))),
        Event::Eof => {}
    });
    let conn = &mut reactor[id];
    let kind = if errand.value.is_some() { Kind::Put } else { Kind::Get };
    let _ = wire::put(conn, kind, errand.name.as_bytes());
    conn.ask_for_drained(); // `Drained` sends the first pieces of a value.
}

/// Handles the frames; returns how many bytes they took, and the result if the job has ended.
fn hear(input: &[u8]) -> Result<(usize, Option<Result<(), String>>), String> {
    let mut at = 0;
    while let Some((kind, body, used)) = wire::frame(&input[at..]).map_err(|e| e.to_string())? {
        at += used;
        let outcome = match kind {
            Kind::Piece => {
                // Nobody else waits for this loop, so stdout may keep it waiting.
                let printed = io::stdout().write_all(body);
                printed.map_err(|error| format!("cannot print: {error}"))?;
                continue;
            }
            Kind::Done => {
                let digest = body.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
                cli::print(digest);
                Ok(())
            }
            Kind::End => io::stdout().flush().map_err(|error| format!("cannot print: {error}")),
            Kind::Missing => Err("there is no value of that name".into()),
            Kind::Error => Err(String::from_utf8_lossy(body).into_owned()),
            other => Err(format!("{other:?} does not belong here")),
        };
        return Ok((at, Some(outcome)));
    }
    Ok((at, None))
}

fn gone(why: impl std::fmt::Display) -> String {
    format!("the server has gone: {why}")
}
