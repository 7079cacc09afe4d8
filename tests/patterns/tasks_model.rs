//! The task queue against a simple model: random tasks, answers, pauses and jumps in time.
//!
//! The model keeps lists and looks at all of them each time. Occurrences of different tasks never
//! fall on the same millisecond (task number n has those that leave n when divided by 16, and the
//! clock stands at multiples of 16), so that the order of what starts is not a matter of taste.

use std::collections::VecDeque;
use std::time::Duration;

use support::Rng;
use waterwheel::patterns::Backoff;
use waterwheel::patterns::tasks::{Overrun, Run, Schedule, Task, TaskId, TaskQueue};
use waterwheel::reactor::{Context, Priority};
use waterwheel::timers::ManualClock;
use waterwheel::{Reactor, SourceId};

const GRID: u64 = 16;
const STEPS: usize = 3000; // In each of 20 rounds.

/// A begin: task, attempt, due, and when.
type Begin = (usize, u32, u64, u64);

/// What becomes of an attempt: random, and yet the same for model and queue.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Ok,
    Fail,
    Later,
}

fn fate(task: usize, attempt: u32, due: u64) -> Fate {
    let mixed = (task as u64 * 31 + u64::from(attempt)).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ due;
    match Rng::from_seed(mixed.wrapping_mul(0xD129_0A2E_6C4F_3B85)).below(8) {
        0..3 => Fate::Ok,
        3 => Fate::Fail,
        _ => Fate::Later,
    }
}

/// The settings of a task.
#[derive(Clone, Copy)]
struct Settings {
    period: Option<u64>,
    first: u64,
    priority: Priority,
    overrun: Overrun,
    attempts: u32,
    wait: u64,
    timeout: Option<u64>,
    catch_up: u32,
}

fn random_settings(rng: &mut Rng, number: usize, now: u64) -> Settings {
    let priority = [Priority::High, Priority::Normal, Priority::Low][rng.below(3) as usize];
    let room = 1 + rng.below(3) as u32;
    let overruns = [Overrun::Skip, Overrun::Queue(room), Overrun::Parallel(room)];
    let first = GRID * (1 + rng.below(40)) + number as u64;
    assert_eq!(now % GRID, 0);
    Settings {
        period: (rng.below(5) > 0).then(|| GRID * (1 + rng.below(30))),
        first,
        priority,
        overrun: overruns[rng.below(3) as usize],
        attempts: 1 + rng.below(3) as u32,
        wait: GRID * (1 + rng.below(20)),
        timeout: (rng.below(2) == 0).then(|| GRID * (1 + rng.below(30))),
        catch_up: 1 + rng.below(3) as u32,
    }
}

struct Modelled {
    number: usize,
    settings: Settings,
    next: Option<u64>,
    waiting: VecDeque<(u64, u32)>,
    /// Chosen, and not begun yet.
    chosen: usize,
    /// Due, attempt, and when it times out; in the order of their begins.
    running: Vec<(u64, u32, Option<u64>)>,
    /// When, in the order of failing, due, attempt.
    retries: Vec<(u64, u64, u64, u32)>,
    paused: bool,
    skipped: u64,
    missed: u64,
    runs: u64,
    failures: u64,
}

#[derive(Default)]
struct Model {
    now: u64,
    runs_max: usize,
    paused: bool,
    tasks: Vec<Modelled>,
    begins: Vec<Begin>,
    failed: u64,
}

impl Modelled {
    fn under_way(&self) -> usize {
        self.waiting.len() + self.chosen + self.running.len() + self.retries.len()
    }
}

impl Model {
    fn task(&mut self, number: usize) -> &mut Modelled {
        self.tasks.iter_mut().find(|task| task.number == number).unwrap()
    }

    fn submit(&mut self, number: usize, due: u64) {
        let task = self.task(number);
        let most = match task.settings.overrun {
            Overrun::Skip => 1,
            Overrun::Queue(waiting) => 1 + waiting as usize,
            Overrun::Parallel(runs) => runs as usize,
        };
        if task.under_way() < most {
            task.waiting.push_back((due, 1));
        } else {
            task.skipped += 1;
        }
    }

    fn end(&mut self, number: usize, place: usize, failed: bool) {
        let (now, order) = (self.now, self.failed);
        self.failed += 1;
        let task = self.task(number);
        let (due, attempt, _) = task.running.remove(place);
        task.runs += 1;
        task.failures += u64::from(failed);
        if failed && attempt < task.settings.attempts {
            let wait = task.settings.wait << (attempt - 1);
            task.retries.push((now + wait, order, due, attempt + 1));
        }
        self.tasks.retain(|task| {
            task.next.is_some() || task.under_way() > 0 || task.settings.period.is_some()
        });
    }

    /// All that has happened to a task by now, in the order of time.
    fn advance(&mut self, number: usize) {
        let now = self.now;
        while let Some(task) = self.tasks.iter_mut().find(|task| task.number == number) {
            let look = task.next.filter(|next| *next <= now);
            let retry = task.retries.iter().copied().filter(|retry| retry.0 <= now).min();
            let times = task.running.iter().map(|run| run.2.unwrap_or(u64::MAX));
            let timeout = times.enumerate().map(|(place, at)| (at, place)).min();
            let timeout = timeout.filter(|(at, _)| *at <= now);
            let first = [look, retry.map(|retry| retry.0), timeout.map(|timeout| timeout.0)];
            let Some(first) = first.into_iter().flatten().min() else { return };
            if look == Some(first) {
                let mut due = Vec::new();
                while let Some(next) = task.next.filter(|next| *next <= now) {
                    due.push(next);
                    task.next = task.settings.period.map(|period| next + period);
                }
                let made_up = due.len().min(task.settings.catch_up as usize);
                let missed = due.len() - made_up;
                task.missed += missed as u64;
                for due in &due[missed..] {
                    self.submit(number, *due);
                }
            } else if let Some(retry) = retry
                && retry.0 == first
            {
                task.retries.retain(|other| *other != retry);
                task.waiting.push_front((retry.2, retry.3));
            } else if let Some((_, place)) = timeout {
                self.end(number, place, true);
            }
        }
    }

    /// What begins next, if anything may.
    fn choose(&mut self, chosen: &mut Vec<(Priority, usize, u64, u32)>) {
        loop {
            let begun = self.tasks.iter().map(|task| task.running.len() + task.chosen);
            if self.paused || begun.sum::<usize>() >= self.runs_max {
                return;
            }
            let may = |task: &&mut Modelled| {
                let at_once = match task.settings.overrun {
                    Overrun::Parallel(runs) => runs as usize,
                    _ => 1,
                };
                let busy = task.running.len() + task.retries.len() + task.chosen;
                !task.paused && !task.waiting.is_empty() && busy < at_once
            };
            let first = self.tasks.iter_mut().filter(may);
            let first = first.min_by_key(|task| (task.settings.priority, task.waiting[0].0));
            let Some(task) = first else { return };
            let (due, attempt) = task.waiting.pop_front().unwrap();
            task.chosen += 1;
            chosen.push((task.settings.priority, task.number, due, attempt));
        }
    }

    /// Begins what may, a turn after the other, until nothing more does.
    fn settle(&mut self) {
        let mut waiting = Vec::new();
        self.choose(&mut waiting);
        let mut turn = 0; // Of `waiting`, what belongs to this turn.
        while !waiting.is_empty() {
            if turn == 0 {
                turn = waiting.len();
                waiting.sort_by_key(|chosen| chosen.0);
            }
            let (_, number, due, attempt) = waiting.remove(0);
            turn -= 1;
            let now = self.now;
            self.begins.push((number, attempt, due, now));
            let task = self.task(number);
            task.chosen -= 1;
            task.running.push((due, attempt, task.settings.timeout.map(|timeout| now + timeout)));
            let place = task.running.len() - 1;
            match fate(number, attempt, due) {
                Fate::Later => {}
                fate => self.end(number, place, fate == Fate::Fail),
            }
            self.choose(&mut waiting);
        }
    }
}

#[derive(Default)]
struct World {
    begins: Vec<Begin>,
    /// Task, and its runs that wait for an answer, in the order of their begins.
    held: Vec<(usize, Run)>,
}

struct Test {
    rng: Rng,
    clock: ManualClock,
    reactor: Reactor<World>,
    queue: SourceId<TaskQueue<World>>,
    world: World,
    model: Model,
    /// When a task was last told to run now.
    asked: Option<u64>,
}

impl Test {
    fn new(mut rng: Rng) -> Test {
        let clock = ManualClock::held();
        let mut reactor = Reactor::builder().clock(&clock).build().unwrap();
        let runs_max = 1 + rng.below(6) as usize;
        let queue = TaskQueue::new().runs_max(runs_max).open(&mut reactor).unwrap();
        let model = Model { runs_max, ..Model::default() };
        Test { rng, clock, reactor, queue, world: World::default(), model, asked: None }
    }

    fn id(&self, number: usize) -> TaskId {
        self.reactor[self.queue].find(&number.to_string()).unwrap()
    }

    fn any_task(&mut self) -> Option<usize> {
        let count = self.model.tasks.len() as u64;
        (count > 0).then(|| self.model.tasks[self.rng.below(count) as usize].number)
    }

    fn add(&mut self, number: usize) {
        let settings = random_settings(&mut self.rng, number, self.model.now);
        let ms = Duration::from_millis;
        let schedule = match settings.period {
            Some(period) => Schedule::every(ms(period)).first_after(ms(settings.first)),
            None => Schedule::after(ms(settings.first)),
        };
        let mut task = Task::new(number.to_string(), schedule)
            .priority(settings.priority)
            .overrun(settings.overrun)
            .catch_up(settings.catch_up)
            .retry(Backoff::new(settings.attempts).first(ms(settings.wait)).jitter_percent(0));
        if let Some(timeout) = settings.timeout {
            task = task.timeout(ms(timeout));
        }
        let begin = move |reactor: &mut Context<World>, world: &mut World, run: Run| {
            let (attempt, due) = (run.attempt(), run.due().tick.count());
            world.begins.push((number, attempt, due, reactor.tick().count()));
            match fate(number, attempt, due) {
                Fate::Ok => run.ok(),
                Fate::Fail => run.fail("fate"),
                Fate::Later => world.held.push((number, run)),
            }
        };
        self.queue.add(&mut self.reactor, task, begin).unwrap();
        self.model.tasks.push(Modelled {
            number,
            settings,
            next: Some(self.model.now + settings.first),
            waiting: VecDeque::new(),
            chosen: 0,
            running: Vec::new(),
            retries: Vec::new(),
            paused: false,
            skipped: 0,
            missed: 0,
            runs: 0,
            failures: 0,
        });
    }

    fn remove(&mut self, number: usize) {
        let id = self.id(number);
        assert!(self.queue.remove(&mut self.reactor, id));
        self.model.tasks.retain(|task| task.number != number);
    }

    /// Answers one of the runs that are held; one that has timed out is held, too, and is late.
    fn answer(&mut self) {
        if self.world.held.is_empty() {
            return;
        }
        let place = self.rng.below(self.world.held.len() as u64) as usize;
        let (number, run) = self.world.held.remove(place);
        let is_running = self.reactor[self.queue].is_running(run.id());
        let key = (run.due().tick.count(), run.attempt());
        let task = self.model.tasks.iter().find(|task| task.number == number);
        let place = task.and_then(|task| {
            task.running.iter().position(|(due, attempt, _)| (*due, *attempt) == key)
        });
        let failed = self.rng.below(3) == 0;
        if is_running {
            let place = place.expect("the model has it running, too");
            self.model.end(number, place, failed);
        }
        if failed { run.fail("told to") } else { run.ok() }
    }

    fn step(&mut self) {
        let task = self.any_task();
        match (self.rng.below(12), task) {
            (0, _) => {
                let number = 1 + self.rng.below(GRID - 1) as usize;
                if self.model.tasks.iter().all(|task| task.number != number) {
                    self.add(number);
                }
            }
            (1, Some(number)) if self.rng.below(4) == 0 => self.remove(number),
            (2, Some(number)) if self.asked != Some(self.model.now) => {
                let (id, now) = (self.id(number), self.model.now);
                self.asked = Some(now);
                self.queue.run_now(&mut self.reactor, id);
                self.model.submit(number, now);
            }
            (3, Some(number)) => {
                let (id, paused) = (self.id(number), self.model.task(number).paused);
                self.model.task(number).paused = !paused;
                match paused {
                    true => self.queue.resume(&mut self.reactor, id),
                    false => self.queue.pause(&mut self.reactor, id),
                };
            }
            (4, _) if self.rng.below(2) == 0 => {
                self.model.paused = !self.model.paused;
                match self.model.paused {
                    true => self.queue.pause_all(&mut self.reactor),
                    false => self.queue.resume_all(&mut self.reactor),
                };
            }
            (5..9, _) => self.answer(),
            _ => self.let_time_pass(),
        }
        self.model.settle();
        while self.reactor.turn(&mut self.world, Some(Duration::ZERO)).unwrap() > 0 {}
    }

    fn let_time_pass(&mut self) {
        let most = if self.rng.below(20) == 0 { 1000 } else { 20 };
        let ms = GRID * (1 + self.rng.below(most));
        self.clock.advance(Duration::from_millis(ms));
        self.model.now += ms;
        let numbers: Vec<_> = self.model.tasks.iter().map(|task| task.number).collect();
        for number in numbers {
            self.model.advance(number);
        }
    }

    fn compare(&mut self, when: &str) {
        assert_eq!(self.world.begins, self.model.begins, "{when}");
        let queue = &self.reactor[self.queue];
        assert_eq!(queue.len(), self.model.tasks.len());
        let mut timers = 0;
        for task in &self.model.tasks {
            let is = queue.task(self.id(task.number)).unwrap();
            assert_eq!(
                is.next.map(|next| next.tick.count()),
                task.next,
                "next of {} {when}",
                is.name
            );
            let state = (is.waiting, is.running, is.retrying);
            assert_eq!(
                state,
                (task.waiting.len(), task.running.len(), task.retries.len()),
                "{when}"
            );
            let counts = [is.counts.runs, is.counts.failures, is.counts.skipped, is.counts.missed];
            assert_eq!(counts, [task.runs, task.failures, task.skipped, task.missed], "{when}");
            timers += usize::from(task.next.is_some()) + task.retries.len();
            timers += task.running.iter().filter(|run| run.2.is_some()).count();
        }
        assert_eq!(queue.timers(), timers, "{when}");
        self.world.begins.clear();
        self.model.begins.clear();
    }
}

#[test]
fn random_tasks_run_when_the_model_says() {
    let mut seeds = Rng::new();
    let mut begins = 0;
    for round in 0..20 {
        let mut test = Test::new(Rng::from_seed(seeds.next()));
        for step in 0..STEPS {
            test.step();
            begins += test.world.begins.len();
            test.compare(&format!("in round {round}, step {step}"));
        }
        for task in test.model.tasks.iter().map(|task| task.number).collect::<Vec<_>>() {
            test.remove(task);
        }
        assert_eq!((test.reactor[test.queue].timers(), test.reactor.timers()), (0, 0));
    }
    assert!(begins > 1000, "{begins} runs are no test");
    println!("{begins} runs");
}
