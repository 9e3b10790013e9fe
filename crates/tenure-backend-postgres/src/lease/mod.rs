//! Leases in a table: one row per lock, the machine's rules in functions on the server.
//!
//! The tree: `install` for what has to be on the server, `turn` and `reply` for what is sent and said,
//! `link` for calls that share a connection and `links` for one link per runtime, `wake` for who
//! hears of grants, `backend` for the verbs. The SQL stands in `sql/`.

mod install;

mod backend;
mod turn;
mod reply;

mod links;
mod link;
mod wake;

pub use backend::LeaseBackend;
pub use install::install_sql;
pub(crate) use install::{VERSION, refuse_newer, run};
