//! The terminal we run in.

use std::io::{self, IsTerminal, Stdin};

use anyhow::{Context, Result, ensure};
use atoll_wire::process::{Pty, pty::Size};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// Every key goes to the reader as it is; undone when dropped.
pub struct Raw {
    stdin: Stdin,
    before: Termios,
}

impl Raw {
    /// Takes over the terminal.
    pub fn enter() -> Result<Self> {
        let stdin = io::stdin();
        ensure!(stdin.is_terminal(), "-t needs a terminal as standard input");
        let before = tcgetattr(&stdin).context("reading the terminal's settings")?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Now, &raw).context("changing the terminal's settings")?;
        Ok(Self { stdin, before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // If it cannot be undone there is nobody left to tell.
        let _ = tcsetattr(&self.stdin, OptionalActions::Now, &self.before);
    }
}

/// The terminal's size; 80 by 24 where it has none.
pub fn size() -> Pty {
    let size = tcgetwinsize(io::stdin()).map(|s| (s.ws_col, s.ws_row)).ok().filter(|(cols, rows)| *cols > 0 && *rows > 0);
    let (cols, rows) = size.unwrap_or((80, 24));
    Pty { size: Some(Size { cols: cols.into(), rows: rows.into() }) }
}
