//! How an end is told to clients, in Go's words: both SDKs show them.

use atoll_sys::process::Exit;
use atoll_wire::process::process_event::EndEvent;

/// The last event of a process that ended like this.
pub fn event(exit: Exit) -> EndEvent {
    match exit {
        Exit::Code(code) => {
            let status = format!("exit status {code}");
            EndEvent { exit_code: code, exited: true, error: (code != 0).then(|| status.clone()), status }
        }
        Exit::Signal { signal, core_dumped } => {
            let status = format!("signal: {}{}", name(signal), if core_dumped { " (core dumped)" } else { "" });
            EndEvent { exit_code: -1, exited: false, error: Some(status.clone()), status }
        }
    }
}

fn name(signal: i32) -> String {
    const NAMES: [&str; 15] = [
        "hangup",
        "interrupt",
        "quit",
        "illegal instruction",
        "trace/breakpoint trap",
        "aborted",
        "bus error",
        "floating point exception",
        "killed",
        "user defined signal 1",
        "segmentation fault",
        "user defined signal 2",
        "broken pipe",
        "alarm clock",
        "terminated",
    ];
    let known = usize::try_from(signal).ok().and_then(|n| NAMES.get(n.checked_sub(1)?));
    known.map_or_else(|| format!("signal {signal}"), |name| (*name).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_is_absent_on_success_only() {
        let end = event(Exit::Code(0));
        assert_eq!((end.exit_code, end.exited, end.status.as_str(), end.error), (0, true, "exit status 0", None));
        let end = event(Exit::Code(7));
        assert_eq!(
            (end.exit_code, end.exited, end.status.as_str(), end.error.as_deref()),
            (7, true, "exit status 7", Some("exit status 7"))
        );
    }

    #[test]
    fn signals_have_gos_names() {
        let end = event(Exit::Signal { signal: 11, core_dumped: true });
        assert_eq!((end.exit_code, end.exited, end.status.as_str()), (-1, false, "signal: segmentation fault (core dumped)"));
        assert_eq!(end.error, Some(end.status));
        for (signal, expected) in [(1, "hangup"), (9, "killed"), (15, "terminated"), (31, "signal 31"), (64, "signal 64")] {
            assert_eq!(event(Exit::Signal { signal, core_dumped: false }).status, format!("signal: {expected}"));
        }
    }
}
