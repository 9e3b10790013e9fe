//! A cell as bytes: one line that says what follows and proves that it is whole, then JSON that
//! a person can read.

use std::collections::{HashMap, HashSet};

use super::state::Cell;
use crate::error::{Error, ErrorKind, Result};
use crate::name::LockName;
use crate::token::MemberId;
use crate::values::{Fence, Seats};
use serde::{Deserialize, Serialize};

/// The longest record, in bytes.
pub const RECORD_MAX: usize = 4 * 1024 * 1024;

const MAGIC: &str = "tenure-record";
const VERSION: u32 = 1;

#[derive(Serialize)]
struct RecordOut<'a> {
    name: &'a LockName,
    cell: &'a Cell,
}

#[derive(Deserialize)]
struct RecordIn {
    name: LockName,
    cell: Cell,
}

impl Cell {
    /// Writes the cell of the lock `name` as a record.
    ///
    /// # Errors
    /// `Invalid` if the record would be longer than [`RECORD_MAX`] bytes, or one that
    /// [`Cell::decode`] would not take.
    pub fn encode(&self, name: &LockName) -> Result<Vec<u8>> {
        if let Err(error) = self.check() {
            return Err(Error::new(ErrorKind::Invalid, "the lock's record could not be read back")
                .with_help("nothing was changed")
                .with_source(error));
        }
        let body = serde_json::to_vec(&RecordOut { name, cell: self })
            .expect("a cell has string keys and no failing parts");
        let mut bytes = format!("{MAGIC} {VERSION} {:08x}\n", crc32c::crc32c(&body)).into_bytes();
        bytes.extend_from_slice(&body);
        bytes.push(b'\n');
        if RECORD_MAX < bytes.len() {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "the lock's record would be {} bytes long, {RECORD_MAX} is the limit",
                    bytes.len()
                ),
            )
            .with_help("fewer holders and waiters on one name, or smaller metadata and values"));
        }
        Ok(bytes)
    }

    /// Reads a record back, with the name it is for.
    ///
    /// # Errors
    /// `Corrupt` if it is not whole, not a record, or breaks the rules of a cell; `Unsupported` if
    /// it was written by a newer version.
    pub fn decode(bytes: &[u8]) -> Result<(LockName, Cell)> {
        if RECORD_MAX < bytes.len() {
            return Err(corrupt("it is too long"));
        }
        let line_end = bytes
            .iter()
            .position(|b| *b == b'\n')
            .ok_or_else(|| corrupt("it has no first line"))?;
        let line = std::str::from_utf8(&bytes[..line_end])
            .map_err(|_| corrupt("its first line is not text"))?;
        let mut words = line.split(' ');
        if words.next() != Some(MAGIC) {
            return Err(corrupt("it is not a record"));
        }
        let version: u32 = words
            .next()
            .and_then(|w| w.parse().ok())
            .ok_or_else(|| corrupt("it has no version"))?;
        if VERSION < version {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("the record is of version {version}, this program knows {VERSION}"),
            )
            .with_help("a newer tenure uses this store; update this one"));
        }
        let sum = words.next().and_then(|w| u32::from_str_radix(w, 16).ok());
        let body = bytes[line_end + 1..]
            .strip_suffix(b"\n")
            .ok_or_else(|| corrupt("it ends too early"))?;
        if sum != Some(crc32c::crc32c(body)) {
            return Err(corrupt("its checksum is wrong"));
        }
        let record: RecordIn = serde_json::from_slice(body)
            .map_err(|e| corrupt("it cannot be read").with_source(e))?;
        record.cell.check()?;
        Ok((record.name, record.cell))
    }

    /// A record that breaks the rules is not worked with: nobody could say what follows.
    fn check(&self) -> Result<()> {
        if Cell::MAX_HOLDERS < self.holders.len() || Cell::MAX_WAITERS < self.queue.len() {
            return Err(corrupt("it has too many members"));
        }
        self.check_fences()?;
        self.check_seats()?;
        self.check_members()
    }

    fn check_fences(&self) -> Result<()> {
        let mut known =
            self.holders.iter().map(|h| h.fence).chain(self.value.iter().map(|v| v.fence));
        if Fence::MAX < self.fence || known.any(|f| self.fence < f) {
            return Err(corrupt("its fences are out of range"));
        }
        let fences: HashSet<Fence> = self.holders.iter().map(|h| h.fence).collect();
        if fences.len() < self.holders.len() {
            return Err(corrupt("two holders have the same fence"));
        }
        Ok(())
    }

    fn check_seats(&self) -> Result<()> {
        if 1 < self.holders.len() && self.holders.iter().any(|h| h.seats.is_all()) {
            return Err(corrupt("somebody holds beside the holder of all seats"));
        }
        let held = self.holders.iter().map(|h| h.seats);
        let before = self.holders.iter().filter_map(|h| h.upgrade.as_ref()).map(|u| u.before);
        let waited_for = self.queue.iter().map(|w| w.seats);
        let mut limit = None;
        for seats in held.chain(before).chain(waited_for) {
            let Seats::Some { take, of } = seats else { continue };
            if take == 0 || of < take {
                return Err(corrupt("somebody takes more seats than there are, or none"));
            }
            if of != *limit.get_or_insert(of) {
                return Err(corrupt("its members count different numbers of seats"));
            }
        }
        let taken: u64 = self.holders.iter().map(|h| seats_taken(h.seats)).sum();
        if limit.is_some_and(|of| u64::from(of) < taken) {
            return Err(corrupt("more seats are taken than there are"));
        }
        Ok(())
    }

    fn check_members(&self) -> Result<()> {
        let upgraded = self.holders.iter().filter_map(|h| Some((h.seats, h.upgrade.as_ref()?)));
        if upgraded.into_iter().any(|(seats, u)| !seats.is_all() || u.claims.is_empty()) {
            return Err(corrupt("somebody upgraded to less than all seats"));
        }
        let holders: HashMap<MemberId, Seats> =
            self.holders.iter().map(|h| (h.member, h.seats)).collect();
        let waiters: HashSet<MemberId> = self.queue.iter().map(|w| w.member).collect();
        if holders.len() < self.holders.len() || waiters.len() < self.queue.len() {
            return Err(corrupt("a member is in it twice"));
        }
        if 1 < self.queue.iter().filter(|w| w.upgrade).count() {
            return Err(corrupt("two holders wait for each other to upgrade"));
        }
        for waiter in &self.queue {
            let right = match holders.get(&waiter.member) {
                Some(held) => waiter.upgrade && waiter.seats.is_all() && !held.is_all(),
                None => !waiter.upgrade,
            };
            if !right {
                return Err(corrupt("somebody waits for what it cannot get"));
            }
        }
        Ok(())
    }
}

fn seats_taken(seats: Seats) -> u64 {
    match seats {
        Seats::Some { take, .. } => u64::from(take),
        Seats::All => 0,
    }
}

fn corrupt(what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("the lock's record cannot be used: {what}"))
        .with_help("`tenure doctor` looks closer; nothing was changed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_a_round_trip_and_damage_is_found() {
        let name = LockName::new("a \"name\"").unwrap();
        let cell = Cell { fence: Fence::new(7), ..Cell::default() };
        let bytes = cell.encode(&name).unwrap();
        assert_eq!(Cell::decode(&bytes).unwrap(), (name, cell));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x04;
            assert!(Cell::decode(&damaged).is_err(), "byte {at} may be anything");
            assert!(Cell::decode(&bytes[..at]).is_err(), "it may be cut at {at}");
        }
    }

    #[test]
    fn a_record_of_a_newer_version_is_refused_as_that() {
        let error = Cell::decode(b"tenure-record 99 00000000\n{}\n").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn a_fence_at_the_end_of_numbers_is_corrupt() {
        let body = format!(r#"{{"name":"x","cell":{{"fence":"{}","last_arrival":0}}}}"#, u64::MAX);
        let sum = crc32c::crc32c(body.as_bytes());
        let bytes = format!("{MAGIC} {VERSION} {sum:08x}\n{body}\n").into_bytes();
        assert_eq!(Cell::decode(&bytes).unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn a_fence_that_nobody_could_read_back_is_not_written() {
        let name = LockName::new("x").unwrap();
        let cell = |fence| Cell { fence, ..Cell::default() };
        assert!(cell(Fence::MAX).encode(&name).is_ok());
        let beyond = cell(Fence::new(Fence::MAX.get() + 1));
        assert_eq!(beyond.encode(&name).unwrap_err().kind(), ErrorKind::Invalid);
    }
}
