//! What is asked of the operating system: which processors, how many files, whose time.

use std::fs;
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

use crate::error::Result;

/// The processors that the benchmark uses: the first two that this process was given.
pub(crate) struct Processors(Vec<usize>);

impl Processors {
    pub(crate) fn detect() -> Result<Processors> {
        let allowed = sched_getaffinity(Pid::from_raw(0))?;
        let mut found = Vec::new();
        for processor in 0..CpuSet::count() {
            if allowed.is_set(processor)? && found.len() < 2 {
                found.push(processor);
            }
        }
        Ok(Processors(found))
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Pins this thread, and with it every server process that it starts from now on, to the first `count`.
    pub(crate) fn pin(&self, count: usize) -> Result<()> {
        let mut set = CpuSet::new();
        for &processor in self.0.iter().take(count) {
            set.set(processor)?;
        }
        Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
    }
}

/// The processor time, user and system, that a process with all its threads has used.
#[derive(Clone, Copy)]
pub(crate) struct ProcessorClock(ClockId);

impl ProcessorClock {
    pub(crate) fn of_process(id: u32) -> Result<ProcessorClock> {
        Ok(ProcessorClock(clock_getcpuclockid(Pid::from_raw(i32::try_from(id)?))?))
    }

    pub(crate) fn of_this_process() -> ProcessorClock {
        ProcessorClock(ClockId::CLOCK_PROCESS_CPUTIME_ID)
    }

    pub(crate) fn now(self) -> Result<Duration> {
        Ok(clock_gettime(self.0)?.into())
    }
}

/// The time that the processors which this process is pinned to have been busy, whoever with.
pub(crate) fn busy_time() -> Result<Duration> {
    let pinned = sched_getaffinity(Pid::from_raw(0))?;
    let mut ticks = 0;
    for line in fs::read_to_string("/proc/stat")?.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(Ok(processor)) = words.next().and_then(|word| word.strip_prefix("cpu")).map(str::parse)
        else {
            continue;
        };
        if pinned.is_set(processor)? {
            let columns: Vec<u64> = words.map(str::parse).collect::<std::result::Result<_, _>>()?;
            // user, nice, system; idle and iowait are left out; interrupts, soft interrupts, stolen time.
            ticks += columns.iter().take(8).sum::<u64>() - columns.iter().skip(3).take(2).sum::<u64>();
        }
    }
    Ok(Duration::from_millis(ticks * MILLIS_A_TICK))
}

/// Linux counts in hundredths of a second wherever it tells programs about it.
const MILLIS_A_TICK: u64 = 10;

/// Raises the limit of open files as far as it goes, and says how far that is.
pub(crate) fn raise_open_files() -> Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}

/// A server must not outlive the benchmark, however that ends.
pub(crate) fn die_with_parent() -> Result<()> {
    Ok(prctl::set_pdeathsig(Signal::SIGKILL)?)
}

/// Bytes of memory that a process has resident.
pub(crate) fn resident_memory(id: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|rest| rest.trim().strip_suffix(" kB")).ok_or("no VmRSS in /proc")?;
    Ok(kibibytes.trim().parse::<u64>()? * 1024)
}

/// Threads that a process has.
pub(crate) fn threads(id: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{id}/task"))?.count())
}

/// File descriptors that a process has open.
pub(crate) fn descriptors(id: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{id}/fd"))?.count())
}

/// One line that names the machine.
pub(crate) fn description(processors: &Processors) -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let model = read("/proc/cpuinfo")
        .lines()
        .find_map(|line| {
            line.strip_prefix("model name")?.split_once(':').map(|(_, name)| name.trim().to_owned())
        })
        .unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{model}, {} cores used, Linux {}", processors.count(), kernel.trim())
}
