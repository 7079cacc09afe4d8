//! The messages of fetch on stderr: a bar that is drawn over itself, or plain lines.

use std::io::{IsTerminal, Write, stderr};
use std::time::Instant;

/// Columns of the bar itself.
const WIDTH: u64 = 30;

pub struct Progress {
    /// Draw the bar.
    bar: bool,
    quiet: bool,
    begun: Instant,
    /// Columns of the text that is in the line now; 0 if the line is empty.
    drawn: usize,
}

impl Progress {
    pub fn new(wanted: bool, quiet: bool) -> Progress {
        let bar = (wanted || stderr().is_terminal()) && !quiet;
        Progress { bar, quiet, begun: Instant::now(), drawn: 0 }
    }

    /// Draws the bar: the bytes so far, and the total if that is known; the URLs that have ended,
    /// and the number of all.
    pub fn show(&mut self, got: u64, total: Option<u64>, (ended, all): (usize, usize)) {
        if self.bar {
            let text = line(got, total, self.begun.elapsed().as_secs_f64());
            self.draw(&format!("{text}  {ended}/{all}"));
        }
    }

    /// Prints a line and the time since the start, unless there is a bar that shows the same.
    pub fn note(&mut self, text: &str) {
        if !self.bar && !self.quiet {
            say(&format!("{text} in {} ms", self.begun.elapsed().as_millis()));
        }
    }

    /// An error's line, even if it is to be quiet.
    pub fn error(&mut self, text: &str) {
        self.draw("");
        say(&format!("error: {text}"));
    }

    /// Ends the bar's line, so that the next text does not overwrite it.
    pub fn finish(&mut self) {
        if self.drawn > 0 {
            say("");
        }
    }

    fn draw(&mut self, text: &str) {
        if self.drawn > 0 || !text.is_empty() {
            let (width, end) = (self.drawn, if text.is_empty() { "\r" } else { "" });
            let _ = write!(stderr(), "\r{text:width$}{end}"); // It may fail: nothing is lost.
            self.drawn = text.len();
        }
    }
}

fn say(text: &str) {
    let _ = writeln!(stderr(), "{text}");
}

/// The bar as text.
pub fn line(got: u64, total: Option<u64>, seconds: f64) -> String {
    let rate = bytes((got as f64 / seconds.max(0.001)) as u64);
    match total.filter(|total| *total > 0) {
        Some(total) => {
            let part = u128::from(got.min(total)) * u128::from(WIDTH) / u128::from(total);
            let (done, left) =
                ("#".repeat(part as usize), ".".repeat(WIDTH as usize - part as usize));
            let percent = u128::from(got.min(total)) * 100 / u128::from(total);
            format!("[{done}{left}] {percent:3}% of {}, {rate}/s", bytes(total))
        }
        None => format!("{} so far, {rate}/s", bytes(got)),
    }
}

/// A number of bytes for people.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let (mut shown, mut unit) = (count as f64 / 1024.0, 0);
    while shown >= 1024.0 {
        shown /= 1024.0;
        unit += 1;
    }
    format!("{shown:.1} {}", UNITS[unit])
}
