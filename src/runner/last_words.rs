//! What a program has written and its language's library still holds comes out before we kill it: programs of ours say by
//! a handler of one signal (`images/c/flush.c` and the like) that they can write it out, and die of that by themselves.
//! All others are killed without being asked, and see nothing of this.

use std::time::Duration;

use nix::unistd::Pid;

use crate::runner::sys;

/// Nobody else's: the C library has the first of the real-time signals, other languages take those that follow.
const SIGNAL: i32 = 59;
/// How long programs may take: one that used up its share of the processor waits up to 100 ms for the next.
pub(super) const PATIENCE: Duration = Duration::from_millis(250);

/// Tells the program that its end has come, where it can do something about it; false where it can't. Its children are not
/// asked: they may be as many as there can be, and each look takes its time.
pub(super) fn ask(program: Pid) -> bool {
    let pid = program.as_raw();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    has_words(&status) && sys::send(pid, SIGNAL)
}

/// Whether the process has a handler of the signal, and not of its neighbours: Go catches all that there are.
fn has_words(status: &str) -> bool {
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    let catches = |signal: i32| caught >> (signal - 1) & 1 == 1;
    catches(SIGNAL) && !catches(SIGNAL - 1) && !catches(SIGNAL + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_those_that_catch_the_one_signal_are_asked() {
        let status = |caught: u64| format!("Name:\tx\nSigIgn:\t0\nSigCgt:\t{caught:016x}\nCapInh:\t0\n");
        assert!(has_words(&status(1 << 58)));
        assert!(has_words(&status(1 << 58 | 1 << 10)), "other handlers do not matter");
        assert!(!has_words(&status(0)));
        assert!(!has_words(&status(u64::MAX)), "Go catches everything");
        assert!(!has_words(""), "it is gone");
    }
}
