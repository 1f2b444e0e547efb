//! What a program says about itself beyond `--help`: completions for shells and manual pages, both made from its clap grammar.
//!
//! The help of a command ends with sections, `Examples:` first, each a title at the margin and indented lines. Manual pages turn them into
//! sections of their own.

mod completion;
mod page;

use clap::Command;

pub use clap_complete::Shell;
pub use completion::completion;
pub use page::{page, write_pages};

/// The sections after a command's options: titles, and the lines below each without their indentation.
fn sections(command: &Command) -> Vec<(String, Vec<String>)> {
    let text = command.get_after_long_help().or(command.get_after_help()).map(ToString::to_string).unwrap_or_default();
    let mut sections: Vec<(String, Vec<String>)> = Vec::new();
    for line in text.lines() {
        match (line.strip_prefix("  "), sections.last_mut()) {
            (Some(line), Some((_, lines))) => lines.push(line.to_owned()),
            _ => sections.extend(line.strip_suffix(':').map(|title| (title.to_owned(), Vec::new()))),
        }
    }
    sections
}

/// The lines of a command's examples.
pub fn examples(command: &Command) -> Vec<String> {
    sections(command).into_iter().filter(|(title, _)| title == "Examples").flat_map(|(_, lines)| lines).collect()
}

/// Every command that does something: the whole grammar's leaves, by the words that lead there.
pub fn leaves(command: &Command) -> Vec<(String, &Command)> {
    let mut below = command.get_subcommands().filter(|below| !below.is_hide_set()).peekable();
    if below.peek().is_none() {
        return vec![(command.get_name().to_owned(), command)];
    }
    let with_name = |(words, leaf)| (format!("{} {words}", command.get_name()), leaf);
    below.flat_map(leaves).map(with_name).collect()
}
