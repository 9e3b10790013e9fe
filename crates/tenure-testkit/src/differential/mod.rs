//! The same random commands to a store and to the pure machine have the same outcomes.
//!
//! For every backend, native ones above all: [`commands`] makes sequences, [`compare`] runs one
//! against a fresh [`Subject`], [`run`] does both a number of times and shrinks what differs.
//! Fences are compared by their order, times not at all; a subject that can let time pass is also
//! asked to.

mod command;
mod model;
mod outcome;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use tenure_core::Result;
use tenure_core::backend::DynBackend;

pub use command::{Command, commands};

use command::Cast;
use model::Model;
use outcome::{Fences, Seen};

/// How often a call with an unknown outcome is made again.
const ATTEMPTS: usize = 100;

/// A store on trial: one, or several that are processes over the same.
pub struct Subject {
    /// The processes; commands go to them in turn.
    pub backends: Vec<Arc<dyn DynBackend>>,
    /// Lets so much time pass for the store; `None` if it cannot.
    pub pass: Option<Pass>,
    /// Whether the store remembers those who have released; a store that no request reaches late
    /// has no need to.
    pub remembers_released: bool,
    /// Whether looking at a lock also ends what is over in it, or only shows it as ended. It makes a
    /// difference to when a lock is handed on, and so to when it has to be picked up.
    pub looking_ends: bool,
    /// Whether the test makes calls fail: an unknown outcome is then asked for again, and
    /// evictions, which cannot be, are left out.
    pub faulty: bool,
}

/// Lets time pass for a store.
pub type Pass = Box<dyn Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync>;

impl std::fmt::Debug for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subject").field("processes", &self.backends.len()).finish_non_exhaustive()
    }
}

/// Runs `commands` against `subject` and against the machine.
///
/// # Errors
/// With the first difference, and the commands up to it.
pub async fn compare(subject: &Subject, commands: &[Command]) -> Result<(), String> {
    let cast = Cast::new();
    let mut model = Model::new(subject.looking_ends);
    let mut fences = Fences::default();
    let mut asked = HashSet::new();
    for (at, command) in commands.iter().enumerate() {
        if let Command::Pass(time) = command {
            let Some(pass) = &subject.pass else { continue };
            pass(*time).await;
            model.pass(*time);
            continue;
        }
        let eviction = matches!(command, Command::Evict(..) | Command::EvictStranger(_));
        if subject.faulty && eviction {
            continue;
        }
        if !subject.remembers_released && model.has_released(&cast, command) {
            continue;
        }
        let expected = model.run(&cast, command);
        let process = &subject.backends[at % subject.backends.len()];
        // The store may be told that a claim is sent for the first time, if it is so for certain.
        let first = match command {
            Command::Acquire(n, who, _) | Command::Again(n, who) => asked.insert((*n, *who)),
            _ => false,
        };
        let looking_ends = subject.looking_ends;
        let first = first && !subject.faulty;
        let mut seen = Seen::of(&**process, &cast, command, looking_ends, first).await;
        for _ in 0..ATTEMPTS {
            if !subject.faulty || !seen.as_ref().is_err_and(|e| e.kind().is_transient()) {
                break;
            }
            seen = Seen::of(&**process, &cast, command, looking_ends, false).await;
        }
        let same = match &seen {
            Ok(seen @ Seen::View(_)) if !subject.looking_ends => {
                Fences::default().same(command.name(), &expected, seen)
            }
            Ok(seen) => fences.same(command.name(), &expected, seen),
            Err(_) => false,
        };
        if !same {
            let so_far: Vec<_> = commands[..=at].iter().map(|c| format!("  {c:?}")).collect();
            let so_far = so_far.join("\n");
            return Err(format!(
                "the machine says {expected:?},\nthe store {seen:?}\nafter\n{so_far}"
            ));
        }
    }
    Ok(())
}

/// Makes `cases` sequences from `seed` and runs each against a fresh subject.
///
/// # Panics
/// If store and machine differ: with the shortest sequence that shows it.
pub fn run(seed: u64, cases: u32, subject: impl AsyncFn() -> Subject) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime to run the store in");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, rng);
    let judged = runner.run(&commands(), |commands| {
        let compared = runtime.block_on(async { compare(&subject().await, &commands).await });
        compared.map_err(TestCaseError::fail)
    });
    match judged {
        Ok(()) => {}
        Err(TestError::Fail(how, _)) => panic!("{how}"),
        Err(other) => panic!("{other}"),
    }
}
