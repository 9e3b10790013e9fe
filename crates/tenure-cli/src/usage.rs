//! Arguments that were not understood: what is wrong with them, and what to type instead.

use std::error::Error as _;
use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory, Parser};

use crate::args::Cli;
use crate::failure::Failure;

/// What `error` says of `args`.
pub(crate) fn complaint(args: &[OsString], error: &clap::Error) -> Box<Failure> {
    let no_command =
        [ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand, ErrorKind::MissingSubcommand];
    if no_command.contains(&error.kind()) {
        return Failure::usage("there is no command").help("`tenure --help` lists them");
    }
    let argument = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(argument)) => Some(argument.as_str()),
        _ => None,
    };
    let root = all_commands();
    let command = called(&root, args);
    if let (Some(argument), Some(source)) = (argument, error.source()) {
        let said = by_flag_or_variable(command, args, argument);
        return match source.downcast_ref::<tenure::Error>() {
            Some(typed) => {
                let failure = Failure::usage(format!("{said}: {}", typed.message()));
                match typed.help() {
                    Some(help) => failure.help(help),
                    None => failure.help(see(args)),
                }
            }
            None => Failure::usage(format!("{said}: {source}")).help(see(args)),
        };
    }
    let text = error.render().to_string();
    let mut paragraphs = text.split("\n\n").map(str::trim);
    let message = paragraphs.next().unwrap_or_default();
    let message = message.strip_prefix("error: ").unwrap_or(message);
    let mut tips: Vec<&str> = paragraphs
        .flat_map(str::lines)
        .filter_map(|line| line.trim().strip_prefix("tip: "))
        .filter(|tip| !tip.starts_with("to pass ") || is_a_value(command, args, argument))
        .collect();
    if error.kind() == ErrorKind::InvalidSubcommand {
        tips.push("`tenure --help` lists all commands");
    }
    let help = match tips.as_slice() {
        // Not clap's own usage line: it takes what a variable says for an argument.
        [] => command.clone().render_usage().to_string().replace("Usage: ", "usage: "),
        tips => tips.join("\n"),
    };
    Failure::usage(message).help(help)
}

/// Where the options of the command that was called are explained.
pub(crate) fn see(args: &[OsString]) -> String {
    let root = all_commands();
    let command = called(&root, args);
    format!("see `{} --help`", command.get_bin_name().unwrap_or("tenure"))
}

/// The commands that `help` advises, with the store that was named on this command line: without it
/// they would ask another one.
pub(crate) fn on_the_same_store(args: &[OsString], help: &str) -> String {
    let places = places(args);
    let mut parts = help.split('`');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for (at, part) in parts.enumerate() {
        text.push('`');
        match part.strip_prefix("tenure ") {
            // Between the quotes, and not between two pairs of them.
            Some(command) if at % 2 == 0 && !command.ends_with("--help") => {
                text += &format!("tenure {places}{command}");
            }
            _ => text += part,
        }
    }
    text
}

/// `--store` and `--config` as they were typed, with a space behind each; what a shell would not take
/// as it is, or may hold a password, is left for people to fill in.
fn places(args: &[OsString]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./:%+-,".contains(c);
    let mut text = String::new();
    let mut words = args.iter().skip(1).take_while(|arg| *arg != "--");
    while let Some(word) = words.next() {
        let word = word.to_string_lossy();
        for (option, unsaid) in [("--store", "URL"), ("--config", "FILE")] {
            let value = match word.strip_prefix(option) {
                Some("") => words.next().map(|value| value.to_string_lossy().into_owned()),
                Some(rest) => rest.strip_prefix('=').map(str::to_owned),
                None => None,
            };
            if let Some(value) = value {
                let said = if value.chars().all(plain) { &value } else { unsaid };
                text += &format!("{option} {said} ");
            }
        }
    }
    text
}

fn all_commands() -> Command {
    let mut root = Cli::command();
    root.build();
    root
}

/// The command that was called; the program itself if it was none.
fn called<'a>(root: &'a Command, args: &[OsString]) -> &'a Command {
    let mut words = args.iter().skip(1).take_while(|arg| *arg != "--");
    while let Some(word) = words.next() {
        if word == "--store" || word == "--config" {
            words.next();
        } else if !word.to_string_lossy().starts_with('-') {
            let name = word.to_str().unwrap_or_default();
            let found = root.find_subcommand(name).filter(|command| !command.is_hide_set());
            return found.unwrap_or(root);
        }
    }
    root
}

/// The option itself, or the variable that stood in for it: what was not typed is not to blame.
fn by_flag_or_variable(command: &Command, args: &[OsString], argument: &str) -> String {
    let option = argument.split(' ').next().unwrap_or(argument);
    let Some(long) = option.strip_prefix("--") else { return option.to_owned() };
    let known = command.get_arguments().find(|known| known.get_long() == Some(long));
    let Some(variable) = known.and_then(|known| known.get_env()) else { return option.to_owned() };
    let short = known.and_then(clap::Arg::get_short);
    let typed = args.iter().skip(1).take_while(|arg| *arg != "--").any(|arg| {
        let arg = arg.to_string_lossy();
        let cluster = arg.strip_prefix('-').filter(|rest| !rest.starts_with('-'));
        arg == option
            || arg.starts_with(&format!("{option}="))
            || cluster.zip(short).is_some_and(|(cluster, short)| cluster.contains(short))
    });
    if typed { option.to_owned() } else { variable.to_string_lossy().into_owned() }
}

/// Whether the argument would be understood behind `--`. Behind that of `run` is the command.
fn is_a_value(command: &Command, args: &[OsString], argument: Option<&str>) -> bool {
    let at = args.iter().position(|arg| Some(arg.to_string_lossy().as_ref()) == argument);
    let Some(at) = at.filter(|_| command.get_name() != "run") else { return false };
    let mut args = args.to_vec();
    args.insert(at, "--".into());
    Cli::try_parse_from(args).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &str) -> Vec<OsString> {
        words.split(' ').map(OsString::from).collect()
    }

    fn help(line: &str) -> String {
        let args = words(line);
        let error = Cli::try_parse_from(&args).unwrap_err();
        complaint(&args, &error).help.unwrap()
    }

    #[test]
    fn two_dashes_are_advised_only_where_they_help() {
        assert!(help("tenure status --odd").contains("use '-- --odd'"));
        for line in ["tenure status x --odd", "tenure run --odd x -- true", "tenure --odd"] {
            assert!(!help(line).contains("'--"), "{line}");
            assert!(help(line).starts_with("usage: tenure "), "{line}");
        }
        assert_eq!(
            help("tenure run --no-wiat x -- true"),
            "a similar argument exists: '--no-wait'"
        );
    }

    #[test]
    fn help_names_the_store_that_was_asked_and_no_password() {
        let help = "wait, or `tenure status NAME` shows it; see `tenure run --help` and `-E`";
        for (line, seen) in [
            ("tenure --store redis://h:1/2 run x", "`tenure --store redis://h:1/2 status NAME`"),
            ("tenure run x --store=file:/l --config c", "--store file:/l --config c status NAME`"),
            ("tenure --store redis://:secret@h run x", "`tenure --store URL status NAME`"),
            ("tenure run x -- --store y", "`tenure status NAME`"),
        ] {
            let said = on_the_same_store(&words(line), help);
            assert!(said.contains(seen) && said.contains("`tenure run --help` and `-E`"), "{said}");
            assert!(!said.contains("secret"));
        }
    }

    #[test]
    fn help_is_that_of_the_command() {
        for (line, seen) in [
            ("tenure --store run acquire x", "see `tenure acquire --help`"),
            ("tenure -q run x -- status", "see `tenure run --help`"),
            ("tenure elope", "see `tenure --help`"),
            ("tenure", "see `tenure --help`"),
        ] {
            assert_eq!(see(&words(line)), seen);
        }
    }
}
