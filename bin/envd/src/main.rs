//! `envd`: reads the command line and runs.

use std::process::ExitCode;

use envd::flags::Flags;

fn main() -> ExitCode {
    match Flags::parse(std::env::args().skip(1)) {
        Ok(flags) if flags.version => println!("{}", atoll_wire::envd::ENVD_VERSION),
        Ok(flags) if flags.commit => println!("{}", env!("CARGO_PKG_VERSION")),
        Ok(flags) => {
            if let Err(error) = envd::run(flags) {
                eprintln!("envd: {error}");
                return ExitCode::FAILURE;
            }
        }
        Err(error) => {
            eprintln!("envd: {error}");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}
