//! A spinner for somebody who looks on while we wait.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::termios::tcgetwinsize;
use tenure::clock::Clock;
use tenure::{HolderView, LockName, Micros};

use super::Output;
use super::text::{safe, shortened, time_of_day, width};

/// How often it turns.
const TICK: Duration = Duration::from_millis(100);

/// Shows on stderr who holds the lock and how many are ahead. Nothing is drawn, and nothing costs
/// anything, before there is something to say.
#[derive(Clone)]
pub(crate) struct Spinner {
    name: LockName,
    clock: Arc<dyn Clock>,
    bar: Arc<Mutex<Option<ProgressBar>>>,
}

impl Spinner {
    /// A spinner, if stderr is a terminal and somebody wants one.
    pub(crate) fn for_somebody(
        output: Output,
        name: &LockName,
        clock: &Arc<dyn Clock>,
    ) -> Option<Self> {
        output.is_watched().then(|| Self {
            name: name.clone(),
            clock: clock.clone(),
            bar: Arc::default(),
        })
    }

    /// The store has not answered yet.
    pub(crate) fn asks(&self) {
        let mut bar = self.bar.lock().unwrap_or_else(PoisonError::into_inner);
        if bar.is_none() {
            *bar = Some(new_bar(format!("asking for \"{}\"", safe(self.name.as_str()))));
        }
    }

    /// These hold the lock, and so many waiters are ahead of us.
    pub(crate) fn waits(&self, holders: &[HolderView], ahead: usize) {
        let message = message(&self.name, holders, ahead, self.clock.wall(), columns());
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

/// What the spinner and the blank behind it take.
const SPINNER: usize = 2;

/// Who holds the lock, from when to when, and how many are ahead, in one line: the name and the
/// owner are shortened to what the rest leaves.
fn message(
    name: &LockName,
    holders: &[HolderView],
    ahead: usize,
    now: Micros,
    columns: usize,
) -> String {
    let name = safe(name.as_str());
    let place = match ahead {
        0 => "next".to_owned(),
        n => format!("{n} ahead"),
    };
    let [holder, more @ ..] = holders else {
        return format!(
            "waiting for \"{name}\": {place}, nobody holds it, and it is not granted yet"
        );
    };
    let owner = safe(&holder.details.owner.label);
    let others = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
    let (since, until) = (time_of_day(holder.since, now), time_of_day(holder.until, now));
    let whole = |name: &str, owner: &str| {
        format!(
            "waiting for \"{name}\": {place}, held by {owner}{others} since {since} until {until}"
        )
    };
    let room = columns.saturating_sub(SPINNER + width(&whole("", "")));
    let for_name = room.saturating_sub(width(&owner)).max(room / 2);
    let name = shortened(&name, for_name);
    let owner = shortened(&owner, room.saturating_sub(width(&name)));
    whole(&name, &owner)
}

/// How wide the terminal is; 80 columns if it does not say.
fn columns() -> usize {
    let size = tcgetwinsize(io::stderr()).map_or(0, |size| size.ws_col);
    if size == 0 { 80 } else { size.into() }
}
