//! Metrics: statsd's datagrams in, Prometheus's page out, and alarms. One timer makes all of them.
//!
//! Run:  cargo run --release --features http --example metrics -- --window 1 --alert 'queue > 5 for 3s'
//! Then: echo 'hits:1|c' | nc -u -w1 127.0.0.1 8125      and queue:7|g, queue:-4|g, time:320|ms
//!       curl 127.0.0.1:9102/metrics                     or open http://127.0.0.1:9102/
//! See:  FIRING three seconds after the queue has grown, RESOLVED when it has shrunk; the times in
//!       buckets; a bad line counted in `waterwheel_lines_total`; and what the kernel had to drop.
//! Look: `Server::end_window`. Datagrams only change numbers. What is to happen in time, happens in
//!       the one timer: windows end, drops are read, rules are judged; no thread, and no lock.
//! Next: a state of its own for each rule and set of tags; send a POST when an alarm begins (the
//!       client of `fetch`); forget names that were silent for an hour; TCP, as statsd has it.

use std::time::Duration;

use waterwheel::Reactor;
use waterwheel::protocols::http;

mod alert;
#[path = "../cli/mod.rs"]
mod cli;
mod protocol;
mod server;
mod store;

use server::Server;

const USAGE: &str = "\
Usage: metrics [OPTIONS] [ADDR [PAGES]]

Takes statsd's lines from UDP datagrams (counters, gauges, times, histograms, sets;
sample rates, tags, several values) and serves them at http://PAGES/metrics for
Prometheus; / and /alerts are for people. ADDR is 127.0.0.1:8125 and PAGES is
127.0.0.1:9102 unless given; a bare port means 127.0.0.1.

Anybody who reaches ADDR can send. A name has 128 bytes at most, its tags 256. Names
beyond --names are dropped and counted; one of times or a histogram counts as 14. In
a window sets take 100,000 members together. All of it needs 16 MiB at most, and a
page 8 MiB. Two are kept for clients that read slowly; others then get the last one.

A rule is 'NAME > NUMBER' or 'NAME > NUMBER for TIME', also with >= < <=. It is about
a gauge's value; and in the last window about a counter's events a second, a set's
size, the greatest of times (in seconds) and of a histogram.

Options:
  --alert RULE      print a line when it begins to hold, and when it ends; again for
                    more rules
  --window SECONDS  how often rules are looked at [10]
  --names N         how many are kept [10000]
  --buffer KIB      what the kernel may keep of datagrams that wait [208]; it gives no
                    more than its net.core.rmem_max
  -h, --help        show this";

const OPTIONS: [&str; 4] = ["--alert", "--window", "--names", "--buffer"];

fn main() {
    let args = cli::parse_two(USAGE, ["127.0.0.1:8125", "127.0.0.1:9102"], &OPTIONS);
    cli::exit_on_error(run(&args));
}

fn run(args: &cli::Args) -> Result<(), String> {
    cli::raise_open_files();
    let rules = args.all("--alert").map(alert::Rule::parse).collect::<Result<Vec<_>, _>>();
    let rules = rules.unwrap_or_else(|error| cli::bad_usage(error));
    let window = Duration::from_secs(args.number("--window").unwrap_or(10));
    if window.is_zero() {
        cli::bad_usage("--window wants a second at least");
    }
    let names_max = args.number("--names").map_or(store::NAMES_MAX, |names| names as usize);
    let buffer_bytes = (args.number("--buffer").unwrap_or(208) as usize).saturating_mul(1024);
    let mut reactor = Reactor::new().map_err(|error| error.to_string())?;
    let socket = server::open(&mut reactor, &args.addr, (buffer_bytes, window), cli::say)
        .map_err(cli::cannot("listen on"))?;
    let limits = http::Limits { buffers: Some(cli::buffers()), ..http::Limits::default() };
    let pages = http::Server::routes(server::pages())
        .limits(limits)
        .listen(&mut reactor, &args.second)
        .map_err(cli::cannot("listen on"))?;
    cli::end_on_signals(&mut reactor, cli::GRACE)?;
    cli::say(format_args!("listening on {}", reactor[socket].local_addr()));
    cli::say(format_args!("pages at http://{}/", reactor[pages].local_addr()));
    cli::run(&mut reactor, &mut Server::new(names_max, rules))
}
