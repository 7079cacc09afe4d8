//! The load of the comparison with beanstalkd: puts, or reserves and deletes, over some connections.
//!
//! `mq.py` runs it and measures the servers. It prints the operations per second.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

struct Client {
    stream: BufReader<TcpStream>,
    line: String,
}

impl Client {
    fn connect(addr: &str) -> io::Result<Client> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        Ok(Client { stream: BufReader::new(stream), line: String::new() })
    }

    fn send(&mut self, text: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(text)
    }

    /// The line of an answer, which must begin with that word; behind a job's, its body is read.
    fn answer(&mut self, word: &str) -> io::Result<u64> {
        self.line.clear();
        self.stream.read_line(&mut self.line)?;
        let mut words = self.line.split_whitespace();
        if words.next() != Some(word) {
            return Err(io::Error::other(format!("no {word}: {:?}", self.line)));
        }
        let number = words.next().map_or(0, |id| id.parse().unwrap_or(0));
        if let Some(bytes) = words.next().and_then(|bytes| bytes.parse::<u64>().ok()) {
            io::copy(&mut self.stream.by_ref().take(bytes + 2), &mut io::sink())?;
        }
        Ok(number)
    }
}

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [addr, what, count, connections, depth, bytes] = &args[..] else {
        return Err(io::Error::other("bench-mq ADDR put|take COUNT CONNECTIONS DEPTH BYTES"));
    };
    let number = |text: &str| text.parse::<usize>().map_err(io::Error::other);
    let (count, connections) = (number(count)?, number(connections)?);
    let (depth, bytes) = (number(depth)?, number(bytes)?);
    let clients = (0..connections).map(|_| Client::connect(addr));
    let mut clients = clients.collect::<io::Result<Vec<_>>>()?;
    let put = format!("put 0 0 60 {bytes}\r\n{}\r\n", "x".repeat(bytes)).repeat(depth);
    let reserve = "reserve-with-timeout 0\r\n".repeat(depth);
    let rounds = (count / (connections * depth)).max(1);
    let begun = Instant::now();
    for _ in 0..rounds {
        if what == "put" {
            for client in &mut clients {
                client.send(put.as_bytes())?;
            }
            for client in &mut clients {
                for _ in 0..depth {
                    client.answer("INSERTED")?;
                }
            }
            continue;
        }
        for client in &mut clients {
            client.send(reserve.as_bytes())?;
        }
        let mut deletes = vec![String::new(); connections];
        for (client, deletes) in clients.iter_mut().zip(&mut deletes) {
            for _ in 0..depth {
                *deletes += &format!("delete {}\r\n", client.answer("RESERVED")?);
            }
        }
        for (client, deletes) in clients.iter_mut().zip(&deletes) {
            client.send(deletes.as_bytes())?;
        }
        for client in &mut clients {
            for _ in 0..depth {
                client.answer("DELETED")?;
            }
        }
    }
    let done = rounds * connections * depth;
    println!("{done} {:.0}", done as f64 / begun.elapsed().as_secs_f64());
    Ok(())
}
