//! Tour: a small chat, and a page on which you see its loop turn, stop it and step through it.
//!
//! Run:  cargo run --example tour
//! Then: open the address that it prints in a browser.
//! See:  Ann, Bob and Cleo, their lines as events in the queue, and the one callback that runs.
//! Look: `scenes/`. Each scene is a program of 15 to 40 lines; the page shows its code, asks what it
//!       does next, and names the rule and the two records that decide it.
//! Next: a page for your own program: `waterwheel::inspect`, two lines.

use std::io;
use std::process::ExitCode;
use std::sync::mpsc;

use people::People;
use room::{Knobs, Room};
use serde_json::{Value, json};
use waterwheel::Reactor;
use waterwheel::inspect::{Answer, Inspect};

mod people;
mod proof;
mod room;
mod scene;
mod world;

const USAGE: &str = "\
Usage: tour [OPTIONS] [SCENE]

Serves a page that shows an event loop as it turns, and prints its address. SCENE is the
number of the scene to begin with, 1 unless given. The page is for this machine only.

Options:
  --port PORT         listen on this port (default: one that is free)
  --framed-by ORIGIN  let the page at ORIGIN (http://127.0.0.1:7100) show it in a frame
  -h, --help          show this";

struct Args {
    scene: usize,
    port: u16,
    framed_by: Option<String>,
}

fn main() -> ExitCode {
    let args = match parse(std::env::args().skip(1)) {
        Ok(Some(args)) => args,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            eprintln!("error: {why}; try --help");
            return ExitCode::from(2);
        }
    };
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// `None` if help was asked for.
fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Args>, String> {
    let mut parsed = Args { scene: 0, port: 0, framed_by: None };
    while let Some(arg) = args.next() {
        match &*arg {
            "-h" | "--help" => return Ok(None),
            "--port" => {
                let port = args.next().ok_or("--port needs a number")?;
                parsed.port = port.parse().map_err(|_| format!("{port:?} is no port"))?;
            }
            "--framed-by" => {
                parsed.framed_by = Some(args.next().ok_or("--framed-by needs an origin")?);
            }
            option if option.starts_with("--") => return Err(format!("no option {option:?}")),
            scene if parsed.scene == 0 => {
                let last = scene::ALL.len();
                let number = scene.parse().ok().filter(|number| (1..=last).contains(number));
                let why = || format!("there is no scene {scene:?}, only 1 to {last}");
                parsed.scene = number.ok_or_else(why)?;
            }
            _ => return Err(format!("one scene to begin with, and not also {arg:?}")),
        }
    }
    parsed.scene = parsed.scene.max(1);
    Ok(Some(parsed))
}

/// Shows one scene after the other, each a loop of its own, until nobody chooses another.
fn run(args: &Args) -> io::Result<()> {
    let (choose, chosen) = mpsc::channel();
    let people = People::start()?;
    let of_scenes = people.clone();
    let mut setup = Inspect::setup()
        .control()
        .hello("world", json!(true))
        .hello("scenes", scene::all_as_json())
        .command("peer", with(&people, People::peer))
        .command("play", with(&people, People::play))
        .command("knob", with(&people, People::knob))
        .command("act", with(&people, People::act))
        .command("scene", move |command| {
            let number = people::scene_number(command)?;
            let _ = choose.send(number); // The program is ending if nobody receives it.
            of_scenes.end_scene();
            Ok(())
        });
    for scene in scene::ALL {
        setup = setup.file(scene.code.file, scene.code.text);
    }
    if let Some(origin) = &args.framed_by {
        setup = setup.framed_by(origin);
    }
    let inspect = setup.open(&format!("127.0.0.1:{}", args.port))?;
    println!("Ctrl-C ends it.");
    people.show_on(inspect);
    let mut number = args.scene;
    loop {
        play(&people, number)?;
        number = chosen.recv().unwrap_or(number);
        while let Ok(later) = chosen.try_recv() {
            number = later;
        }
    }
}

/// A command that the people carry out.
fn with(
    people: &People,
    command: fn(&People, &Value) -> Answer,
) -> impl FnMut(&Value) -> Answer + Send + use<> {
    let people = people.clone();
    move |value| command(&people, value)
}

/// Runs a scene until its loop ends by itself, or another one is chosen.
fn play(people: &People, number: usize) -> io::Result<()> {
    let scene = &scene::ALL[number - 1];
    people.announce(number);
    let mut reactor = people.watch(Reactor::builder())?;
    let knobs = Knobs::new(scene.knobs);
    let mut room = Room::new(knobs.clone(), Some(people.clone()));
    let address = (scene.code.build)(&mut reactor, &mut room)?;
    people.begin_scene(number, address, reactor.remote_unheld(), knobs);
    reactor.run(&mut room)
}
