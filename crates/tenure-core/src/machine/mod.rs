//! The rules of a lock, as one machine without I/O, clock or async.
//!
//! A lock is a [`Cell`]: holders, queue, fence, value. A [`Turn`] is one transition of it: it
//! first ends what is over, then does one thing that was asked, then hands free seats to the next
//! waiters, all in one step. The memory store and every register run this machine; native stores
//! are tested against it.
//!
//! What always holds, whatever is asked in whatever order (property-tested and model-checked):
//! - nobody holds beside a holder of all seats, and shared seats never exceed their limit;
//! - every grant carries a fence above all before it;
//! - a free seat that the first waiter could take is never left free;
//! - a claim that was withdrawn, and a holder that departed, never come back;
//! - the same claim asked twice is granted once.

mod state;
mod turn;
mod upkeep;
mod codec;

pub use codec::RECORD_MAX;
pub use state::{Cell, Now, Vigil};
pub use turn::{Effects, Lasting, Turn};
