use std::{os::unix::fs::symlink, time::Duration};

use EventType::*;

use super::*;
use crate::filesystem::scratch::Scratch;

/// All that was queued until now: `marker` is made and waited for.
async fn drain(tree: &mut Tree, marker: &Path) -> Vec<(String, EventType)> {
    fs::create_dir(marker).unwrap();
    let name = marker.file_name().unwrap().to_owned();
    let mut seen = Vec::new();
    loop {
        let events = tokio::time::timeout(Duration::from_secs(20), tree.inotify.next()).await.expect("the marker is reported").unwrap();
        for Change { place, kind } in tree.absorb(&events).unwrap() {
            if place == Path::new(&name) {
                fs::remove_dir(marker).unwrap();
                return seen;
            }
            seen.push((place.to_str().unwrap().to_owned(), kind));
        }
    }
}

fn arm(scratch: &Scratch, recursive: bool) -> Tree {
    Tree::arm(scratch.directory("tree"), recursive).unwrap()
}

macro_rules! assert_changes {
    ($seen:expr, [$(($place:expr, $kind:expr)),* $(,)?]) => {
        assert_eq!($seen, [$(($place.to_owned(), $kind)),*] as [(String, EventType); _])
    };
}

#[tokio::test]
async fn a_file_lives_and_every_step_is_told() {
    let scratch = Scratch::new("tree-file");
    let mut tree = arm(&scratch, false);
    let file = scratch.file("tree/f", "text");
    fs::write(&file, "again").unwrap();
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    fs::rename(&file, scratch.path("tree/g")).unwrap();
    fs::remove_file(scratch.path("tree/g")).unwrap();
    let seen = drain(&mut tree, &scratch.path("tree/1")).await;
    // The kernel merges equal events that wait one behind the other: the second text is no write of its own here.
    assert_changes!(seen, [("f", Create), ("f", Write), ("f", Chmod), ("f", Rename), ("g", Create), ("g", Remove)]);
}

#[tokio::test]
async fn without_recursion_subdirectories_are_only_names() {
    let scratch = Scratch::new("tree-flat");
    scratch.directory("tree/old");
    let mut tree = arm(&scratch, false);
    scratch.file("tree/old/f", "");
    scratch.directory("tree/new");
    scratch.file("tree/new/f", "");
    assert_changes!(drain(&mut tree, &scratch.path("tree/1")).await, [("new", Create)]);
}

#[tokio::test]
async fn what_was_there_before_is_watched_and_not_told() {
    let scratch = Scratch::new("tree-before");
    scratch.directory("tree/a/b");
    scratch.file("tree/a/b/f", "");
    scratch.directory("outside");
    symlink("../outside", scratch.path("tree/link")).unwrap();
    let mut tree = arm(&scratch, true);
    scratch.file("outside/f", "");
    scratch.file("tree/a/b/f", "text");
    fs::remove_dir_all(scratch.path("tree/a/b")).unwrap();
    // A nested directory is told of by the one above it, once.
    assert_changes!(drain(&mut tree, &scratch.path("tree/1")).await, [("a/b/f", Write), ("a/b/f", Remove), ("a/b", Remove)]);
    assert_eq!(tree.places.len(), 3, "root, a and the marker: {:?}", tree.places);
}

#[tokio::test]
async fn directories_that_appear_are_watched_with_what_they_hold() {
    let scratch = Scratch::new("tree-appear");
    let mut tree = arm(&scratch, true);
    scratch.directory("tree/a");
    scratch.file("tree/a/early", "text");
    scratch.directory("tree/a/sub");
    let seen = drain(&mut tree, &scratch.path("tree/1")).await;
    for expected in [("a", Create), ("a/early", Create), ("a/early", Write), ("a/sub", Create)] {
        assert!(seen.contains(&(expected.0.to_owned(), expected.1)), "{expected:?} in {seen:?}");
    }
    scratch.file("tree/a/sub/late", "");
    assert_changes!(drain(&mut tree, &scratch.path("tree/2")).await, [("1", Remove), ("a/sub/late", Create)]);
}

#[tokio::test]
async fn a_directory_moved_in_is_told_with_its_contents() {
    let scratch = Scratch::new("tree-in");
    scratch.directory("outside/sub");
    scratch.file("outside/sub/f", "old text");
    let mut tree = arm(&scratch, true);
    fs::rename(scratch.path("outside"), scratch.path("tree/in")).unwrap();
    assert_changes!(drain(&mut tree, &scratch.path("tree/1")).await, [("in", Create), ("in/sub", Create), ("in/sub/f", Create)]);
    scratch.file("tree/in/sub/f", "text");
    assert_changes!(drain(&mut tree, &scratch.path("tree/2")).await, [("1", Remove), ("in/sub/f", Write)]);
}

#[tokio::test]
async fn a_directory_renamed_inside_goes_on_under_its_new_name() {
    let scratch = Scratch::new("tree-rename");
    scratch.directory("tree/old/sub");
    scratch.directory("tree/older");
    let mut tree = arm(&scratch, true);
    fs::rename(scratch.path("tree/old"), scratch.path("tree/older/new")).unwrap();
    scratch.file("tree/older/new/sub/f", "");
    assert_changes!(drain(&mut tree, &scratch.path("tree/1")).await, [("old", Rename), ("older/new", Create), ("older/new/sub/f", Create)]);
}

#[tokio::test]
async fn a_directory_moved_out_is_told_once_and_then_left_alone() {
    let scratch = Scratch::new("tree-out");
    scratch.directory("tree/a/sub");
    scratch.directory("tree/ab");
    let mut tree = arm(&scratch, true);
    fs::rename(scratch.path("tree/a"), scratch.path("out")).unwrap();
    scratch.file("out/sub/f", "");
    scratch.file("tree/ab/f", "");
    assert_changes!(drain(&mut tree, &scratch.path("tree/1")).await, [("a", Rename), ("ab/f", Create)]);
    assert_eq!(tree.places.len(), 3, "root, ab and the marker: {:?}", tree.places);
}

#[tokio::test]
async fn the_root_is_told_of_and_then_silent() {
    for (name, recursive) in [("tree-root-flat", false), ("tree-root-deep", true)] {
        let scratch = Scratch::new(name);
        let mut renamed = arm(&scratch, recursive);
        fs::set_permissions(scratch.path("tree"), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        fs::rename(scratch.path("tree"), scratch.path("moved")).unwrap();
        let mut removed = Tree::arm(scratch.path("moved"), recursive).unwrap();
        scratch.file("moved/f", "");
        fs::remove_dir_all(scratch.path("moved")).unwrap();
        let mut told = Vec::new();
        for tree in [&mut renamed, &mut removed] {
            let events = tree.inotify.next().await.unwrap();
            told.push(tree.absorb(&events).unwrap().into_iter().map(|change| (change.place, change.kind)).collect::<Vec<_>>());
            assert!(tree.places.is_empty());
        }
        let place = |name: &str| PathBuf::from(name);
        assert_eq!(told[0], [(place(""), Chmod), (place(""), Rename)]);
        assert_eq!(told[1], [(place("f"), Create), (place("f"), Remove), (place(""), Remove)]);
    }
}

#[tokio::test]
async fn lost_events_are_an_error() {
    let scratch = Scratch::new("tree-overflow");
    let mut tree = arm(&scratch, false);
    let limit: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    for at in 0..limit / 2 + 10 {
        // Two events each, and never the same twice in a row: the kernel would merge them.
        fs::remove_file(scratch.file("tree/f", "")).unwrap_or_else(|error| panic!("file {at}: {error}"));
    }
    let mut result = Ok(Vec::new());
    while result.is_ok() {
        let events = tokio::time::timeout(Duration::from_secs(20), tree.inotify.next()).await.expect("the overflow is reported").unwrap();
        result = tree.absorb(&events);
    }
    assert!(matches!(result, Err(TreeError::Overflow)));
}
