//! What a server process is told on its command line.

use super::work::Work;

#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Options {
    #[arg(long, value_enum, default_value = "echo")]
    pub(crate) work: Work,
    /// Worker threads of a server that has a fixed number of them; its own default where nothing is said.
    #[arg(long)]
    pub(crate) workers: Option<usize>,
}
