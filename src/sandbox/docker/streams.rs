//! The server's end of a runner's streams, between conversations: waiting for its first word, seeing whether it is still
//! there, and making it ready for the next execution.

use std::time::Duration;

use bollard::container::LogOutput;
use futures::{FutureExt as _, StreamExt as _};
use tokio::io::AsyncWriteExt as _;
use tracing::warn;

use crate::runner::frame::{Decoder, FrameError, Kind, encode};
use crate::sandbox::SandboxError;
use crate::sandbox::docker::container::{Input, Output};

/// Bytes of the runner's own standard error that go to the log.
const DIAGNOSTICS: usize = 2_048;

/// Inbox to and from the runner of one container, from its start to its removal.
pub(super) struct Streams {
    pub(super) input: Input,
    pub(super) output: Output,
    pub(super) inbox: Inbox,
}

/// What came and was not looked at yet.
#[derive(Default)]
pub(super) struct Inbox {
    pub(super) decoder: Decoder,
    diagnosed: usize,
}

impl Inbox {
    /// Takes what came: frames, or the runner's own words, which are for the log.
    pub(super) fn take(&mut self, chunk: LogOutput) {
        match chunk {
            LogOutput::StdErr { message } => self.diagnose(&message),
            LogOutput::StdOut { message } | LogOutput::Console { message } | LogOutput::StdIn { message } => {
                self.decoder.push(&message);
            }
        }
    }

    fn diagnose(&mut self, message: &[u8]) {
        if self.diagnosed < DIAGNOSTICS {
            self.diagnosed += message.len();
            let text = String::from_utf8_lossy(&message[..message.len().min(DIAGNOSTICS)]).into_owned();
            warn!(runner = %text.escape_debug(), "the runner complains");
        }
    }
}

impl Streams {
    pub(super) fn new((input, output): (Input, Output)) -> Self {
        Self { input, output, inbox: Inbox::default() }
    }

    /// Waits until the runner says that it is ready for an execution.
    pub(super) async fn hello(&mut self, patience: Duration) -> Result<(), SandboxError> {
        tokio::time::timeout(patience, self.next_hello())
            .await
            .unwrap_or_else(|_| Err(SandboxError::Lost("the runner did not start in time".into())))
    }

    async fn next_hello(&mut self) -> Result<(), SandboxError> {
        loop {
            match self.inbox.decoder.next_frame().map_err(nonsense)? {
                Some(frame) if frame.kind == Kind::Hello => return Ok(()),
                Some(frame) => {
                    return Err(SandboxError::Lost(format!("a {:?} frame instead of a hello", frame.kind)));
                }
                None => {}
            }
            match self.output.next().await {
                Some(Ok(chunk)) => self.inbox.take(chunk),
                Some(Err(error)) => return Err(SandboxError::Lost(error.to_string())),
                None => return Err(SandboxError::Lost("its stream ended before its first word".into())),
            }
        }
    }

    /// Whether it waits still: nothing has come since its hello, not even the end.
    pub(super) fn is_waiting(&mut self) -> bool {
        self.output.next().now_or_never().is_none()
    }

    /// Tells a runner that serves several executions that nothing more comes for the last one, and waits until it has
    /// taken everything of it away.
    pub(super) async fn settle(&mut self, patience: Duration) -> Result<(), SandboxError> {
        let mut settle = Vec::new();
        encode(Kind::Settle, &[], &mut settle);
        self.input.write_all(&settle).await?;
        self.input.flush().await?;
        self.hello(patience).await
    }
}

pub(super) fn nonsense(error: FrameError) -> SandboxError {
    SandboxError::Lost(error.to_string())
}
