//! What can go wrong, in which direction, and for whom.

use std::time::Duration;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the client to the server: requests.
    ToServer,
    /// From the server to the client: replies.
    ToClient,
}

impl Direction {
    /// Both of them.
    pub const BOTH: [Self; 2] = [Self::ToServer, Self::ToClient];

    /// The other one.
    #[must_use]
    pub fn opposite(self) -> Self {
        match self {
            Self::ToServer => Self::ToClient,
            Self::ToClient => Self::ToServer,
        }
    }
}

/// What happens to bytes of one direction of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Fault {
    /// Nothing goes wrong.
    #[default]
    Pass,
    /// Bytes arrive late, in order: by a time, and up to `jitter` more.
    Delay {
        /// The least delay.
        by: Duration,
        /// The most that is added to it at random.
        jitter: Duration,
    },
    /// Bytes, and the end of the stream, are held back until another fault is set. None are lost.
    Stall,
    /// Bytes, and the end of the stream, disappear.
    ///
    /// No TCP delivers a stream with a hole: a connection that lost bytes is reset as soon as this
    /// fault is replaced.
    Swallow,
    /// So many bytes pass, counted from when this is set; then it ends.
    After {
        /// How many bytes pass.
        bytes: u64,
        /// What comes then.
        end: End,
    },
    /// Bytes arrive in small portions.
    Drip {
        /// How many bytes at once.
        bytes: usize,
        /// How often.
        every: Duration,
    },
    /// Some bytes that come from now on are not what was sent.
    Mutate {
        /// What happens to them.
        how: Mutation,
        /// One in so many, on average.
        one_in: u32,
    },
    /// Something else arrives in the place of what is sent next, which is what is read from the
    /// sender at once. Then nothing goes wrong.
    Replace(Vec<u8>),
}

/// How a connection ends, or seems to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Further bytes disappear, and the connection stays open: as with [`Fault::Swallow`].
    Silence,
    /// When further bytes come, they disappear, and both sides are reset. What came was sent, and
    /// nobody will know.
    Loss,
    /// Both sides are reset at once.
    Reset,
    /// The receiver sees the end of the stream. The other direction goes on.
    Eof,
    /// The connection to the server is closed; the client's stays open, and silent, until the
    /// proxy heals: then it is reset.
    HalfOpen,
}

/// What happens to a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// One of its bits is flipped.
    Flip,
    /// A random byte comes before it.
    Insert,
    /// It is missing.
    Delete,
}

/// Which connections a fault is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Those that there are and those to come.
    All,
    /// Those that there are.
    Existing,
    /// Those to come.
    New,
    /// One that there is: connections are numbered from 1, as they are accepted.
    Only(u64),
}
