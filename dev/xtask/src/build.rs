//! `cargo xtask build`: the programs in the order in which they contain each other.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};

use crate::Workspace;

/// The programs that run inside sandboxes; `atolld` embeds the first two, `atoll` the third.
const GUEST: [&str; 3] = ["envd", "launch", "attack"];

/// Builds the guest programs, always optimised since they are copied into every sandbox's start, then the others with `profile`.
/// Returns where these are.
pub fn run(workspace: &Workspace, profile: &str) -> Result<PathBuf> {
    let guest_profile = if profile == "dist" { "dist" } else { "release" };
    crate::run(workspace.cargo(&["build", "--profile", guest_profile]).args(GUEST.map(|name| format!("--package={name}"))))?;
    // Copied only when changed: a newer date alone would build `atolld` anew.
    let (built, guest) = (workspace.output_dir(guest_profile)?, workspace.path("target/guest"));
    fs::create_dir_all(&guest).with_context(|| format!("making {}", guest.display()))?;
    for name in GUEST {
        let program = fs::read(built.join(name)).with_context(|| format!("reading {}", built.join(name).display()))?;
        if fs::read(guest.join(name)).ok().as_ref() != Some(&program) {
            fs::write(guest.join(name), program).with_context(|| format!("writing {}", guest.join(name).display()))?;
        }
    }
    crate::run(workspace.cargo(&["build", "--profile", profile, "--package=atolld", "--package=atoll"]).env("ATOLL_GUEST_DIR", guest))?;
    let directory = if profile == "dev" { "debug" } else { profile };
    workspace.output_dir(directory)
}
