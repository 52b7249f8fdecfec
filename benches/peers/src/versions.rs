//! Which versions of the peers were measured, from the lock file that they were built by.

const LOCK: &str = include_str!("../Cargo.lock");
const PEERS: [&str; 5] = ["rustls", "tokio-rustls", "tokio", "falcotcp", "aws-lc-rs"];

/// As in "rustls 0.23.46, tokio-rustls 0.26.6".
pub(crate) fn peers() -> String {
    let named: Vec<_> = PEERS.iter().filter_map(|name| Some(format!("{name} {}", version(name)?))).collect();
    named.join(", ")
}

fn version(name: &str) -> Option<&'static str> {
    let entry = LOCK.split("[[package]]").find(|entry| entry.contains(&format!("name = \"{name}\"\n")))?;
    entry.lines().find_map(|line| line.strip_prefix("version = \"")?.strip_suffix('"'))
}
