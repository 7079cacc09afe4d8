//! The tour as a child, so that its page stands beside the text.
//!
//! Knows the line in which it prints its address.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;
use waterwheel::net::{Framed, Lines, framed};
use waterwheel::process::{Child, Signal, Spawn};
use waterwheel::{Context, SourceId};

use crate::book;
use crate::desk::{Desk, Told};

/// The most bytes of a line of it.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// How long its output is awaited when it has ended.
const LINGER: Duration = Duration::from_millis(100);

/// The tour that runs, if one does.
#[derive(Debug, Default)]
pub struct Tour {
    /// The address of its page.
    pub url: Option<String>,
    child: Option<SourceId<Child>>,
}

/// Starts the tour with a scene; the page that frames it is at `origin`. One that runs is ended.
pub fn start(reactor: &mut Context<Desk>, desk: &mut Desk, scene: u32, origin: &str) {
    stop(reactor, desk);
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["run", "--quiet", "--example", "tour", "--", "--framed-by", origin]);
    command.arg(scene.to_string()).current_dir(book::top()).stdin(Stdio::null());
    let spawn = Spawn::new(command).stdout().stderr().group_ends_with_it().kill_on_drop();
    let spawned = spawn.linger(LINGER).open(reactor, |reactor, desk: &mut Desk, id, exit| {
        if desk.tour.child == Some(id) {
            desk.tour = Tour::default();
            desk.tell(reactor, Told::Line(&format!("the tour has ended: {exit}")));
            let state = desk.state();
            desk.show(reactor, "state", &state);
        }
    });
    let spawned = match spawned {
        Ok(spawned) => spawned,
        Err(error) => return desk.tell(reactor, Told::Line(&error.to_string())),
    };
    desk.tour = Tour { url: None, child: Some(spawned.id) };
    desk.tell(reactor, Told::Line("The tour is being built; the first time that takes a minute."));
    for pipe in [spawned.stdout, spawned.stderr].into_iter().flatten() {
        pipe.open(reactor, framed(Lines::new(LINE_BYTES_MAX), line));
    }
}

fn line(
    reactor: &mut Context<Desk>,
    desk: &mut Desk,
    id: SourceId<waterwheel::net::Conn>,
    frame: Framed<'_>,
) {
    match frame {
        Framed::Frame(bytes) => {
            let text = String::from_utf8_lossy(bytes);
            match text.strip_prefix("see the loop turn: ") {
                Some(url) => {
                    desk.tour.url = Some(url.to_owned());
                    let url = json!(url);
                    desk.show(reactor, "tour", &url);
                }
                None => desk.tell(reactor, Told::Line(&text)),
            }
        }
        Framed::Error(_) => {
            id.close(reactor);
        }
        _ => {}
    }
}

pub fn stop(reactor: &mut Context<Desk>, desk: &mut Desk) {
    if let Some(child) = std::mem::take(&mut desk.tour).child {
        let _ = child.kill(reactor, Signal::KILL); // Else it has ended.
    }
}
