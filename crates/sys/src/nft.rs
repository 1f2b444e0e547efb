//! The packet filter, through `nft`: a script is applied whole or not at all.

use std::{
    io::{self, Write},
    process::{Command, Stdio},
    thread,
};

/// Why a script was not applied. Nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// There is no usable `nft`.
    #[error("running `nft`; is the package nftables installed?")]
    Start(#[source] io::Error),
    /// It did not take the script.
    #[error("nft refused the script: {0}")]
    Refused(String),
}

/// Applies a script as one transaction and returns what it printed.
pub fn run(script: &str) -> Result<String, NftError> {
    let mut nft = Command::new("nft");
    nft.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = nft.spawn().map_err(NftError::Start)?;
    let input = child.stdin.take();
    // Written while the answers are read, so that neither side waits for the other. A failure to write shows in what `nft` says.
    let output = thread::scope(|scope| {
        scope.spawn(move || input.map(|mut input| input.write_all(script.as_bytes())));
        child.wait_with_output()
    });
    let output = output.map_err(NftError::Start)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let first = errors.lines().next().map_or_else(|| output.status.to_string(), str::to_owned);
    Err(NftError::Refused(first))
}

/// The names of all `inet` tables.
pub fn tables() -> Result<Vec<String>, NftError> {
    let listed = run("list tables inet\n")?;
    Ok(listed.lines().filter_map(|line| line.strip_prefix("table inet ")).map(|name| name.trim().to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn can_filter(test: &str) -> bool {
        let able = tables().is_ok();
        if !able {
            eprintln!("SKIPPED {test}: needs root and nft");
        }
        able
    }

    #[test]
    fn a_script_is_applied_whole_or_not_at_all() {
        if !can_filter("a_script_is_applied_whole_or_not_at_all") {
            return;
        }
        let name = format!("atoll_nft_test_{}", std::process::id());
        let refused = run(&format!("add table inet {name}\nadd rule inet {name} nowhere accept\n")).unwrap_err();
        assert!(matches!(&refused, NftError::Refused(why) if why.contains("No such file")), "{refused}");
        assert!(!tables().unwrap().contains(&name));

        let many: String = (0..20_000).map(|i| format!("add element inet {name} s {{ 10.0.{}.{} }}\n", i / 250, i % 250)).collect();
        run(&format!("add table inet {name}\nadd set inet {name} s {{ type ipv4_addr; }}\n{many}")).unwrap();
        assert!(tables().unwrap().contains(&name));
        run(&format!("delete table inet {name}\n")).unwrap();
        assert!(!tables().unwrap().contains(&name));
    }
}
