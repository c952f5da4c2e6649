//! The files of `/proc` that tell the machine's size, `cpuinfo`, `meminfo` and `stat`: in a room they tell the limits of
//! its execution instead, as the figures of the host are no concern of a program, and mislead one that takes its size
//! from them.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;

use nix::mount::mount;

use crate::runner::TMP;
use crate::runner::room::{DATA, cover, step};

const NAMES: [&str; 3] = ["cpuinfo", "meminfo", "stat"];
/// Room for the three files: the entry of a processor in `cpuinfo` has some 1.5 KiB.
const OPTIONS: &str = "size=4m,nr_inodes=8,mode=0700";

/// The host's own files, as far as something of them is told on.
pub(super) struct HostFiles {
    /// The entry of one processor, without its number.
    processor: String,
    /// When the machine was started, in seconds since 1970: programs add a process's start to it.
    started: u64,
}

impl HostFiles {
    pub(super) fn read() -> io::Result<Self> {
        let read = |name| std::fs::read_to_string(format!("/proc/{name}"));
        Ok(Self { processor: one_processor(&read("cpuinfo")?), started: started(&read("stat")?) })
    }
}

/// Empty files over those of the machine, to be filled when the execution is known.
pub(super) struct Covers([File; 3]);

impl Covers {
    /// Mounts the covers, with files that lie in a file system which the room's own /tmp hides afterwards.
    pub(super) fn mount() -> io::Result<Self> {
        step("limits", mount(Some("tmpfs"), TMP, Some("tmpfs"), DATA, Some(OPTIONS)))?;
        let [cpuinfo, meminfo, stat] = NAMES.map(|name| {
            let (path, covered) = (format!("{TMP}/{name}"), format!("/proc/{name}"));
            let file = OpenOptions::new().write(true).create_new(true).mode(0o444).open(&path)?;
            step(&covered, cover(&path, &covered)).map(|()| file)
        });
        Ok(Self([cpuinfo?, meminfo?, stat?]))
    }

    pub(super) fn fill(&self, host: &HostFiles, memory_bytes: u64, cpu_millis: u64) -> io::Result<()> {
        let processors = cpu_millis.div_ceil(1000);
        let [mut cpuinfo, mut meminfo, mut stat] = self.0.each_ref();
        cpuinfo.write_all(cpuinfo_text(&host.processor, processors).as_bytes())?;
        meminfo.write_all(meminfo_text(memory_bytes).as_bytes())?;
        stat.write_all(stat_text(host.started, processors).as_bytes())
    }
}

/// The first entry of `cpuinfo`, without the line that numbers it.
fn one_processor(cpuinfo: &str) -> String {
    let entry = cpuinfo.split("\n\n").next().unwrap_or_default();
    let lines = entry.lines().filter(|line| !line.starts_with("processor"));
    lines.fold(String::new(), |text, line| text + line + "\n")
}

fn started(stat: &str) -> u64 {
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "));
    line.and_then(|seconds| seconds.trim().parse().ok()).unwrap_or_default()
}

fn cpuinfo_text(processor: &str, processors: u64) -> String {
    let mut text = String::new();
    for number in 0..processors {
        // Writing to a string does not fail.
        let _ = writeln!(text, "processor\t: {number}\n{processor}");
    }
    text
}

/// What is free is what the program may take: nothing of it is taken before its start, and nobody counts on.
fn meminfo_text(memory_bytes: u64) -> String {
    let kib = memory_bytes / 1024;
    let rows = [("MemTotal", kib), ("MemFree", kib), ("MemAvailable", kib)].into_iter();
    let zeros = ["Buffers", "Cached", "SwapCached", "Active", "Inactive", "SwapTotal", "SwapFree", "Shmem"];
    rows.chain(zeros.map(|name| (name, 0))).fold(String::new(), |mut text, (name, kib)| {
        let _ = writeln!(text, "{:<15} {kib:>8} kB", format!("{name}:"));
        text
    })
}

/// Ten columns of ticks for all processors, and for each: how busy the host is, is not told.
fn stat_text(started: u64, processors: u64) -> String {
    const TICKS: &str = "0 0 0 0 0 0 0 0 0 0";
    let mut text = format!("cpu  {TICKS}\n");
    for number in 0..processors {
        let _ = writeln!(text, "cpu{number} {TICKS}");
    }
    let _ = writeln!(text, "intr 0\nctxt 0\nbtime {started}\nprocesses 0\nprocs_running 1\nprocs_blocked 0");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_tell_the_limits_in_the_kernels_form() {
        let host = "processor\t: 0\nmodel name\t: A\ncpu MHz\t\t: 1\n\nprocessor\t: 1\nmodel name\t: B\n\n";
        let one = one_processor(host);
        assert_eq!(one, "model name\t: A\ncpu MHz\t\t: 1\n");
        assert_eq!(
            cpuinfo_text(&one, 2),
            "processor\t: 0\nmodel name\t: A\ncpu MHz\t\t: 1\n\nprocessor\t: 1\nmodel name\t: A\ncpu MHz\t\t: 1\n\n"
        );
        let meminfo = meminfo_text(64 << 20);
        assert!(
            meminfo.starts_with("MemTotal:          65536 kB\nMemFree:           65536 kB\n"),
            "{meminfo}"
        );
        assert_eq!(started("cpu 1\nbtime 17\n"), 17);
        assert!(stat_text(17, 1).starts_with("cpu  0 0 0 0 0 0 0 0 0 0\ncpu0 0"), "{}", stat_text(17, 1));
    }
}
