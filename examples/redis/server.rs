//! What all clients share: the keys, the clients that wait for a list, the subscribers of
//! channels; and the snapshot.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use waterwheel::net::Conn;
use waterwheel::timers::TimerId;
use waterwheel::{Context, SourceId};

use super::channels::Subscriber;
use super::commands::{COMMANDS, Command, matches, pattern};
use super::db::{Bytes, Db, Done, Key};
use super::resp::{Replies, integer};
use super::snapshot;
use super::waiting::Waiter;

type Id = SourceId<Conn>;

/// The version of Redis whose words these are.
pub const VERSION: &str = "7.0.0";
/// What values may need unless `--memory` says otherwise.
pub const MEMORY_BYTES: usize = 64 * 1024 * 1024;
/// Replies that a client may leave unread. It is not read meanwhile, so this is more than one is
/// long.
pub const UNREAD_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Keys that end in one turn; the others wait for the next.
const ENDS_PER_TURN: usize = 1024;

pub struct Server {
    pub db: Db,
    pub replies: Replies,
    pub clients: usize,
    /// What values may need, in bytes.
    pub memory_bytes: usize,
    /// Where SAVE writes to.
    pub file: Option<PathBuf>,
    saves: bool,
    commands: HashMap<&'static [u8], &'static Command>,
    done: u64,
    began: Option<Instant>,
    /// Who waits for each list, the first to come in front.
    pub waiting: HashMap<Key, VecDeque<Waiter>>,
    /// The clients whose requests wait: for which lists, and until when.
    pub blocked: HashMap<Id, (Vec<Key>, Option<TimerId>)>,
    pub channels: HashMap<Bytes, Vec<Subscriber>>,
    pub patterns: Vec<(Bytes, Subscriber)>,
    /// The timer for keys that end, and its time.
    expiry: Option<(TimerId, i64)>,
}

impl Default for Server {
    fn default() -> Server {
        Server {
            db: Db::default(),
            replies: Replies::default(),
            clients: 0,
            memory_bytes: MEMORY_BYTES,
            file: None,
            saves: false,
            commands: COMMANDS.iter().map(|command| (command.name.as_bytes(), command)).collect(),
            done: 0,
            began: None,
            waiting: HashMap::new(),
            blocked: HashMap::new(),
            channels: HashMap::new(),
            patterns: Vec::new(),
            expiry: None,
        }
    }
}

impl Server {
    /// The command of a request, if it is known, has enough strings, and there is memory for it.
    pub fn find(&mut self, args: &[&[u8]]) -> Result<&'static Command, String> {
        self.done += 1;
        let mut lower = [0; 24];
        let name = lower.get_mut(..args[0].len()).map(|name| {
            name.copy_from_slice(args[0]);
            name.make_ascii_lowercase();
            &*name
        });
        let Some(command) = name.and_then(|name| self.commands.get(name)) else {
            let name = String::from_utf8_lossy(&args[0][..args[0].len().min(128)]);
            return Err(format!("ERR unknown command '{name}'"));
        };
        let wants = command.arity.unsigned_abs() as usize;
        let fits = if command.arity < 0 { args.len() >= wants } else { args.len() == wants };
        if !fits {
            let name = command.name;
            return Err(format!("ERR wrong number of arguments for '{name}' command"));
        }
        if command.grows && self.db.used_bytes > self.memory_bytes {
            return Err("OOM command not allowed when used memory > 'maxmemory'.".to_owned());
        }
        Ok(command)
    }

    /// Writes the replies that have collected. Returns false if the client must read some first.
    pub fn send(&mut self, reactor: &mut Context<Server>, conn: Id) -> bool {
        if self.replies.bytes.is_empty() {
            return true;
        }
        let pressure = conn.write(reactor, &self.replies.bytes);
        self.replies.bytes.clear();
        self.replies.bytes.shrink_to(1024 * 1024);
        if pressure == waterwheel::net::Pressure::Refused {
            log::warn!("a client left too many bytes of its replies unread: closed");
            conn.abort(reactor);
        }
        pressure == waterwheel::net::Pressure::Below
    }

    /// Lets the loop call when the next key ends.
    pub fn arm_expiry(&mut self, reactor: &mut Context<Server>) {
        let Some(next) = self.db.next_end_ms() else { return };
        if self.expiry.is_some_and(|(_, at)| at <= next) {
            return;
        }
        if let Some((timer, _)) = self.expiry {
            reactor.cancel(timer);
        }
        let wait = Duration::from_millis(next.saturating_sub(self.db.now_ms).max(0) as u64);
        let timer = reactor.after(wait, |reactor, server| {
            server.expiry = None;
            server.db.now_ms = reactor.wall().unix_ms();
            server.db.expire(ENDS_PER_TURN);
            server.arm_expiry(reactor);
        });
        self.expiry = Some((timer, next));
    }

    pub fn info(&mut self, reactor: &mut Context<Server>) -> Done {
        let up = reactor.now() - *self.began.get_or_insert(reactor.now());
        let text = format!(
            "# Server\r\nredis_version:{VERSION}\r\nredis_mode:standalone\r\nprocess_id:{}\r\n\
             uptime_in_seconds:{}\r\n\r\n# Clients\r\nconnected_clients:{}\r\nblocked_clients:{}\r\n\r\n\
             # Memory\r\nused_memory:{}\r\nmaxmemory:{}\r\nmaxmemory_policy:noeviction\r\n\r\n\
             # Stats\r\ntotal_commands_processed:{}\r\nexpired_keys:{}\r\npubsub_channels:{}\r\n\r\n\
             # Keyspace\r\ndb0:keys={},expires={}\r\n",
            std::process::id(),
            up.as_secs(),
            self.clients,
            self.blocked.len(),
            self.db.used_bytes,
            self.memory_bytes,
            self.done,
            self.db.expired,
            self.channels.len(),
            self.db.len(),
            self.db.ends(),
        );
        self.replies.string(text.as_bytes());
        Ok(())
    }

    /// CONFIG GET and SET: what clients ask for at first, and the memory.
    pub fn config(&mut self, args: &[&[u8]]) -> Done {
        let memory = self.memory_bytes.to_string();
        let known = [("maxmemory", &*memory), ("maxmemory-policy", "noeviction"), ("save", "")];
        let known = known.into_iter().chain([("appendonly", "no"), ("databases", "1")]);
        match (args[1].to_ascii_uppercase().as_slice(), &args[2..]) {
            (b"GET", patterns @ [_, ..]) => {
                patterns.iter().try_for_each(|name| pattern(name).map(drop))?;
                let asked = |name: &str| {
                    let mut patterns = patterns.iter().map(|pattern| pattern.to_ascii_lowercase());
                    patterns.any(|pattern| matches(&pattern, name.as_bytes()))
                };
                let found: Vec<_> = known.filter(|(name, _)| asked(name)).collect();
                self.replies.map(found.len());
                for (name, value) in found {
                    self.replies.string(name.as_bytes());
                    self.replies.string(value.as_bytes());
                }
                Ok(())
            }
            (b"SET", [name, value]) if name.eq_ignore_ascii_case(b"maxmemory") => {
                let bytes = integer(value).and_then(|bytes| usize::try_from(bytes).ok());
                self.memory_bytes = bytes.ok_or("ERR argument must be a memory value")?;
                self.replies.simple("OK");
                Ok(())
            }
            (b"RESETSTAT", []) => {
                self.replies.simple("OK");
                Ok(())
            }
            _ => Err("ERR unknown subcommand or unsupported parameter"),
        }
    }

    /// COMMAND: all commands, with how many strings each takes; COUNT; and DOCS, of which there
    /// are none.
    pub fn describe(&mut self, args: &[&[u8]]) -> Done {
        let replies = &mut self.replies;
        match args.get(1).map(|what| what.to_ascii_uppercase()).as_deref() {
            Some(b"COUNT") => replies.integer(COMMANDS.len() as i64),
            Some(b"DOCS") => replies.map(0),
            None | Some(b"INFO") => {
                let asked = args.get(2..).unwrap_or_default();
                let is_asked = |command: &&Command| {
                    asked.is_empty()
                        || asked
                            .iter()
                            .any(|name| name.eq_ignore_ascii_case(command.name.as_bytes()))
                };
                let found: Vec<_> = COMMANDS.iter().filter(is_asked).collect();
                replies.array(found.len());
                for command in found {
                    replies.array(6);
                    replies.string(command.name.as_bytes());
                    replies.integer(command.arity.into());
                    replies.array(1);
                    replies.simple(if command.grows { "denyoom" } else { "fast" });
                    (0..3).for_each(|_| replies.integer(0));
                }
            }
            Some(_) => return Err("ERR unknown subcommand"),
        }
        Ok(())
    }

    /// Saves all keys. The loop copies them; a worker writes the file, and the client waits for it.
    pub fn save(&mut self, reactor: &mut Context<Server>, waits: Option<Id>) -> Done {
        let file = self.file.clone().ok_or("ERR there is no file: start with --file FILE")?;
        if std::mem::replace(&mut self.saves, true) {
            return Err("ERR Background save already in progress");
        }
        let all = snapshot::of(&self.db);
        reactor.offload(
            move || snapshot::write(&file, &all),
            move |reactor, server, result| {
                server.saves = false;
                let mut replies = Replies::default();
                match result {
                    Ok(Ok(())) => replies.simple("OK"),
                    Ok(Err(error)) => replies.error(format_args!("ERR cannot save: {error}")),
                    Err(error) => replies.error(format_args!("ERR cannot save: {error}")),
                }
                match waits {
                    Some(conn) => {
                        server.unblock(reactor, conn);
                        let _ = conn.write(reactor, &replies.bytes);
                    }
                    None => {
                        log::info!("saved: {}", String::from_utf8_lossy(&replies.bytes).trim_end())
                    }
                }
            },
        );
        match waits {
            Some(conn) => drop(self.blocked.insert(conn, (Vec::new(), None))),
            None => self.replies.simple("Background saving started"),
        }
        Ok(())
    }
}
