//! A spinner for somebody who looks on while we wait.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tenure::{HolderView, LockName, Utc};

use super::Output;
use super::text::{count, safe};

/// How often it turns.
const TICK: Duration = Duration::from_millis(100);

/// Shows on stderr who holds the lock and how many are ahead. Nothing is drawn, and nothing costs
/// anything, before there is something to say.
#[derive(Clone)]
pub(crate) struct Spinner {
    name: LockName,
    bar: Arc<Mutex<Option<ProgressBar>>>,
}

impl Spinner {
    /// A spinner, if stderr is a terminal and somebody wants one.
    pub(crate) fn for_somebody(output: Output, name: &LockName) -> Option<Self> {
        output.is_watched().then(|| Self { name: name.clone(), bar: Arc::default() })
    }

    /// The store has not answered yet.
    pub(crate) fn asks(&self) {
        let mut bar = self.bar.lock().unwrap_or_else(PoisonError::into_inner);
        if bar.is_none() {
            *bar = Some(new_bar(format!("asking for {}", self.quoted())));
        }
    }

    /// These hold the lock, and so many waiters are ahead of us.
    pub(crate) fn waits(&self, holders: &[HolderView], ahead: usize) {
        let message = self.message(holders, ahead);
        let mut bar = self.bar.lock().unwrap_or_else(PoisonError::into_inner);
        match &*bar {
            Some(bar) => bar.set_message(message),
            None => *bar = Some(new_bar(message)),
        }
    }

    /// Wipes it away.
    pub(crate) fn end(&self) {
        let bar = self.bar.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
    }

    fn message(&self, holders: &[HolderView], ahead: usize) -> String {
        let place = match ahead {
            0 => "next in the queue".to_owned(),
            n => format!("{} ahead in the queue", count(n, "waiter")),
        };
        let held = match holders {
            [] => "free, but somebody else is next".to_owned(),
            [holder, more @ ..] => {
                let owner = safe(&holder.details.owner.label);
                let others = if more.is_empty() {
                    String::new()
                } else {
                    format!(" and {} more", more.len())
                };
                let (since, until) = (Utc(holder.since), Utc(holder.until));
                format!("held by {owner}{others} since {since} until {until}")
            }
        };
        format!("waiting for {}: {place}, {held}", self.quoted())
    }

    fn quoted(&self) -> String {
        format!("\"{}\"", safe(self.name.as_str()))
    }
}

impl fmt::Debug for Spinner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spinner").field("name", &self.name).finish_non_exhaustive()
    }
}

fn new_bar(message: String) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let color = if super::has_colors() { "{spinner:.cyan}" } else { "{spinner}" };
    let style = ProgressStyle::with_template(&format!("{color} {{wide_msg}}"));
    bar.set_style(style.expect("the template is a constant"));
    bar.set_message(message);
    bar.tick();
    bar.enable_steady_tick(TICK);
    bar
}
