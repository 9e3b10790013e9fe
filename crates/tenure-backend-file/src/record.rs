//! The file with the record of a step.
//!
//! Its first line says of which step it is and which attempt made the step before, and proves that
//! the whole is whole. With the step before nobody can begin anything any more, and whoever made it
//! has closed its file, or it would not have become a step. So the next record is written into that
//! file: to make one and to remove one takes several times as long as to write it. It is taken as a
//! step is, by moving its name, and whoever still reads it finds another step's record in it, or
//! half of one, and looks again.
//!
//! Only that file is taken. One of an attempt that never came to be a step may have an author who
//! sleeps, and who would go on to write into what is somebody else's record by then.

use std::path::PathBuf;

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use tenure_core::Result;
use tenure_core::machine::RECORD_MAX;

use crate::error;
use crate::layout::Step;
use crate::platform::{self, Open};
use crate::room::{LockDir, Room};

/// `<generation> <attempt> <attempt before> <CRC-32C>\n`
const LINE: usize = 20 + 1 + 16 + 1 + 16 + 1 + 8 + 1;

/// What the file of a record holds.
pub(crate) enum Found {
    /// It is gone, because the lock moved on.
    Gone,
    /// Not the record of that step: the lock moved on, or power was lost.
    Other,
    Whole(Record),
}

/// A record as it was written.
pub(crate) struct Record {
    pub(crate) bytes: Vec<u8>,
    /// The step before it, whose file can be written into; `None` if there was none.
    pub(crate) before: Option<Step>,
}

impl Found {
    pub(crate) fn whole(self) -> Option<Record> {
        match self {
            Found::Whole(record) => Some(record),
            Found::Gone | Found::Other => None,
        }
    }
}

/// Reads the record of a step.
pub(crate) fn read(room: &Room, dir: &LockDir, step: Step) -> Result<Found> {
    let file = step.record();
    let path = || dir.path(room, &file);
    let fd = match platform::open(&dir.fd, &file, Open::Read) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Ok(Found::Gone),
        Err(Errno::STALE) if !room.local => return Ok(Found::Gone),
        Err(errno) => return Err(error::io(errno, "open", &path())),
    };
    let stat = room.check_file(&fd, path)?;
    let len = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
    if LINE + RECORD_MAX < len {
        return Err(error::corrupt(&path(), "is longer than any record"));
    }
    let mut bytes = vec![0; len];
    let read = platform::read(&fd, &mut bytes).map_err(|e| error::io(e, "read", &path()))?;
    bytes.truncate(read);
    Ok(parse(bytes, step).map_or(Found::Other, Found::Whole))
}

/// Writes the record of `step`, into the file of the step `spent` if that is there; on a full disk
/// into the space that was kept for that.
pub(crate) fn write(
    room: &Room,
    dir: &LockDir,
    step: Step,
    (before, spent): (Option<Step>, Option<Step>),
    bytes: &[u8],
) -> Result<(), Errno> {
    let file = step.record();
    let block = format(step, before, bytes);
    if let Some(spent) = spent
        && write_into(room, dir, &spent.record(), &file, &block)
    {
        return Ok(());
    }
    match room.create_with(&dir.fd, &file, &block) {
        Err(full @ (Errno::NOSPC | Errno::DQUOT)) => {
            if room.spare.spend(room, dir, &file, &block) {
                Ok(())
            } else {
                Err(full)
            }
        }
        other => other,
    }
}

/// Takes the file `from` for the record `to`; `false` if there is none, or none that will do.
fn write_into(room: &Room, dir: &LockDir, from: &str, to: &str, block: &[u8]) -> bool {
    if platform::rename(&dir.fd, from, to).is_err() {
        return false;
    }
    let open = || -> Result<(OwnedFd, u64)> {
        let path = || -> PathBuf { dir.path(room, to) };
        let fd = platform::open(&dir.fd, to, Open::Write)
            .map_err(|errno| error::io(errno, "open", &path()))?;
        let stat = room.check_file(&fd, path)?;
        Ok((fd, u64::try_from(stat.st_size).unwrap_or(u64::MAX)))
    };
    let written = open().is_ok_and(|(fd, len)| {
        let new = block.len() as u64;
        platform::write_at_start(&fd, block)
            .and_then(|()| if new < len { platform::truncate(&fd, new) } else { Ok(()) })
            .is_ok()
    });
    if !written {
        let _ = platform::unlink(&dir.fd, to);
    }
    written
}

fn format(step: Step, before: Option<Step>, bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut block = Vec::with_capacity(LINE + bytes.len());
    let before = before.map_or(0, |step| step.attempt);
    write!(block, "{:020} {:016x} {before:016x} ", step.generation, step.attempt)
        .expect("memory takes it");
    let sum = crc32c::crc32c_append(crc32c::crc32c(&block), bytes);
    writeln!(block, "{sum:08x}").expect("memory takes it");
    block.extend_from_slice(bytes);
    block
}

/// What [`format`] made of the record of `step`; `None` if it is not that.
fn parse(mut block: Vec<u8>, step: Step) -> Option<Record> {
    let line = block.get(..LINE)?;
    let before = std::str::from_utf8(line.get(38..54)?).ok()?;
    let attempt = u64::from_str_radix(before, 16).ok()?;
    // The step before is the one that the name of the file says.
    let before = (attempt != 0).then(|| Step { generation: step.generation - 1, attempt });
    if format(step, before, &block[LINE..]) != block {
        return None;
    }
    block.drain(..LINE);
    Some(Record { bytes: block, before })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_a_round_trip_and_any_other_is_told_from_it() {
        let step = Step { generation: 7, attempt: 0xab };
        for before in [None, Some(Step { generation: 6, attempt: 0xcd })] {
            let block = format(step, before, b"record");
            let record = parse(block.clone(), step).unwrap();
            assert_eq!((record.bytes.as_slice(), record.before), (&b"record"[..], before));
            for other in [Step { generation: 8, ..step }, Step { attempt: 0xac, ..step }] {
                assert!(parse(block.clone(), other).is_none());
            }
            for at in 0..block.len() {
                let mut damaged = block.clone();
                damaged[at] ^= 4;
                assert!(parse(damaged, step).is_none(), "byte {at}");
                assert!(parse(block[..at].to_vec(), step).is_none(), "cut at {at}");
            }
        }
    }
}
