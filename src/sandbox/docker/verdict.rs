//! From what the runner said to what the caller reads: the outcome, in words.
//!
//! The order of the verdicts: killed, out of memory, timed out, output or disk limit, compile failure, the end frame's
//! own status with a full container before a plain exit.

use std::time::Duration;

use crate::limits::{Limits, MIB};
use crate::runner::message::{End, Exit, Phase, PhaseEnd, Stop};
use crate::runner::{TMP, WORKSPACE};
use crate::sandbox::docker::profile::container_memory_bytes;
use crate::sandbox::docker::workspace_volume::Placement;
use crate::sandbox::{NO_RUN, Outcome, Reason, SEE_COMPILER, signal_name};

/// Exit code that a shell gives for a process that SIGKILL ended.
const KILLED: i32 = 137;

/// The outcome of a runner's report.
pub(super) fn of_report(end: &End, limits: &Limits, workspace: Placement) -> Outcome {
    if let Some(message) = &end.no_room {
        return outcome(Reason::DiskLimit, NO_RUN, message.clone());
    }
    match (&end.run, &end.compile) {
        (Some(run), _) => of_run(run, end.memory_peak_bytes, limits, workspace),
        (None, Some(compile)) => of_compile(compile, end.memory_peak_bytes, limits, workspace),
        (None, None) => outcome(Reason::Internal, NO_RUN, "the runner reported no phase".into()),
    }
}

/// The outcome when the server had to kill the container itself.
pub(super) fn without_report(cancelled: bool, phase: Option<Phase>, limits: &Limits) -> Outcome {
    match phase {
        _ if cancelled => killed(),
        Some(Phase::Compile) => timed_out(Phase::Compile, limits),
        _ => timed_out(Phase::Run, limits),
    }
}

/// The outcome when the kernel ended a process at the container's own limit, and what the runner saw of the program's
/// memory does not say that it passed its limit: the rest is files, or the kernel's memory for the program.
pub(super) fn container_full(limits: &Limits, workspace: Placement) -> Outcome {
    let (limit, program) = (mib(container_memory_bytes(limits, workspace)), mib(limits.memory_bytes));
    let places = match workspace {
        Placement::Memory => "the workspace, /tmp and /dev/shm",
        Placement::Volume { .. } => "/tmp and /dev/shm",
    };
    let message = format!(
        "out of memory: the container's {limit} MiB were full, and the kernel killed a process (config.memory_mb is \
         {program}; the rest is for files in {places} and for the kernel's own memory, such as pipes and sockets); raise \
         config.memory_mb"
    );
    outcome(Reason::OutOfMemory, KILLED, message)
}

/// The outcome when the program's own memory passed its limit.
fn out_of_memory(phase: Phase, peak: Option<u64>, limits: &Limits) -> Outcome {
    let limit = mib(limits.memory_bytes);
    // Above the limit, so rounded up.
    let peak = peak.map_or(limit, |peak| mib(peak.saturating_add(MIB - 1)));
    let what = subject(phase);
    let message =
        format!("out of memory: {what} reached {peak} MiB of its {limit} MiB; raise config.memory_mb");
    outcome(Reason::OutOfMemory, KILLED, message)
}

/// Processes that the kernel killed because the container was full.
pub(super) fn oom_kills(end: &End) -> u64 {
    let phases = end.compile.iter().chain(&end.run);
    phases.map(|phase| phase.oom_kills).sum()
}

/// A notice of processes that the kernel killed, where the outcome does not tell of them: the program went on without.
pub(super) fn killed_unnoticed(
    end: &End,
    outcome: &Outcome,
    limits: &Limits,
    workspace: Placement,
) -> Option<String> {
    let count = oom_kills(end);
    let processes = if count == 1 { "process" } else { "processes" };
    (count > 0 && outcome.reason != Reason::OutOfMemory).then(|| {
        let limit = mib(container_memory_bytes(limits, workspace));
        format!(
            "the kernel killed {count} {processes} of the program, as its files and the kernel's memory for it filled the \
             container's {limit} MiB; raise config.memory_mb"
        )
    })
}

fn subject(phase: Phase) -> &'static str {
    match phase {
        Phase::Compile => "the compiler",
        Phase::Run | Phase::Collect => "the program",
    }
}

pub(super) fn killed() -> Outcome {
    outcome(Reason::Killed, KILLED, "it was killed on request".into())
}

fn outcome(reason: Reason, exit_code: i32, error: String) -> Outcome {
    Outcome { reason, exit_code, error: Some(error) }
}

fn timed_out(phase: Phase, limits: &Limits) -> Outcome {
    let (what, limit, field) = match phase {
        Phase::Compile => ("the compiler", limits.compile_timeout_ms, "config.compile_timeout_seconds"),
        Phase::Run | Phase::Collect => ("the program", limits.timeout_ms, "config.timeout_seconds"),
    };
    let limit = Duration::from_millis(limit).as_secs_f64();
    let message = format!("timed out: {what} was still running after {limit} s; raise {field}");
    outcome(Reason::TimedOut, KILLED, message)
}

/// What holds for both phases: `None` when the phase ended by itself.
fn of_stop(phase: Phase, ended: &PhaseEnd, peak: Option<u64>, limits: &Limits) -> Option<Outcome> {
    match ended.stopped? {
        Stop::Killed => Some(killed()),
        Stop::TimedOut => Some(timed_out(phase, limits)),
        Stop::OutOfMemory => Some(out_of_memory(phase, peak, limits)),
        Stop::OutputLimit => {
            let (kept, most) = (limits.output_bytes >> 10, flood_bytes(limits) >> 10);
            let message = format!(
                "output limit: it wrote more than {most} KiB and was stopped; {kept} KiB of stdout and of stderr are \
                 kept; raise config.output_kb"
            );
            Some(outcome(Reason::OutputLimit, KILLED, message))
        }
        Stop::DiskLimit => {
            let folder = if ended.disk_full.as_deref() == Some(TMP) { TMP } else { "the workspace" };
            let message = format!(
                "disk limit: the workspace and /tmp together grew past {} MiB or {} files and folders and the program was \
                 stopped; most of it is in {folder}; raise config.disk_mb",
                mib(limits.disk_bytes),
                limits.disk_inodes
            );
            // What is too much may have been found only after the program ended by itself.
            Some(outcome(Reason::DiskLimit, exit_code(&ended.exit), message))
        }
    }
}

/// Output in all, stdout and stderr together, at which a program is stopped instead of read on: far above what is
/// kept, so that a long log is only cut, and an endless one does not burn its whole time.
pub(super) fn flood_bytes(limits: &Limits) -> u64 {
    limits.output_bytes.saturating_mul(16)
}

fn of_run(run: &PhaseEnd, peak: Option<u64>, limits: &Limits, workspace: Placement) -> Outcome {
    if let Some(stopped) = of_stop(Phase::Run, run, peak, limits) {
        return stopped;
    }
    let exit_code = exit_code(&run.exit);
    let failed = run.exit != Exit::Code(0);
    if failed && let Some(folder) = &run.disk_full {
        return disk_full(folder, exit_code, limits, workspace);
    }
    if failed && run.oom_kills > 0 {
        return Outcome { exit_code, ..container_full(limits, workspace) };
    }
    match &run.exit {
        Exit::Code(_) => Outcome { reason: Reason::Exited, exit_code, error: None },
        Exit::Signal(signal) => {
            let message = format!("the program was ended by signal {signal} ({})", signal_name(*signal));
            outcome(Reason::Signaled, exit_code, message)
        }
        // As a shell says it: found, but not to be started.
        Exit::NotStarted { why, .. } => outcome(Reason::Exited, exit_code, why.clone()),
    }
}

/// A folder had no room left, and the program failed.
fn disk_full(folder: &str, exit_code: i32, limits: &Limits, workspace: Placement) -> Outcome {
    let (tmp, inodes) = (workspace.tmp_bytes(limits), limits.disk_inodes);
    let message = match folder {
        WORKSPACE => format!(
            "disk limit: the workspace of {} MiB and {inodes} files was full, or a file was to grow past it, and the \
             program failed; raise config.disk_mb",
            mib(limits.disk_bytes),
        ),
        TMP if tmp < limits.disk_bytes => format!(
            "disk limit: /tmp of {} MiB and {inodes} files was full and the program failed; this server gives it no more \
             (memory_disk_mb): write to the workspace",
            mib(tmp)
        ),
        TMP => format!(
            "disk limit: /tmp of {} MiB and {inodes} files was full and the program failed; raise config.disk_mb",
            mib(tmp)
        ),
        other => format!(
            "disk limit: {}, whose size is fixed, was full and the program failed; write to the workspace or /tmp",
            other.escape_debug()
        ),
    };
    outcome(Reason::DiskLimit, exit_code, message)
}

fn of_compile(compile: &PhaseEnd, peak: Option<u64>, limits: &Limits, workspace: Placement) -> Outcome {
    if let Some(stopped) = of_stop(Phase::Compile, compile, peak, limits) {
        return stopped;
    }
    if compile.oom_kills > 0 {
        return container_full(limits, workspace);
    }
    if let Some(folder) = &compile.disk_full {
        return disk_full(folder, exit_code(&compile.exit), limits, workspace);
    }
    let message = match &compile.exit {
        Exit::Code(code) => format!("the project did not compile (exit code {code}); {SEE_COMPILER}"),
        Exit::Signal(signal) => {
            format!("the compiler was ended by signal {signal} ({})", signal_name(*signal))
        }
        Exit::NotStarted { why, .. } => why.clone(),
    };
    // A compiler that says success and is here failed all the same: a limit of its own ended it.
    outcome(Reason::CompileFailed, exit_code(&compile.exit), message)
}

/// As a shell gives it.
pub(super) fn exit_code(exit: &Exit) -> i32 {
    match exit {
        Exit::Code(code) => *code,
        Exit::Signal(signal) => 128 + signal,
        Exit::NotStarted { found: true, .. } => 126,
        Exit::NotStarted { found: false, .. } => 127,
    }
}

fn mib(bytes: u64) -> u64 {
    bytes / MIB
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        crate::config::Config::default().limit_policy().default
    }

    fn ended(exit: Exit) -> PhaseEnd {
        PhaseEnd {
            exit,
            stopped: None,
            oom_kills: 0,
            disk_full: None,
            disk_bytes: 0,
            wall_us: 1,
            cpu_us: 1,
            stdout_truncated: false,
            stderr_truncated: false,
            results_truncated: false,
        }
    }

    fn end(run: PhaseEnd) -> End {
        End {
            nonce: String::new(),
            no_room: None,
            compile: None,
            run: Some(run),
            memory_peak_bytes: Some(513 * MIB + 1),
            memory_peak_hides: false,
            artifacts_truncated: false,
        }
    }

    fn report(run: PhaseEnd) -> Outcome {
        of_report(&end(run), &limits(), Placement::Memory)
    }

    #[test]
    fn a_plain_exit_needs_no_words_whatever_its_code() {
        for code in [0, 1, 255] {
            let expected = Outcome { reason: Reason::Exited, exit_code: code, error: None };
            assert_eq!(report(ended(Exit::Code(code))), expected);
        }
    }

    #[test]
    fn a_stop_wins_over_everything_else_and_names_its_field() {
        for (stop, reason, field) in [
            (Stop::TimedOut, Reason::TimedOut, "config.timeout_seconds"),
            (Stop::OutputLimit, Reason::OutputLimit, "config.output_kb"),
            (Stop::Killed, Reason::Killed, "request"),
            (Stop::DiskLimit, Reason::DiskLimit, "config.disk_mb"),
            (
                Stop::OutOfMemory,
                Reason::OutOfMemory,
                "reached 514 MiB of its 512 MiB; raise config.memory_mb",
            ),
        ] {
            let run = PhaseEnd {
                stopped: Some(stop),
                oom_kills: 1,
                disk_full: Some(TMP.into()),
                ..ended(Exit::Signal(9))
            };
            let outcome = report(run);
            assert_eq!((outcome.reason, outcome.exit_code), (reason, 137));
            assert!(outcome.error.unwrap().contains(field));
        }
    }

    #[test]
    fn a_limit_counts_only_when_the_program_failed_of_it() {
        let full = |exit| report(PhaseEnd { disk_full: Some(TMP.into()), ..ended(exit) }).reason;
        assert_eq!((full(Exit::Code(0)), full(Exit::Code(1))), (Reason::Exited, Reason::DiskLimit));
        let oom = |exit| report(PhaseEnd { oom_kills: 1, ..ended(exit) });
        assert_eq!(
            (oom(Exit::Code(0)).reason, oom(Exit::Signal(9)).reason),
            (Reason::Exited, Reason::OutOfMemory)
        );
        assert!(oom(Exit::Signal(9)).error.unwrap().contains("container's 864 MiB"));
    }

    #[test]
    fn a_kill_by_the_kernel_that_the_outcome_does_not_tell_is_a_notice() {
        let notice = |run: PhaseEnd, compile_kills| {
            let compile = Some(PhaseEnd { oom_kills: compile_kills, ..ended(Exit::Code(0)) });
            let end = End { compile, ..end(run) };
            let outcome = of_report(&end, &limits(), Placement::Memory);
            (oom_kills(&end), killed_unnoticed(&end, &outcome, &limits(), Placement::Memory))
        };
        let went_on = |oom_kills| PhaseEnd { oom_kills, ..ended(Exit::Code(0)) };
        assert_eq!(notice(went_on(0), 0), (0, None));
        let (count, text) = notice(went_on(1), 0);
        assert!(count == 1 && text.as_ref().unwrap().contains("killed 1 process of the program"), "{text:?}");
        let (count, text) = notice(went_on(2), 1);
        let text = text.unwrap();
        assert!(count == 3 && text.contains("3 processes") && text.contains("864 MiB"), "{text}");
        assert_eq!(notice(PhaseEnd { exit: Exit::Signal(9), ..went_on(1) }, 0), (1, None));
    }

    #[test]
    fn a_disk_limit_names_its_folder_and_what_helps() {
        let full = |folder: &str| PhaseEnd { disk_full: Some(folder.into()), ..ended(Exit::Code(1)) };
        let said = |run: PhaseEnd, workspace| of_run(&run, None, &limits(), workspace).error.unwrap();
        let small = Placement::Volume { tmp_bytes: 32 * MIB };
        for (folder, workspace, parts) in [
            (TMP, Placement::Memory, ["/tmp of 256 MiB", "config.disk_mb"]),
            (TMP, small, ["/tmp of 32 MiB", "write to the workspace"]),
            (WORKSPACE, small, ["the workspace of 256 MiB", "config.disk_mb"]),
            ("/dev/shm", Placement::Memory, ["/dev/shm", "write to the workspace or /tmp"]),
        ] {
            let error = said(full(folder), workspace);
            assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        }
        for (folder, part) in [(TMP, "most of it is in /tmp"), (WORKSPACE, "most of it is in the workspace")]
        {
            let error = said(PhaseEnd { stopped: Some(Stop::DiskLimit), ..full(folder) }, Placement::Memory);
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_program_that_was_not_started_has_the_code_that_a_shell_gives() {
        for (found, code) in [(true, 126), (false, 127)] {
            let outcome = report(ended(Exit::NotStarted { why: "no".into(), found }));
            assert_eq!((outcome.reason, outcome.exit_code), (Reason::Exited, code));
        }
    }

    #[test]
    fn a_failure_before_the_program_has_a_code_too() {
        let failed = |end: End| of_report(&end, &limits(), Placement::Memory);
        let compile = |exit| End { run: None, compile: Some(ended(exit)), ..end(ended(Exit::Code(0))) };
        let outcome = failed(compile(Exit::Code(3)));
        assert_eq!((outcome.reason, outcome.exit_code), (Reason::CompileFailed, 3));
        assert_eq!(failed(compile(Exit::Signal(11))).exit_code, 139);
        let full = End { no_room: Some("full".into()), ..compile(Exit::Code(0)) };
        assert_eq!((failed(full.clone()).reason, failed(full).exit_code), (Reason::DiskLimit, NO_RUN));
    }

    #[test]
    fn a_signal_is_named() {
        let outcome = report(ended(Exit::Signal(11)));
        assert_eq!((outcome.reason, outcome.exit_code), (Reason::Signaled, 139));
        assert!(outcome.error.unwrap().contains("SIGSEGV"));
    }

    #[test]
    fn every_signal_has_a_name_and_its_exit_code() {
        for signal in 1..=64 {
            let outcome = report(ended(Exit::Signal(signal)));
            assert_eq!((outcome.reason, outcome.exit_code), (Reason::Signaled, 128 + signal));
            assert!(!outcome.error.unwrap().contains("unknown"), "{signal}");
        }
        let names =
            [(9, "SIGKILL"), (32, "SIG32"), (34, "SIGRTMIN"), (35, "SIGRTMIN+1"), (64, "SIGRTMIN+30")];
        for (signal, name) in names {
            assert_eq!(signal_name(signal), name);
        }
    }
}
