//! Tests of the child process, each around a real process that owns one.
//!
//! The owner is this test program again, running only [`owner`]: so each has signals, a process
//! group and a terminal of its own, and none can disturb the developer's.

mod process;
mod screen;
mod stage;
mod terminal;

use std::cell::Cell;
use std::env;
use std::future::{Future, pending, ready};
use std::pin::pin;
use std::task::Poll;

use super::{Child, Exit, Signals};

/// The command of the owner, its words separated by [`SEPARATOR`].
const COMMAND: &str = "TENURE_TEST_COMMAND";
/// What the owner does with its child; see [`act`].
const MODE: &str = "TENURE_TEST_MODE";
const SEPARATOR: char = '\x1f';

/// Not a test by itself: what the owner process runs.
#[test]
fn owner() {
    let Ok(command) = env::var(COMMAND) else {
        return;
    };
    let mode = env::var(MODE).unwrap_or_default();
    let command: Vec<_> = command.split(SEPARATOR).map(Into::into).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let code = runtime.block_on(async {
        let mut signals = Signals::new().unwrap();
        if mode == "signal-first" {
            report("waiting");
            return signals.next().await.as_raw().try_into().unwrap();
        }
        match Child::spawn(&command, &[("TENURE_TEST_ADDED".into(), "added".into())]) {
            Ok(mut child) => act(&mode, &mut child, &mut signals).await.code(),
            Err(error) => error.code(),
        }
    });
    std::process::exit(code.into());
}

async fn act(mode: &str, child: &mut Child, signals: &mut Signals) -> Exit {
    match mode {
        // The first signal stands for the loss, the second for the end of the grace period.
        "end" => {
            signals.next().await;
            child.end(async { _ = signals.next().await }).await
        }
        "end-without-kill" => {
            signals.next().await;
            child.end(pending()).await
        }
        "lost-while-stopped" => {
            let lost = Cell::new(false);
            let may_resume = || {
                lost.set(true);
                false
            };
            if let Some(exit) = until(&lost, child.wait(signals, may_resume)).await {
                return exit;
            }
            report("lost");
            signals.next().await;
            child.end(ready(())).await
        }
        _ => child.wait(signals, || true).await,
    }
}

fn report(line: &str) {
    std::fs::write(env::var_os("REPORT").unwrap(), format!("{line}\n")).unwrap();
}

/// Polls `wait` until it ends or has set `flag`.
async fn until(flag: &Cell<bool>, wait: impl Future<Output = Exit>) -> Option<Exit> {
    let mut wait = pin!(wait);
    std::future::poll_fn(|cx| match wait.as_mut().poll(cx) {
        Poll::Ready(exit) => Poll::Ready(Some(exit)),
        Poll::Pending if flag.get() => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await
}
