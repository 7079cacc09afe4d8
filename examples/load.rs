//! Load: requests to an HTTP server, and how long each took from when it was *due*.
//!
//! Run:  cargo run --release --features http --example http &
//!       cargo run --release --features http --example load -- --rate 1000 http://127.0.0.1:8080/
//! Then: stop the server for a second, kill -STOP $(pgrep -x http); sleep 1; kill -CONT $(pgrep -x http)
//! See:  that second in the slowest fifth of all requests. A tool that measures from when it *sent*
//!       says a millisecond, because it sent nothing while it waited: it was as polite as no user is.
//! Look: `due`. What is to be sent when does not depend on any answer.
//! Next: several URLs in turn; percentiles of each second, to see when it was slow; a Poisson process.
//!
//! What it keeps does not grow with the requests: a count for each of 1,920 ranges of times, and 32
//! kinds of errors.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use waterwheel::protocols::http::{CallEvent, Client, ClientLimits, ClientRequest, Error, Method};
use waterwheel::timers::TimerId;
use waterwheel::{Context, Reactor};

mod cli;
#[path = "load/times.rs"]
mod times;

use times::Times;

const USAGE: &str = "\
Usage: load [OPTIONS] URL

Sends requests over connections that stay open, and prints how many were answered, how
many not and why, and how long they took. Ctrl-C ends it, and prints that, too. The
exit code is 1 if not one was answered with a status below 400.

Options:
  -c N              requests at a time, 10000 at most [16]
  -d SECONDS        for so long [10, or without an end if -n is given]
  -n N              so many requests at most
  --rate N          a second, 1000000 at most: each is due at its time, and one for
                    which no connection is free waits; that counts. Without it a
                    request is due as soon as one before it is answered
  --method METHOD   [GET, or POST if there is a body]
  --body TEXT       send this
  -H 'NAME: VALUE'  add a header field; as often as wanted
  --timeout SECONDS for an answer [10]
  -h, --help        show this";

const AT_A_TIME_MAX: u64 = 10_000;
const RATE_MAX: u64 = 1_000_000;
/// A year.
const SECONDS_MAX: u64 = 365 * 24 * 60 * 60;
/// A connection whose request has failed gets the next one only after this: a server that refuses
/// would be asked as fast as the machine can.
const PAUSE: Duration = Duration::from_millis(10);
/// Kinds of errors that are counted by their own names.
const KINDS_MAX: usize = 32;

struct Load {
    client: Client<Load>,
    request: ClientRequest,
    at_a_time: usize,
    /// Requests at most.
    requests: u64,
    rate: Option<u64>,
    begin: Instant,
    /// When nothing more becomes due.
    end: Option<Instant>,
    sent: u64,
    /// Connections that are in use, or pause.
    busy: usize,
    timer: Option<TimerId>,
    answered: u64,
    bytes: u64,
    errors: BTreeMap<String, u64>,
    times: Times,
}

fn main() {
    let options = ["-c", "-d", "-n", "--rate", "--method", "--body", "-H", "--timeout"];
    cli::exit_on_error(run(&cli::parse_values(USAGE, &options, &[])));
}

fn run(args: &cli::Args) -> Result<(), String> {
    cli::raise_open_files();
    let number = |option: &str, most: u64| {
        let given = args.number(option);
        if given.is_some_and(|number| !(1..=most).contains(&number)) {
            cli::bad_usage(format_args!("{option} wants 1 to {most}"));
        }
        given
    };
    let (rate, requests) = (number("--rate", RATE_MAX), number("-n", u64::MAX));
    let at_a_time = number("-c", AT_A_TIME_MAX).unwrap_or(16) as usize;
    let seconds = number("-d", SECONDS_MAX).or(requests.is_none().then_some(10));
    let timeout = Duration::from_secs(number("--timeout", SECONDS_MAX).unwrap_or(10));
    let request = request(args).unwrap_or_else(|error| cli::bad_usage(error));
    let limits = ClientLimits {
        total_timeout: Some(timeout),
        connections_per_host_max: at_a_time,
        idle_per_host_max: at_a_time,
        idle_max: at_a_time,
        ..ClientLimits::default()
    };
    let mut reactor = Reactor::new().map_err(|error| error.to_string())?;
    let begin = reactor.now();
    let mut load = Load {
        client: Client::new().limits(limits),
        request,
        at_a_time,
        requests: requests.unwrap_or(u64::MAX),
        rate,
        begin,
        end: seconds.map(|seconds| begin + Duration::from_secs(seconds)),
        sent: 0,
        busy: 0,
        timer: None,
        answered: 0,
        bytes: 0,
        errors: BTreeMap::new(),
        times: Times::default(),
    };
    // All that was due is still sent, for as long as one answer may take.
    if let Some(seconds) = seconds {
        let last =
            reactor.after(Duration::from_secs(seconds) + timeout, |reactor, _| reactor.stop());
        reactor.unref(last);
    }
    cli::on_signals(&mut reactor, |reactor, _, _| reactor.stop())?;
    let url = &args.values[0];
    cli::say(format_args!("{at_a_time} at a time to {url}"));
    reactor.after(Duration::ZERO, |reactor, load: &mut Load| load.go_on(reactor));
    cli::run(&mut reactor, &mut load)?;
    load.report(reactor.now());
    if load.answered == 0 { Err("no request was answered".to_owned()) } else { Ok(()) }
}

fn request(args: &cli::Args) -> Result<ClientRequest, String> {
    let [url] = &args.values[..] else { return Err("wants a URL; try --help".to_owned()) };
    let body = args.text("--body");
    let method = args.text("--method").unwrap_or(if body.is_some() { "POST" } else { "GET" });
    let method: Method = method.parse().map_err(|_| format!("no method: {method:?}"))?;
    let mut request = ClientRequest::new(method, url);
    for field in args.all("-H") {
        let (name, value) = field.split_once(':').ok_or(format!("no header field: {field:?}"))?;
        request = request.header(name.trim(), value.trim());
    }
    Ok(body.map_or(request.clone(), |body| request.body(body)))
}

impl Load {
    /// When the next request is due; `None` if there is no next one. A timer of the loop fires in whole
    /// milliseconds, so that is when requests are due.
    fn due(&self, now: Instant) -> Option<Instant> {
        let due = match self.rate {
            None => now,
            Some(rate) => {
                let ms = u128::from(self.sent) * 1000 / u128::from(rate);
                self.begin + Duration::from_millis(u64::try_from(ms).ok()?)
            }
        };
        (self.sent < self.requests && self.end.is_none_or(|end| due < end)).then_some(due)
    }

    /// Sends what is due, as far as connections are free.
    fn go_on(&mut self, reactor: &mut Context<Load>) {
        let now = reactor.now();
        while self.busy < self.at_a_time
            && let Some(due) = self.due(now)
        {
            if due > now {
                let wait = due - now;
                self.timer.get_or_insert_with(|| {
                    reactor.after(wait, |reactor, load: &mut Load| {
                        load.timer = None;
                        load.go_on(reactor);
                    })
                });
                return;
            }
            self.send(reactor, due);
        }
    }

    fn send(&mut self, reactor: &mut Context<Load>, due: Instant) {
        self.sent += 1;
        self.busy += 1;
        let (client, request) = (self.client.clone(), self.request.clone());
        let mut status = 0;
        client.stream(reactor, request, move |reactor, load: &mut Load, _, event| match event {
            CallEvent::Head(head) => status = head.status.as_u16(),
            CallEvent::Data(bytes) => load.bytes += bytes.len() as u64,
            CallEvent::Drained => {}
            CallEvent::End if status < 400 => {
                load.answered += 1;
                load.times.add(reactor.now() - due);
                load.free(reactor);
            }
            CallEvent::End => {
                load.count(format!("status {status}"));
                load.free(reactor);
            }
            // No other one would be sent, either.
            CallEvent::Failed(error @ Error::Request { .. }) => cli::bad_usage(error),
            CallEvent::Failed(error) => {
                let (text, url) = (error.to_string(), error.url().unwrap_or_default());
                load.count(text.strip_prefix(&format!("{url}: ")).unwrap_or(&text).to_owned());
                reactor.after(PAUSE, |reactor, load: &mut Load| load.free(reactor));
            }
        });
    }

    fn free(&mut self, reactor: &mut Context<Load>) {
        self.busy -= 1;
        self.go_on(reactor);
    }

    fn count(&mut self, kind: String) {
        let is_known = self.errors.len() < KINDS_MAX || self.errors.contains_key(&kind);
        *self.errors.entry(if is_known { kind } else { "others".to_owned() }).or_default() += 1;
    }

    /// How many requests were due before this time and were not sent.
    fn unsent(&self, now: Instant) -> u64 {
        let until = self.end.map_or(now, |end| end.min(now)) - self.begin;
        let due = self.rate.map_or(0, |rate| (until.as_millis() as u64 * rate).div_ceil(1000));
        due.min(self.requests).saturating_sub(self.sent)
    }

    fn report(&mut self, now: Instant) {
        let seconds = (now - self.begin).as_secs_f64().max(0.001);
        let (answered, failed) = (self.answered, self.errors.values().sum::<u64>());
        let unanswered = ("not answered yet", self.sent - answered - failed);
        for (kind, count) in [unanswered, ("not sent: no connection was free", self.unsent(now))] {
            if count > 0 {
                self.errors.insert(kind.to_owned(), count);
            }
        }
        cli::print(format_args!(
            "{answered} answered in {seconds:.2} s: {:.1} a second, {:.1} KiB a second",
            answered as f64 / seconds,
            self.bytes as f64 / 1024.0 / seconds,
        ));
        for (kind, count) in &self.errors {
            cli::print(format_args!("{count} failed: {kind}"));
        }
        self.times.lines().for_each(cli::print);
    }
}
