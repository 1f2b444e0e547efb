//! How far a transfer is: on a terminal one line that moves, elsewhere one line at the end. All of it on standard error.

use std::{
    cell::Cell,
    io::{self, IsTerminal as _, Write, stderr},
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::io::{AsyncRead, ReadBuf};

const EVERY: Duration = Duration::from_millis(100);

/// A transfer that is under way.
pub struct Progress {
    title: String,
    total: Option<u64>,
    done: Cell<u64>,
    started: Instant,
    shown: Cell<Option<Instant>>,
    quiet: bool,
}

impl Progress {
    /// Begins; `total` bytes are expected, if that is known.
    pub fn start(title: String, total: Option<u64>, quiet: bool) -> Self {
        Self { title, total, done: Cell::new(0), started: Instant::now(), shown: Cell::new(None), quiet }
    }

    /// So many bytes more.
    pub fn add(&self, bytes: usize) {
        self.done.set(self.done.get() + bytes as u64);
        if !self.quiet && stderr().is_terminal() && self.shown.get().is_none_or(|shown| shown.elapsed() >= EVERY) {
            self.shown.set(Some(Instant::now()));
            let columns = rustix::termios::tcgetwinsize(stderr()).map_or(0, |size| usize::from(size.ws_col));
            let columns = if columns == 0 { 80 } else { columns };
            let line = line(&self.title, self.done.get(), self.total, self.started.elapsed(), columns);
            print(&format!("\r\x1b[K{line}"));
        }
    }

    /// All of it has arrived.
    pub fn end(self) {
        if !self.quiet {
            let (done, took) = (self.done.get(), self.started.elapsed());
            self.clear();
            print(&format!("{}: {} in {:.1} s ({}/s)\n", self.title, size(done), took.as_secs_f64(), size(rate(done, took))));
        }
    }

    fn clear(&self) {
        if self.shown.take().is_some() {
            print("\r\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

fn print(text: &str) {
    // Nobody looking is no reason to stop.
    let _ = stderr().write_all(text.as_bytes());
}

fn rate(done: u64, took: Duration) -> u64 {
    (done as f64 / took.as_secs_f64().max(0.001)) as u64
}

/// `data.csv  [=====>    ]  50%  1.0/2.0 MiB  1.0 MiB/s  1 s left`, as much of it as there is room for.
fn line(title: &str, done: u64, total: Option<u64>, took: Duration, columns: usize) -> String {
    let rate = rate(done, took);
    let figures = match total.filter(|total| *total > 0) {
        None => format!("{}  {}/s", size(done), size(rate)),
        Some(total) => {
            let left = total.saturating_sub(done).checked_div(rate).map(|left| format!("  {left} s left")).unwrap_or_default();
            format!("{:>3}%  {} of {}  {}/s{left}", (done.min(total) * 100) / total, size(done), size(total), size(rate))
        }
    };
    let room = columns.saturating_sub(1);
    let bar = room.saturating_sub(title.chars().count() + figures.chars().count() + 6).min(30);
    let text = match total.filter(|total| *total > 0) {
        Some(total) if bar >= 10 => {
            let filled = (done.min(total) * bar as u64 / total) as usize;
            format!("{title}  [{:<bar$}]  {figures}", format!("{}>", "=".repeat(filled.saturating_sub(1))))
        }
        _ => format!("{title}  {figures}"),
    };
    text.chars().take(room).collect()
}

/// `512 B`, `1.5 KiB`, `20.0 MiB`.
pub fn size(bytes: u64) -> String {
    let unit = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut index = 0;
    while value >= 1023.95 && index + 1 < unit.len() {
        value /= 1024.0;
        index += 1;
    }
    if index == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", unit[index]) }
}

/// A stream whose bytes are counted.
pub struct Counted<'a, T>(pub T, pub &'a Progress);

impl<T: AsyncRead + Unpin> AsyncRead for Counted<'_, T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.0).poll_read(cx, buffer);
        self.1.add(buffer.filled().len() - before);
        polled
    }
}

impl<T: Write> Write for Counted<'_, T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.0.write(bytes)?;
        self.1.add(count);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit_the_terminal() {
        let at = |done, total, columns| line("data.csv", done, total, Duration::from_secs(2), columns);
        assert_eq!(at(2 << 20, None, 80), "data.csv  2.0 MiB  1.0 MiB/s");
        let half = at(2 << 20, Some(4 << 20), 80);
        assert_eq!(half, "data.csv  [=========>          ]   50%  2.0 MiB of 4.0 MiB  1.0 MiB/s  2 s left");
        for columns in [0, 1, 20, 40, 79, 80, 200] {
            assert!(at(1 << 40, Some(1 << 40), columns).chars().count() < columns.max(1));
        }
        assert!(at(9, Some(4), 80).contains("100%") && at(0, Some(0), 80).contains("0 B"));
    }

    #[test]
    fn sizes_are_for_people() {
        assert_eq!([size(0), size(1023), size(1024), size(1536), size((1 << 20) - 1)], ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 MiB"]);
        assert_eq!(size(u64::MAX), "16777216.0 TiB");
    }
}
