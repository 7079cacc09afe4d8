//! Predict: ten bytes come, and four are read. Does the kernel say so again? Linux has the answer.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use kit::{Epoll, Interest, Kernel, Trigger};

fn main() -> io::Result<()> {
    let level = reports(Trigger::Level)?;
    let edge = reports(Trigger::Edge)?;
    println!("by state: {level} reports; by change: {edge}");
    println!(
        "answer: {}",
        match (level, edge) {
            (2, 2) => 'a',
            (2, 1) => 'b',
            (1, 2) => 'c',
            _ => 'd',
        }
    );
    Ok(())
}

/// How often ten bytes are reported, if four of them are read after the first report.
fn reports(trigger: Trigger) -> io::Result<usize> {
    let (mut ours, mut theirs) = UnixStream::pair()?;
    let mut kernel = Epoll::new(trigger)?;
    kernel.register(&ours, 5, Interest { readable: true, writable: false })?;
    theirs.write_all(b"0123456789")?;
    let mut heard = Vec::new();
    kernel.poll(Some(Duration::from_secs(1)), &mut heard)?;
    ours.read_exact(&mut [0; 4])?;
    kernel.poll(Some(Duration::from_millis(100)), &mut heard)?;
    Ok(heard.len())
}
