//! Embeds the escape harness: the one in `ATOLL_GUEST_DIR`, or where `cargo xtask build` puts it; nothing if it is not built.

use std::{env, fs, io, path::PathBuf};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-env-changed=ATOLL_GUEST_DIR");
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let dir = env::var_os("ATOLL_GUEST_DIR").map_or_else(|| manifest.join("../../target/guest"), PathBuf::from);
    let program = dir.join("attack");
    println!("cargo::rerun-if-changed={}", program.display());
    let embedded = match program.canonicalize() {
        Ok(path) => format!("Some(include_bytes!({path:?}))"),
        Err(_) => "None".into(),
    };
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    fs::write(out.join("attack.rs"), format!("const PROGRAM: Option<&[u8]> = {embedded};\n"))
}
