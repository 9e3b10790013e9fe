//! What the measurements mean for locks.

use std::time::Duration;

use tenure_core::{Finding, Standing};

use super::{Clocks, RACERS};

/// By how much a lease is shortened for clocks that run unevenly: the drift that promises allow.
const DRIFT: f64 = 0.01;

fn finding(what: &'static str, passed: bool, detail: String) -> Finding {
    Finding::new(what, if passed { Standing::Good } else { Standing::Bad }, detail)
}

/// Every round has one winner. One without any is harmless: a lost reply, which locks recognise.
pub(super) fn race(what: &'static str, wins: &[Vec<u32>], rounds: u32, verb: &str) -> Finding {
    let winners = |round: &u32| wins.iter().flatten().filter(|won| *won == round).count();
    let twice = (0..rounds).filter(|round| 1 < winners(round)).count();
    let never = (0..rounds).filter(|round| winners(round) == 0).count();
    let shares: Vec<String> = wins.iter().map(|won| won.len().to_string()).collect();
    let shares = shares.join(", ");
    let detail = if twice != 0 {
        format!("{twice} of {rounds} names were {verb} by more than one process")
    } else if never != 0 {
        format!(
            "{rounds} names, none {verb} twice; of {never} nobody was told ({RACERS} processes: {shares})"
        )
    } else {
        format!("{rounds} names, each {verb} by exactly one of {RACERS} processes ({shares})")
    };
    finding(what, twice == 0, detail)
}

/// `seen` is how often was read, found nothing, found a mixture, and found an older one.
pub(super) fn replaced(seen: &str, replacements: u64) -> Finding {
    let counts: Vec<u64> = seen.split(' ').filter_map(|count| count.parse().ok()).collect();
    let &[reads, missing, torn, backwards] = counts.as_slice() else {
        let detail = "the reader did not report".to_owned();
        return finding("replace", false, detail);
    };
    let passed = missing + torn + backwards == 0;
    let detail = if passed {
        format!(
            "a file was whole in all of {reads} reads while it was replaced {replacements} times"
        )
    } else {
        format!(
            "of {reads} reads {missing} found no file, {torn} a half-written one, {backwards} an older one"
        )
    };
    finding("replace", passed, detail)
}

pub(super) fn flock(seen: bool, freed_after: Option<Duration>) -> Finding {
    let (passed, detail) = match (seen, freed_after) {
        (false, _) => (false, "a file that another process has locked reads as free".to_owned()),
        (true, None) => (false, "the lock of a dead process stays".to_owned()),
        (true, Some(after)) => (
            true,
            format!(
                "the lock of a killed process was gone within {:.1} ms",
                after.as_secs_f64() * 1e3
            ),
        ),
    };
    finding("flock", passed, detail)
}

/// A holder must be seen to live well within its ttl; the shortest ttl is 100 ms.
pub(super) fn staleness(beats: u32, longest: Duration) -> Finding {
    let detail = format!(
        "{beats} signs of life of another process on this host were seen, the slowest after {:.1} ms",
        longest.as_secs_f64() * 1e3
    );
    finding("staleness", beats != 0, detail)
}

pub(super) fn clock(begin: Clocks, end: Clocks, mount_ahead: i128) -> Finding {
    #[allow(clippy::cast_precision_loss, reason = "for a ratio")]
    let rate = (end.boot - begin.boot) as f64 / (end.raw - begin.raw).max(1) as f64;
    let off = (rate - 1.0).abs();
    #[allow(clippy::cast_precision_loss, reason = "for people")]
    let ahead = mount_ahead as f64 / 1e9;
    let detail = format!(
        "this host's clock ran {:.3} % off its oscillator ({:.0} % are allowed for); the mount's clock is {} s off this host's",
        off * 100.0,
        DRIFT * 100.0,
        rounded(ahead)
    );
    finding("clock", off < DRIFT, detail)
}

/// Two decimals, and no minus before zero: files are stamped by a clock that ticks coarsely.
fn rounded(seconds: f64) -> String {
    let text = format!("{seconds:+.2}");
    if seconds.abs() < 0.005 { "0.00".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_two_winners_is_a_broken_mount() {
        assert!(race("rename", &[vec![0, 2], vec![1]], 3, "moved").passed());
        assert!(race("rename", &[vec![0], vec![2]], 3, "moved").passed());
        let broken = race("rename", &[vec![0, 1], vec![1]], 2, "moved");
        assert!(!broken.passed());
        assert_eq!(broken.detail, "1 of 2 names were moved by more than one process");
    }

    #[test]
    fn a_reader_that_saw_anything_odd_fails_the_mount() {
        assert!(replaced("100 0 0 0", 5).passed());
        for odd in ["100 1 0 0", "100 0 1 0", "100 0 0 1", "", "x"] {
            assert!(!replaced(odd, 5).passed(), "{odd}");
        }
    }

    #[test]
    fn a_lock_must_be_seen_and_must_end_with_its_process() {
        assert!(flock(true, Some(Duration::ZERO)).passed());
        assert!(!flock(true, None).passed());
        assert!(!flock(false, Some(Duration::ZERO)).passed());
    }
}
