//! A lock of our own: held, renewed, handed over and given back, as any other.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tenure_core::backend::{
    Backend, Claim, Event, Grant, Kept, LeaseRef, Listener, Member, Release, Renewal, Verdict,
};
use tenure_core::clock::{Clock, SystemClock};
use tenure_core::{Details, Error, ErrorKind, Finding, MemberId, Owner, Result, Standing, Token};
use tokio::sync::oneshot;

use super::Probe;
use super::judged::good;
use crate::keys;

/// How often the lock is held at most, and for how long.
const CYCLES: (usize, Duration) = (50, Duration::from_secs(1));
/// Long enough for one who looks.
const TTL: Duration = Duration::from_secs(10);
/// How long a message may take.
const MESSAGE: Duration = Duration::from_secs(5);
/// How many keys a look at the listing goes through.
const KEYS: usize = 100;

impl Probe<'_> {
    /// Whether scripts work, and how long a lock takes.
    pub(super) async fn lock(&mut self) -> Finding {
        match self.cycles().await {
            Ok(mut took) => {
                took.sort_unstable();
                let middle = took.get(took.len() / 2).copied().unwrap_or_default();
                let (count, ms) = (took.len(), middle.as_secs_f64() * 1e3);
                let says = format!(
                    "a lock was held and given back {count} times, half of them in less than {ms:.2} ms"
                );
                let micros = u64::try_from(middle.as_micros()).unwrap_or(u64::MAX);
                good("lock", &says).with_fact("p50_us", micros).with_fact("count", count)
            }
            Err(error) => {
                let detail = format!("no lock can be held: {}", error.message());
                let finding = Finding::new("lock", Standing::Bad, detail);
                match error.help() {
                    Some(help) => finding.with_help(help),
                    None => finding,
                }
            }
        }
    }

    async fn cycles(&self) -> Result<Vec<Duration>> {
        let mut took = Vec::new();
        let first = SystemClock.now();
        while took.len() < CYCLES.0 && SystemClock.now().since(first) < CYCLES.1 {
            let claim = self.claim();
            let begin = SystemClock.now();
            let grant = granted(self.backend.acquire(&claim).await?)?;
            let member =
                Member::new(self.name.clone(), claim.token.clone(), TTL, Some(grant.fence));
            if took.is_empty() {
                match self.backend.renew(&[member]).await.pop() {
                    Some(Renewal::Kept(Kept::Holding(_))) => {}
                    Some(Renewal::Unknown(error)) => return Err(error),
                    _ => return Err(odd("it was not kept")),
                }
            }
            self.release(&claim, grant).await?;
            took.push(SystemClock.now().since(begin));
        }
        Ok(took)
    }

    async fn release(&self, claim: &Claim, grant: Grant) -> Result<()> {
        let lease = LeaseRef::new(self.name.clone(), claim.token.clone(), grant.fence);
        match self.backend.release(&lease, None).await? {
            Release::Released => Ok(()),
            _ => Err(odd("it was not held to its release")),
        }
    }

    fn claim(&self) -> Claim {
        let mut owner = Owner::this_process();
        owner.label = "tenure doctor".into();
        Claim::new(self.name.clone(), Token::random(), TTL, Arc::new(Details::of(owner)))
    }

    /// Whether whoever waits is told: a lock is handed over to one who does.
    pub(super) async fn messages(&mut self) -> Finding {
        match self.hand_over().await {
            Ok(Some(took)) => {
                let ms = took.as_secs_f64() * 1e3;
                let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
                good("messages", &format!("a lock was handed over by a message in {ms:.2} ms"))
                    .with_fact("took_us", micros)
            }
            Ok(None) => Finding::new(
                "messages",
                Standing::Bad,
                "no message of a hand-over came: waiters ask again and again, and are slower",
            )
            .with_help("does something between here and the server keep messages back?"),
            Err(error) => {
                let detail = format!("no lock can be handed over: {}", error.message());
                Finding::new("messages", Standing::Bad, detail)
            }
        }
    }

    async fn hand_over(&self) -> Result<Option<Duration>> {
        let (first, mut second) = (self.claim(), self.claim());
        second.wait = true;
        let grant = granted(self.backend.acquire(&first).await?)?;
        let (heard, hears) = oneshot::channel();
        let ear = Arc::new(Ear { member: second.member, heard: Mutex::new(Some(heard)) });
        let listener: Weak<dyn Listener> = Arc::downgrade(&(ear.clone() as Arc<dyn Listener>));
        self.backend.subscribe(listener);
        let queued = self.backend.acquire(&second).await?;
        let begin = SystemClock.now();
        self.release(&first, grant).await?;
        let told = tokio::time::timeout(MESSAGE, hears).await.is_ok();
        let took = SystemClock.now().since(begin);
        self.backend.withdraw(&second).await?;
        match queued {
            Verdict::Queued(_) => Ok(told.then_some(took)),
            _ => Err(odd("nobody could wait for it")),
        }
    }

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
                    true => good("list", &says),
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

fn granted(verdict: Verdict) -> Result<Grant> {
    match verdict {
        Verdict::Granted(grant) => Ok(grant),
        _ => Err(odd("a lock that nobody else knows was not free")),
    }
}

fn odd(what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, what.to_owned())
}

/// Hears of one grant.
struct Ear {
    member: MemberId,
    heard: Mutex<Option<oneshot::Sender<()>>>,
}

impl Listener for Ear {
    fn on_event(&self, event: Event) {
        if let Event::Granted { member, .. } = event
            && member == self.member
            && let Some(heard) = self.heard.lock().take()
        {
            let _ = heard.send(());
        }
    }
}
