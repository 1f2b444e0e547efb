//! `cargo xtask lines`: how much Rust there is, and where.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::Workspace;

/// Prints a table: files, lines, and the longest file of each crate.
pub fn run(workspace: &Workspace) -> Result<()> {
    let metadata = workspace.metadata()?;
    let mut total = (0, 0);
    println!("| Crate | Files | Lines | Longest file |\n|---|---|---|---|");
    for package in metadata["packages"].as_array().context("cargo metadata lists no packages")? {
        let manifest = Path::new(package["manifest_path"].as_str().unwrap_or_default());
        let dir = manifest.parent().context("a manifest has a directory")?;
        let mut files = Vec::new();
        for path in rust_files(dir)? {
            files.push((fs::read_to_string(&path)?.lines().count(), path));
        }
        let lines: usize = files.iter().map(|(lines, _)| lines).sum();
        let (most, longest) = files.iter().max().context("a crate has files")?;
        let longest = longest.strip_prefix(dir).unwrap_or(longest).display();
        println!("| {} | {} | {lines} | {longest} ({most}) |", package["name"].as_str().unwrap_or_default(), files.len());
        total = (total.0 + files.len(), total.1 + lines);
    }
    println!("| all | {} | {} | |", total.0, total.1);
    Ok(())
}

fn rust_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(found)
}
