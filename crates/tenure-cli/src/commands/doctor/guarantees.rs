//! A store's capabilities as sentences.

use serde::Serialize;
use tenure::{Capabilities, EndsWith, JudgedBy, Recall, Wakes};

use crate::output::text::duration;

/// One thing that a store promises, or does not.
#[derive(Debug, Serialize)]
pub(crate) struct Guarantee {
    pub(crate) topic: &'static str,
    pub(crate) given: bool,
    pub(crate) says: String,
}

/// Everything that is known of the store, the most important first.
pub(crate) fn guarantees(can: &Capabilities) -> Vec<Guarantee> {
    let mut all = vec![exclusion(can), fencing(can), silence(can)];
    all.extend(match (can.exclusive, can.between_processes) {
        (false, _) => of_none(can),
        (true, false) => of_this_process(can),
        (true, true) => of_all(can),
    });
    all
}

/// A store that others use, too.
fn of_all(can: &Capabilities) -> Vec<Guarantee> {
    vec![
        crash(can),
        restart(can),
        failover(can),
        order(can),
        waking(can),
        shared(can),
        upgrade(can),
        deadlocks(can),
        plain(
            "detached",
            can.detached,
            "`tenure acquire` leaves a lock that outlives its process",
            "locks end with their process: `tenure acquire` does not work",
        ),
        plain(
            "force release",
            can.force_release,
            "a lock can be taken from its holder",
            "nobody can take a lock away",
        ),
        plain(
            "list",
            can.list,
            "`tenure list` and `tenure watch` see all locks",
            "locks cannot be listed",
        ),
        plain(
            "details",
            can.metadata,
            "everybody sees who holds a lock",
            "who holds a lock is not visible",
        ),
        values(can),
    ]
}

/// A store inside one process: nothing of it outlives that process, or is seen outside it.
fn of_this_process(can: &Capabilities) -> Vec<Guarantee> {
    let inside = |topic, given: bool, yes: &str| {
        plain(topic, given, &format!("{yes}, inside one process"), "not even inside one process")
    };
    vec![
        plain("crash", true, "the locks of a process end with it, and so does the store", ""),
        plain("restart", false, "", "a process that starts again starts without locks"),
        failover(can),
        order(can),
        waking(can),
        shared(can),
        upgrade(can),
        deadlocks(can),
        plain("detached", false, "", "no lock outlives its process: a token is of no use after it"),
        inside("force release", can.force_release, "a lock can be taken from its holder"),
        plain(
            "list",
            false,
            "",
            "no other process sees the locks: `tenure list` and `tenure watch` find nothing",
        ),
        inside("details", can.metadata, "everybody sees who holds a lock"),
        inside("values", can.value_max.is_some(), &values(can).says),
    ]
}

/// A store that only pretends: what it takes has no effect.
fn of_none(can: &Capabilities) -> Vec<Guarantee> {
    let no = |topic, says: &str| plain(topic, false, "", says);
    vec![
        no("crash", "a dead process leaves no lock, for there are none"),
        no("restart", "there is nothing to remember"),
        no("failover", "there is nothing to take over"),
        no("order", "nobody waits"),
        no("waking", "nobody waits"),
        no("shared", "granted to everybody, like everything"),
        no("upgrade", "granted to everybody, like everything"),
        no("deadlocks", "nobody waits"),
        no("detached", "`tenure acquire` prints a token, and nothing is held by it"),
        no("force release", "there is no holder to take a lock from"),
        no("list", "`tenure list` and `tenure watch` find nothing"),
        no("details", "owners and metadata are taken, and nobody sees them"),
        values(can),
    ]
}

fn plain(topic: &'static str, given: bool, yes: &str, no: &str) -> Guarantee {
    Guarantee { topic, given, says: if given { yes } else { no }.to_owned() }
}

fn exclusion(can: &Capabilities) -> Guarantee {
    let within = match (can.between_hosts, can.between_processes) {
        (true, _) => "on all hosts that reach this store",
        (false, true) => "in all processes of this host, and not beyond it",
        (false, false) => "inside one process, and not between processes",
    };
    let yes = format!("no two holders of one lock at a time, {within}");
    plain("exclusion", can.exclusive, &yes, "nothing is locked: everybody gets every lock at once")
}

fn fencing(can: &Capabilities) -> Guarantee {
    let yes = "each grant has a higher fencing token than those before; what the lock protects \
               must compare it, for nothing else stops a holder that was paused";
    let no = "fencing tokens grow, but several holders work at a time";
    plain("fencing", can.exclusive, yes, no)
}

fn silence(can: &Capabilities) -> Guarantee {
    let ttl = format!("{} to {}", duration(can.ttl_min), duration(can.ttl_max));
    let judge = match can.judged_by {
        JudgedBy::StoreClock => "by the store's own clock",
        JudgedBy::Observation => "as others see it on their own clocks; no two clocks are compared",
        _ => "as the store decides",
    };
    let says = match can.ends_with {
        EndsWith::Lease => format!("a silent holder's lock ends after its ttl ({ttl}), {judge}"),
        EndsWith::Session => "a holder's lock ends with its session".to_owned(),
        _ => "locks do not end, for there are none".to_owned(),
    };
    Guarantee { topic: "expiry", given: can.ends_with != EndsWith::Nothing, says }
}

fn crash(can: &Capabilities) -> Guarantee {
    let no = match can.ends_with {
        EndsWith::Session => {
            "the lock of a dead process is free when the store sees its session end"
        }
        _ => "the lock of a dead process is free after its ttl, not before",
    };
    plain(
        "crash",
        can.proves_death,
        "the lock of a process that died on this host is free at once",
        no,
    )
}

fn restart(can: &Capabilities) -> Guarantee {
    let no = match can.after_restart {
        Recall::Some => {
            "a restart of the store forgets what was not written down: such a lock may be granted \
             again while its holder works on"
        }
        _ => "a restart of the store forgets all locks",
    };
    let given = can.after_restart == Recall::All;
    plain("restart", given, "a restart of the store forgets no lock", no)
}

fn failover(can: &Capabilities) -> Guarantee {
    let (given, says) = match can.after_failover {
        None => (true, "no other server takes over, and none can forget a lock"),
        Some(Recall::All) => (true, "a server that takes over knows all locks"),
        Some(Recall::Nothing) => (
            false,
            "a server that takes over knows of no lock: all may be granted again while their \
             holders work on",
        ),
        Some(_) => (
            false,
            "a replica that takes over may not know of the latest grants: such a lock may be \
             granted again while its holder works on",
        ),
    };
    Guarantee { topic: "failover", given, says: says.to_owned() }
}

fn order(can: &Capabilities) -> Guarantee {
    let yes = match can.priority {
        true => "waiters are served in order, and priority is a head start",
        false => "waiters are served in order",
    };
    plain("order", can.fifo, yes, "waiters are served in no order")
}

fn shared(can: &Capabilities) -> Guarantee {
    let yes = if can.permits { "shared locks and permits" } else { "shared locks, no permits" };
    plain("shared", can.shared, yes, "only exclusive locks")
}

fn upgrade(can: &Capabilities) -> Guarantee {
    let (yes, no) = ("shared locks become exclusive, and back", "no change of mode");
    plain("upgrade", can.upgrade, yes, no)
}

fn deadlocks(can: &Capabilities) -> Guarantee {
    let yes = "those who wait for each other are told, if they say what belongs together";
    plain("deadlocks", can.deadlocks, yes, "those who wait for each other do so until they give up")
}

fn waking(can: &Capabilities) -> Guarantee {
    let woken = can.wakes == Wakes::Push;
    plain(
        "waking",
        woken,
        "waiters are woken when it is their turn",
        "waiters ask again and again, every second at least",
    )
}

fn values(can: &Capabilities) -> Guarantee {
    let max = can.value_max.unwrap_or_default();
    let yes = format!("a lock keeps a value of up to {max} bytes");
    plain("values", can.value_max.is_some(), &yes, "locks keep no values")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_only_pretends_is_not_praised() {
        let mut can = Capabilities::full("off");
        can.exclusive = false;
        can.ends_with = EndsWith::Nothing;
        can.value_max = None;
        let said = guarantees(&can);
        assert!(said.iter().all(|g| !g.given), "{said:?}");
        assert!(said[0].says.contains("nothing is locked"));
    }

    #[test]
    fn a_store_inside_a_process_leaves_nothing_behind() {
        let mut can = Capabilities::full("memory");
        can.between_processes = false;
        can.between_hosts = false;
        let said = guarantees(&can);
        let about = |topic| said.iter().find(|g| g.topic == topic).unwrap();
        assert!(about("exclusion").given && !about("detached").given && !about("list").given);
    }

    #[test]
    fn every_topic_is_told_once_of_every_store() {
        let topics =
            |can: &Capabilities| -> Vec<_> { guarantees(can).iter().map(|g| g.topic).collect() };
        let mut can = Capabilities::full("any");
        let all = topics(&can);
        assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), all.len());
        can.between_processes = false;
        assert_eq!(topics(&can), all);
        can.exclusive = false;
        assert_eq!(topics(&can), all);
    }
}
