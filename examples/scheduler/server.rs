//! The scheduler on the loop: two task queues of the library, and a store between them.
//!
//! ```text
//!   clock queue: a line is due ─▶ Due ┄stored┄▶ works queue: its turn ─▶ Begin ┄stored┄▶ sh -c
//!   POST /tasks/NAME/run ─▶ Due                  (overlap, retries)    ◀─ End  ◀──────── it ends
//! ```
//!
//! The store is a journal, Redis, or nothing. A run that has begun and has no end when the store is
//! read again is lost; it is begun again only if its line says `idempotent`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use waterwheel::patterns::tasks::{self, Outcome, Overrun, Record, Schedule, TaskId, TaskQueue};
use waterwheel::patterns::{Backoff, tasks::CATCH_UP_MAX};
use waterwheel::protocols::http::Reply;
use waterwheel::timers::WallTime;
use waterwheel::{Context, SourceId};

use super::crontab::{ENTRIES_MAX, Entry, Overlap, When};
use super::job::{self, Job};
use super::journal::{Journal, Snapshot, Stores};
use super::ledger::{End, Event, Id, Ledger, Run, State, id, parts};
use super::page;
use super::redis::{self, Link};

/// Runs of a task at most that wait, with `overlap=queue`, or that are under way, with
/// `overlap=allow`; one more is skipped.
const AT_ONCE_MAX: u32 = 100;
/// Decisions that wait for the store; with more, no line is due until it has taken half of them.
const UNSTORED_MAX: usize = 100_000;
/// The first pause before a run is tried again; each further one is twice as long, up to an hour.
const RETRY_FIRST: Duration = Duration::from_secs(10);
const RETRY_MOST: Duration = Duration::from_secs(3600);
/// A run that is later than this, a minute, makes up for a missed one.
const LATE_MS: i64 = 60_000;
/// How long after a failure the store is tried again.
const STORE_AGAIN: Duration = Duration::from_secs(1);

pub type Queue = SourceId<TaskQueue<Scheduler>>;

pub struct Setup {
    pub output_bytes: usize,
    pub runs_max: usize,
    pub worker: String,
    /// The crontab, and if its lines have users.
    pub path: String,
    pub is_system: bool,
    /// For the jitter of retries, in a simulation; else it is chance.
    pub seed: Option<u64>,
    pub say: fn(String),
    /// Starts the command of an attempt; [`Scheduler::ended`] gets its end.
    pub start: fn(&mut Context<Scheduler>, &mut Scheduler, &Entry, Id, u32),
    /// Called when an end was asked for and nothing is under way.
    pub over: fn(&mut Context<Scheduler>),
}

pub enum Store {
    Nothing,
    File(Journal),
    Redis(Box<Link>),
}

pub struct Task {
    pub entry: Entry,
    /// In the clock queue, if it is ever due by itself; and in the works queue.
    pub clock: Option<TaskId>,
    pub work: TaskId,
}

pub struct Scheduler {
    pub setup: Setup,
    pub ledger: Ledger,
    pub store: Store,
    pub tasks: BTreeMap<String, Task>,
    pub jobs: BTreeMap<Id, Job>,
    pub clock: Queue,
    works: Queue,
    /// Runs whose turn has come: their `Begin` is not stored yet, or their command runs.
    under_way: BTreeMap<Id, tasks::Run>,
    /// Ends of commands, until the works queue says if there is another attempt.
    results: BTreeMap<Id, End>,
    /// Runs that are to begin again although nobody has tried them here.
    lost: BTreeSet<Id>,
    /// Events that the journal does not have yet.
    decided: VecDeque<(u64, Event)>,
    /// Those that it has refused.
    refused: Vec<Event>,
    /// Clients that wait until their run is stored.
    pub replies: BTreeMap<Id, Vec<Reply>>,
    last_post_ms: i64,
    pub is_begun: bool,
    pub is_ending: bool,
}

impl Scheduler {
    pub fn open(
        reactor: &mut Context<Scheduler>,
        setup: Setup,
        ledger: Ledger,
        store: Store,
    ) -> Result<Scheduler, String> {
        let queue = |runs| TaskQueue::new().runs_max(runs).history_max(0).tasks_max(ENTRIES_MAX);
        let text = |error: std::io::Error| error.to_string();
        let clock = queue(64).open(reactor).map_err(text)?;
        let works = queue(setup.runs_max);
        let works = if let Some(seed) = setup.seed { works.seed(seed) } else { works };
        let works = works.open(reactor).map_err(text)?;
        works.on_end(reactor, |reactor, scheduler, record| scheduler.over(reactor, record));
        Ok(Scheduler {
            setup,
            ledger,
            store,
            tasks: BTreeMap::new(),
            jobs: BTreeMap::new(),
            clock,
            works,
            under_way: BTreeMap::new(),
            results: BTreeMap::new(),
            lost: BTreeSet::new(),
            decided: VecDeque::new(),
            refused: Vec::new(),
            replies: BTreeMap::new(),
            last_post_ms: 0,
            is_begun: false,
            is_ending: false,
        })
    }

    /// Takes a crontab, the first one or another. Tasks whose line is the same stay as they are.
    ///
    /// # Errors
    /// A line and what is wrong with it; nothing has changed then.
    pub fn load(
        &mut self,
        reactor: &mut Context<Scheduler>,
        entries: Vec<Entry>,
    ) -> Result<(), String> {
        let schedules = entries.iter().map(schedule).collect::<Result<Vec<_>, _>>()?;
        let (mut old, mut changed) = (std::mem::take(&mut self.tasks), BTreeSet::new());
        let now = reactor.wall().unix_ms();
        let is_first = !std::mem::replace(&mut self.is_begun, true);
        for (entry, schedule) in entries.into_iter().zip(schedules) {
            if let Some(task) = old.remove(&entry.name) {
                if (Entry { line: entry.line, ..task.entry.clone() }) == entry {
                    self.tasks.insert(entry.name.clone(), Task { entry, ..task });
                    continue;
                }
                self.remove(reactor, &task);
            }
            changed.insert(entry.name.clone());
            let since = self.ledger.known.get(&entry.name).copied();
            if since.is_none() {
                self.decide(reactor, Event::Known { name: entry.name.clone(), ms: now });
            }
            self.add(reactor, entry, schedule, since)?;
        }
        for (name, task) in old {
            self.remove(reactor, &task);
            changed.insert(name);
        }
        let known = self.ledger.known.keys().filter(|name| !self.tasks.contains_key(*name));
        for name in known.cloned().collect::<Vec<_>>() {
            self.decide(reactor, Event::Gone { name });
        }
        for id in self.ledger.unfinished() {
            let name = parts(&id).map_or("", |(name, _)| name);
            if is_first || changed.contains(name) {
                self.take_up(reactor, &id);
            }
        }
        let reboot = self.tasks.values().filter(|task| is_first && task.entry.when == When::Reboot);
        for name in reboot.map(|task| task.entry.name.clone()).collect::<Vec<_>>() {
            self.decide(reactor, Event::Due { id: id(&name, now) });
        }
        Ok(())
    }

    fn add(
        &mut self,
        reactor: &mut Context<Scheduler>,
        entry: Entry,
        schedule: Option<Schedule>,
        since: Option<i64>,
    ) -> Result<(), String> {
        let options = &entry.options;
        let overrun = match options.overlap {
            Overlap::Skip | Overlap::Queue => Overrun::Queue(AT_ONCE_MAX),
            Overlap::Allow => Overrun::Parallel(AT_ONCE_MAX),
        };
        let retry = Backoff::new(options.retries.saturating_add(1));
        let work = tasks::Task::new(entry.name.as_str(), Schedule::on_demand())
            .overrun(overrun)
            .retry(retry.first(RETRY_FIRST).most(RETRY_MOST));
        let text = |error: tasks::TaskError| error.to_string();
        let work = self.works.add(reactor, work, |reactor, scheduler: &mut Scheduler, run| {
            scheduler.begin(reactor, run);
        });
        let clock = schedule.map(|mut schedule| {
            if let Some(since) = since.filter(|_| options.catch_up > 0) {
                schedule = schedule.since(WallTime::from_unix_ms(since));
            }
            let clock = tasks::Task::new(entry.name.as_str(), schedule)
                .catch_up(options.catch_up.min(CATCH_UP_MAX))
                .overrun(Overrun::Queue(CATCH_UP_MAX));
            self.clock.add(reactor, clock, |reactor, scheduler: &mut Scheduler, run| {
                let id = id(run.name(), run.due().wall.unix_ms());
                scheduler.decide(reactor, Event::Due { id });
                run.ok();
            })
        });
        let (work, clock) = (work.map_err(text)?, clock.transpose().map_err(text)?);
        self.tasks.insert(entry.name.clone(), Task { entry, clock, work });
        Ok(())
    }

    fn remove(&mut self, reactor: &mut Context<Scheduler>, task: &Task) {
        self.works.remove(reactor, task.work);
        task.clock.map(|clock| self.clock.remove(reactor, clock));
    }

    /// Goes on with a run that an earlier process, or another worker, has left.
    pub fn take_up(&mut self, reactor: &mut Context<Scheduler>, id: &Id) {
        let Some(run) = self.ledger.runs.get(id) else { return };
        if !self.is_ours(id) || self.under_way.contains_key(id) {
            return;
        }
        match run.state {
            State::Waits => return self.submit(reactor, id, false),
            State::Runs => {}
            State::Over => return,
        }
        let task = self.tasks.get(parts(id).map_or("", |(name, _)| name));
        let again = task.is_some_and(|task| task.entry.options.idempotent);
        let (attempt, how) = (run.attempt, "lost: nobody has seen its end".to_owned());
        self.lost.insert(id.clone());
        self.end(reactor, id.clone(), attempt, End { again, how, ..End::default() });
    }

    /// Plans a run that a client asks for.
    pub fn post(&mut self, reactor: &mut Context<Scheduler>, name: &str, reply: Reply) {
        // No minute of the clock queue has this id, and no other client.
        let now = reactor.wall().unix_ms().max(self.last_post_ms + 1);
        self.last_post_ms = now + i64::from(now % 60_000 == 0);
        let id = id(name, self.last_post_ms);
        self.replies.entry(id.clone()).or_default().push(reply);
        self.decide(reactor, Event::Due { id });
    }

    pub fn decide(&mut self, reactor: &mut Context<Scheduler>, event: Event) {
        match &mut self.store {
            Store::Nothing => return self.happen(reactor, event),
            Store::File(journal) => {
                let number = journal.append(reactor, &event.encode());
                self.decided.push_back((number, event));
            }
            Store::Redis(link) => link.store(reactor, event),
        }
        if self.unstored() > UNSTORED_MAX {
            self.clock.pause_all(reactor);
        }
    }

    fn unstored(&self) -> usize {
        match &self.store {
            Store::Redis(link) => link.waiting(),
            _ => self.decided.len() + self.refused.len(),
        }
    }

    /// An event of ours is stored.
    pub fn happen(&mut self, reactor: &mut Context<Scheduler>, event: Event) {
        self.ledger.apply(&event);
        let has_room = self.unstored() <= UNSTORED_MAX / 2 && !self.is_ending;
        if has_room && reactor[self.clock].is_paused() {
            self.clock.resume_all(reactor);
        }
        match event {
            Event::Due { id } => {
                for reply in self.replies.remove(&id).into_iter().flatten() {
                    page::accepted(reactor, &id, reply);
                }
                if !matches!(self.store, Store::Redis(_)) {
                    self.submit(reactor, &id, true);
                }
            }
            Event::Begin { id, .. } => {
                let Some(run) = self.under_way.get(&id) else { return };
                let attempt = run.attempt();
                match self.tasks.get(run.name()).map(|task| task.entry.clone()) {
                    Some(entry) => (self.setup.start)(reactor, self, &entry, id, attempt),
                    None => self.ended(reactor, id, gone()),
                }
            }
            Event::End { id, end, .. } => {
                if self.lost.remove(&id) && end.again {
                    self.submit(reactor, &id, false);
                } else if let (Store::Redis(link), false) = (&mut self.store, end.again) {
                    link.done(reactor, &id);
                }
            }
            Event::Known { .. } | Event::Gone { .. } => {}
        }
        self.stop_if_over(reactor);
    }

    fn is_ours(&self, id: &str) -> bool {
        !matches!(&self.store, Store::Redis(link) if !link.has(id))
    }

    /// Puts a run into the works queue. A new one is skipped if its line says so and another is under
    /// way, unless it makes up for a missed one.
    pub fn submit(&mut self, reactor: &mut Context<Scheduler>, id: &Id, is_new: bool) {
        let (Some((name, due)), Some(run)) = (parts(id), self.ledger.runs.get(id)) else { return };
        let attempt = run.attempt;
        let Some(task) = self.tasks.get(name) else {
            return self.end(reactor, id.clone(), attempt, gone());
        };
        let is_open = |(other, run): (&Id, &Run)| {
            other != id && run.state != State::Over && self.is_ours(other)
        };
        let may_skip = is_new && task.entry.options.overlap == Overlap::Skip;
        let is_late = reactor.wall().unix_ms() - due >= LATE_MS;
        let is_skipped = may_skip && !is_late && self.ledger.of(name).any(is_open);
        if is_skipped
            || !self.works.run_again(reactor, task.work, WallTime::from_unix_ms(due), attempt)
        {
            let how = "skipped: others of this task are under way".to_owned();
            self.end(reactor, id.clone(), attempt, End { how, ..End::default() });
        }
    }

    /// It is a run's turn.
    fn begin(&mut self, reactor: &mut Context<Scheduler>, run: tasks::Run) {
        let id = id(run.name(), run.due().wall.unix_ms());
        let (attempt, at) = (run.attempt(), reactor.wall().unix_ms());
        self.under_way.insert(id.clone(), run);
        let by = self.setup.worker.clone();
        self.decide(reactor, Event::Begin { id, attempt, at, by });
    }

    /// The command of a run has ended.
    pub fn ended(&mut self, reactor: &mut Context<Scheduler>, id: Id, end: End) {
        let Some(run) = self.under_way.remove(&id) else { return };
        if !reactor[self.works].is_running(run.id()) {
            return self.end(reactor, id, run.attempt(), end); // Its line has changed meanwhile.
        }
        let result = if end.code == Some(0) { Ok(()) } else { Err(end.how.clone()) };
        self.results.insert(id, end);
        run.finish(result);
    }

    /// The works queue knows if it is to be tried again.
    fn over(&mut self, reactor: &mut Context<Scheduler>, record: &Record) {
        let id = id(&record.name, record.due.wall.unix_ms());
        if record.outcome == Outcome::Removed && !self.results.contains_key(&id) {
            return; // Its new line takes it up, or its command still runs.
        }
        let how = record.outcome.to_string();
        let end = self.results.remove(&id).unwrap_or(End { how, ..End::default() });
        let end = End { again: record.again.is_some(), ..end };
        self.end(reactor, id, record.attempt, end);
    }

    fn end(&mut self, reactor: &mut Context<Scheduler>, id: Id, attempt: u32, end: End) {
        let at = reactor.wall().unix_ms();
        self.decide(reactor, Event::End { id, attempt, at, end });
    }

    /// Begins nothing more; what runs gets `grace`.
    pub fn drain(&mut self, reactor: &mut Context<Scheduler>, grace: Duration) {
        self.is_ending = true;
        self.clock.pause_all(reactor);
        self.works.pause_all(reactor);
        reactor.after(grace, |reactor, scheduler: &mut Scheduler| {
            job::end_all(reactor, scheduler);
        });
        let most = grace + 2 * job::KILL_AFTER;
        reactor.after(most, |reactor, scheduler: &mut Scheduler| scheduler.close(reactor));
        self.stop_if_over(reactor);
    }

    pub fn stop_if_over(&mut self, reactor: &mut Context<Scheduler>) {
        let is_stored = match &self.store {
            Store::Redis(link) => link.is_stored(),
            _ => self.unstored() == 0,
        };
        let is_over = self.under_way.is_empty() && self.results.is_empty() && is_stored;
        if self.is_ending && is_over {
            self.close(reactor);
        }
    }

    fn close(&mut self, reactor: &mut Context<Scheduler>) {
        reactor.remove(self.clock);
        reactor.remove(self.works);
        if let Store::Redis(link) = &mut self.store {
            redis::close(reactor, link);
        }
        (self.setup.over)(reactor);
    }
}

fn gone() -> End {
    End { how: "skipped: its line has gone".to_owned(), ..End::default() }
}

/// Finds what is wrong with an entry that is well-formed: its zone.
pub fn check(entries: &[Entry]) -> Result<(), String> {
    entries.iter().try_for_each(|entry| schedule(entry).map(drop))
}

/// The schedule of an entry; `None` if it is not due by itself.
fn schedule(entry: &Entry) -> Result<Option<Schedule>, String> {
    let (line, zone) = match &entry.when {
        When::Line(line) => (line.as_str(), entry.zone()),
        When::Never | When::Reboot => ("* * * * *", entry.zone()), // The zone is to be one, too.
    };
    let schedule = zone.map_or_else(|| Schedule::cron(line), |zone| Schedule::cron_in(line, zone));
    let schedule = schedule.map_err(|error| format!("{}: {error}", entry.line))?;
    Ok(Some(schedule).filter(|_| matches!(entry.when, When::Line(_))))
}

impl Stores for Scheduler {
    fn journal(&mut self) -> &mut Journal {
        match &mut self.store {
            Store::File(journal) => journal,
            _ => unreachable!("only a journal calls this"),
        }
    }

    fn stored(&mut self, reactor: &mut Context<Self>, up_to: u64, result: Result<(), String>) {
        let count = self.decided.iter().take_while(|(number, _)| *number <= up_to).count();
        let events: Vec<Event> = self.decided.drain(..count).map(|(_, event)| event).collect();
        match result {
            Ok(()) => events.into_iter().for_each(|event| self.happen(reactor, event)),
            Err(error) => {
                (self.setup.say)(format!("the store refuses, and is tried again: {error}"));
                self.refused.extend(events);
                reactor.after(STORE_AGAIN, |reactor, scheduler: &mut Scheduler| {
                    let events = std::mem::take(&mut scheduler.refused);
                    events.into_iter().for_each(|event| scheduler.decide(reactor, event));
                });
            }
        }
    }

    fn snapshot(&mut self) -> Snapshot {
        let events = self.ledger.events();
        Box::new(move |write| events.for_each(|event| write(&event.encode())))
    }
}
