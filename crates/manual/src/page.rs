//! Manual pages: one for the program and one for each of its commands.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use clap::{Arg, Command};
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};

/// Writes `program.1`, `program-command.1` and so on into a directory. `closing` sections end every page.
pub fn write_pages(command: &Command, closing: &[(&str, &str)], dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    each(&built(command), &mut |command| {
        let page = render(command, closing)?;
        fs::write(dir.join(format!("{}.1", name(command))), page)
    })
}

/// The page of the program itself.
pub fn page(command: &Command, closing: &[(&str, &str)]) -> io::Result<Vec<u8>> {
    render(&built(command), closing)
}

fn built(command: &Command) -> Command {
    let mut command = command.clone().disable_help_subcommand(true);
    command.build();
    command
}

fn each(command: &Command, visit: &mut impl FnMut(&Command) -> io::Result<()>) -> io::Result<()> {
    visit(command)?;
    command.get_subcommands().filter(|below| !below.is_hide_set()).try_for_each(|below| each(below, visit))
}

fn name(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

fn render(command: &Command, closing: &[(&str, &str)]) -> io::Result<Vec<u8>> {
    let program = name(command).split('-').next().unwrap_or_default();
    let man = Man::new(command.clone())
        .title(name(command).to_uppercase())
        .manual("Atoll")
        .source(format!("Atoll {}", env!("CARGO_PKG_VERSION")));
    let mut out = Vec::new();
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    man.render_synopsis_section(&mut out)?;
    man.render_description_section(&mut out)?;
    if command.get_arguments().any(|arg| !arg.is_hide_set()) {
        man.render_options_section(&mut out)?;
    }
    if command.has_subcommands() {
        man.render_subcommands_section(&mut out)?;
    }
    let mut rest = Roff::default();
    for (title, lines) in super::sections(command) {
        let title = title.to_uppercase();
        if title == "EXAMPLES" {
            rest.control("SH", [title.as_str()]);
            literal(&mut rest, &lines);
        } else if !closing.iter().any(|(known, _)| *known == title) {
            rest.control("SH", [title.as_str()]);
            rest.text([roman(lines.join(" "))]);
        }
    }
    environment(&mut rest, command);
    for (title, text) in closing {
        rest.control("SH", [*title]);
        entries(&mut rest, text);
    }
    if name(command) != program {
        rest.control("SH", ["SEE ALSO"]);
        rest.text([bold(program), roman("(1)")]);
    }
    rest.to_writer(&mut out)?;
    out.flush()?;
    Ok(out)
}

/// As it is, line by line.
fn literal(page: &mut Roff, lines: &[String]) {
    page.control("nf", []);
    for line in lines {
        page.text([roman(line.as_str())]);
    }
    page.control("fi", []);
}

fn environment(page: &mut Roff, command: &Command) {
    let mut variables: Vec<&Arg> = command.get_arguments().filter(|arg| arg.get_env().is_some() && !arg.is_hide_set()).collect();
    variables.sort_by_key(|arg| arg.get_env().map(ToOwned::to_owned));
    page.control("SH", ["ENVIRONMENT"]);
    for arg in variables {
        let (variable, long) = (arg.get_env().unwrap_or_default().to_string_lossy().into_owned(), arg.get_long().unwrap_or_default());
        page.control("TP", []).text([bold(variable)]).text([roman("The same as "), bold(format!("--{long}")), roman(".")]);
    }
    page.control("TP", []).text([bold("NO_COLOR")]).text([roman("When it is set and not empty, nothing is coloured.")]);
}

/// Lines of the form `term  text` as a list, others as text.
fn entries(page: &mut Roff, text: &str) {
    for line in text.lines() {
        match line.split_once("  ") {
            Some((term, text)) => page.control("TP", []).text([bold(term)]).text([roman(text.trim())]),
            None => page.control("PP", []).text([roman(line)]),
        };
    }
}
