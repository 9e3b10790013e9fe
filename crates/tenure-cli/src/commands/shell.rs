//! `tenure completions`, `tenure man` and `tenure help`.

use clap::{CommandFactory, Parser};
use serde::Serialize;

use crate::args::{Cli, Completions, Help, Man};
use crate::failure::{Failure, Outcome};
use crate::output::Output;

#[derive(Serialize)]
struct Text<'a> {
    /// The shell, or the page.
    #[serde(rename = "for")]
    what: &'a str,
    text: &'a str,
}

pub(crate) fn completions(output: Output, args: &Completions) -> Outcome {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "tenure", &mut text);
    let text = String::from_utf8_lossy(&text);
    let body = Text { what: &args.shell.to_string(), text: &text };
    output.answer("completions", &body, || text.to_string())?;
    Ok(0)
}

/// As `--help`.
pub(crate) fn help(args: &Help) -> Outcome {
    let mut words = vec!["tenure", "--help"];
    if let Some(name) = &args.command {
        find(&Cli::command(), name)?;
        words.insert(1, name);
    }
    let help = Cli::try_parse_from(words).expect_err("help is no command line");
    help.print().map_err(|e| Failure::stdout(&e))?;
    Ok(0)
}

/// The command of this name that people may call.
fn find<'a>(root: &'a clap::Command, name: &str) -> Outcome<&'a clap::Command> {
    let found = root.find_subcommand(name).filter(|command| !command.is_hide_set());
    found.ok_or_else(|| {
        Failure::usage(format!("there is no command {name:?}")).help("`tenure --help` lists them")
    })
}

pub(crate) fn man(output: Output, args: &Man) -> Outcome {
    let mut command = Cli::command();
    // So that the options of all commands appear on the pages of each.
    command.build();
    let page = match &args.command {
        None => command,
        Some(name) => find(&command, name)?.clone(),
    };
    let synopsis = synopsis(&page);
    let what = page.get_display_name().unwrap_or(page.get_name()).to_owned();
    let mut text = Vec::new();
    let rendered = clap_mangen::Man::new(page).render(&mut text);
    rendered.expect("memory takes everything");
    let text = with_synopsis(&String::from_utf8_lossy(&text), &synopsis);
    output.answer("man", &Text { what: &what, text: &text }, || text.to_string())?;
    Ok(0)
}

/// How the command is called, as its `--help` says it, in the language of manual pages: what is
/// typed as it stands in bold, what stands for something else in italics.
fn synopsis(command: &clap::Command) -> String {
    let usage = command.clone().render_usage().to_string();
    let words = usage.trim_start_matches("Usage: ").split(' ').map(|word| {
        let (open, close) = (word.find(['<', '[']), word.rfind(['>', ']']));
        match open.zip(close) {
            Some((0, close)) => {
                let (name, end) = (&word[1..close], &word[close..]);
                format!("{}\\fI{name}\\fR{end}", &word[..1])
            }
            _ => format!("\\fB{}\\fR", word.replace('-', "\\-")),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// The page with this line in its section SYNOPSIS.
fn with_synopsis(page: &str, synopsis: &str) -> String {
    let mut inside = false;
    let mut text = String::with_capacity(page.len());
    for line in page.lines() {
        if !inside || line.starts_with(".SH ") {
            text += &format!("{line}\n");
        }
        if line.starts_with(".SH ") {
            inside = line == ".SH SYNOPSIS";
            if inside {
                text += &format!("{synopsis}\n");
            }
        }
    }
    text
}
