//! What each command does to the queue, and what it answers.

use std::fmt;
use std::io::Write;

use super::protocol::Request;
use super::queue::{ClientId, Job, Name, Queue, RESERVED_MAX, State, WATCHED_MAX, Woken};

/// There is no room: of a tube, of all of them, of tubes; or none on the disk.
pub const OUT_OF_MEMORY: &str = "OUT_OF_MEMORY\r\n";
const NOT_FOUND: &str = "NOT_FOUND\r\n";

/// What is to be done with the answer to a command.
pub enum Effect {
    Send,
    /// Send it when this job is stored, and insert it.
    Insert(Box<Job>),
    /// Send it when it is stored that this job is gone.
    Remove(Box<Job>),
    /// There is none yet: the client waits for a job.
    Wait,
    Quit,
}

impl Queue {
    /// Does what a client asks, and appends the answer.
    pub fn run(&mut self, id: ClientId, request: &Request<'_>, out: &mut Vec<u8>) -> Effect {
        self.counts[request.index] += 1;
        let Request { numbers: [first, second, ..], name, .. } = *request;
        let found = match request.word {
            "put" => return self.put(id, request, out),
            "delete" => return self.delete(id, first, out),
            "reserve" => return self.reserve_next(id, None, out),
            "reserve-with-timeout" => return self.reserve_next(id, Some(first), out),
            "reserve-job" => return self.reserve_this(id, first, out),
            "quit" => return Effect::Quit,
            "release" => self.release(id, first, second, request.numbers[2]),
            "bury" => self.bury(id, first, second).then_some("BURIED\r\n"),
            "touch" => self.touch(id, first).then_some("TOUCHED\r\n"),
            "kick-job" => self.kick(first).then_some("KICKED\r\n"),
            "pause-tube" => self.pause(name, second).then_some("PAUSED\r\n"),
            "kick" => {
                let tube = self.client(id).uses.clone();
                let count = self.kick_some(&tube, first);
                return answer(out, format_args!("KICKED {count}\r\n"));
            }
            "use" => return self.use_tube(id, name, out),
            "watch" => return self.watch(id, name, out),
            "ignore" => return self.ignore(id, name, out),
            "peek" => return self.show("FOUND", first, out),
            "peek-ready" => return self.peek(id, State::Ready, out),
            "peek-delayed" => return self.peek(id, State::Delayed, out),
            "peek-buried" => return self.peek(id, State::Buried, out),
            "list-tube-used" => {
                return answer(out, format_args!("USING {}\r\n", self.client(id).uses));
            }
            "list-tubes" => return list(self.tubes.keys(), out),
            "list-tubes-watched" => return list(self.clients[&id].watches.iter(), out),
            "stats" => return data(&self.stats(), out),
            "stats-job" => match self.jobs.get(&first) {
                Some(job) => return data(&self.job_stats(job), out),
                None => None,
            },
            _ => match self.tubes.get(name) {
                Some(tube) => return data(&self.tube_stats(name, tube), out),
                None => None,
            },
        };
        say(out, found.unwrap_or(NOT_FOUND))
    }

    fn put(&mut self, id: ClientId, request: &Request<'_>, out: &mut Vec<u8>) -> Effect {
        if self.is_draining {
            return say(out, "DRAINING\r\n");
        }
        let Some(job) = self.make(id, request.numbers, request.body) else {
            return say(out, OUT_OF_MEMORY);
        };
        answer(out, format_args!("INSERTED {}\r\n", job.id));
        Effect::Insert(job)
    }

    fn delete(&mut self, client: ClientId, id: u64, out: &mut Vec<u8>) -> Effect {
        let is_others = |job: &Job| job.state == State::Reserved && job.reserver != client;
        let found = self.jobs.get(&id).is_some_and(|job| !is_others(job));
        let Some(job) = found.then(|| self.remove(id)).flatten() else {
            return say(out, NOT_FOUND);
        };
        self.of(&job.tube).deleted += 1;
        say(out, "DELETED\r\n");
        Effect::Remove(job)
    }

    fn reserve_next(&mut self, id: ClientId, timeout: Option<u64>, out: &mut Vec<u8>) -> Effect {
        self.client(id).has_asked = true;
        if self.client(id).reserved.len() >= RESERVED_MAX {
            return say(out, OUT_OF_MEMORY);
        }
        if let Some(job) = self.best(id) {
            self.reserve(id, job);
            return self.show("RESERVED", job, out);
        }
        if self.is_deadline_soon(id) {
            return say(out, "DEADLINE_SOON\r\n");
        } else if timeout == Some(0) || self.client(id).has_ended {
            return say(out, "TIMED_OUT\r\n");
        }
        self.wait(id, timeout);
        Effect::Wait
    }

    fn reserve_this(&mut self, id: ClientId, job: u64, out: &mut Vec<u8>) -> Effect {
        if self.client(id).reserved.len() >= RESERVED_MAX {
            return say(out, OUT_OF_MEMORY);
        }
        if self.jobs.get(&job).is_none_or(|job| job.state == State::Reserved) {
            return say(out, NOT_FOUND);
        }
        self.client(id).has_asked = true;
        self.reserve(id, job);
        self.show("RESERVED", job, out)
    }

    /// The answer to a client that has waited.
    pub fn answer_woken(&self, woken: Woken, out: &mut Vec<u8>) {
        match woken {
            Woken::Reserved(job) => self.show("RESERVED", job, out),
            Woken::DeadlineSoon => say(out, "DEADLINE_SOON\r\n"),
            Woken::TimedOut => say(out, "TIMED_OUT\r\n"),
        };
    }

    fn show(&self, word: &str, id: u64, out: &mut Vec<u8>) -> Effect {
        let Some(job) = self.jobs.get(&id) else { return say(out, NOT_FOUND) };
        answer(out, format_args!("{word} {id} {}\r\n", job.body.len() - 2));
        out.extend_from_slice(&job.body);
        Effect::Send
    }

    fn peek(&mut self, id: ClientId, state: State, out: &mut Vec<u8>) -> Effect {
        let tube = self.tubes.get(&self.clients[&id].uses);
        let first = tube.and_then(|tube| tube.sets[state as usize].first());
        self.show("FOUND", first.map_or(0, |(_, id)| *id), out)
    }

    fn use_tube(&mut self, id: ClientId, name: &str, out: &mut Vec<u8>) -> Effect {
        let Some(tube) = self.tube(name) else { return say(out, OUT_OF_MEMORY) };
        self.of(&tube).using += 1;
        let before = std::mem::replace(&mut self.client(id).uses, tube);
        self.of(&before).using -= 1;
        self.forget(&before);
        answer(out, format_args!("USING {name}\r\n"))
    }

    fn watch(&mut self, id: ClientId, name: &str, out: &mut Vec<u8>) -> Effect {
        let watches = &self.client(id).watches;
        if !watches.iter().any(|watched| **watched == *name) {
            let tube = if watches.len() < WATCHED_MAX { self.tube(name) } else { None };
            let Some(tube) = tube else { return say(out, OUT_OF_MEMORY) };
            self.of(&tube).watching += 1;
            self.client(id).watches.push(tube);
        }
        answer(out, format_args!("WATCHING {}\r\n", self.client(id).watches.len()))
    }

    fn ignore(&mut self, id: ClientId, name: &str, out: &mut Vec<u8>) -> Effect {
        let watches = &mut self.client(id).watches;
        if let Some(at) = watches.iter().position(|watched| **watched == *name) {
            if watches.len() == 1 {
                return say(out, "NOT_IGNORED\r\n");
            }
            let tube = watches.remove(at);
            self.of(&tube).watching -= 1;
            self.forget(&tube);
        }
        answer(out, format_args!("WATCHING {}\r\n", self.client(id).watches.len()))
    }
}

fn say(out: &mut Vec<u8>, word: &str) -> Effect {
    out.extend_from_slice(word.as_bytes());
    Effect::Send
}

fn answer(out: &mut Vec<u8>, text: fmt::Arguments<'_>) -> Effect {
    let _ = out.write_fmt(text); // A Vec takes all.
    Effect::Send
}

fn data(text: &str, out: &mut Vec<u8>) -> Effect {
    answer(out, format_args!("OK {}\r\n{text}\r\n", text.len()))
}

fn list<'a>(names: impl Iterator<Item = &'a Name>, out: &mut Vec<u8>) -> Effect {
    data(&names.fold("---\n".to_owned(), |text, name| text + "- " + name + "\n"), out)
}
