//! Predict: 8 MiB for a peer that does not read. Where are they?

use std::io::{self, Write};
use std::os::unix::net::UnixStream;

fn main() -> io::Result<()> {
    // The peer is connected, and never reads.
    let (mut ours, _theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let mut outbox = Vec::new();
    for _ in 0..1024 {
        outbox.extend_from_slice(&[7; 8192]);
        // What the kernel takes is gone; the rest stays.
        while let Ok(count @ 1..) = ours.write(&outbox) {
            outbox.drain(..count);
        }
    }
    println!("{} bytes of {} are in the outbox", outbox.len(), 1024 * 8192);
    let (some, most) = (!outbox.is_empty(), outbox.len() > 4 << 20);
    println!("answer: {}", ['a', 'b', 'c'][usize::from(some) + usize::from(most)]);
    Ok(())
}
