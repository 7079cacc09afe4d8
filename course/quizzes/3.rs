//! Quiz 3, behind chapter 14: each question is a function. `cargo run -p course --example quiz3 3` runs the third.

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use kit::model::Wake;
use kit::{Input, Limits, Loop, Wire};

fn question_1() -> io::Result<char> {
    let limits = Limits { low: 10, high: 50, max: 100 };
    let mut stream = stream::Stream::new(Wire::new(), limits);
    let said = [40, 40, 40].map(|count| stream.write(&vec![7; count]));
    println!("{said:?}; unsent: {}", stream.outbox.len());
    Ok(match stream.outbox.len() {
        120 => 'a',
        80 => 'b',
        100 => 'c',
        _ => 'd',
    })
}

fn question_2() -> io::Result<char> {
    let (mut client, mut server) = UnixStream::pair()?;
    client.write_all(b"how late is it?")?;
    client.shutdown(Shutdown::Write)?;
    let (mut question, mut answer) = (String::new(), String::new());
    server.read_to_string(&mut question)?;
    let sent = server.write_all(b"noon");
    drop(server);
    client.read_to_string(&mut answer)?;
    println!("sent: {sent:?}; the client has read {answer:?}");
    Ok(match (sent.is_ok(), answer.as_str()) {
        (false, _) => 'a',
        (true, "") => 'b',
        _ => 'c',
    })
}

fn question_3() -> io::Result<char> {
    let wakes = Arc::new(AtomicUsize::new(0));
    let mailbox = wake::Mailbox::new(Counter(wakes.clone()));
    mailbox.post("before the loop is about to sleep");
    let may_sleep = mailbox.fall_asleep();
    let wakes = wakes.load(Ordering::SeqCst);
    println!("it may sleep: {may_sleep}; wakes: {wakes}");
    Ok(match (may_sleep, wakes) {
        (false, 0) => 'a',
        (false, _) => 'b',
        _ => 'c',
    })
}

fn question_4() -> io::Result<char> {
    let mailbox = Arc::new(wake::Mailbox::new(Counter(Arc::default())));
    let workers = wake::Workers::new(2, &mailbox);
    let (bake, baked) = channel();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (first, second) = (seen.clone(), seen.clone());
    workers.offload(move || baked.recv(), move |_| first.lock().unwrap().push("bread"));
    workers.offload(|| (), move |_| second.lock().unwrap().push("flour"));
    while seen.lock().unwrap().is_empty() {
        mailbox.take().into_iter().for_each(|callback| callback());
    }
    bake.send(()).expect("the first work waits for this");
    drop(workers); // All work is done now.
    mailbox.take().into_iter().for_each(|callback| callback());
    let seen = seen.lock().unwrap();
    println!("{seen:?}");
    Ok(match seen[..] {
        ["bread", "flour"] => 'a',
        ["flour", "bread"] => 'b',
        _ => 'c',
    })
}

fn question_5() -> io::Result<char> {
    let on = Loop::new();
    let (flour, resolver) = promise::promise::<&str>(&on);
    let bread = flour.then(|_| Ok("my own bread")).catch(|_| Ok("bread from the shop"));
    let eaten = Rc::new(Cell::new("nothing"));
    let eats = eaten.clone();
    let _ = bread.then(move |bread| {
        eats.set(bread);
        Ok(())
    });
    resolver.settle(Err("the mill is closed".to_owned()));
    while on.step() {}
    println!("eaten: {}", eaten.get());
    Ok(match eaten.get() {
        "nothing" => 'a',
        "my own bread" => 'b',
        _ => 'c',
    })
}

fn question_6() -> io::Result<char> {
    let on = Loop::new();
    let cancelled = Rc::new(Cell::new(0));
    let (fast, resolver) = promise::promise(&on);
    let (slow, never) = promise::promise(&on);
    let [one, two] = [cancelled.clone(), cancelled.clone()];
    let fast = fast.on_cancel(move || one.set(one.get() + 1));
    let slow = slow.on_cancel(move || two.set(two.get() + 10));
    let _first = promise::race(&on, vec![fast, slow]);
    resolver.settle(Ok("first"));
    while on.step() {}
    println!("hooks that ran: {}", cancelled.get());
    drop(never);
    Ok(match cancelled.get() {
        10 => 'a',
        0 => 'b',
        _ => 'c',
    })
}

fn question_7() -> io::Result<char> {
    let mut input = Input::new();
    input.push(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi");
    let result = http::Reader::default().next(&mut input);
    println!("{:?}", result.as_ref().map(|request| request.body.len()));
    Ok(match result {
        Ok(_) => 'a',
        Err(None) => 'b',
        Err(Some(_)) => 'c',
    })
}

fn question_8() -> io::Result<char> {
    let mut input = Input::new();
    input.push(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi");
    input.push(b"GET /b HTTP/1.1\r\nHost: x\r\n\r\nGET /c");
    let mut reader = http::Reader::default();
    let mut seen = Vec::new();
    while let Ok(request) = reader.next(&mut input) {
        seen.push(request.target);
    }
    println!("requests: {seen:?}; bytes that are left: {}", input.len());
    Ok(match (seen.len(), input.len()) {
        (1, _) => 'a',
        (2, 6) => 'b',
        (3, 0) => 'c',
        _ => 'd',
    })
}

/// Wakes nobody, and counts.
struct Counter(Arc<AtomicUsize>);

impl Wake for Counter {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[path = "../14-http/solution.rs"]
#[allow(dead_code)]
mod http;
#[path = "../13-promise/solution.rs"]
#[allow(dead_code)]
mod promise;
#[path = "../11-stream/solution.rs"]
#[allow(dead_code)]
mod stream;
#[path = "../12-wake/solution.rs"]
#[allow(dead_code)]
mod wake;

fn main() -> io::Result<()> {
    kit::quiz(&[
        question_1, question_2, question_3, question_4, question_5, question_6, question_7,
        question_8,
    ])
}
