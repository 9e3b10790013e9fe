//! `tenure completions` and `tenure man`.

use clap::CommandFactory;
use serde::Serialize;

use crate::args::{Cli, Completions, Man};
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

pub(crate) fn man(output: Output, args: &Man) -> Outcome {
    let mut command = Cli::command();
    // So that the options of all commands appear on the pages of each.
    command.build();
    let page = match &args.command {
        None => command,
        Some(name) => {
            let found =
                command.get_subcommands().find(|c| c.get_name() == name && !c.is_hide_set());
            found.cloned().ok_or_else(|| {
                Failure::usage(format!("there is no command {name:?}"))
                    .help("`tenure --help` lists them")
            })?
        }
    };
    let what = page.get_display_name().unwrap_or(page.get_name()).to_owned();
    let mut text = Vec::new();
    let rendered = clap_mangen::Man::new(page).render(&mut text);
    rendered.expect("memory takes everything");
    let text = String::from_utf8_lossy(&text);
    output.answer("man", &Text { what: &what, text: &text }, || text.to_string())?;
    Ok(0)
}
