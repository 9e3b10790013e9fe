//! What people type after `tenure once`.

use std::ffi::OsString;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, ValueEnum};

use crate::values;

/// Whether a command whose process vanished may be run again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Policy {
    /// It may: it runs once, or again if a run of it was lost
    AtLeastOnce,
    /// It may not: somebody has to look, and then forget the key. One that a signal ended is not
    /// run again either
    AtMostOnce,
}

/// What becomes of a command that ends with another code than 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum OnFailure {
    /// Its output and exit code are the result like any other
    Keep,
    /// The next caller, or one that waits, runs it again
    Retry,
}

#[derive(Debug, Args)]
pub(crate) struct Once {
    /// The key: any text; calls with the same key are one call
    #[arg(value_name = "KEY", value_parser = OsStringValueParser::new().try_map(values::once_key))]
    pub(crate) key: String,

    /// Keys of another scope are other keys
    #[arg(long, value_name = "TEXT", default_value = "cli")]
    pub(crate) scope: String,

    /// Show what is known of the key, and run nothing
    #[arg(long, conflicts_with_all = ["forget", "force", "command"])]
    pub(crate) status: bool,

    /// Forget what is kept of the key, so that the next call runs; refused while somebody is at it
    #[arg(long, conflicts_with_all = ["force", "command"])]
    pub(crate) forget: bool,

    /// Run it, whatever is kept, and keep the new result
    #[arg(long)]
    pub(crate) force: bool,

    /// How long the result is kept
    #[arg(long, value_name = "DUR", default_value = "1h", value_parser = values::duration)]
    #[arg(allow_hyphen_values = true)]
    pub(crate) ttl: Duration,

    /// Do not wait for somebody else's result
    #[arg(short, long, conflicts_with = "wait")]
    pub(crate) no_wait: bool,

    /// Wait for somebody else's result at most so long; without it, for ever [env: TENURE_WAIT=]
    // Not read from the environment here: there it would quarrel with `--no-wait`.
    #[arg(short, long, value_name = "DUR")]
    #[arg(value_parser = values::duration, allow_hyphen_values = true)]
    pub(crate) wait: Option<Duration>,

    /// What is asked for under the key, if that is not the command itself: the same key with
    /// another fingerprint is refused
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) fingerprint: Option<String>,

    /// Whether a command whose process vanished, or that a signal ended, is run again
    #[arg(long, value_enum, default_value = "at-least-once", value_name = "POLICY")]
    pub(crate) policy: Policy,

    /// What becomes of a command that ends with another code than 0
    #[arg(long, value_enum, default_value = "keep", value_name = "WHAT")]
    pub(crate) on_failure: OnFailure,

    /// How often the command is tried, if it may run more than once: runs that were lost count, and
    /// those that failed with `--on-failure retry` or of a signal
    #[arg(long, value_name = "N", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) max_attempts: u32,

    /// How long failures are counted, and the last one is everybody's answer; at least as long as
    /// results where the command may run only once
    #[arg(long, value_name = "DUR", default_value = "1m", value_parser = values::duration)]
    #[arg(allow_hyphen_values = true)]
    pub(crate) fail_ttl: Duration,

    /// How long whoever runs it may be silent before another takes over
    #[arg(long, value_name = "DUR", default_value = "30s", value_parser = values::ttl)]
    #[arg(allow_hyphen_values = true)]
    pub(crate) lease: Duration,

    /// How long the command has between SIGTERM and SIGKILL when the lease is lost [default: 5s]
    #[arg(long, value_name = "DUR", env = "TENURE_KILL_AFTER", value_parser = values::duration)]
    #[arg(allow_hyphen_values = true)]
    pub(crate) kill_after: Option<Duration>,

    /// Who runs it, for others to read [default: host:pid]
    #[arg(long, value_name = "TEXT", env = "TENURE_OWNER", value_parser = values::owner)]
    pub(crate) owner: Option<String>,

    /// Exit with N if somebody else is still at it, or in a deadlock [default: 75]
    #[arg(short = 'E', long, value_name = "N", value_parser = values::exit_code)]
    #[arg(env = "TENURE_CONFLICT_EXIT_CODE", allow_hyphen_values = true)]
    pub(crate) conflict_exit_code: Option<u8>,

    /// The command and its arguments
    #[arg(last = true, value_name = "COMMAND", required_unless_present_any = ["status", "forget"])]
    pub(crate) command: Vec<OsString>,
}
