//! The register itself: a versioned record per directory, replaced by moving one name.
//!
//! The current step of a lock is an empty file whose name says generation and attempt. A
//! transition writes its record under a name of its own and then moves the current step's name to
//! its own step. Moving consumes the old name, which never comes back: whoever comes second finds
//! no name to move, be it a microsecond or a month later, and nothing it left can be mistaken for
//! the present. No file is ever deleted to make room for a lock.

use rustix::fd::AsFd;
use rustix::io::Errno;
use tenure_core::register::{Swap, Version, swap_pause};
use tenure_core::{Error, ErrorKind, LockName, MemberId, Result};

use crate::admitted::Admitted;
use crate::creation;
use crate::error;
use crate::layout::{self, Entry, MAX_GENERATION, Step};
use crate::platform::{self, Open};
use crate::record::{self, Record};
use crate::room::{LockDir, Room};

/// How often a directory is looked at that shows no current step, as it does for the moment in
/// which the name moves.
pub(crate) const LOOKS: u32 = 20;
/// How many looks in a row show nothing of a lock before it counts as having none.
pub(crate) const REMAINS: u32 = LOOKS / 2;
/// Where a lock stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum At {
    /// It has no directory; the first step would be of this generation, if no directory was
    /// removed since.
    Absent { first: u64, burials: u64 },
    /// It was forgotten at this step; the next would be of this generation.
    Dead { step: Step, next: u64 },
    /// It stands at this step; the file of the step `spent` can be written into.
    Live { step: Step, spent: Option<Step> },
}

/// A record as found.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) at: At,
    pub(crate) bytes: Option<Vec<u8>>,
    /// The least fence of the next step.
    pub(crate) floor: u64,
}

impl At {
    pub(crate) fn version(&self) -> Version {
        let text = match self {
            At::Absent { first, burials } => format!("absent:{first}:{burials:016x}"),
            At::Dead { step, next } => format!("dead:{step}:{next}"),
            At::Live { step, spent: None } => step.to_string(),
            At::Live { step, spent: Some(spent) } => format!("{step}:{:016x}", spent.attempt),
        };
        Version(text.into())
    }

    fn parse(version: &Version) -> Option<Self> {
        let mut words = version.0.split(':');
        let first = words.next()?;
        let at = match first {
            "absent" => At::Absent {
                first: words.next()?.parse().ok()?,
                burials: u64::from_str_radix(words.next()?, 16).ok()?,
            },
            "dead" => At::Dead {
                step: step(words.next()?, words.next()?)?,
                next: words.next()?.parse().ok()?,
            },
            generation => {
                let step = step(generation, words.next()?)?;
                let spent = match words.next() {
                    Some(attempt) => Some(Step {
                        generation: step.generation.checked_sub(1)?,
                        attempt: u64::from_str_radix(attempt, 16).ok()?,
                    }),
                    None => None,
                };
                At::Live { step, spent }
            }
        };
        words.next().is_none().then_some(at)
    }
}

fn step(generation: &str, attempt: &str) -> Option<Step> {
    Some(Step {
        generation: generation.parse().ok()?,
        attempt: u64::from_str_radix(attempt, 16).ok()?,
    })
}

/// The generation that a directory made now begins with: above all that an earlier directory of
/// the same name can have reached, because no lock takes 4096 steps in a millisecond.
pub(crate) fn first_generation(room: &Room) -> u64 {
    let millis = room.clock.wall().0 / 1000;
    millis.saturating_mul(1 << 12).clamp(1, MAX_GENERATION / 2)
}

/// The newest record.
pub(crate) fn load(room: &Room, name: &LockName) -> Result<Found> {
    let absent = |burials| {
        let first = first_generation(room);
        Found { at: At::Absent { first, burials }, bytes: None, floor: first }
    };
    let mut burials = None;
    let mut unread = None;
    let mut remains = 0;
    for look in 0..LOOKS {
        if 1 < look {
            platform::pause(swap_pause(look));
        }
        let seen = match room.lock_dir(name)? {
            Some(dir) => look_into(room, &dir),
            None => Err(Look::Empty),
        };
        match seen {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => (unread, remains) = (None, 0),
            Err(Look::Empty) => match burials {
                Some(burials) => return Ok(absent(burials)),
                // Counted before it is seen that there is none: look again.
                None => burials = Some(creation::burials(room)?),
            },
            // One look at a lock that moves may miss its step and its record, but not all looks.
            Err(Look::Remains) => {
                remains += 1;
                if remains == REMAINS {
                    return Ok(absent(creation::burials(room)?));
                }
            }
            // A server may have let go of what was just opened.
            Err(Look::Failed(e)) if !room.local && e.kind() == ErrorKind::Unreachable => {
                unread = Some(e);
            }
            Err(Look::Failed(error)) => return Err(error),
        }
    }
    Err(unread.unwrap_or_else(|| without_baton(room, name)))
}

enum Look {
    /// Nothing is there: made to be replaced, or just removed.
    Empty,
    /// What a removal left that was cut off.
    Remains,
    Failed(Error),
}

impl From<Error> for Look {
    fn from(error: Error) -> Self {
        Look::Failed(error)
    }
}

/// One look; `None` if the directory was changing.
fn look_into(room: &Room, dir: &LockDir) -> Result<Option<Found>, Look> {
    let names = list(room, dir)?;
    if let Some(step) = names.current {
        let next = step.generation + 1;
        return match record::read(room, dir, step)? {
            record::Found::Whole(Record { bytes, before }) => {
                let spent = before.filter(|_| room.writes_over);
                names.sweep(dir, step, spent);
                Ok(Some(Found { at: At::Live { step, spent }, bytes: Some(bytes), floor: next }))
            }
            record::Found::Other if went_with_the_power(room, dir, step) => {
                tracing::warn!(
                    directory = %room.path.join(&dir.name).display(),
                    "the lock's record was lost with the power; the lock is free"
                );
                let floor = first_generation(room).max(next);
                Ok(Some(Found { at: At::Live { step, spent: None }, bytes: None, floor }))
            }
            record::Found::Gone | record::Found::Other => Ok(None),
        };
    }
    if let Some(step) = names.dead {
        let next = first_generation(room).max(step.generation + 1);
        return Ok(Some(Found { at: At::Dead { step, next }, bytes: None, floor: next }));
    }
    if names.are_remains() {
        return Err(if names.are_none() { Look::Empty } else { Look::Remains });
    }
    Ok(None)
}

/// The names in a lock directory.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub(crate) current: Option<Step>,
    pub(crate) dead: Option<Step>,
    pub(crate) has_format: bool,
    pub(crate) has_foreign: bool,
    records: Vec<(u64, String)>,
    /// Everything of ours that is neither step, record nor `FORMAT`.
    pub(crate) others: Vec<String>,
}

impl Names {
    /// Whether this is what a removal of the directory left that was cut off: nothing says where a
    /// lock stands, and `FORMAT`, which goes before that, or any record is gone, too. A record alone
    /// may be one of somebody who is about to find that it lost.
    pub(crate) fn are_remains(&self) -> bool {
        self.current.is_none()
            && self.dead.is_none()
            && (!self.has_format || self.records.is_empty())
    }

    fn are_none(&self) -> bool {
        self.are_remains()
            && !self.has_format
            && !self.has_foreign
            && self.records.is_empty()
            && self.others.is_empty()
    }

    /// The names of everything in it that is ours, in the order in which to remove it.
    pub(crate) fn litter(&self) -> impl Iterator<Item = &str> {
        let records = self.records.iter().map(|(_, name)| name.as_str());
        records.chain(self.others.iter().map(String::as_str)).chain([layout::FORMAT_FILE])
    }

    /// Whether nothing is left but the name that says that the lock is dead.
    pub(crate) fn are_bare(&self) -> bool {
        self.current.is_none()
            && self.dead.is_some()
            && !self.has_foreign
            && self.records.is_empty()
            && self.others.is_empty()
    }

    /// Removes records that nobody can need any more: the attempts they belong to would have to
    /// move a name that is gone for ever. One of them may be `kept`, to be written into.
    pub(crate) fn sweep(&self, dir: &LockDir, current: Step, kept: Option<Step>) {
        let kept = kept.map(Step::record);
        for (after, name) in &self.records {
            if after + 1 < current.generation && kept.as_ref() != Some(name) {
                let _ = platform::unlink(&dir.fd, name);
            }
        }
    }
}

/// Lists a lock directory that was just opened.
pub(crate) fn list(room: &Room, dir: &LockDir) -> Result<Names> {
    let mut names = Names::default();
    let mut out_of_range = false;
    platform::list(dir.fd.as_fd(), |name| match layout::entry(name) {
        // A listing made while the name moves can show it twice: the higher is the later.
        Entry::Current(step) => names.current = names.current.max(Some(step)),
        Entry::Dead(step) => names.dead = names.dead.max(Some(step)),
        Entry::Record { after } => names.records.push((after, name.to_owned())),
        Entry::Sign => names.others.push(name.to_owned()),
        Entry::Observation { .. } | Entry::Scrap => {
            names.others.push(name.to_owned());
        }
        Entry::Format => names.has_format = true,
        Entry::OutOfRange => out_of_range = true,
        Entry::Foreign => names.has_foreign = true,
    })
    .map_err(|e| error::io(e, "list", &room.path.join(&dir.name)))?;
    if out_of_range {
        return Err(error::corrupt(
            &room.path.join(&dir.name),
            "has a generation that no lock can reach",
        ));
    }
    Ok(names)
}

/// Whether a record that is not whole is what a loss of power left of it: the name outlived the
/// bytes. Everybody who could have held the lock died with the machine.
fn went_with_the_power(room: &Room, dir: &LockDir, step: Step) -> bool {
    room.local
        && platform::stat_at(&dir.fd, &step.current())
            .is_ok_and(|stat| platform::is_from_an_earlier_boot(&stat))
}

fn without_baton(room: &Room, name: &LockName) -> Error {
    let path = room.path.join(layout::directory(name));
    let format = room.lock_dir(name).ok().flatten().and_then(|dir| {
        let fd = platform::open(&dir.fd, layout::FORMAT_FILE, Open::Read).ok()?;
        room.check_file(&fd, || path.clone()).ok()?;
        let mut text = [0; 64];
        let len = platform::read(&fd, &mut text).ok()?;
        Some(text[..len].to_vec())
    });
    if let Some(format) = format
        && format.starts_with(b"tenure-file/")
        && format != layout::FORMAT
    {
        return Error::new(
            ErrorKind::Unsupported,
            format!("{} was made by another version of tenure", path.display()),
        )
        .with_help(
            "update the older of the two programs; if none uses the lock any more, remove its directory",
        );
    }
    error::corrupt(&path, "has no current step, or one whose record is not there or not whole")
        .with_help("somebody removed files of it; when nobody uses the lock, remove the directory")
}

/// What a transition leads to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Next<'a> {
    /// The record.
    pub(crate) to: &'a [u8],
    /// Whom it concerns, to be woken as soon as it has taken place.
    pub(crate) wakes: &'a [MemberId],
}

/// Replaces the record if the lock still stands at `version`.
pub(crate) fn swap(
    room: &Room,
    admitted: &Admitted,
    name: &LockName,
    version: &Version,
    leads: Next<'_>,
) -> Swap {
    let Some(at) = At::parse(version) else {
        return Swap::Failed(Error::new(
            ErrorKind::Invalid,
            "the version is not one that this store gave",
        ));
    };
    let swapped = match at {
        At::Absent { first, burials } => {
            creation::begin(room, admitted, name, first, burials, leads)
        }
        At::Dead { step, next } => {
            pass_on(room, admitted, name, Leaves { step, spent: None, dead: true }, next, leads)
        }
        At::Live { step, spent } => {
            let next = step.generation + 1;
            pass_on(room, admitted, name, Leaves { step, spent, dead: false }, next, leads)
        }
    };
    swapped.unwrap_or_else(Swap::Failed)
}

/// The step that a transition leaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leaves {
    pub(crate) step: Step,
    /// The step before it, whose file can be written into.
    pub(crate) spent: Option<Step>,
    /// Whether the lock was forgotten at it: then it has no record.
    pub(crate) dead: bool,
}

/// Moves the name of a step to the next.
pub(crate) fn pass_on(
    room: &Room,
    admitted: &Admitted,
    name: &LockName,
    old: Leaves,
    next: u64,
    leads: Next<'_>,
) -> Result<Swap> {
    if MAX_GENERATION < next {
        let path = room.path.join(layout::directory(name));
        return Err(error::corrupt(&path, "has no generation left"));
    }
    let Some(dir) = room.lock_dir(name)? else {
        return Ok(Swap::Lost);
    };
    if !admitted.settle(room, &dir, name)? {
        return Ok(Swap::Lost);
    }
    let step = Step::new(next);
    let record = step.record();
    let from = if old.dead { old.step.dead() } else { old.step.current() };
    let before = (!old.dead).then_some(old.step);
    match record::write(room, &dir, step, (before, old.spent), leads.to) {
        Ok(()) => {}
        // The directory was removed.
        Err(Errno::NOENT) => return Ok(Swap::Lost),
        Err(errno) => return Err(error::io(errno, "write", &dir.path(room, &record))),
    }
    match platform::rename(&dir.fd, &from, &step.current()) {
        Ok(()) => {}
        Err(Errno::NOENT) if room.local => {
            let _ = platform::unlink(&dir.fd, &record);
            return Ok(Swap::Lost);
        }
        Err(errno) if error::is_ambiguous(errno) => {
            let failed = error::io(errno, "move on", &dir.path(room, &from));
            match resolve(room, name, old.step, step, failed) {
                Resolved::Won => {}
                Resolved::Lost => {
                    let _ = platform::unlink(&dir.fd, &record);
                    return Ok(Swap::Lost);
                }
                Resolved::Unknown(error) => return Ok(Swap::Unknown(error)),
            }
        }
        Err(errno) => {
            let _ = platform::unlink(&dir.fd, &record);
            return Err(error::io(errno, "move on", &dir.path(room, &from)));
        }
    }
    if let Err(errno) = room.sync_dir(&dir.fd) {
        let path = room.path.join(&dir.name);
        return Ok(Swap::Unknown(error::io(errno, "sync", &path)));
    }
    // Before anything else is done: others wait for it.
    wake(&dir, leads.wakes);
    if old.dead {
        // Whoever was removing the directory may have begun.
        mark_format(room, &dir);
    } else if !room.writes_over {
        let _ = platform::unlink(&dir.fd, &old.step.record());
    }
    room.spare.refill(room);
    Ok(Swap::Won)
}

/// Wakes these members by touching their signs of life.
pub(crate) fn wake(dir: &LockDir, members: &[MemberId]) {
    for member in members {
        // Whoever is not reached looks by itself in the end.
        let _ = platform::touch(&dir.fd, &layout::sign(*member));
    }
}

/// Says what kind of directory this is, where that is missing. A lock that lives does without.
pub(crate) fn mark_format(room: &Room, dir: &LockDir) {
    let _ = room.create_with(&dir.fd, layout::FORMAT_FILE, layout::FORMAT);
}

enum Resolved {
    Won,
    Lost,
    Unknown(Error),
}

/// Finds out whether a move took effect whose answer was lost.
fn resolve(room: &Room, name: &LockName, old: Step, mine: Step, failed: Error) -> Resolved {
    for look in 0..LOOKS {
        if 0 < look {
            platform::pause(swap_pause(look));
        }
        let current = match room.lock_dir(name).and_then(|dir| match dir {
            Some(dir) => list(room, &dir).map(|names| names.current),
            None => Ok(None),
        }) {
            Ok(Some(step)) => step,
            Ok(None) | Err(_) => continue,
        };
        if current == mine {
            return Resolved::Won;
        }
        // Somebody else made the same step: the name that mine needs is gone for ever.
        if current.generation == mine.generation {
            return Resolved::Lost;
        }
        // Later steps may follow mine or another's; at the old one the move may still be on its
        // way. The record stays: if the move comes after all, it is needed.
        if mine.generation < current.generation || current == old {
            break;
        }
    }
    Resolved::Unknown(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_survive_a_round_trip() {
        let step = Step { generation: 7, attempt: 0xab };
        for at in [
            At::Absent { first: 1 << 40, burials: u64::MAX },
            At::Dead { step, next: 9 },
            At::Live { step, spent: None },
            At::Live { step, spent: Some(Step { generation: 6, attempt: 1 }) },
        ] {
            assert_eq!(At::parse(&at.version()), Some(at));
        }
        for bad in [
            "",
            "7",
            "absent",
            "absent:x",
            "absent:7",
            "dead:7:ab",
            "7:ab:c:d",
            "7:xyz",
            "7:ab:x",
            "0:ab:c",
        ] {
            assert_eq!(At::parse(&Version(bad.into())), None, "{bad}");
        }
    }
}
