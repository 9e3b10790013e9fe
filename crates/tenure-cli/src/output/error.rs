//! Failures for people.

use std::fmt::Write as _;

use super::text::safe;
use crate::failure::Failure;

const RED: &str = "\x1b[1;31m";
const CYAN: &str = "\x1b[36m";
const PLAIN: &str = "\x1b[0m";
/// The most holders that are shown.
const HOLDERS: usize = 5;

/// What happened, to which lock, on which store, and what to do next.
pub(crate) fn render(failure: &Failure, colors: bool) -> String {
    let paint = |color: &'static str| if colors { color } else { "" };
    let (red, cyan, plain) = (paint(RED), paint(CYAN), paint(PLAIN));
    let mut text = String::new();
    let mut line = |color: &str, label: &str, value: &str| {
        // Values may have lines of their own; everything else that is not text is made visible.
        for (at, part) in value.lines().enumerate() {
            let begin = match at {
                0 => format!("{color}{label}:{plain} "),
                _ => " ".repeat(label.len() + 2),
            };
            writeln!(text, "{begin}{}", safe(part.trim_end())).expect("a string takes everything");
        }
    };
    line(red, "error", &failure.message);
    for cause in &failure.causes {
        line("", "  because", cause);
    }
    for holder in failure.holders.iter().take(HOLDERS) {
        line("", "  held by", &holder.to_string());
    }
    if HOLDERS < failure.holders.len() {
        line("", "  held by", &format!("{} more", failure.holders.len() - HOLDERS));
    }
    if let Some(store) = &failure.store {
        line("", "  store", store);
    }
    if let Some(help) = failure.help_with_name() {
        line(cyan, "  help", &help);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_line_by_line_and_cannot_play_tricks() {
        let mut failure =
            Failure::new(75, "busy", "acquiring \"x\": somebody else\u{1b}[2J has it")
                .cause("no reason")
                .help("wait\nor do not");
        failure.store = Some("memory:".into());
        assert_eq!(
            render(&failure, false),
            "error: acquiring \"x\": somebody else\\u{1b}[2J has it\n  because: no reason\n  \
             store: memory:\n  help: wait\n        or do not\n"
        );
        assert!(render(&failure, true).starts_with("\u{1b}[1;31merror:\u{1b}[0m "));
    }
}
