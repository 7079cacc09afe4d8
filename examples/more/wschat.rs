//! Chat in the browser: a page, and the WebSocket that it uses.
//!
//! Run:  cargo run --release --features ws --example wschat
//! Then: open http://127.0.0.1:7001 in two windows, one as narrow as a phone, and type;
//!       or, with Python's websockets: python3 -m websockets ws://127.0.0.1:7001/chat
//!       and type {"text": "hello"}
//! See:  the members, and each one that comes or goes. Stop the server and start it again: the
//!       pages come back by themselves, under their names.
//! Look: `tell`. A message is made once, as JSON and as a frame, for any number of members. The
//!       list of members is sent once, to each new one, and after that only changes: if all got the
//!       whole list each time, a thousand new members would cost gigabytes. A member that does not
//!       read is closed when 4 MiB wait for it.
//! Next: the last ten lines for each new member; rooms by path; signed cookies for the names.

use std::slice;

use serde_json::{Value, json};
use waterwheel::net::Pressure;
use waterwheel::protocols::http::{self, Response, StatusCode};
use waterwheel::protocols::ws;
use waterwheel::{Context, Reactor};

#[path = "../cli/mod.rs"]
mod cli;

const USAGE: &str = "\
Usage: wschat [OPTIONS] [ADDR]

Serves a chat over WebSocket, and a page that speaks it. ADDR is 127.0.0.1:7001
unless given; a bare port means 127.0.0.1. All clients together may have 16 MiB
buffered; then the slowest reader is closed.

Options:
  -h, --help      show this";

const PAGE: &str = include_str!("wschat/index.html");
/// Bytes of a client's message. 4,096: the others are each sent as much for it.
const MESSAGE_BYTES_MAX: usize = 4096;
/// Characters of a name: the page puts it in front of each line.
const NAME_CHARS_MAX: usize = 20;

/// The members, in the order in which they came.
#[derive(Default)]
struct Chat {
    members: Vec<Member>,
    came: u64,
}

struct Member {
    socket: ws::Socket,
    name: String,
}

fn main() {
    let args = cli::parse(USAGE, "127.0.0.1:7001", &[]);
    cli::exit_on_error(run(&args));
}

fn run(args: &cli::Args) -> Result<(), String> {
    cli::raise_open_files();
    let mut reactor = Reactor::new().map_err(|error| error.to_string())?;
    let limits = ws::Limits { message_bytes_max: MESSAGE_BYTES_MAX, ..ws::Limits::default() };
    let accept = ws::Accept::new().limits(limits);
    let limits = http::Limits { buffers: Some(cli::buffers()), ..http::Limits::default() };
    let server = http::Server::new({
        move |reactor, chat: &mut Chat, request, reply| match request.path() {
            "/" => _ = reply.send(reactor, Response::html(PAGE)),
            "/chat" => {
                // A client that is refused has got the reason.
                if let Ok(socket) = accept.open(reactor, request, reply, hear) {
                    chat.join(reactor, socket);
                }
            }
            _ => _ = reply.send(reactor, StatusCode::NOT_FOUND),
        }
    })
    .limits(limits);
    let listener = server.listen(&mut reactor, &args.addr).map_err(cli::cannot("listen on"))?;
    cli::end_on_signals(&mut reactor, cli::GRACE)?;
    let addr = reactor[listener].local_addr();
    cli::say(format_args!("listening on {addr}"));
    cli::run(&mut reactor, &mut Chat::default())
}

/// Every member's handler.
fn hear(reactor: &mut Context<Chat>, chat: &mut Chat, socket: &ws::Socket, event: ws::Event<'_>) {
    let Some(at) = chat.members.iter().position(|member| member.socket == *socket) else { return };
    match event {
        ws::Event::Text(text) => match serde_json::from_str(text) {
            Ok(said) => chat.heard(reactor, at, &said),
            Err(_) => socket.close(reactor, ws::code::INVALID, "JSON, please"),
        },
        ws::Event::Binary(_) => socket.close(reactor, ws::code::UNSUPPORTED, "texts only"),
        ws::Event::Closed(_) => {
            let Member { name, .. } = chat.members.remove(at);
            tell(&chat.members, reactor, &json!({ "left": name }));
        }
        _ => {}
    }
}

impl Chat {
    /// A new member gets all the names, its own behind the others; the others get the new one.
    fn join(&mut self, reactor: &mut Context<Chat>, socket: ws::Socket) {
        let name = self.next_name();
        self.members.push(Member { socket, name: name.clone() });
        let here: Vec<&str> = self.members.iter().map(|member| &*member.name).collect();
        let [others @ .., newcomer] = &self.members[..] else { return };
        tell(slice::from_ref(newcomer), reactor, &json!({ "you": name, "here": here }));
        tell(others, reactor, &json!({ "came": name }));
    }

    /// A name that no member has; a member may have chosen the next `guest` name itself.
    fn next_name(&mut self) -> String {
        loop {
            self.came += 1;
            let name = format!("guest{}", self.came);
            if !self.has(&name) {
                return name;
            }
        }
    }

    fn has(&self, name: &str) -> bool {
        self.members.iter().any(|member| member.name == name)
    }

    /// `{"text": …}` says something to all; `{"name": …}` asks for another name.
    fn heard(&mut self, reactor: &mut Context<Chat>, at: usize, said: &Value) {
        if let Some(text) = said["text"].as_str().map(str::trim).filter(|text| !text.is_empty()) {
            let said = json!({ "from": self.members[at].name, "text": text });
            tell(&self.members, reactor, &said);
        }
        if let Some(name) = said["name"].as_str().map(str::trim) {
            self.rename(reactor, at, name);
        }
    }

    fn rename(&mut self, reactor: &mut Context<Chat>, at: usize, name: &str) {
        let is_taken = self.has(name);
        let is_name = name.chars().all(|c| c.is_alphanumeric() || "-_ ".contains(c));
        let Member { socket, name: old } = &mut self.members[at];
        if !is_name || is_taken || !(1..=NAME_CHARS_MAX).contains(&name.chars().count()) {
            let error = json!({ "error": "that name will not do, or is taken" });
            let _ = socket.text(reactor, &error.to_string());
            return;
        }
        let old = std::mem::replace(old, name.to_owned());
        let _ = socket.text(reactor, &json!({ "you": name }).to_string());
        tell(&self.members, reactor, &json!({ "was": old, "is": name }));
    }
}

fn tell(members: &[Member], reactor: &mut Context<Chat>, news: &Value) {
    let message = ws::Message::text(&news.to_string());
    for member in members {
        if member.socket.send(reactor, &message) == Pressure::Refused {
            member.socket.abort(reactor); // `Closed` comes; nothing more waits for it.
        }
    }
}
