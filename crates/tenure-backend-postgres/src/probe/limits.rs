//! How much room there is, and what ends or slows what we do. Pure, too.

use std::time::Duration;

use tenure_core::probe::good;
use tenure_core::{Finding, Standing};

use super::Place;
use super::asked::Asked;
use crate::advisory::most_locks;
use crate::config::Room;

/// Who may hold fewer locks than this is told.
const FEW_LOCKS: i64 = 100;
/// How many sessions a process needs, at least and at most.
const LEASE_SESSIONS: (i64, i64) = (3, 8);
const ADVISORY_SESSIONS: (i64, i64) = (3, 48);
/// A connection that is idle for so long is alive, in milliseconds.
const IDLE: i64 = 60_000;
/// What a statement may take that waits for a row, in milliseconds.
const WAITS: i64 = 2_000;
/// A transaction that is open for so long keeps dead rows from being removed.
const OLD: Duration = Duration::from_secs(600);

pub(super) fn all(asked: &Asked, place: &Place) -> Vec<Finding> {
    let mut all = vec![connections(asked, place), timeouts(asked, place.room)];
    match place.room {
        Room::Lease => all.push(vacuum(asked)),
        Room::Advisory => all.push(head_room(asked, place)),
    }
    all
}

/// How many locks fit into the server's table.
fn head_room(asked: &Asked, place: &Place) -> Finding {
    let number = |name: &str| asked.number(name).unwrap_or_default();
    let sessions = number("max_connections") + number("max_prepared_transactions");
    let capacity = number("max_locks_per_transaction") * sessions;
    let most = most_locks(place.max_locks, capacity, asked.locks);
    let says = format!(
        "the server has room for {capacity} locks of all sessions, {} are taken: this process takes up \
         to {most}",
        asked.locks
    );
    let finding = match FEW_LOCKS <= most || place.max_locks.is_some() {
        true => good("head_room", says),
        false => {
            let help = "raise max_locks_per_transaction; a full table fails everybody's statements";
            Finding::new("head_room", Standing::Note, says).with_help(help)
        }
    };
    finding.with_fact("capacity", capacity).with_fact("taken", asked.locks).with_fact("most", most)
}

/// How many sessions the server has left.
fn connections(asked: &Asked, place: &Place) -> Finding {
    let number = |name: &str| asked.number(name).unwrap_or_default();
    let kept = match asked.superuser {
        true => 0,
        false => number("superuser_reserved_connections") + number("reserved_connections"),
    };
    let most = number("max_connections");
    let free = (most - kept - asked.sessions).max(0);
    let (least, usual) = match place.room {
        Room::Lease => LEASE_SESSIONS,
        Room::Advisory => ADVISORY_SESSIONS,
    };
    let says = format!(
        "{free} of the server's {most} sessions are free; a process of ours takes {least} to {usual}"
    );
    let finding = if place.pooled {
        good("connections", format!("{says}, of the pooler's"))
    } else if free < least {
        Finding::new("connections", Standing::Bad, says)
            .with_help("raise max_connections, or put a pooler in between and use `postgres://`")
    } else if free < usual {
        Finding::new("connections", Standing::Note, says)
            .with_help("raise max_connections, or end sessions that nobody needs")
    } else {
        good("connections", says)
    };
    finding.with_fact("free", free).with_fact("max_connections", most)
}

/// What the server ends by itself.
fn timeouts(asked: &Asked, room: Room) -> Finding {
    let ms = |name: &str| asked.number(name).filter(|ms| 0 < *ms);
    let shown = |ms: i64| format!("{:?}", Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
    let note =
        |says: String, help: &str| Finding::new("timeouts", Standing::Note, says).with_help(help);
    let short = |name: &'static str| {
        ms(name).filter(|ms| *ms < WAITS).map(|ms| format!("{name} is {}", shown(ms)))
    };
    let cut: Vec<_> =
        ["statement_timeout", "transaction_timeout"].into_iter().filter_map(short).collect();
    let finding = if room == Room::Advisory {
        good("timeouts", "sessions with locks set their own: a silent one ends with its ttl")
    } else if !cut.is_empty() {
        note(
            format!("{}: it may cut off what waits for a row or the disk", cut.join(", ")),
            "let it be 2 s or more for this user: ALTER ROLE … SET statement_timeout",
        )
    } else if let Some(idle) = ms("idle_session_timeout").filter(|idle| *idle < IDLE) {
        note(
            format!(
                "idle_session_timeout is {}: connections that are ended so come back by themselves, and \
                 cost a moment each time",
                shown(idle)
            ),
            "let it be 0 or a minute for this user: ALTER ROLE … SET idle_session_timeout",
        )
    } else {
        good("timeouts", "the server cuts off nothing that locks need")
    };
    finding
        .with_fact("statement_timeout_ms", asked.number("statement_timeout"))
        .with_fact("idle_session_timeout_ms", asked.number("idle_session_timeout"))
}

/// Whether dead rows are removed: each turn leaves one.
fn vacuum(asked: &Asked) -> Finding {
    let old = Duration::from_secs(u64::try_from(asked.oldest_s.unwrap_or_default()).unwrap_or(0));
    let note =
        |says: String, help: &str| Finding::new("vacuum", Standing::Note, says).with_help(help);
    let finding = if asked.is_off("autovacuum") || asked.is_off("track_counts") {
        note(
            "autovacuum is off: dead rows stay, and locks get slower".to_owned(),
            "set autovacuum and track_counts to on",
        )
    } else if OLD <= old {
        note(
            format!(
                "a transaction is open for {old:?}: dead rows stay for as long, and locks get slower"
            ),
            "end transactions that nobody needs: pg_stat_activity shows them by xact_start",
        )
    } else {
        good("vacuum", "dead rows are removed as they come")
    };
    finding.with_fact("oldest_transaction_s", asked.oldest_s)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(settings: &[(&str, &str)]) -> Asked {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Asked { settings: settings.iter().map(owned).collect(), ..Asked::default() }
    }

    fn place(room: Room) -> Place {
        Place { room, pooled: false, listens: false, max_locks: None, schema: "tenure".into() }
    }

    #[test]
    fn a_table_that_is_nearly_full_is_told() {
        let at = |locks| {
            let settings = [("max_locks_per_transaction", "64"), ("max_connections", "100")];
            let finding = head_room(&Asked { locks, ..asked(&settings) }, &place(Room::Advisory));
            (finding.standing, finding.facts["most"].as_i64())
        };
        assert_eq!(at(100), (Standing::Good, Some(3100)));
        assert_eq!(at(3150), (Standing::Note, Some(50)));
    }

    #[test]
    fn sessions_that_are_left_are_counted() {
        let at = |sessions| {
            let settings = [("max_connections", "60"), ("superuser_reserved_connections", "3")];
            let asked = Asked { sessions, ..asked(&settings) };
            let of = |room| connections(&asked, &place(room)).standing;
            (of(Room::Lease), of(Room::Advisory))
        };
        assert_eq!(at(2), (Standing::Good, Standing::Good));
        assert_eq!(at(20), (Standing::Good, Standing::Note));
        assert_eq!(at(56), (Standing::Bad, Standing::Bad));
    }

    #[test]
    fn what_the_server_cuts_off_is_told_where_it_matters() {
        for (name, value, standing) in [
            ("statement_timeout", "0", Standing::Good),
            ("statement_timeout", "500", Standing::Note),
            ("idle_session_timeout", "5000", Standing::Note),
            ("idle_session_timeout", "600000", Standing::Good),
        ] {
            let asked = asked(&[(name, value)]);
            assert_eq!(timeouts(&asked, Room::Lease).standing, standing, "{name} {value}");
            assert_eq!(timeouts(&asked, Room::Advisory).standing, Standing::Good);
        }
        assert_eq!(vacuum(&asked(&[("autovacuum", "off")])).standing, Standing::Note);
        let old = Asked { oldest_s: Some(3600), ..asked(&[("autovacuum", "on")]) };
        assert_eq!(vacuum(&old).standing, Standing::Note);
    }
}
