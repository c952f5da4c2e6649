//! What a container looks like in which no execution has left anything.

use std::io;
use std::time::{Duration, Instant};

use nix::poll::poll;

use crate::runner::usage;

/// What may be held more than at the start: the kernel's own counters lag by some pages for each processor, and a
/// process that is being made shares ours.
const MEMORY_SLACK: u64 = 4 << 20;
/// The kernel takes file systems away after the process that was last in them.
const PATIENCE: Duration = Duration::from_secs(1);
const LOOK_AGAIN_MS: u8 = 1;

/// Taken before the first execution.
#[derive(Debug)]
pub(super) struct Emptiness {
    mounts: String,
    /// Bytes of processes and of file systems in memory, where the kernel tells.
    memory: Option<u64>,
}

impl Emptiness {
    pub(super) fn now() -> io::Result<Self> {
        Ok(Self { mounts: mounts()?, memory: usage::memory_held() })
    }

    /// Waits until it is so again.
    ///
    /// # Errors
    /// Something is left: what.
    pub(super) fn again(&self) -> io::Result<()> {
        let began = Instant::now();
        loop {
            match self.left()? {
                None => return Ok(()),
                Some(left) if began.elapsed() > PATIENCE => {
                    return Err(io::Error::other(format!("something is left of an execution: {left}")));
                }
                Some(_) => drop(poll(&mut [], LOOK_AGAIN_MS)),
            }
        }
    }

    fn left(&self) -> io::Result<Option<String>> {
        if let Some(process) = another_process()? {
            return Ok(Some(format!("process {process}")));
        }
        if mounts()? != self.mounts {
            return Ok(Some("a mount".to_owned()));
        }
        let more =
            usage::memory_held().zip(self.memory).map_or(0, |(now, before)| now.saturating_sub(before));
        Ok((more > MEMORY_SLACK).then(|| format!("{more} bytes of memory")))
    }
}

fn mounts() -> io::Result<String> {
    std::fs::read_to_string("/proc/self/mountinfo")
}

/// One that is not this one, which is the container's first.
fn another_process() -> io::Result<Option<String>> {
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != "1" && name.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}
