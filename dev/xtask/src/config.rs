//! `cargo xtask config`: the reference of settings in docs/configuration.md, from the page of defaults that `atolld config` prints.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail, ensure};

const DEFAULTS: &str = "bin/atolld/src/config/default.toml";
const PAGE: &str = "docs/configuration.md";
/// What stands above it is written by hand.
const MARK: &str = "<!-- From here on made by `cargo xtask config`. -->\n";

/// Writes the reference, or with `check` fails if it is not as it would be written.
pub fn run(root: &Path, check: bool) -> Result<()> {
    let read = |name: &str| fs::read_to_string(root.join(name)).with_context(|| format!("reading {name}"));
    let page = read(PAGE)?;
    let (by_hand, _) = page.split_once(MARK).with_context(|| format!("{PAGE} lacks the line {MARK}"))?;
    let whole = format!("{by_hand}{MARK}\n{}", reference(&read(DEFAULTS)?)?);
    if check {
        ensure!(page == whole, "{PAGE} is not what `atolld config` says; run `cargo xtask config`");
        return Ok(());
    }
    fs::write(root.join(PAGE), whole).with_context(|| format!("writing {PAGE}"))
}

/// A table for each section. A comment explains the settings that follow it without an empty line between.
fn reference(defaults: &str) -> Result<String> {
    let mut text = String::from("## All settings\n");
    let (mut section, mut comment, mut in_table) = (String::new(), String::new(), false);
    let (_, settings) = defaults.split_once("\n\n").context("the page begins with a paragraph about itself")?;
    for line in settings.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            (section, in_table) = (name.to_owned(), false);
            text += &format!("\n### `[{name}]`\n");
        } else if let Some(more) = line.strip_prefix("# ") {
            if !comment.ends_with(' ') {
                comment.clear();
            }
            comment += &format!("{} ", more.replace('|', "\\|"));
        } else if let Some((key, value)) = line.split_once(" = ") {
            if !in_table {
                text += "\n| Setting | Default | Variable | |\n|---|---|---|---|\n";
                in_table = true;
            }
            let path = if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") };
            let variable = format!("ATOLL_{}", path.to_uppercase().replace('.', "_"));
            // One explanation for several settings is given with the first.
            let meaning = if comment.ends_with(' ') { comment.trim_end().to_owned() } else { "as above".into() };
            text += &format!("| `{key}` | `{value}` | `{variable}` | {meaning} |\n");
            comment = comment.trim_end().to_owned();
        } else if !line.is_empty() {
            bail!("{DEFAULTS}: neither a section, a comment nor a setting on one line: {line}");
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_become_tables() {
        let text =
            reference("# About.\n\n# The first\n# thing.\na = 1\n\n[b.c]\n# Two | more.\nd = \"x\"\ne = []\n# Last.\nf = true\n").unwrap();
        let head = "| Setting | Default | Variable | |\n|---|---|---|---|\n";
        let expected = format!(
            "## All settings\n\n{head}| `a` | `1` | `ATOLL_A` | The first thing. |\n\n### `[b.c]`\n\n{head}\
             | `d` | `\"x\"` | `ATOLL_B_C_D` | Two \\| more. |\n| `e` | `[]` | `ATOLL_B_C_E` | as above |\n| `f` | `true` | `ATOLL_B_C_F` | Last. |\n"
        );
        assert_eq!(text, expected);
        assert!(reference("# About.\n\na = [\n  1,\n]\n").is_err(), "a value over several lines");
    }
}
