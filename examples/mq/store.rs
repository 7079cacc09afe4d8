//! Jobs as records of the journal: a line of text, and behind a new job's its body.
//!
//! ```text
//!   job 7 0 0 60 … emails⏎hello      it is here, whatever was before
//!   set 7 1024 30 60 …               its fields are these now
//!   gone 7
//!   next 8                           the number of the next job
//! ```
//!
//! A job that is reserved is stored as ready: who had it is no client any more after a restart.

use super::queue::{Counts, Job, Queue, State};

const STATES: [State; 3] = [State::Ready, State::Delayed, State::Buried];

pub fn job(job: &Job) -> Vec<u8> {
    [format!("job{} {}\n", fields(job), job.tube).as_bytes(), &job.body].concat()
}

pub fn set(job: &Job) -> Vec<u8> {
    format!("set{}", fields(job)).into()
}

pub fn gone(job: &Job) -> Vec<u8> {
    format!("gone {}", job.id).into()
}

pub fn next(id: u64) -> Vec<u8> {
    format!("next {id}").into()
}

fn fields(job: &Job) -> String {
    let Job { id, pri, delay, ttr, created, counts, .. } = job;
    let Counts { reserves, timeouts, releases, buries, kicks, failures } = counts;
    let (state, key) = match job.state {
        State::Reserved => (0, job.pri),
        state => (state as usize, job.key),
    };
    format!(
        " {id} {pri} {delay} {ttr} {created} {state} {key} \
         {reserves} {timeouts} {releases} {buries} {kicks} {failures}"
    )
}

/// Does what a record says, at the start.
pub fn replay(queue: &mut Queue, record: &[u8]) -> Result<(), String> {
    apply(queue, record).ok_or_else(|| "it has a record that this program does not know".to_owned())
}

fn apply(queue: &mut Queue, record: &[u8]) -> Option<()> {
    let end = record.iter().position(|byte| *byte == b'\n').unwrap_or(record.len());
    let (line, body) = record.split_at(end);
    let mut words = str::from_utf8(line).ok()?.split(' ');
    let word = words.next()?;
    let numbers: Vec<u64> = words.clone().map_while(|word| word.parse().ok()).collect();
    let id = *numbers.first()?;
    queue.next_job = queue.next_job.max(id + u64::from(word != "next"));
    match word {
        "job" => {
            let (tube, body) = (queue.tube(words.nth(13)?)?, body.get(1..)?.into());
            let mut job = Box::new(Job { tube, body, ..Job::default() });
            set_fields(&mut job, &numbers)?;
            take_out(queue, id);
            queue.charge(&job);
            queue.insert(job);
        }
        "set" => {
            if let Some(mut job) = queue.remove(id) {
                set_fields(&mut job, &numbers)?;
                queue.insert(job);
            }
        }
        "gone" => take_out(queue, id),
        "next" => {}
        _ => return None,
    }
    Some(())
}

fn take_out(queue: &mut Queue, id: u64) {
    if let Some(job) = queue.remove(id) {
        queue.discharge(&job);
    }
}

fn set_fields(job: &mut Job, numbers: &[u64]) -> Option<()> {
    let [id, pri, delay, ttr, created, state, key, counts @ ..] = *numbers.first_chunk::<13>()?;
    let [reserves, timeouts, releases, buries, kicks, failures] = counts;
    job.counts = Counts { reserves, timeouts, releases, buries, kicks, failures };
    (job.id, job.pri, job.delay, job.ttr) = (id, pri, delay, ttr);
    (job.created, job.state, job.key) = (created, *STATES.get(state as usize)?, key);
    Some(())
}
