//! A queue of changes in watched directories.

use std::{ffi::OsString, fs::File, io, mem::MaybeUninit, os::unix::ffi::OsStringExt, path::Path};

use rustix::{
    fs::inotify::{self, CreateFlags, Reader, WatchFlags},
    io::Errno,
};
use tokio::io::{Interest, unix::AsyncFd};

use crate::readiness;

pub use rustix::fs::inotify::ReadFlags as Changes;

/// One inotify instance.
#[derive(Debug)]
pub struct Inotify(AsyncFd<File>);

/// The kernel's number for one watched directory, never used again within an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Watch(i32);

/// One change as the kernel reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The directory it is about. A queue overflow names none that exists.
    pub watch: Watch,
    /// What happened.
    pub changes: Changes,
    /// Ties the two halves of a rename together.
    pub cookie: u32,
    /// The entry of the directory; empty when it is about the directory itself.
    pub name: OsString,
}

impl Inotify {
    /// An empty queue. Must be made within a tokio runtime.
    pub fn new() -> io::Result<Self> {
        readiness::watch(inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?, Interest::READABLE).map(Self)
    }

    /// Watches a directory for everything that changes it or its entries; watching it again yields the same number. `follow` says
    /// whether a symlink to a directory counts as one.
    pub fn watch(&self, directory: &Path, follow: bool) -> io::Result<Watch> {
        let mut flags = WatchFlags::CREATE
            | WatchFlags::MODIFY
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVE_SELF
            | WatchFlags::ATTRIB
            | WatchFlags::ONLYDIR;
        flags.set(WatchFlags::DONT_FOLLOW, !follow);
        Ok(Watch(inotify::add_watch(self.0.get_ref(), directory, flags)?))
    }

    /// Ends a watch. One that is gone already is no error: the kernel ends it when the directory goes.
    pub fn unwatch(&self, watch: Watch) {
        let _ = inotify::remove_watch(self.0.get_ref(), watch.0);
    }

    /// Takes events off the queue, some thousand at most, when there are any. Dropping the future loses none.
    pub async fn next(&self) -> io::Result<Vec<Event>> {
        loop {
            let mut ready = self.0.readable().await?;
            let events = self.read()?;
            if !events.is_empty() {
                return Ok(events);
            }
            ready.clear_ready();
        }
    }

    fn read(&self) -> io::Result<Vec<Event>> {
        let mut buffer = [MaybeUninit::uninit(); 32 * 1024];
        let mut reader = Reader::new(self.0.get_ref(), &mut buffer);
        let mut events = Vec::new();
        loop {
            match reader.next() {
                Ok(event) => events.push(Event {
                    watch: Watch(event.wd()),
                    changes: event.events(),
                    cookie: event.cookie(),
                    name: event.file_name().map(|name| OsString::from_vec(name.to_bytes().to_vec())).unwrap_or_default(),
                }),
                Err(Errno::WOULDBLOCK) => break,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            if reader.is_buffer_empty() && !events.is_empty() {
                break;
            }
        }
        Ok(events)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    struct Scratch(std::path::PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("atoll-inotify-{name}-{}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[tokio::test]
    async fn changes_arrive_in_order_with_their_names() {
        let scratch = Scratch::new("order");
        let inotify = Inotify::new().unwrap();
        let watch = inotify.watch(&scratch.0, false).unwrap();
        assert_eq!(inotify.read().unwrap(), []);

        fs::write(scratch.0.join("a"), "text").unwrap();
        fs::rename(scratch.0.join("a"), scratch.0.join("b")).unwrap();
        fs::remove_file(scratch.0.join("b")).unwrap();
        let events = inotify.next().await.unwrap();
        let seen: Vec<_> = events.iter().map(|event| (event.changes, event.name.to_str().unwrap())).collect();
        let expected =
            [(Changes::CREATE, "a"), (Changes::MODIFY, "a"), (Changes::MOVED_FROM, "a"), (Changes::MOVED_TO, "b"), (Changes::DELETE, "b")];
        assert_eq!(seen, expected);
        assert_eq!(events[2].cookie, events[3].cookie);
        assert!(events.iter().all(|event| event.watch == watch));
    }

    #[tokio::test]
    async fn only_directories_are_watched_and_links_only_when_asked() {
        let scratch = Scratch::new("kinds");
        let inotify = Inotify::new().unwrap();
        fs::write(scratch.0.join("file"), "").unwrap();
        fs::create_dir(scratch.0.join("dir")).unwrap();
        std::os::unix::fs::symlink("dir", scratch.0.join("link")).unwrap();
        assert_eq!(inotify.watch(&scratch.0.join("file"), true).unwrap_err().kind(), io::ErrorKind::NotADirectory);
        assert_eq!(inotify.watch(&scratch.0.join("link"), false).unwrap_err().kind(), io::ErrorKind::NotADirectory);
        let through = inotify.watch(&scratch.0.join("link"), true).unwrap();
        assert_eq!(inotify.watch(&scratch.0.join("dir"), false).unwrap(), through);
    }

    #[tokio::test]
    async fn an_ended_watch_is_silent() {
        let scratch = Scratch::new("end");
        let inotify = Inotify::new().unwrap();
        let watch = inotify.watch(&scratch.0, false).unwrap();
        inotify.unwatch(watch);
        inotify.unwatch(watch);
        fs::write(scratch.0.join("a"), "").unwrap();
        let changes: Vec<_> = inotify.next().await.unwrap().into_iter().map(|event| event.changes).collect();
        assert_eq!(changes, [Changes::IGNORED]);
    }
}
