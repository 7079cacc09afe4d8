//! A chat on your registry: `cargo run -p course --example run06`, then `nc 127.0.0.1 7106`, twice.

use std::io::{Read, Write};
use std::net::SocketAddr;

use kit::mio::net::{TcpListener, TcpStream};
use kit::{Interest, Kernel, Mio};

#[path = "registry.rs"]
#[allow(clippy::all, dead_code)]
#[rustfmt::skip]
mod registry;

use registry::{Id, Registry};

const LISTENER: usize = usize::MAX;
const READABLE: Interest = Interest { readable: true, writable: false };

fn token(id: Id) -> usize {
    (id.generation as usize) << 32 | id.index as usize
}

fn id(token: usize) -> Id {
    Id { index: token as u32, generation: (token >> 32) as u32 }
}

fn main() -> std::io::Result<()> {
    let mut kernel = Mio::new()?;
    let address: SocketAddr = "127.0.0.1:7106".parse().expect("an address");
    let mut listener = TcpListener::bind(address)?;
    kernel.register(&mut listener, LISTENER, READABLE)?;
    println!("listening on {address}; Ctrl-C ends it");
    let (mut people, mut ids) = (Registry::<TcpStream>::new(), Vec::<Id>::new());
    loop {
        let mut ready = Vec::new();
        kernel.poll(None, &mut ready)?;
        for heard in ready {
            if heard.token == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    let id = people.insert(stream);
                    let stream = people.get(id).expect("it was inserted just now");
                    kernel.register(stream, token(id), READABLE)?;
                    ids.push(id);
                    println!("{id:?} has come; places: {}", people.places());
                }
                continue;
            }
            let from = id(heard.token);
            let (mut text, mut gone) = ([0; 1024], false);
            while let Some(stream) = people.get(from) {
                match stream.read(&mut text) {
                    Ok(0) => gone = true,
                    Ok(count) => {
                        for id in &ids {
                            if let Some(stream) = people.get(*id) {
                                let _ = stream.write(&text[..count]); // A slow reader loses it.
                            }
                        }
                        continue;
                    }
                    Err(error) => gone = error.kind() != std::io::ErrorKind::WouldBlock,
                }
                break;
            }
            if gone {
                people.remove(from);
                ids.retain(|id| *id != from);
                println!("{from:?} has gone; people: {}", people.len());
            }
        }
    }
}
