//! Who has which slot of a cluster, as far as anybody here knows; wrong guesses are corrected by
//! the nodes.

use std::fmt;

use parking_lot::Mutex;
use redis::{ConnectionAddr, ConnectionInfo, Value};
use tenure_core::Result;

use crate::error::strange;
use crate::reply::Reader;

/// How many slots there are.
const SLOTS: u16 = 16_384;
/// No node is known.
const NOBODY: u16 = u16::MAX;

/// Where a node is.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Address {
    pub(crate) host: Box<str>,
    pub(crate) port: u16,
}

impl Address {
    /// Reads what a redirection says; a node may leave its own host out.
    pub(crate) fn parse(text: &str, asked: &Address) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        Some(Self::of(host, port.parse().ok()?, asked))
    }

    pub(crate) fn of_info(info: &ConnectionInfo) -> Option<Self> {
        match info.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                Some(Self { host: host.as_str().into(), port: *port })
            }
            _ => None,
        }
    }

    /// How to connect to it: as to another server that is like it.
    pub(crate) fn beside(&self, other: &ConnectionInfo) -> ConnectionInfo {
        let (host, port) = (self.host.to_string(), self.port);
        let addr = match other.addr() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
                let (insecure, tls_params) = (*insecure, tls_params.clone());
                ConnectionAddr::TcpTls { host, port, insecure, tls_params }
            }
            _ => ConnectionAddr::Tcp(host, port),
        };
        other.clone().set_addr(addr)
    }

    fn of(host: &str, port: u16, asked: &Address) -> Self {
        let host = if host.is_empty() || host == "?" { &*asked.host } else { host };
        Self { host: host.into(), port }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// The owner of each slot; shared by all runtimes.
#[derive(Default, Debug)]
pub(crate) struct Slots(Mutex<Table>);

#[derive(Default, Debug)]
struct Table {
    nodes: Vec<Address>,
    /// By slot the place of its owner in `nodes`; empty as long as nothing is known.
    owners: Vec<u16>,
}

impl Slots {
    /// The slot of a key.
    pub(crate) fn of(key: &str) -> u16 {
        let hashed = crate::keys::tag(key).unwrap_or(key);
        // CRC-16/XMODEM.
        let crc = hashed.bytes().fold(0_u16, |crc, byte| {
            (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
                if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
            })
        });
        crc % SLOTS
    }

    pub(crate) fn owner(&self, slot: u16) -> Option<Address> {
        let table = self.0.lock();
        let node = *table.owners.get(usize::from(slot))?;
        table.nodes.get(usize::from(node)).cloned()
    }

    /// All primaries.
    pub(crate) fn nodes(&self) -> Vec<Address> {
        self.0.lock().nodes.clone()
    }

    /// A slot has moved.
    pub(crate) fn moved(&self, slot: u16, to: &Address) {
        let mut table = self.0.lock();
        let node = table.nodes.iter().position(|node| node == to).unwrap_or_else(|| {
            table.nodes.push(to.clone());
            table.nodes.len() - 1
        });
        if let Some(owner) = table.owners.get_mut(usize::from(slot)) {
            *owner = u16::try_from(node).unwrap_or(NOBODY);
        }
    }

    /// Takes an answer to `CLUSTER SLOTS` for true; `asked` is who gave it. Answers whether a node
    /// that was known is gone.
    pub(crate) fn learn(&self, answer: Value, asked: &Address) -> Result<bool> {
        let mut new = Table { nodes: Vec::new(), owners: vec![NOBODY; usize::from(SLOTS)] };
        for range in Reader::new(answer)?.rest() {
            let mut range = Reader::new(range)?;
            let (first, last) = (range.number()?, range.number()?);
            let mut primary = range.array()?;
            let host = primary.text_or_nothing()?.unwrap_or_default();
            let port = u16::try_from(primary.number()?).map_err(|_| strange("a port"))?;
            let owner = Address::of(&host, port, asked);
            let node = new.nodes.iter().position(|node| *node == owner).unwrap_or_else(|| {
                new.nodes.push(owner);
                new.nodes.len() - 1
            });
            if u64::from(SLOTS) <= last || last < first {
                return Err(strange("a range of slots"));
            }
            for slot in first..=last {
                let slot = usize::try_from(slot).map_err(|_| strange("a slot"))?;
                new.owners[slot] = u16::try_from(node).unwrap_or(NOBODY);
            }
        }
        let mut table = self.0.lock();
        let gone = table.nodes.iter().any(|node| !new.nodes.contains(node));
        *table = new;
        Ok(gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    fn at(host: &str, port: u16) -> Address {
        Address { host: host.into(), port }
    }

    #[test]
    fn slots_are_those_of_the_servers() {
        for (key, slot) in
            [("foo", 12182), ("123456789", 12739), ("a{foo}b", 12182), ("{}foo", 9500)]
        {
            assert_eq!(Slots::of(key), slot, "{key}");
        }
    }

    #[test]
    fn the_owners_are_learned_and_corrected() {
        let slots = Slots::default();
        assert_eq!(slots.owner(0), None);
        let range = |first, last, host: Value, port| {
            let node = Value::Array(vec![host, Value::Int(port), text("id")]);
            Value::Array(vec![Value::Int(first), Value::Int(last), node])
        };
        let answer = Value::Array(vec![range(0, 9, text("a"), 1), range(10, 16_383, text(""), 2)]);
        assert!(!slots.learn(answer, &at("seed", 2)).expect("it is understood"));
        assert_eq!(slots.owner(9), Some(at("a", 1)));
        assert_eq!(slots.owner(10), Some(at("seed", 2)));
        slots.moved(9, &at("c", 3));
        assert_eq!(slots.owner(9), Some(at("c", 3)));
        let answer = Value::Array(vec![range(0, 16_383, text("a"), 1)]);
        assert!(slots.learn(answer, &at("a", 1)).expect("it is understood"));
        assert_eq!(slots.nodes(), [at("a", 1)]);
        for bad in [range(0, 16_384, text("a"), 1), range(5, 4, text("a"), 1), Value::Nil] {
            assert!(slots.learn(Value::Array(vec![bad]), &at("a", 1)).is_err());
        }
        assert_eq!(slots.owner(16_383), Some(at("a", 1)), "what is not understood changes nothing");
    }

    #[test]
    fn a_redirection_may_leave_the_host_out() {
        let asked = at("here", 1);
        assert_eq!(Address::parse("b:7", &asked), Some(at("b", 7)));
        assert_eq!(Address::parse(":7", &asked), Some(at("here", 7)));
        assert_eq!(Address::parse("::1:7", &asked), Some(at("::1", 7)));
        assert_eq!(Address::parse("b", &asked), None);
    }
}
