//! One lock for every store: vocabulary, rules, store traits and the manager.
//!
//! In reading order.

pub mod backend;
mod capability;
pub mod clock;
mod error;
pub mod machine;
mod name;
mod owner;
pub mod register;
mod token;
mod values;
mod view;

/// The longest value a lock keeps, in bytes.
pub const VALUE_MAX: usize = 1024 * 1024;

pub use capability::{Capabilities, EndsWith, JudgedBy, Wakes};
pub use error::{Error, ErrorKind, Result};
pub use name::LockName;
pub use owner::{Details, Owner};
pub use token::{ClaimId, HolderId, MemberId, Token};
pub use values::{Fence, Micros, Priority, Seats, Ttl};
pub use view::{HolderView, Utc, ValueView, View, WaiterView};
