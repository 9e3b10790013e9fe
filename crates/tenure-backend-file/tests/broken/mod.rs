//! Protocols that look right and are not: the checker must find out each of them.
//!
//! Some are what lock files in the field do, some are one rule of the baton replaced by the rule
//! that comes to mind first.

pub(crate) mod generations;
pub(crate) mod lock_file;
pub(crate) mod rename_renewal;
