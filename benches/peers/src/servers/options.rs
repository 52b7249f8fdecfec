//! What a server process is told on its command line.

use std::net::SocketAddr;
use std::time::Duration;

use super::work::Work;

/// Connections stay idle while the other contenders have their turn; they are not to run out meanwhile.
pub(crate) const LIFETIME: Duration = Duration::from_secs(600);

#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Options {
    #[arg(long, value_enum, default_value = "echo")]
    pub(crate) work: Work,
    /// Worker threads of a server that has a fixed number of them; its own default where nothing is said.
    #[arg(long)]
    pub(crate) workers: Option<usize>,
    /// Where the services listen that a handler asks.
    #[arg(long, value_delimiter = ',')]
    pub(crate) services: Vec<SocketAddr>,
}
