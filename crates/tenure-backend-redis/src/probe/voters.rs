//! Looks at the servers of a Redlock: each for itself, and whether they are independent of each other.

use std::time::Duration;

use tenure_core::voter::Voter;
use tenure_core::{Error, ErrorKind, Finding, LockName, Result, Standing, Token};

use super::asked::Asked;
use super::servers::Servers;
use super::{judged, merged};
use crate::config::RedisConfig;
use crate::voter::RedisVoter;

/// How long all of it may take.
const LIMIT: Duration = Duration::from_secs(30);
/// How far the servers' clocks may be apart without a word.
const APART: i64 = 500_000;

/// Looks at the servers of a Redlock; takes about a second. Needs a tokio runtime with time and I/O.
///
/// The findings are about `majority`, `independence`, `votes`, `max_ttl`, `server`, `memory`, `restart`,
/// `spikes`, `clock` and `timeouts`. A look starts the time in which new servers give no votes, and
/// changes nothing else.
///
/// # Errors
/// `Invalid` if the address is not understood; `Unreachable` if no server answers. A deployment that
/// does not do what locks need is a [`Finding`], not an error.
///
/// # Cancel safety
/// It leaves nothing behind.
pub async fn examine_voters(url: &str, longest: Duration) -> Result<Vec<Finding>> {
    let (configs, named) = RedisConfig::of_voters(url)?;
    tokio::time::timeout(LIMIT, look(configs, named.unwrap_or(longest))).await.unwrap_or_else(
        |_| {
            Err(Error::new(
                ErrorKind::Unreachable,
                "the servers answered too slowly to be examined",
            )
            .with_nothing_changed())
        },
    )
}

async fn look(configs: Vec<RedisConfig>, longest: Duration) -> Result<Vec<Finding>> {
    let count = configs.len();
    let (mut seen, mut silent) = (Vec::new(), Vec::new());
    let (mut quarantines, mut bounds) = (Vec::new(), Vec::new());
    let name = LockName::new(format!("tenure-doctor-{}", Token::random().member().holder()))?;
    for config in configs {
        let address = config.masked();
        let Ok(mut servers) = Servers::open(&config.place).await else {
            silent.push(address);
            continue;
        };
        let Some(server) = servers.all().first_mut() else { continue };
        seen.push((address, Asked::of(server).await));
        let sight = RedisVoter::new(config)?.look(&name, longest).await;
        if let Some(bound) = sight.as_ref().ok().and_then(|sight| sight.longest) {
            bounds.push((seen[seen.len() - 1].0.clone(), bound));
        }
        quarantines.push(sight.map(|sight| sight.quarantine));
    }
    if seen.is_empty() {
        return Err(Error::new(ErrorKind::Unreachable, "none of the servers answers")
            .with_help("are they running, and their addresses right?")
            .with_nothing_changed());
    }
    let mut findings = vec![majority(count, &silent), independence(&seen), votes(&quarantines)];
    let place = judged::Place { is_cluster: false, sentinels: None, min_replicas: 0 };
    // Replicas, restarts and clocks are something else where a majority decides.
    let own = |what: &str| matches!(what, "failover" | "restart" | "clock");
    let of_each = seen.iter().map(|(address, asked)| {
        let mut all = judged::all(asked, &place);
        all.retain(|finding| !own(finding.what));
        (address.clone(), all)
    });
    let of_each: Vec<_> = of_each.collect();
    findings.extend(merged(of_each));
    findings.insert(findings.len().min(5), restart(&seen, longest));
    findings.extend(bound(&bounds, longest));
    findings.push(clocks(&seen, longest));
    Ok(findings)
}

fn majority(count: usize, silent: &[String]) -> Finding {
    let (quorum, up) = (count / 2 + 1, count - silent.len());
    let finding = match silent.len() {
        0 => Finding::new(
            "majority",
            Standing::Good,
            format!("all {count} servers answer; locks outlive {} that fail", count - quorum),
        ),
        _ if quorum <= up => Finding::new(
            "majority",
            Standing::Note,
            format!(
                "{up} of {count} servers answer, not {}: locks outlive {} more that fail",
                silent.join(", "),
                up - quorum
            ),
        )
        .with_help("start those that do not answer"),
        _ => Finding::new(
            "majority",
            Standing::Bad,
            format!("{up} of {count} servers answer, which is no majority: no lock can be had"),
        )
        .with_help("start those that do not answer"),
    };
    finding.with_fact("servers", count).with_fact("up", up)
}

/// Servers that fail together are one server.
fn independence(seen: &[(String, Asked)]) -> Finding {
    let bad =
        |why: String, help: &str| Finding::new("independence", Standing::Bad, why).with_help(help);
    let mut ids: Vec<&str> = seen.iter().filter_map(|(_, asked)| asked.info("run_id")).collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    if ids.len() < all {
        return bad(
            "one server is named more than once: it would vote more than once".to_owned(),
            "name each server once",
        );
    }
    let replicates = |(_, asked): &&(String, Asked)| {
        let role = asked.info("role").or(asked.hello("role")).unwrap_or_default();
        matches!(role, "slave" | "replica")
    };
    if let Some((address, _)) = seen.iter().find(replicates) {
        return bad(
            format!("{address} is a replica: it says what another server says"),
            "use masters without replicas",
        );
    }
    let followed = seen.iter().filter(|(_, asked)| {
        asked.info("connected_slaves").is_some_and(|replicas| replicas != "0")
    });
    let followed: Vec<&str> = followed.map(|(address, _)| address.as_str()).collect();
    if !followed.is_empty() {
        return Finding::new(
            "independence",
            Standing::Note,
            format!(
                "{} has replicas: one that takes over counts as restarted, and gives no votes for a while",
                followed.join(", ")
            ),
        )
        .with_help("use masters without replicas");
    }
    Finding::new(
        "independence",
        Standing::Good,
        "they are different masters; that they run on different hosts cannot be seen from here",
    )
}

fn votes(quarantines: &[Result<Duration>]) -> Finding {
    let left = quarantines.iter().flatten().max().copied().unwrap_or_default();
    let waits = quarantines.iter().flatten().filter(|left| !left.is_zero()).count();
    let failed = quarantines.iter().find_map(|sight| sight.as_ref().err());
    let finding = match (failed, waits) {
        (Some(error), _) => {
            Finding::new("votes", Standing::Bad, format!("a server gives no votes: {error}"))
                .with_help(error.help().unwrap_or("look at its log").to_owned())
        }
        (None, 0) => Finding::new("votes", Standing::Good, "all of them give votes"),
        (None, waits) => Finding::new(
            "votes",
            Standing::Note,
            format!(
                "{waits} of {} were restarted or are new, and give no votes for {:.0} s more",
                quarantines.len(),
                left.as_secs_f64().ceil()
            ),
        )
        .with_help("nothing has to be done: leases that they may have forgotten are over then"),
    };
    finding.with_fact("waiting", waits)
}

/// All have to name the same longest ttl, or some are refused; `None` if nobody has asked for votes yet.
fn bound(bounds: &[(String, Duration)], longest: Duration) -> Option<Finding> {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let others: Vec<_> = bounds.iter().filter(|(_, bound)| *bound != longest).collect();
    let Some((_, other)) = others.first() else {
        let agreed = Finding::new(
            "max_ttl",
            Standing::Good,
            format!("a lease lives for {longest:?} at most, as everybody says"),
        );
        return (!bounds.is_empty()).then(|| agreed.with_fact("max_ttl_ms", millis(longest)));
    };
    let names: Vec<_> = others.iter().map(|(name, b)| format!("{name} ({b:?})")).collect();
    let all_others = others.len() == bounds.len();
    let help = if all_others && others.iter().all(|(_, bound)| bound == other) {
        format!(
            "name `?max_ttl={}ms`, as all others do; to change it for all, stop them, and delete the key \
             `tenure:run` on each server",
            millis(*other)
        )
    } else {
        "delete the key `tenure:run` on those servers: they count as restarted then, and learn what the \
         others say"
            .to_owned()
    };
    let refused = format!(
        "this address says that a lease lives for {longest:?} at most, and is refused by {}, which know \
         another time",
        names.join(", ")
    );
    Some(
        Finding::new("max_ttl", Standing::Bad, refused)
            .with_help(help)
            .with_fact("max_ttl_ms", millis(*other)),
    )
}

/// Nothing depends on what is written down, but for the longest ttl.
fn restart(seen: &[(String, Asked)], longest: Duration) -> Finding {
    let keeps = |asked: &Asked| {
        let on = |text: &str| text == "1" || text == "yes";
        let journal = asked.info("aof_enabled").or(asked.setting("appendonly")).is_none_or(on);
        journal || asked.setting("save").is_none_or(|save| !save.is_empty())
    };
    let forgetful = seen.iter().filter(|(_, asked)| !keeps(asked)).count();
    let mut says = format!(
        "a server that was restarted gives no votes for {longest:?}, so nothing that it forgot is granted \
         again"
    );
    if 0 < forgetful {
        says += &format!(
            "; {forgetful} of {} keep nothing, and learn `max_ttl` anew then from whoever asks: stop those \
             who name another before you restart them",
            seen.len()
        );
    }
    Finding::new("restart", Standing::Good, says)
        .with_fact("without_persistence", forgetful)
        .with_fact("max_ttl_ms", u64::try_from(longest.as_millis()).unwrap_or(u64::MAX))
}

/// Fences begin as times: where a server has forgotten one, the others' clocks have to be beyond it.
fn clocks(seen: &[(String, Asked)], longest: Duration) -> Finding {
    let all: Vec<i64> = seen.iter().filter_map(|(_, asked)| Some(asked.clock?.ahead())).collect();
    let (Some(first), Some(last)) = (all.iter().min(), all.iter().max()) else {
        return tenure_core::probe::clock(None, "+time");
    };
    let apart = last - first;
    let bound = i64::try_from(longest.as_micros()).unwrap_or(i64::MAX);
    #[allow(clippy::cast_precision_loss, reason = "for people")]
    let seconds = apart as f64 / 1e6;
    let finding = if apart < APART {
        Finding::new(
            "clock",
            Standing::Good,
            format!("their clocks are {seconds:.3} s apart at most"),
        )
    } else if apart < bound {
        Finding::new(
            "clock",
            Standing::Note,
            format!(
                "their clocks are {seconds:.1} s apart: nobody compares them, but one is wrong"
            ),
        )
    } else {
        Finding::new(
            "clock",
            Standing::Bad,
            format!(
                "their clocks are {seconds:.1} s apart, more than the longest lease: after two restarts one \
                 after the other fencing tokens may fall"
            ),
        )
        .with_help("set the clock that is wrong before locks are in use")
    };
    finding.with_fact("apart_us", apart)
}
