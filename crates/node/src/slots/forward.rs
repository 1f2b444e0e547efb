//! The host's own FORWARD chain. Docker and ufw make it drop what they do not know, and no verdict of our table overrides that; so our
//! interfaces pass it, by two rules, where it drops by default. What sandboxes reach is still for our table to say.

use std::{io, process::Command};

use super::Instance;

/// Lets our interfaces pass the chain; false if it does not drop by default, or there is none.
pub(super) fn open(instance: &Instance) -> io::Result<bool> {
    let listed = match iptables(&["-S", "FORWARD"]) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        listed => listed?,
    };
    if !listed.lines().any(|line| line == "-P FORWARD DROP") {
        return Ok(false);
    }
    for direction in ["-i", "-o"] {
        if rule("-C", direction, instance).is_err() {
            rule("-I", direction, instance)?;
        }
    }
    Ok(true)
}

/// Removes what [`open`] added.
pub(super) fn close(instance: &Instance) -> io::Result<()> {
    ["-i", "-o"].into_iter().try_for_each(|direction| rule("-D", direction, instance))
}

/// The rules in the chain that name our interfaces.
pub(super) fn rules(instance: &Instance) -> io::Result<Vec<String>> {
    match iptables(&["-S", "FORWARD"]) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => Ok(listed?.lines().filter(|line| line.contains(&format!(" at{instance}-+ "))).map(str::to_owned).collect()),
    }
}

fn rule(verb: &str, direction: &str, instance: &Instance) -> io::Result<()> {
    iptables(&[verb, "FORWARD", direction, &format!("at{instance}-+"), "-j", "ACCEPT"]).map(drop)
}

fn iptables(arguments: &[&str]) -> io::Result<String> {
    let output = Command::new("iptables").args(["-w", "5"]).args(arguments).output()?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(io::Error::other(format!("iptables {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim_end()))),
    }
}

#[cfg(test)]
mod tests {
    use atoll_sys::namespace::{create_pair, in_network};

    use super::*;

    #[test]
    fn our_interfaces_pass_a_chain_that_drops() {
        let elsewhere = create_pair(0x0ffc_0000);
        let (Ok(elsewhere), Ok(_)) = (elsewhere, Command::new("iptables").arg("--version").output()) else {
            return eprintln!("SKIPPED our_interfaces_pass_a_chain_that_drops: needs root and iptables");
        };
        in_network(&elsewhere.net, || {
            let instance: Instance = "ab12".parse().unwrap();
            assert!(!open(&instance).unwrap());
            iptables(&["-P", "FORWARD", "DROP"]).unwrap();
            assert!(open(&instance).unwrap() && open(&instance).unwrap());
            let mut found = rules(&instance).unwrap();
            found.sort();
            assert_eq!(found, ["-A FORWARD -i atab12-+ -j ACCEPT", "-A FORWARD -o atab12-+ -j ACCEPT"]);
            assert_eq!(rules(&"ab1".parse().unwrap()).unwrap(), [""; 0]);
            close(&instance).unwrap();
            assert_eq!(rules(&instance).unwrap(), [""; 0]);
        })
        .unwrap();
    }
}
