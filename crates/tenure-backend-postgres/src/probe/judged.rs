//! What it means for locks how a server is set up. Pure: from what was asked to what is found.

use tenure_core::probe::{self, good, not_known};
use tenure_core::{Finding, Standing};

use super::Place;
use super::asked::Asked;
use crate::config::Room;

/// The oldest server, as it says its version.
const OLDEST: i32 = 140_000;

/// What is not about limits.
pub(super) fn all(asked: &Asked, place: &Place) -> Vec<Finding> {
    let mut all =
        vec![server(asked), pooler(place), restart(asked, place.room), failover(asked, place.room)];
    match place.room {
        Room::Lease => all.push(probe::clock(asked.clock, "to call clock_timestamp()")),
        Room::Advisory => all.push(visibility(asked)),
    }
    all
}

/// Whether locks can be tried here at all.
pub(super) fn is_of_use(asked: &Asked, place: &Place) -> bool {
    OLDEST <= asked.version_num && !asked.standby && !(place.pooled && place.room == Room::Advisory)
}

fn server(asked: &Asked) -> Finding {
    let version = asked.version.split(' ').next().unwrap_or_default();
    let role = if asked.standby { "a standby" } else { "takes writes" };
    let seen = format!("PostgreSQL {version}, {role}");
    let bad = |why: &str, help: &str| {
        Finding::new("server", Standing::Bad, format!("{seen}: {why}")).with_help(help)
    };
    let finding = if asked.version_num < OLDEST {
        bad("it has no idle_session_timeout, and functions of ours do not run", "use 14 or newer")
    } else if asked.standby {
        bad(
            "it has no locks of its own",
            "name the primary; with several hosts, `target_session_attrs=read-write` finds it",
        )
    } else {
        good("server", seen)
    };
    finding
        .with_fact("version", version)
        .with_fact("database", asked.database.as_str())
        .with_fact("standby", asked.standby)
}

fn pooler(place: &Place) -> Finding {
    let says = "a pooler that gives sessions out for one transaction at a time is in between";
    let finding = match (place.pooled, place.room) {
        (false, _) => good("pooler", "sessions are our own: no pooler hands them around"),
        (true, Room::Lease) => good("pooler", format!("{says}; leases in a table do not mind")),
        (true, Room::Advisory) => Finding::new(
            "pooler",
            Standing::Bad,
            format!("{says}: session locks would stay behind with strangers, and are refused"),
        )
        .with_help("name the server itself or a pool by session, or use `postgres://`"),
    };
    finding.with_fact("by_transaction", place.pooled)
}

/// What a restart forgets.
fn restart(asked: &Asked, room: Room) -> Finding {
    let commit = asked.setting("synchronous_commit").unwrap_or_default();
    let ours = match commit {
        "on" | "remote_apply" => String::new(),
        other => format!(", although synchronous_commit is {other} for others"),
    };
    let finding = if asked.is_off("fsync") {
        Finding::new(
            "restart",
            Standing::Bad,
            "fsync is off: a crash of the server's host may forget locks, give fencing tokens again, \
             and damage the database. A crash of the server alone forgets nothing that is on disk",
        )
        .with_help("set fsync to on")
    } else if asked.is_off("full_page_writes") {
        Finding::new(
            "restart",
            Standing::Note,
            "full_page_writes is off: a crash of the server's host may damage the database, unless \
             its file system never leaves a page half written",
        )
        .with_help("set full_page_writes to on, unless the file system is known to bear that")
    } else {
        let says = match room {
            Room::Lease => format!(
                "a restart forgets no lock and no fencing token: grants wait for the disk{ours}"
            ),
            Room::Advisory => format!(
                "a restart frees all locks, and their holders are told; fencing tokens go on: they \
                 wait for the disk{ours}"
            ),
        };
        good("restart", says)
    };
    finding
        .with_fact("fsync", asked.setting("fsync"))
        .with_fact("full_page_writes", asked.setting("full_page_writes"))
        .with_fact("synchronous_commit", commit)
}

/// What a fail-over forgets.
fn failover(asked: &Asked, room: Room) -> Finding {
    let names = asked.setting("synchronous_standby_names").unwrap_or_default();
    let waits = !names.trim().is_empty();
    let are = |n: i64| if n == 1 { "1 standby".to_owned() } else { format!("{n} standbys") };
    let standbys = are(asked.standbys);
    let note = |says: String| Finding::new("failover", Standing::Note, says);
    let finding = if waits && asked.standbys == 0 {
        Finding::new(
            "failover",
            Standing::Bad,
            "commits wait for a synchronous standby, and none is connected: no lock is granted",
        )
        .with_help("start the standby, or take it off synchronous_standby_names")
    } else if asked.standbys == 0 {
        good(
            "failover",
            "no standby is connected: nothing takes over, and nothing is forgotten by that",
        )
    } else if room == Room::Advisory {
        note(format!(
            "{standbys}: session locks are not copied. Whoever takes over has none, and grants all of \
             them again while holders on the old server work on; fencing tokens go on above the old \
             ones, by the timeline"
        ))
        .with_help("end the old server before another one takes over; tokens make it harmless")
    } else if !waits {
        note(format!(
            "{standbys}, always a moment behind: if one takes over, a lock that was just granted may be \
             granted again"
        ))
        .with_help("synchronous_standby_names makes commits wait; tokens make it harmless")
    } else if !asked.sees_all {
        return not_known("failover", "whether commits wait for a standby", "pg_read_all_stats")
            .with_fact("standbys", asked.standbys)
            .with_fact("synchronous_standby_names", names);
    } else if asked.in_step == 0 {
        Finding::new(
            "failover",
            Standing::Bad,
            format!("{standbys}, and none of those that commits wait for: no lock is granted"),
        )
        .with_help("start the standbys that synchronous_standby_names names")
    } else {
        let says = format!(
            "{standbys}, {} of them with every grant before it counts: if one of these takes over, no \
             grant is forgotten; a release may be, and its lock is then held until its ttl",
            asked.in_step
        );
        if asked.in_step < asked.standbys { note(says) } else { good("failover", says) }
    };
    finding
        .with_fact("standbys", asked.standbys)
        .with_fact("synchronous_standbys", asked.sees_all.then_some(asked.in_step))
        .with_fact("synchronous_standby_names", names)
}

/// Whether holders of other users are shown.
fn visibility(asked: &Asked) -> Finding {
    match asked.sees_all || asked.superuser {
        true => good("visibility", "holders are shown with their names, whoever they are"),
        false => Finding::new(
            "visibility",
            Standing::Note,
            format!(
                "holders who are the user {} are shown with their names, those of other users as \
                 process numbers",
                asked.user
            ),
        )
        .with_help(format!("GRANT pg_read_all_stats TO {}", crate::install::quoted(&asked.user))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(settings: &[(&str, &str)]) -> Asked {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Asked {
            version_num: 150_018,
            settings: settings.iter().map(owned).collect(),
            sees_all: true,
            ..Asked::default()
        }
    }

    #[test]
    fn old_servers_and_standbys_are_refused() {
        assert_eq!(server(&asked(&[])).standing, Standing::Good);
        let old = Asked { version_num: 130_004, ..asked(&[]) };
        let standby = Asked { standby: true, ..asked(&[]) };
        assert_eq!(server(&old).standing, Standing::Bad);
        assert!(server(&standby).help.is_some_and(|help| help.contains("primary")));
    }

    #[test]
    fn what_a_restart_forgets_is_said_by_how_the_server_waits_for_its_disk() {
        let about = |settings: &[(&str, &str)]| restart(&asked(settings), Room::Lease);
        let whole = [("fsync", "on"), ("full_page_writes", "on"), ("synchronous_commit", "on")];
        assert_eq!(about(&whole).standing, Standing::Good);
        assert_eq!(about(&[("fsync", "off")]).standing, Standing::Bad);
        assert_eq!(about(&[("full_page_writes", "off")]).standing, Standing::Note);
        let lazy = about(&[("fsync", "on"), ("synchronous_commit", "off")]);
        assert_eq!(lazy.standing, Standing::Good, "grants do not go by it");
        assert!(lazy.detail.contains("although synchronous_commit is off"), "{lazy:?}");
    }

    #[test]
    fn standbys_are_a_risk_that_is_told_unless_commits_wait_for_them() {
        let with = |names: &str, standbys, in_step, room| {
            let base = asked(&[("synchronous_standby_names", names)]);
            failover(&Asked { standbys, in_step, ..base }, room).standing
        };
        for (names, standbys, in_step, standing) in [
            ("", 0, 0, Standing::Good),
            ("", 2, 0, Standing::Note),
            ("*", 0, 0, Standing::Bad),
            ("one", 1, 0, Standing::Bad),
            ("one", 2, 1, Standing::Note),
            ("*", 1, 1, Standing::Good),
        ] {
            assert_eq!(with(names, standbys, in_step, Room::Lease), standing, "{names} {standbys}");
        }
        assert_eq!(with("*", 1, 1, Room::Advisory), Standing::Note);
        let blind = asked(&[("synchronous_standby_names", "*")]);
        let blind = failover(&Asked { standbys: 1, sees_all: false, ..blind }, Room::Lease);
        assert_eq!(blind.facts["missing"], "pg_read_all_stats");
    }

    #[test]
    fn a_pooler_is_bad_for_session_locks_only() {
        let at = |pooled, room| {
            let place =
                Place { room, pooled, listens: false, max_locks: None, schema: "tenure".into() };
            (pooler(&place).standing, is_of_use(&asked(&[]), &place))
        };
        assert_eq!(at(true, Room::Lease), (Standing::Good, true));
        assert_eq!(at(false, Room::Advisory), (Standing::Good, true));
        assert_eq!(at(true, Room::Advisory), (Standing::Bad, false));
    }
}
