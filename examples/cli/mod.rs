//! The shared parts of the examples' `main`: arguments, `--help`, errors in one line, output.
#![allow(dead_code)] // Each example uses its own part of it.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::process::exit;
use std::time::Duration;

use lexopt::prelude::*;
use waterwheel::net::{BufferBudget, Limits};

/// The most bytes that all clients together may make a server buffer. 16 MiB: clients that read
/// nothing are closed before the others notice.
pub const BUFFERED_BYTES_MAX: usize = 16 * 1024 * 1024;

mod ending;
mod host;
mod output;

#[allow(unused_imports)] // As above.
pub use ending::{Ending, GRACE, end_on_signals, end_on_signals_with, on_signals};
#[allow(unused_imports)]
pub use host::run;
#[cfg(unix)]
#[allow(unused_imports)]
pub use host::whole_ms;
#[allow(unused_imports)]
pub use output::{say, warn};

/// How often the kernel asks a silent client of a server if it is there. A client that has
/// vanished, because its cable was cut, sends no FIN and would be served forever. Linux closes it
/// after nine questions without an answer, about two and a half minutes in all.
pub const KEEPALIVE: Duration = Duration::from_secs(15);

/// Arguments: an address, options with a value, and switches.
pub struct Args {
    /// The address given, or the default.
    pub addr: String,
    /// The second address, of a program that takes two.
    pub second: String,
    /// Everything else, of a program that takes values of its own instead.
    pub values: Vec<String>,
    options: Vec<(String, String)>,
    switches: Vec<String>,
}

impl Args {
    /// Returns true if a switch was given.
    pub fn has(&self, switch: &str) -> bool {
        self.switches.iter().any(|given| given == switch)
    }

    /// The text given for an option.
    pub fn text(&self, option: &str) -> Option<&str> {
        let given = self.options.iter().find(|(name, _)| name == option);
        given.map(|(_, value)| value.as_str())
    }

    /// The texts given for an option that may be given again.
    pub fn all(&self, option: &str) -> impl Iterator<Item = &str> {
        let given = self.options.iter().filter(move |(name, _)| name == option);
        given.map(|(_, value)| value.as_str())
    }

    /// The number given for an option; any other text ends the program.
    pub fn number(&self, option: &str) -> Option<u64> {
        let value = self.text(option)?;
        let wrong = |_| bad_usage(format_args!("{option} wants a whole number, not {value:?}"));
        Some(value.parse().unwrap_or_else(wrong))
    }
}

/// Reads the arguments of a program whose `options` all take a value, or as many as are named behind
/// one (`--tls CERT KEY`), which [`Args::all`] gives in order. `addr` is the address unless
/// one is given; if it is empty the program takes none. `--help` prints `usage` and ends the
/// program; so does a mistake, with one line on stderr and exit code 2.
pub fn parse(usage: &str, addr: &str, options: &[&str]) -> Args {
    parse_all(usage, addr, options, &[])
}

/// [`parse`] for a program that has `switches`, too: options without a value.
pub fn parse_all(usage: &str, addr: &str, options: &[&str], switches: &[&str]) -> Args {
    let addrs = [addr, ""];
    parse_any(usage, if addr.is_empty() { &[] } else { &addrs[..1] }, options, switches)
}

/// [`parse`] for a program that takes two addresses.
pub fn parse_two(usage: &str, addrs: [&str; 2], options: &[&str]) -> Args {
    parse_any(usage, &addrs, options, &[])
}

/// [`parse_all`] for a program that takes any number of values, none of them an address.
pub fn parse_values(usage: &str, options: &[&str], switches: &[&str]) -> Args {
    parse_with(usage, None, options, switches)
}

fn parse_any(usage: &str, addrs: &[&str], options: &[&str], switches: &[&str]) -> Args {
    parse_with(usage, Some(addrs), options, switches)
}

fn parse_with(usage: &str, addrs: Option<&[&str]>, opts: &[&str], flags: &[&str]) -> Args {
    let log = env_logger::Target::Pipe(Box::new(output::Log));
    env_logger::Builder::from_default_env().target(log).init();
    match read(usage, addrs, opts, flags) {
        Ok(args) => args,
        Err(error) => bad_usage(format_args!("{error}; try --help")),
    }
}

fn read(
    usage: &str,
    addrs: Option<&[&str]>,
    opts: &[&str],
    flags: &[&str],
) -> Result<Args, lexopt::Error> {
    let takes_values = addrs.is_none();
    let addrs = addrs.unwrap_or_default();
    let default = |at: usize| addrs.get(at).copied().unwrap_or_default().to_owned();
    let (options, switches) = (Vec::new(), Vec::new());
    let (addr, second) = (default(0), default(1));
    let mut args = Args { addr, second, values: Vec::new(), options, switches };
    let mut given = 0;
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        let name = match &arg {
            Short('h') | Long("help") => {
                print(usage);
                exit(0);
            }
            Long(name) => format!("--{name}"),
            Short(name) => format!("-{name}"),
            Value(value) if takes_values => {
                args.values.push(value.clone().string()?);
                continue;
            }
            Value(addr) if given < addrs.len() => {
                let to = if given == 0 { &mut args.addr } else { &mut args.second };
                *to = with_host(&addr.clone().string()?);
                given += 1;
                continue;
            }
            _ => return Err(arg.unexpected()),
        };
        if let Some(option) = opts.iter().find(|opt| opt.split(' ').next() == Some(&name)) {
            for _ in 0..option.split(' ').count().max(2) - 1 {
                args.options.push((name.clone(), parser.value()?.string()?));
            }
        } else if flags.contains(&name.as_str()) {
            args.switches.push(name);
        } else {
            return Err(arg.unexpected());
        }
    }
    Ok(args)
}

/// A bare port means loopback.
pub fn with_host(addr: &str) -> String {
    if addr.parse::<u16>().is_ok() { format!("127.0.0.1:{addr}") } else { addr.to_owned() }
}

/// Raises the soft limit on open files to the hard one, so that a server may have as many
/// connections as the system allows: the soft one is usually 1,024, because of select(2).
///
/// A system that refuses (macOS does, where the hard limit is infinite) leaves it as it was, and a
/// listener at the limit refuses connections and says so.
pub fn raise_open_files() {
    #[cfg(unix)]
    {
        use nix::sys::resource::{Resource, getrlimit, setrlimit};
        let files = Resource::RLIMIT_NOFILE;
        if let Err(error) = getrlimit(files).and_then(|(_, hard)| setrlimit(files, hard, hard)) {
            log::debug!("cannot raise the limit on open files: {error}");
        }
    }
}

/// Prints a line of the program's result; ends the program quietly when the reader has gone
/// (`… | head -1`). A server prints its notes by [`say`].
pub fn print(line: impl Display) {
    match writeln!(io::stdout(), "{line}") {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => exit(0),
        Err(error) => fail(format_args!("cannot print: {error}"), 1),
    }
}

/// Limits with a budget of [`BUFFERED_BYTES_MAX`] for all connections that share them.
pub fn limits() -> Limits {
    Limits { buffers: Some(buffers()), ..Limits::default() }
}

/// A budget of [`BUFFERED_BYTES_MAX`].
pub fn buffers() -> BufferBudget {
    BufferBudget::new(BUFFERED_BYTES_MAX)
}

/// One clear line on stderr and exit code 1, if it is an error: the run is broken.
pub fn exit_on_error(result: Result<(), String>) {
    if let Err(error) = result {
        fail(error, 1);
    }
}

/// One clear line on stderr and exit code 2: the command line is wrong, and would be again.
pub fn bad_usage(error: impl Display) -> ! {
    fail(error, 2)
}

/// For `map_err`: what could not be done with an address, which the error names. What is no address
/// is bad usage.
pub fn cannot(what: &'static str) -> impl FnOnce(io::Error) -> String {
    move |error| match error.kind() {
        ErrorKind::InvalidInput => bad_usage(format_args!("cannot {what} {error}")),
        _ => format!("cannot {what} {error}"),
    }
}

fn fail(error: impl Display, code: i32) -> ! {
    warn(format_args!("error: {error}"));
    exit(code);
}
