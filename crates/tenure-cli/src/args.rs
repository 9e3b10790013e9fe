//! What people type.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use tenure::{Conflict, Fence, LockName};

use crate::values;

mod once;

pub(crate) use self::once::{OnFailure, Once, Policy};

const EXIT_CODES: &str = "\
Exit codes:
  of `run`, `once` and `elect`: the command's own, or 128+n if signal n ended it
  64   usage error                     77   permission denied
  69   store unreachable               78   tenure.toml is wrong
  75   not acquired, deadlock (or -E)  79   the lock was lost, or is not held
  76   `once`: somebody has to look what became of a command that may run only once
  126  cannot execute the command      127  command not found
";

/// One distributed lock for every store: hold a lock while a command runs, and see who holds what.
#[derive(Debug, Parser)]
#[command(name = "tenure", version, max_term_width = 100, after_help = EXIT_CODES)]
#[command(subcommand_required = true, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Common {
    /// Where the locks are kept: file:///dir, redis://host (over TLS rediss://), redis+sentinel://…,
    /// redis+cluster://…, redlock://a,b,c (over TLS redlocks://), postgres://host/db or
    /// "host=… dbname=…", postgres+advisory://host/db, memory:, off:
    ///
    /// Without it tenure.toml says so, and without that it is a directory of this user's.
    #[arg(long, global = true, value_name = "URL", env = "TENURE_STORE", hide_env_values = true)]
    pub(crate) store: Option<String>,

    /// Read this file instead of the usual tenure.toml files
    #[arg(long, global = true, value_name = "FILE", env = "TENURE_CONFIG", hide_env_values = true)]
    pub(crate) config: Option<PathBuf>,

    /// Print one JSON object to stdout
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Say nothing but the answer: no progress, no notices, no errors but those of usage
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Hold a lock while a command runs
    Run(Run),
    /// Run a command only while this process is the leader
    Elect(Elect),

    /// Run a command once per key, and replay its output to everybody else
    Once(Once),
    /// Acquire a lock that outlives this process, and print its token
    Acquire(Acquire),
    /// Renew a lock by its token
    Renew(Renew),
    /// Release a lock by its token
    Release(Release),
    /// Show who holds a lock and who waits for it
    Status(Status),
    /// List the locks that are held or waited for
    List(List),
    /// Show locks as they change
    Watch(Watch),
    /// Take a lock away from its holder
    ForceRelease(ForceRelease),
    /// Say what this deployment guarantees, and measure it
    Doctor(Doctor),
    /// Install what the store needs, or bring it up to date
    Install(Install),
    /// Print the store's own key of a lock
    Key(Key),
    /// Print completions for a shell
    Completions(Completions),
    /// Print a manual page
    Man(Man),
    /// Print the help of a command
    Help(Help),
    /// One of the processes that `doctor` measures with
    #[cfg(feature = "file")]
    #[command(hide = true)]
    ProbeWorker(ProbeWorker),
}

/// How a lock is acquired.
#[derive(Debug, Args)]
pub(crate) struct Hold {
    #[command(flatten)]
    pub(crate) name: Name,

    /// Do not wait for the lock
    #[arg(short, long, conflicts_with = "wait")]
    pub(crate) no_wait: bool,

    /// Wait at most so long; without it, for ever [env: TENURE_WAIT=]
    // Not read from the environment here: there it would quarrel with `--no-wait`.
    #[arg(short, long, value_name = "DUR")]
    #[arg(value_parser = values::duration, allow_hyphen_values = true)]
    pub(crate) wait: Option<Duration>,

    /// Hold it together with others who do the same (readers)
    #[arg(short, long, conflicts_with = "permits")]
    pub(crate) shared: bool,

    /// Hold one of N permits (a semaphore); everybody says the same N
    #[arg(long, value_name = "N", value_parser = values::permits, allow_hyphen_values = true)]
    pub(crate) permits: Option<u32>,

    /// Take K of the permits instead of one
    #[arg(long, value_name = "K", requires = "permits")]
    #[arg(value_parser = values::permits, allow_hyphen_values = true)]
    pub(crate) take: Option<u32>,

    /// How long the lock outlives its last renewal [default: 30s]
    #[arg(long, value_name = "DUR", env = "TENURE_TTL", value_parser = values::ttl)]
    #[arg(allow_hyphen_values = true)]
    pub(crate) ttl: Option<Duration>,

    /// A head start in the queue, -1000 to 1000: each point counts as 30 s of waiting
    #[arg(long, value_name = "N", default_value = "0", value_parser = values::priority)]
    #[arg(allow_hyphen_values = true)]
    pub(crate) priority: i32,

    /// Who holds it, for others to read [default: host:pid]
    #[arg(long, value_name = "TEXT", env = "TENURE_OWNER", value_parser = values::owner)]
    pub(crate) owner: Option<String>,

    /// JSON for others to read, at most 16 KiB
    #[arg(long, value_name = "JSON", value_parser = values::metadata, allow_hyphen_values = true)]
    pub(crate) metadata: Option<serde_json::Value>,

    /// What to do if somebody else holds it: wait, fail, steal-stale[=DUR], force
    ///
    /// steal-stale takes it from a holder that gave no sign of life for DUR (5 minutes if not
    /// said); force takes it from anybody.
    #[arg(long, value_name = "STRATEGY", default_value = "wait", value_parser = values::conflict)]
    pub(crate) on_conflict: Conflict,

    /// Try again up to N times, with growing pauses, instead of waiting in the queue
    #[arg(long, value_name = "N", conflicts_with = "no_wait", value_parser = values::retries)]
    #[arg(allow_hyphen_values = true)]
    pub(crate) retries: Option<u32>,

    /// Exit with N if the lock could not be acquired [default: 75]
    #[arg(short = 'E', long, value_name = "N", value_parser = values::exit_code)]
    #[arg(env = "TENURE_CONFLICT_EXIT_CODE", allow_hyphen_values = true)]
    pub(crate) conflict_exit_code: Option<u8>,
}

/// A lock's name.
#[derive(Debug, Args)]
pub(crate) struct Name {
    /// The lock's name: 1 to 512 bytes of UTF-8 without control characters
    #[arg(value_name = "NAME", value_parser = OsStringValueParser::new().try_map(values::lock_name))]
    pub(crate) name: LockName,
}

/// The beginning of lock names.
#[derive(Debug, Args)]
pub(crate) struct Prefix {
    /// Only locks whose names begin so
    #[arg(value_name = "PREFIX", default_value = "", hide_default_value = true)]
    #[arg(value_parser = OsStringValueParser::new().try_map(values::prefix))]
    pub(crate) prefix: String,
}

/// A token that was printed by `acquire`.
#[derive(Debug, Args)]
pub(crate) struct TokenSource {
    /// Read the token from this file, `-` is stdin; without it from $TENURE_TOKEN
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

/// What happens to the command when the lock is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum OnLost {
    /// End it: SIGTERM, then SIGKILL
    Term,
    /// Let it run on; the exit code still tells
    Ignore,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) hold: Hold,

    /// What happens to the command when the lock is lost
    ///
    /// If the lease runs out, or the store is out of reach, that is before anybody else can hold
    /// the lock. After a steal or a force release it is at once on most stores, and at the next renewal,
    /// at most a third of the ttl later, on all: another may hold the lock by then, and fencing tokens refuse late writes.
    #[arg(long, value_enum, default_value = "term", value_name = "WHAT")]
    pub(crate) on_lost: OnLost,

    /// How long the command has between SIGTERM and SIGKILL when the lock is lost [default: 5s]
    #[arg(long, value_name = "DUR", env = "TENURE_KILL_AFTER", value_parser = values::duration)]
    #[arg(allow_hyphen_values = true)]
    pub(crate) kill_after: Option<Duration>,

    /// Do not renew the lock: it is lost, and the command ended, after the ttl
    #[arg(long)]
    pub(crate) no_renew: bool,

    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct Elect {
    #[command(flatten)]
    pub(crate) name: Name,

    /// Do not wait to become the leader
    #[arg(short, long, conflicts_with = "wait")]
    pub(crate) no_wait: bool,

    /// Wait at most so long to become the leader, each time; without it, for ever [env: TENURE_WAIT=]
    #[arg(short, long, value_name = "DUR")]
    #[arg(value_parser = values::duration, allow_hyphen_values = true)]
    pub(crate) wait: Option<Duration>,

    /// How long a term outlives its last renewal [default: 30s]
    #[arg(long, value_name = "DUR", env = "TENURE_TTL", value_parser = values::ttl)]
    #[arg(allow_hyphen_values = true)]
    pub(crate) ttl: Option<Duration>,

    /// A head start in the queue, -1000 to 1000: each point counts as 30 s of waiting
    #[arg(long, value_name = "N", default_value = "0", value_parser = values::priority)]
    #[arg(allow_hyphen_values = true)]
    pub(crate) priority: i32,

    /// What the candidate calls itself, for others to read [default: host:pid]
    #[arg(long, value_name = "TEXT", env = "TENURE_OWNER", value_parser = values::owner)]
    pub(crate) owner: Option<String>,

    /// Let everybody read this for as long as this process leads: an address, say
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) proclaim: Option<String>,

    /// Exit with N if another leads and is not waited for any longer [default: 75]
    #[arg(short = 'E', long, value_name = "N", value_parser = values::exit_code)]
    #[arg(env = "TENURE_CONFLICT_EXIT_CODE", allow_hyphen_values = true)]
    pub(crate) conflict_exit_code: Option<u8>,

    /// How long the command has between SIGTERM and SIGKILL when the term is lost [default: 5s]
    #[arg(long, value_name = "DUR", env = "TENURE_KILL_AFTER", value_parser = values::duration)]
    #[arg(allow_hyphen_values = true)]
    pub(crate) kill_after: Option<Duration>,

    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct Acquire {
    #[command(flatten)]
    pub(crate) hold: Hold,

    /// Write the token to this new file, readable by its owner only; without it, or if it is `-`, to
    /// stdout
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Renew {
    #[command(flatten)]
    pub(crate) name: Name,
    #[command(flatten)]
    pub(crate) token: TokenSource,

    /// How long it lives from now on; without it as long as `acquire` said
    #[arg(long, value_name = "DUR", value_parser = values::ttl, allow_hyphen_values = true)]
    pub(crate) ttl: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct Release {
    #[command(flatten)]
    pub(crate) name: Name,
    #[command(flatten)]
    pub(crate) token: TokenSource,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) name: Name,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    pub(crate) prefix: Prefix,

    /// List at most so many
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) limit: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Watch {
    #[command(flatten)]
    pub(crate) prefix: Prefix,
}

#[derive(Debug, Args)]
pub(crate) struct ForceRelease {
    #[command(flatten)]
    pub(crate) name: Name,

    /// Why; the old holder is told
    #[arg(long, value_name = "TEXT", value_parser = values::reason)]
    pub(crate) reason: String,

    /// Only the holder with this fencing token, as `status` shows it
    #[arg(long, value_name = "N", conflicts_with = "any", allow_hyphen_values = true)]
    pub(crate) fence: Option<Fence>,

    /// Whoever holds it by then, and all of them
    #[arg(long)]
    pub(crate) any: bool,

    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,

    /// Who does it; the old holder is told [default: host:pid]
    #[arg(long, value_name = "TEXT", env = "TENURE_OWNER", value_parser = values::owner)]
    pub(crate) owner: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Only say what the store promises; measure nothing
    #[arg(long)]
    pub(crate) no_measure: bool,

    /// The ttl of the locks that are to live there [default: 30s]
    #[arg(long, value_name = "DUR", env = "TENURE_TTL", value_parser = values::ttl)]
    #[arg(allow_hyphen_values = true)]
    pub(crate) ttl: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct Install {
    /// Print what would be done, for another user or program to do, and do nothing
    #[arg(long)]
    pub(crate) print: bool,

    /// Let this role of the database use the locks; may be said more than once
    #[arg(long, value_name = "ROLE")]
    pub(crate) grant: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Key {
    #[command(flatten)]
    pub(crate) name: Name,
}

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(crate) struct Man {
    /// The command whose page is printed; without it tenure's own
    pub(crate) command: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Help {
    /// The command; without it all commands are listed
    pub(crate) command: Option<String>,
}

#[cfg(feature = "file")]
#[derive(Debug, Args)]
pub(crate) struct ProbeWorker {
    pub(crate) directory: PathBuf,
    pub(crate) role: String,
    pub(crate) number: u32,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }
}
