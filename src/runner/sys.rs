//! The runner's system calls, and one call of the server's: with `probe/sys.rs` the only files with `unsafe`; each block
//! says why it is sound.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sched::{CloneFlags, clone};
use nix::sys::prctl;
use nix::sys::resource::{Resource, UsageWho, getrusage, setrlimit};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::Mode;
use nix::sys::time::TimeValLike as _;
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
    wait(pid)?;
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
    default_signals();
    SigSet::empty().thread_set_mask()
}

/// A program starts with the signals as they are by default. The language of this one ignores SIGPIPE; more are ignored
/// where the Engine was started so, 32 among them, which the C library lets nobody set.
fn default_signals() {
    const SIGNALS: std::ops::RangeInclusive<libc::c_int> = 1..=64;
    /// Bytes of the kernel's own set of signals.
    const SET: usize = 8;
    /// The kernel's `sigaction` is four words long at most: all of them 0 are the default, without a handler.
    const DEFAULT: [u64; 4] = [0; 4];
    for signal in SIGNALS {
        // SAFETY: it installs no code, and the kernel only reads the constant. The actions are this process's own, although
        // its memory is not. The kernel refuses SIGKILL and SIGSTOP, which are as they always are.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, DEFAULT.as_ptr(), std::ptr::null::<u64>(), SET)
        };
    }
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

impl Ended {
    /// Takes any number as a signal: [`Signal`] knows none of the real-time signals, 32 to 64. `None` for a process that
    /// was only stopped or continued.
    fn of(status: ExitStatus) -> Option<Self> {
        status.code().map(Self::Code).or_else(|| status.signal().map(Self::Signal))
    }
}

/// `waitpid` with the status as the kernel gives it. The pid is 0 while none of the children asked for has ended.
fn wait_status(pid: libc::pid_t, flags: libc::c_int) -> nix::Result<(libc::pid_t, ExitStatus)> {
    let mut status = 0;
    // SAFETY: the kernel writes one number into `status`, which outlives the call.
    let ended = Errno::result(unsafe { libc::waitpid(pid, &raw mut status, flags) })?;
    Ok((ended, ExitStatus::from_raw(status)))
}

/// Waits for the end of this child.
pub(super) fn wait(pid: Pid) -> io::Result<Ended> {
    loop {
        match wait_status(pid.as_raw(), 0) {
            Ok((_, status)) => {
                if let Some(ended) = Ended::of(status) {
                    return Ok(ended);
                }
            }
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Takes the status of every child that has ended, our own and the orphans we inherit as PID 1. Gives the one of
/// `program` when it is among them, and whether any child is left.
pub(super) fn reap(program: Pid) -> (Option<Ended>, bool) {
    const ANY: libc::pid_t = -1;
    let mut ended = None;
    loop {
        match wait_status(ANY, libc::WNOHANG) {
            Ok((0, _)) => return (ended, true),
            Ok((pid, status)) if pid == program.as_raw() => ended = Ended::of(status).or(ended),
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

/// Sends a signal of any number, real-time ones included, which [`Signal`] does not know. False when it could not be sent.
pub(super) fn send(pid: i32, signal: i32) -> bool {
    // SAFETY: it takes two numbers and touches no memory.
    unsafe { libc::kill(pid, signal) == 0 }
}

/// Processor time of this process, or of all its children that were reaped so far.
pub(super) fn processor_time(who: UsageWho) -> Duration {
    let Ok(usage) = getrusage(who) else { return Duration::ZERO };
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

/// Most memory that any one child had which was reaped so far, in bytes.
pub(super) fn largest_child() -> u64 {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_CHILDREN) else { return 0 };
    u64::try_from(usage.max_rss()).unwrap_or(0) << 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_is_an_end_and_a_stop_is_none() {
        const CORE: i32 = 0x80;
        for signal in 1..=64 {
            for status in [signal, signal | CORE] {
                let ended = Ended::of(ExitStatus::from_raw(status));
                assert_eq!(ended, Some(Ended::Signal(signal)), "{status:#x}");
            }
            let stopped = signal << 8 | 0x7f;
            assert_eq!(Ended::of(ExitStatus::from_raw(stopped)), None, "{signal}");
        }
        assert_eq!(Ended::of(ExitStatus::from_raw(0xffff)), None, "continued");
        assert_eq!(Ended::of(ExitStatus::from_raw(200 << 8)), Some(Ended::Code(200)));
    }

    #[test]
    fn the_end_of_a_child_by_a_real_time_signal_is_seen() {
        for signal in [34, 50, 64] {
            // Its own handle never waits for it.
            #[allow(clippy::zombie_processes, reason = "the call under test waits")]
            let child =
                std::process::Command::new("sh").arg("-c").arg(format!("kill -{signal} $$")).spawn().unwrap();
            let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
            assert_eq!(wait(pid).unwrap(), Ended::Signal(signal));
        }
    }
}
