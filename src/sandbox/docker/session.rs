//! The conversation with the runner of one container: files and input in, output and artifacts out, until the end
//! frame, the deadline or a cancellation. What the runner sends is treated as hostile.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bollard::container::LogOutput;
use bytes::Bytes;
use futures::StreamExt as _;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::archive::Frames;
use crate::execution::spec::Stdin;
use crate::runner::frame::{DATA_CHUNK, Frame, Kind, encode, encode_message};
use crate::runner::message::{ArtifactSpec, End, Phase, PhaseStart, RESULT_BYTES, Start};
use crate::sandbox::docker::container::Input;
use crate::sandbox::docker::incoming::Incoming;
use crate::sandbox::docker::streams::{Inbox, Streams, nonsense};
use crate::sandbox::{Artifact, Events, Job, SandboxError};

/// From the first frame that goes in to the runner's word that it has it. One that waited may be dead or stopped.
const HANDOVER: Duration = Duration::from_secs(2);
/// From then on to all files in, without the files' own time.
const STARTUP: Duration = Duration::from_secs(60);
/// Bytes per second at which files must at least go in and out.
const LEAST_RATE: u64 = 4 << 20;
/// Files and folders per second: of those that go in or out.
const LEAST_ENTRIES: u64 = 500;
/// And of those that are only looked at.
const LEAST_LOOKS: u64 = 20_000;
/// How late a runner may report the end of a phase before the server answers by its own clock. A runner is late when its
/// container gets no processor time, or when a program has found a way to slow it.
const LATE: Duration = Duration::from_millis(500);
/// Collecting artifacts and saying goodbye, without the artifacts' own time.
const COLLECT: Duration = Duration::from_secs(60);
/// What a kill leaves the runner for its report.
const KILL_GRACE: Duration = Duration::from_millis(150);
/// Notices that are kept, and the length of each.
const NOTICES: (usize, usize) = (32, 1_024);
/// What is left to send when the runner has reported: at most one frame.
const LAST_FRAME: Duration = Duration::from_secs(1);

/// What a conversation gave.
#[derive(Debug)]
pub(super) struct Conversation {
    /// How it ended.
    pub(super) ending: Ending,
    pub(super) artifacts: Vec<Artifact>,
    pub(super) result: Vec<u8>,
    /// More came than is kept.
    pub(super) result_cut: bool,
    pub(super) notices: Vec<String>,
    /// The phases that were reached, with the start of each.
    pub(super) phases: Vec<(Phase, Instant)>,
    /// Processor time of the container before the last of them, in microseconds, as the runner says.
    pub(super) cpu_before_us: Option<u64>,
    /// The runner has reported and has all that was sent, frame by frame: it can be told to settle.
    pub(super) whole: bool,
}

impl Conversation {
    /// Whether the runner itself has reported the end.
    pub(super) fn is_reported(&self) -> bool {
        matches!(self.ending, Ending::Report(_))
    }

    /// The phase that was reached last.
    pub(super) fn phase(&self) -> Option<Phase> {
        self.phases.last().map(|(phase, _)| *phase)
    }

    /// What is in the workspace, where the runner holds its limits.
    pub(super) fn disk_bytes(&self) -> u64 {
        match &self.ending {
            Ending::Report(end) => end.run.as_ref().map_or(0, |run| run.disk_bytes),
            _ => 0,
        }
    }
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
    /// The runner never said that the execution has reached it, so nothing of it has happened.
    Unanswered(String),
}

/// Holds the conversation. The container still runs, perhaps, when this returns.
pub(super) async fn converse(
    streams: &mut Streams,
    start: &Start,
    job: &Job,
    events: &dyn Events,
    cancel: &CancellationToken,
) -> Result<Conversation, SandboxError> {
    let credit = Arc::new(Semaphore::new(0));
    let Streams { input, output, inbox } = streams;
    let mut reader = Reader::new(start, job, events, Arc::clone(&credit), inbox);
    let ended = CancellationToken::new();
    let mut writer = std::pin::pin!(write(input, start, job, &credit, Until { cancel, ended: &ended }));
    let mut whole = None;
    let mut cancelled = std::pin::pin!(cancelled_for(cancel, KILL_GRACE));
    loop {
        tokio::select! {
            written = &mut writer, if whole.is_none() => whole = Some(written?),
            chunk = output.next() => {
                let taken = match chunk {
                    Some(Ok(chunk)) => reader.take(chunk).await?,
                    Some(Err(error)) => Some(reader.lost(error.to_string())),
                    None => Some(reader.lost("its stream ended".into())),
                };
                if let Some(ending) = taken {
                    ended.cancel();
                    let last = async { if let Some(whole) = whole { Ok(whole) } else { writer.await } };
                    let whole = matches!(ending, Ending::Report(_)) && is_whole(last).await;
                    return Ok(Conversation { whole, ..reader.finish(ending) });
                }
            }
            () = tokio::time::sleep_until(reader.deadline) => return Ok(reader.late()),
            () = &mut cancelled => return Ok(reader.finish(Ending::Cancelled)),
        }
    }
}

/// Whether the sending, which was told to end, does so between two frames.
async fn is_whole(sending: impl Future<Output = Result<bool, SandboxError>>) -> bool {
    matches!(tokio::time::timeout(LAST_FRAME, sending).await, Ok(Ok(true)))
}

/// What so much may take at the least rates.
fn moving(bytes: u64, entries: u64) -> Duration {
    Duration::from_secs(bytes / LEAST_RATE + entries / LEAST_ENTRIES)
}

/// What collecting may take when it is as much as is asked for.
fn collecting(artifacts: &ArtifactSpec) -> Duration {
    let looks = Duration::from_secs(artifacts.max_entries / LEAST_LOOKS);
    COLLECT + moving(artifacts.max_bytes, artifacts.max_count) + looks
}

/// Ends when the cancellation is this long ago.
async fn cancelled_for(cancel: &CancellationToken, grace: Duration) {
    cancel.cancelled().await;
    tokio::time::sleep(grace).await;
}

/// What ends the sending.
#[derive(Clone, Copy)]
struct Until<'a> {
    /// The program is to be killed.
    cancel: &'a CancellationToken,
    /// The runner has reported.
    ended: &'a CancellationToken,
}

/// Sends the start, the project, and standard input as it is granted; a kill when it is asked for. Gives whether all of
/// it was sent in whole frames. A runner that is gone shows on the reading side.
async fn write(
    input: &mut Input,
    start: &Start,
    job: &Job,
    credit: &Semaphore,
    until: Until<'_>,
) -> Result<bool, SandboxError> {
    let mut head = Vec::new();
    encode_message(Kind::Start, start, &mut head)
        .map_err(|error| SandboxError::Lost(format!("the start message: {error}")))?;
    let project = match job.spec.project.frames() {
        Frames::Memory(frames) => {
            // One write carries all of it.
            head.extend_from_slice(frames);
            None
        }
        Frames::File(path) => Some(tokio::fs::File::open(path).await?.into_std().await),
    };
    if let Stdin::Kept(path, sha256) = &job.spec.stdin
        && hash(File::open(path)?).await? != *sha256
    {
        return Err(changed("the standard input").into());
    }
    let work = async {
        if project.is_none() {
            encode(Kind::Go, &[], &mut head);
        }
        input.write_all(&head).await?;
        if let Some(project) = project {
            if !copy(project, job.spec.project.sha256(), input).await? {
                return Ok(false);
            }
            let mut go = Vec::new();
            encode(Kind::Go, &[], &mut go);
            input.write_all(&go).await?;
        }
        input.flush().await?;
        write_stdin(input, &job.spec.stdin, credit, until.ended).await.map(|()| true)
    };
    let sent = tokio::select! {
        sent = work => match sent {
            // A program whose files have changed must not start.
            Ok(false) => return Err(changed("the project").into()),
            // A broken pipe: the runner is gone, which the reader finds out with the reason.
            sent => Some(sent.is_ok()),
        },
        () = until.cancel.cancelled() => None,
    };
    if let Some(whole) = sent {
        // A kill may still be asked for.
        tokio::select! {
            () = until.cancel.cancelled() => {}
            () = until.ended.cancelled() => return Ok(whole),
        }
    }
    let mut kill = Vec::new();
    encode(Kind::Kill, &[], &mut kill);
    // May be cut into a frame that is half written; the container is then killed over its head.
    drop(input.write_all(&kill).await);
    drop(input.flush().await);
    Ok(false)
}

/// Pieces of the project's file.
const PIECE: usize = 4 * DATA_CHUNK;

/// Reads the next piece while this one goes in. False where the content does not have the hash that is expected.
async fn copy(project: File, sha256: Option<[u8; 32]>, input: &mut Input) -> std::io::Result<bool> {
    let reading = Reading { project, seen: sha256.map(|_| Sha256::new()) };
    let mut next = read(reading, Vec::with_capacity(PIECE));
    let mut spare = Vec::with_capacity(PIECE);
    loop {
        let (reading, piece) = next.await??;
        if piece.is_empty() {
            return Ok(reading.seen.map(|seen| seen.finalize().into()) == sha256);
        }
        next = read(reading, spare);
        input.write_all(&piece).await?;
        spare = piece;
    }
}

/// The project's file, and the hash of what was read of it where that is needed.
struct Reading {
    project: File,
    seen: Option<Sha256>,
}

fn read(mut reading: Reading, mut piece: Vec<u8>) -> JoinHandle<std::io::Result<(Reading, Vec<u8>)>> {
    tokio::task::spawn_blocking(move || {
        piece.clear();
        reading.project.by_ref().take(PIECE as u64).read_to_end(&mut piece)?;
        if let Some(seen) = &mut reading.seen {
            seen.update(&piece);
        }
        Ok((reading, piece))
    })
}

/// SHA-256 of what is in a file.
async fn hash(file: File) -> std::io::Result<[u8; 32]> {
    let mut reading = Reading { project: file, seen: Some(Sha256::new()) };
    let mut piece = Vec::new();
    loop {
        (reading, piece) = read(reading, piece).await??;
        if piece.is_empty() {
            return Ok(reading.seen.map(|seen| seen.finalize().into()).unwrap_or_default());
        }
    }
}

fn changed(what: &str) -> std::io::Error {
    let message = format!("{what} has changed on the disk since the execution was accepted");
    std::io::Error::new(std::io::ErrorKind::InvalidData, message)
}

/// Until all is sent, or the runner has reported: then it stops between two frames.
async fn write_stdin(
    input: &mut Input,
    stdin: &Stdin,
    credit: &Semaphore,
    ended: &CancellationToken,
) -> std::io::Result<()> {
    if stdin.is_empty() {
        return Ok(());
    }
    // The first grant says that the program runs. Before that even the end of the input would go to the compiler.
    if ended.run_until_cancelled(credit.acquire()).await.is_none() {
        return Ok(());
    }
    match stdin {
        Stdin::Bytes(bytes) => write_piece(input, bytes, credit, ended).await?,
        Stdin::Scratch(path) => write_file(input, path, credit, ended).await?,
        Stdin::Kept(path, _) => write_file(input, path, credit, ended).await?,
        Stdin::Live(receiver) => {
            let taken = receiver.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
            if let Some(mut receiver) = taken {
                while let Some(Some(bytes)) = ended.run_until_cancelled(receiver.recv()).await {
                    write_piece(input, &bytes, credit, ended).await?;
                }
            }
        }
    }
    let mut end = Vec::new();
    encode(Kind::StdinEnd, &[], &mut end);
    input.write_all(&end).await?;
    input.flush().await
}

/// Sends standard input that is in a file, a piece at a time.
async fn write_file(
    input: &mut Input,
    path: &Path,
    credit: &Semaphore,
    ended: &CancellationToken,
) -> std::io::Result<()> {
    let mut next = read(Reading { project: File::open(path)?, seen: None }, Vec::new());
    loop {
        let (file, piece) = next.await??;
        if piece.is_empty() || ended.is_cancelled() {
            return Ok(());
        }
        write_piece(input, &piece, credit, ended).await?;
        next = read(file, piece);
    }
}

/// Sends one piece of standard input, as far as it is granted.
async fn write_piece(
    input: &mut Input,
    bytes: &[u8],
    credit: &Semaphore,
    ended: &CancellationToken,
) -> std::io::Result<()> {
    for chunk in bytes.chunks(DATA_CHUNK / 2) {
        let wanted = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
        match ended.run_until_cancelled(credit.acquire_many(wanted)).await {
            None => return Ok(()),
            // The semaphore is never closed.
            Some(permits) => permits.map_or((), tokio::sync::SemaphorePermit::forget),
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
    inbox: &'a mut Inbox,
    incoming: Incoming,
    result: Vec<u8>,
    result_cut: bool,
    notices: Vec<String>,
    phases: Vec<(Phase, Instant)>,
    cpu_before_us: Option<u64>,
    /// The runner has the execution.
    accepted: bool,
    /// What its files may take to go in.
    upload: Duration,
    deadline: Instant,
}

impl<'a> Reader<'a> {
    fn new(
        start: &'a Start,
        job: &Job,
        events: &'a dyn Events,
        credit: Arc<Semaphore>,
        inbox: &'a mut Inbox,
    ) -> Self {
        Self {
            start,
            events,
            credit,
            inbox,
            incoming: Incoming::new(job.artifact_dir.clone(), &start.artifacts),
            result: Vec::new(),
            result_cut: false,
            notices: Vec::new(),
            phases: Vec::new(),
            cpu_before_us: None,
            accepted: false,
            upload: moving(job.spec.project.bytes(), job.spec.project.count()),
            deadline: Instant::now() + HANDOVER,
        }
    }

    /// Takes what came. `Some` when the conversation is over.
    async fn take(&mut self, chunk: LogOutput) -> Result<Option<Ending>, SandboxError> {
        self.inbox.take(chunk);
        // Taken out for the loop: a frame borrows it, and what the frame does changes the rest.
        let mut decoder = std::mem::take(&mut self.inbox.decoder);
        let mut ending = Ok(None);
        while let (Ok(None), Some(frame)) = (&ending, decoder.next_frame().map_err(nonsense)?) {
            ending = self.frame(frame).await;
        }
        self.inbox.decoder = decoder;
        ending
    }

    async fn frame(&mut self, frame: Frame<'_>) -> Result<Option<Ending>, SandboxError> {
        let Frame { kind, payload } = frame;
        match kind {
            Kind::Accepted => {
                self.accepted = true;
                self.deadline = Instant::now() + STARTUP + self.upload;
            }
            Kind::Phase => self.begin(message(payload)?)?,
            Kind::Stdout => self.events.stdout(Bytes::copy_from_slice(payload)),
            Kind::Stderr => self.events.stderr(Bytes::copy_from_slice(payload)),
            Kind::Credit => self.grant(payload)?,
            Kind::Result => {
                let room = usize::try_from(RESULT_BYTES).unwrap_or(usize::MAX) - self.result.len();
                self.result_cut |= payload.len() > room;
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

    /// Each phase moves the deadline, so none may come twice.
    fn begin(&mut self, started: PhaseStart) -> Result<(), SandboxError> {
        let PhaseStart { phase, cpu_before_us } = started;
        let now = Instant::now();
        if self.phases.last().is_some_and(|(last, _)| *last >= phase) {
            return Err(SandboxError::Lost(format!("the {phase:?} phase came out of turn")));
        }
        self.phases.push((phase, now));
        self.cpu_before_us = cpu_before_us;
        let after = |timeout_ms: u64| now + Duration::from_millis(timeout_ms) + LATE;
        self.deadline = match phase {
            Phase::Compile => after(self.start.compile.as_ref().map_or(0, |compile| compile.timeout_ms)),
            Phase::Run => after(self.start.run.timeout_ms),
            Phase::Collect => now + collecting(&self.start.artifacts),
        };
        self.events.phase(phase);
        Ok(())
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

    /// The stream ended too early.
    fn lost(&self, why: String) -> Ending {
        if self.accepted { Ending::Lost(why) } else { Ending::Unanswered(why) }
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
        let ending = match self.phases.last().map(|(phase, _)| *phase) {
            Some(Phase::Compile | Phase::Run) => Ending::TimedOut,
            Some(Phase::Collect) => Ending::Lost("collecting the artifacts took too long".into()),
            None => self.lost("the runner did not answer in time".into()),
        };
        self.finish(ending)
    }

    fn finish(self, ending: Ending) -> Conversation {
        Conversation {
            ending,
            artifacts: self.incoming.into_artifacts(),
            result: self.result,
            result_cut: self.result_cut,
            notices: self.notices,
            phases: self.phases,
            cpu_before_us: self.cpu_before_us,
            whole: false,
        }
    }
}

fn message<M: serde::de::DeserializeOwned>(payload: &[u8]) -> Result<M, SandboxError> {
    serde_json::from_slice(payload).map_err(|error| SandboxError::Lost(format!("a bad message: {error}")))
}
