//! `cargo xtask walls`: which crate may depend on which. The table is the law; `cargo metadata` is what is.

use std::{collections::BTreeMap, fmt};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::Workspace;

/// Who may use whom. `atolld` constructs everything; `dev/` is free, but nobody may use it.
const LAW: &str = "
atolld  -> control manual node proxy runtime store sys types wire
atoll   -> manual types wire
envd    -> sys wire
attack  -> sys
launch  -> sys
control -> store types wire
node    -> runtime sys types wire
proxy   -> types wire
runtime -> sys types
store   -> types
wire    -> types
sys     ->
types   ->
manual  ->
testkit -> control node proxy runtime store sys types wire
bench   ->
fuzz    -> control envd node proxy store sys types wire
xtask   ->
";

#[derive(Debug, PartialEq)]
struct Breach {
    from: String,
    to: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to } = self;
        let law = LAW.lines().find(|line| line.split_whitespace().next() == Some(from));
        write!(f, "`{from}` may not depend on `{to}`; the law says: {}", law.unwrap_or("nothing about it, add a line to it"))
    }
}

/// Prints every dependency that the law does not allow, and fails if there is one.
pub fn run(workspace: &Workspace) -> Result<()> {
    let breaches = breaches(&workspace.metadata()?)?;
    if breaches.is_empty() {
        return Ok(());
    }
    bail!("walls: {}", breaches.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n       "))
}

fn breaches(metadata: &Value) -> Result<Vec<Breach>> {
    let law: BTreeMap<&str, Vec<&str>> =
        LAW.lines().filter_map(|line| line.split_once("->")).map(|(from, to)| (from.trim(), to.split_whitespace().collect())).collect();
    let mut breaches = Vec::new();
    for package in metadata["packages"].as_array().context("cargo metadata lists no packages")? {
        let from = room(&package["name"]);
        // Only crates of the workspace have a path. What only tests use is free.
        let ours = package["dependencies"].as_array().into_iter().flatten().filter(|d| d["path"].is_string() && d["kind"] != "dev");
        let allowed = law.get(from);
        if allowed.is_none() {
            breaches.push(Breach { from: from.into(), to: "anything".into() });
        }
        for to in ours.map(|dependency| room(&dependency["name"])) {
            if allowed.is_some_and(|allowed| !allowed.contains(&to)) {
                breaches.push(Breach { from: from.into(), to: to.into() });
            }
        }
    }
    Ok(breaches)
}

fn room(name: &Value) -> &str {
    let name = name.as_str().unwrap_or_default();
    name.strip_prefix("atoll-").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn package(name: &str, dependency: &str, kind: Option<&str>) -> Value {
        json!({ "packages": [{ "name": name, "dependencies": [
            { "name": dependency, "kind": kind, "path": "/somewhere" },
            { "name": "serde", "kind": null },
        ] }] })
    }

    #[test]
    fn says_which_line_was_broken() {
        let found = breaches(&package("atoll-proxy", "atoll-store", None)).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].to_string(), "`proxy` may not depend on `store`; the law says: proxy   -> types wire");
        assert_eq!(breaches(&package("new", "atoll-sys", None)).unwrap().len(), 1);
        assert_eq!(breaches(&package("atoll-proxy", "atoll-store", Some("build"))).unwrap().len(), 1);
    }

    #[test]
    fn allows_what_the_law_allows_and_what_only_tests_use() {
        assert_eq!(breaches(&package("atoll-proxy", "atoll-wire", None)).unwrap(), []);
        assert_eq!(breaches(&package("atoll-proxy", "atoll-testkit", Some("dev"))).unwrap(), []);
    }
}
