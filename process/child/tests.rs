//! Children where there is no descriptor for their end.

use std::process::Command;

use super::*;
use crate::Reactor;

fn no_pidfd(_: Pid) -> io::Result<OwnedFd> {
    Err(io::ErrorKind::Unsupported.into()) // As pidfd_open(2) does before Linux 5.3.
}

fn sh(script: &str) -> Spawn {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    Spawn::new(command)
}

#[test]
fn end_is_reported_by_sigchld_where_there_is_no_pidfd() {
    let (mut reactor, mut codes) = (Reactor::new().unwrap(), Vec::new());
    for code in 0..5 {
        let on_exit = |_: &mut Context<Vec<i32>>, codes: &mut Vec<i32>, _, exit: Exit| {
            codes.push(exit.code());
        };
        let spawn = sh(&format!("exit {code}"));
        let child = spawn.open_by(&mut reactor, no_pidfd, on_exit).unwrap().id;
        assert!(reactor[child].pidfd.is_none());
    }
    reactor.run(&mut codes).unwrap();
    codes.sort();
    assert_eq!(codes, [0, 1, 2, 3, 4]);
}

#[test]
#[cfg(target_os = "linux")]
fn end_is_reported_without_sigchld_where_there_is_a_pidfd() {
    use nix::sys::signal::{SigSet, Signal as Named};

    let (mut reactor, mut codes) = (Reactor::new().unwrap(), Vec::new());
    let on_exit = |_: &mut Context<_>, codes: &mut Vec<i32>, _, exit: Exit| codes.push(exit.code());
    let child = sh("read word; exit 3").stdin().open(&mut reactor, on_exit).unwrap();
    assert!(reactor[child.id].pidfd.is_some());
    SigSet::from(Named::SIGCHLD).thread_block().unwrap(); // This thread is the test's own.
    drop(child.stdin);
    reactor.run(&mut codes).unwrap();
    assert_eq!(codes, [3]);
}
