//! What the kernel reports about a directory, or about a whole tree of them, in terms of the paths in it.
//!
//! The kernel watches directories one by one and knows them by number. A tree keeps the path of each number: it adds directories that
//! appear, reports what they already hold, follows those that are renamed, and gives up those that leave.

use std::{
    collections::{HashMap, VecDeque},
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use atoll_sys::inotify::{Changes, Event, Inotify, Watch};
use atoll_wire::filesystem::EventType;

/// What one kernel event can mean, in the order in which it is told.
const MEANINGS: [(Changes, EventType); 5] = [
    (Changes::CREATE.union(Changes::MOVED_TO), EventType::Create),
    (Changes::MOVED_FROM.union(Changes::MOVE_SELF), EventType::Rename),
    (Changes::ATTRIB, EventType::Chmod),
    (Changes::MODIFY, EventType::Write),
    (Changes::DELETE.union(Changes::DELETE_SELF), EventType::Remove),
];

/// A watched directory with its queue.
pub struct Tree {
    inotify: Arc<Inotify>,
    root: PathBuf,
    recursive: bool,
    /// Where each watched directory is, relative to the root, whose own place is empty.
    places: HashMap<Watch, PathBuf>,
    /// A directory that left its place. If it arrives at another one, the very next event says so.
    leaving: Option<(u32, PathBuf)>,
}

/// One change in a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What it happened to, relative to the root; empty for the root itself.
    pub place: PathBuf,
    /// What happened.
    pub kind: EventType,
}

/// Why a tree cannot be watched any more.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// More happened than the kernel keeps.
    #[error("too many changes at once: some were lost")]
    Overflow,
    /// The kernel refused.
    #[error("watching '{}': {source}", path.display())]
    Refused {
        /// What was to be watched.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Tree {
    /// Starts to watch; all that changes from now on is in the queue.
    pub fn arm(root: PathBuf, recursive: bool) -> Result<Self, TreeError> {
        let refused = |source| TreeError::Refused { path: root.clone(), source };
        let inotify = Arc::new(Inotify::new().map_err(refused)?);
        let watch = inotify.watch(&root, true).map_err(refused)?;
        let places = HashMap::from([(watch, PathBuf::new())]);
        let mut tree = Self { inotify, root, recursive, places, leaving: None };
        if recursive {
            tree.explore(PathBuf::new(), false, &mut Vec::new())?;
        }
        Ok(tree)
    }

    /// The directory whose tree it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The kernel's queue, to wait on.
    pub fn inotify(&self) -> &Arc<Inotify> {
        &self.inotify
    }

    /// Says what events of the queue mean, all of them in order.
    pub fn absorb(&mut self, events: &[Event]) -> Result<Vec<Change>, TreeError> {
        let mut changes = Vec::new();
        events.iter().try_for_each(|event| self.absorb_one(event, &mut changes))?;
        Ok(changes)
    }

    fn absorb_one(&mut self, event: &Event, changes: &mut Vec<Change>) -> Result<(), TreeError> {
        if event.changes.contains(Changes::QUEUE_OVERFLOW) {
            return Err(TreeError::Overflow);
        }
        let arrived = self.settle(event);
        let Some(parent) = self.places.get(&event.watch) else { return Ok(()) };
        if event.changes.contains(Changes::IGNORED) {
            self.places.remove(&event.watch);
            return Ok(());
        }
        let about_itself = event.name.is_empty();
        let about_root = about_itself && parent.as_os_str().is_empty();
        // What happens to a nested directory is told by its parent.
        if about_itself && !about_root {
            return Ok(());
        }
        let place = if about_itself { PathBuf::new() } else { parent.join(&event.name) };
        let told = MEANINGS.into_iter().filter(|(changes, _)| event.changes.intersects(*changes));
        changes.extend(told.map(|(_, kind)| Change { place: place.clone(), kind }));

        if about_root && event.changes.intersects(Changes::MOVE_SELF | Changes::DELETE_SELF) {
            // What is watched is no longer what the client asked for.
            self.forget(|_| true);
        } else if self.recursive && event.changes.contains(Changes::ISDIR) {
            if event.changes.contains(Changes::MOVED_FROM) {
                self.leaving = Some((event.cookie, place));
            } else if event.changes.intersects(Changes::CREATE | Changes::MOVED_TO) && !arrived {
                let made = event.changes.contains(Changes::CREATE);
                if self.watch(&place)? {
                    self.explore(place, made, changes)?;
                }
            }
        }
        Ok(())
    }

    /// Decides what became of a directory that left its place: true when this event is its arrival.
    fn settle(&mut self, event: &Event) -> bool {
        let Some((cookie, from)) = self.leaving.take() else { return false };
        let to = self.places.get(&event.watch).map(|parent| parent.join(&event.name));
        match to {
            Some(to) if event.changes.contains(Changes::MOVED_TO) && event.cookie == cookie => {
                for place in self.places.values_mut() {
                    if let Ok(below) = place.strip_prefix(&from) {
                        *place = join(&to, below);
                    }
                }
                true
            }
            _ => {
                self.forget(|place| place.starts_with(&from));
                false
            }
        }
    }

    fn forget(&mut self, gone: impl Fn(&Path) -> bool) {
        self.places.retain(|watch, place| {
            let gone = gone(place);
            if gone {
                self.inotify.unwatch(*watch);
            }
            !gone
        });
    }

    /// Watches all directories below one that is watched, and tells of everything that is there: it may have come before the watch.
    /// In a directory that was just `made`, what has content was written just now.
    fn explore(&mut self, top: PathBuf, made: bool, changes: &mut Vec<Change>) -> Result<(), TreeError> {
        let mut ahead = VecDeque::from([top]);
        while let Some(parent) = ahead.pop_front() {
            // A directory that went meanwhile has nothing to tell; the queue says that it went.
            let Ok(entries) = fs::read_dir(join(&self.root, &parent)) else { continue };
            for entry in entries.flatten() {
                let place = parent.join(entry.file_name());
                changes.push(Change { place: place.clone(), kind: EventType::Create });
                if made && entry.metadata().is_ok_and(|found| found.is_file() && found.len() > 0) {
                    changes.push(Change { place: place.clone(), kind: EventType::Write });
                }
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) && self.watch(&place)? {
                    ahead.push_back(place);
                }
            }
        }
        Ok(())
    }

    /// Watches one directory; false when it is gone or watched already, or a mount that keeps even root out.
    fn watch(&mut self, place: &Path) -> Result<bool, TreeError> {
        let path = join(&self.root, place);
        match self.inotify.watch(&path, false) {
            Ok(watch) => Ok(self.places.insert(watch, place.to_owned()).is_none()),
            Err(source) => match source.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::PermissionDenied => Ok(false),
                _ => Err(TreeError::Refused { path, source }),
            },
        }
    }
}

/// `base/place`, without a slash behind it when the place is empty.
pub fn join(base: &Path, place: &Path) -> PathBuf {
    if place == OsStr::new("") { base.to_owned() } else { base.join(place) }
}

#[cfg(test)]
mod tests;
