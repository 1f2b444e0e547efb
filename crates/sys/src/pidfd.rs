//! A process of the host that can be named without mistaking it for a later one with the same number.

use std::{
    fs, io,
    ops::Deref,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::Errno,
    process::{Pid, PidfdFlags, WaitId, WaitIdOptions},
};
use tokio::io::{Interest, unix::AsyncFd};

pub use rustix::process::Signal;

/// A process, named by a descriptor. Dropping it does nothing to the process.
#[derive(Debug)]
pub struct Process {
    pid: i32,
    started: u64,
    fd: OwnedFd,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It exited with this code.
    Exited(i32),
    /// This signal ended it.
    Killed(i32),
}

impl Process {
    /// The process that has this number now. Sound for a child that nobody has waited for; else use [`Process::find`].
    pub fn open(pid: i32) -> io::Result<Self> {
        let number = Pid::from_raw(pid.max(0)).ok_or(io::ErrorKind::InvalidInput)?;
        let fd = rustix::process::pidfd_open(number, PidfdFlags::NONBLOCK)?;
        Ok(Self { pid, started: started(pid)?, fd })
    }

    /// The process with this number that started at `started`, dead or alive, if it is still known to the kernel.
    pub fn find(pid: i32, started: u64) -> Option<Self> {
        Self::open(pid).ok().filter(|found| found.started == started)
    }

    /// Its number.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// When it started: clock ticks since the host did.
    pub fn started(&self) -> u64 {
        self.started
    }

    /// Sends a signal; none is lost on a process that has ended.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match rustix::process::pidfd_send_signal(&self.fd, signal) {
            Err(Errno::SRCH) => Ok(()),
            done => Ok(done?),
        }
    }

    /// Whether it has ended; for the first process of a pid namespace, with everything in it.
    pub fn has_ended(&self) -> bool {
        self.wait(Duration::ZERO)
    }

    /// Waits until it has ended, at most `limit`; true if it has.
    pub fn wait(&self, limit: Duration) -> bool {
        let limit = Timespec { tv_sec: limit.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: limit.subsec_nanos().into() };
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, Some(&limit))).is_ok_and(|ready| ready > 0)
    }

    /// Lets tasks wait for its end. Must be called within an async runtime; if that has no room, the process comes back.
    pub fn watch(self) -> Result<Watched, (Self, io::Error)> {
        // SAFETY: the raw descriptor of a process is always that of its one `OwnedFd`, which is closed when it is dropped, not before.
        unsafe { AsyncFd::register_with_interest(self, Interest::READABLE) }.map(Watched).map_err(|failed| failed.into_parts())
    }

    /// How it ended, removing it from the process table if it is our child; `None` if it lives, or if nobody can tell.
    pub fn reap(&self) -> Option<Status> {
        match rustix::process::waitid(WaitId::PidFd(self.fd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
            Ok(Some(ended)) => ended.exit_status().map(Status::Exited).or_else(|| ended.terminating_signal().map(Status::Killed)),
            Ok(None) => None,
            Err(_) => self.remembered(),
        }
    }

    /// How a process that is not our child ended: kernels from 6.15 on remember it as long as the descriptor is open.
    fn remembered(&self) -> Option<Status> {
        const EXIT: u64 = 1 << 3;
        #[repr(C)]
        #[derive(Default)]
        struct Info {
            mask: u64,
            cgroup: u64,
            ids: [u32; 11],
            exit_code: i32,
        }
        const _: () = assert!(size_of::<Info>() == 64);
        // _IOWR(0xFF, 11, struct pidfd_info) in its first published size.
        const GET_INFO: u64 = (3 << 30) | (64 << 16) | (0xff << 8) | 11;

        let mut info = Info { mask: EXIT, ..Info::default() };
        // SAFETY: `info` is valid for reads and writes of the 64 bytes that the request's size field announces.
        let done = unsafe { libc::ioctl(self.fd.as_raw_fd(), GET_INFO as _, &raw mut info) };
        if done < 0 || info.mask & EXIT == 0 {
            return None;
        }
        let code = info.exit_code;
        Some(if libc::WIFEXITED(code) { Status::Exited(libc::WEXITSTATUS(code)) } else { Status::Killed(libc::WTERMSIG(code)) })
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Process {
    fn as_raw_fd(&self) -> i32 {
        self.fd.as_raw_fd()
    }
}

/// A process whose end tasks can wait for.
#[derive(Debug)]
pub struct Watched(AsyncFd<Process>);

impl Watched {
    /// Resolves when it has ended; at once if it has.
    pub async fn ended(&self) {
        loop {
            // It fails only while the async runtime goes down, when nobody polls this any more.
            let Ok(mut ready) = self.0.readable().await else { std::future::pending().await };
            if self.has_ended() {
                return;
            }
            ready.clear_ready();
        }
    }
}

impl Deref for Watched {
    type Target = Process;
    fn deref(&self) -> &Process {
        self.0.get_ref()
    }
}

/// Field 22 of the process's `stat`; the command name, field 2, may contain anything, also parentheses and spaces.
fn started(pid: i32) -> io::Result<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat"))?;
    let after_name = stat.iter().rposition(|&b| b == b')').map_or(&[][..], |end| &stat[end + 1..]);
    let field = std::str::from_utf8(after_name).ok().and_then(|text| text.split_ascii_whitespace().nth(19)?.parse().ok());
    field.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat has no start time")))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader},
        process::{Command, Stdio},
        time::Instant,
    };

    use super::*;

    #[test]
    #[expect(clippy::zombie_processes, reason = "reaped through the descriptor")]
    fn a_child_is_found_ended_and_reaped_once() {
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::open(child.id() as i32).unwrap();
        assert!(!process.has_ended());
        assert_eq!(process.reap(), None);
        assert!(Process::find(process.pid(), process.started()).is_some());
        assert!(Process::find(process.pid(), process.started() + 1).is_none());

        process.signal(Signal::KILL).unwrap();
        assert!(process.wait(Duration::from_secs(10)));
        assert_eq!(process.reap(), Some(Status::Killed(libc::SIGKILL)));
        assert!(Process::find(process.pid(), process.started()).is_none());
        process.signal(Signal::KILL).unwrap();
    }

    #[test]
    #[expect(clippy::zombie_processes, reason = "reaped through the descriptor")]
    fn an_exit_code_is_told() {
        let child = Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap();
        let process = Process::open(child.id() as i32).unwrap();
        assert!(process.wait(Duration::from_secs(10)));
        assert_eq!(process.reap(), Some(Status::Exited(7)));
    }

    #[test]
    fn the_end_of_anothers_child_is_told_by_kernels_that_can() {
        let script = "sleep 60 & echo $!; wait; read _";
        let mut parent = Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(parent.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let process = Process::open(line.trim().parse().unwrap()).unwrap();
        process.signal(Signal::KILL).unwrap();
        assert!(process.wait(Duration::from_secs(10)));
        let deadline = Instant::now() + Duration::from_secs(10);
        while Process::find(process.pid(), process.started()).is_some() {
            assert!(Instant::now() < deadline, "its parent does not collect it");
        }
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse::<u32>().ok());
        let can = (numbers.next().unwrap(), numbers.next().unwrap()) >= (6, 15);
        assert_eq!(process.reap(), can.then_some(Status::Killed(libc::SIGKILL)));
        drop(parent.stdin.take());
        parent.wait().unwrap();
    }

    #[test]
    fn no_process_has_a_number_below_one() {
        assert!(Process::open(0).is_err());
        assert!(Process::open(-1).is_err());
    }
}
