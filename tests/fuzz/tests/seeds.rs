//! Every committed input passes its target: a finding stays fixed.

use std::{collections::BTreeSet, fs, panic, path::Path};

use atoll_fuzz::TARGETS;

#[test]
fn every_seed_passes_its_target() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    let mut failed = Vec::new();
    for target in TARGETS {
        let dir = seeds.join(target.name);
        let paths: Vec<_> = fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())).map(|e| e.unwrap().path()).collect();
        assert!(!paths.is_empty(), "{} is empty", dir.display());
        for path in paths {
            let bytes = fs::read(&path).unwrap();
            if panic::catch_unwind(|| (target.run)(&bytes)).is_err() {
                failed.push(path);
            }
        }
    }
    assert!(failed.is_empty(), "these broke their targets: {failed:#?}");
    let known: BTreeSet<_> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    let found: BTreeSet<_> = fs::read_dir(seeds).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(found, known, "a directory of seeds for each target");
}
