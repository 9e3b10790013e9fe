//! Signs of life: one small file per member, rewritten in place by its owner only.

use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use tenure_core::backend::Member;
use tenure_core::register::Sign;
use tenure_core::{Fence, MemberId, Micros, Result};

use crate::error;
use crate::layout;
use crate::platform::{self, Identity, Open};
use crate::room::{LockDir, Room};

/// The length of a sign of life; below any block, so that it is written in one piece.
const LEN: usize = 128;
const MAGIC: [u8; 8] = *b"tenureHB";
const VERSION: u16 = 1;
const DETACHED: u16 = 1;
/// How often a sign is read again that was read while it was written.
const READS: usize = 5;

static SEQUENCE: AtomicU64 = AtomicU64::new(1);

/// What a sign of life says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Beat {
    sequence: u64,
    nonce: u128,
    fence: u64,
    pub(crate) owner: Identity,
    /// The file of the owner's process; 0 if it has none.
    pub(crate) process: u64,
    pub(crate) detached: bool,
    wall: Micros,
    member: [u8; 16],
}

/// A file as it was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    Missing,
    /// Not a sign of life, or one that was only half written; the number changes with the bytes.
    Torn(u128),
    Whole(Box<Beat>),
}

impl Beat {
    /// A new sign of life of `member`, given by this process.
    pub(crate) fn new(room: &Room, member: &Member, process: u64) -> Self {
        Self {
            sequence: SEQUENCE.fetch_add(1, Ordering::Relaxed),
            nonce: rand::random::<u128>().max(1),
            fence: member.fence.map_or(0, Fence::get),
            // Where the kernel's word does not count, nobody else shall take it either.
            owner: if room.proves_death {
                room.me
            } else {
                Identity { pid: room.me.pid, ..Identity::default() }
            },
            // Nobody's death may end a lease that no process stands behind.
            process: if member.detached { 0 } else { process },
            detached: member.detached,
            wall: room.clock.wall(),
            member: half(member.id),
        }
    }

    pub(crate) fn encode(&self) -> [u8; LEN] {
        let mut block = [0; LEN];
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            block[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        put(&MAGIC);
        put(&VERSION.to_le_bytes());
        put(&(if self.detached { DETACHED } else { 0 }).to_le_bytes());
        put(&self.owner.pid.to_le_bytes());
        put(&self.sequence.to_le_bytes());
        put(&self.nonce.to_le_bytes());
        put(&self.fence.to_le_bytes());
        put(&self.owner.started.to_le_bytes());
        put(&self.owner.boot.to_le_bytes());
        put(&self.owner.pid_space.to_le_bytes());
        put(&self.process.to_le_bytes());
        put(&self.wall.0.to_le_bytes());
        put(&self.member);
        let sum = crc32c::crc32c(&block[..LEN - 4]);
        block[LEN - 4..].copy_from_slice(&sum.to_le_bytes());
        block
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let block: &[u8; LEN] = bytes.try_into().ok()?;
        let (body, sum) = block.split_at(LEN - 4);
        if sum != crc32c::crc32c(body).to_le_bytes() {
            return None;
        }
        let mut rest = body;
        let magic: [u8; 8] = take(&mut rest)?;
        let version = u16::from_le_bytes(take(&mut rest)?);
        if magic != MAGIC || version != VERSION {
            return None;
        }
        let flags = u16::from_le_bytes(take(&mut rest)?);
        let pid = u32::from_le_bytes(take(&mut rest)?);
        let sequence = u64::from_le_bytes(take(&mut rest)?);
        let nonce = u128::from_le_bytes(take(&mut rest)?);
        let fence = u64::from_le_bytes(take(&mut rest)?);
        let owner = Identity {
            pid,
            started: u64::from_le_bytes(take(&mut rest)?),
            boot: u64::from_le_bytes(take(&mut rest)?),
            pid_space: u64::from_le_bytes(take(&mut rest)?),
        };
        Some(Self {
            sequence,
            nonce,
            fence,
            owner,
            process: u64::from_le_bytes(take(&mut rest)?),
            detached: flags & DETACHED != 0,
            wall: Micros(u64::from_le_bytes(take(&mut rest)?)),
            member: take(&mut rest)?,
        })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, others) = rest.split_first_chunk()?;
    *rest = others;
    Some(*first)
}

fn half(member: MemberId) -> [u8; 16] {
    member.as_bytes()[..16].try_into().expect("16 of 32 bytes")
}

/// Makes the file with a first sign of life, of the one that was kept for it if there is one; or
/// rewrites it: a claim that is sent again. `false` if the directory was removed.
pub(crate) fn create(
    room: &Room,
    dir: &LockDir,
    member: MemberId,
    beat: &Beat,
    kept: Option<&str>,
) -> Result<bool> {
    let file = layout::sign(member);
    if let Some(kept) = kept
        && platform::rename(&dir.fd, kept, &file).is_ok()
    {
        if rewrite(room, dir, member, beat).is_ok_and(|written| written) {
            return Ok(true);
        }
        let _ = platform::unlink(&dir.fd, &file);
    }
    let fail = |errno| error::io(errno, "write", &dir.path(room, &file));
    loop {
        match room.create(&dir.fd, &file) {
            Ok(fd) => {
                write(&fd, beat).map_err(|errno| {
                    // A sign that is not whole is of no use.
                    let _ = platform::unlink(&dir.fd, &file);
                    fail(errno)
                })?;
                return Ok(true);
            }
            Err(Errno::EXIST) => {
                if rewrite(room, dir, member, beat)? {
                    return Ok(true);
                }
                // It was removed in between.
            }
            Err(Errno::NOENT) => return Ok(false),
            Err(errno) => return Err(fail(errno)),
        }
    }
}

/// Rewrites a sign of life; `false` if there is none.
pub(crate) fn rewrite(room: &Room, dir: &LockDir, member: MemberId, beat: &Beat) -> Result<bool> {
    let file = layout::sign(member);
    let written = match platform::open(&dir.fd, &file, Open::Write) {
        Ok(fd) => {
            room.check_file(&fd, || dir.path(room, &file))?;
            write(&fd, beat)
        }
        Err(Errno::NOENT) => return Ok(false),
        Err(errno) => Err(errno),
    };
    match written {
        Ok(()) => Ok(true),
        Err(errno) => Err(error::io(errno, "write", &dir.path(room, &file))),
    }
}

/// At offset 0, in place: the file never grows, is never empty and needs no space. It is not synced
/// either: whoever gives signs of life does not outlive a loss of power.
fn write(fd: &OwnedFd, beat: &Beat) -> Result<(), Errno> {
    platform::write_at_start(fd, &beat.encode())
}

/// Reads a sign of life through a descriptor of its own, so that nothing old is seen.
pub(crate) fn read(room: &Room, dir: &LockDir, member: MemberId) -> Result<Found> {
    let file = layout::sign(member);
    let path = || dir.path(room, &file);
    let mut torn = Found::Missing;
    for _ in 0..READS {
        let fd = match platform::open(&dir.fd, &file, Open::Read) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(Found::Missing),
            Err(errno) => return Err(error::io(errno, "open", &path())),
        };
        room.check_file(&fd, path)?;
        let mut block = [0; LEN + 1];
        let len =
            platform::read(&fd, &mut block).map_err(|errno| error::io(errno, "read", &path()))?;
        match Beat::decode(&block[..len]) {
            Some(beat) if beat.member == half(member) => return Ok(Found::Whole(Box::new(beat))),
            _ => torn = Found::Torn(fingerprint(&block[..len])),
        }
    }
    Ok(torn)
}

/// What a sign says, whoever's it is; `None` if that cannot be read.
pub(crate) fn look_at(room: &Room, dir: &LockDir, file: &str) -> Option<Beat> {
    let fd = platform::open(&dir.fd, file, Open::Read).ok()?;
    room.check_file(&fd, || dir.path(room, file)).ok()?;
    let mut block = [0; LEN + 1];
    let len = platform::read(&fd, &mut block).ok()?;
    Beat::decode(&block[..len])
}

/// A nonce for bytes without one: as long as they stay the same, nobody gives a sign of life.
fn fingerprint(bytes: &[u8]) -> u128 {
    let hash = Sha256::digest(bytes);
    let (first, _) = hash.split_first_chunk().expect("16 of 32 bytes");
    u128::from_le_bytes(*first).max(1)
}

impl Found {
    /// The sign as observers take it. `dead` is what the kernel says of its owner.
    pub(crate) fn sign(&self, member: MemberId, dead: bool) -> Sign {
        let (nonce, fence, at) = match self {
            Found::Missing => (0, 0, None),
            Found::Torn(nonce) => (*nonce, 0, None),
            Found::Whole(beat) => (beat.nonce, beat.fence, Some(beat.wall)),
        };
        Sign { member, nonce, fence: Fence::new(fence), dead, at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat() -> Beat {
        Beat {
            sequence: 3,
            nonce: u128::MAX - 7,
            fence: 42,
            owner: Identity { pid: 77, started: 1 << 40, boot: u64::MAX, pid_space: 4_026_531_836 },
            process: 0xdead_beef,
            detached: true,
            wall: Micros(1_767_225_600_000_000),
            member: [9; 16],
        }
    }

    #[test]
    fn a_sign_survives_a_round_trip_and_damage_is_found() {
        let block = beat().encode();
        assert_eq!(Beat::decode(&block), Some(beat()));
        for at in 0..LEN {
            let mut damaged = block;
            damaged[at] ^= 0x10;
            assert_eq!(Beat::decode(&damaged), None, "byte {at}");
            assert_eq!(Beat::decode(&block[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn damaged_bytes_are_silent_as_long_as_they_stay_the_same() {
        assert_eq!(fingerprint(b"x"), fingerprint(b"x"));
        assert_ne!(fingerprint(b"x"), fingerprint(b"y"));
        assert_ne!(fingerprint(b""), 0);
    }
}
