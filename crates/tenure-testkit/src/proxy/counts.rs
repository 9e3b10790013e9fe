//! What a proxy has seen and done.

use super::fault::Direction;

/// What a proxy has seen and done since it was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections that were accepted.
    pub accepted: u64,
    /// Connections that are open, at least on the side of the client.
    pub open: u64,
    /// Bytes on their way to the server.
    pub to_server: Traffic,
    /// Bytes on their way to a client.
    pub to_client: Traffic,
    /// How often something went wrong: portions of bytes that were held back, swallowed or
    /// changed, connections that were ended, and times of refusing any.
    pub faults: u64,
    /// Requests or replies that were lost because [the next one](super::FaultProxy::lose_next_reply)
    /// was to be lost, with their connection.
    pub lost: u64,
}

/// Bytes of one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Read from the sender.
    pub arrived: u64,
    /// Written to the receiver.
    pub delivered: u64,
    /// Read from the sender, and thrown away.
    pub swallowed: u64,
}

impl Counts {
    /// The bytes of a direction.
    #[must_use]
    pub fn of(&self, direction: Direction) -> Traffic {
        match direction {
            Direction::ToServer => self.to_server,
            Direction::ToClient => self.to_client,
        }
    }

    pub(super) fn of_mut(&mut self, direction: Direction) -> &mut Traffic {
        match direction {
            Direction::ToServer => &mut self.to_server,
            Direction::ToClient => &mut self.to_client,
        }
    }
}
