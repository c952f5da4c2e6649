//! The probe's raw system calls: no safe wrapper exists for calls that must fail. Each is made in a child, so that
//! one that works changes nothing for the next.
#![allow(unsafe_code)]

use std::ffi::CStr;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::Signal;
use nix::unistd::{ForkResult, fork};

use super::network::errno;
use crate::runner::sys::{Ended, wait};

/// Signals by which a filter, or a kernel without that entry, refuses.
pub(super) const REFUSALS: [Signal; 3] = [Signal::SIGSYS, Signal::SIGSEGV, Signal::SIGILL];
/// A child that takes longer hangs, in seconds.
const PATIENCE: u32 = 5;

/// What a child met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// No error.
    Done,
    Failed(Errno),
    Killed(Signal),
    /// There is no child.
    NotTried(Errno),
}

/// An argument of a system call.
#[derive(Debug, Clone, Copy)]
pub(super) enum Arg {
    Number(i64),
    Text(&'static CStr),
    Bytes(&'static [u8]),
    Words(&'static [u64]),
}

/// Does this in a child, and tells what came of it.
pub(super) fn in_child(attempt: impl FnOnce() -> nix::Result<()>) -> Answer {
    // SAFETY: this process has one thread, so that the child may do all that its parent may; it never returns.
    let child = match unsafe { fork() } {
        Ok(ForkResult::Parent { child }) => child,
        Ok(ForkResult::Child) => {
            // SAFETY: no memory is concerned.
            unsafe { libc::alarm(PATIENCE) };
            let code = attempt().map_or_else(|error| error as i32, |()| 0);
            // SAFETY: ends the process at once, as a child must that shares its parent's open streams.
            unsafe { libc::_exit(code) }
        }
        Err(error) => return Answer::NotTried(error),
    };
    match wait(child) {
        Ok(Ended::Code(0)) => Answer::Done,
        Ok(Ended::Code(code)) => Answer::Failed(Errno::from_raw(code)),
        Ok(Ended::Signal(signal)) => Signal::try_from(signal).map_or_else(Answer::NotTried, Answer::Killed),
        Err(error) => Answer::NotTried(errno(error)),
    }
}

/// Makes a system call in a child.
pub(super) fn call(number: libc::c_long, args: &[Arg]) -> Answer {
    in_child(|| raw(number, args))
}

fn raw(number: libc::c_long, args: &[Arg]) -> nix::Result<()> {
    let arg = |index: usize| match args.get(index) {
        Some(Arg::Number(number)) => *number,
        Some(Arg::Text(text)) => text.as_ptr() as i64,
        Some(Arg::Bytes(bytes)) => bytes.as_ptr() as i64,
        Some(Arg::Words(words)) => words.as_ptr() as i64,
        None => 0,
    };
    // SAFETY: pointers are to constants of this program, and null elsewhere. Should the kernel write through one, it
    // hits read-only memory and fails, or changes a child that ends next.
    let result = unsafe { libc::syscall(number, arg(0), arg(1), arg(2), arg(3), arg(4), arg(5)) };
    Errno::result(result).map(drop)
}

/// `getpid` by the entry for 32-bit programs, where a filter that knows only 64-bit numbers is blind.
#[cfg(target_arch = "x86_64")]
pub(super) fn call_32_bit() -> Answer {
    in_child(|| {
        let mut result: i32 = 20;
        // SAFETY: the call takes no pointers and changes no memory; the registers that it may change are named.
        unsafe {
            std::arch::asm!(
                "int 0x80", inlateout("eax") result, out("r8") _, out("r9") _, out("r10") _, out("r11") _,
                options(nostack)
            );
        }
        // Errors are small negative numbers.
        if result < 0 { Err(Errno::from_raw(-result)) } else { Ok(()) }
    })
}
