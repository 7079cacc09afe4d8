//! curl, which knows HTTP better than any test's own client.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use crate::clients::CURL;
use crate::process::Process;

/// What a server answered.
#[derive(Debug)]
pub struct CurlResponse {
    pub status: u16,
    head: String,
    pub body: String,
}

impl CurlResponse {
    /// The value of a header field.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields.find(|(of, _)| of.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// A curl that has yet to be given more to do and started.
pub fn curl(addr: SocketAddr, path: &str, args: &[&str]) -> Command {
    let mut command = CURL.command();
    command.args(["--silent", "--show-error", "--max-time", "50"]);
    command.args(args).arg(format!("http://{addr}{path}"));
    command
}

/// Asks, and waits for the whole response.
pub fn ask(addr: SocketAddr, path: &str, args: &[&str]) -> CurlResponse {
    response(curl(addr, path, args).arg("--include"))
}

fn response(command: &mut Command) -> CurlResponse {
    let output = command.stdin(Stdio::null()).output().expect("curl starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    parse(output.stdout)
}

/// Asks, with this as its input.
pub fn ask_with(addr: SocketAddr, path: &str, args: &[&str], input: &[u8]) -> CurlResponse {
    parse(Process::start(curl(addr, path, args).arg("--include")).pass(input))
}

/// A response of `--include`; those of 100 before it do not count.
fn parse(bytes: Vec<u8>) -> CurlResponse {
    let mut rest = String::from_utf8(bytes).expect("text");
    loop {
        let end = rest.find("\r\n\r\n").unwrap_or_else(|| panic!("no head: {rest:?}"));
        let body = rest.split_off(end + 4);
        let status = rest.get(9..12).and_then(|status| status.parse().ok()).expect("a status");
        if status >= 200 {
            return CurlResponse { status, head: rest, body };
        }
        rest = body;
    }
}
