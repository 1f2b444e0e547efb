//! Pseudo-terminals.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

/// A size in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Width.
    pub cols: u16,
    /// Height.
    pub rows: u16,
}

/// The two ends of a pseudo-terminal.
#[derive(Debug)]
pub struct Pair {
    /// Our end.
    pub master: OwnedFd,
    /// The terminal that programs see.
    pub slave: OwnedFd,
}

/// Opens a new pseudo-terminal of that size.
pub fn open(size: Size) -> io::Result<Pair> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags)?;
    unlockpt(&master)?;
    let slave = ioctl_tiocgptpeer(&master, flags)?;
    resize(&master, size)?;
    Ok(Pair { master, slave })
}

/// Changes the size; programs in the terminal get SIGWINCH.
pub fn resize(terminal: impl AsFd, size: Size) -> io::Result<()> {
    Ok(tcsetwinsize(terminal, Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_see_the_size() {
        let pair = match open(Size { cols: 80, rows: 24 }) {
            Ok(pair) => pair,
            Err(e) => return eprintln!("SKIPPED both_ends_see_the_size: no pseudo-terminals here: {e}"),
        };
        let seen = || rustix::termios::tcgetwinsize(&pair.slave).map(|w| (w.ws_col, w.ws_row)).unwrap();
        assert_eq!(seen(), (80, 24));
        resize(&pair.master, Size { cols: 0, rows: 65535 }).unwrap();
        assert_eq!(seen(), (0, 65535));
    }
}
