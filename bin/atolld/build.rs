//! Embeds the guest programs: those in `ATOLL_GUEST_DIR`, or where `cargo xtask build` puts them; nothing if they are not built.

use std::{env, fs, io, path::PathBuf};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-env-changed=ATOLL_GUEST_DIR");
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let usual = || manifest.join("../../target/guest");
    let dir = env::var_os("ATOLL_GUEST_DIR").map_or_else(usual, PathBuf::from);
    let mut code = String::new();
    for (name, constant) in [("envd", "ENVD"), ("launch", "LAUNCH")] {
        let program = dir.join(name);
        println!("cargo::rerun-if-changed={}", program.display());
        let embedded = match program.canonicalize() {
            Ok(path) => format!("Some(include_bytes!({:?}))", path),
            Err(_) => "None".into(),
        };
        code += &format!("const {constant}: Option<&[u8]> = {embedded};\n");
    }
    fs::write(PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("guest.rs"), code)
}
