//! What a person sees of a bootstrap: one updating line on a terminal, a line for each phase elsewhere.

use std::{
    io::{IsTerminal as _, Write as _, stderr},
    sync::Mutex,
    time::Instant,
};

/// Tells on standard error how far something is.
pub(super) struct Progress {
    title: &'static str,
    terminal: bool,
    started: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    phase: String,
    packages: u32,
    fetched: u32,
    installed: u32,
}

impl State {
    /// Takes in a line of a bootstrap: the phase that it begins, and what there is to show beside it.
    fn take(&mut self, line: &str) -> Option<(String, String)> {
        let number = |text: &str| text.trim().rsplit(' ').next().and_then(|word| word.parse::<u32>().ok());
        if line.starts_with("I: running apt-get update") {
            Some(("reading the package lists".into(), String::new()))
        } else if let Some((before, _)) = line.split_once(" newly installed") {
            self.packages += number(before).unwrap_or_default();
            None
        } else if line.starts_with("Get:") && self.packages > 0 {
            self.fetched += 1;
            Some(("downloading packages".into(), format!("{}/{}", self.fetched, self.packages)))
        } else if line.starts_with("Setting up ") {
            self.installed += 1;
            Some(("installing packages".into(), format!("{}/{}", self.installed, self.packages)))
        } else {
            line.strip_prefix("atoll: ").map(|phase| (phase.into(), String::new()))
        }
    }
}

impl Progress {
    pub(super) fn start(title: &'static str) -> Self {
        Self { title, terminal: stderr().is_terminal(), started: Instant::now(), state: Mutex::default() }
    }

    /// A new phase begins, unless it is the one already shown.
    pub(super) fn phase(&self, phase: &str) {
        let mut state = self.state();
        self.show(&mut state, phase, "");
    }

    /// A line that a bootstrap printed.
    pub(super) fn line(&self, line: &str) {
        let mut state = self.state();
        if let Some((phase, count)) = state.take(line) {
            self.show(&mut state, &phase, &count);
        }
    }

    /// What came of it so far, on a line that stays.
    pub(super) fn end(&self, how: &str) {
        self.clear();
        self.print(&format!("{}: {how} after {} s\n", self.title, self.started.elapsed().as_secs()));
    }

    fn clear(&self) {
        if self.terminal {
            self.print("\r\x1b[K");
        }
    }

    fn show(&self, state: &mut State, phase: &str, count: &str) {
        let seconds = self.started.elapsed().as_secs();
        if self.terminal {
            let space = if count.is_empty() { "" } else { " " };
            self.print(&format!("\r\x1b[K{}: {phase}{space}{count} ({seconds} s)", self.title));
        } else if state.phase != phase {
            self.print(&format!("{}: {phase} ({seconds} s)\n", self.title));
        }
        state.phase = phase.into();
    }

    fn print(&self, text: &str) {
        // Nobody looking is no reason to stop.
        let _ = stderr().write_all(text.as_bytes());
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Progress {
    /// Whatever is said next, such as why it failed, has a line of its own.
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_the_packages_of_both_rounds() {
        let mut state = State::default();
        let mut take = |line: &str| state.take(line).map(|(phase, count)| format!("{phase} {count}"));
        assert_eq!(take("Get:1 http://mirror bookworm InRelease [151 kB]"), None);
        assert_eq!(take("0 upgraded, 2 newly installed, 0 to remove and 0 not upgraded."), None);
        assert_eq!(take("Get:1 http://mirror bookworm/main amd64 bash").unwrap(), "downloading packages 1/2");
        assert_eq!(take("Setting up bash (5.2) ...").unwrap(), "installing packages 1/2");
        assert_eq!(take("0 upgraded, 108 newly installed, 0 to remove"), None);
        assert_eq!(take("Setting up git ...").unwrap(), "installing packages 2/110");
        assert_eq!(take("atoll: fetching Node.js").unwrap(), "fetching Node.js ");
        assert_eq!(take("anything else"), None);
    }
}
