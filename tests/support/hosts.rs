//! A machine whose `/etc/hosts` says something else, for one program: a mount of its own.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

/// A file of hosts, removed when the test ends.
pub struct Hosts(PathBuf);

impl Hosts {
    /// `None`, and a line on stderr, where no program may have a mount of its own.
    pub fn new(lines: &str) -> Option<Hosts> {
        let name = format!("waterwheel-hosts-{}-{}", std::process::id(), lines.len());
        let hosts = Hosts(std::env::temp_dir().join(name));
        fs::write(&hosts.0, lines).unwrap();
        let output = hosts.run(&Command::new("cat"), &["/etc/hosts"]).output();
        if output.is_ok_and(|output| output.stdout == lines.as_bytes()) {
            return Some(hosts);
        }
        // Not by a macro whose output is captured: this is not to be overlooked.
        let told = "names with two addresses are NOT TESTED here: unshare(1) may not mount\n";
        std::io::stderr().write_all(told.as_bytes()).unwrap();
        None
    }

    /// The program, with these hosts.
    pub fn run(&self, program: &Command, args: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c"]);
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
