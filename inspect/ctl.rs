//! The commands of a page as they come: each is read, and done, or refused in one sentence.
//!
//! Knows the words of a command; reaches the loop only through its [`Session`]. What is to be done on
//! the loop's own thread waits for it there, in `commands.rs`.
//!
//! # Read next
//! `control.rs`: how the loop stands, and goes on.

use std::sync::PoisonError;
use std::time::Duration;

use serde_json::Value;

use super::commands::{Command, fault};
use super::control::{Mode, Session};
use super::{Answer, Shared};

/// The longest delay of a timer that a page can ask for, in ms.
const DELAY_MS_MAX: u64 = 3_600_000;

/// Does what a page asks for.
pub fn carry_out(shared: &Shared, session: Option<&Session>, command: &Value) -> Answer {
    if !shared.setup.control {
        return Err("This page may only look: the program has not allowed control.".to_owned());
    }
    let name = command["do"].as_str().ok_or("A command has a name, in \"do\".")?;
    let customs = &shared.setup.commands;
    let mut customs = customs.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, custom)) = customs.iter_mut().find(|(known, _)| known == name) {
        return custom(command);
    }
    drop(customs);
    let session = session.ok_or("There is no loop yet.")?;
    if session.standing().ended.is_some() {
        return Err("The loop has ended.".to_owned());
    }
    let number = |name: &str, most: u64| {
        let number = command[name].as_u64().filter(|number| *number <= most);
        number.ok_or_else(|| format!("\"{name}\" is a whole number, at most {most}."))
    };
    match name {
        "run" => session.set_mode(Mode::Running),
        "stop" => session.set_mode(Mode::Stopped),
        "step" => match command["what"].as_str() {
            Some("event") => session.set_mode(Mode::StepEvent),
            Some("turn") => session.set_mode(Mode::StepTurn(0)),
            _ => return Err("\"what\" is \"event\" or \"turn\".".to_owned()),
        },
        "pace" => session.set_pace(number("per_mille", 1000)? as u32),
        "timer" => {
            let delay = Duration::from_millis(number("ms", DELAY_MS_MAX)?);
            session.command(Command::Timer(delay))?;
        }
        "break" => {
            let file = command["file"].as_str().ok_or("\"file\" is the name of a file.")?;
            let line = number("line", u32::MAX.into())? as u32;
            session.set_break(file, line, command["on"].as_bool().unwrap_or(true))?;
        }
        "fault" => session.command(fault(command, number)?)?,
        _ => return Err(format!("There is no command {name:?}.")),
    }
    Ok(())
}
