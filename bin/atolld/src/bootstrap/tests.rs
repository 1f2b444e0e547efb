use super::*;
use crate::{config::Config, scratch::Scratch};

fn base() -> Base {
    Config::defaults().template.base
}

#[test]
fn the_name_follows_the_recipe() {
    let name = Recipe::debootstrap(&base()).name();
    assert_eq!(name, Recipe::debootstrap(&base()).name());
    assert!(name.starts_with("base-") && name.len() == 25, "{name}");
    for other in [Base { suite: "trixie".into(), ..base() }, Base { packages: vec!["vim".into()], ..base() }] {
        assert_ne!(name, Recipe::debootstrap(&other).name());
    }
}

#[test]
fn failures_say_what_to_do() {
    let recipe = Recipe::debootstrap(&base());
    let explain =
        |said: &[&str]| recipe.explain(&said.iter().map(|line| line.to_string()).collect::<Vec<_>>(), "/c/log".into()).to_string();
    let mirror = explain(&["I: x", "W: Failed to fetch http://m/InRelease  Could not resolve 'm'", "E: mmdebstrap failed to run"]);
    assert!(mirror.starts_with("the Debian mirror cannot be used (Failed to fetch http://m"), "{mirror}");
    let index = explain(&[
        "WARNING: Retrying after connection broken by 'NewConnectionError('<x at 0x1>: refused')': /x/",
        "ERROR: No matching distribution found for n",
    ]);
    assert!(index.starts_with("pip cannot fetch Node.js (refused')"), "{index}");
    assert!(explain(&["dpkg: cannot write: No space left on device"]).starts_with("the disk of /c became full"));
    assert_eq!(explain(&["a", "E: setup failed"]), "mmdebstrap failed: setup failed; /c/log has all it said");
    assert_eq!(explain(&[]), "mmdebstrap failed: it said nothing; /c/log has all it said");
}

#[tokio::test]
async fn an_archive_becomes_a_layer_once_and_a_broken_one_leaves_nothing() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED an_archive_becomes_a_layer_once_and_a_broken_one_leaves_nothing: needs root");
        return;
    }
    let scratch = Scratch::new("archive");
    let (cache, archive) = (scratch.path().join("cache"), scratch.path().join("rootfs.tar"));
    let stop = CancellationToken::new();
    let base = Base { archive: archive.clone(), sources: vec![Source::Archive], ..base() };
    assert!(matches!(ensure(&cache, &base, &stop).await, Err(BootstrapError::Archive { .. })));

    fs::write(&archive, "this is no archive, but long enough to be looked at".repeat(100)).unwrap();
    assert!(matches!(ensure(&cache, &base, &stop).await, Err(BootstrapError::Failed { program: "tar", .. })));
    let left = || fs::read_dir(layers_dir(&cache)).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>();
    assert!(!left().iter().any(|name| name.starts_with("base-") || name == ".building"), "{:?}", left());

    fs::create_dir_all(scratch.path().join("tree/etc")).unwrap();
    fs::write(scratch.path().join("tree/etc/passwd"), "user:x:1000:1000::/home/user:/bin/sh\n").unwrap();
    let tar = std::process::Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(scratch.path().join("tree")).arg(".").status();
    assert!(tar.unwrap().success());
    let name = ensure(&cache, &base, &stop).await.unwrap();
    let passwd = layers_dir(&cache).join(&name).join("etc/passwd");
    assert!(fs::read_to_string(&passwd).unwrap().starts_with("user:"));
    fs::write(&passwd, "kept").unwrap();
    assert_eq!(ensure(&cache, &base, &stop).await.unwrap(), name);
    assert_eq!(fs::read_to_string(&passwd).unwrap(), "kept");

    // Whoever has to make one waits for the other, and stops waiting when told.
    fs::remove_dir_all(layers_dir(&cache).join(&name)).unwrap();
    let other = fs::File::open(layers_dir(&cache).join(".lock")).unwrap();
    other.lock().unwrap();
    stop.cancel();
    assert!(matches!(ensure(&cache, &base, &stop).await, Err(BootstrapError::Interrupted)));
}

#[tokio::test]
async fn without_a_source_there_is_no_template() {
    let scratch = Scratch::new("no-source");
    let base = Base { sources: Vec::new(), ..base() };
    let error = ensure(scratch.path(), &base, &CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, BootstrapError::NoSource));
}
