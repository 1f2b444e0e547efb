//! Extended attributes of what a path leads to (symlinks are followed), with buffers that fit.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::ffi::OsStringExt,
    path::Path,
};

use rustix::{
    fs::{XattrFlags, getxattr, listxattr, removexattr, setxattr},
    io::Errno,
};

/// Largest value and largest list of names that Linux hands out.
const MAX: usize = 64 * 1024;

/// The names of all attributes.
pub fn list(path: &Path) -> io::Result<Vec<OsString>> {
    let names = grow(|buffer| listxattr(path, buffer))?;
    Ok(names.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(|name| OsString::from_vec(name.to_vec())).collect())
}

/// The value of one attribute.
pub fn get(path: &Path, name: &OsStr) -> io::Result<Vec<u8>> {
    grow(|buffer| getxattr(path, name, buffer))
}

/// Makes an attribute or replaces its value.
pub fn set(path: &Path, name: &OsStr, value: &[u8]) -> io::Result<()> {
    Ok(setxattr(path, name, value, XattrFlags::empty())?)
}

/// Takes an attribute away.
pub fn remove(path: &Path, name: &OsStr) -> io::Result<()> {
    Ok(removexattr(path, name)?)
}

fn grow(mut call: impl FnMut(&mut [u8]) -> rustix::io::Result<usize>) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; 256];
    loop {
        match call(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(Errno::RANGE) if buffer.len() < MAX => buffer.resize(MAX, 0),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scratch(std::path::PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("atoll-xattr-{name}-{}", std::process::id()));
            std::fs::write(&path, "").unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    fn supported(test: &str, file: &Scratch) -> bool {
        match set(&file.0, OsStr::new("user.probe"), b"") {
            Ok(()) => remove(&file.0, OsStr::new("user.probe")).is_ok(),
            Err(error) => {
                eprintln!("SKIPPED {test}: no user attributes here: {error}");
                false
            }
        }
    }

    #[test]
    fn what_is_set_is_listed_read_replaced_and_removed() {
        let file = Scratch::new("life");
        if !supported("what_is_set_is_listed_read_replaced_and_removed", &file) {
            return;
        }
        let name = OsStr::new("user.colour");
        set(&file.0, name, b"blue").unwrap();
        set(&file.0, name, b"").unwrap();
        assert_eq!(get(&file.0, name).unwrap(), b"");
        set(&file.0, name, b"green").unwrap();
        assert_eq!(get(&file.0, name).unwrap(), b"green");
        assert!(list(&file.0).unwrap().iter().any(|listed| listed == name));
        remove(&file.0, name).unwrap();
        assert!(list(&file.0).unwrap().iter().all(|listed| listed != name));
        assert_eq!(get(&file.0, name).unwrap_err().raw_os_error(), Some(rustix::io::Errno::NODATA.raw_os_error()));
    }

    #[test]
    fn values_longer_than_the_first_buffer_come_whole() {
        let file = Scratch::new("long");
        if !supported("values_longer_than_the_first_buffer_come_whole", &file) {
            return;
        }
        let value = vec![b'x'; 1000];
        set(&file.0, OsStr::new("user.long"), &value).unwrap();
        assert_eq!(get(&file.0, OsStr::new("user.long")).unwrap(), value);
    }

    #[test]
    fn the_link_is_followed() {
        let file = Scratch::new("target");
        if !supported("the_link_is_followed", &file) {
            return;
        }
        let link = Scratch(file.0.with_extension("link"));
        std::os::unix::fs::symlink(&file.0, &link.0).unwrap();
        set(&link.0, OsStr::new("user.via"), b"link").unwrap();
        assert_eq!(get(&file.0, OsStr::new("user.via")).unwrap(), b"link");
    }
}
