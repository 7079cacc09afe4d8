//! Quiz 1, behind chapter 5: each question is a function. `cargo run -p course --example quiz1 3` runs the third.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use kit::{Entry, Epoll, Interest, Kernel, Poll, PollScript, Polled, Said, SystemPoll, Trigger};

const READ: Interest = Interest { readable: true, writable: false };
const WRITE: Interest = Interest { readable: false, writable: true };

fn question_1() -> io::Result<char> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let client = TcpStream::connect(listener.local_addr()?);
    println!("connect gave {}", if client.is_ok() { "a connection" } else { "an error" });
    Ok(if client.is_ok() { 'b' } else { 'c' })
}

fn question_2() -> io::Result<char> {
    let (tell, told) = mpsc::channel();
    let (answer, heard) = mpsc::channel();
    let handle = thread::spawn(move || answer.send(told.recv()));
    drop(handle);
    let _ = tell.send("are you there?"); // An error says that the thread has gone.
    let said = heard.recv();
    println!("the thread said {said:?}");
    Ok(if said.is_ok() { 'a' } else { 'b' })
}

fn question_3() -> io::Result<char> {
    let (mut ours, _theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let bytes = vec![0; 64 << 20];
    let result = ours.write(&bytes);
    println!("write gave {result:?}");
    Ok(match result {
        Ok(count) if count == bytes.len() => 'a',
        Ok(_) => 'c',
        Err(_) => 'b',
    })
}

fn question_4() -> io::Result<char> {
    let (mut ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    drop(theirs);
    let result = ours.read(&mut [0; 100]);
    println!("read gave {result:?}");
    Ok(match result {
        Ok(0) => 'a',
        Err(error) if error.kind() == ErrorKind::WouldBlock => 'b',
        _ => 'c',
    })
}

fn question_5() -> io::Result<char> {
    let signal = Polled::Interrupted(Duration::from_millis(30));
    let mut wait = wait::Wait::new(PollScript::new([signal]));
    wait.poll(Some(Duration::from_millis(100)), &mut Vec::new())?;
    println!("the kernel was asked to wait, in ms: {:?}", wait.poll.asked);
    Ok(match wait.poll.asked[..] {
        [100, 70] => 'b',
        [100, 100] => 'a',
        _ => 'c',
    })
}

fn question_6() -> io::Result<char> {
    let (ours, _theirs) = UnixStream::pair()?;
    let mut poll = SystemPoll::new();
    let number = poll.number_of(&std::rc::Rc::new(ours));
    let mut returned = 0;
    for _ in 0..1000 {
        let mut entries = [Entry { number, wants: WRITE, says: Said::default() }];
        returned += poll.poll(&mut entries, 1000)?;
    }
    println!("{returned} of 1000 calls came back with a report");
    Ok(match returned {
        0 => 'a',
        1 => 'b',
        _ => 'c',
    })
}

fn question_7() -> io::Result<char> {
    let (ours, mut theirs) = UnixStream::pair()?;
    let mut kernel = Epoll::new(Trigger::Edge)?;
    kernel.register(&ours, 5, READ)?;
    theirs.write_all(b"one")?;
    theirs.write_all(b"two")?;
    let mut heard = Vec::new();
    kernel.poll(Some(Duration::ZERO), &mut heard)?;
    kernel.poll(Some(Duration::ZERO), &mut heard)?;
    println!("reports: {}", heard.len());
    Ok(match heard.len() {
        1 => 'a',
        2 => 'b',
        _ => 'c',
    })
}

fn question_8() -> io::Result<char> {
    let (mut ours, mut theirs) = UnixStream::pair()?;
    let mut kernel = Epoll::new(Trigger::Edge)?;
    kernel.register(&ours, 5, READ)?;
    theirs.write_all(b"0123456789")?;
    kernel.poll(Some(Duration::ZERO), &mut Vec::new())?;
    ours.read_exact(&mut [0; 4])?;
    theirs.write_all(b"abcde")?;
    let mut heard = Vec::new();
    kernel.poll(Some(Duration::ZERO), &mut heard)?;
    let count = ours.read(&mut [0; 100])?;
    println!("reports: {}; bytes read after it: {count}", heard.len());
    Ok(match (heard.len(), count) {
        (1, 11) => 'c',
        (1, 5) => 'b',
        _ => 'a',
    })
}

#[path = "../03-asking/solution.rs"]
#[allow(dead_code)]
mod ask;
#[path = "../04-poll/solution.rs"]
#[allow(dead_code)]
mod wait;

fn main() -> io::Result<()> {
    kit::quiz(&[
        question_1, question_2, question_3, question_4, question_5, question_6, question_7,
        question_8,
    ])
}
