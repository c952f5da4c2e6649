//! From a conversation with a runner to the report that the execution service reads.

use std::time::Duration;

use tokio::time::Instant;

use crate::runner::message::{End, Phase};
use crate::sandbox::docker::engine::ContainerUsage;
use crate::sandbox::docker::session::Conversation;
use crate::sandbox::docker::verdict;
use crate::sandbox::{CompileReport, InstallReport, NO_RUN, Outcome, Report, Timings, Truncated, Usage};

/// Notice for a program whose files were not collected.
const NOT_COLLECTED: &str =
    "no artifacts were collected: the sandbox did not stop the program in time and was killed";

/// Cancelled while its sandbox was being made: no program ran.
pub(super) fn killed_before_start() -> Report {
    Report {
        outcome: Outcome { exit_code: NO_RUN, ..verdict::killed() },
        install: None,
        compile: None,
        artifacts: Vec::new(),
        truncated: Truncated::default(),
        usage: Usage::default(),
        timings: Timings::default(),
        result: Vec::new(),
        notices: Vec::new(),
    }
}

/// Its packages could not be installed: no program ran.
pub(super) fn not_installed(outcome: Outcome, install: InstallReport, began: Instant) -> Report {
    with_install(Report { outcome, ..killed_before_start() }, Some(install), began.elapsed())
}

/// The same after a wait for packages.
pub(super) fn with_install(report: Report, install: Option<InstallReport>, waited: Duration) -> Report {
    let install_us = if install.is_some() { micros(waited) } else { 0 };
    Report { install, timings: Timings { install_us, ..report.timings }, ..report }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A report without the runner's word on it.
pub(super) fn bare(outcome: Outcome, began: Instant, conversation: &Conversation) -> Report {
    let started = conversation.phases.first().map_or_else(Instant::now, |(_, started)| *started);
    let wall_us = micros(started.elapsed());
    Report {
        outcome,
        install: None,
        compile: None,
        artifacts: conversation.artifacts.clone(),
        truncated: Truncated { results: conversation.result_cut, ..Truncated::default() },
        usage: Usage { wall_us, ..Usage::default() },
        timings: Timings {
            sandbox_us: micros(started.duration_since(began)),
            run_us: wall_us,
            ..Timings::default()
        },
        result: conversation.result.clone(),
        notices: conversation.notices.clone(),
    }
}

/// A report of the server's own, for a runner that was late. The server has seen each phase begin, and knows from the Engine
/// what the container has used.
pub(super) fn late(
    outcome: Outcome,
    began: Instant,
    conversation: &Conversation,
    used: ContainerUsage,
) -> Report {
    let now = Instant::now();
    let bare = bare(outcome, began, conversation);
    let started = |wanted: Phase| {
        conversation.phases.iter().find(|(phase, _)| *phase == wanted).map(|(_, started)| *started)
    };
    let (compiling, running) = (started(Phase::Compile), started(Phase::Run));
    let compile_us = compiling.map_or(0, |at| micros(running.unwrap_or(now).duration_since(at)));
    let run_us = running.map_or(0, |at| micros(now.duration_since(at)));
    let mut notices = bare.notices.clone();
    notices.extend(running.map(|_| NOT_COLLECTED.to_owned()));
    Report {
        // The program starts only after a compiler that succeeded.
        compile: running.and(compiling).map(|_| CompileReport { exit_code: 0, duration_us: compile_us }),
        truncated: Truncated { artifacts: running.is_some(), ..bare.truncated },
        usage: Usage {
            wall_us: run_us,
            cpu_us: running
                .map_or(0, |_| used.cpu_us.saturating_sub(conversation.cpu_before_us.unwrap_or(0))),
            memory_peak_bytes: used.memory_peak_bytes,
            ..Usage::default()
        },
        timings: Timings { compile_us, run_us, ..bare.timings },
        notices,
        ..bare
    }
}

pub(super) fn of_end(end: &End, outcome: Outcome, began: Instant, conversation: &Conversation) -> Report {
    let run = end.run.as_ref();
    let compile = end.compile.as_ref().map(|compile| CompileReport {
        exit_code: verdict::exit_code(&compile.exit),
        duration_us: compile.wall_us,
    });
    let bare = bare(outcome, began, conversation);
    let phases_us = run.map_or(0, |run| run.wall_us) + compile.map_or(0, |compile| compile.duration_us);
    Report {
        compile,
        truncated: Truncated {
            stdout: run.is_some_and(|run| run.stdout_truncated),
            stderr: run.is_some_and(|run| run.stderr_truncated),
            artifacts: end.artifacts_truncated,
            // The compiler's share of the channel, too.
            results: run.into_iter().chain(&end.compile).any(|phase| phase.results_truncated)
                || bare.truncated.results,
        },
        usage: Usage {
            wall_us: run.map_or(0, |run| run.wall_us),
            cpu_us: run.map_or(0, |run| run.cpu_us),
            memory_peak_bytes: end.memory_peak_bytes,
            oom_kills: verdict::oom_kills(end),
        },
        timings: Timings {
            compile_us: compile.map_or(0, |compile| compile.duration_us),
            run_us: run.map_or(0, |run| run.wall_us),
            // The runner's own clock, and the way of its word: bare's is all since the first phase began.
            collect_us: bare.timings.run_us.saturating_sub(phases_us),
            ..bare.timings
        },
        ..bare
    }
}
