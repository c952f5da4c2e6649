//! The limit on all files of an execution: the workspace and /tmp add up. Each may grow as large as the limit by itself,
//! so that a program can choose where it puts its files; the runner looks at both again and again while a phase runs.

use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use nix::sys::statvfs::{Statvfs, fstatvfs, statvfs};

use crate::runner::disk_use::Use;
use crate::runner::disk_watch::{DiskWatch, Fill, Taken};
use crate::runner::message::{DiskSpec, WatchSpec};
use crate::runner::workspace::Workspace;
use crate::runner::{TMP, WORKSPACE};

/// From one look to the next where much room is left. A look is two system calls, some five microseconds.
const PAUSE: Duration = Duration::from_millis(100);
/// The same where the limit is near: under half a percent of a processor.
const LEAST_PAUSE: Duration = Duration::from_millis(2);
/// Bytes that a program can write into memory in a millisecond, at most: a few gigabytes in a second.
const BYTES_PER_MS: u64 = 4 << 20;
/// Files that a program can make in a millisecond, at most.
const ENTRIES_PER_MS: u64 = 512;
/// This part of the limit may be passed, up to the constants below: a program that fills one folder to its end, where it
/// is refused more and can go on, is not stopped for the few files of its project in the other.
const TOLERANCE: u64 = 16;
const MOST_TOLERATED_BYTES: u64 = 4 << 20;
const MOST_TOLERATED_ENTRIES: u64 = 256;

/// What a phase is told of the limit when it is over.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// There is more than the limit allows.
    pub(super) over: bool,
    /// The folder that is full or, beyond the limit, has most in it.
    pub(super) folder: Option<String>,
}

/// The watch over one phase.
pub(super) struct DiskLimit<'a> {
    limit: DiskSpec,
    workspace: &'a Workspace,
    tmp: &'a File,
    /// Where the workspace has no file system of its own.
    on_disk: Option<DiskWatch<'a>>,
    due: Instant,
    pause: Duration,
    /// Of both folders, at the last look.
    last: Use,
    /// The folder that had no room left at some look. A program may have cleaned up before it failed.
    was_full: Option<&'static str>,
    /// The folder with most in it, once both were over the limit.
    culprit: Option<&'static str>,
}

impl<'a> DiskLimit<'a> {
    pub(super) fn new(
        workspace: &'a Workspace,
        tmp: &'a File,
        limit: DiskSpec,
        watch: Option<WatchSpec>,
    ) -> Self {
        Self {
            limit,
            workspace,
            tmp,
            on_disk: watch.map(|spec| DiskWatch::new(workspace, spec)),
            due: Instant::now(),
            pause: LEAST_PAUSE,
            last: Use::default(),
            was_full: None,
            culprit: None,
        }
    }

    /// Until the next look.
    pub(super) fn pause(&self) -> Duration {
        let pause = self.due.saturating_duration_since(Instant::now());
        self.on_disk.as_ref().map_or(pause, |watch| watch.pause().min(pause))
    }

    /// Looks when it is time. True when the program has to be stopped.
    ///
    /// # Errors
    /// The Engine's disk as a whole is nearly full.
    pub(super) fn look(&mut self) -> io::Result<bool> {
        if let Some(watch) = &mut self.on_disk
            && watch.look()?
        {
            self.culprit = Some(WORKSPACE);
            return Ok(true);
        }
        let now = Instant::now();
        if now < self.due {
            return Ok(false);
        }
        let mut over = self.measure()?;
        if over && let Some(watch) = &mut self.on_disk {
            // What was moved during a slow look may have been counted twice.
            watch.count_again()?;
            over = self.measure()?;
        }
        self.due = now + self.pause;
        Ok(over)
    }

    /// Whether both folders together are over the limit.
    fn measure(&mut self) -> io::Result<bool> {
        let tmp = fstatvfs(self.tmp)?;
        let work = match &self.on_disk {
            Some(watch) => watch.found(),
            None => {
                let work = fstatvfs(self.workspace)?;
                if is_full(&work) {
                    self.was_full = Some(WORKSPACE);
                }
                used(&work)
            }
        };
        if is_full(&tmp) {
            self.was_full = Some(TMP);
        }
        let tmp = used(&tmp);
        let sum = Use {
            bytes: work.bytes.saturating_add(tmp.bytes),
            entries: work.entries.saturating_add(tmp.entries),
            hidden: false,
        };
        self.pause = next_pause(&sum, &self.last, self.limit, self.pause);
        self.last = sum;
        let by_bytes = sum.bytes > self.limit.bytes.saturating_add(tolerated(self.limit).bytes);
        let by_entries = sum.entries > self.limit.inodes.saturating_add(tolerated(self.limit).inodes);
        if by_bytes || by_entries {
            let tmp_is_larger = if by_bytes { tmp.bytes > work.bytes } else { tmp.entries > work.entries };
            self.culprit = Some(if tmp_is_larger { TMP } else { WORKSPACE });
        }
        Ok(by_bytes || by_entries)
    }

    /// What the last look found in a workspace on disk, in bytes.
    pub(super) fn used(&self) -> u64 {
        self.on_disk.as_ref().map_or(0, |watch| watch.found().bytes)
    }

    /// Of a phase that was stopped here.
    pub(super) fn culprit(&self) -> Verdict {
        Verdict { over: true, folder: self.culprit.map(str::to_owned) }
    }

    /// When no process is left.
    ///
    /// # Errors
    /// The Engine's disk as a whole is full.
    pub(super) fn verdict(&mut self) -> io::Result<Verdict> {
        let on_disk = self.on_disk.as_mut().map_or(Ok(Fill::Room), DiskWatch::fill)?;
        if on_disk == Fill::Over {
            self.culprit = Some(WORKSPACE);
            return Ok(self.culprit());
        }
        if self.measure()? {
            return Ok(self.culprit());
        }
        if on_disk == Fill::Full {
            self.was_full = Some(WORKSPACE);
        }
        let folder = self.was_full.map(str::to_owned).or_else(full_mount);
        Ok(Verdict { over: false, folder })
    }
}

/// How much more than the limit is not told.
fn tolerated(limit: DiskSpec) -> DiskSpec {
    DiskSpec {
        bytes: (limit.bytes / TOLERANCE).min(MOST_TOLERATED_BYTES),
        inodes: (limit.inodes / TOLERANCE).min(MOST_TOLERATED_ENTRIES),
    }
}

/// Until both can be full at the earliest; ever longer while nothing changes.
fn next_pause(now: &Use, before: &Use, limit: DiskSpec, pause: Duration) -> Duration {
    if now == before {
        return (pause * 2).min(PAUSE);
    }
    let millis = (limit.bytes.saturating_sub(now.bytes) / BYTES_PER_MS)
        .min(limit.inodes.saturating_sub(now.entries) / ENTRIES_PER_MS);
    Duration::from_millis(millis).clamp(LEAST_PAUSE, PAUSE)
}

/// Of a file system of its own, whose first folder does not count.
fn used(disk: &Statvfs) -> Use {
    let taken = Taken::from(disk);
    Use { bytes: taken.bytes(), entries: taken.entries().saturating_sub(1), hidden: false }
}

fn is_full(disk: &Statvfs) -> bool {
    disk.blocks() > 0 && (disk.blocks_available() == 0 || disk.files_available() == 0)
}

/// Another folder in memory that programs write to and that is full: /dev/shm, or one of the language's own.
fn full_mount() -> Option<String> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let full = |path: &&str| statvfs(*path).is_ok_and(|disk| is_full(&disk));
    mounts.lines().filter_map(writable_tmpfs).find(full).map(str::to_owned)
}

/// The mount point of a line of mountinfo, if it is a file system in memory that can be written.
fn writable_tmpfs(line: &str) -> Option<&str> {
    let (mount, kind) = line.split_once(" - ")?;
    let mut fields = mount.split(' ').skip(4);
    let (path, options) = (fields.next()?, fields.next()?);
    let writable = options.split(',').any(|option| option == "rw");
    (kind.starts_with("tmpfs ") && writable && path != "/dev").then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: DiskSpec = DiskSpec { bytes: 256 << 20, inodes: 65_536 };

    fn of(bytes: u64, entries: u64) -> Use {
        Use { bytes, entries, hidden: false }
    }

    #[test]
    fn looks_come_more_often_near_the_limit_and_rarer_while_nothing_changes() {
        let pause = |now: Use| next_pause(&now, &of(1, 0), LIMIT, PAUSE);
        assert_eq!(pause(of(0, 0)), Duration::from_millis(64), "both could be full by then");
        assert_eq!(pause(of(0, 60_000)), Duration::from_millis(10));
        assert_eq!(pause(of(255 << 20, 0)), LEAST_PAUSE);
        assert_eq!(pause(of(300 << 20, 0)), LEAST_PAUSE);
        let idle = of(255 << 20, 0);
        assert_eq!(next_pause(&idle, &idle, LIMIT, LEAST_PAUSE), LEAST_PAUSE * 2);
        assert_eq!(next_pause(&idle, &idle, LIMIT, PAUSE), PAUSE);
    }

    #[test]
    fn a_small_limit_tolerates_little() {
        let bytes = |bytes| tolerated(DiskSpec { bytes, ..LIMIT }).bytes;
        assert_eq!((bytes(1 << 20), bytes(64 << 20), bytes(1 << 30)), (1 << 16, 4 << 20, 4 << 20));
    }

    #[test]
    fn only_mounts_in_memory_that_can_be_written_are_looked_at() {
        let line = |path: &str, options: &str, kind: &str| {
            format!("31 23 0:26 / {path} {options} - {kind} tmpfs rw,size=65536k")
        };
        assert_eq!(writable_tmpfs(&line("/dev/shm", "rw,nosuid", "tmpfs")), Some("/dev/shm"));
        for (path, options, kind) in
            [("/dev", "rw", "tmpfs"), ("/x", "ro,nosuid", "tmpfs"), ("/y", "rw", "overlay")]
        {
            assert_eq!(writable_tmpfs(&line(path, options, kind)), None, "{path}");
        }
        assert_eq!(writable_tmpfs("nonsense"), None);
    }
}
