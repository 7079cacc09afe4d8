//! The outputs of fetch: the files that `-o` names, and stdout.

use std::fs::File;
use std::time::Duration;

use waterwheel::net::{self, Conn, Event, Limits, Reason, Stream, descriptor};
use waterwheel::protocols::http::ClientResponseHead;
use waterwheel::{Context, SourceId};

use crate::cli::{self, Args};
use crate::{Fetch, drained};

/// Opens an output for each URL, in their order. Those without a file share stdout.
pub fn open_all(reactor: &mut Context<Fetch>, args: &Args) -> Result<Vec<SourceId<Conn>>, String> {
    let mut files = args.all("-o");
    let mut stdout = None;
    let outputs = args.values.iter().map(|_| match (files.next(), stdout) {
        (None, Some(out)) => Ok(out),
        (None, None) => {
            let stream = net::stdout(reactor).map_err(|error| format!("stdout: {error}"))?;
            Ok(*stdout.insert(open(reactor, stream)))
        }
        (Some(path), _) => {
            let file = File::create(path).and_then(|file| descriptor::writer(reactor, file));
            let refuse = |error| cli::bad_usage(format_args!("{path}: {error}"));
            Ok(open(reactor, file.unwrap_or_else(refuse)))
        }
    });
    outputs.collect()
}

fn open(reactor: &mut Context<Fetch>, stream: Stream) -> SourceId<Conn> {
    // A reader may be slow without a limit: all written bytes wait for it.
    let limits = Limits { close_grace: Duration::MAX, ..Limits::default() };
    stream.limits(limits).open(reactor, |reactor, fetch: &mut Fetch, out, event| match event {
        Event::Drained => drained(reactor, fetch, out),
        Event::Closed(Reason::Finished) => {}
        Event::Closed(Reason::Reset) => fail(reactor, fetch, out, "nobody reads what is written"),
        Event::Closed(why) => fail(reactor, fetch, out, &format!("cannot write: {why}")),
        Event::Data(_) | Event::Eof => {}
    })
}

/// This output cannot be written to: the disk is full, or nobody reads stdout. The others go on.
fn fail(reactor: &mut Context<Fetch>, fetch: &mut Fetch, out: SourceId<Conn>, error: &str) {
    fetch.progress.error(error);
    fetch.failed = true;
    for job in fetch.jobs.iter_mut().filter(|job| job.out == out && !job.ended) {
        job.call.cancel(reactor);
        job.ended = true;
    }
}

/// A response's head, as `-i` prints it.
pub fn head_text(head: &ClientResponseHead<'_>) -> String {
    let mut text = format!("{:?} {}\r\n", head.version, head.status);
    for (name, value) in head.headers.iter() {
        text += &format!("{name}: {}\r\n", String::from_utf8_lossy(value));
    }
    text + "\r\n"
}
