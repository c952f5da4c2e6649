//! The runner's end of the connection: frames in on descriptor 0, frames out on descriptor 1.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};

use nix::fcntl::{FcntlArg, fcntl};

use crate::runner::frame::{DATA_CHUNK, Decoder, Frame, FrameError, Kind, encode, encode_message};

/// Room in the pipe to us: each time it is full or empty, somebody has to be woken.
const PIPE: i32 = 256 << 10;
/// What is read at a time: some frames of content.
const CHUNK: usize = 4 * DATA_CHUNK;

/// What is queued at most before it is sent: a frame of content goes at once.
const QUEUE: usize = DATA_CHUNK;

/// The connection to the server.
#[derive(Debug)]
pub(super) struct Link {
    input: File,
    output: File,
    decoder: Decoder,
    /// What was read last; kept for its room.
    chunk: Vec<u8>,
    /// Frames that are written next, in one call: each write wakes three processes until it is read.
    queue: Vec<u8>,
}

/// The server is gone, or spoke nonsense: there is nobody left to work for.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("the server is gone")]
    Gone,
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("a {0:?} frame came out of turn")]
    OutOfTurn(Kind),
    #[error("a message can't be read: {0}")]
    Message(#[from] serde_json::Error),
}

impl Link {
    /// Takes descriptors of its own, past the buffers that the standard library keeps before 0 and 1.
    pub(super) fn new() -> io::Result<Self> {
        let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        // Where the kernel does not give so much, it is only slower.
        let _ = fcntl(&input, FcntlArg::F_SETPIPE_SZ(PIPE));
        Ok(Self {
            input,
            output: File::from(io::stdout().as_fd().try_clone_to_owned()?),
            decoder: Decoder::default(),
            chunk: vec![0; CHUNK],
            queue: Vec::new(),
        })
    }

    /// Waits for bytes and takes them. What is queued goes first.
    pub(super) fn fill(&mut self) -> Result<(), LinkError> {
        self.flush()?;
        let count = self.input.read(&mut self.chunk)?;
        if count == 0 {
            return Err(LinkError::Gone);
        }
        self.decoder.push(&self.chunk[..count]);
        Ok(())
    }

    /// A frame that is there already.
    pub(super) fn next_frame(&mut self) -> Result<Option<Frame<'_>>, LinkError> {
        Ok(self.decoder.next_frame()?)
    }

    /// Waits for a frame and hands it to `take`.
    pub(super) fn receive<T>(
        &mut self,
        take: impl FnOnce(Frame<'_>) -> Result<T, LinkError>,
    ) -> Result<T, LinkError> {
        while !self.decoder.has_frame()? {
            self.fill()?;
        }
        self.decoder.next_frame()?.map_or(Err(LinkError::Gone), take)
    }

    /// Sends one frame, behind those that are queued.
    pub(super) fn send(&mut self, kind: Kind, payload: &[u8]) -> Result<(), LinkError> {
        encode(kind, payload, &mut self.queue);
        self.flush()
    }

    /// Sends one frame with the next, or before the next wait.
    pub(super) fn queue(&mut self, kind: Kind, payload: &[u8]) -> Result<(), LinkError> {
        encode(kind, payload, &mut self.queue);
        if self.queue.len() < QUEUE { Ok(()) } else { self.flush() }
    }

    /// The same for a message.
    pub(super) fn queue_message<M: serde::Serialize>(
        &mut self,
        kind: Kind,
        message: &M,
    ) -> Result<(), LinkError> {
        encode_message(kind, message, &mut self.queue)?;
        if self.queue.len() < QUEUE { Ok(()) } else { self.flush() }
    }

    /// Sends what is queued. Whoever waits for anything else than [`Link::fill`] calls it first.
    pub(super) fn flush(&mut self) -> Result<(), LinkError> {
        if !self.queue.is_empty() {
            self.output.write_all(&self.queue)?;
            self.queue.clear();
        }
        Ok(())
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.input.as_fd()
    }
}
