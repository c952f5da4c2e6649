//! Processor time, by the kernel's own count: of the whole machine, and of one process with its threads.

use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};

use crate::Result;
use crate::table::float;

/// The machine is quiet when it is busy for less than this part of a look.
const QUIET: f64 = 0.15;
/// One look.
const LOOK: Duration = Duration::from_millis(50);
/// Looks at most: a machine that others use is never quiet. A server whose warm containers are used up makes them again for
/// one or two seconds.
const LOOKS: usize = 80;

/// Seconds of processor time at a moment, or between two.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cpu {
    /// Of everything that ran: server, Engine, containers, callers, kernel.
    pub(crate) machine: f64,
    /// Of the server.
    pub(crate) server: f64,
    /// Of this program, the callers.
    pub(crate) callers: f64,
}

impl Cpu {
    pub(crate) fn now(server: Option<u32>) -> Result<Self> {
        Ok(Self {
            machine: machine()?,
            server: server.map_or(Ok(0.0), process)?,
            callers: process(std::process::id())?,
        })
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            machine: self.machine - before.machine,
            server: self.server - before.server,
            callers: self.callers - before.callers,
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.machine += other.machine;
        self.server += other.server;
        self.callers += other.callers;
    }
}

/// All processors since the boot.
fn machine() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let first = stat.lines().next().ok_or("no processors")?;
    let fields: Vec<u64> =
        first.split_whitespace().skip(1).map(str::parse).collect::<std::result::Result<_, _>>()?;
    // user, nice, system, not idle, not iowait, irq, softirq; guests are among the first.
    let busy = [0, 1, 2, 5, 6].iter().filter_map(|at| fields.get(*at)).sum();
    seconds(busy)
}

/// A process and all its threads, without what it has started.
pub(crate) fn process(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name may hold anything, and ends with the last parenthesis.
    let (_, fields) = stat.rsplit_once(')').ok_or("a process without a name")?;
    let fields: Vec<_> = fields.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|ticks| ticks.parse::<u64>().ok()).unwrap_or(0);
    seconds(ticks(11) + ticks(12))
}

fn seconds(ticks: u64) -> Result<f64> {
    let per_second = sysconf(SysconfVar::CLK_TCK)?.ok_or("a clock without ticks")?;
    Ok(float(ticks) / float(u64::try_from(per_second)?))
}

/// Waits until what the last operations left is done, so that the next ones don't pay for it.
pub(crate) fn settle() -> Result<()> {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    for _ in 0..LOOKS {
        let before = machine()?;
        std::thread::sleep(LOOK);
        let busy = (machine()? - before) / LOOK.as_secs_f64() / float(processors as u64);
        if busy < QUIET {
            break;
        }
    }
    Ok(())
}
