//! Warnings of the library, on stderr as they come.
//!
//! A full subscriber would cost more at every start than all that a plain run does.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::metadata::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::Output;
use crate::failure::{Failure, Outcome};
use crate::values::quoted;

const LEVEL: &str = "TENURE_LOG";

/// Shows what is at least a warning; `TENURE_LOG` chooses another level, or `off`.
pub(crate) fn start(output: Output) -> Outcome<()> {
    let chosen = chosen()?;
    let level = match chosen {
        Some(level) => level,
        None if output.quiet => LevelFilter::OFF,
        None => LevelFilter::WARN,
    };
    if level != LevelFilter::OFF {
        let lines = Lines { level, all: chosen.is_some() };
        // Nobody else in this program sets one.
        let _ = tracing::subscriber::set_global_default(lines);
    }
    Ok(())
}

fn chosen() -> Outcome<Option<LevelFilter>> {
    let Some(level) = std::env::var_os(LEVEL).filter(|level| !level.is_empty()) else {
        return Ok(None);
    };
    let level = level.to_string_lossy();
    level.parse().map(Some).map_err(|_| {
        Failure::usage(format!("{LEVEL}: {} is not a level", quoted(&level)))
            .help("off, error, warn, info, debug or trace")
    })
}

/// One line on stderr for every event.
struct Lines {
    level: LevelFilter,
    all: bool,
}

/// What the manager warns of (a lock lost, a lock taken away) the commands tell by themselves.
const TOLD_ANYWAY: &str = "tenure_core";

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= &self.level && (self.all || !metadata.target().starts_with(TOLD_ANYWAY))
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn event(&self, event: &Event<'_>) {
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warning",
            Level::INFO => "info",
            Level::DEBUG => "debug",
            Level::TRACE => "trace",
        };
        let mut line = Line::default();
        event.record(&mut line);
        let text = super::text::safe(&format!("{}{}", line.message, line.fields));
        super::tell(&format!("tenure: {level}: {text}\n"));
    }

    // Spans are not shown.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let written = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
        written.expect("a string takes everything");
    }
}
