//! Break: a mailbox in which two lines have changed places, and the order that loses a post. And
//! the price of a wake.

use std::sync::Arc;
use std::time::Instant;

use kit::model::{AtomicBool, Failure, Mutex, Sleeper, Wake, orders, thread};
use kit::{Kernel, Mio};

#[path = "wake.rs"]
#[allow(clippy::all, dead_code, unused)]
#[rustfmt::skip]
mod wake;

/// A mailbox that looks and then sleeps.
#[derive(Default)]
struct Naive {
    posts: Mutex<Vec<u32>>,
    asleep: AtomicBool,
    sleeper: Sleeper,
}

impl Naive {
    fn post(&self, value: u32) {
        self.posts.lock().push(value);
        if self.asleep.swap(false) {
            self.sleeper.wake();
        }
    }

    fn turn(&self) -> usize {
        let is_empty = self.posts.lock().is_empty();
        self.asleep.store(true);
        self.sleeper.poll(is_empty);
        self.asleep.store(false);
        self.posts.lock().drain(..).count()
    }
}

fn main() -> std::io::Result<()> {
    println!("A mailbox that looks, and then announces that it sleeps:");
    say(orders(|| {
        let naive = Arc::new(Naive::default());
        let looped = naive.clone();
        vec![
            thread("loop", move || while looped.turn() == 0 {}),
            thread("poster", move || naive.post(7)),
        ]
    }));
    println!("Your mailbox:");
    say(orders(|| {
        let sleeper = Sleeper::default();
        let mailbox = Arc::new(wake::Mailbox::new(sleeper.clone()));
        let looped = mailbox.clone();
        let turn = move || {
            sleeper.poll(looped.fall_asleep());
            looped.be_awake();
            looped.take().len()
        };
        vec![
            thread("loop", move || while turn() == 0 {}),
            thread("poster", move || mailbox.post(7)),
        ]
    }));
    price()
}

fn say(tried: Result<usize, Failure>) {
    match tried {
        Ok(count) => println!("  {count} orders, and none of them loses the post\n"),
        Err(failure) => {
            println!("  in order number {} the loop sleeps for ever:", failure.orders);
            failure.steps.iter().for_each(|step| println!("    {step}"));
            println!();
        }
    }
}

/// 100,000 posts to a loop that is awake: with a wake for each, and as yours does it.
fn price() -> std::io::Result<()> {
    const POSTS: u32 = 100_000;
    let mut kernel = Mio::new()?;
    let waker = kernel.waker(0)?;
    let (start, posts) = (Instant::now(), Mutex::new(Vec::new()));
    for number in 0..POSTS {
        posts.lock().push(number);
        Wake::wake(&waker);
    }
    kernel.poll(None, &mut Vec::new())?;
    println!("a wake for each post: {} ns a post", start.elapsed().as_nanos() / 100_000);
    let mailbox = wake::Mailbox::new(waker);
    let start = Instant::now();
    (0..POSTS).for_each(|number| mailbox.post(number));
    println!("your mailbox:         {} ns a post", start.elapsed().as_nanos() / 100_000);
    Ok(())
}
