//! Space that a process keeps for the day when the disk is full.
//!
//! A lock has to be released then, too, and a release writes a record. One file per process is
//! enough: the record that it replaces gives its space back.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::io::Errno;

use crate::layout;
use crate::platform::{self, Open};
use crate::room::{LockDir, Room};

/// How much space is kept: a block, enough for an ordinary record.
const SPACE: usize = 4096;

#[derive(Debug, Default)]
pub(crate) struct Spare {
    /// The process's id; 0 as long as it has no file of its own.
    process: AtomicU64,
    is_there: AtomicBool,
}

impl Spare {
    /// Keeps space from now on, for the process with this id.
    pub(crate) fn keep(&self, room: &Room, process: u64) {
        self.process.store(process, Ordering::Relaxed);
        self.refill(room);
    }

    /// Keeps space again if it was spent. Without any to be had there is none.
    pub(crate) fn refill(&self, room: &Room) {
        let process = self.process.load(Ordering::Relaxed);
        if process == 0
            || self.is_there.load(Ordering::Relaxed)
            || self.is_there.swap(true, Ordering::AcqRel)
        {
            return;
        }
        let kept = platform::open(&room.root, layout::PROCS, Open::Directory)
            .and_then(|procs| room.create_with(procs, &layout::spare(process), &[0; SPACE]));
        if kept.is_err() {
            self.is_there.store(false, Ordering::Release);
        }
    }

    /// Makes the file `name` of the space that was kept; `false` if there is none, or too little.
    pub(crate) fn spend(&self, room: &Room, dir: &LockDir, name: &str, bytes: &[u8]) -> bool {
        if SPACE < bytes.len() || !self.is_there.swap(false, Ordering::AcqRel) {
            return false;
        }
        let file = layout::spare(self.process.load(Ordering::Relaxed));
        let moved = platform::open(&room.root, layout::PROCS, Open::Directory)
            .and_then(|procs| platform::rename_into(procs, &file, &dir.fd, name));
        if moved.is_err() {
            return false;
        }
        let written = write(room, dir, name, bytes);
        if written.is_err() {
            let _ = platform::unlink(&dir.fd, name);
        }
        written.is_ok()
    }

    /// Gives the space back.
    pub(crate) fn drop_it(&self, room: &Room) {
        let process = self.process.swap(0, Ordering::Relaxed);
        if process != 0
            && let Ok(procs) = platform::open(&room.root, layout::PROCS, Open::Directory)
        {
            let _ = platform::unlink(procs, &layout::spare(process));
        }
    }
}

fn write(room: &Room, dir: &LockDir, name: &str, bytes: &[u8]) -> Result<(), Errno> {
    let fd = platform::open(&dir.fd, name, Open::Write)?;
    platform::write_at_start(&fd, bytes)?;
    platform::truncate(&fd, bytes.len() as u64)?;
    if room.durable {
        platform::sync(&fd)?;
    }
    Ok(())
}
