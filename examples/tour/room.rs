//! The state of each scene: who is there.

use waterwheel::net::Conn;
use waterwheel::{Context, SourceId};

use crate::people::{NAMES, People};

/// The chat's members, by name.
pub struct Room {
    pub members: Vec<(&'static str, SourceId<Conn>)>,
    /// Writes the names on the page.
    people: Option<People>,
}

impl Room {
    pub fn new(people: People) -> Room {
        Room { members: Vec::new(), people: Some(people) }
    }

    /// A new member gets the first name that is free: they connect one after the other.
    pub fn join(&mut self, conn: SourceId<Conn>) {
        let is_free = |name: &&&str| self.members.iter().all(|(taken, _)| taken != *name);
        let name = NAMES.iter().find(is_free).copied().unwrap_or("guest");
        self.members.push((name, conn));
        if let Some(people) = &self.people {
            people.label(conn, name);
        }
    }

    pub fn leave(&mut self, conn: SourceId<Conn>) {
        self.members.retain(|(_, member)| *member != conn);
    }

    pub fn find(&self, name: &str) -> Option<SourceId<Conn>> {
        self.members.iter().find(|(known, _)| *known == name).map(|(_, conn)| *conn)
    }

    /// All members hear it.
    pub fn say(&mut self, reactor: &mut Context<Room>, text: &str) {
        for (_, conn) in &self.members {
            let _ = conn.write(reactor, format!("{text}\n").as_bytes());
        }
    }

    /// The members but one, as a list of its own: a callback may change the room.
    pub fn others(&self, but: SourceId<Conn>) -> Vec<SourceId<Conn>> {
        self.members.iter().map(|(_, conn)| *conn).filter(|conn| *conn != but).collect()
    }
}
