//! A crontab: text in, entries out. Knows no file, no clock and no loop.
//!
//! ```text
//!   #: name=backup overlap=skip catch-up=1 retries=3 timeout=600 idempotent    ours; a comment to cron
//!   30 2 * * mon-fri   tar -cf /backup/all.tar %first line of stdin%second
//!   CRON_TZ=Europe/Vienna                                            for the lines below, as SHELL is
//! ```
//!
//! Fields become lists of numbers, so that cron's rules hold here: a day has to match both day fields
//! if one of them begins with `*`, else either.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Entries of a crontab at most.
pub const ENTRIES_MAX: usize = 100_000;
/// Variables at most, since each entry knows those above it.
pub const VARIABLES_MAX: usize = 200;
/// Bytes of a name at most: it is in each of its records.
const NAME_BYTES_MAX: usize = 64;

/// The name of a field, its first and last number, and its words.
type Field = (&'static str, u32, u32, &'static str);
const FIELDS: [Field; 5] = [
    ("minute", 0, 59, ""),
    ("hour", 0, 23, ""),
    ("day of the month", 1, 31, ""),
    ("month", 1, 12, "janfebmaraprmayjunjulaugsepoctnovdec"),
    ("day of the week", 0, 7, "sunmontuewedthufrisat"),
];
const DAYS_OF_MONTHS: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub line: usize,
    /// The fields as they were typed.
    pub typed: String,
    pub when: When,
    pub command: String,
    pub stdin: Option<String>,
    pub variables: Arc<BTreeMap<String, String>>,
    pub options: Options,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    Reboot,
    /// A line for the library.
    Line(String),
    /// No day is like that.
    Never,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overlap {
    #[default]
    Skip,
    Queue,
    Allow,
}

/// What the comment before an entry says; cron's way, if it says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub name: Option<String>,
    pub overlap: Overlap,
    pub catch_up: u32,
    pub retries: u32,
    pub timeout_s: Option<u64>,
    pub idempotent: bool,
}

impl Entry {
    pub fn zone(&self) -> Option<&str> {
        self.variables.get("CRON_TZ").map(String::as_str)
    }
}

/// Reads a crontab; with users, as /etc/crontab has them. Also returns remarks; an error and a remark
/// begin with the number of a line.
pub fn parse(text: &[u8], has_users: bool) -> Result<(Vec<Entry>, Vec<String>), Vec<String>> {
    let (mut entries, mut notes, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    let (mut variables, mut options) = (Arc::new(BTreeMap::new()), Options::default());
    let (mut names, mut counts) = (BTreeSet::new(), BTreeMap::new());
    for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
        let Ok(line) = str::from_utf8(line) else {
            errors.push(format!("{number}: it is not UTF-8"));
            continue;
        };
        let line = line.trim_start();
        let result = if let Some(words) = line.strip_prefix("#:") {
            Options::parse(words).map(|given| options = given)
        } else if line.starts_with('#') || line.trim_end().is_empty() {
            Ok(())
        } else if let Some((name, value)) = variable(line) {
            if name == "MAILTO" || name == "MAILFROM" {
                notes.push(format!("{number}: {name} is ignored: the output is on the page"));
            }
            Arc::make_mut(&mut variables).insert(name.to_owned(), value.to_owned());
            let has_room = variables.len() <= VARIABLES_MAX;
            has_room.then_some(()).ok_or(format!("more than {VARIABLES_MAX} variables"))
        } else {
            let (options, names) = (std::mem::take(&mut options), (&mut names, &mut counts));
            entry(line, has_users, options, names).map(|(mut entry, user)| {
                if has_users {
                    notes.push(format!("{number}: its user {user} is ignored"));
                }
                (entry.line, entry.variables) = (number, variables.clone());
                if entry.when == When::Never {
                    notes.push(format!("{number}: no day is like {:?}: never runs", entry.typed));
                }
                entries.push(entry);
            })
        };
        errors.extend(result.err().map(|error| format!("{number}: {error}")));
        if entries.len() > ENTRIES_MAX {
            errors.push(format!("{number}: more than {ENTRIES_MAX} entries"));
            break;
        }
    }
    if errors.is_empty() { Ok((entries, notes)) } else { Err(errors) }
}

/// `NAME=value`, either in quotes or not.
fn variable(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once('=')?;
    let (name, value) = (unquoted(name.trim()), unquoted(value.trim()));
    let is_name = !name.is_empty() && !name.contains(char::is_whitespace);
    (is_name && !line.contains('\0')).then_some((name, value))
}

fn unquoted(text: &str) -> &str {
    let inside = |mark| text.strip_prefix(mark)?.strip_suffix(mark);
    inside('"').or_else(|| inside('\'')).unwrap_or(text)
}

impl Options {
    fn parse(words: &str) -> Result<Options, String> {
        let mut options = Options::default();
        for word in words.split_whitespace() {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            let number = || value.parse().map_err(|_| format!("{word:?}: not a whole number"));
            match (key, value) {
                ("overlap", "skip") => options.overlap = Overlap::Skip,
                ("overlap", "queue") => options.overlap = Overlap::Queue,
                ("overlap", "allow") => options.overlap = Overlap::Allow,
                ("catch-up", _) => options.catch_up = number()?,
                ("retries", _) => options.retries = number()?,
                ("timeout", _) => options.timeout_s = Some(u64::from(number()?.max(1))),
                ("idempotent", "") if word == key => options.idempotent = true,
                ("name", _) if value.is_empty() || slug(value) != value => {
                    return Err(format!(
                        "{word:?}: a name has {NAME_BYTES_MAX} of a-z A-Z 0-9 . _ -"
                    ));
                }
                ("name", _) => options.name = Some(value.to_owned()),
                _ => return Err(format!("{word:?} is no option; a comment begins with '# '")),
            }
        }
        Ok(options)
    }
}

type Names<'a> = (&'a mut BTreeSet<String>, &'a mut BTreeMap<String, u32>);

/// An entry, and its user.
fn entry<'a>(
    line: &'a str,
    has_user: bool,
    options: Options,
    (names, counts): Names<'_>,
) -> Result<(Entry, &'a str), String> {
    let (typed, rest) = split_words(line, if line.starts_with('@') { 1 } else { 5 });
    let when = when(typed)?;
    let (user, rest) = split_words(rest, usize::from(has_user));
    let (command, stdin) = percent(rest.trim_start());
    if command.is_empty() || line.contains('\0') {
        return Err("there is no command".to_owned());
    }
    let mut name = options.name.clone().unwrap_or_else(|| {
        let word = command.split_whitespace().next().unwrap_or_default();
        slug(word.rsplit('/').next().unwrap_or_default())
    });
    if options.name.is_none() {
        if name.is_empty() {
            name.push_str("task"); // As of `[ -x /a ] && /a`.
        }
        let base = name.clone();
        let count = counts.entry(base.clone()).or_insert(0);
        while *count == 0 || names.contains(&name) {
            *count += 1;
            name = if *count == 1 { base.clone() } else { format!("{base}-{count}") };
        }
    }
    if !names.insert(name.clone()) {
        return Err(format!("there is another {name:?}"));
    }
    let typed = typed.split_whitespace().collect::<Vec<_>>().join(" ");
    let variables = Arc::default();
    let entry = Entry { name, line: 0, typed, when, command, stdin, variables, options };
    Ok((entry, user.trim()))
}

/// The characters of a word that a name may have.
fn slug(word: &str) -> String {
    let chars = word.chars().filter(|char| char.is_ascii_alphanumeric() || "._-".contains(*char));
    chars.take(NAME_BYTES_MAX).collect()
}

/// Splits so many words off, with what is between them.
fn split_words(line: &str, count: usize) -> (&str, &str) {
    let mut rest = line;
    for _ in 0..count {
        rest = rest.trim_start();
        rest = rest.find(char::is_whitespace).map_or("", |end| &rest[end..]);
    }
    line.split_at(line.len() - rest.len())
}

/// The command is up to the first `%`, its stdin is behind it, with a line's end for each further
/// one; `\%` is a `%`.
fn percent(text: &str) -> (String, Option<String>) {
    let mut parts = vec![String::new()];
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        let part = parts.last_mut().expect("there is one at the beginning");
        match char {
            '\\' if chars.next_if_eq(&'%').is_some() => part.push('%'),
            '\\' => part.extend(['\\'].into_iter().chain(chars.next())),
            '%' => parts.push(String::new()),
            other => part.push(other),
        }
    }
    let stdin = parts.split_off(1);
    let stdin = (!stdin.is_empty()).then(|| stdin.join("\n"));
    let is_whole = |text: &String| text.is_empty() || text.ends_with('\n');
    let stdin = stdin.map(|text| if is_whole(&text) { text } else { text + "\n" });
    (parts.remove(0).trim_end().to_owned(), stdin)
}

fn when(typed: &str) -> Result<When, String> {
    let typed = typed.trim();
    if typed.eq_ignore_ascii_case("@reboot") {
        return Ok(When::Reboot);
    }
    if typed.starts_with('@') {
        return Ok(When::Line(typed.to_owned())); // The library knows those names.
    }
    let fields: Vec<&str> = typed.split_whitespace().collect();
    if fields.len() < FIELDS.len() {
        return Err(format!("it has {} fields of 5, and no command", fields.len()));
    }
    let mut sets = [0; 5];
    for ((set, text), field) in sets.iter_mut().zip(&fields).zip(&FIELDS) {
        *set = numbers(text, field).map_err(|why| format!("{} {text:?}: {why}", field.0))?;
    }
    let mut lists: Vec<String> = (0..5).map(|at| list(sets[at], fields[at], &FIELDS[at])).collect();
    let [any_day, any_weekday] = [2, 4].map(|at: usize| fields[at].starts_with('*'));
    if (any_day || any_weekday) && lists[2] != "*" && lists[4] != "*" {
        lists[4].insert(0, '+'); // Both have to match.
    }
    let first_day = sets[2].trailing_zeros();
    let is_in = |month: u32| sets[3] >> month & 1 == 1;
    let comes = (1..=12).zip(DAYS_OF_MONTHS).any(|(month, days)| is_in(month) && first_day <= days);
    let is_never = any_weekday && !comes;
    Ok(if is_never { When::Never } else { When::Line(lists.join(" ")) })
}

/// The numbers of a field, as bits.
fn numbers(text: &str, field: &Field) -> Result<u64, String> {
    let &(_, first, last, words) = field;
    let number = |text: &str| {
        let word =
            words.find(&text.to_ascii_lowercase()).filter(|at| text.len() == 3 && at % 3 == 0);
        let named = word.map(|at| at as u32 / 3 + first);
        let number = named.or_else(|| {
            let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|number| is_number && (first..=last).contains(number))
        });
        number.ok_or_else(|| format!("{text:?} is not in {first}-{last}"))
    };
    let mut set = 0;
    for part in text.split(',') {
        let (range, step) = part.split_once('/').map_or((part, None), |(a, b)| (a, Some(b)));
        let (low, high) = match range.split_once('-') {
            _ if range == "*" => (first, last),
            Some((low, high)) => (number(low)?, number(high)?),
            None if step.is_some() => return Err("a step wants '*' or a range".to_owned()),
            None => (number(range)?, number(range)?),
        };
        if low > high {
            return Err(format!("{range:?} ends before it begins"));
        }
        let step = step.map_or(Ok(1), |step| match step.parse::<u32>() {
            Ok(step @ 1..) => Ok(step as usize),
            _ => Err(format!("{step:?} is no step")),
        })?;
        (low..=high).step_by(step).for_each(|number| set |= 1 << number);
    }
    if last == 7 && set >> 7 == 1 {
        set = set & 0x7f | 1; // Both are Sunday.
    }
    Ok(set)
}

/// The field as the library knows it. One number says that the time is fixed, and so must not stand
/// for `*/60`.
fn list(set: u64, typed: &str, &(_, first, last, _): &Field) -> String {
    let last = if last == 7 { 6 } else { last };
    let numbers: Vec<String> =
        (first..=last).filter(|at| set >> at & 1 == 1).map(|at| at.to_string()).collect();
    match typed {
        _ if typed == "*" => "*".to_owned(),
        _ if typed.starts_with('*') && numbers.len() == 1 && first == 0 && last > 6 => {
            format!("{first}-{}/2", first + 1)
        }
        _ => numbers.join(","),
    }
}
