//! From what a sandbox reported, or from the lack of it, to how an execution ended.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::execution::entry::Entry;
use crate::execution::results;
use crate::execution::spec::ExecutionSpec;
use crate::execution::state::{Finished, Status};
use crate::limits::MIB;
use crate::runtime::{Diagnosis, INPUT_VARIABLE, Lack, Situation};
use crate::sandbox::{
    NO_RUN, Outcome, Reason, Report, SEE_COMPILER, SandboxError, Timings, Truncated, Usage, signal_name,
};

/// Bytes of output in which an error is looked for.
const MAX_DIAGNOSED: usize = 64 << 10;

pub(super) fn status_of(reason: Reason) -> Status {
    match reason {
        Reason::Exited | Reason::Signaled => Status::Completed,
        Reason::Killed => Status::Killed,
        _ => Status::Failed,
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

pub(super) fn finished(entry: &Entry, spec: &ExecutionSpec, taken: Instant, report: Report) -> Finished {
    let (stdout_cut, stderr_cut) = entry.live.cut();
    let mut truncated = report.truncated;
    truncated.stdout |= stdout_cut;
    truncated.stderr |= stderr_cut;
    let mut notices = spec.notices.clone();
    notices.extend(report.notices);
    let said = failure_output(entry, &report.outcome);
    notices.extend(hints(entry, spec, &report.outcome, said.as_deref()));
    let handed = results::read(&report.result, truncated.results, &mut notices);
    truncated.results = handed.cut;
    let diagnosis = said.as_deref().and_then(|said| diagnosis(spec, &report.outcome, said));
    let outcome = with_full_heap(spec, report.outcome, said.as_deref());
    let outcome = with_compilers_words(entry.live.compiler_wrote(), diagnosis.as_ref(), outcome);
    let queue_us = micros(taken.duration_since(entry.accepted));
    let duration_us = micros(entry.accepted.elapsed());
    Finished {
        diagnosis,
        outcome,
        install: report.install,
        compile: report.compile,
        artifacts: report.artifacts,
        truncated,
        usage: report.usage,
        queue_us,
        duration_us,
        timings: whole(report.timings, duration_us.saturating_sub(queue_us)),
        result: handed.result,
        return_value: handed.return_value,
        results: handed.results,
        notices,
    }
}

/// The sandbox knows its phases; what else has passed, in earlier attempts and between them, is the sandbox's, too.
fn whole(timings: Timings, since_taken_us: u64) -> Timings {
    let phases_us = timings.install_us + timings.compile_us + timings.run_us + timings.collect_us;
    Timings { sandbox_us: since_taken_us.saturating_sub(phases_us), ..timings }
}

/// A program whose language's heap was full is out of memory, too. Code and words must both fit, so that neither a failure
/// nor a text alone is taken for it.
fn with_full_heap(spec: &ExecutionSpec, outcome: Outcome, said: Option<&str>) -> Outcome {
    let (Reason::Exited | Reason::Signaled, exit_code @ 1..) = (outcome.reason, outcome.exit_code) else {
        return outcome;
    };
    if !said.is_some_and(|said| spec.runtime.has_full_heap(exit_code, said)) {
        return outcome;
    }
    let limit = spec.limits.memory_bytes / MIB;
    let error = format!(
        "out of memory: the heap of the language was full, which takes its size from config.memory_mb ({limit} MiB) and \
         config.disk_mb; raise config.memory_mb"
    );
    Outcome { reason: Reason::OutOfMemory, error: Some(error), ..outcome }
}

/// Sentences that help a caller whose program or compiler failed, or whose program did nothing that anybody would notice.
fn hints(entry: &Entry, spec: &ExecutionSpec, outcome: &Outcome, said: Option<&str>) -> Vec<String> {
    let is_silent = || outcome.reason == Reason::Exited && entry.live.is_silent();
    if outcome.reason == Reason::Signaled || said.is_none() && !is_silent() {
        return Vec::new();
    }
    let has_names = spec.command.env.iter().any(|(name, _)| name == INPUT_VARIABLE);
    let lacks: Vec<_> = [
        (Lack::Stdin, spec.stdin.is_empty()),
        (Lack::Script, !has_names),
        (Lack::Packages, spec.dependencies.is_none()),
    ]
    .into_iter()
    .filter_map(|(lack, is_lacking)| is_lacking.then_some(lack))
    .collect();
    spec.runtime.hints(&Situation { said, lacks: &lacks, beside: &spec.beside })
}

/// Adds what the compiler said to the error of a project that did not compile, and names the stream that has the rest.
/// `wrote`: whether there is something on its stdout and on its stderr.
fn with_compilers_words(wrote: (bool, bool), told: Option<&Diagnosis>, outcome: Outcome) -> Outcome {
    let Outcome { reason: Reason::CompileFailed, error: Some(error), .. } = &outcome else { return outcome };
    let Some(what) = error.strip_suffix(&format!("; {SEE_COMPILER}")) else { return outcome };
    let said = told.and_then(|told| told.message.as_deref());
    let said = said.map_or(String::new(), |said| format!(": {said}"));
    let see = match wrote {
        (_, true) => format!("; {SEE_COMPILER}"),
        (true, false) => "; see compile.stdout".to_owned(),
        (false, false) => String::new(),
    };
    Outcome { error: Some(format!("{what}{said}{see}")), ..outcome }
}

/// Output that tells of a failure: the beginning of the compiler's, or the end of the program's standard error. `None` for a
/// program that succeeded, and for executions that something else ended.
fn failure_output(entry: &Entry, outcome: &Outcome) -> Option<String> {
    match outcome.reason {
        Reason::CompileFailed => Some(entry.live.compiler_said(MAX_DIAGNOSED)),
        Reason::Exited if outcome.exit_code == 0 => None,
        Reason::Exited | Reason::Signaled => Some(entry.live.program_said(MAX_DIAGNOSED)),
        _ => None,
    }
}

/// Type, place and message of the error that a failure's output tells.
fn diagnosis(spec: &ExecutionSpec, outcome: &Outcome, said: &str) -> Option<Diagnosis> {
    let mut told = spec.runtime.diagnose(said).unwrap_or_default();
    if outcome.reason == Reason::Signaled && told.kind.is_none() {
        told.kind = Some(signal_name(outcome.exit_code - 128).into_owned());
    }
    (told != Diagnosis::default()).then_some(told)
}

pub(super) fn internal(entry: &Entry, taken: Instant, error: &SandboxError) -> Finished {
    let message = match error {
        SandboxError::Image(error) => error.message.clone(),
        // The details are in the log, with the execution's id.
        _ => "the server failed to run it; nothing is wrong with the program".into(),
    };
    let queue_us = micros(taken.duration_since(entry.accepted));
    no_run(Reason::Internal, message, queue_us, micros(entry.accepted.elapsed()), Vec::new())
}

/// The result of an execution that ended while it waited.
pub(super) fn never_ran(entry: &Entry, reason: Reason, why: &str) -> Finished {
    let waited = micros(entry.accepted.elapsed());
    no_run(reason, why.to_owned(), waited, waited, Vec::new())
}

/// A result in which nothing ran.
pub(super) fn no_run(
    reason: Reason,
    error: String,
    queue_us: u64,
    duration_us: u64,
    notices: Vec<String>,
) -> Finished {
    Finished {
        outcome: Outcome { reason, exit_code: NO_RUN, error: Some(error) },
        install: None,
        compile: None,
        artifacts: Vec::new(),
        truncated: Truncated::default(),
        usage: Usage::default(),
        queue_us,
        duration_us,
        timings: Timings::default(),
        result: None,
        return_value: None,
        results: BTreeMap::new(),
        diagnosis: None,
        notices,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_of_a_compiler_names_the_stream_that_has_it() {
        let error = |reason, text: &str, wrote, message: Option<&str>| {
            let told = Diagnosis { message: message.map(str::to_owned), ..Diagnosis::default() };
            let outcome = Outcome { reason, exit_code: 1, error: Some(text.to_owned()) };
            with_compilers_words(wrote, Some(&told), outcome).error.unwrap()
        };
        let plain = format!("it did not compile; {SEE_COMPILER}");
        for (wrote, message, expected) in [
            ((false, true), None, "it did not compile; see compile.stderr"),
            ((true, true), None, "it did not compile; see compile.stderr"),
            ((true, false), None, "it did not compile; see compile.stdout"),
            ((false, false), None, "it did not compile"),
            ((false, true), Some("no main"), "it did not compile: no main; see compile.stderr"),
        ] {
            assert_eq!(error(Reason::CompileFailed, &plain, wrote, message), expected);
        }
        assert_eq!(error(Reason::CompileFailed, "killed", (false, true), Some("x")), "killed");
        assert_eq!(error(Reason::Exited, &plain, (true, false), Some("x")), plain);
    }
}
