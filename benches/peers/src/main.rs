//! Echo servers compared: plain threads, rustls on threads, rustls on tokio, the published `falcotcp`, and this
//! repository's library.
//!
//! # How it is measured
//!
//! Rows a to g are echo servers with open connections, and row n is the same servers with a connection for each message.
//! Rows h to m compare ways to use this library: threads that share a client (h, i, j), answers that another thread
//! gives (k), handlers that ask services (m). `rows.rs` is the table of all rows, each with its contenders. What row l
//! would be, requests that wait for their answers, is counted in bytes, not in requests a second: the measurement
//! `outstanding`.
//!
//! - **Separate processes, the same cores.** Each server is this program started again. Servers and driver are pinned
//!   to the same two cores (row a: to one), so that nobody gains by using more of the machine than another.
//! - **Interleaved.** One row starts every contender, connects, and then gives each a short turn, round after round
//!   (A B C, A B C, ...). A turn warms up, is measured, and waits for the responses that are due, so that a server is
//!   idle while others have their turn. Ratios are to the plain server in the same round; in rows h to m, to the first
//!   contender of the row.
//! - **Closed loop.** Each connection has a fixed number of requests in flight; a response is followed by the next
//!   request at once. What came in together is answered with one write.
//! - **One driver for all protocols**, a single thread on `epoll`. Nothing about the loop differs between contenders;
//!   only the client half of the protocol is exchanged (`client/`). In row n it is a blocking thread for each client,
//!   with the same client halves, and in rows h to j the library's own client, since that is what is compared.
//!
//! # What is fair
//!
//! The client half of an encrypted protocol costs processor time as well, and it runs on the same two cores. To replay
//! one sealed request and count the bytes that come back would be allowed with this protocol, and impossible with
//! TLS; so the driver does not. **For every encrypted contender each request is really sealed and each response
//! really opened**, with AES-256-GCM from AWS-LC throughout: rustls is given that provider and the one cipher suite,
//! and the FalcoTCP clients in here use the same library, in forward-secret sessions for the handshake as well.
//! Each request is sealed by itself, in a record of its own where it is TLS, also where several leave in one write.
//! (TLS servers do put the responses of one write into one record, which FalcoTCP has no way to do.)
//! `--shared-records` lets TLS requests share records as well; `--replay` shows what the FalcoTCP servers do beside a
//! client that neither seals nor opens. The clients of rows h to m have classic sessions.
//!
//! So throughput contains both halves, as it does for users. The server's half alone is in the column of the server's
//! processor time per request (user and system, as the operating system accounts for it), which is also the steadiest
//! figure on a noisy machine. The driver's processor time stands beside it.
//!
//! All servers echo through a handler that sees the whole message. The plain server is meant to be hard to beat:
//! buffered, Nagle's algorithm off, and large messages are sent from the buffer that they were read into. In rows a to g
//! all connections are opened before anything is measured, so no handshake is in the figures. In row n TLS sessions are
//! resumed with a ticket of the connection before (a full handshake fails the row), and closed without `close_notify`.
//! Ours and tokio run with their default number of threads; the published server asks for a number and gets that of
//! the cores. It also serves only some of its connections (the others starve: they are counted and named) and burns the
//! processors while idle, so it is started for each of its turns and killed after it.
//!
//! Linux only: it pins processes and reads `/proc`.

mod cli;
mod client;
mod contender;
mod drivers;
mod endpoint;
mod error;
mod hex;
mod kind;
mod machine;
mod measurements;
mod process;
mod readme;
mod report;
mod requests;
mod rounds;
mod rows;
mod servers;
mod services;
mod summary;
mod versions;
mod word;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};

use cli::{Arguments, Command};
use contender::Contender;
use error::Result;
use kind::Kind;
use machine::Processors;
use measurements::{Measurement, Measurements};
use readme::Findings;
use rounds::Schedule;
use rows::Row;
use word::word;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command {
        Some(Command::Serve { kind, options }) => servers::serve(kind, options),
        None => compare(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("falcotcp-peers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare(arguments: &Arguments) -> Result<()> {
    let started = Instant::now();
    if arguments.readme {
        readme::check()?;
    }
    let processors = Processors::detect()?;
    let (rows, measurements) = chosen(arguments);
    let idle_connections = check_open_files(&measurements, arguments.idle_connections)?;
    let contenders = contenders(arguments)?;
    let schedule =
        Schedule { rounds: arguments.rounds, measured: Duration::from_secs_f64(arguments.seconds) };
    let mut findings = Findings {
        machine: machine::description(&processors),
        rounds: arguments.rounds,
        seconds: arguments.seconds,
        rows: Vec::new(),
        measurements: Vec::new(),
    };

    println!("{}; {}", findings.machine, versions::peers());
    println!("{}", report::LEGEND);
    for row in rows {
        let result = rows::measure(row, &contenders, schedule, &processors)?;
        report::print_row(&result);
        findings.rows.push(result);
    }
    let plan = Measurements { contenders: &contenders, schedule, processors: &processors, idle_connections };
    for measurement in measurements {
        let result = plan.measure(measurement)?;
        report::print_measurement(&result);
        findings.measurements.push(result);
    }
    println!("\n{:.0} s in all", started.elapsed().as_secs_f64());
    if arguments.readme { readme::write(&findings) } else { Ok(()) }
}

/// Everything, unless something in particular is asked for.
fn chosen(arguments: &Arguments) -> (Vec<Row>, Vec<Measurement>) {
    match (&arguments.rows, &arguments.measurements) {
        (None, None) => (Row::value_variants().to_vec(), Measurement::value_variants().to_vec()),
        (rows, measurements) => (rows.clone().unwrap_or_default(), measurements.clone().unwrap_or_default()),
    }
}

fn contenders(arguments: &Arguments) -> Result<Vec<Contender>> {
    let ours = Contender { client: arguments.client, ..Contender::of_this_build(Kind::Ours)? };
    let listed =
        arguments.contenders.iter().map(|&kind| Contender { name: word(kind), kind, ..ours.clone() });
    let extra = arguments.extra.iter().map(|(name, program)| Contender {
        name: name.clone(),
        program: program.clone(),
        ..ours.clone()
    });
    Ok(listed.chain(extra).collect())
}

/// As many idle connections as this process and a server may hold.
fn check_open_files(measurements: &[Measurement], wanted: usize) -> Result<usize> {
    /// For all that is not an idle connection.
    const OTHERS: u64 = 256;
    let limit = machine::raise_open_files()?;
    let possible = usize::try_from(limit.saturating_sub(OTHERS))?.min(wanted);
    if possible < wanted && measurements.contains(&Measurement::Idle) {
        eprintln!("only {possible} idle connections: the limit of open files is {limit}");
    }
    Ok(possible)
}
