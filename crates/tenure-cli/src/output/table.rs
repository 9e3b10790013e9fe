//! Locks for people: one at length, or many in a table.

use std::fmt::Write as _;
use std::time::Duration;

use tenure::{Actor, HolderView, JudgedBy, LockManager, Micros, Utc, ValueView, View};

use super::text::{count, duration, safe, shortened, width};

/// The widest name of a lock or owner in a table, in columns.
const WIDEST: usize = 60;
/// The most of a value that is shown.
const VALUE: usize = 200;

/// When somebody looked at a lock, and what a look can tell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    now: Micros,
    /// Whether a lease ends by what observers see: then a record may say that somebody holds a lock
    /// whose time is over, until somebody asks for it.
    observed: bool,
}

impl Look {
    /// A look now.
    pub(crate) fn of(locks: &LockManager) -> Self {
        let observed = locks.capabilities().judged_by == JudgedBy::Observation;
        Self { now: locks.clock().wall(), observed }
    }

    /// Whether the holder's time is over by what it said itself, on its own clock.
    fn is_past(self, holder: &HolderView) -> bool {
        self.observed && holder.until < self.now
    }

    /// How long the holder has been silent. Whoever looks for the first time has seen no silence
    /// yet, and takes the holder's word for when it last spoke.
    fn quiet_for(self, holder: &HolderView) -> Duration {
        if self.observed {
            holder.quiet_for.max(self.now.since(holder.renewed))
        } else {
            holder.quiet_for
        }
    }
}

/// One lock at length.
pub(crate) fn lock(view: &View, store: &str, look: Look) -> String {
    let mut text = format!("{}: {}\n", safe(view.name.as_str()), state(view));
    let mut line = |label: &str, value: &str| {
        writeln!(text, "  {label:<9}{value}").expect("a string takes everything");
    };
    for holder in &view.holders {
        line("held by", &who(&holder.details));
        let until = if holder.detached { "until (detached)" } else { "until" };
        let past = if look.is_past(holder) { " by its own word, not seen since" } else { "" };
        line("", &format!("since {}, {until} {}{past}", Utc(holder.since), Utc(holder.until)));
        let ago = duration(look.quiet_for(holder));
        line("", &format!("last renewed {ago} ago, ttl {}", duration(holder.ttl)));
        line("", &format!("{}, fence {}", holder.seats, holder.fence));
        if let Some(metadata) = &holder.details.metadata {
            line("", &format!("metadata {}", safe(metadata)));
        }
    }
    for (waiter, position) in view.waiters.iter().zip(1..) {
        line("waiting", &format!("{position}. {}", who(&waiter.details)));
        let upgrade = if waiter.upgrade { ", to upgrade" } else { "" };
        let (seats, points, since) = (waiter.seats, waiter.priority.get(), Utc(waiter.since));
        line("", &format!("   {seats}{upgrade}, priority {points}, since {since}"));
    }
    if let Some(value) = &view.value {
        line("value", &shown(value));
        let (fence, written) = (value.fence, Utc(value.written));
        let stale = view.is_locked() && view.holders.iter().all(|holder| holder.fence != fence);
        let whose = if stale { ", not by this holder" } else { "" };
        line(
            "",
            &format!(
                "written {written} under fence {fence}{whose}, kept until {}",
                Utc(value.keep_until)
            ),
        );
    }
    line("fence", &view.fence.to_string());
    line("store", &safe(store));
    text
}

fn state(view: &View) -> String {
    match view.holders.as_slice() {
        [] => "free".to_owned(),
        [only] => format!("held ({})", only.seats),
        many => format!("held by {}", count(many.len(), "holder")),
    }
}

fn who(details: &tenure::Details) -> String {
    let owner = &details.owner;
    // What was drawn is for programs.
    let actor = details.actor.as_deref().filter(|actor| !Actor::is_drawn(actor));
    let actor = actor.map_or(String::new(), |actor| format!(", for {actor}"));
    safe(&format!("{} (host {}, pid {}{actor})", owner.label, owner.host, owner.pid))
}

fn shown(value: &ValueView) -> String {
    let bytes = count(value.bytes.len(), "byte");
    match std::str::from_utf8(&value.bytes) {
        Ok("") => bytes,
        Ok(text) => format!("{bytes}: {}", shortened(&safe(text), VALUE)),
        Err(_) => format!("{bytes} that are not text"),
    }
}

/// Many locks, one a line.
pub(crate) fn locks(views: &[(View, Look)]) -> String {
    let head = ["NAME", "HELD BY", "MODE", "SINCE", "UNTIL", "FENCE", "WAITING"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for (view, look) in views {
        let fence = view.fence.to_string();
        let waiting = view.waiters.len().to_string();
        let name = shortened(&safe(view.name.as_str()), WIDEST);
        let (by, mode, since, until) = match view.holders.first() {
            Some(holder) => cells(view, holder, *look),
            None => ("-".to_owned(), "free".to_owned(), "-".to_owned(), "-".to_owned()),
        };
        rows.push(vec![name, by, mode, since, until, fence, waiting]);
    }
    aligned(&rows)
}

fn cells(view: &View, oldest: &HolderView, look: Look) -> (String, String, String, String) {
    let mut by = shortened(&safe(&oldest.details.owner.label), WIDEST);
    if 1 < view.holders.len() {
        write!(by, " +{}", view.holders.len() - 1).expect("a string takes everything");
    }
    let past = if look.is_past(oldest) { ", not seen since" } else { "" };
    let until = format!("{}{past}", Utc(oldest.until));
    (by, oldest.seats.to_string(), Utc(oldest.since).to_string(), until)
}

/// Rows with columns as wide as their widest cell.
pub(crate) fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let widest = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| width(cell)).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(widest).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, columns) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.push_str(&" ".repeat(columns - width(cell) + 2));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_by_what_is_seen() {
        let rows = [["a", "b"], ["漢字", "c"], ["", "d"]];
        let rows: Vec<Vec<String>> =
            rows.iter().map(|row| row.iter().map(ToString::to_string).collect()).collect();
        assert_eq!(aligned(&rows), "a     b\n漢字  c\n      d\n");
    }
}
