//! The statistics: YAML, with the keys that clients know, and a few more.

use super::protocol::{COMMANDS, JOB_BYTES_MAX};
use super::queue::{Job, Queue, State, Tube};

impl Queue {
    pub fn stats(&self) -> String {
        let sum = |of: fn(&Tube) -> u64| self.tubes.values().map(of).sum::<u64>();
        let count =
            |of: fn(&&super::queue::Client) -> bool| self.clients.values().filter(of).count();
        let counts = COMMANDS.iter().zip(self.counts);
        let counts = counts.map(|((word, _), count)| format!("cmd-{word}: {count}\n"));
        format!(
            "---\ncurrent-jobs-urgent: {}\ncurrent-jobs-ready: {}\ncurrent-jobs-reserved: {}\n\
             current-jobs-delayed: {}\ncurrent-jobs-buried: {}\n{}job-timeouts: {}\n\
             total-jobs: {}\ndead-letters: {}\nmax-job-size: {JOB_BYTES_MAX}\ncurrent-bytes: {}\n\
             current-tubes: {}\ncurrent-connections: {}\ncurrent-producers: {}\n\
             current-workers: {}\ncurrent-waiting: {}\ntotal-connections: {}\npid: {}\n\
             version: {:?}\nuptime: {}\ndraining: {}\n",
            sum(|tube| tube.urgent),
            sum(|tube| tube.sets[State::Ready as usize].len() as u64),
            sum(|tube| tube.reserved),
            sum(|tube| tube.sets[State::Delayed as usize].len() as u64),
            sum(|tube| tube.sets[State::Buried as usize].len() as u64),
            counts.collect::<String>(),
            self.timeouts,
            self.total,
            sum(|tube| tube.dead),
            self.bytes,
            self.tubes.len(),
            self.clients.len(),
            count(|client| client.has_put),
            count(|client| client.has_asked),
            count(|client| client.waits.is_some()),
            self.connections,
            std::process::id(),
            "waterwheel mq",
            (self.now - self.began) / 1000,
            self.is_draining,
        )
    }

    pub fn job_stats(&self, job: &Job) -> String {
        let Job { id, tube, pri, delay, ttr, counts, .. } = job;
        let is_timed = matches!(job.state, State::Reserved | State::Delayed);
        let left = if is_timed { job.key.saturating_sub(self.now) / 1000 } else { 0 };
        let age = self.now.saturating_sub(job.created) / 1000;
        let state = format!("{:?}", job.state).to_lowercase();
        format!(
            "---\nid: {id}\ntube: {tube}\nstate: {state}\npri: {pri}\nage: {age}\n\
             delay: {delay}\nttr: {ttr}\ntime-left: {left}\nfile: 0\nreserves: {}\ntimeouts: {}\n\
             releases: {}\nburies: {}\nkicks: {}\nfailures: {}\n",
            counts.reserves,
            counts.timeouts,
            counts.releases,
            counts.buries,
            counts.kicks,
            counts.failures,
        )
    }

    pub fn tube_stats(&self, name: &str, tube: &Tube) -> String {
        let [ready, delayed, buried] = tube.sets.each_ref().map(|set| set.len());
        let Tube { bytes, using, watching, urgent, reserved, total, deleted, .. } = tube;
        let Tube { dead, pauses, pause, paused_until, .. } = tube;
        let (waiting, left) = (tube.waiting.len(), paused_until.saturating_sub(self.now) / 1000);
        format!(
            "---\nname: {name}\ncurrent-jobs-urgent: {urgent}\ncurrent-jobs-ready: {ready}\n\
             current-jobs-reserved: {reserved}\ncurrent-jobs-delayed: {delayed}\n\
             current-jobs-buried: {buried}\ntotal-jobs: {total}\ndead-letters: {dead}\n\
             current-bytes: {bytes}\ncurrent-using: {using}\ncurrent-watching: {watching}\n\
             current-waiting: {waiting}\ncmd-delete: {deleted}\ncmd-pause-tube: {pauses}\n\
             pause: {pause}\npause-time-left: {left}\n",
        )
    }
}
