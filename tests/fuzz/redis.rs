//! The example `redis` without its sockets: requests are the same wherever they are cut, and
//! whatever they ask, the memory that is counted is that of the values that are there.
//!
//! The first two bytes choose the cuts and the time that passes; the rest is the stream.

#[allow(dead_code, unused_imports)] // Its other part is the program's.
#[path = "../../examples/redis"]
mod example {
    pub mod channels;
    pub mod collections;
    pub mod commands;
    pub mod db;
    #[path = "../resp/mod.rs"]
    pub mod resp;
    pub mod server;
    pub mod session;
    pub mod snapshot;
    pub mod sorted;
    pub mod waiting;
}

use example::commands::{Call, Run};
use example::db::{COST_BYTES, Db, Value};
use example::resp::{Malformed, Parser};
use example::server::Server;
use example::snapshot;
use support::Rng;

use super::cut;

pub fn redis(bytes: &[u8]) {
    let (head, stream) = bytes.split_at(bytes.len().min(2));
    let mut rng = Rng::from_bytes(head);
    let mut cuts = Rng::from_seed(rng.below(256) + 1);
    let step_ms = rng.below(256) as i64;
    let whole = requests([stream]);
    assert_eq!(requests(cut(stream, &mut cuts)), whole, "in pieces");
    let mut server = Server::default();
    server.db.now_ms = 1;
    for request in &whole.0 {
        let args: Vec<&[u8]> = request.iter().map(|text| &text[..]).collect();
        server.db.now_ms += step_ms;
        server.db.expire(3);
        run(&mut server, &args);
        assert_eq!(server.db.used_bytes, counted(&server.db), "{request:?}");
        server.replies.bytes.clear();
        server.replies.is_too_long = false;
    }
    // What is saved makes the same keys again.
    let saved = snapshot::of(&server.db);
    let mut again = Server::default();
    again.db.now_ms = server.db.now_ms;
    let (saved, wrong) = requests([&saved[..]]);
    assert_eq!(wrong, None);
    let (end, saved) = saved.split_last().expect("the end");
    assert_eq!(end, &[b"END".to_vec()]);
    for request in saved {
        run(&mut again, &request.iter().map(|text| &text[..]).collect::<Vec<_>>());
    }
    server.db.expire(usize::MAX);
    assert_eq!(again.db.used_bytes, server.db.used_bytes);
    assert_eq!(again.db.len(), server.db.len());
}

fn run(server: &mut Server, args: &[&[u8]]) {
    if let Ok(command) = server.find(args)
        && let Run::Value(run) = command.run
    {
        let Server { db, replies, .. } = server;
        let _ = run(&mut Call { db, args, replies });
    }
}

/// The requests of a stream that comes in these pieces, those without a string left out.
fn requests<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Vec<Vec<u8>>>, Option<Malformed>) {
    let (mut parser, mut input, mut all) = (Parser::default(), Vec::new(), Vec::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        let mut used = 0;
        loop {
            match parser.next(&input[used..]) {
                Ok(None) => break,
                Ok(Some(length)) => {
                    let request = &input[used..used + length];
                    let owned = |args: &[&[u8]]| args.iter().map(|text| text.to_vec()).collect();
                    let strings: Vec<_> = parser.with_strings(request, owned);
                    if !strings.is_empty() {
                        all.push(strings);
                    }
                    used += length;
                }
                Err(wrong) => return (all, Some(wrong)),
            }
        }
        input.drain(..used);
    }
    (all, None)
}

fn counted(db: &Db) -> usize {
    let element = |bytes: usize| bytes + COST_BYTES;
    let value = |value: &Value| match value {
        Value::String(text) => text.len(),
        Value::List(list) => list.iter().map(|item| element(item.len())).sum(),
        Value::Hash(hash) => hash.iter().map(|(k, v)| element(k.len() + v.len())).sum(),
        Value::Set(set) => set.iter().map(|member| element(member.len())).sum(),
        Value::Sorted(sorted) => sorted.iter().map(|(_, member)| element(member.len())).sum(),
    };
    db.iter().map(|(key, of, _)| element(key.len()) + value(of)).sum()
}
