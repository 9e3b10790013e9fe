//! Whether locks can be found.

use std::time::Duration;

use tenure_core::clock::{Clock, SystemClock};
use tenure_core::probe::good;
use tenure_core::{Finding, Standing};

use super::Probe;
use crate::keys;

/// How many keys a look at the listing goes through.
const KEYS: usize = 100;

impl Probe<'_> {
    /// Whether locks can be found by those who look for them.
    pub(super) async fn list(&mut self) -> Finding {
        let count = KEYS.to_string();
        let size = self.ask(&["DBSIZE"]).await.ok();
        let size = size.and_then(|size| redis::from_redis_value::<u64>(size).ok());
        let begin = SystemClock.now();
        let step = self.ask(&["SCAN", "0", "MATCH", keys::ALL_CELLS, "COUNT", &count]).await;
        let took = SystemClock.now().since(begin);
        let finding = match (step, size) {
            (Err(_), _) => Finding::new("list", Standing::Note, "the locks cannot be listed")
                .with_help("give this user the right +scan"),
            (Ok(_), None) => good("list", "the locks can be listed"),
            (Ok(_), Some(size)) => {
                let steps = u32::try_from(size / KEYS as u64).unwrap_or(u32::MAX).saturating_add(1);
                let all = took.saturating_mul(steps);
                let says =
                    format!("to list the locks, all keys of the database are gone through: {size}");
                match all < Duration::from_secs(5) {
                    true => good("list", says),
                    false => {
                        Finding::new("list", Standing::Note, format!("{says}, in about {all:.0?}"))
                            .with_help("give the locks a database, or a server, of their own")
                    }
                }
            }
        };
        finding.with_fact("keys", size)
    }
}
