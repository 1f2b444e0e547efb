//! What one can type.

mod sandbox;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use atoll_manual::Shell;
use clap::{Args, Parser, Subcommand};

pub use self::sandbox::{New, Process, Run, SandboxCommand};

const HOST: &str = "Where the host is";

/// What `atoll` alone says.
pub const GUIDE: &str = "\
atoll runs code in sandboxes on your own machines.

  sudo atolld all                            1. start the daemon
  atoll doctor                                  if it does not start
  source <(sudo atoll env)                   2. say where it is and who you are
  atoll run -- python3 -c 'print(40 + 2)'    3. run a command in a new sandbox,
  id=$(atoll sandbox create)                    or create one,
  atoll sandbox exec $id ls /                   use it as often as you like,
  atoll sandbox kill $id                        and end it

`atoll --help` lists all commands; `atoll COMMAND --help` explains one.
";

/// What every manual page ends with.
pub const CLOSING: [(&str, &str); 2] = [
    (
        "EXIT STATUS",
        "\
0  Success.
1  Failure; the reason is on standard error.
2  The command line makes no sense.
3  There is no such sandbox, or no more.
4  No API key, or one that is refused.
5  The host cannot be reached, or its certificate is not trusted.
run, exec and connect exit as their command does, with 128 and its number if a signal ended it, or with:
124  The command ran out of time.
125  The command could not be started: any of the failures above.
126  The command is there but cannot be run.
127  There is no such command in the sandbox.
129, 130, 143  A hangup, Ctrl-C or a SIGTERM ended atoll, and with it the command.",
    ),
    (
        "FILES",
        "/var/lib/atoll/env  Addresses and key of the daemon on this machine; read where neither a flag nor a variable says better. Its owner \
         alone may read it. Another --data-dir has its own.",
    ),
];

/// Run code in sandboxes on your own machines.
///
/// Sandboxes are small computers for code that nobody has read: they start in a moment, reach neither each other nor this machine, and are
/// gone when they end. atoll talks to an Atoll host, here or elsewhere, over the same API that E2B's SDKs use.
#[derive(Parser)]
#[command(
    name = "atoll",
    version,
    max_term_width = 100,
    after_help = "\
Examples:
  source <(sudo atoll env)                   point E2B's SDKs at this host
  atoll run -- python3 -c 'print(40 + 2)'    a command in a new sandbox
  id=$(atoll sandbox create --timeout 60)    a sandbox for a minute
  atoll sandbox exec $id -it bash            a shell in it
  atoll sandbox cp . $id:work                copy this directory into it
  atoll sandbox kill $id                     end it

Host and key:
  flags, else the variables E2B_API_URL and E2B_SANDBOX_URL or E2B_DOMAIN,
  and E2B_API_KEY, else the file `env` in the data directory of a daemon
  on this machine"
)]
pub struct Cli {
    #[command(flatten)]
    pub place: Place,
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Where the host is.
#[derive(Args)]
pub struct Place {
    /// The API, as http://HOST:PORT or https://HOST
    #[arg(long, global = true, help_heading = HOST, env = "E2B_API_URL", value_name = "URL", hide_env_values = true)]
    pub api_url: Option<String>,
    /// The traffic of sandboxes, as http://HOST:PORT or https://HOST
    #[arg(long, global = true, help_heading = HOST, env = "E2B_SANDBOX_URL", value_name = "URL", hide_env_values = true)]
    pub sandbox_url: Option<String>,
    /// A domain instead of both: the API is https://api.DOMAIN
    #[arg(long, global = true, help_heading = HOST, env = "E2B_DOMAIN", value_name = "DOMAIN", hide_env_values = true)]
    pub domain: Option<String>,
    /// `true`: whatever listens on localhost, as the SDKs take it
    #[arg(long, global = true, hide = true, env = "E2B_DEBUG")]
    pub debug: Option<String>,
    /// The certificates to trust, instead of the system's
    #[arg(long, global = true, help_heading = HOST, env = "SSL_CERT_FILE", value_name = "FILE", hide_env_values = true)]
    pub ca: Option<String>,
    /// Your key. Others on this machine can see flags: prefer the variable
    #[arg(long, global = true, help_heading = HOST, env = "E2B_API_KEY", value_name = "KEY", hide_env_values = true)]
    pub api_key: Option<String>,
    /// The data directory of the daemon on this machine
    #[arg(long, global = true, help_heading = HOST, env = "ATOLL_DATA_DIR", value_name = "DIR", default_value = "/var/lib/atoll", hide_env_values = true)]
    pub data_dir: PathBuf,
}

#[derive(Subcommand)]
pub enum Command {
    /// Run one command in a fresh sandbox, then end the sandbox
    ///
    /// Short for `atoll sandbox run`. Input, output and exit code are the command's; Ctrl-C ends the command and the sandbox.
    #[command(after_help = sandbox::RUN_EXAMPLES)]
    Run(Run),
    /// Create, list, use and end sandboxes
    ///
    /// A sandbox lives until its timeout or until it is killed, whichever comes first. Commands that take a SANDBOX want its ID, as `create`
    /// and `ls` print it.
    #[command(visible_alias = "sbx")]
    Sandbox {
        #[command(subcommand)]
        command: SandboxCommand,
    },
    /// Print the variables that point clients at the daemon here
    ///
    /// They are in a file of the daemon's data directory that only its owner may read, hence the sudo. atoll itself finds that file without
    /// help if it may read it.
    #[command(after_help = "\
Examples:
  source <(sudo atoll env)             for this shell
  atoll env --json | jq -r .E2B_API_KEY")]
    Env {
        /// As a JSON object
        #[arg(long)]
        json: bool,
    },
    /// Check what this machine can do, and say how to fix what it cannot
    ///
    /// Runs `atolld doctor`. Exits with 1 if something is missing without which the daemon does not start.
    ///
    /// With --attack: makes two sandboxes of the running daemon, and from inside one tries to reach the host, the other and the
    /// kernel, as root and as an ordinary user. Run it on the host, as root: then canaries there show what arrived. Every attempt
    /// is harmless if it succeeds. Exits with 1 if one does, or if nobody can tell.
    #[command(after_help = "\
Examples:
  atoll doctor
  atoll doctor --json | jq '.[] | select(.ok | not)'
  sudo atoll doctor --attack
  sudo atoll doctor --attack --json > report.json")]
    Doctor {
        /// As JSON
        #[arg(long)]
        json: bool,
        /// Try to break out of a sandbox of the running daemon
        #[arg(long)]
        attack: bool,
    },
    /// Print the completions for a shell
    ///
    /// They complete commands, flags, and the IDs of your sandboxes. `make install` puts them where bash, zsh and fish look.
    #[command(after_help = "\
Examples:
  source <(atoll completion bash)
  atoll completion zsh > ~/.zfunc/_atoll
  atoll completion fish > ~/.config/fish/completions/atoll.fish")]
    Completion {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page, or write all of them into a directory
    #[command(hide = true, after_help = "Examples:\n  atoll man | man -l -")]
    Man {
        /// The directory
        dir: Option<PathBuf>,
    },
}
