//! Output while it is being written: kept up to the caps, and followed by whoever wants to see it live.

use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::sync::watch;

use crate::execution::content::Content;
use crate::execution::live_file::LiveFile;
use crate::execution::record;
use crate::execution::state::Output;
use crate::runner::message::Phase;
use crate::sandbox::Events;

/// Which stream bytes belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// The compiler's standard output.
    CompileStdout,
    /// The compiler's standard error.
    CompileStderr,
    /// The program's standard output.
    Stdout,
    /// The program's standard error.
    Stderr,
}

const CHANNELS: [Channel; 4] =
    [Channel::CompileStdout, Channel::CompileStderr, Channel::Stdout, Channel::Stderr];

/// What a follower sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LiveEvent {
    /// More bytes of a stream, in that stream's order.
    Bytes(Channel, Bytes),
    /// What is being waited for, such as an image build.
    Progress(String),
    /// A new attempt started: what was shown so far is void.
    Restarted,
}

/// The output of one execution. One writer (the sandbox), any number of followers.
#[derive(Debug)]
pub struct Live {
    /// Bytes kept of each channel.
    cap: usize,
    log: Mutex<Log>,
    /// What of it was asked for meanwhile, where that is large.
    file: Mutex<Option<LiveFile>>,
    /// Counts changes, so that followers sleep without polling and miss nothing.
    version: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Log {
    compiling: bool,
    channels: [BytesMut; 4],
    /// The channels after the end, shared with the result instead of kept twice.
    sealed: Option<[Bytes; 4]>,
    cut: [bool; 4],
    progress: Vec<String>,
    attempt: u32,
    closed: bool,
}

impl Log {
    fn channel(&self, channel: usize) -> &[u8] {
        self.sealed.as_ref().map_or(&self.channels[channel], |sealed| &sealed[channel])
    }
}

/// Progress lines that are kept; a build that prints more keeps its last ones visible live only.
const MAX_PROGRESS: usize = 1_000;

/// Bytes that go to a file at a time, while the writer waits.
const PIECE: usize = 64 << 10;

impl Live {
    /// `cap` is the number of bytes kept of each stream.
    #[must_use]
    pub fn new(cap: u64) -> Self {
        let cap = usize::try_from(cap).unwrap_or(usize::MAX);
        Self { cap, log: Mutex::default(), file: Mutex::default(), version: watch::Sender::new(0) }
    }

    /// Nothing is broken by a panic while the lock is held: every change is one append.
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Log)) {
        change(&mut self.log());
        self.version.send_modify(|version| *version += 1);
    }

    /// A new attempt: what the last one wrote is dropped.
    pub fn restart(&self) {
        self.change(|log| *log = Log { attempt: log.attempt + 1, ..Log::default() });
    }

    /// Nothing more will come.
    pub fn close(&self) {
        self.change(|log| log.closed = true);
    }

    /// What has been written so far. Small output is copied; large output is written to a file without a name in this
    /// folder. Blocks for that.
    ///
    /// # Errors
    /// The disk is full or broken.
    pub fn snapshot(&self, folder: &Path) -> io::Result<Output<Content>> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match self.try_snapshot(&mut file, folder) {
                // A new attempt began meanwhile.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }

    fn try_snapshot(&self, file: &mut Option<LiveFile>, folder: &Path) -> io::Result<Output<Content>> {
        let (attempt, lengths) = {
            let log = self.log();
            let lengths = CHANNELS.map(|channel| log.channel(channel as usize).len());
            if lengths.iter().sum::<usize>() <= record::INLINE {
                let small = log.sealed.clone().unwrap_or_else(|| copy(&log.channels));
                return Ok(output(small).into());
            }
            (log.attempt, lengths)
        };
        let file = match file {
            Some(file) if file.is_of(attempt) => file,
            stale => stale.insert(LiveFile::new(attempt, folder, self.cap)?),
        };
        let mut written = |channel: Channel| {
            let channel = channel as usize;
            let more = |at: usize| {
                let log = self.log();
                if log.attempt != attempt {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                let rest = &log.channel(channel)[at..];
                Ok(rest[..rest.len().min(PIECE)].to_vec())
            };
            file.content(channel, lengths[channel], more)
        };
        Ok(Output {
            stdout: written(Channel::Stdout)?,
            stderr: written(Channel::Stderr)?,
            compile_stdout: written(Channel::CompileStdout)?,
            compile_stderr: written(Channel::CompileStderr)?,
        })
    }

    /// What has been written, for good: whatever is written after this is dropped.
    #[must_use]
    pub fn seal(&self) -> Output {
        let log = &mut *self.log();
        let sealed = log.sealed.get_or_insert_with(|| copy(&std::mem::take(&mut log.channels)));
        output(sealed.clone())
    }

    /// Whether stdout and stderr of the program were cut here.
    #[must_use]
    pub fn cut(&self) -> (bool, bool) {
        let log = self.log();
        (log.cut[Channel::Stdout as usize], log.cut[Channel::Stderr as usize])
    }

    /// The beginning of what the compiler wrote, its standard error first.
    #[must_use]
    pub fn compiler_said(&self, bytes: usize) -> String {
        let log = self.log();
        let begin = |channel: Channel| {
            let said = log.channel(channel as usize);
            String::from_utf8_lossy(&said[..said.len().min(bytes)]).into_owned()
        };
        format!("{}\n{}", begin(Channel::CompileStderr), begin(Channel::CompileStdout))
    }

    /// Whether the compiler wrote something to its stdout and to its stderr.
    #[must_use]
    pub fn compiler_wrote(&self) -> (bool, bool) {
        let log = self.log();
        let wrote = |channel: Channel| !log.channel(channel as usize).is_empty();
        (wrote(Channel::CompileStdout), wrote(Channel::CompileStderr))
    }

    /// The end of what the program wrote to standard error.
    #[must_use]
    pub fn program_said(&self, bytes: usize) -> String {
        let log = self.log();
        let said = log.channel(Channel::Stderr as usize);
        String::from_utf8_lossy(&said[said.len().saturating_sub(bytes)..]).into_owned()
    }

    /// Whether the program wrote nothing at all.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        let log = self.log();
        [Channel::Stdout, Channel::Stderr].iter().all(|channel| log.channel(*channel as usize).is_empty())
    }

    /// Follows from the beginning: what was written before comes first.
    #[must_use]
    pub fn follow(self: &std::sync::Arc<Self>) -> Follower {
        Follower {
            changes: self.version.subscribe(),
            live: std::sync::Arc::clone(self),
            seen: [0; 4],
            progress: 0,
            attempt: 0,
        }
    }

    fn append(&self, stdout: bool, bytes: &Bytes) {
        self.change(|log| {
            if log.sealed.is_some() {
                return;
            }
            let channel = match (log.compiling, stdout) {
                (true, true) => Channel::CompileStdout,
                (true, false) => Channel::CompileStderr,
                (false, true) => Channel::Stdout,
                (false, false) => Channel::Stderr,
            } as usize;
            let room = self.cap - log.channels[channel].len();
            log.cut[channel] |= bytes.len() > room;
            log.channels[channel].extend_from_slice(&bytes[..bytes.len().min(room)]);
        });
    }
}

/// Copies are as long as their content; what grew has room to spare.
fn copy(channels: &[BytesMut; 4]) -> [Bytes; 4] {
    channels.each_ref().map(|channel| Bytes::copy_from_slice(channel))
}

fn output([compile_stdout, compile_stderr, stdout, stderr]: [Bytes; 4]) -> Output {
    Output { stdout, stderr, compile_stdout, compile_stderr }
}

impl Events for Live {
    fn progress(&self, message: &str) {
        self.change(|log| {
            if log.progress.len() < MAX_PROGRESS {
                log.progress.push(message.to_owned());
            }
        });
    }

    fn phase(&self, phase: Phase) {
        self.change(|log| log.compiling = phase == Phase::Compile);
    }

    fn stdout(&self, bytes: Bytes) {
        self.append(true, &bytes);
    }

    fn stderr(&self, bytes: Bytes) {
        self.append(false, &bytes);
    }
}

/// A place in the output of one execution.
#[derive(Debug)]
pub struct Follower {
    live: std::sync::Arc<Live>,
    changes: watch::Receiver<u64>,
    seen: [usize; 4],
    progress: usize,
    attempt: u32,
}

impl Follower {
    /// The next event; `None` when the execution is over and all of it was seen.
    pub async fn next(&mut self) -> Option<LiveEvent> {
        loop {
            self.changes.mark_unchanged();
            match self.take() {
                Some(event) => return Some(event),
                None if self.live.log().closed => return None,
                // An error means that the writer is gone, which the next look at `closed` would not tell.
                None => self.changes.changed().await.ok()?,
            }
        }
    }

    fn take(&mut self) -> Option<LiveEvent> {
        let log = self.live.log();
        if log.attempt != self.attempt {
            let first = self.attempt == 0;
            (self.attempt, self.seen, self.progress) = (log.attempt, [0; 4], 0);
            if !first {
                return Some(LiveEvent::Restarted);
            }
        }
        if let Some(line) = log.progress.get(self.progress) {
            self.progress += 1;
            return Some(LiveEvent::Progress(line.clone()));
        }
        for channel in CHANNELS {
            let (all, seen) = (log.channel(channel as usize), &mut self.seen[channel as usize]);
            if all.len() > *seen {
                let bytes = Bytes::copy_from_slice(&all[*seen..]);
                *seen = all.len();
                return Some(LiveEvent::Bytes(channel, bytes));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn in_memory(live: &Live) -> Output {
        live.snapshot(Path::new("/no/such/folder")).unwrap().in_memory().unwrap()
    }

    #[tokio::test]
    async fn large_output_is_in_one_file_for_all_who_ask() {
        let folder = tempfile::tempdir().unwrap();
        let live = Live::new(1 << 20);
        let (first, second) =
            (Bytes::from(vec![b'1'; record::INLINE + 1]), Bytes::from(vec![b'2'; PIECE + 1]));
        live.restart();
        live.stdout(first.clone());
        let early = live.snapshot(folder.path()).unwrap();
        live.stdout(second.clone());
        live.stderr(Bytes::from_static(b"err"));
        let late = live.snapshot(folder.path()).unwrap();
        assert!(live.snapshot(Path::new("/no/such/folder")).is_ok(), "nothing new is to be written");
        live.restart();
        live.stdout(second.clone());
        let again = live.snapshot(folder.path()).unwrap();
        let all = |content: Content| async move { content.piece(0, usize::MAX).await.unwrap() };
        assert_eq!(early.stdout.len(), first.len());
        assert!(all(early.stdout).await == first);
        assert!(all(late.stdout).await == [first, second.clone()].concat());
        assert_eq!(all(late.stderr).await, "err");
        assert!(all(again.stdout).await == second, "what the last attempt wrote is void");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "no name is left");
    }

    #[tokio::test]
    async fn a_late_follower_sees_everything_and_then_the_end() {
        let live = Arc::new(Live::new(100));
        live.restart();
        live.progress("building");
        live.phase(Phase::Run);
        live.stdout(Bytes::from_static(b"one"));
        let mut follower = live.follow();
        assert_eq!(follower.next().await, Some(LiveEvent::Progress("building".into())));
        assert_eq!(
            follower.next().await,
            Some(LiveEvent::Bytes(Channel::Stdout, Bytes::from_static(b"one")))
        );
        live.stdout(Bytes::from_static(b"two"));
        live.close();
        assert_eq!(
            follower.next().await,
            Some(LiveEvent::Bytes(Channel::Stdout, Bytes::from_static(b"two")))
        );
        assert_eq!(follower.next().await, None);
    }

    #[tokio::test]
    async fn a_restart_voids_what_was_seen() {
        let live = Arc::new(Live::new(100));
        live.restart();
        let mut follower = live.follow();
        live.stdout(Bytes::from_static(b"half"));
        assert!(matches!(follower.next().await, Some(LiveEvent::Bytes(..))));
        live.restart();
        live.close();
        assert_eq!(follower.next().await, Some(LiveEvent::Restarted));
        assert_eq!(follower.next().await, None);
        assert!(in_memory(&live).is_empty());
    }

    #[tokio::test]
    async fn what_is_sealed_stays_and_is_there_only_once() {
        let live = Arc::new(Live::new(100));
        live.restart();
        let mut follower = live.follow();
        live.stdout(Bytes::from_static(b"one"));
        let sealed = live.seal();
        live.stdout(Bytes::from_static(b"late"));
        live.close();
        assert_eq!(in_memory(&live).stdout.as_ptr(), sealed.stdout.as_ptr());
        assert_eq!(live.seal().stdout, "one");
        assert_eq!(
            follower.next().await,
            Some(LiveEvent::Bytes(Channel::Stdout, Bytes::from_static(b"one")))
        );
        assert_eq!(follower.next().await, None);
    }

    #[test]
    fn each_stream_is_cut_at_its_own_cap() {
        let live = Live::new(4);
        live.phase(Phase::Compile);
        live.stderr(Bytes::from_static(b"123456"));
        live.phase(Phase::Run);
        live.stdout(Bytes::from_static(b"1234"));
        live.stderr(Bytes::from_static(b"12345"));
        let output = in_memory(&live);
        assert_eq!((output.compile_stderr.len(), output.stdout.len(), output.stderr.len()), (4, 4, 4));
        assert_eq!(live.cut(), (false, true));
    }
}
