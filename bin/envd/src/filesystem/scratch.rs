//! A directory for one test, gone after it.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The directory.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes it; no two tests may use one name.
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("envd-filesystem-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.0
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Makes a directory in it, with those above.
    pub fn directory(&self, name: &str) -> PathBuf {
        fs::create_dir_all(self.path(name)).unwrap();
        self.path(name)
    }

    /// Makes a file in it.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.path(name), text).unwrap();
        self.path(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
