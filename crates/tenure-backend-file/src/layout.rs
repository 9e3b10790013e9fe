//! The names of directories and files: everything this backend touches fits one of them.

use std::fmt;

use tenure_core::{LockName, MemberId};

/// What `FORMAT` holds.
pub(crate) const FORMAT: &[u8] = b"tenure-file/2 baton\n";
/// The file that says how a lock directory is laid out.
pub(crate) const FORMAT_FILE: &str = "FORMAT";
/// What changes whenever a lock's directory is removed.
pub(crate) const BURIALS: &str = "burials";
/// The directory with one file per process.
pub(crate) const PROCS: &str = "procs";
/// The highest generation; above it a directory is corrupt. Fences end there, too.
pub(crate) const MAX_GENERATION: u64 = i64::MAX as u64 - 1;

const READABLE: usize = 40;
const SUFFIX: &str = ".lock";

/// The name of a lock's directory: something to read, and the hash that tells locks apart.
///
/// Lower case only, so that file systems without case keep locks apart, too.
pub(crate) fn directory(name: &LockName) -> String {
    let mut directory = readable(name.as_str());
    directory.push('-');
    push_digits(&mut directory, &name.sha256()[..16]);
    directory.push_str(SUFFIX);
    directory
}

fn push_digits(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

/// Whether this is the directory of a lock, and of one whose name can begin with `prefix`.
pub(crate) fn is_directory(entry: &str, prefix: &str) -> bool {
    let Some(stem) = entry.strip_suffix(SUFFIX) else {
        return false;
    };
    let Some((_, hash)) = stem.rsplit_once('-') else {
        return false;
    };
    hash.len() == 32 && hash.bytes().all(is_digit) && stem.starts_with(&readable(prefix))
}

/// The beginning of a name in characters that every file system takes. One character becomes one,
/// so that the beginning of a name becomes the beginning of its readable form.
fn readable(name: &str) -> String {
    let mut text: String = name
        .chars()
        .take(READABLE)
        .map(|c| match c.to_ascii_lowercase() {
            c @ ('a'..='z' | '0'..='9' | '.' | '_' | '-') => c,
            _ => '_',
        })
        .collect();
    if text.starts_with(['.', '-']) {
        text.replace_range(..1, "_");
    }
    text
}

fn is_digit(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// One step of the baton: a generation, and the attempt that made it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Step {
    pub(crate) generation: u64,
    pub(crate) attempt: u64,
}

impl Step {
    /// A step of a new attempt.
    pub(crate) fn new(generation: u64) -> Self {
        Self { generation, attempt: rand::random() }
    }

    /// The file that says that this step is the current one.
    pub(crate) fn current(self) -> String {
        format!("cur-{:020}-{:016x}", self.generation, self.attempt)
    }

    /// The file that says that the lock was forgotten at this step.
    pub(crate) fn dead(self) -> String {
        format!("dead-{:020}-{:016x}", self.generation, self.attempt)
    }

    /// The file with the record of this step. It is named after the generation before: once that
    /// is gone, nobody can make this step any more, so that whoever sees a higher generation may
    /// delete it.
    pub(crate) fn record(self) -> String {
        let before = self.generation.saturating_sub(1);
        format!("rec-{before:020}-{:016x}", self.attempt)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:016x}", self.generation, self.attempt)
    }
}

/// The file with a member's sign of life.
pub(crate) fn sign(member: MemberId) -> String {
    let mut name = String::with_capacity(35);
    name.push_str("hb-");
    push_member(&mut name, member);
    name
}

/// The file with what was observed of a member in one boot.
pub(crate) fn observation(boot: u64, member: MemberId) -> String {
    let mut name = format!("obs-{boot:016x}-");
    push_member(&mut name, member);
    name
}

fn push_member(name: &mut String, member: MemberId) {
    push_digits(name, &member.as_bytes()[..16]);
}

/// The file of a process.
pub(crate) fn process(id: u64) -> String {
    format!("proc-{id:016x}")
}

/// The file with the space that a process keeps for the day when the disk is full.
pub(crate) fn spare(process: u64) -> String {
    format!("spare-{process:016x}")
}

/// A name for something that is not finished.
pub(crate) fn scrap() -> String {
    format!("tmp-{:016x}", rand::random::<u64>())
}

/// Whether this is the name of something that was not finished.
pub(crate) fn is_scrap(entry: &str) -> bool {
    entry.strip_prefix("tmp-").is_some_and(is_id)
}

fn is_id(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(is_digit)
}

/// The id in the name of a process's file.
pub(crate) fn process_id(entry: &str) -> Option<u64> {
    entry.strip_prefix("proc-").and_then(id)
}

/// The id of the process that keeps this space.
pub(crate) fn spare_id(entry: &str) -> Option<u64> {
    entry.strip_prefix("spare-").and_then(id)
}

fn id(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok().filter(|_| is_id(text))
}

/// What a name in a lock directory says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Entry<'a> {
    /// The current step.
    Current(Step),
    /// The lock was forgotten at this step.
    Dead(Step),
    /// The record of an attempt that follows this generation.
    Record { after: u64 },
    /// A sign of life.
    Sign,
    /// An observation, made in this boot of this member (in hex).
    Observation { boot: u64, member: &'a str },
    /// How the directory is laid out.
    Format,
    /// Something unfinished.
    Scrap,
    /// A generation that no clock and no number of steps can reach.
    OutOfRange,
    /// Not ours: never touched.
    Foreign,
}

/// Reads a name in a lock directory.
pub(crate) fn entry(name: &str) -> Entry<'_> {
    let known = match name.split_once('-') {
        None if name == FORMAT_FILE => Some(Entry::Format),
        Some(("cur", rest)) => step(rest, Entry::Current),
        Some(("dead", rest)) => step(rest, Entry::Dead),
        Some(("rec", rest)) => step(rest, |s| Entry::Record { after: s.generation }),
        Some(("hb", member)) if is_member(member) => Some(Entry::Sign),
        Some(("obs", rest)) => rest.split_once('-').and_then(|(boot, member)| {
            let boot = id(boot)?;
            is_member(member).then_some(Entry::Observation { boot, member })
        }),
        _ if is_scrap(name) => Some(Entry::Scrap),
        _ => None,
    };
    known.unwrap_or(Entry::Foreign)
}

fn step<'a>(rest: &str, make: impl FnOnce(Step) -> Entry<'a>) -> Option<Entry<'a>> {
    let (generation, attempt) = rest.split_once('-')?;
    let attempt = id(attempt)?;
    if generation.len() != 20 || !generation.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    match generation.parse() {
        Ok(generation) if generation <= MAX_GENERATION => Some(make(Step { generation, attempt })),
        _ => Some(Entry::OutOfRange),
    }
}

fn is_member(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(is_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> LockName {
        LockName::new(text).unwrap()
    }

    #[test]
    fn every_name_becomes_a_portable_directory_of_its_own() {
        let names = ["a", "A", "/", "..", ".", "CON", "é", "e\u{301}", "a/b", "a_b", "-x", "dot. "];
        let long = "x".repeat(512);
        let mut seen = std::collections::HashSet::new();
        for text in names.into_iter().chain([long.as_str()]) {
            let directory = directory(&name(text));
            assert!(directory.len() <= 78, "{directory}");
            let portable =
                |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
            assert!(directory.bytes().all(portable), "{directory}");
            assert!(!directory.starts_with(['.', '-']), "{directory}");
            assert!(is_directory(&directory, text));
            assert!(seen.insert(directory));
        }
    }

    #[test]
    fn a_directory_is_found_by_every_beginning_of_its_name() {
        let text = "Orders/42 é and much more than forty characters of it";
        let directory = directory(&name(text));
        for (at, _) in text.char_indices() {
            assert!(is_directory(&directory, &text[..at]), "{}", &text[..at]);
        }
        assert!(!is_directory(&directory, "orders/43"));
        assert!(!is_directory("orders.lock", ""));
        assert!(!is_directory(".lock", ""));
    }

    #[test]
    fn names_of_files_say_what_they_are() {
        let step = Step { generation: 7, attempt: 0xab };
        assert_eq!(step.current(), "cur-00000000000000000007-00000000000000ab");
        assert_eq!(entry(&step.current()), Entry::Current(step));
        assert_eq!(entry(&step.dead()), Entry::Dead(step));
        assert_eq!(entry(&step.record()), Entry::Record { after: 6 });
        let member = MemberId::from_bytes([0xcd; 32]);
        assert_eq!(entry(&sign(member)), Entry::Sign);
        assert_eq!(
            entry(&observation(9, member)),
            Entry::Observation { boot: 9, member: &"cd".repeat(16) }
        );
        assert_eq!(entry(FORMAT_FILE), Entry::Format);
        assert_eq!(entry(&scrap()), Entry::Scrap);
        assert_eq!(process_id(&process(0xff)), Some(0xff));
    }

    #[test]
    fn other_names_are_foreign_and_generations_at_the_end_of_numbers_out_of_range() {
        for foreign in [
            "",
            "cur-",
            "cur-7-ab",
            "cur-00000000000000000007-00000000000000AB",
            "cur-+0000000000000000007-00000000000000ab",
            "hb-",
            "hb-zz",
            "notes.txt",
            ".nfs0000001",
        ] {
            assert_eq!(entry(foreign), Entry::Foreign, "{foreign}");
        }
        for far in [
            "cur-18446744073709551615-00000000000000ab",
            "cur-99999999999999999999-00000000000000ab",
            "dead-09223372036854775807-00000000000000ab",
        ] {
            assert_eq!(entry(far), Entry::OutOfRange, "{far}");
        }
    }
}
