//! One target, named by `ATOLL_FUZZ_TARGET`, under libFuzzer. `cargo xtask fuzz` builds and runs it.

#![no_main]

use std::sync::LazyLock;

use atoll_fuzz::{TARGETS, Target};

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("ATOLL_FUZZ_TARGET").unwrap_or_default();
    TARGETS.iter().find(|target| target.name == name).expect("ATOLL_FUZZ_TARGET names a target")
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| (TARGET.run)(bytes));
