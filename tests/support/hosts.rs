//! A machine whose `/etc/hosts` says something else, for one program: a mount of its own.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::clients::UNSHARE;

/// A file of hosts, removed when the test ends.
pub struct Hosts(PathBuf);

impl Hosts {
    /// For a test that begins with `skip_without!(UNSHARE)`.
    pub fn new(lines: &str) -> Hosts {
        let name = format!("waterwheel-hosts-{}-{}", std::process::id(), lines.len());
        let hosts = Hosts(std::env::temp_dir().join(name));
        fs::write(&hosts.0, lines).unwrap();
        hosts
    }

    /// The program, with these hosts.
    pub fn run(&self, program: &Command, args: &[&str]) -> Command {
        let mut command = UNSHARE.command();
        command.args(["sh", "-c"]);
        command.arg("mount --bind \"$0\" /etc/hosts && exec \"$@\"").arg(&self.0);
        command.arg(program.get_program()).args(args);
        command
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
