//! What is sent: turns of locks, many in one script.

use redis::{Cmd, Script};
use tenure_core::MemberId;

use crate::keys::Keys;

/// Which of the two scripts a turn needs. An acquire is refused by a server that is out of memory;
/// whoever holds must be able to renew and release there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Acquire,
    Other,
}

/// The scripts, put together from their parts.
#[derive(Debug)]
pub(crate) struct Scripts {
    acquire: Source,
    other: Source,
}

#[derive(Debug)]
struct Source {
    text: String,
    sha: String,
}

impl Source {
    fn new(flags: &str, clock: &str, verbs: &str) -> Self {
        let machine = include_str!("lua/machine.lua").replace(CLOCK, clock);
        let text = format!("#!lua{flags}\n{machine}\n{verbs}\n{}", include_str!("lua/run.lua"));
        let sha = Script::new(&text).get_hash().to_owned();
        Self { text, sha }
    }
}

/// How the scripts ask for the time.
const CLOCK: &str = "call('TIME')";

impl Scripts {
    /// Scripts that ask the server for the time.
    pub(crate) fn new() -> Self {
        Self::with_clock(CLOCK)
    }

    /// Scripts that ask a hash for the time, which a test sets.
    pub(crate) fn with_test_clock(key: &str) -> Self {
        Self::with_clock(&format!("call('HMGET', '{key}', 's', 'us')"))
    }

    fn with_clock(clock: &str) -> Self {
        Self {
            acquire: Source::new("", clock, include_str!("lua/acquire.lua")),
            other: Source::new(" flags=allow-oom", clock, include_str!("lua/verbs.lua")),
        }
    }

    fn source(&self, kind: Kind) -> &Source {
        match kind {
            Kind::Acquire => &self.acquire,
            Kind::Other => &self.other,
        }
    }

    /// The command that takes these turns; with the script itself if the server does not know it.
    pub(crate) fn command(&self, kind: Kind, heard_only: bool, turns: &[Turn], known: bool) -> Cmd {
        let source = self.source(kind);
        let size: usize = turns.iter().map(|t| t.what.len() + 2 * t.keys.cell.len() + 48).sum();
        let mut cmd = Cmd::with_capacity(4 + 3 * turns.len(), 128 + size);
        if known {
            cmd.arg("EVALSHA").arg(&source.sha);
        } else {
            cmd.arg("EVAL").arg(&source.text);
        }
        cmd.arg(2 * turns.len());
        for turn in turns {
            cmd.arg(&turn.keys.lock).arg(&turn.keys.cell);
        }
        cmd.arg(if heard_only { "1" } else { "0" });
        for turn in turns {
            cmd.arg(&turn.what);
        }
        cmd
    }
}

/// One turn of one lock.
#[derive(Clone, Debug)]
pub(crate) struct Turn {
    pub(crate) kind: Kind,
    pub(crate) keys: Keys,
    /// The verb and what it needs, as MessagePack.
    pub(crate) what: Vec<u8>,
}

/// Writes what a verb needs.
pub(crate) struct Words(Vec<u8>);

impl Words {
    /// A verb with `count` more words.
    pub(crate) fn new(verb: &str, count: u32) -> Self {
        let mut words = Self(Vec::with_capacity(96));
        // Writing to memory does not fail.
        let _ = rmp::encode::write_array_len(&mut words.0, count + 1);
        words.text(verb)
    }

    /// Several words as one, without a verb.
    pub(crate) fn list(count: u32) -> Self {
        let mut words = Self(Vec::with_capacity(64));
        let _ = rmp::encode::write_array_len(&mut words.0, count);
        words
    }

    /// Words on their own, to be put behind others.
    pub(crate) fn loose() -> Self {
        Self(Vec::with_capacity(320))
    }

    pub(crate) fn text(mut self, text: &str) -> Self {
        let _ = rmp::encode::write_str(&mut self.0, text);
        self
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        // As text is written: Lua knows no difference, and the server's reader no other form.
        let len = u32::try_from(bytes.len()).expect("values are bounded");
        let _ = rmp::encode::write_str_len(&mut self.0, len);
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn number(mut self, number: u64) -> Self {
        let _ = rmp::encode::write_uint(&mut self.0, number);
        self
    }

    pub(crate) fn signed(mut self, number: i32) -> Self {
        let _ = rmp::encode::write_sint(&mut self.0, number.into());
        self
    }

    pub(crate) fn flag(self, flag: bool) -> Self {
        self.number(flag.into())
    }

    pub(crate) fn micros(self, duration: std::time::Duration) -> Self {
        // 30 days are the most; a double counts 285 years of microseconds exactly.
        self.number(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).min(1 << 52))
    }

    pub(crate) fn seats(self, seats: tenure_core::Seats) -> Self {
        let (take, of) = match seats {
            tenure_core::Seats::Some { take, of } => (take, of),
            _ => (0, 0),
        };
        self.number(take.into()).number(of.into())
    }

    pub(crate) fn member(self, member: MemberId) -> Self {
        self.text(&hex(member))
    }

    pub(crate) fn done(self) -> Vec<u8> {
        self.0
    }
}

/// A member's public id as the server keeps it.
pub(crate) fn hex(member: MemberId) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(64);
    for byte in member.as_bytes() {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// A member's public id, read back.
pub(crate) fn member(text: &[u8]) -> Option<MemberId> {
    let mut bytes = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let digit = |d: u8| u8::try_from(char::from(d).to_digit(16)?).ok();
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(MemberId::from_bytes(bytes))
}
