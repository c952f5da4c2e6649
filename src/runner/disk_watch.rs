//! Holds the limits of a workspace whose file system does not: looks at its use again and again while a phase runs, and
//! once more when it is over. [`crate::runner::disk_limit`] adds what is in /tmp.

use std::io;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use nix::sys::statvfs::{Statvfs, fstatvfs};

use crate::runner::disk_use::{Use, Walk};
use crate::runner::message::WatchSpec;
use crate::runner::workspace::Workspace;

/// From one look to the next, where looking takes no time.
const PAUSE: Duration = Duration::from_millis(100);
/// What a look may take in one go; the program's output and a kill wait for it.
const SLICE: Duration = Duration::from_millis(2);
/// After each slice, so many times as long nothing is looked at: a tenth of a processor goes into it.
const REST: u32 = 10;
/// The same while the file system as a whole fills so fast that the limit may have been passed.
const URGENT_REST: u32 = 1;
/// A workspace that lacks less than this is full.
const LITTLE: u64 = 4_096;

/// The watch over one phase.
pub(super) struct DiskWatch<'a> {
    workspace: &'a Workspace,
    spec: WatchSpec,
    walk: Option<Walk>,
    walk_began: Instant,
    due: Instant,
    /// What the last look found, and how full the whole file system was then.
    last: (Use, Taken),
}

/// What is taken of the whole file system.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taken {
    bytes: u64,
    entries: u64,
}

impl Taken {
    /// Files and folders.
    pub(super) fn entries(self) -> u64 {
        self.entries
    }

    pub(super) fn bytes(self) -> u64 {
        self.bytes
    }
}

impl From<&Statvfs> for Taken {
    fn from(disk: &Statvfs) -> Self {
        let blocks = disk.blocks().saturating_sub(disk.blocks_free());
        Self {
            bytes: blocks.saturating_mul(disk.fragment_size()),
            entries: disk.files().saturating_sub(disk.files_free()),
        }
    }
}

/// How a workspace is after a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fill {
    /// There is room.
    Room,
    /// No byte or no file more can be put into it.
    Full,
    /// There is more in it than its limits allow.
    Over,
}

impl<'a> DiskWatch<'a> {
    pub(super) fn new(workspace: &'a Workspace, spec: WatchSpec) -> Self {
        let now = Instant::now();
        let last = (Use::default(), workspace.taken_at_first);
        Self { workspace, spec, walk: None, walk_began: now, due: now, last }
    }

    /// Until the next look.
    pub(super) fn pause(&self) -> Duration {
        self.due.saturating_duration_since(Instant::now())
    }

    /// Looks on when it is time. True when the program has to be stopped.
    ///
    /// # Errors
    /// The disk as a whole is nearly full.
    pub(super) fn look(&mut self) -> io::Result<bool> {
        let began = Instant::now();
        if began < self.due {
            return Ok(false);
        }
        let spec = self.spec;
        let disk = fstatvfs(self.workspace)?;
        let (free, taken) = (free(&disk), Taken::from(&disk));
        if free < spec.reserve {
            let message = format!("the disk of the workspace has {} MiB left, under the reserve", free >> 20);
            return Err(io::Error::other(message));
        }
        let urgent = self.may_be_over(&taken, &spec);
        if self.walk.is_none() {
            self.walk = Some(Walk::new(self.workspace.as_fd(), spec.entries)?);
            self.walk_began = began;
        }
        let found = self.walk.as_mut().and_then(|walk| walk.step(began + SLICE));
        let rest = began.elapsed() * if urgent { URGENT_REST } else { REST };
        self.due = Instant::now() + rest;
        let Some(found) = found else { return Ok(false) };
        (self.walk, self.last) = (None, (found, taken));
        self.due = self.due.max(self.walk_began + PAUSE);
        // What was moved, or written and removed, during a slow look may have been counted twice.
        let is_over = |found: &Use| over(found, &spec) || self.hides(found, &taken, &spec);
        Ok(is_over(&found) && is_over(&Walk::new(self.workspace.as_fd(), spec.entries)?.finish()))
    }

    /// If all that came to the file system since the last look is ours.
    fn may_be_over(&self, taken: &Taken, spec: &WatchSpec) -> bool {
        let (found, before) = &self.last;
        found.bytes.saturating_add(taken.bytes.saturating_sub(before.bytes)) > spec.bytes
            || found.entries.saturating_add(taken.entries.saturating_sub(before.entries)) > spec.entries
    }

    /// What can't be looked at is held against the file system as a whole: others fill it, too, but few programs hide.
    fn hides(&self, found: &Use, taken: &Taken, spec: &WatchSpec) -> bool {
        let grown = taken.bytes.saturating_sub(self.workspace.taken_at_first.bytes);
        found.hidden && grown > spec.bytes.saturating_add(found.bytes)
    }

    /// What the last look found.
    pub(super) fn found(&self) -> Use {
        self.last.0
    }

    /// Counts all of it at once.
    pub(super) fn count_again(&mut self) -> io::Result<()> {
        self.last.0 = Walk::new(self.workspace.as_fd(), self.spec.entries)?.finish();
        Ok(())
    }

    /// When no process is left.
    ///
    /// # Errors
    /// The disk as a whole is full.
    pub(super) fn fill(&mut self) -> io::Result<Fill> {
        let disk = fstatvfs(self.workspace)?;
        let full = disk.blocks_available() == 0 || disk.files_available() == 0;
        let spec = self.spec;
        if full {
            return Err(io::Error::other("the disk of the workspace is full"));
        }
        let found = Walk::at_rest(self.workspace.as_fd(), spec.entries)?.finish();
        self.last.0 = found;
        if over(&found, &spec) {
            return Ok(Fill::Over);
        }
        let full = found.bytes.saturating_add(LITTLE) > spec.bytes || found.entries >= spec.entries;
        Ok(if full { Fill::Full } else { Fill::Room })
    }
}

fn over(found: &Use, spec: &WatchSpec) -> bool {
    found.bytes > spec.bytes || found.entries > spec.entries
}

/// Bytes of the whole file system that are there for us.
fn free(disk: &Statvfs) -> u64 {
    disk.blocks_available().saturating_mul(disk.fragment_size())
}
