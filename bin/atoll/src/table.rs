//! Text for people.

use atoll_types::Timestamp;

/// Columns as wide as their widest cell. Cells come from strangers: control characters are shown, not sent to the terminal.
pub fn render(head: &[&str], rows: &[Vec<String>]) -> String {
    let clean: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| visible(cell)).collect()).collect();
    let lines = || std::iter::once(head.iter().map(|h| (*h).to_owned()).collect::<Vec<_>>()).chain(clean.iter().cloned());
    let widths: Vec<usize> = (0..head.len()).map(|i| lines().filter_map(|l| Some(l.get(i)?.chars().count())).max().unwrap_or(0)).collect();
    let render = |line: Vec<String>| {
        let padded: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_owned() + "\n"
    };
    lines().map(render).collect()
}

/// The text with control characters written out.
pub fn visible(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut shown, c| {
        if c.is_control() && c != '\t' {
            shown.extend(c.escape_default())
        } else {
            shown.push(c)
        }
        shown
    })
}

/// How far apart two moments are, roughly: `42s`, `7m`, `3h`, `12d`.
pub fn span(from: Timestamp, to: Timestamp) -> String {
    match (to - from).num_seconds().max(0) {
        s @ ..120 => format!("{s}s"),
        s @ ..7200 => format!("{}m", s / 60),
        s @ ..172_800 => format!("{}h", s / 3600),
        s => format!("{}d", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use atoll_types::{Clock, SystemClock};

    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".into(), "é".into(), "1".into()], vec!["long-id".into(), String::new(), String::new()]];
        assert_eq!(render(&["ID", "NAME", "N"], &rows), "ID       NAME  N\na        é     1\nlong-id\n");
        assert_eq!(render(&["ID"], &[]), "ID\n");
    }

    #[test]
    fn strangers_cannot_drive_the_terminal() {
        assert_eq!(visible("a\u{1b}[31m\tb\r\n\u{9b}"), "a\\u{1b}[31m\tb\\r\\n\\u{9b}");
    }

    #[test]
    fn spans_are_short() {
        let now = SystemClock.now();
        let later = |s: u64| span(now, now + std::time::Duration::from_secs(s));
        assert_eq!([later(0), later(119), later(150), later(7199), later(7200), later(900_000)], ["0s", "119s", "2m", "119m", "2h", "10d"]);
        assert_eq!(span(now + std::time::Duration::from_secs(5), now), "0s");
    }
}
