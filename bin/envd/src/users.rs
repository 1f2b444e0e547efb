//! Accounts of the sandbox, read from `/etc/passwd` and `/etc/group` each time they are needed: the static binary has no NSS, and the
//! files may change at any moment. Lines that do not parse are skipped, never fatal.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// The longest account file that is read; the rest of a longer one is ignored.
const LONGEST_FILE: u64 = 4 << 20;

/// An account a process can run as and a file can belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its name in the passwd file.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// Its primary group.
    pub gid: u32,
    /// Every group it is in, the primary one first.
    pub groups: Vec<u32>,
    /// Its home directory; always absolute.
    pub home: PathBuf,
    /// Its login shell; may be empty.
    pub shell: PathBuf,
}

/// A snapshot of both account files, for looking up many names at once.
#[derive(Debug, Clone, Default)]
pub struct Accounts {
    passwd: String,
    group: String,
}

/// The account of that name, as the passwd file says now.
pub fn find(name: &str) -> Option<User> {
    Accounts::read().user(name)
}

impl Accounts {
    /// Reads both files; a missing one counts as empty.
    pub fn read() -> Self {
        let text = |path| read_text(Path::new(path)).unwrap_or_default();
        Self { passwd: text("/etc/passwd"), group: text("/etc/group") }
    }

    /// The account of that name. `root` exists even where the file does not list it, so that an image without accounts is usable.
    pub fn user(&self, name: &str) -> Option<User> {
        if name.is_empty() {
            return None;
        }
        let found = self.passwd.lines().filter_map(Entry::parse).find(|e| e.name == name);
        match found {
            Some(Entry { name, id: uid, rest }) => {
                let mut fields = rest.split(':');
                let gid = fields.next()?.parse().ok()?;
                let home = fields.nth(1).filter(|h| h.starts_with('/')).unwrap_or("/");
                let shell = fields.next().unwrap_or_default();
                let groups = self.groups_of(name, gid);
                Some(User { name: name.into(), uid, gid, groups, home: home.into(), shell: shell.into() })
            }
            None if name == "root" => {
                let home = if Path::new("/root").is_dir() { "/root" } else { "/" };
                Some(User { name: name.into(), uid: 0, gid: 0, groups: vec![0], home: home.into(), shell: PathBuf::new() })
            }
            None => None,
        }
    }

    /// The name of a uid, or its digits when nobody has it.
    pub fn user_name(&self, uid: u32) -> String {
        name_of(&self.passwd, uid)
    }

    /// The name of a gid, or its digits when no group has it.
    pub fn group_name(&self, gid: u32) -> String {
        name_of(&self.group, gid)
    }

    fn groups_of(&self, user: &str, primary: u32) -> Vec<u32> {
        let mut groups = vec![primary];
        for Entry { id, rest, .. } in self.group.lines().filter_map(Entry::parse) {
            if rest.split(',').any(|member| member == user) && !groups.contains(&id) {
                groups.push(id);
            }
        }
        groups
    }
}

/// One line of either file: `name:password:id:rest`.
struct Entry<'a> {
    name: &'a str,
    id: u32,
    rest: &'a str,
}

impl<'a> Entry<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.splitn(4, ':');
        let name = fields.next().filter(|n| !n.is_empty() && !n.starts_with('#'))?;
        let id = fields.nth(1)?.parse().ok()?;
        Some(Self { name, id, rest: fields.next().unwrap_or_default() })
    }
}

fn name_of(file: &str, id: u32) -> String {
    file.lines().filter_map(Entry::parse).find(|e| e.id == id).map_or_else(|| id.to_string(), |e| e.name.into())
}

/// Only a regular file is opened: a pipe in its place would block the daemon.
fn read_text(path: &Path) -> io::Result<String> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(LONGEST_FILE).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        Accounts {
            passwd: "root:x:0:0:root:/root:/bin/bash\n# a comment\n\nnonsense\n:x:5:5::/:\nbad:x:many:0::/:\nhuge:x:99999999999:0::/:\n\
                     user:x:1000:1000:,,,:/home/user:/bin/bash\nhomeless:x:1001:1001::relative:\nshort:x:1002\n"
                .into(),
            group: "root:x:0:\nsudo:x:27:user,other\nuser:x:1000:user\nhalf:x\n".into(),
        }
    }

    #[test]
    fn a_user_has_its_primary_and_supplementary_groups() {
        let user = accounts().user("user").unwrap();
        assert_eq!((user.uid, user.gid, user.groups.as_slice()), (1000, 1000, [1000, 27].as_slice()));
        assert_eq!((user.home.as_path(), user.shell.as_path()), (Path::new("/home/user"), Path::new("/bin/bash")));
    }

    #[test]
    fn numeric_ids_and_broken_lines_are_not_users() {
        for name in ["", "1000", "bad", "huge", "nonsense", "short", "# a comment", "user:x"] {
            assert_eq!(accounts().user(name), None, "{name:?}");
        }
        assert_eq!(accounts().user("homeless").unwrap().home, Path::new("/"));
    }

    #[test]
    fn names_fall_back_to_digits() {
        let accounts = accounts();
        assert_eq!(accounts.user_name(1000), "user");
        assert_eq!(accounts.user_name(4242), "4242");
        assert_eq!(accounts.group_name(27), "sudo");
        assert_eq!(accounts.group_name(28), "28");
    }

    #[test]
    fn root_exists_without_a_passwd_file() {
        let root = Accounts::default().user("root").unwrap();
        assert_eq!((root.uid, root.gid, root.groups.as_slice()), (0, 0, [0].as_slice()));
        assert_eq!(Accounts::default().user("user"), None);
    }
}
