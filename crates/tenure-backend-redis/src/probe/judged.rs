//! What it means for locks how a server is set up. Pure: from what was asked to what is found.

use redis::Value;
use tenure_core::probe::{self, good, not_known};
use tenure_core::{Finding, Standing};

use super::asked::{self, Asked};
use super::timing;

/// The oldest server whose scripts say what they may do at its memory limit.
const OLDEST: u32 = 7;
/// How full a server is when that is told, in percent.
const NEARLY_FULL: u64 = 90;

/// What is known of the deployment beforehand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) is_cluster: bool,
    pub(super) sentinels: Option<usize>,
    pub(super) min_replicas: u32,
}

/// Everything about one server.
pub(super) fn all(asked: &Asked, place: &Place) -> Vec<Finding> {
    vec![
        server(asked, place),
        memory(asked),
        restart(asked),
        failover(asked, place),
        timing::spikes(asked),
        probe::clock(asked.clock, "+time"),
        timing::timeouts(asked),
    ]
}

fn server(asked: &Asked, place: &Place) -> Finding {
    let (product, version) = match asked.info("valkey_version") {
        Some(version) => ("Valkey", version),
        None => {
            let is_valkey = asked.hello("server") == Some("valkey");
            let version = asked.info("redis_version").or(asked.hello("version"));
            (if is_valkey { "Valkey" } else { "Redis" }, version.unwrap_or_default())
        }
    };
    let mode = asked.info("redis_mode").or(asked.hello("mode")).unwrap_or_default();
    let role = asked.info("role").or(asked.hello("role")).unwrap_or_default();
    let is_replica = matches!(role, "slave" | "replica");
    let what_it_is = match (is_replica, place.sentinels, mode) {
        (true, ..) => "a replica",
        (_, Some(_), _) => "the primary that Sentinel names",
        (_, _, "cluster") => "a node of a cluster",
        _ => "a single server, or the primary of its replicas",
    };
    let seen = format!("{product} {version}, {what_it_is}");
    let major: Option<u32> = version.split('.').next().and_then(|major| major.parse().ok());
    let bad = |why: &str, help: &str| {
        Finding::new("server", Standing::Bad, format!("{seen}: {why}")).with_help(help)
    };
    let finding = if major.is_some_and(|major| major < OLDEST) {
        bad("its scripts cannot say that a release needs no memory", "use 7.0 or newer")
    } else if is_replica {
        bad("it takes no writes", "name the primary, or its Sentinels: redis+sentinel://…")
    } else if mode == "cluster" && !place.is_cluster {
        bad("it has some of the locks only", "name the cluster: redis+cluster://…")
    } else if version.is_empty() {
        not_known("server", "what the server is", "+hello or +info")
    } else {
        Finding::new("server", Standing::Good, seen)
    };
    finding
        .with_fact("product", product.to_lowercase())
        .with_fact("version", version)
        .with_fact("mode", mode)
        .with_fact("role", if is_replica { "replica" } else { "primary" })
        .with_fact("sentinels", place.sentinels)
}

fn memory(asked: &Asked) -> Finding {
    let number = |text: &str| text.parse::<u64>().ok();
    let limit = asked.info("maxmemory").or(asked.setting("maxmemory")).and_then(number);
    let policy = asked.info("maxmemory_policy").or(asked.setting("maxmemory-policy"));
    let (Some(limit), Some(policy)) = (limit, policy) else {
        return not_known(
            "memory",
            "whether the server throws locks away when it is full",
            "+info",
        );
    };
    let used = asked.info("used_memory").and_then(number);
    let full = used.filter(|_| limit != 0).map(|used| used.saturating_mul(100) / limit);
    let keeps = policy == "noeviction";
    let set = "set maxmemory-policy to noeviction";
    let finding = match (keeps, limit) {
        (true, 0) => good("memory", "nothing is thrown away, and no limit is set"),
        (true, _) if full.is_some_and(|full| NEARLY_FULL <= full) => Finding::new(
            "memory",
            Standing::Note,
            "nothing is thrown away, but the server is nearly full: then it grants nothing, and \
             renewals and releases go on",
        )
        .with_help("give it more memory, or a server of its own to the locks"),
        (true, _) => good("memory", "nothing is thrown away when the server is full"),
        (false, 0) => Finding::new(
            "memory",
            Standing::Note,
            format!("nothing is thrown away while no limit is set; with one, {policy} would throw locks away"),
        )
        .with_help(set),
        (false, _) => Finding::new(
            "memory",
            Standing::Bad,
            format!("when the server is full, {policy} throws locks away: then two hold one lock"),
        )
        .with_help(set),
    };
    finding
        .with_fact("maxmemory", limit)
        .with_fact("maxmemory_policy", policy)
        .with_fact("used_memory", used)
}

/// What a restart loses.
fn restart(asked: &Asked) -> Finding {
    let on = |text: &str| text == "1" || text == "yes";
    let Some(journal) = asked.info("aof_enabled").or(asked.setting("appendonly")).map(on) else {
        return not_known("restart", "what a restart loses", "+info");
    };
    let sync = asked.setting("appendfsync");
    let snapshots = asked.setting("save").map(|save| !save.is_empty());
    let failed = |field: &str| asked.info(field).is_some_and(|status| status == "err");
    let note = |says: &str| Finding::new("restart", Standing::Note, says);
    let finding = if journal && failed("aof_last_write_status")
        || snapshots == Some(true) && failed("rdb_last_bgsave_status")
    {
        Finding::new(
            "restart",
            Standing::Bad,
            "the server cannot write to its disk, and refuses locks for it",
        )
        .with_help("make room on its disk; its log says what failed")
    } else {
        match (journal, sync, snapshots) {
            (true, Some("always"), _) => {
                good("restart", "a restart loses nothing that was answered")
            }
            (true, Some("everysec"), _) => note(
                "a crash of the server's host loses the last second or two: a lock that was granted \
                 then may be granted again while its holder works on",
            ),
            (true, Some(_), _) => note(
                "a crash of the server's host loses what the system had not written yet, often half \
                 a minute: locks that were granted then may be granted again",
            ),
            (true, None, _) => note("a restart loses little or nothing; how little is not known")
                .with_help("with the right +config|get more would be known"),
            (false, _, Some(true)) => note(
                "a restart goes back to the last snapshot: locks that were granted since may be \
                 granted again, and some that were released are held until their ttl",
            ),
            (false, _, Some(false)) => note(
                "a restart loses all locks: they may be granted again while their holders work on, \
                 until their next renewals",
            ),
            (false, _, None) => note("a restart loses at least what came since the last snapshot")
                .with_help("with the right +config|get more would be known"),
        }
    };
    let kept = match (journal, snapshots) {
        (true, _) => "journal",
        (false, Some(true)) => "snapshots",
        (false, Some(false)) => "nothing",
        (false, None) => "unknown",
    };
    finding.with_fact("persistence", kept).with_fact("appendfsync", sync.filter(|_| journal))
}

/// What a fail-over loses.
fn failover(asked: &Asked, place: &Place) -> Finding {
    let Some(replicas) = asked.info("connected_slaves").and_then(|n| n.parse::<u32>().ok()) else {
        return not_known("failover", "whether there are replicas", "+info");
    };
    let state = |n: u32| asked.info(&format!("slave{n}")).unwrap_or_default();
    let online = (0..replicas).filter(|n| state(*n).contains("state=online")).count();
    let online = u32::try_from(online).unwrap_or(u32::MAX);
    let wanted = place.min_replicas;
    let are = |n: u32| if n == 1 { "1 replica".to_owned() } else { format!("{n} replicas") };
    let finding = if online < wanted {
        Finding::new(
            "failover",
            Standing::Bad,
            format!("{} online, and min_replicas={wanted}: no lock is granted", are(online)),
        )
        .with_help("start the replicas, or ask for fewer")
    } else if replicas == 0 {
        let says = match place.sentinels {
            None if !place.is_cluster => {
                "no replicas: nothing takes over, and nothing is forgotten by that"
            }
            _ => "no replicas: nothing can take over; without the server there are no locks",
        };
        good("failover", says)
    } else if wanted == 0 {
        Finding::new(
            "failover",
            Standing::Note,
            format!(
                "{}, always a moment behind: if one takes over, a lock that was just granted may be \
                 granted again",
                are(replicas)
            ),
        )
        .with_help("?min_replicas=1 makes that rare; only fencing tokens make it harmless")
    } else {
        Finding::new(
            "failover",
            Standing::Note,
            format!(
                "{}, and {wanted} of them must have a grant: if one that has it takes over, it is \
                 kept; if another does, a lock may be granted again",
                are(replicas)
            ),
        )
    };
    finding
        .with_fact("replicas", replicas)
        .with_fact("replicas_online", online)
        .with_fact("min_replicas", wanted)
}

/// Whether all of a cluster's slots are served.
pub(super) fn cluster(info: Option<&Value>) -> Finding {
    let Some(info) = info.and_then(asked::text) else {
        return not_known("cluster", "whether the cluster is whole", "+cluster|info");
    };
    let info = asked::lines(&info);
    let field = |name: &str| info.get(name).map(String::as_str).unwrap_or_default();
    let number = |name: &str| field(name).parse::<u64>().unwrap_or_default();
    let (state, slots, primaries) =
        (field("cluster_state"), number("cluster_slots_ok"), number("cluster_size"));
    let finding = if state == "ok" {
        good("cluster", format!("{primaries} primaries serve all locks"))
    } else {
        Finding::new(
            "cluster",
            Standing::Bad,
            format!("{slots} of 16384 slots are served: locks in the others cannot be had"),
        )
        .with_help("`redis-cli --cluster check` says which nodes are missing")
    };
    finding
        .with_fact("state", state)
        .with_fact("slots_served", slots)
        .with_fact("primaries", primaries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(info: &str, settings: &[(&str, &str)]) -> Asked {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Asked {
            info: Some(asked::lines(info)),
            settings: Some(settings.iter().map(owned).collect()),
            ..Asked::default()
        }
    }

    const ONE: Place = Place { is_cluster: false, sentinels: None, min_replicas: 0 };

    #[test]
    fn a_server_that_throws_keys_away_is_no_place_for_locks() {
        for (limit, policy, standing) in [
            ("0", "noeviction", Standing::Good),
            ("100", "noeviction", Standing::Good),
            ("0", "allkeys-lru", Standing::Note),
            ("100", "allkeys-lru", Standing::Bad),
            ("100", "volatile-ttl", Standing::Bad),
        ] {
            let info = format!("used_memory:50\r\nmaxmemory:{limit}\r\nmaxmemory_policy:{policy}");
            assert_eq!(memory(&asked(&info, &[])).standing, standing, "{limit} {policy}");
        }
        let full = "used_memory:95\nmaxmemory:100\nmaxmemory_policy:noeviction";
        assert_eq!(memory(&asked(full, &[])).standing, Standing::Note);
        let unknown = memory(&Asked::default());
        assert_eq!(
            (unknown.standing, &unknown.facts["missing"]),
            (Standing::Unknown, &"+info".into())
        );
    }

    #[test]
    fn what_a_restart_loses_is_said_by_what_is_written_down() {
        let about = |info: &str, settings: &[(&str, &str)]| restart(&asked(info, settings));
        let always = about("aof_enabled:1", &[("appendfsync", "always")]);
        assert_eq!(always.standing, Standing::Good);
        for (info, settings, says) in [
            ("aof_enabled:1", &[("appendfsync", "everysec")][..], "last second"),
            ("aof_enabled:1", &[("appendfsync", "no")], "half a minute"),
            ("aof_enabled:0", &[("save", "3600 1")], "last snapshot"),
            ("aof_enabled:0", &[("save", "")], "loses all locks"),
            ("aof_enabled:0", &[], "at least"),
            ("aof_enabled:1", &[], "not known"),
        ] {
            let finding = about(info, settings);
            assert_eq!(finding.standing, Standing::Note, "{finding:?}");
            assert!(finding.detail.contains(says), "{finding:?}");
        }
        let broken = about("aof_enabled:1\naof_last_write_status:err", &[]);
        assert_eq!(broken.standing, Standing::Bad);
    }

    #[test]
    fn replicas_are_a_risk_that_is_told_and_too_few_of_them_an_error() {
        let two = asked(
            "connected_slaves:2\nslave0:ip=a,state=online\nslave1:ip=b,state=wait_bgsave",
            &[],
        );
        let with = |min_replicas| failover(&two, &Place { min_replicas, ..ONE });
        assert_eq!((with(0).standing, with(1).standing), (Standing::Note, Standing::Note));
        assert_eq!(
            (with(2).standing, &with(2).facts["replicas_online"]),
            (Standing::Bad, &1.into())
        );
        assert_eq!(failover(&asked("connected_slaves:0", &[]), &ONE).standing, Standing::Good);
    }

    #[test]
    fn old_servers_replicas_and_single_nodes_of_a_cluster_are_refused() {
        for (info, standing) in [
            ("redis_version:7.0.15\nredis_mode:standalone\nrole:master", Standing::Good),
            ("redis_version:7.2.4\nvalkey_version:8.1.0\nrole:master", Standing::Good),
            ("redis_version:6.2.1\nrole:master", Standing::Bad),
            ("redis_version:7.0.15\nrole:slave", Standing::Bad),
            ("redis_version:7.0.15\nredis_mode:cluster\nrole:master", Standing::Bad),
            ("", Standing::Unknown),
        ] {
            assert_eq!(server(&asked(info, &[]), &ONE).standing, standing, "{info}");
        }
    }
}
