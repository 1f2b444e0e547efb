//! What one can type.

use std::path::PathBuf;

use atoll_types::SandboxId;
use clap::{Args, Parser, Subcommand};

const HOST: &str = "Where the host is";

/// Run code in sandboxes on your own machines.
#[derive(Parser)]
#[command(
    name = "atoll",
    version,
    max_term_width = 100,
    after_help = "Examples:\n  \
        source <(sudo atoll env)                        point E2B's SDKs at this host\n  \
        atoll sandbox run -- python3 -c 'print(1+1)'    run one command in a fresh sandbox\n  \
        id=$(atoll sandbox create --timeout 3600)       create a sandbox for an hour\n  \
        atoll sandbox exec $id -it -- bash              open a shell in it\n  \
        atoll sandbox kill --all                        end them all\n\n\
        Where the host is: flags, else the variables E2B_API_URL, E2B_SANDBOX_URL and E2B_API_KEY, else the file `env` in\n\
        the data directory of a daemon on this machine."
)]
pub struct Cli {
    #[command(flatten)]
    pub place: Place,
    #[command(subcommand)]
    pub command: Command,
}

/// Where the host is.
#[derive(Args)]
pub struct Place {
    /// The API, as http://HOST:PORT
    #[arg(long, global = true, help_heading = HOST, env = "E2B_API_URL", value_name = "URL", hide_env_values = true)]
    pub api_url: Option<String>,
    /// The traffic of sandboxes, as http://HOST:PORT
    #[arg(long, global = true, help_heading = HOST, env = "E2B_SANDBOX_URL", value_name = "URL", hide_env_values = true)]
    pub sandbox_url: Option<String>,
    /// Your key. Others on this machine can see flags: prefer the variable
    #[arg(long, global = true, help_heading = HOST, env = "E2B_API_KEY", value_name = "KEY", hide_env_values = true)]
    pub api_key: Option<String>,
    /// The data directory of the daemon on this machine
    #[arg(long, global = true, help_heading = HOST, env = "ATOLL_DATA_DIR", value_name = "DIR", default_value = "/var/lib/atoll", hide_env_values = true)]
    pub data_dir: PathBuf,
}

#[derive(Subcommand)]
pub enum Command {
    /// Print the variables that point E2B's SDKs at this host: source <(atoll env)
    Env {
        /// As a JSON object
        #[arg(long)]
        json: bool,
    },
    /// Check what this machine can do, and say how to fix what it cannot
    Doctor {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Create, list, use and end sandboxes
    #[command(visible_alias = "sbx")]
    Sandbox {
        #[command(subcommand)]
        command: SandboxCommand,
    },
}

#[derive(Subcommand)]
pub enum SandboxCommand {
    /// Create a sandbox and print its ID
    #[command(after_help = "Example:\n  atoll sandbox create base --timeout 3600 --metadata user=ann --env DEBUG=1")]
    Create {
        #[command(flatten)]
        new: New,
        /// Print the API's whole answer
        #[arg(long)]
        json: bool,
    },
    /// Run one command in a fresh sandbox, then end the sandbox
    #[command(after_help = "Exits with the command's exit code.\n\nExamples:\n  \
        atoll sandbox run -- uname -a\n  \
        atoll sandbox run base --timeout 60 -- sh -c 'echo $HOME | tr a-z A-Z'\n  \
        echo 'print(40 + 2)' | atoll sandbox run -- python3 -")]
    Run {
        #[command(flatten)]
        new: New,
        #[command(flatten)]
        process: Process,
    },
    /// Run a command in a sandbox, with its input and output here
    #[command(after_help = "Exits with the command's exit code; 124 when --timeout ended it.\n\nExamples:\n  \
        atoll sandbox exec ID -- ls -l /\n  \
        atoll sandbox exec ID -it -- bash\n  \
        atoll sandbox exec ID --user root --cwd /etc --env A=1 -- sh -c 'cat hostname; echo $A'\n  \
        tar c . | atoll sandbox exec ID -- tar x -C /home/user")]
    Exec {
        /// The sandbox
        #[arg(value_parser = SandboxId::from_client)]
        id: SandboxId,
        #[command(flatten)]
        process: Process,
        /// Environment of the command, may be repeated
        #[arg(short, long, value_name = "NAME=VALUE", value_parser = pair)]
        env: Vec<(String, String)>,
        /// End the command after this many seconds
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=9_999_999))]
        timeout: Option<u64>,
    },
    /// Open a shell in a sandbox
    Connect {
        /// The sandbox
        #[arg(value_parser = SandboxId::from_client)]
        id: SandboxId,
        /// Who to be in it
        #[arg(short, long)]
        user: Option<String>,
    },
    /// List sandboxes
    #[command(visible_alias = "list", after_help = "Example:\n  atoll sandbox ls --state running --metadata user=ann")]
    Ls {
        /// Only those in this state
        #[arg(long, value_parser = ["running", "paused"], value_delimiter = ',')]
        state: Vec<String>,
        /// Only those with this metadata, may be repeated
        #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
        metadata: Vec<(String, String)>,
        /// As a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Show one sandbox
    Info {
        /// The sandbox
        #[arg(value_parser = SandboxId::from_client)]
        id: SandboxId,
        /// The API's whole answer
        #[arg(long)]
        json: bool,
    },
    /// Show what a sandbox logged
    Logs {
        /// The sandbox
        #[arg(value_parser = SandboxId::from_client)]
        id: SandboxId,
        /// Go on until the sandbox ends
        #[arg(short, long)]
        follow: bool,
        /// One JSON object per line
        #[arg(long)]
        json: bool,
    },
    /// End sandboxes
    Kill {
        /// The sandboxes
        #[arg(value_parser = SandboxId::from_client, required_unless_present = "all", conflicts_with = "all")]
        ids: Vec<SandboxId>,
        /// All of your team's
        #[arg(long)]
        all: bool,
    },
}

/// A sandbox to be made.
#[derive(Args)]
pub struct New {
    /// Its template
    #[arg(default_value = "base")]
    pub template: String,
    /// End it after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(i32).range(1..))]
    pub timeout: i32,
    /// To find it by, may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub metadata: Vec<(String, String)>,
    /// Environment of everything in it, may be repeated
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = pair)]
    pub env: Vec<(String, String)>,
}

/// A command to be run in a sandbox.
#[derive(Args)]
pub struct Process {
    /// Pass on standard input even from a terminal (from pipes and files it always is)
    #[arg(short, long)]
    pub interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Who runs it
    #[arg(short, long)]
    pub user: Option<String>,
    /// Where it starts
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<String>,
    /// The command, found in the sandbox's PATH; no shell reads it
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err("expected NAME=VALUE".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<SandboxCommand, clap::Error> {
        let words = ["atoll", "sandbox"].into_iter().chain(line.split(' '));
        Cli::try_parse_from(words).map(|cli| match cli.command {
            Command::Sandbox { command } => command,
            _ => unreachable!("the line begins with `sandbox`"),
        })
    }

    #[test]
    fn the_grammar_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn run_takes_a_template_and_a_command() {
        let Ok(SandboxCommand::Run { new, process }) = parse("run -- echo -n --timeout") else { panic!() };
        assert_eq!((new.template.as_str(), new.timeout), ("base", 300));
        assert_eq!(process.command, ["echo", "-n", "--timeout"]);
        let Ok(SandboxCommand::Run { new, process }) = parse("run web --timeout 5 --env A=b=c --metadata k= -it -u root -- sh") else {
            panic!()
        };
        assert_eq!((new.template.as_str(), new.timeout), ("web", 5));
        assert_eq!((new.env, new.metadata), (vec![("A".into(), "b=c".into())], vec![("k".into(), String::new())]));
        assert!(process.interactive && process.tty && process.user.as_deref() == Some("root"));
        assert!(parse("run base").is_err(), "a command is needed");
    }

    #[test]
    fn exec_takes_flags_on_either_side_of_the_id() {
        for line in ["exec abc1 --cwd / --timeout 9 -- ls", "exec --cwd / --timeout 9 abc1-legacy -- ls"] {
            let Ok(SandboxCommand::Exec { id, process, timeout, .. }) = parse(line) else { panic!("{line}") };
            assert_eq!((id.as_str(), process.cwd.as_deref(), timeout), ("abc1", Some("/"), Some(9)));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            "exec ../x -- ls",
            "kill",
            "kill --all abc1",
            "kill ABC",
            "create --env A",
            "create --metadata =v",
            "create --timeout 0",
            "ls --state dead",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        let Ok(SandboxCommand::Ls { state, .. }) = parse("ls --state running,paused") else { panic!() };
        assert_eq!(state, ["running", "paused"]);
    }
}
