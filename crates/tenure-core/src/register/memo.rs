//! What records said that were last read or written here.
//!
//! A record that reads as the last one did says the same: most of the time that a turn takes outside
//! of the store goes into understanding records, and who releases a lock, or takes it again, finds
//! what it wrote itself.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::machine::Cell;
use crate::name::LockName;

/// How many locks are remembered.
const MAX: usize = 64;
/// The longest record that is worth its memory.
const LONGEST: usize = 16 * 1024;

#[derive(Default)]
pub(super) struct Memo(Mutex<HashMap<LockName, (Vec<u8>, Cell)>>);

impl Memo {
    /// What these bytes say, if they are those that were noted last.
    pub(super) fn recall(&self, name: &LockName, bytes: &[u8]) -> Option<Cell> {
        let noted = self.0.lock();
        noted.get(name).filter(|(known, _)| known == bytes).map(|(_, cell)| cell.clone())
    }

    pub(super) fn note(&self, name: &LockName, bytes: Vec<u8>, cell: &Cell) {
        if LONGEST < bytes.len() {
            return;
        }
        let mut noted = self.0.lock();
        if noted.len() == MAX && !noted.contains_key(name) {
            noted.clear();
        }
        noted.insert(name.clone(), (bytes, cell.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_bytes_that_were_noted_are_recalled_and_only_so_many() {
        let memo = Memo::default();
        let name = |n: usize| LockName::new(format!("{n}")).expect("valid");
        for n in 0..=MAX {
            memo.note(&name(n), vec![0; 8], &Cell::default());
        }
        assert!(memo.recall(&name(MAX), &[0; 8]).is_some());
        assert!(memo.recall(&name(MAX), &[1; 8]).is_none());
        assert!(memo.recall(&name(0), &[0; 8]).is_none());
        assert!(memo.0.lock().len() <= MAX);
        memo.note(&name(0), vec![0; LONGEST + 1], &Cell::default());
        assert!(memo.recall(&name(0), &[0; LONGEST + 1]).is_none());
    }
}
