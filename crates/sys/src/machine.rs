//! Facts about the machine we run in: its clock, its addresses, its disk.

use std::{io, mem::MaybeUninit, net::Ipv4Addr, path::Path, ptr, time::Duration};

use rustix::time::{ClockId, Timespec, clock_settime};

/// Sets the wall clock, to a time since the epoch.
pub fn set_clock(since_epoch: Duration) -> io::Result<()> {
    let out_of_range = |_| io::ErrorKind::InvalidInput;
    let time = Timespec { tv_sec: since_epoch.as_secs().try_into().map_err(out_of_range)?, tv_nsec: since_epoch.subsec_nanos().into() };
    Ok(clock_settime(ClockId::Realtime, time)?)
}

/// The first IPv4 address of an interface that is up and no loopback.
pub fn interface_address() -> io::Result<Option<Ipv4Addr>> {
    let mut list = MaybeUninit::uninit();
    // SAFETY: the pointer is to a place for one pointer.
    if unsafe { libc::getifaddrs(list.as_mut_ptr()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so it stored the head of a list that is ours until `freeifaddrs`. Every `ifa_addr` is null or points
    // to a socket address of the family it names.
    unsafe {
        let head: *mut libc::ifaddrs = list.assume_init();
        let mut found = None;
        let mut next = head;
        while let Some(interface) = next.as_ref() {
            let up = interface.ifa_flags & libc::IFF_UP as u32 != 0 && interface.ifa_flags & libc::IFF_LOOPBACK as u32 == 0;
            if up && interface.ifa_addr.as_ref().is_some_and(|address| i32::from(address.sa_family) == libc::AF_INET) {
                let address = ptr::read_unaligned(interface.ifa_addr.cast::<libc::sockaddr_in>());
                found = Some(Ipv4Addr::from_bits(u32::from_be(address.sin_addr.s_addr)));
                break;
            }
            next = interface.ifa_next;
        }
        libc::freeifaddrs(head);
        Ok(found)
    }
}

/// The size of a file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// All of it.
    pub total: u64,
    /// What an unprivileged user cannot have any more; what is reserved for root counts as used.
    pub used: u64,
}

/// The size of the file system that holds `path`.
pub fn disk(path: &Path) -> io::Result<Disk> {
    let stat = rustix::fs::statfs(path)?;
    let block = u64::try_from(stat.f_bsize).unwrap_or_default();
    let total = stat.f_blocks.saturating_mul(block);
    Ok(Disk { total, used: total.saturating_sub(stat.f_bavail.saturating_mul(block)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_not_a_loopback() {
        assert!(!interface_address().unwrap().is_some_and(|address| address.is_loopback() || address.is_unspecified()));
    }

    #[test]
    fn a_disk_has_a_size() {
        let disk = disk(Path::new("/")).unwrap();
        assert!(disk.total > 0 && disk.used <= disk.total);
    }
}
