//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::client::ClientOptions;
use crate::kind::Kind;
use crate::measurements::Measurement;
use crate::rows::Row;
use crate::servers::options::Options;

/// Measures falcotcp-sync's echo server against other people's, all in interleaved rounds on the same two cores.
///
/// Without arguments: everything, in some seven minutes.
#[derive(Parser)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// Only these rows; without --measurements, none of those.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) rows: Option<Vec<Row>>,
    /// Only these of the measurements besides the rows; without --rows, none of the rows.
    #[arg(long, alias = "further", value_enum, value_delimiter = ',')]
    pub(crate) measurements: Option<Vec<Measurement>>,
    /// Only these contenders, in the rows that compare servers: a to g, and n. Without `plain` there are no ratios.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "plain,rustls,tokio-rustls,falcotcp,ours,ours-forward-secret"
    )]
    pub(crate) contenders: Vec<Kind>,
    /// One more contender: our server as another build of this program has it, say from before a change, or with
    /// another feature of the library. Its rounds are interleaved with the rest.
    #[arg(long, value_name = "NAME=PROGRAM", value_parser = named_program)]
    pub(crate) extra: Vec<(String, PathBuf)>,
    /// How often each contender has its turn.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// How long one turn is measured.
    #[arg(long, default_value_t = 0.8, value_parser = seconds)]
    pub(crate) seconds: f64,
    /// How many idle connections the measurement `idle` holds.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) idle_connections: usize,
    #[command(flatten)]
    pub(crate) client: ClientOptions,
    /// Write the figures into README.md (one table) and benches/peers/README.md (everything) as well, each between
    /// its two marker comments.
    #[arg(long, conflicts_with_all = ["rows", "measurements", "contenders", "replay", "shared_records"])]
    pub(crate) readme: bool,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Be one server, until killed: what the benchmark starts this program for.
    #[command(hide = true)]
    Serve {
        #[arg(value_enum)]
        kind: Kind,
        #[command(flatten)]
        options: Options,
    },
}

fn named_program(text: &str) -> Result<(String, PathBuf), String> {
    let (name, program) = text.split_once('=').ok_or("expected NAME=PROGRAM")?;
    Ok((name.to_owned(), PathBuf::from(program)))
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.01..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("expected seconds, from 0.01 to 3600".to_owned()),
    }
}
