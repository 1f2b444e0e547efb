//! Fault points: named places where a test can make the daemon die or fail.
//!
//! [`point`] and [`fallible`] do nothing unless [`arm`] was called, which a daemon does only when it is told to at its start. What a
//! fault does to the process is the business of whoever arms them: nothing here knows of signals or logs.

use std::{
    fmt, io,
    str::FromStr,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

static ARMED: OnceLock<Armed> = OnceLock::new();

/// Called at each point that is passed, with what is to happen there, if anything.
type Tell = fn(&'static str, Option<Action>);

struct Armed {
    faults: Vec<(Fault, AtomicU32)>,
    tell: Tell,
}

/// What happens at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The process ends at once, as after SIGKILL.
    Kill,
    /// The step fails with an error; only where it can.
    Error,
}

/// One fault: `point=action`, or `point=action@n` for the `n`-th time that the point is passed instead of the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    point: String,
    action: Action,
    pass: u32,
}

/// Several faults, separated by commas; none at all are fine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

/// Why a text is no list of faults.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no fault: expected point=kill or point=error, and perhaps @ and the number of the pass")]
pub struct NotAFault(String);

impl FromStr for Fault {
    type Err = NotAFault;
    fn from_str(text: &str) -> Result<Self, NotAFault> {
        let parse = || {
            let (point, rest) = text.split_once('=')?;
            let (action, pass) = rest.split_once('@').unwrap_or((rest, "1"));
            let action = match action {
                "kill" => Action::Kill,
                "error" => Action::Error,
                _ => return None,
            };
            let pass = pass.parse().ok().filter(|pass| *pass > 0)?;
            (!point.is_empty()).then(|| Self { point: point.to_owned(), action, pass })
        };
        parse().ok_or_else(|| NotAFault(text.to_owned()))
    }
}

impl FromStr for Faults {
    type Err = NotAFault;
    fn from_str(text: &str) -> Result<Self, NotAFault> {
        text.split(',').filter(|fault| !fault.is_empty()).map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "kill",
            Self::Error => "error",
        })
    }
}

impl Armed {
    fn pass(&self, name: &'static str, fallible: bool) -> Option<Action> {
        let due = |(fault, passed): &&(Fault, AtomicU32)| {
            fault.point == name && (fallible || fault.action != Action::Error) && passed.fetch_add(1, Ordering::Relaxed) + 1 == fault.pass
        };
        let action = self.faults.iter().find(due).map(|(fault, _)| fault.action);
        (self.tell)(name, action);
        action
    }
}

/// Arms `faults` for the rest of the process's life; `tell` hears of every point that is passed and carries out [`Action::Kill`]. Only the
/// first call counts.
pub fn arm(faults: Faults, tell: Tell) {
    let faults = faults.0.into_iter().map(|fault| (fault, AtomicU32::new(0))).collect();
    // A second list would change faults under way.
    let _ = ARMED.set(Armed { faults, tell });
}

/// A place where the daemon may die.
#[inline]
pub fn point(name: &'static str) {
    if let Some(armed) = ARMED.get() {
        armed.pass(name, false);
    }
}

/// A place where the daemon may die or what it does may fail.
#[inline]
pub fn fallible(name: &'static str) -> io::Result<()> {
    match ARMED.get().and_then(|armed| armed.pass(name, true)) {
        Some(Action::Error) => Err(io::Error::other(format!("fault point {name}"))),
        Some(Action::Kill) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_means_something_is_a_fault() {
        let fault = |text: &str| text.parse::<Fault>().ok().map(|fault| (fault.point, fault.action, fault.pass));
        assert_eq!(fault("boot.home=kill"), Some(("boot.home".into(), Action::Kill, 1)));
        assert_eq!(fault("boot.home=error@3"), Some(("boot.home".into(), Action::Error, 3)));
        for wrong in ["", "boot.home", "boot.home=", "=kill", "boot.home=explode", "a=kill@0", "a=kill@x", "a=kill@-1", "a=kill@"] {
            assert_eq!(fault(wrong), None, "{wrong}");
        }
        assert_eq!("".parse::<Faults>().unwrap(), Faults(Vec::new()));
        assert_eq!("a=kill,b=error@2".parse::<Faults>().unwrap().0.len(), 2);
        assert!("a=kill,b".parse::<Faults>().is_err());
    }

    #[test]
    fn a_fault_happens_once_and_only_where_it_can() {
        point("before.armed");
        fallible("before.armed").unwrap();
        let tell = |_, action| assert_ne!(action, Some(Action::Kill));
        arm("a=error@2,b=error".parse().unwrap(), tell);
        arm("c=kill".parse().unwrap(), tell);
        assert!(fallible("a").is_ok() && fallible("a").is_err() && fallible("a").is_ok());
        point("b");
        assert!(fallible("b").is_err(), "a point that cannot fail does not use it up");
        point("c");
    }
}
