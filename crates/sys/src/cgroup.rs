//! Control groups on any host: v2, v1, or both at once, where the limits are v1 controllers and only `cgroup.kill` is v2's.
//!
//! A sandbox's group is one directory of the same name in each hierarchy that counts. What a host lacks is not limited or not
//! measured, and said so once; it is never an error.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    process::{Pid, Signal},
};

/// What the processes of a group may use together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Memory in bytes, page cache included; there is no swap beyond it.
    pub memory_bytes: u64,
    /// Processors' worth of time.
    pub cpus: u32,
    /// Processes and threads.
    pub pids: u32,
}

impl Limits {
    /// As good as none.
    pub const NONE: Self = Self { memory_bytes: i64::MAX as u64, cpus: 1 << 16, pids: 1 << 22 };
}

/// What the processes of a group use together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time, in microseconds.
    pub cpu_usec: u64,
    /// Memory in bytes, page cache included.
    pub memory_bytes: u64,
    /// The part of it that is page cache.
    pub cache_bytes: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Times the kernel ended one for want of memory.
    pub oom_kills: u64,
    /// Times it refused to make one because there were as many as allowed.
    pub pids_refused: u64,
}

/// How the host's hierarchies are arranged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// One hierarchy with all controllers.
    V2,
    /// Controllers in hierarchies of their own, and a v2 hierarchy without them.
    Hybrid,
    /// Controllers in hierarchies of their own.
    V1,
    /// None.
    None,
}

/// The host's hierarchies, as far as they are of use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchies {
    /// Where v2 is mounted, and which of our controllers it has.
    v2: Option<(PathBuf, BTreeSet<String>)>,
    /// Where the v1 hierarchies are mounted, and which of our controllers each has.
    v1: Vec<(PathBuf, BTreeSet<String>)>,
}

/// The controllers we use; `cpuacct` is what v1 calls the measuring half of `cpu`.
const CONTROLLERS: [&str; 4] = ["memory", "cpu", "cpuacct", "pids"];

/// Length of one period of processor time.
const PERIOD_USEC: u64 = 100_000;

impl Hierarchies {
    /// The controllers that limit a sandbox.
    pub const LIMITING: [&str; 3] = ["memory", "cpu", "pids"];

    /// Looks at what is mounted.
    pub fn detect() -> io::Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        Ok(Self::parse(&mounts, |root| fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default()))
    }

    fn parse(mountinfo: &str, v2_controllers: impl Fn(&Path) -> String) -> Self {
        let ours =
            |names: &mut dyn Iterator<Item = &str>| names.filter(|n| CONTROLLERS.contains(n)).map(str::to_owned).collect::<BTreeSet<_>>();
        let mut found = Self { v2: None, v1: Vec::new() };
        for line in mountinfo.lines() {
            let Some((mount, fs)) = line.split_once(" - ") else { continue };
            let (Some(at), mut fs) = (mount.split(' ').nth(4).map(PathBuf::from), fs.split(' ')) else { continue };
            match fs.next() {
                Some("cgroup2") if found.v2.is_none() => {
                    let controllers = ours(&mut v2_controllers(&at).split_ascii_whitespace());
                    found.v2 = Some((at, controllers));
                }
                Some("cgroup") => {
                    let mut controllers = ours(&mut fs.nth(1).unwrap_or_default().split(','));
                    controllers.retain(|c| !found.v1.iter().any(|(_, known)| known.contains(c)));
                    if !controllers.is_empty() {
                        found.v1.push((at, controllers));
                    }
                }
                _ => {}
            }
        }
        found
    }

    /// How they are arranged.
    pub fn mode(&self) -> Mode {
        match (&self.v2, self.v1.is_empty()) {
            (Some(_), true) => Mode::V2,
            (Some(_), false) => Mode::Hybrid,
            (None, false) => Mode::V1,
            (None, true) => Mode::None,
        }
    }

    /// Those of [`Hierarchies::LIMITING`] that this host lacks.
    pub fn missing(&self) -> Vec<&'static str> {
        let has = |name: &str| self.v1.iter().chain(&self.v2).any(|(_, controllers)| controllers.contains(name));
        Self::LIMITING.into_iter().filter(|name| !has(name)).collect()
    }

    /// The group `name`, a relative path, whether or not it exists.
    pub fn group(&self, name: &str) -> Cgroup {
        let below = |(root, controllers): &(PathBuf, BTreeSet<String>)| (root.join(name), controllers.clone());
        Cgroup { v2: self.v2.as_ref().map(below), v1: self.v1.iter().map(below).collect() }
    }

    /// The names of the groups directly in `parent`, in whatever hierarchy.
    pub fn groups_in(&self, parent: &str) -> BTreeSet<String> {
        let parent = self.group(parent);
        let entries = parent.dirs().filter_map(|dir| fs::read_dir(dir).ok()).flatten().flatten();
        entries
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect()
    }

    /// Makes the group `name` with its parents. It must not exist with processes in it.
    pub fn create(&self, name: &str, limits: &Limits) -> io::Result<Cgroup> {
        let group = self.group(name);
        group.remove(Duration::ZERO)?;
        if let Some((root, controllers)) = &self.v2 {
            delegate(root, name, controllers)?;
        }
        for dir in group.dirs() {
            fs::create_dir_all(dir).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", dir.display())))?;
        }
        if let Err(error) = group.limit(limits) {
            group.remove(Duration::ZERO)?;
            return Err(error);
        }
        Ok(group)
    }
}

/// On v2 a controller reaches a group only if every group above it passes it on.
fn delegate(root: &Path, name: &str, controllers: &BTreeSet<String>) -> io::Result<()> {
    let mut above = root.to_owned();
    let mut steps = Path::new(name).components();
    steps.next_back();
    for step in [None].into_iter().chain(steps.map(Some)) {
        above.extend(step);
        fs::create_dir_all(&above)?;
        for controller in controllers {
            if let Err(error) = fs::write(above.join("cgroup.subtree_control"), format!("+{controller}")) {
                tracing::debug!(cgroup = %above.display(), controller, %error, "controller not delegated");
            }
        }
    }
    Ok(())
}

/// How a process gets into a group without moving processes, for which the kernel would stop all forks and exits of the host and wait
/// for a grace period of its own: ten milliseconds or more.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Entrance {
    /// Files of v1 hierarchies to which a process of one thread writes `0`, by which it moves that thread.
    pub doors: Vec<PathBuf>,
    /// The directory of the v2 group in which a new process can be made.
    pub birth: Option<PathBuf>,
}

/// One group, in each hierarchy that counts.
#[derive(Debug, Clone)]
pub struct Cgroup {
    v2: Option<(PathBuf, BTreeSet<String>)>,
    v1: Vec<(PathBuf, BTreeSet<String>)>,
}

impl Cgroup {
    /// How to get in.
    pub fn entrance(&self) -> Entrance {
        let doors = self.v1.iter().map(|(dir, _)| dir.join("tasks")).collect();
        Entrance { doors, birth: self.v2.as_ref().map(|(dir, _)| dir.clone()) }
    }

    /// Whether its limits are v2's, so that it may be shown to the processes in it.
    pub fn is_v2(&self) -> bool {
        self.v1.is_empty() && self.v2.is_some()
    }

    /// What is used now; what cannot be measured is 0.
    pub fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        if let Some((dir, _)) = &self.v2 {
            usage.cpu_usec = keyed(dir, "cpu.stat", "usage_usec");
            usage.memory_bytes = number(dir, "memory.current");
            usage.cache_bytes = keyed(dir, "memory.stat", "file");
            usage.pids = number(dir, "pids.current");
            usage.pids_refused = keyed(dir, "pids.events", "max");
            usage.oom_kills = keyed(dir, "memory.events", "oom_kill");
        }
        for (dir, controllers) in &self.v1 {
            for controller in controllers {
                match controller.as_str() {
                    "cpuacct" => usage.cpu_usec = number(dir, "cpuacct.usage") / 1000,
                    "pids" => {
                        usage.pids = number(dir, "pids.current");
                        usage.pids_refused = keyed(dir, "pids.events", "max");
                    }
                    "memory" => {
                        usage.memory_bytes = number(dir, "memory.usage_in_bytes");
                        usage.cache_bytes = keyed(dir, "memory.stat", "total_cache");
                        usage.oom_kills = keyed(dir, "memory.oom_control", "oom_kill");
                    }
                    _ => {}
                }
            }
        }
        usage
    }

    /// Whether this process is in it, as far as there is anything to be in.
    pub fn holds(&self, pid: i32) -> bool {
        let pid = pid.to_string();
        let mut lists = self.dirs().map(|dir| fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default()).peekable();
        lists.peek().is_none() || lists.any(|list| list.lines().any(|member| member == pid))
    }

    /// Ends every process in it. Asynchronous: [`Cgroup::remove`] waits for the last.
    pub fn kill(&self) {
        let all_at_once = self.v2.as_ref().is_some_and(|(dir, _)| fs::write(dir.join("cgroup.kill"), "1").is_ok());
        if all_at_once {
            return;
        }
        let members = self.dirs().filter_map(|dir| fs::read_to_string(dir.join("cgroup.procs")).ok());
        for pid in members.flat_map(|pids| pids.lines().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>()) {
            if let Some(pid) = Pid::from_raw(pid.max(0)) {
                // It may have ended by itself.
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
        }
    }

    /// Removes it; if processes are still in it, ends them until they are gone or `limit` has passed.
    pub fn remove(&self, limit: Duration) -> io::Result<()> {
        let deadline = Instant::now() + limit;
        for dir in self.dirs() {
            loop {
                match rustix::fs::rmdir(dir) {
                    Ok(()) | Err(Errno::NOENT) => break,
                    Err(Errno::BUSY) if Instant::now() < deadline => {
                        self.kill();
                        thread::sleep(Duration::from_millis(2));
                    }
                    Err(error) => return Err(io::Error::new(error.kind(), format!("removing {}: {error}", dir.display()))),
                }
            }
        }
        Ok(())
    }

    fn dirs(&self) -> impl Iterator<Item = &Path> {
        self.v2.iter().chain(&self.v1).map(|(dir, _)| dir.as_path())
    }

    fn limit(&self, limits: &Limits) -> io::Result<()> {
        let Limits { memory_bytes, cpus, pids } = *limits;
        let quota = u64::from(cpus) * PERIOD_USEC;
        let set = |dir: &Path, file: &str, value: String| {
            let path = dir.join(file);
            fs::write(&path, &value).map_err(|e| io::Error::new(e.kind(), format!("writing {value} to {}: {e}", path.display())))
        };
        // Swap accounting is often compiled out or switched off.
        let set_if_there = |dir: &Path, file: &str, value: String| if dir.join(file).exists() { set(dir, file, value) } else { Ok(()) };

        if let Some((dir, controllers)) = &self.v2 {
            for controller in controllers {
                match controller.as_str() {
                    "memory" => {
                        set_if_there(dir, "memory.max", memory_bytes.to_string())?;
                        set_if_there(dir, "memory.swap.max", "0".to_owned())?;
                    }
                    "cpu" => set_if_there(dir, "cpu.max", format!("{quota} {PERIOD_USEC}"))?,
                    "pids" => set_if_there(dir, "pids.max", pids.to_string())?,
                    _ => {}
                }
            }
        }
        for (dir, controllers) in &self.v1 {
            for controller in controllers {
                match controller.as_str() {
                    "memory" => {
                        set(dir, "memory.limit_in_bytes", memory_bytes.to_string())?;
                        set_if_there(dir, "memory.memsw.limit_in_bytes", memory_bytes.to_string())?;
                    }
                    "cpu" => {
                        set_if_there(dir, "cpu.cfs_period_us", PERIOD_USEC.to_string())?;
                        set_if_there(dir, "cpu.cfs_quota_us", quota.to_string())?;
                    }
                    "pids" => set(dir, "pids.max", pids.to_string())?,
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

fn number(dir: &Path, file: &str) -> u64 {
    fs::read_to_string(dir.join(file)).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// The value of `key` in a file of `key value` lines.
fn keyed(dir: &Path, file: &str, key: &str) -> u64 {
    let text = fs::read_to_string(dir.join(file)).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const PURE_V2: &str = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
    const HYBRID: &str = "\
24 1 8:1 / / rw shared:1 - ext4 /dev/root rw
31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
32 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
33 30 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
34 30 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
";

    #[test]
    fn pure_v2_has_all_in_one_place() {
        let found = Hierarchies::parse(PURE_V2, |_| "cpuset cpu io memory pids".to_owned());
        assert_eq!(found.mode(), Mode::V2);
        assert!(found.missing().is_empty());
        assert_eq!(found.group("atoll/a").entrance(), Entrance { doors: vec![], birth: Some("/sys/fs/cgroup/atoll/a".into()) });
    }

    #[test]
    fn hybrid_takes_limits_from_v1_and_names_what_is_missing() {
        let found = Hierarchies::parse(HYBRID, |_| String::new());
        assert_eq!(found.mode(), Mode::Hybrid);
        assert_eq!(found.missing(), ["pids"]);
        let group = found.group("atoll/a");
        assert!(!group.is_v2());
        let Entrance { doors, birth } = group.entrance();
        assert!(doors.len() == 2 && doors.iter().all(|door| door.ends_with("atoll/a/tasks")), "{doors:?}");
        assert_eq!(birth, Some("/sys/fs/cgroup/unified/atoll/a".into()));
    }

    #[test]
    fn a_host_without_any_is_no_error() {
        let found = Hierarchies::parse("24 1 8:1 / / rw - ext4 /dev/root rw\nnonsense\n", |_| String::new());
        assert_eq!(found.mode(), Mode::None);
        assert_eq!(found.missing(), ["memory", "cpu", "pids"]);
        assert_eq!(found.group("atoll/a").usage(), Usage::default());
        assert!(found.group("atoll/a").holds(1), "nobody can say that it is not");
    }

    #[test]
    fn processes_are_counted_limited_and_ended() {
        let here = Hierarchies::detect().unwrap();
        if !rustix::process::geteuid().is_root() || !here.missing().is_empty() {
            eprintln!("SKIPPED processes_are_counted_limited_and_ended: needs root and cgroups");
            return;
        }
        let parent = format!("atoll-test-{}", std::process::id());
        let name = format!("{parent}/one");
        let group = here.create(&name, &Limits { memory_bytes: 64 << 20, cpus: 1, pids: 16 }).unwrap();
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        for dir in group.dirs() {
            fs::write(dir.join("cgroup.procs"), child.id().to_string()).unwrap();
        }
        assert_eq!(group.usage().pids, 1);
        assert!(group.holds(child.id() as i32) && !group.holds(std::process::id() as i32));
        assert!(here.groups_in(&parent).iter().eq(["one"]));
        assert!(here.create(&name, &Limits { memory_bytes: 64 << 20, cpus: 1, pids: 16 }).is_err());

        group.kill();
        child.wait().unwrap();
        group.remove(Duration::from_secs(10)).unwrap();
        group.remove(Duration::ZERO).unwrap();
        assert!(here.groups_in(&parent).is_empty() && !group.holds(std::process::id() as i32));
        here.group(&parent).remove(Duration::ZERO).unwrap();
        assert!(group.dirs().all(|dir| !dir.exists()));
    }
}
