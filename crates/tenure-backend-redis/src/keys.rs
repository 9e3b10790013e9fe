//! What is stored under which key.

use tenure_core::{Error, ErrorKind, LockName, Result};

use crate::slots::Slots;

/// How the key of every cell begins.
const CELLS: &str = "tenure:{";

/// The keys of one lock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Keys {
    /// The lock's own key, which other programs may take.
    pub(crate) lock: String,
    /// The hash with everything else, in the same slot.
    pub(crate) cell: String,
}

impl Keys {
    /// The keys of `name` under `prefix`.
    ///
    /// A lock whose own key has a hash tag has that of its cell, too: `a{b}c` and
    /// `tenure:{b}:a{b}c`. Any other is one: `abc` and `tenure:{abc}`.
    pub(crate) fn of(prefix: &str, name: &LockName, cluster: bool) -> Result<Self> {
        let lock = format!("{prefix}{name}");
        let refuse = |why: &str, help: &str| {
            let error = Error::new(ErrorKind::Invalid, format!("the key {lock:?} {why}"));
            Err(error.with_lock(name).with_help(help).with_nothing_changed())
        };
        if lock.starts_with(CELLS) {
            return refuse(
                "begins like those that keep the state of locks",
                "name the lock otherwise, or put a prefix before all keys: `?prefix=locks:`",
            );
        }
        let cell = match tag(&lock) {
            Some(tag) => format!("{CELLS}{tag}}}:{lock}"),
            None if !lock.contains('}') => format!("{CELLS}{lock}}}"),
            None if cluster => {
                return refuse(
                    "has a `}` and no hash tag: on a cluster its state would lie elsewhere",
                    "name the lock otherwise, or give it a hash tag, or all of them one: \
                     `?prefix={locks}:`",
                );
            }
            None => format!("{CELLS}}}{lock}"),
        };
        Ok(Self { lock, cell })
    }

    /// The slot of both.
    pub(crate) fn slot(&self) -> u16 {
        Slots::of(&self.lock)
    }
}

/// The lock's own key, read back from that of its cell.
pub(crate) fn lock_of(cell: &str) -> Option<&str> {
    let rest = cell.strip_prefix(CELLS)?;
    if let Some(lock) = rest.strip_prefix('}') {
        return Some(lock);
    }
    let (tag, rest) = rest.split_once('}')?;
    match rest.strip_prefix(':') {
        Some(lock) => Some(lock),
        None if rest.is_empty() => Some(tag),
        None => None,
    }
}

/// What a cluster hashes of a key, if not the whole.
pub(crate) fn tag(key: &str) -> Option<&str> {
    let (_, rest) = key.split_once('{')?;
    let (tag, _) = rest.split_once('}')?;
    (!tag.is_empty()).then_some(tag)
}

/// A pattern for `SCAN` that finds all cells.
pub(crate) const ALL_CELLS: &str = "tenure:{*";

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(name: &str, cluster: bool) -> Result<Keys> {
        Keys::of("", &LockName::new(name).expect("a name"), cluster)
    }

    #[test]
    fn a_cell_lies_in_the_slot_of_its_lock_and_says_which_it_is() {
        for (name, cell) in [
            ("orders", "tenure:{orders}"),
            ("a{b}c", "tenure:{b}:a{b}c"),
            ("{b}", "tenure:{b}:{b}"),
            ("a{b", "tenure:{a{b}"),
            ("{a}{b}", "tenure:{a}:{a}{b}"),
        ] {
            let keys = keys(name, true).expect("they lie together");
            assert_eq!(keys.cell, cell);
            assert_eq!(lock_of(&keys.cell), Some(name));
            // `{a{b}`: a tag ends at the first `}` and begins at the first `{`.
            assert_eq!(tag(&keys.cell).unwrap_or(&keys.cell), tag(name).unwrap_or(name));
        }
    }

    #[test]
    fn what_cannot_lie_together_is_refused_on_a_cluster_only() {
        for name in ["a}b", "{}a", "}"] {
            assert_eq!(keys(name, true).unwrap_err().kind(), ErrorKind::Invalid);
            let keys = keys(name, false).expect("one node has no slots");
            assert_eq!(lock_of(&keys.cell), Some(name));
        }
        assert_eq!(keys("tenure:{x}", false).unwrap_err().kind(), ErrorKind::Invalid);
    }

    #[test]
    fn different_locks_have_different_cells() {
        let names = ["b", "a{b}", "{b}", "b}", "{}b", "x{b}", "b}:a{b}", "a{b}c"];
        let cells: std::collections::HashSet<_> =
            names.iter().map(|n| keys(n, false).expect("keys").cell).collect();
        assert_eq!(cells.len(), names.len());
    }
}
