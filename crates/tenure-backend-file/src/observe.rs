//! What short-lived observers leave for those after them.
//!
//! A program that looks once a minute sees a dead holder only if it knows what the last one saw.
//! One file per boot and member, replaced only when the member gave a new sign of life.

use rustix::fd::AsFd;
use rustix::io::Errno;
use tenure_core::clock::Moment;
use tenure_core::register::Observation;
use tenure_core::{Fence, MemberId};

use crate::layout::{self, Entry};
use crate::platform::{self, Open};
use crate::room::{LockDir, Room};

const LEN: usize = 80;
const MAGIC: [u8; 8] = *b"tenureOB";

/// What was left of a member in this boot.
pub(crate) fn recall(room: &Room, dir: &LockDir, member: MemberId) -> Option<Observation> {
    if room.epoch == 0 {
        return None;
    }
    let file = layout::observation(room.epoch, member);
    let fd = platform::open(&dir.fd, &file, Open::Read).ok()?;
    room.check_file(&fd, || dir.path(room, &file)).ok()?;
    let mut block = [0; LEN + 1];
    let len = platform::read(&fd, &mut block).ok()?;
    decode(&block[..len]).filter(|o| o.member == member)
}

/// Leaves what was seen, and removes what was left of others or in other boots.
pub(crate) fn remember(room: &Room, dir: &LockDir, seen: &[Observation]) {
    if room.epoch == 0 {
        return;
    }
    let wanted: Vec<String> =
        seen.iter().map(|o| layout::observation(room.epoch, o.member)).collect();
    let mut litter = Vec::new();
    let listed = platform::list(dir.fd.as_fd(), |name| {
        if matches!(layout::entry(name), Entry::Observation { .. })
            && wanted.iter().all(|w| w != name)
        {
            litter.push(name.to_owned());
        }
    });
    if listed.is_err() {
        return;
    }
    for name in litter {
        let _ = platform::unlink(&dir.fd, &name);
    }
    for (observation, file) in seen.iter().zip(&wanted) {
        let left = recall(room, dir, observation.member);
        // Silence that was seen earlier counts from then.
        let is_told = left.is_some_and(|l| {
            l.nonce == observation.nonce
                && l.fence == observation.fence
                && l.since <= observation.since
        });
        if !is_told {
            let _ = replace(room, dir, file, observation);
        }
    }
}

fn replace(room: &Room, dir: &LockDir, file: &str, seen: &Observation) -> Result<(), Errno> {
    let scrap = layout::scrap();
    let fd = room.create(&dir.fd, &scrap)?;
    let placed =
        platform::write(&fd, &encode(seen)).and_then(|()| platform::rename(&dir.fd, &scrap, file));
    if placed.is_err() {
        let _ = platform::unlink(&dir.fd, &scrap);
    }
    placed
}

fn encode(seen: &Observation) -> [u8; LEN] {
    let mut block = [0; LEN];
    block[..8].copy_from_slice(&MAGIC);
    block[8..40].copy_from_slice(seen.member.as_bytes());
    block[40..56].copy_from_slice(&seen.nonce.to_le_bytes());
    block[56..64].copy_from_slice(&seen.fence.get().to_le_bytes());
    block[64..72].copy_from_slice(&seen.since.as_nanos().to_le_bytes());
    let sum = crc32c::crc32c(&block[..LEN - 4]);
    block[LEN - 4..].copy_from_slice(&sum.to_le_bytes());
    block
}

fn decode(bytes: &[u8]) -> Option<Observation> {
    let block: &[u8; LEN] = bytes.try_into().ok()?;
    let (body, sum) = block.split_at(LEN - 4);
    if sum != crc32c::crc32c(body).to_le_bytes() || !body.starts_with(&MAGIC) {
        return None;
    }
    Some(Observation {
        member: MemberId::from_bytes(body[8..40].try_into().ok()?),
        nonce: u128::from_le_bytes(body[40..56].try_into().ok()?),
        fence: Fence::new(u64::from_le_bytes(body[56..64].try_into().ok()?)),
        since: Moment::from_nanos(u64::from_le_bytes(body[64..72].try_into().ok()?)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observation_survives_a_round_trip_and_damage_is_found() {
        let seen = Observation {
            member: MemberId::from_bytes([7; 32]),
            nonce: 1 << 100,
            fence: Fence::new(9),
            since: Moment::from_nanos(12_345),
        };
        let block = encode(&seen);
        assert_eq!(decode(&block), Some(seen));
        for at in 0..LEN {
            let mut damaged = block;
            damaged[at] ^= 1;
            assert_eq!(decode(&damaged), None, "byte {at}");
        }
    }
}
