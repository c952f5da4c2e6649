//! The runner's system calls, and one call of the server's: with `probe/sys.rs` the only files with `unsafe`; each block
//! says why it is sound.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sched::{CloneFlags, clone};
use nix::sys::prctl;
use nix::sys::resource::{Resource, UsageWho, getrusage, setrlimit};
use nix::sys::signal::{SigHandler, SigSet, Signal, kill, signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::Mode;
use nix::sys::time::TimeValLike as _;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, chdir, dup2_raw, dup2_stderr, dup2_stdin, dup2_stdout, pipe2, setsid, write};

use crate::runner::message::Rlimits;
use crate::runner::program::Program;

/// From this size on, memory goes back to the system as soon as it is freed.
const LARGE: i32 = 64 << 10;
/// Heaps that threads share. The C library's own number is eight for each processor.
const HEAPS: i32 = 4;

/// Keeps a server that had much to do at once from keeping the memory for that. Left alone, the C library takes large
/// pieces from its heaps once some were freed, and cuts up as many heaps as there are threads. For the start of a process:
/// what was allocated before stays as it was.
pub(crate) fn bound_heaps() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes two numbers and touches no memory of ours; it may be called at any time, and what it refuses
    // changes nothing.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        libc::mallopt(libc::M_ARENA_MAX, HEAPS);
    }
}

/// Where programs start: [`crate::runner::WORKSPACE`].
const WORKSPACE_PATH: &CStr = c"/work";
/// Number of the result channel in the program; high, so that it is in nobody's way, and below every `nofile` limit.
pub(super) const RESULT_FD: i32 = 100;

/// Makes this process unreadable for the program, which has the same user id: without this it could open our
/// standard output through /proc and forge a result.
pub(super) fn hide() -> io::Result<()> {
    Ok(prctl::set_dumpable(false)?)
}

/// A descriptor that is readable when a child has ended.
pub(super) fn child_signals() -> io::Result<SignalFd> {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    mask.thread_block()?;
    Ok(SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

/// A pipe of which neither end is inherited by accident.
pub(super) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(pipe2(OFlag::O_CLOEXEC)?)
}

pub(super) fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// Room for the first process of new namespaces until it starts programs.
const STACK: usize = 1 << 20;

/// Runs this in a copy of this process, the first in its own user, mount, pid, ipc and uts namespaces. What it gives is
/// the copy's exit code.
pub(super) fn in_namespaces(mut first: impl FnMut() -> isize) -> io::Result<Pid> {
    let flags = CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    let mut stack = vec![0; STACK];
    // SAFETY: this process has one thread, so its copy finds no lock held that nobody gives back; without CLONE_VM the copy
    // has memory of its own, the stack included, which therefore outlives it there.
    Ok(unsafe { clone(Box::new(&mut first), &mut stack, flags, Some(Signal::SIGCHLD as i32)) }?)
}

/// Room for what a program's process does before it is the program.
const SPAWN_STACK: usize = 64 << 10;

/// A program's ends of its streams.
pub(super) struct Streams {
    pub(super) stdin: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    pub(super) result: OwnedFd,
}

/// Starts a program. Its process shares our memory until it is the program, as with `vfork`: a copy of our page tables
/// costs more than all the rest. We stand still meanwhile.
pub(super) fn spawn(program: &Program, streams: &Streams, rlimits: Rlimits) -> io::Result<Pid> {
    let (argv, env) = (pointers(&program.argv), pointers(&program.env));
    let mut failed = None;
    let mut child = || {
        failed = Some(match prepare(streams, rlimits) {
            Ok(()) => exec(program, &argv, &env),
            Err(errno) => errno,
        });
        1
    };
    let mut stack = vec![0; SPAWN_STACK];
    let flags = CloneFlags::CLONE_VM | CloneFlags::CLONE_VFORK;
    // SAFETY: this process has one thread, which goes on only when the child has become the program or has ended. Until
    // then the child has a stack of its own, makes only system calls on values that were there before, allocates nothing,
    // and changes nothing of ours but `failed` and errno.
    let pid = unsafe { clone(Box::new(&mut child), &mut stack, flags, Some(Signal::SIGCHLD as i32)) }?;
    // It has shown our memory for a moment, in which nobody was there to look.
    hide()?;
    let Some(errno) = failed else { return Ok(pid) };
    waitpid(pid, None)?;
    Err(errno.into())
}

/// As `exec` wants them: with an end.
fn pointers(texts: &[CString]) -> Vec<*const libc::c_char> {
    texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
}

/// What the program's process does before it is the program. The memory is its parent's.
fn prepare(streams: &Streams, rlimits: Rlimits) -> nix::Result<()> {
    dup2_stdin(&streams.stdin)?;
    dup2_stdout(&streams.stdout)?;
    dup2_stderr(&streams.stderr)?;
    // SAFETY: nothing in this process owns RESULT_FD. dup2 leaves close-on-exec off, so the copy must not be closed here.
    let copy = unsafe { dup2_raw(&streams.result, RESULT_FD) }?;
    std::mem::forget(copy);
    setsid()?;
    expendable()?;
    setrlimit(Resource::RLIMIT_CPU, rlimits.cpu_seconds, rlimits.cpu_seconds)?;
    setrlimit(Resource::RLIMIT_FSIZE, rlimits.file_bytes, rlimits.file_bytes)?;
    chdir(WORKSPACE_PATH)?;
    // A program starts with the signals as they are by default; the language of this one ignores SIGPIPE.
    // SAFETY: it installs no code.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }?;
    SigSet::empty().thread_set_mask()
}

/// Becomes the program, or says why not: in the words of the last place where it was looked for, unless one of them has it
/// and does not let us.
fn exec(program: &Program, argv: &[*const libc::c_char], env: &[*const libc::c_char]) -> Errno {
    let mut why = Errno::ENOENT;
    for path in &program.paths {
        // SAFETY: all three are ended by a null, and their texts live in `program`.
        unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), env.as_ptr()) };
        match Errno::last() {
            Errno::ENOENT | Errno::ENOTDIR => {}
            Errno::EACCES => why = Errno::EACCES,
            other => return other,
        }
    }
    why
}

/// The kernel takes this process first when memory runs out, never the runner. Files under /proc/self belong to root
/// while a process is not dumpable; nobody else is there who could look meanwhile.
fn expendable() -> nix::Result<()> {
    prctl::set_dumpable(true)?;
    let file =
        nix::fcntl::open(c"/proc/self/oom_score_adj", OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    write(&file, b"1000")?;
    prctl::set_dumpable(false)
}

/// The wait status of one process that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Code(i32),
    Signal(i32),
}

/// Takes the status of every child that has ended, our own and the orphans we inherit as PID 1. Gives the one of
/// `program` when it is among them, and whether any child is left.
pub(super) fn reap(program: Pid) -> (Option<Ended>, bool) {
    let mut ended = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == program => ended = Some(Ended::Code(code)),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == program => {
                ended = Some(Ended::Signal(signal as i32));
            }
            Ok(WaitStatus::StillAlive) => return (ended, true),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return (ended, false),
        }
    }
}

/// Kills everything in the container but this process: as PID 1 we are spared.
pub(super) fn kill_all() {
    // Fails only when there is nothing to kill.
    let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
}

/// Processor time of all children that were reaped so far.
pub(super) fn children_cpu() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_CHILDREN) else { return Duration::ZERO };
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

/// Most memory that any one child had which was reaped so far, in bytes.
pub(super) fn largest_child() -> u64 {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_CHILDREN) else { return 0 };
    u64::try_from(usage.max_rss()).unwrap_or(0) << 10
}
