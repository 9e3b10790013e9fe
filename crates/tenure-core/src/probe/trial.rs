//! A lock of our own: held, renewed, handed over and given back, as any other.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::good;
use crate::backend::{
    Backend, Claim, Event, Grant, Kept, LeaseRef, Listener, Member, Release, Renewal, Verdict,
};
use crate::clock::{Clock, SystemClock};
use crate::error::{Error, ErrorKind, Result};
use crate::finding::{Finding, Standing};
use crate::name::LockName;
use crate::owner::{Details, Owner};
use crate::token::{MemberId, Token};

/// How often the lock is held at most, and for how long.
const CYCLES: (usize, Duration) = (50, Duration::from_secs(1));
/// Long enough for one who looks.
const TTL: Duration = Duration::from_secs(10);
/// How long a message may take.
const MESSAGE: Duration = Duration::from_secs(5);

/// A lock that nobody else knows, to be tried.
#[derive(Debug)]
pub struct Trial<'a, B> {
    backend: &'a B,
    name: LockName,
}

impl<'a, B: Backend> Trial<'a, B> {
    /// Tries the lock `tenure-doctor-…` of this store.
    pub fn new(backend: &'a B) -> Self {
        let name = format!("tenure-doctor-{}", Token::random().member().holder());
        Self { backend, name: LockName::new(name).expect("short, and of letters and digits") }
    }

    /// What it is called.
    pub fn name(&self) -> &LockName {
        &self.name
    }

    /// Whether locks can be held, and how long one takes.
    pub async fn lock(&self) -> Finding {
        match self.cycles().await {
            Ok(mut took) => {
                took.sort_unstable();
                let middle = took.get(took.len() / 2).copied().unwrap_or_default();
                let (count, ms) = (took.len(), middle.as_secs_f64() * 1e3);
                let says = format!(
                    "a lock was held and given back {count} times, half of them in less than {ms:.2} ms"
                );
                let micros = u64::try_from(middle.as_micros()).unwrap_or(u64::MAX);
                good("lock", says).with_fact("p50_us", micros).with_fact("count", count)
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

    /// Hands the lock over to one who waits; how long it took until that was told, or `None` if it
    /// was not. Needs a tokio runtime with time.
    ///
    /// # Errors
    /// What the store fails with.
    pub async fn hand_over(&self) -> Result<Option<Duration>> {
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
}

/// Whether whoever waits is told, by what [`Trial::hand_over`] answered.
pub fn handed_over(told: Result<Option<Duration>>) -> Finding {
    match told {
        Ok(Some(took)) => {
            let ms = took.as_secs_f64() * 1e3;
            let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            good("messages", format!("a lock was handed over by a message in {ms:.2} ms"))
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
