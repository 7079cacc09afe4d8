//! Predict: a thread posts a thousand times to a loop that sleeps. How often is it woken?

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;

use kit::model::Wake;
use kit::{Kernel, Mio, mio};

#[path = "solution.rs"]
#[allow(dead_code)]
#[rustfmt::skip]
mod wake;

/// Wakes a poll, and counts.
struct Counted(mio::Waker, Arc<AtomicUsize>);

impl Wake for Counted {
    fn wake(&self) {
        self.1.fetch_add(1, SeqCst);
        Wake::wake(&self.0);
    }
}

fn main() -> std::io::Result<()> {
    let (mut kernel, wakes) = (Mio::new()?, Arc::new(AtomicUsize::new(0)));
    let mailbox = wake::Mailbox::new(Counted(kernel.waker(0)?, wakes.clone()));
    // The loop announces that it sleeps, and another thread gets the processor.
    let may_sleep = mailbox.fall_asleep();
    thread::scope(|scope| {
        scope.spawn(|| (0..1000).for_each(|number| mailbox.post(number)));
    });
    if may_sleep {
        kernel.poll(None, &mut Vec::new())?; // It sleeps, unless it was woken.
    }
    mailbox.be_awake();
    let wakes = wakes.load(SeqCst);
    println!("posts: {}; wakes: {wakes}", mailbox.take().len());
    println!("answer: {}", if wakes == 0 { 'c' } else { ['b', 'a'][usize::from(wakes > 1)] });
    Ok(())
}
