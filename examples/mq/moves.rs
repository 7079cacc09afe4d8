//! How jobs move from one state to another, and to which client.
//!
//! Whatever makes a job ready serves the clients that wait for it, at once: so no client waits while
//! there is a job for it.

use super::queue::{ClientId, Due, Job, Name, Queue, State, Woken, after};

/// Jobs that one kick moves, and that move in one turn because their time is up.
pub const MOVED_MAX: usize = 1_000;
/// The last part of the time of a job: in it, its client does not wait for another one.
const MARGIN_MS: u64 = 1_000;

impl Queue {
    /// Gives the ready jobs of a tube to the clients that wait for them, in order of arrival.
    pub fn serve(&mut self, name: &str) {
        while let Some(tube) = self.tubes.get(name)
            && tube.paused_until <= self.now
            && let Some(&(_, client)) = tube.waiting.first()
            && let Some(&(_, job)) = tube.sets[State::Ready as usize].first()
        {
            self.stop_waiting(client);
            self.reserve(client, job);
            self.woken.push_back((client, Woken::Reserved(job)));
        }
    }

    /// The job that a client would get now: that of the lowest priority, of these the oldest.
    pub fn best(&mut self, client: ClientId) -> Option<u64> {
        let watched = &self.clients.get(&client)?.watches;
        let tubes = watched.iter().filter_map(|name| self.tubes.get(name));
        let open = tubes.filter(|tube| tube.paused_until <= self.now);
        let first = open.filter_map(|tube| tube.sets[State::Ready as usize].first());
        first.min().map(|(_, job)| *job)
    }

    pub fn reserve(&mut self, client: ClientId, id: u64) {
        self.lift(id);
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.reserver = client;
        job.counts.reserves += 1;
        self.place(id, State::Reserved);
    }

    /// A job that this client has reserved.
    fn reserved(&mut self, client: ClientId, id: u64) -> Option<&mut Box<Job>> {
        let is_its = |job: &&mut Box<Job>| job.state == State::Reserved && job.reserver == client;
        self.jobs.get_mut(&id).filter(is_its)
    }

    pub fn is_deadline_soon(&mut self, client: ClientId) -> bool {
        let limit = self.now + MARGIN_MS;
        self.client(client).reserved.first().is_some_and(|(due, _)| *due <= limit)
    }

    /// Lets a client wait, until its time is up or that of one of its jobs is nearly up.
    pub fn wait(&mut self, id: ClientId, timeout: Option<u64>) {
        let arrival = self.number();
        let Some(client) = self.clients.get_mut(&id) else { return };
        let margin = client.reserved.first().map(|(due, _)| due - MARGIN_MS);
        let ends = timeout.map(|seconds| after(self.now, seconds)).into_iter().chain(margin).min();
        let timer = ends.map(|at| self.timers.insert(at, Due::Client(id)));
        client.waits = Some((arrival, timer));
        for name in &client.watches {
            self.tubes.get_mut(name).map(|tube| tube.waiting.insert((arrival, id)));
        }
    }

    /// Returns true if it has waited.
    pub fn stop_waiting(&mut self, id: ClientId) -> bool {
        let Some(client) = self.clients.get_mut(&id) else { return false };
        let Some((arrival, timer)) = client.waits.take() else { return false };
        timer.map(|timer| self.timers.cancel(timer));
        for name in &client.watches {
            self.tubes.get_mut(name).map(|tube| tube.waiting.remove(&(arrival, id)));
        }
        true
    }

    /// A reserved job was not done: it is ready again, or after a delay; or buried, if it has failed
    /// too often. Returns true then.
    pub fn put_back(&mut self, id: u64, delay: u64) -> bool {
        self.lift(id);
        let Some(job) = self.jobs.get_mut(&id) else { return false };
        job.delay = delay;
        job.counts.failures += 1;
        let is_dead = job.counts.failures >= self.limits.bury_after;
        job.counts.buries += u64::from(is_dead);
        if let Some(tube) = self.tubes.get_mut(&job.tube) {
            tube.dead += u64::from(is_dead);
        }
        self.changed.push(id);
        self.place(
            id,
            match delay {
                _ if is_dead => State::Buried,
                0 => State::Ready,
                _ => State::Delayed,
            },
        );
        is_dead
    }

    /// The answer, or `None` if the client does not have that job.
    pub fn release(
        &mut self,
        client: ClientId,
        id: u64,
        pri: u64,
        delay: u64,
    ) -> Option<&'static str> {
        let job = self.reserved(client, id)?;
        job.pri = pri;
        job.counts.releases += 1;
        Some(if self.put_back(id, delay) { "BURIED\r\n" } else { "RELEASED\r\n" })
    }

    /// Returns false if the client does not have that job, as the next one does.
    pub fn bury(&mut self, client: ClientId, id: u64, pri: u64) -> bool {
        let Some(job) = self.reserved(client, id) else { return false };
        job.pri = pri;
        job.counts.buries += 1;
        self.lift(id);
        self.changed.push(id);
        self.place(id, State::Buried);
        true
    }

    /// The time of the job begins again.
    pub fn touch(&mut self, client: ClientId, id: u64) -> bool {
        let has = self.reserved(client, id).is_some();
        if has {
            self.lift(id);
            self.place(id, State::Reserved);
        }
        has
    }

    /// Makes a job ready that is delayed or buried. Returns false for any other.
    pub fn kick(&mut self, id: u64) -> bool {
        let Some(job) = self.jobs.get_mut(&id) else { return false };
        if matches!(job.state, State::Ready | State::Reserved) {
            return false;
        }
        job.counts.kicks += 1;
        job.counts.failures = 0;
        self.lift(id);
        self.changed.push(id);
        self.place(id, State::Ready);
        true
    }

    /// Kicks buried jobs of a tube; if it has none, delayed ones. Returns how many.
    pub fn kick_some(&mut self, tube: &Name, most: u64) -> usize {
        let [_, delayed, buried] = &self.of(tube).sets;
        let set = if buried.is_empty() { delayed } else { buried };
        let most = usize::try_from(most).unwrap_or(MOVED_MAX).min(MOVED_MAX);
        let ids: Vec<u64> = set.iter().take(most).map(|(_, id)| *id).collect();
        ids.into_iter().filter(|id| self.kick(*id)).count()
    }

    /// No job of the tube is reserved for a while. Returns false if there is no tube of that name.
    pub fn pause(&mut self, name: &str, delay: u64) -> bool {
        let Some((name, _)) = self.tubes.get_key_value(name) else { return false };
        let (name, until) = (name.clone(), after(self.now, delay));
        let timer = self.timers.insert(until, Due::Tube(name.clone()));
        let tube = self.of(&name);
        (tube.pause, tube.paused_until, tube.pauses) = (delay, until, tube.pauses + 1);
        tube.unpause.replace(timer).map(|timer| self.timers.cancel(timer));
        true
    }

    /// Does what is due, or a part of it. Returns the time at which more is due.
    pub fn expire(&mut self) -> Option<u64> {
        for _ in 0..MOVED_MAX {
            let Some(timer) = self.timers.expire(self.now) else { break };
            match self.timers.cancel(timer) {
                Some(Due::Job(id)) => self.job_is_due(id),
                Some(Due::Client(id)) => {
                    let is_soon = self.is_deadline_soon(id);
                    self.stop_waiting(id);
                    let why = if is_soon { Woken::DeadlineSoon } else { Woken::TimedOut };
                    self.woken.push_back((id, why));
                }
                Some(Due::Tube(name)) => {
                    let tube = self.of(&name);
                    (tube.pause, tube.unpause) = (0, None);
                    self.serve(&name);
                }
                None => {}
            }
        }
        self.timers.next_deadline()
    }

    fn job_is_due(&mut self, id: u64) {
        match self.jobs.get_mut(&id) {
            Some(job) if job.state == State::Reserved => {
                job.counts.timeouts += 1;
                self.timeouts += 1;
                self.put_back(id, 0);
            }
            _ => {
                self.lift(id);
                self.place(id, State::Ready);
            }
        }
    }
}
