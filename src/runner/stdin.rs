//! Standard input on its way to the program. The server sends only what was granted, so that frames behind it, such
//! as a kill, always get through, and a program that never reads costs one window.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use crate::runner::frame::Kind;
use crate::runner::link::{Link, LinkError};
use crate::runner::sys;

/// Bytes that may be under way or waiting: four pipes' worth.
const WINDOW: u32 = 256 << 10;
/// Granted again in pieces of at least this, so that grants cost little.
const GRANT: u32 = 32 << 10;

/// The program's standard input.
pub(super) struct Stdin {
    /// Closed when the program closed its end, or all is written.
    pipe: Option<File>,
    waiting: VecDeque<u8>,
    ended: bool,
    /// Taken by the program and not granted again yet.
    taken: u32,
}

impl Stdin {
    /// Of a program that gets some.
    pub(super) fn new(pipe: OwnedFd) -> io::Result<Self> {
        sys::set_nonblocking(pipe.as_fd())?;
        Ok(Self { pipe: Some(File::from(pipe)), ended: false, ..Self::none() })
    }

    /// Of a program that gets none: the writing end is closed.
    pub(super) fn none() -> Self {
        Self { pipe: None, waiting: VecDeque::new(), ended: true, taken: 0 }
    }

    /// The first grant.
    pub(super) fn grant(&mut self, link: &mut Link) -> Result<(), LinkError> {
        if self.ended {
            return Ok(());
        }
        link.queue(Kind::Credit, &WINDOW.to_le_bytes())
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.waiting.extend(bytes);
    }

    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    /// The pipe, while there is something to write into it.
    pub(super) fn waiting(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().filter(|_| !self.waiting.is_empty()).map(|pipe| pipe.as_fd())
    }

    /// Writes what the program takes now, and grants as much again.
    pub(super) fn feed(&mut self, link: &mut Link) -> Result<(), LinkError> {
        while let (Some(pipe), (next, _)) = (&mut self.pipe, self.waiting.as_slices())
            && !next.is_empty()
        {
            match pipe.write(next) {
                Ok(count) => self.take(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // The program closed its end: nobody will read the rest.
                Err(_) => self.pipe = None,
            }
        }
        if self.pipe.is_none() {
            self.take(self.waiting.len());
        }
        if self.ended && self.waiting.is_empty() {
            self.pipe = None;
        }
        if self.taken >= GRANT || (self.taken > 0 && self.waiting.is_empty()) {
            let grant = std::mem::take(&mut self.taken);
            link.queue(Kind::Credit, &grant.to_le_bytes())?;
        }
        Ok(())
    }

    fn take(&mut self, count: usize) {
        self.waiting.drain(..count);
        self.taken = self.taken.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
    }
}
