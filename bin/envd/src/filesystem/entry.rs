//! What clients are told about one file, directory or link.

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::Path,
};

use atoll_wire::{
    Timestamp,
    filesystem::{EntryInfo, FileType},
};

use chrono::Datelike as _;

use crate::{
    files::{base_name, metadata},
    users::Accounts,
};

/// The years that a timestamp can tell on the wire. File systems can tell more.
const WRITABLE_YEARS: std::ops::RangeInclusive<i32> = 1..=9999;

/// Describes what is at `path`, a link as itself.
pub fn at(path: &Path) -> io::Result<EntryInfo> {
    describe(path, path, &Accounts::read())
}

/// Like [`at`], under another path that leads there, and with the names of users and groups at hand.
pub fn describe(path: &Path, shown: &Path, accounts: &Accounts) -> io::Result<EntryInfo> {
    let found = fs::symlink_metadata(path)?;
    let text = shown.to_string_lossy();
    let mut entry = EntryInfo {
        name: base_name(&text).to_owned(),
        r#type: file_type(&found).into(),
        size: i64::try_from(found.len()).unwrap_or(i64::MAX),
        mode: found.mode() & 0o777,
        permissions: permissions(&found),
        owner: accounts.user_name(found.uid()),
        group: accounts.group_name(found.gid()),
        modified_time: Some(Timestamp { seconds: found.mtime(), nanos: found.mtime_nsec() as i32 })
            .filter(|at| *at != Timestamp::default() && at.to_utc().is_some_and(|at| WRITABLE_YEARS.contains(&at.year()))),
        symlink_target: None,
        metadata: metadata::read(path),
        path: text.into_owned(),
    };
    if found.is_symlink() {
        let target = fs::canonicalize(path).and_then(|target| Ok((fs::metadata(&target)?, target)));
        let (kind, mode, target) = match &target {
            Ok((found, target)) => (file_type(found), found.mode() & 0o777, target.as_path()),
            Err(_) => (FileType::Unspecified, 0, shown),
        };
        entry.r#type = kind.into();
        entry.mode = mode;
        entry.symlink_target = Some(target.to_string_lossy().into_owned());
    }
    Ok(entry)
}

fn file_type(found: &Metadata) -> FileType {
    match found {
        _ if found.is_file() => FileType::File,
        _ if found.is_dir() => FileType::Directory,
        _ => FileType::Unspecified,
    }
}

/// Mode bits as Go writes them: a letter for each special property, then nine for who may do what.
fn permissions(found: &Metadata) -> String {
    let kind = found.file_type();
    let mode = found.permissions().mode();
    let device = kind.is_block_device() || kind.is_char_device();
    let special = [
        ('d', kind.is_dir()),
        ('L', kind.is_symlink()),
        ('D', device),
        ('p', kind.is_fifo()),
        ('S', kind.is_socket()),
        ('u', mode & 0o4000 != 0),
        ('g', mode & 0o2000 != 0),
        ('c', kind.is_char_device()),
        ('t', mode & 0o1000 != 0),
    ];
    let mut text: String = special.into_iter().filter(|(_, set)| *set).map(|(letter, _)| letter).collect();
    if text.is_empty() {
        text.push('-');
    }
    text.extend("rwxrwxrwx".char_indices().map(|(at, letter)| if mode & (0o400 >> at) != 0 { letter } else { '-' }));
    text
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::symlink, net::UnixListener};

    use super::*;
    use crate::filesystem::scratch::Scratch;

    fn permissions_of(path: &Path) -> String {
        at(path).unwrap().permissions
    }

    #[test]
    fn permissions_are_written_as_go_writes_them() {
        let scratch = Scratch::new("permissions");
        let file = scratch.file("file", "");
        for (mode, text) in
            [(0o644, "-rw-r--r--"), (0o4755, "urwxr-xr-x"), (0o2640, "grw-r-----"), (0o7000, "ugt---------"), (0, "----------")]
        {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(permissions_of(&file), text);
            assert_eq!(at(&file).unwrap().mode, mode & 0o777);
        }
        let directory = scratch.directory("directory");
        for (mode, text) in [(0o755, "drwxr-xr-x"), (0o1777, "dtrwxrwxrwx"), (0o2755, "dgrwxr-xr-x")] {
            fs::set_permissions(&directory, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(permissions_of(&directory), text);
        }
        symlink("file", scratch.path("link")).unwrap();
        assert_eq!(permissions_of(&scratch.path("link")), "Lrwxrwxrwx");
        let _socket = UnixListener::bind(scratch.path("socket")).unwrap();
        fs::set_permissions(scratch.path("socket"), fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(permissions_of(&scratch.path("socket")), "Srwx------");
        assert_eq!(permissions_of(Path::new("/dev/null")), "Dcrw-rw-rw-");
        assert_eq!(at(Path::new("/dev/null")).unwrap().r#type, i32::from(FileType::Unspecified));
    }

    #[test]
    fn a_link_shows_itself_and_the_kind_of_its_target() {
        let scratch = Scratch::new("links");
        let target = scratch.file("target", "12345");
        fs::set_permissions(&target, fs::Permissions::from_mode(0o640)).unwrap();
        symlink("target", scratch.path("first")).unwrap();
        symlink("first", scratch.path("second")).unwrap();
        let entry = at(&scratch.path("second")).unwrap();
        assert_eq!((entry.name.as_str(), entry.size, entry.mode), ("second", 5, 0o640));
        assert_eq!(entry.path, scratch.path("second").to_str().unwrap());
        assert_eq!(entry.r#type, i32::from(FileType::File));
        assert_eq!(entry.symlink_target.as_deref(), target.canonicalize().unwrap().to_str());

        symlink("nowhere", scratch.path("broken")).unwrap();
        symlink("cycle", scratch.path("cycle")).unwrap();
        for name in ["broken", "cycle"] {
            let entry = at(&scratch.path(name)).unwrap();
            assert_eq!((entry.r#type, entry.mode), (i32::from(FileType::Unspecified), 0), "{name}");
            assert_eq!(entry.symlink_target.as_deref(), scratch.path(name).to_str(), "{name}");
        }
    }

    #[test]
    fn the_epoch_is_no_time() {
        let scratch = Scratch::new("epoch");
        let file = scratch.file("file", "");
        let set = |time| fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
        set(std::time::UNIX_EPOCH);
        assert_eq!(at(&file).unwrap().modified_time, None);
        set(std::time::UNIX_EPOCH + std::time::Duration::new(5, 7));
        assert_eq!(at(&file).unwrap().modified_time, Some(Timestamp { seconds: 5, nanos: 7 }));
    }

    #[test]
    fn the_root_and_unknown_owners_have_names_too() {
        let root = describe(Path::new("/"), Path::new("/"), &Accounts::default()).unwrap();
        assert_eq!((root.name.as_str(), root.path.as_str(), root.r#type), ("/", "/", i32::from(FileType::Directory)));
        assert!(root.owner.parse::<u32>().is_ok() && root.group.parse::<u32>().is_ok());
    }
}
