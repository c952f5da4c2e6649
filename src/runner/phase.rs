//! One phase: start a program, pass its streams on under the caps, watch its deadline, and leave nothing running.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use nix::unistd::Pid;

use crate::runner::WORKSPACE;
use crate::runner::disk_limit::{DiskLimit, Verdict};
use crate::runner::frame::{DATA_CHUNK, Kind};
use crate::runner::last_words;
use crate::runner::link::{Link, LinkError};
use crate::runner::memory_watch::MemoryWatch;
use crate::runner::message::{Exit, Phase, PhaseEnd, PhaseSpec, PhaseStart, RESULT_BYTES, Start, Stop};
use crate::runner::program::Program;
use crate::runner::stdin::Stdin;
use crate::runner::sys::{self, Ended, RESULT_FD, Streams};
use crate::runner::usage::{self, ProcessorTime, micros};
use crate::runner::user;
use crate::runner::workspace::Workspace;

/// How long killed processes get to vanish between two looks.
const REAP_PAUSE_MS: u8 = 5;
/// Pause between two looks at a program that writes its last words, in milliseconds.
const LISTEN_PAUSE_MS: u8 = 2;

/// What both phases share.
pub(super) struct Conditions<'a> {
    pub(super) start: &'a Start,
    pub(super) workspace: &'a Workspace,
    /// The folder /tmp, open.
    pub(super) tmp: &'a File,
    pub(super) signals: &'a SignalFd,
}

/// Runs one phase to its end. When this returns, no process but the runner is left.
pub(super) fn run(
    conditions: &Conditions<'_>,
    phase: Phase,
    spec: &PhaseSpec,
    memory: &mut MemoryWatch,
    link: &mut Link,
) -> Result<PhaseEnd, LinkError> {
    let (oom_before, cpu_before) = (usage::oom_kills(), ProcessorTime::now());
    let started = PhaseStart { phase, cpu_before_us: cpu_before.group_us() };
    link.queue_message(Kind::Phase, &started)?;
    memory.begin_phase()?;
    let began = Instant::now();
    let mut running = match Running::start(conditions.start, phase, spec) {
        Ok(running) => running,
        Err(error) => return Ok(not_started(spec, &error, began.elapsed())),
    };
    if phase == Phase::Run {
        running.stdin.grant(link)?;
    }
    let deadline = began + Duration::from_millis(spec.timeout_ms);
    let start = conditions.start;
    let mut disk = DiskLimit::new(conditions.workspace, conditions.tmp, start.disk, start.watch);
    let stopped = running.watch(conditions, deadline, (&mut disk, memory), link)?;
    let wall = began.elapsed();
    // Past a limit of memory or files every moment more would go over it.
    if matches!(stopped, Some(Stop::TimedOut | Stop::Killed)) && last_words::ask(running.pid) {
        running.hear(conditions.signals, link)?;
    }
    running.end_all(conditions.signals);
    running.drain(link)?;
    let files = match stopped {
        None => disk.verdict()?,
        Some(Stop::DiskLimit) => disk.culprit(),
        // It has its reason already.
        Some(_) => Verdict::default(),
    };
    let too_large = running.ended == Some(Ended::Signal(Signal::SIGXFSZ as i32));
    let stopped = stopped.or(files.over.then_some(Stop::DiskLimit));
    // Whatever else happened to it, but that somebody asked for its end.
    let out_of_memory = memory.end_phase()? && stopped != Some(Stop::Killed);
    Ok(PhaseEnd {
        exit: running.exit(),
        stopped: if out_of_memory { Some(Stop::OutOfMemory) } else { stopped },
        oom_kills: usage::oom_kills().saturating_sub(oom_before),
        disk_full: files.folder.or(too_large.then(|| WORKSPACE.to_owned())),
        disk_bytes: disk.used(),
        wall_us: micros(wall),
        cpu_us: micros(ProcessorTime::now().of_others_since(&cpu_before)),
        stdout_truncated: running.stdout.truncated(),
        stderr_truncated: running.stderr.truncated(),
        results_truncated: running.result.truncated(),
    })
}

fn not_started(spec: &PhaseSpec, error: &io::Error, wall: Duration) -> PhaseEnd {
    let program = spec.argv.first().map_or("", String::as_str);
    PhaseEnd {
        exit: Exit::NotStarted {
            why: format!("{} could not be started: {error}", program.escape_debug()),
            found: error.kind() != io::ErrorKind::NotFound,
        },
        stopped: None,
        oom_kills: 0,
        disk_full: None,
        disk_bytes: 0,
        wall_us: micros(wall),
        cpu_us: 0,
        stdout_truncated: false,
        stderr_truncated: false,
        results_truncated: false,
    }
}

/// The program with its streams.
struct Running {
    pid: Pid,
    ended: Option<Ended>,
    stdin: Stdin,
    stdout: Outlet,
    stderr: Outlet,
    result: Outlet,
    flood_bytes: u64,
}

impl Running {
    fn start(start: &Start, phase: Phase, spec: &PhaseSpec) -> io::Result<Self> {
        let ours = [
            ("EXECBOX_RESULT_FD".to_owned(), RESULT_FD.to_string()),
            // The same for languages that know files only.
            ("EXECBOX_RESULTS".to_owned(), format!("/dev/fd/{RESULT_FD}")),
        ];
        let is_ours = |name: &str| ours.iter().any(|(other, _)| other == name);
        let callers = start.env.iter().filter(|(name, _)| !is_ours(name)).cloned();
        let env: Vec<_> = callers.chain(ours.clone()).chain(user::missing_variables(&start.env)).collect();
        let program = Program::new(&spec.argv, &env)?;
        let (stdout, to_stdout) = sys::pipe()?;
        let (stderr, to_stderr) = sys::pipe()?;
        let (result, to_result) = sys::pipe()?;
        let (from_stdin, stdin) = sys::pipe()?;
        // A compiler has none.
        let stdin = if phase == Phase::Run && start.stdin { Stdin::new(stdin)? } else { Stdin::none() };
        let streams = Streams { stdin: from_stdin, stdout: to_stdout, stderr: to_stderr, result: to_result };
        Ok(Self {
            pid: sys::spawn(&program, &streams, start.rlimits)?,
            ended: None,
            stdin,
            stdout: Outlet::new(Kind::Stdout, stdout, start.output_bytes)?,
            stderr: Outlet::new(Kind::Stderr, stderr, start.output_bytes)?,
            result: Outlet::new(Kind::Result, result, RESULT_BYTES)?,
            flood_bytes: start.flood_bytes,
        })
    }

    fn outlets(&mut self) -> [&mut Outlet; 3] {
        [&mut self.stdout, &mut self.stderr, &mut self.result]
    }

    /// Passes streams on until the program ends by itself (`None`) or has to be ended.
    fn watch(
        &mut self,
        conditions: &Conditions<'_>,
        deadline: Instant,
        (disk, memory): (&mut DiskLimit<'_>, &mut MemoryWatch),
        link: &mut Link,
    ) -> Result<Option<Stop>, LinkError> {
        while self.ended.is_none() {
            link.flush()?;
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Some(Stop::TimedOut));
            }
            let ready = self.wait(conditions.signals, left.min(disk.pause()).min(memory.pause()), link)?;
            if ready.control && self.control(link)? {
                return Ok(Some(Stop::Killed));
            }
            if ready.stdin {
                self.stdin.feed(link)?;
            }
            for (outlet, ready) in self.outlets().into_iter().zip(ready.outlets) {
                if ready {
                    outlet.pass_on(link)?;
                }
            }
            if self.stdout.seen + self.stderr.seen > self.flood_bytes {
                return Ok(Some(Stop::OutputLimit));
            }
            if disk.look()? {
                return Ok(Some(Stop::DiskLimit));
            }
            if memory.look()? {
                return Ok(Some(Stop::OutOfMemory));
            }
            if ready.signal {
                self.reap(conditions.signals);
            }
        }
        Ok(None)
    }

    /// Passes on what programs write that were asked for their last words, until ours is gone or has had its time.
    fn hear(&mut self, signals: &SignalFd, link: &mut Link) -> Result<(), LinkError> {
        let until = Instant::now() + last_words::PATIENCE;
        while self.ended.is_none() && Instant::now() < until {
            for outlet in self.outlets() {
                // Whoever writes on and on does not keep us.
                while Instant::now() < until && outlet.pass_on(link)? {}
            }
            let mut fds = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
            // An interrupted wait only means that we look earlier.
            let _ = poll(&mut fds, LISTEN_PAUSE_MS);
            self.reap(signals);
        }
        Ok(())
    }

    /// Waits until something can be done, at most this long.
    fn wait(&self, signals: &SignalFd, at_most: Duration, link: &Link) -> Result<Ready, LinkError> {
        // Rounded up: a wait of 0 ms would spin through the last part of a millisecond.
        let millis = u16::try_from(at_most.as_millis() + 1).unwrap_or(u16::MAX);
        let mut fds = vec![
            PollFd::new(link.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        let outlets = [&self.stdout, &self.stderr, &self.result];
        let open = outlets.map(|outlet| outlet.pipe.as_ref());
        fds.extend(open.iter().flatten().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
        fds.extend(self.stdin.waiting().map(|pipe| PollFd::new(pipe, PollFlags::POLLOUT)));
        match poll(&mut fds, millis) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(io::Error::from(error).into()),
        }
        let mut ready = fds.iter().map(|fd| fd.any().unwrap_or(false));
        let mut next = || ready.next().unwrap_or(false);
        let (control, signal) = (next(), next());
        let outlets = open.map(|pipe| pipe.is_some() && next());
        Ok(Ready { control, signal, outlets, stdin: next() })
    }

    /// Reads what the server sends. True when the program is to be killed.
    fn control(&mut self, link: &mut Link) -> Result<bool, LinkError> {
        link.fill()?;
        while let Some(frame) = link.next_frame()? {
            match frame.kind {
                Kind::Stdin => self.stdin.push(frame.payload),
                Kind::StdinEnd => self.stdin.end(),
                Kind::Kill => return Ok(true),
                other => return Err(LinkError::OutOfTurn(other)),
            }
        }
        self.stdin.feed(link)?;
        Ok(false)
    }

    /// Takes the status of whatever has ended. True when nothing is left.
    fn reap(&mut self, signals: &SignalFd) -> bool {
        // One signal may stand for many; what counts is what `waitpid` says.
        while matches!(signals.read_signal(), Ok(Some(_))) {}
        let (ended, any_left) = sys::reap(self.pid);
        self.ended = self.ended.or(ended);
        !any_left
    }

    /// Kills whatever is left, again and again until it is gone: a process may fork while we kill.
    fn end_all(&mut self, signals: &SignalFd) {
        loop {
            sys::kill_all();
            if self.reap(signals) {
                return;
            }
            let mut fds = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
            // An interrupted wait only means that we look earlier.
            let _ = poll(&mut fds, REAP_PAUSE_MS);
        }
    }

    /// Passes on what is left in the pipes. Nobody writes to them any more.
    fn drain(&mut self, link: &mut Link) -> Result<(), LinkError> {
        for outlet in self.outlets() {
            while outlet.pass_on(link)? {}
        }
        Ok(())
    }

    fn exit(&self) -> Exit {
        match self.ended {
            Some(Ended::Code(code)) => Exit::Code(code),
            Some(Ended::Signal(signal)) => Exit::Signal(signal),
            // Reaped with the rest after our own kill.
            None => Exit::Signal(Signal::SIGKILL as i32),
        }
    }
}

/// What `poll` said.
struct Ready {
    control: bool,
    signal: bool,
    outlets: [bool; 3],
    stdin: bool,
}

/// One of the program's output pipes: passed on up to a cap, read and dropped beyond it.
struct Outlet {
    kind: Kind,
    pipe: Option<File>,
    cap: u64,
    /// Bytes that the program wrote.
    seen: u64,
    buffer: Vec<u8>,
}

impl Outlet {
    fn new(kind: Kind, pipe: OwnedFd, cap: u64) -> io::Result<Self> {
        sys::set_nonblocking(pipe.as_fd())?;
        Ok(Self { kind, pipe: Some(File::from(pipe)), cap, seen: 0, buffer: vec![0; DATA_CHUNK] })
    }

    /// Takes one piece. False when there is nothing more for now.
    fn pass_on(&mut self, link: &mut Link) -> Result<bool, LinkError> {
        let Some(pipe) = &mut self.pipe else { return Ok(false) };
        let count = match pipe.read(&mut self.buffer) {
            Ok(0) => {
                self.pipe = None;
                return Ok(false);
            }
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(true),
            Err(error) => return Err(error.into()),
        };
        let room = usize::try_from(self.cap.saturating_sub(self.seen)).unwrap_or(usize::MAX);
        self.seen += count as u64;
        let kept = count.min(room);
        if kept > 0 {
            link.queue(self.kind, &self.buffer[..kept])?;
        }
        Ok(true)
    }

    fn truncated(&self) -> bool {
        self.seen > self.cap
    }
}
