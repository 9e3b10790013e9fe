//! What is sent: turns of locks, many in one script.

use std::borrow::Cow;
use std::time::Duration;

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
    /// The short way first, and the rules inside a function that is made when they are needed.
    fn new(flags: &str, clock: &str, page: &str, short: &str, verbs: &str) -> Self {
        let head = include_str!("lua/head.lua").replace(CLOCK, clock);
        let rules = include_str!("lua/rules.lua");
        let queue = include_str!("lua/queue.lua").replace(PAGE, page);
        let (machine, take) = (include_str!("lua/machine.lua"), include_str!("lua/take.lua"));
        let in_line = |text: &str| text.replace(SHORT_WAY, short);
        let (alone, run) =
            (in_line(include_str!("lua/alone.lua")), in_line(include_str!("lua/run.lua")));
        let text = [&head, &*alone, rules, &queue, machine, verbs, take, &run].join("\n");
        let text = format!("#!lua{flags}\n{text}");
        let sha = Script::new(&text).get_hash().to_owned();
        Self { text, sha }
    }
}

/// How the scripts ask for the time.
const CLOCK: &str = "call('TIME')";
/// Where a short way stands in line.
const SHORT_WAY: &str = "SHORT_WAY";
/// How many waiters a page has.
const PAGE: &str = "PAGE = 32";

impl Scripts {
    /// Scripts that ask the server for the time.
    pub(crate) fn new() -> Self {
        Self::of(CLOCK, PAGE)
    }

    /// Scripts that ask a hash for the time, which a test sets; and with pages so small that few waiters
    /// fill some.
    pub(crate) fn with_test_clock(key: &str) -> Self {
        Self::of(&format!("call('HMGET', '{key}', 's', 'us')"), "PAGE = 2")
    }

    /// Scripts of a server that votes: the same for both kinds, but for what it needs memory for.
    pub(crate) fn of_voter() -> Self {
        let source = |flags: &str| {
            let text = format!("#!lua{flags}\n{}", include_str!("lua/voter.lua"));
            let sha = Script::new(&text).get_hash().to_owned();
            Source { text, sha }
        };
        Self { acquire: source(""), other: source(" flags=allow-oom") }
    }

    fn of(clock: &str, page: &str) -> Self {
        Self {
            acquire: Source::new(
                "",
                clock,
                page,
                include_str!("lua/short_acquire.lua"),
                include_str!("lua/acquire.lua"),
            ),
            other: Source::new(
                " flags=allow-oom",
                clock,
                page,
                include_str!("lua/short_others.lua"),
                include_str!("lua/verbs.lua"),
            ),
        }
    }

    fn source(&self, kind: Kind) -> &Source {
        match kind {
            Kind::Acquire => &self.acquire,
            Kind::Other => &self.other,
        }
    }

    /// The command that takes these turns; with the script itself if the server does not know it.
    /// Whoever hears nothing is passed over if the connection has been there for a while, or longer
    /// than they have said nothing; nobody is if it is not said for how long.
    pub(crate) fn command(
        &self,
        kind: Kind,
        heard_for: Option<Duration>,
        turns: &[&Turn],
        known: bool,
    ) -> Cmd {
        let source = self.source(kind);
        let size: usize = turns.iter().map(|t| t.words.size() + 2 * t.keys.cell.len()).sum();
        let mut cmd = Cmd::with_capacity(8 + 5 * turns.len(), 512 + size);
        if known {
            cmd.arg("EVALSHA").arg(&source.sha);
        } else {
            cmd.arg("EVAL").arg(&source.text);
        }
        cmd.arg(2 * turns.len());
        for turn in turns {
            cmd.arg(&turn.keys.lock).arg(&turn.keys.cell);
        }
        match heard_for {
            Some(time) => cmd.arg(micros(time)),
            None => cmd.arg(""),
        };
        if let Some((first, others)) = turns.split_first()
            && others.iter().all(|t| t.words.is_like(&first.words))
        {
            let Words { verb, what, origin, .. } = &first.words;
            cmd.arg("1").arg(&**verb).arg(what).arg(origin);
            for turn in turns {
                add_member(&mut cmd, turn.words.member);
            }
        } else {
            cmd.arg("0");
            for Words { verb, member, what, origin } in turns.iter().map(|t| &t.words) {
                cmd.arg(&**verb);
                add_member(&mut cmd, *member);
                cmd.arg(what).arg(origin);
            }
        }
        cmd
    }
}

/// One turn of one lock.
#[derive(Clone, Debug)]
pub(crate) struct Turn {
    pub(crate) kind: Kind,
    pub(crate) keys: Keys,
    pub(crate) words: Words,
}

/// The words of a turn.
#[derive(Clone, Debug)]
pub(crate) struct Words {
    verb: Cow<'static, str>,
    member: Option<MemberId>,
    what: Vec<u8>,
    origin: Vec<u8>,
}

impl Words {
    /// What is asked of a member.
    pub(crate) fn new(verb: impl Into<Cow<'static, str>>, member: MemberId) -> Self {
        Self { member: Some(member), ..Self::of_nobody(verb) }
    }

    /// What is asked of a lock.
    pub(crate) fn of_nobody(verb: impl Into<Cow<'static, str>>) -> Self {
        Self { verb: verb.into(), member: None, what: Vec::new(), origin: Vec::new() }
    }

    fn size(&self) -> usize {
        self.verb.len() + 64 + self.what.len() + self.origin.len() + 32
    }

    /// Whether another member asks the same.
    fn is_like(&self, other: &Self) -> bool {
        self.verb == other.verb && self.what == other.what && self.origin == other.origin
    }

    /// Where a claim comes from: who claims, and where it is told.
    pub(crate) fn from(mut self, details: &str, channel: &str) -> Self {
        let mut origin = Self::of_nobody("");
        origin.what.reserve(details.len() + channel.len() + 8);
        let origin = origin.list(2).text(details).text(channel);
        self.origin = origin.what;
        self
    }

    /// A duration as the short ways read it.
    pub(crate) fn double(mut self, duration: Duration) -> Self {
        #[allow(clippy::cast_precision_loss, reason = "it is below 2^53")]
        let number = micros(duration) as f64;
        self.what.extend_from_slice(&number.to_le_bytes());
        self
    }

    /// A flag as the short ways read it.
    pub(crate) fn byte(mut self, flag: bool) -> Self {
        self.what.push(flag.into());
        self
    }

    /// What the verb needs, as a packed list, which has to be added item by item.
    pub(crate) fn list(mut self, count: u32) -> Self {
        // Longer texts make their own room. Writing to memory does not fail.
        self.what.reserve(4 * count as usize);
        let _ = rmp::encode::write_array_len(&mut self.what, count);
        self
    }

    pub(crate) fn text(self, text: &str) -> Self {
        self.packed(text.as_bytes())
    }

    pub(crate) fn packed(mut self, bytes: &[u8]) -> Self {
        // As text is written: Lua knows no difference, and the server's reader no other form.
        let len = u32::try_from(bytes.len()).expect("values are bounded");
        let _ = rmp::encode::write_str_len(&mut self.what, len);
        self.what.extend_from_slice(bytes);
        self
    }

    pub(crate) fn number(mut self, number: u64) -> Self {
        let _ = rmp::encode::write_uint(&mut self.what, number);
        self
    }

    pub(crate) fn signed(mut self, number: i32) -> Self {
        let _ = rmp::encode::write_sint(&mut self.what, number.into());
        self
    }

    pub(crate) fn flag(self, flag: bool) -> Self {
        self.number(flag.into())
    }

    pub(crate) fn micros(self, duration: Duration) -> Self {
        self.number(micros(duration))
    }

    pub(crate) fn seats(self, seats: tenure_core::Seats) -> Self {
        let (take, of) = match seats {
            tenure_core::Seats::Some { take, of } => (take, of),
            _ => (0, 0),
        };
        self.number(take.into()).number(of.into())
    }
}

/// Microseconds as the scripts count them: 30 days are the most, and a double counts 285 years of
/// them exactly.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).min(1 << 52)
}

/// Adds a member's public id as the server keeps it, or nothing.
fn add_member(cmd: &mut Cmd, member: Option<MemberId>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let Some(member) = member else {
        cmd.arg("");
        return;
    };
    let mut text = [0_u8; 64];
    for (pair, byte) in text.chunks_exact_mut(2).zip(member.as_bytes()) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    cmd.arg(&text[..]);
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
