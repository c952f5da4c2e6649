//! The conversation with the runner of one container: files and input in, output and artifacts out, until the end
//! frame, the deadline or a cancellation. What the runner sends is treated as hostile.

use std::sync::Arc;
use std::time::Duration;

use bollard::container::LogOutput;
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::execution::spec::Stdin;
use crate::runner::frame::{DATA_CHUNK, Decoder, Frame, Kind, encode, encode_message};
use crate::runner::message::{End, Phase, PhaseStart, Start};
use crate::sandbox::docker::container::{Input, Output};
use crate::sandbox::docker::incoming::Incoming;
use crate::sandbox::{Artifact, Events, Job, SandboxError};

/// From the container's start to the runner's first word and all files in, without the files' own time.
const STARTUP: Duration = Duration::from_secs(60);
/// Bytes per second at which files must at least go in.
const UPLOAD_RATE: u64 = 4 << 20;
/// What the runner may be late by before the container is killed over its head.
const LATE: Duration = Duration::from_millis(1_500);
/// Collecting artifacts and saying goodbye.
const COLLECT: Duration = Duration::from_secs(60);
/// What a kill leaves the runner for its report.
const KILL_GRACE: Duration = Duration::from_millis(150);
/// Bytes of the result channel that are kept.
const RESULT_CAP: usize = 256 << 10;
/// Notices that are kept, and the length of each.
const NOTICES: (usize, usize) = (32, 1_024);
/// Bytes of the runner's own standard error that go to the log.
const DIAGNOSTICS: usize = 2_048;

/// What a conversation gave.
#[derive(Debug)]
pub(super) struct Conversation {
    /// How it ended.
    pub(super) ending: Ending,
    pub(super) artifacts: Vec<Artifact>,
    pub(super) result: Vec<u8>,
    pub(super) notices: Vec<String>,
    /// When the first phase started.
    pub(super) first_phase: Option<Instant>,
    /// The phase that was reached last.
    pub(super) phase: Option<Phase>,
}

/// How a conversation ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// By the runner's end frame, with the right nonce.
    Report(Box<End>),
    /// Cancelled, and the runner did not report in time.
    Cancelled,
    /// The phase's time was over, and the runner did not report in time.
    TimedOut,
    /// The stream ended without an end frame.
    Lost(String),
}

/// Holds the conversation. The container still runs, perhaps, when this returns.
pub(super) async fn converse(
    (input, mut output): (Input, Output),
    start: &Start,
    job: &Job,
    events: &dyn Events,
    cancel: &CancellationToken,
) -> Result<Conversation, SandboxError> {
    let credit = Arc::new(Semaphore::new(0));
    let mut reader = Reader::new(start, job, events, Arc::clone(&credit));
    let mut writer = std::pin::pin!(write(input, start, job, &credit, cancel));
    let mut writing = true;
    let mut cancelled = std::pin::pin!(cancelled_for(cancel, KILL_GRACE));
    loop {
        tokio::select! {
            written = &mut writer, if writing => {
                writing = false;
                written?;
            }
            chunk = output.next() => {
                let taken = match chunk {
                    Some(Ok(chunk)) => reader.take(chunk).await?,
                    Some(Err(error)) => Some(Ending::Lost(error.to_string())),
                    None => Some(Ending::Lost("its stream ended".into())),
                };
                if let Some(ending) = taken {
                    return Ok(reader.finish(ending));
                }
            }
            () = tokio::time::sleep_until(reader.deadline) => return Ok(reader.late()),
            () = &mut cancelled => return Ok(reader.finish(Ending::Cancelled)),
        }
    }
}

/// Ends when the cancellation is this long ago.
async fn cancelled_for(cancel: &CancellationToken, grace: Duration) {
    cancel.cancelled().await;
    tokio::time::sleep(grace).await;
}

/// Sends the start, the project, and standard input as it is granted; a kill when it is asked for. A runner that is
/// gone shows on the reading side.
async fn write(
    mut input: Input,
    start: &Start,
    job: &Job,
    credit: &Semaphore,
    cancel: &CancellationToken,
) -> Result<(), SandboxError> {
    let mut head = Vec::new();
    encode_message(Kind::Start, start, &mut head)
        .map_err(|error| SandboxError::Lost(format!("the start message: {error}")))?;
    let mut project = tokio::fs::File::open(job.spec.project.spool()).await?;
    let work = async {
        input.write_all(&head).await?;
        copy(&mut project, &mut input).await?;
        let mut go = Vec::new();
        encode(Kind::Go, &[], &mut go);
        input.write_all(&go).await?;
        input.flush().await?;
        write_stdin(&mut input, &job.spec.stdin, credit).await
    };
    let work = async {
        // A broken pipe: the runner is gone, which the reader finds out with the reason.
        drop(work.await);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = work => {}
        () = cancel.cancelled() => {
            let mut kill = Vec::new();
            encode(Kind::Kill, &[], &mut kill);
            // May be cut into a frame that is half written; the container is then killed over its head.
            drop(input.write_all(&kill).await);
            drop(input.flush().await);
        }
    }
    // Open until the conversation is over: its end would stop the runner.
    std::future::pending::<()>().await;
    Ok(())
}

async fn copy(project: &mut tokio::fs::File, input: &mut Input) -> std::io::Result<()> {
    let mut buffer = vec![0; 4 * DATA_CHUNK];
    loop {
        let count = project.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        input.write_all(&buffer[..count]).await?;
    }
}

async fn write_stdin(input: &mut Input, stdin: &Stdin, credit: &Semaphore) -> std::io::Result<()> {
    // The first grant says that the program runs. Before that even the end of the input would go to the compiler.
    drop(credit.acquire().await);
    match stdin {
        Stdin::Bytes(bytes) => write_piece(input, bytes, credit).await?,
        Stdin::Live(receiver) => {
            let taken = receiver.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
            if let Some(mut receiver) = taken {
                while let Some(bytes) = receiver.recv().await {
                    write_piece(input, &bytes, credit).await?;
                }
            }
        }
    }
    let mut end = Vec::new();
    encode(Kind::StdinEnd, &[], &mut end);
    input.write_all(&end).await?;
    input.flush().await
}

/// Sends one piece of standard input, as far as it is granted.
async fn write_piece(input: &mut Input, bytes: &Bytes, credit: &Semaphore) -> std::io::Result<()> {
    for chunk in bytes.chunks(DATA_CHUNK / 2) {
        let wanted = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
        // The semaphore is never closed.
        if let Ok(permits) = credit.acquire_many(wanted).await {
            permits.forget();
        }
        let mut frame = Vec::new();
        encode(Kind::Stdin, chunk, &mut frame);
        input.write_all(&frame).await?;
        input.flush().await?;
    }
    Ok(())
}

/// The reading side.
struct Reader<'a> {
    start: &'a Start,
    events: &'a dyn Events,
    credit: Arc<Semaphore>,
    decoder: Decoder,
    incoming: Incoming,
    result: Vec<u8>,
    notices: Vec<String>,
    diagnostics: usize,
    first_phase: Option<Instant>,
    phase: Option<Phase>,
    deadline: Instant,
}

impl<'a> Reader<'a> {
    fn new(start: &'a Start, job: &Job, events: &'a dyn Events, credit: Arc<Semaphore>) -> Self {
        let upload = Duration::from_secs(job.spec.project.bytes() / UPLOAD_RATE);
        Self {
            start,
            events,
            credit,
            decoder: Decoder::default(),
            incoming: Incoming::new(job.artifact_dir.clone(), &start.artifacts),
            result: Vec::new(),
            notices: Vec::new(),
            diagnostics: 0,
            first_phase: None,
            phase: None,
            deadline: Instant::now() + STARTUP + upload,
        }
    }

    /// Takes what came. `Some` when the conversation is over.
    async fn take(&mut self, chunk: LogOutput) -> Result<Option<Ending>, SandboxError> {
        match chunk {
            LogOutput::StdErr { message } => self.diagnose(&message),
            LogOutput::StdOut { message } | LogOutput::Console { message } | LogOutput::StdIn { message } => {
                self.decoder.push(&message);
            }
        }
        // Taken out for the loop: a frame borrows it, and what the frame does changes the rest.
        let mut decoder = std::mem::take(&mut self.decoder);
        let mut ending = Ok(None);
        while let (Ok(None), Some(frame)) = (&ending, decoder.next_frame().map_err(nonsense)?) {
            ending = self.frame(frame).await;
        }
        self.decoder = decoder;
        ending
    }

    async fn frame(&mut self, frame: Frame<'_>) -> Result<Option<Ending>, SandboxError> {
        let Frame { kind, payload } = frame;
        match kind {
            Kind::Hello => {}
            Kind::Phase => self.begin(message::<PhaseStart>(payload)?.phase),
            Kind::Stdout => self.events.stdout(Bytes::copy_from_slice(payload)),
            Kind::Stderr => self.events.stderr(Bytes::copy_from_slice(payload)),
            Kind::Credit => self.grant(payload)?,
            Kind::Result => {
                let room = RESULT_CAP - self.result.len();
                self.result.extend_from_slice(&payload[..payload.len().min(room)]);
            }
            Kind::Artifact => self.incoming.begin(message(payload)?).await?,
            Kind::Data => self.incoming.data(payload).await?,
            Kind::Notice => self.notice(payload),
            Kind::End => return self.end(message(payload)?).map(Some),
            other => return Err(SandboxError::Lost(format!("a {other:?} frame came the wrong way"))),
        }
        Ok(None)
    }

    fn begin(&mut self, phase: Phase) {
        let now = Instant::now();
        self.first_phase.get_or_insert(now);
        self.phase = Some(phase);
        let after = |timeout_ms: u64| now + Duration::from_millis(timeout_ms) + LATE;
        self.deadline = match phase {
            Phase::Compile => after(self.start.compile.as_ref().map_or(0, |compile| compile.timeout_ms)),
            Phase::Run => after(self.start.run.timeout_ms),
            Phase::Collect => now + COLLECT,
        };
        self.events.phase(phase);
    }

    fn grant(&self, payload: &[u8]) -> Result<(), SandboxError> {
        let bytes: [u8; 4] = payload.try_into().map_err(|_| SandboxError::Lost("a bad grant".into()))?;
        let granted = usize::try_from(u32::from_le_bytes(bytes)).unwrap_or(0);
        if self.credit.available_permits().saturating_add(granted) < Semaphore::MAX_PERMITS {
            self.credit.add_permits(granted);
        }
        Ok(())
    }

    fn notice(&mut self, payload: &[u8]) {
        if self.notices.len() < NOTICES.0 {
            let text = String::from_utf8_lossy(&payload[..payload.len().min(NOTICES.1)]);
            self.notices.push(text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect());
        }
    }

    /// The runner's own words, for the log.
    fn diagnose(&mut self, message: &[u8]) {
        if self.diagnostics < DIAGNOSTICS {
            self.diagnostics += message.len();
            let text = String::from_utf8_lossy(&message[..message.len().min(DIAGNOSTICS)]).into_owned();
            warn!(runner = %text.escape_debug(), "the runner complains");
        }
    }

    fn end(&mut self, end: End) -> Result<Ending, SandboxError> {
        if end.nonce != self.start.nonce {
            return Err(SandboxError::Lost("an end frame with a wrong nonce".into()));
        }
        self.incoming.finish()?;
        Ok(Ending::Report(Box::new(end)))
    }

    /// The deadline passed without the runner's report.
    fn late(self) -> Conversation {
        let ending = match self.phase {
            Some(Phase::Compile | Phase::Run) => Ending::TimedOut,
            Some(Phase::Collect) => Ending::Lost("collecting the artifacts took too long".into()),
            None => Ending::Lost("the runner did not start in time".into()),
        };
        self.finish(ending)
    }

    fn finish(self, ending: Ending) -> Conversation {
        Conversation {
            ending,
            artifacts: self.incoming.into_artifacts(),
            result: self.result,
            notices: self.notices,
            first_phase: self.first_phase,
            phase: self.phase,
        }
    }
}

fn nonsense(error: crate::runner::frame::FrameError) -> SandboxError {
    SandboxError::Lost(error.to_string())
}

fn message<M: serde::de::DeserializeOwned>(payload: &[u8]) -> Result<M, SandboxError> {
    serde_json::from_slice(payload).map_err(|error| SandboxError::Lost(format!("a bad message: {error}")))
}
