//! Steer: what the page's buttons do, for the program itself.
//!
//! A program that plays something to its readers stops the loop, prepares, and lets it go on.

use std::sync::Arc;

use super::Inspect;
use super::control::{Mode, Session};

impl Inspect {
    /// Stops the loop before its next callback. A loop that sleeps has none, and goes on sleeping.
    pub fn stop(&self) {
        self.set_mode(Mode::Stopped);
    }

    /// Lets the loop run.
    pub fn run(&self) {
        self.set_mode(Mode::Running);
    }

    /// Lets a loop that stands run the rest of its turn; it then stops before the next callback.
    pub fn step_turn(&self) {
        self.set_mode(Mode::StepTurn(0));
    }

    /// Sets the pace of the loop's clock, in thousandths of the real one: 1000 at most.
    pub fn set_pace(&self, per_mille: u32) {
        if let Some(session) = self.session() {
            session.set_pace(per_mille);
        }
    }

    fn set_mode(&self, mode: Mode) {
        if let Some(session) = self.session() {
            session.set_mode(mode);
        }
    }

    /// Returns true if the loop stands before a callback.
    pub fn is_standing(&self) -> bool {
        self.session().is_some_and(|session| session.standing().standing)
    }

    /// Returns true if the loop waits for something to happen. Only known while there is a page.
    pub fn is_asleep(&self) -> bool {
        self.session().is_some_and(|session| session.is_asleep())
    }

    /// The number of the latest record; 0 while there is no page.
    pub fn latest(&self) -> u64 {
        self.session().map_or(0, |session| session.ring.head())
    }

    fn session(&self) -> Option<Arc<Session>> {
        self.shared.now().session.clone()
    }
}
