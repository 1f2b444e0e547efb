//! The links between our documents lead somewhere.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};

use crate::Workspace;

/// Fails with every relative link in the documents that leads to no file.
pub fn run(workspace: &Workspace) -> Result<()> {
    let mut pages = vec![workspace.path("README.md"), workspace.path("CHANGELOG.md")];
    let docs = workspace.path("docs");
    for entry in fs::read_dir(&docs).with_context(|| format!("reading {}", docs.display()))? {
        pages.push(entry?.path());
    }
    let mut broken = Vec::new();
    for page in pages.iter().filter(|page| page.extension().is_some_and(|extension| extension == "md")) {
        let text = fs::read_to_string(page).with_context(|| format!("reading {}", page.display()))?;
        let dir = page.parent().unwrap_or(Path::new("."));
        broken.extend(targets(&text).filter(|target| !dir.join(target).exists()).map(|target| format!("{}: {target}", page.display())));
    }
    ensure!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
    Ok(())
}

/// The files to which `[text](target#part)` points, elsewhere on the web excepted.
fn targets(text: &str) -> impl Iterator<Item = &str> {
    let links = text.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(target, _)| target));
    links.filter(|target| !target.contains("://") && !target.starts_with('#')).filter_map(|target| target.split('#').next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_links_that_can_break() {
        let text = "see [a](a.md), [b](https://b.example/x), [c](#part) and [d](../d.md#part)";
        assert_eq!(targets(text).collect::<Vec<_>>(), ["a.md", "../d.md"]);
    }
}
