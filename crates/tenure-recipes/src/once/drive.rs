//! Does what the [`Course`] of a call asks, against a store.

use std::fmt::Display;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tenure_core::clock::Moment;
use tenure_core::{
    Answer, Error, ErrorKind, HolderView, LockGuard, LockName, LossReason, Micros, NotReleased,
    Result, ValueView, View,
};

use super::Once;
use super::course::{Ask, Course, Found, Heard, Rules, Verdict};
use super::fingerprint::Fingerprint;
use super::keep::{Unkeepable, keep, kept_bytes};
use super::outcome::{Attempt, OnceError, Outcome, Source};
use super::record::{Note, Record, Stage};

/// Under which name a holder's metadata carries the fingerprint of the call that it leads.
const METADATA: &str = "once";

/// How long a caller whose result was discarded waits before it looks for another one, at first and
/// in the end.
const LOOK_FIRST: Duration = Duration::from_millis(20);
const LOOK_LAST: Duration = Duration::from_secs(1);
/// How long it looks for one that nobody has begun to make yet, however long it may wait.
const LOOK_FOR: Duration = Duration::from_secs(5);

/// One call, as its caller made it.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) name: LockName,
    pub(super) fingerprint: Fingerprint,
    pub(super) forced: bool,
}

/// Everything that a call has in hand while it runs.
struct Hand<T, E> {
    guard: Option<LockGuard>,
    /// The record that was read last, its result, and what the store says of both.
    seen: Option<(Record, ValueView)>,
    /// The own result, and the bytes of it that are kept.
    own: Option<(T, Vec<u8>)>,
    error: Option<E>,
    /// The attempt that this call ran.
    attempt: u32,
    unkeepable: Option<OnceError<E>>,
    /// What a failure is kept as, in words.
    message: Option<String>,
    store_error: Option<Error>,
    lost: LossReason,
    /// The fence under which this call ran its work.
    fence: Option<tenure_core::Fence>,
    /// The fence under which the end of its work was offered last.
    left_under: Option<tenure_core::Fence>,
    waited: bool,
    until: Moment,
    /// Until when a caller looks again whose result was discarded, and how long it paused last.
    looks_until: Option<Moment>,
    pause: Duration,
}

impl Once {
    /// Runs a call to its end.
    pub(super) async fn drive<T, E, F, W>(
        &self,
        call: Call,
        work: F,
    ) -> Result<Outcome<T>, OnceError<E>>
    where
        T: Serialize + DeserializeOwned,
        E: Display,
        F: FnOnce(Attempt) -> W,
        W: Future<Output = Result<T, E>>,
    {
        let config = &self.config;
        let mut course = Course::new(Rules {
            forced: call.forced,
            executions: config.executions,
            failure_is_final: config.failure_is_final(),
            max_attempts: config.max_attempts,
        });
        let mut hand = Hand {
            guard: None,
            seen: None,
            own: None,
            error: None,
            attempt: 0,
            unkeepable: None,
            message: None,
            store_error: None,
            lost: LossReason::Expired,
            fence: None,
            left_under: None,
            waited: false,
            until: self.until(),
            looks_until: None,
            pause: Duration::ZERO,
        };
        let mut work = Some(work);
        loop {
            let ask = course.ask();
            if let Ask::Over(verdict) = ask {
                let lost = matches!(verdict, Verdict::Superseded { .. });
                if lost && self.may_look_again(&mut hand).await {
                    course.look_again();
                    continue;
                }
                return self.over(&call, verdict, hand).await;
            }
            match self.step(ask, &call, &mut hand, &mut work).await {
                Ok(heard) => course.hear(heard),
                Err(store) => {
                    return Err(match hand.error {
                        // What the work failed with says more than that nobody could be told.
                        Some(error) => {
                            OnceError::Failed { error, attempt: hand.attempt, is_final: false }
                        }
                        None => store.into(),
                    });
                }
            }
        }
    }

    /// Does what the course asks for; an error is that of a store that could not be asked.
    async fn step<T, E, F, W>(
        &self,
        ask: Ask,
        call: &Call,
        hand: &mut Hand<T, E>,
        work: &mut Option<F>,
    ) -> Result<Heard>
    where
        T: Serialize + DeserializeOwned,
        E: Display,
        F: FnOnce(Attempt) -> W,
        W: Future<Output = Result<T, E>>,
    {
        Ok(match ask {
            Ask::Claim => self.claim(call, hand).await?,
            Ask::Lock => {
                let until = hand.until;
                self.lock(call, hand, until).await?
            }
            Ask::TryLock => {
                let now = self.locks.clock().now();
                match self.lock(call, hand, now).await? {
                    Heard::TimedOut => {
                        hand.waited = true;
                        Heard::Busy
                    }
                    heard => heard,
                }
            }
            Ask::Read => {
                let value = self.locks.inspect(call.name.clone()).await?.value;
                Heard::Record(value.map(|value| hand.see(call, value)).transpose()?)
            }
            Ask::Write(note) => self.write(call, note, hand).await,
            Ask::Work(attempt) => {
                let work = work.take().expect("a course works once");
                self.work(attempt, hand, work).await
            }
            Ask::Leave(note) => self.leave(call, note, hand).await,
            Ask::Over(_) => unreachable!("the course is over before"),
        })
    }

    async fn claim<T, E>(&self, call: &Call, hand: &mut Hand<T, E>) -> Result<Heard> {
        let mine = call.fingerprint.to_hex();
        let other = Arc::new(Other::default());
        let tell = other.clone();
        let request = self.request(call, hand.until).on_wait(move |holders, _| {
            tell.waited.store(true, Ordering::Relaxed);
            if holders.iter().any(|h| request_of(h).is_some_and(|theirs| theirs != mine)) {
                tell.fire();
            }
        });
        let answered = async { Some(request.acquire_or_value().await) };
        let ended = futures_lite::future::or(answered, async {
            other.fired().await;
            None
        })
        .await;
        hand.waited |= other.waited.load(Ordering::Relaxed);
        match ended {
            None => Ok(Heard::OtherRequest),
            Some(Ok(Answer::Held(guard))) => {
                hand.guard = Some(guard);
                Ok(Heard::Held)
            }
            Some(Ok(Answer::Value(value))) => Ok(Heard::Record(Some(hand.see(call, value)?))),
            Some(Ok(_)) => Err(Error::new(ErrorKind::Corrupt, "the store gave no sensible answer")),
            Some(Err(error)) if error.kind().is_not_acquired() => Ok(Heard::TimedOut),
            Some(Err(error)) => Err(error),
        }
    }

    async fn lock<T, E>(&self, call: &Call, hand: &mut Hand<T, E>, until: Moment) -> Result<Heard> {
        match self.request(call, until).acquire().await {
            Ok(guard) => {
                hand.guard = Some(guard);
                Ok(Heard::Held)
            }
            Err(error) if error.kind().is_not_acquired() => Ok(Heard::TimedOut),
            Err(error) => Err(error),
        }
    }

    fn request(&self, call: &Call, until: Moment) -> tenure_core::LockRequest {
        let mut request = self
            .locks
            .lock(call.name.clone())
            .ttl(self.config.in_progress_ttl)
            .wait_timeout(until.since(self.locks.clock().now()));
        if let Some(actor) = &self.actor {
            request = request.actor(actor);
        }
        if !self.locks.capabilities().metadata {
            return request;
        }
        request.metadata(json!({ METADATA: call.fingerprint.to_hex() }))
    }

    async fn write<T, E>(&self, call: &Call, note: Note, hand: &mut Hand<T, E>) -> Heard {
        let guard = hand.guard.as_ref().expect("a course writes under the lock");
        let record = Record::new(note, &call.fingerprint.to_hex(), None).encode(&[]);
        match guard.set_value(record, keep(&self.config, note)).await {
            Ok(()) => Heard::Done,
            Err(error) if matches!(error.kind(), ErrorKind::Lost | ErrorKind::NotHeld) => {
                hand.guard = None;
                Heard::Gone
            }
            Err(error) => {
                hand.message = Some("it never began: the store did not answer".to_owned());
                hand.store_error = Some(error);
                Heard::Unsure
            }
        }
    }

    /// Runs the work, and drops it when the lease is lost.
    async fn work<T, E, F, W>(&self, number: u32, hand: &mut Hand<T, E>, work: F) -> Heard
    where
        T: Serialize + DeserializeOwned,
        E: Display,
        F: FnOnce(Attempt) -> W,
        W: Future<Output = Result<T, E>>,
    {
        let guard = hand.guard.as_ref().expect("a course works under the lock");
        hand.fence = Some(guard.fencing_token());
        hand.attempt = number;
        self.metrics.began();
        let attempt = Attempt { number, watch: guard.watch() };
        let done = async { Ok(work(attempt).await) };
        let lost = async { Err(guard.lost().await) };
        match futures_lite::future::or(lost, done).await {
            Ok(Ok(value)) => match kept_bytes(&value, self.result_max()) {
                Ok(bytes) => {
                    hand.own = Some((value, bytes));
                    Heard::Worked
                }
                Err(unkeepable) => {
                    hand.message = Some(unkeepable.to_string());
                    hand.unkeepable = Some(match unkeepable {
                        Unkeepable::TooLong { len, max } => OnceError::TooLong { len, max },
                        Unkeepable::Unreadable(error) => OnceError::Mistyped(error),
                    });
                    Heard::Unkeepable
                }
            },
            Ok(Err(error)) => {
                hand.message = Some(error.to_string());
                hand.error = Some(error);
                Heard::WorkFailed
            }
            Err(reason) => {
                // Whoever takes over begins as soon as the store says so; we may not add to it.
                tracing::warn!(lock = %guard.name(), number, %reason, "an attempt lost its lease");
                hand.lost = reason;
                hand.guard = None;
                hand.until = self.until();
                Heard::Gone
            }
        }
    }

    async fn leave<T, E>(&self, call: &Call, note: Option<Note>, hand: &mut Hand<T, E>) -> Heard {
        let guard = hand.guard.take().expect("a course leaves what it holds");
        if hand.fence.is_some() && note.is_some() {
            hand.left_under = Some(guard.fencing_token());
        }
        let released = match note {
            None => guard.release().await,
            Some(note) => {
                let message = match note.stage {
                    Stage::Failed | Stage::FailedRetry => {
                        Some(hand.message.as_deref().unwrap_or("its leader vanished"))
                    }
                    _ => None,
                };
                let result = match (&hand.own, note.stage) {
                    (Some((_, bytes)), Stage::Done) => bytes.as_slice(),
                    _ => &[],
                };
                let record = Record::new(note, &call.fingerprint.to_hex(), message).encode(result);
                guard.release_with(record, keep(&self.config, note)).await
            }
        };
        match released {
            Ok(()) => Heard::Done,
            Err(not) => {
                hand.until = self.until();
                match not {
                    NotReleased::AlreadyLost(reason) => {
                        hand.lost = reason;
                        Heard::Gone
                    }
                    _ => Heard::Unsure,
                }
            }
        }
    }

    /// Waits for whoever may take over; `false` if that is no use any more.
    async fn may_look_again<T, E>(&self, hand: &mut Hand<T, E>) -> bool {
        let now = self.locks.clock().now();
        let until = *hand.looks_until.get_or_insert(now.plus(LOOK_FOR));
        let until = until.min(hand.until);
        if hand.error.is_some() || until <= now {
            return false;
        }
        hand.pause = (hand.pause * 2).clamp(LOOK_FIRST, LOOK_LAST);
        self.locks.sleep_until(now.plus(hand.pause).min(until)).await;
        true
    }

    async fn over<T, E>(
        &self,
        call: &Call,
        verdict: Verdict,
        hand: Hand<T, E>,
    ) -> Result<Outcome<T>, OnceError<E>>
    where
        T: DeserializeOwned,
    {
        let Hand { seen, own, error, unkeepable, store_error, lost, fence, waited, .. } = hand;
        let message = || {
            let record = seen.as_ref().map(|(record, _)| record);
            let known = record.and_then(|record| record.message.clone());
            known.unwrap_or_else(|| "its leader vanished".to_owned())
        };
        match (verdict, own, error) {
            (Verdict::Mine { attempt }, Some((value, _)), _) => Ok(Outcome {
                value,
                source: Source::Executed,
                attempt,
                fence: fence.unwrap_or_default(),
                age: Duration::ZERO,
            }),
            (Verdict::Theirs { attempt } | Verdict::Mine { attempt }, ..) => {
                let (record, kept) = seen.expect("a result was found");
                let result = record.result_in(&kept.bytes);
                let source = if waited { Source::Joined } else { Source::Cached };
                debug_assert_eq!(record.note().attempt, attempt);
                Ok(Outcome {
                    value: serde_json::from_slice(result).map_err(OnceError::Mistyped)?,
                    source,
                    attempt,
                    fence: kept.fence,
                    age: self.age(kept.written),
                })
            }
            (Verdict::Failed { attempt, is_final }, _, Some(error)) => {
                Err(OnceError::Failed { error, attempt, is_final })
            }
            // The work failed, and the lease was lost: its own error says more.
            (Verdict::Superseded { attempt }, _, Some(error)) => {
                Err(OnceError::Failed { error, attempt, is_final: false })
            }
            (Verdict::Failed { attempt, .. } | Verdict::KeptFailure { attempt }, ..) => {
                Err(OnceError::KeptFailure { message: message(), attempt })
            }
            (Verdict::Unkeepable { attempt }, ..) => Err(unkeepable
                .unwrap_or_else(|| OnceError::KeptFailure { message: message(), attempt })),
            (Verdict::StillRunning, ..) => Err(self.still_running(&call.name).await),
            (Verdict::Conflict, ..) => Err(OnceError::Conflict),
            (Verdict::Superseded { attempt }, ..) => {
                Err(OnceError::Superseded { attempt, reason: lost })
            }
            (Verdict::Indeterminate { attempt }, ..) => Err(OnceError::Indeterminate { attempt }),
            (Verdict::NeverBegan, ..) => Err(OnceError::Store(store_error.unwrap_or_else(|| {
                Error::new(
                    ErrorKind::Unknown,
                    "the store did not say whether the attempt may begin",
                )
            }))),
        }
    }

    /// Who is still at it, as far as the store tells.
    pub(super) async fn still_running<E>(&self, name: &LockName) -> OnceError<E> {
        let view = self.locks.inspect(name.clone()).await.ok();
        let attempt = view.as_ref().and_then(running_attempt);
        let holder = view.and_then(|view| view.holders.into_iter().next()).map(Box::new);
        OnceError::StillRunning { attempt, holder }
    }

    fn until(&self) -> Moment {
        self.locks.clock().now().plus(self.config.wait_timeout)
    }

    fn age(&self, written: Micros) -> Duration {
        self.locks.clock().wall().since(written)
    }
}

impl<T, E> Hand<T, E> {
    fn see(&mut self, call: &Call, value: ValueView) -> Result<Found> {
        let (record, _) = Record::decode(&value.bytes)?;
        let found = Found {
            note: record.note(),
            same_request: record.fp == call.fingerprint.to_hex(),
            mine: [self.fence, self.left_under].contains(&Some(value.fence)),
        };
        self.seen = Some((record, value));
        Ok(found)
    }
}

/// The attempt that runs under a held lock, if its record says so already.
pub(super) fn running_attempt(view: &View) -> Option<u32> {
    let (holder, value) = (view.holders.first()?, view.value.as_ref()?);
    let (record, _) = Record::decode(&value.bytes).ok()?;
    let runs = value.fence == holder.fence && record.note().stage == Stage::InProgress;
    runs.then_some(record.note().attempt)
}

/// The fingerprint of the call that a holder leads, if it leads one.
fn request_of(holder: &HolderView) -> Option<String> {
    let metadata = holder.details.metadata.as_deref()?;
    let metadata: serde_json::Value = serde_json::from_str(metadata).ok()?;
    Some(metadata.get(METADATA)?.as_str()?.to_owned())
}

/// Tells a waiting claim that somebody works on another request.
#[derive(Default)]
struct Other {
    waited: AtomicBool,
    fired: AtomicBool,
    waker: AtomicWaker,
}

impl Other {
    fn fire(&self) {
        self.fired.store(true, Ordering::Release);
        self.waker.wake();
    }

    async fn fired(&self) {
        std::future::poll_fn(|cx| {
            self.waker.register(cx.waker());
            if self.fired.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
