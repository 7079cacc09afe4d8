//! What the examples' `main`s share: arguments, `--help`, and errors in one line.
#![allow(dead_code)] // Each example uses its own part of it.

use std::process::exit;

use lexopt::prelude::*;

/// Arguments: an address, options with a value, and switches.
pub struct Args {
    pub addr: String,
    options: Vec<(String, String)>,
    switches: Vec<String>,
}

impl Args {
    pub fn has(&self, switch: &str) -> bool {
        self.switches.iter().any(|given| given == switch)
    }

    /// The number given for an option.
    pub fn number(&self, option: &str) -> Result<Option<u64>, String> {
        let given = self.options.iter().find(|(name, _)| name == option);
        let number = given.map(|(name, value)| {
            value.parse().map_err(|_| format!("{name} wants a whole number, not {value:?}"))
        });
        number.transpose()
    }
}

/// Reads the arguments. Options that take a value end in `=`: no, they are those not listed as
/// switches; a mistake is one line on stderr and exit code 2, and `--help` goes to stdout.
pub fn parse(usage: &str, addr: &str, options: &[&str]) -> Args {
    parse_all(usage, addr, options, &[])
}

pub fn parse_all(usage: &str, addr: &str, options: &[&str], switches: &[&str]) -> Args {
    env_logger::init();
    match read(usage, addr, options, switches) {
        Ok(args) => args,
        Err(error) => fail(&format!("{error}; try --help")),
    }
}

fn read(usage: &str, addr: &str, opts: &[&str], flags: &[&str]) -> Result<Args, lexopt::Error> {
    let mut args = Args { addr: addr.to_owned(), options: Vec::new(), switches: Vec::new() };
    let mut given = false;
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        let name = match &arg {
            Short('h') | Long("help") => {
                println!("{usage}");
                exit(0);
            }
            Long(name) => format!("--{name}"),
            Value(addr) if !given => {
                given = true;
                args.addr = with_host(&addr.clone().string()?);
                continue;
            }
            _ => return Err(arg.unexpected()),
        };
        if opts.contains(&name.as_str()) {
            let value = parser.value()?.string()?;
            args.options.push((name, value));
        } else if flags.contains(&name.as_str()) {
            args.switches.push(name);
        } else {
            return Err(arg.unexpected());
        }
    }
    Ok(args)
}

/// A bare port means loopback.
fn with_host(addr: &str) -> String {
    if addr.parse::<u16>().is_ok() { format!("127.0.0.1:{addr}") } else { addr.to_owned() }
}

/// One clear line and exit code 2.
pub fn exit_on_error(result: Result<(), String>) {
    if let Err(error) = result {
        fail(&error);
    }
}

fn fail(error: &str) -> ! {
    eprintln!("error: {error}");
    exit(2);
}
