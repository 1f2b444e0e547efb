//! The command line: `-name`, `-name=value` and `-name value`, with one dash or two.

use std::{net::Ipv4Addr, path::PathBuf};

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flags {
    /// Where to listen; 0 lets the kernel choose, and the log tells.
    pub port: u16,
    /// There is no virtual machine around it: its clock is another's.
    pub isnotfc: bool,
    /// Log at debug level.
    pub verbose: bool,
    /// Print the version and exit.
    pub version: bool,
    /// Print the commit and exit.
    pub commit: bool,
    /// Where the files about the sandbox go.
    pub run_dir: PathBuf,
    /// Where forwarded ports listen, instead of the first address found.
    pub forward_address: Option<Ipv4Addr>,
}

impl Default for Flags {
    fn default() -> Self {
        Self {
            port: 49983,
            isnotfc: false,
            verbose: false,
            version: false,
            commit: false,
            run_dir: "/run/e2b".into(),
            forward_address: None,
        }
    }
}

/// Why the command line is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FlagError {
    /// No such flag.
    #[error("flag provided but not defined: {0}")]
    Unknown(String),
    /// A flag at the end that needs a value.
    #[error("flag needs an argument: {0}")]
    Missing(String),
    /// A value that does not parse.
    #[error("invalid value \"{value}\" for flag {flag}")]
    Invalid {
        /// The flag.
        flag: String,
        /// What was given.
        value: String,
    },
}

impl Flags {
    /// Reads the arguments, the program's name not among them.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, FlagError> {
        let mut flags = Self::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let (flag, inline) = match argument.split_once('=') {
                Some((flag, value)) => (flag.to_owned(), Some(value.to_owned())),
                None => (argument, None),
            };
            let Some(name) = flag.strip_prefix("--").or_else(|| flag.strip_prefix('-')) else {
                return Err(FlagError::Unknown(flag));
            };
            let switch = match name {
                "isnotfc" => Some(&mut flags.isnotfc),
                "verbose" => Some(&mut flags.verbose),
                "version" => Some(&mut flags.version),
                "commit" => Some(&mut flags.commit),
                // Neither has an effect: processes stay in the daemon's own cgroup.
                "no-cgroups" => Some(&mut false),
                _ => None,
            };
            if let Some(switch) = switch {
                *switch = inline.map_or(Ok(true), |value| parsed(&flag, value))?;
                continue;
            }
            if !matches!(name, "port" | "run-dir" | "forward-address" | "cgroup-root") {
                return Err(FlagError::Unknown(flag));
            }
            let value = inline.or_else(|| arguments.next()).ok_or_else(|| FlagError::Missing(flag.clone()))?;
            match name {
                "port" => flags.port = parsed(&flag, value)?,
                "run-dir" => flags.run_dir = value.into(),
                "forward-address" => flags.forward_address = Some(parsed(&flag, value)?),
                _ => {}
            }
        }
        Ok(flags)
    }
}

fn parsed<T: std::str::FromStr>(flag: &str, value: String) -> Result<T, FlagError> {
    value.parse().map_err(|_| FlagError::Invalid { flag: flag.into(), value })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Flags, FlagError> {
        Flags::parse(line.split_whitespace().map(String::from))
    }

    #[test]
    fn one_dash_or_two_and_values_either_way() {
        let expected = Flags { port: 1, isnotfc: true, forward_address: Some(Ipv4Addr::new(10, 0, 0, 1)), ..Flags::default() };
        assert_eq!(parse("-port 1 --isnotfc -forward-address=10.0.0.1 -no-cgroups"), Ok(expected.clone()));
        assert_eq!(parse("--port=1 -isnotfc=true --forward-address 10.0.0.1 -cgroup-root /x"), Ok(expected));
        assert_eq!(parse("").unwrap().port, 49983);
        assert!(parse("-version").unwrap().version);
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(parse("-what"), Err(FlagError::Unknown("-what".into())));
        assert_eq!(parse("port"), Err(FlagError::Unknown("port".into())));
        assert_eq!(parse("-port"), Err(FlagError::Missing("-port".into())));
        for bad in ["-port=65536", "-port=x", "-port=", "-isnotfc=maybe", "-forward-address=::1"] {
            assert!(matches!(parse(bad), Err(FlagError::Invalid { .. })), "{bad}");
        }
    }
}
