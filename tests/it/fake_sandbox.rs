//! A sandbox without containers: each execution does what its `fake` label says, so that a test can ask for every
//! outcome and every failure. Without the label it prints its own spec as JSON.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use execbox::execution::spec::{ExecutionSpec, Stdin};
use execbox::runner::message::Phase;
use execbox::sandbox::{
    Artifact, BoxFuture, CompileReport, Events, ImageError, InstallReport, Job, Outcome, Reason, Report,
    Sandbox, SandboxError, Timings, Truncated, Usage, WantedImages,
};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

/// What `fake: artifacts` leaves.
pub(crate) const ARTIFACTS: &[(&str, &[u8])] = &[
    ("plot.png", b"\x89PNG not really"),
    ("out/b\u{e4}r \"x\".html", b"<script>alert(1)</script>"),
    ("out/100%.txt", b"percent"),
    ("empty", b""),
];

/// Size of what `fake: large_artifact` leaves.
const LARGE: usize = 4 << 20;

/// Length of what `fake: large_result` hands back.
pub(crate) const LARGE_RESULT: usize = 1_000 << 10;

/// Text of a failure that must never reach a caller.
pub(crate) const SECRET: &str = "/var/lib/docker/containers/0123456789ab";

#[derive(Default)]
pub(crate) struct FakeSandbox {
    away: AtomicBool,
    /// No image but Python's is there, and none becomes ready.
    building: AtomicBool,
    /// How often each execution was tried.
    attempts: Mutex<BTreeMap<String, u32>>,
}

impl FakeSandbox {
    /// The engine goes away, or comes back.
    pub(crate) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    /// Builds begin, or end.
    pub(crate) fn set_building(&self, building: bool) {
        self.building.store(building, Ordering::SeqCst);
    }

    /// Of the images only Python's is there from the first.
    fn has(&self, wanted: WantedImages<'_>) -> bool {
        wanted.runtime.name == "python" && wanted.own.is_none() && !wanted.installer
    }

    pub(crate) fn jobs(&self) -> usize {
        self.attempts.lock().unwrap().len()
    }

    /// The present try included.
    fn tries(&self, job: &Job) -> u32 {
        self.attempts.lock().unwrap()[&job.id.to_string()]
    }

    async fn act(
        &self,
        job: Job,
        events: &dyn Events,
        cancel: CancellationToken,
    ) -> Result<Report, SandboxError> {
        *self.attempts.lock().unwrap().entry(job.id.to_string()).or_default() += 1;
        if cancel.is_cancelled() {
            return Ok(killed());
        }
        let spec = &job.spec;
        let wanted = WantedImages { runtime: &spec.runtime, own: spec.image.as_deref(), installer: false };
        tokio::select! {
            () = cancel.cancelled() => return Ok(killed()),
            made = self.ensure_images(wanted, &|_| ()) => made?,
        }
        let script = job.spec.labels.get("fake").cloned().unwrap_or_default();
        let (verb, argument) = script.split_once(' ').unwrap_or((&script, ""));
        let number = argument.parse::<i32>().unwrap_or(0);
        if !matches!(verb, "compile_error" | "install_error" | "image") {
            events.phase(Phase::Run);
        }
        match verb {
            "" => {
                events.stdout(Bytes::from(describe(&job.spec).to_string()));
                Ok(report(Reason::Exited, 0))
            }
            "exit" => {
                events.stdout(Bytes::from_static(b"out\n"));
                events.stderr(Bytes::from_static(b"err\n"));
                Ok(report(Reason::Exited, number))
            }
            "sleep" => {
                let time = Duration::from_millis(u64::try_from(number).unwrap());
                tokio::select! {
                    () = tokio::time::sleep(time) => Ok(report(Reason::Exited, 0)),
                    () = cancel.cancelled() => Ok(killed()),
                }
            }
            "hang" => {
                events.stdout(Bytes::from_static(b"so far\n"));
                cancel.cancelled().await;
                Ok(killed())
            }
            "print" => {
                print_mebibytes(number, events);
                Ok(report(Reason::Exited, 0))
            }
            "print_and_hang" => {
                print_mebibytes(number, events);
                cancel.cancelled().await;
                Ok(killed())
            }
            "transient" if job.attempt <= number.unsigned_abs() => {
                events.stdout(Bytes::from_static(b"half"));
                Err(SandboxError::Lost(SECRET.into()))
            }
            "away" if self.tries(&job) <= number.unsigned_abs() => Err(SandboxError::Away(SECRET.into())),
            "away" => Ok(report(Reason::Exited, 0)),
            "transient" => Ok(report(Reason::Exited, 0)),
            "broken" => Err(SandboxError::Engine(SECRET.into())),
            "image" => Err(SandboxError::Image(ImageError {
                message: "the image of python could not be made".into(),
                details: Some(SECRET.into()),
            })),
            "panic" => panic!("the fake sandbox was told to"),
            "artifacts" => leave_artifacts(
                &job,
                &with_large(number, &vec![b'l'; 1_024 * usize::try_from(number).unwrap_or(0)]),
            ),
            "many_artifacts" => leave_many(&job, number),
            "large_artifact" => leave_artifacts(&job, &[("large", &vec![7; LARGE])]),
            other => Ok(outcome(other, events)),
        }
    }
}

/// Outcomes that are told at once.
fn outcome(verb: &str, events: &dyn Events) -> Report {
    match verb {
        "signal" => report(Reason::Signaled, 128 + 11),
        "oom" => failed(Reason::OutOfMemory, "it used more than 512 MiB; raise config.memory_mb"),
        "timeout" => {
            events.stdout(Bytes::from_static(b"before the end\n"));
            failed(Reason::TimedOut, "it ran for more than 300 s; raise config.timeout_seconds")
        }
        "flood" => {
            (0..48).for_each(|_| events.stdout(Bytes::from(vec![b'x'; 64 << 10])));
            failed(Reason::OutputLimit, "it wrote too much")
        }
        "disk" => failed(Reason::DiskLimit, "it filled 256 MiB; raise config.disk_mb"),
        "binary" => {
            events.stdout(Bytes::from_static(b"\xff\x00\x1b[2J"));
            report(Reason::Exited, 0)
        }
        "results" => {
            let lines = b"{\"save\": {\"key\": \"k\", \"value\": {\"b\": 1.50, \"a\": null}}}\nno json\n{\"return_value\": [1]}\n{\"sa";
            let truncated = Truncated { results: true, ..Truncated::default() };
            Report { result: lines.to_vec(), truncated, ..report(Reason::Exited, 0) }
        }
        "large_result" => {
            let line =
                format!("{{\"save\": {{\"key\": \"k\", \"value\": \"{}\"}}}}\n", "x".repeat(LARGE_RESULT));
            Report { result: line.into_bytes(), ..report(Reason::Exited, 0) }
        }
        "value" => Report { result: br#"{"result": "42"}"#.to_vec(), ..report(Reason::Exited, 0) },
        "compile_error" => {
            events.phase(Phase::Compile);
            events.stderr(Bytes::from_static(b"main.c:1: error\n"));
            let compile = Some(CompileReport { exit_code: 1, duration_us: 2_600 });
            Report { compile, ..report(Reason::CompileFailed, 1) }
        }
        "install_error" => {
            let log = "ERROR: No matching distribution\n".to_owned();
            let install = Some(InstallReport { log, exit_code: Some(1), duration_us: 2_900 });
            let timings = Timings { install_us: 3_500, ..Timings::default() };
            let outcome = Outcome { exit_code: 1, ..failed(Reason::InstallFailed, "no packages").outcome };
            Report { outcome, install, timings, ..report(Reason::InstallFailed, 1) }
        }
        other => panic!("no fake behaviour {other:?}"),
    }
}

fn report(reason: Reason, exit_code: i32) -> Report {
    Report {
        outcome: Outcome { reason, exit_code, error: None },
        install: None,
        compile: None,
        artifacts: Vec::new(),
        truncated: Truncated::default(),
        usage: Usage { wall_us: 12_400, cpu_us: 11_000, memory_peak_bytes: Some(9_437_184), oom_kills: 1 },
        timings: Timings { install_us: 0, sandbox_us: 1_000, compile_us: 0, run_us: 12_400, collect_us: 0 },
        result: Vec::new(),
        notices: Vec::new(),
    }
}

fn failed(reason: Reason, error: &str) -> Report {
    let outcome = Outcome { reason, exit_code: 137, error: Some(error.into()) };
    Report { outcome, ..report(reason, 137) }
}

fn killed() -> Report {
    failed(Reason::Killed, "it was killed on request")
}

fn print_mebibytes(count: i32, events: &dyn Events) {
    (0..count * 16).for_each(|_| events.stdout(Bytes::from(vec![b'x'; 64 << 10])));
}

/// This many files of 64 KiB, no two alike.
fn leave_many(job: &Job, count: i32) -> Result<Report, SandboxError> {
    let files: Vec<_> =
        (0..count).map(|number| (number.to_string(), number.to_be_bytes().repeat(16 << 10))).collect();
    let files: Vec<_> = files.iter().map(|(path, content)| (path.as_str(), content.as_slice())).collect();
    leave_artifacts(job, &files)
}

/// What [`ARTIFACTS`] has, and one more when it has any KiB.
fn with_large(kib: i32, large: &[u8]) -> Vec<(&str, &[u8])> {
    let more = [("large.bin", large)].into_iter().filter(|_| kib > 0);
    ARTIFACTS.iter().copied().chain(more).collect()
}

fn leave_artifacts(job: &Job, files: &[(&str, &[u8])]) -> Result<Report, SandboxError> {
    let mut artifacts = Vec::new();
    for (index, (path, content)) in files.iter().enumerate() {
        std::fs::create_dir_all(&job.artifact_dir).unwrap();
        let file = job.artifact_dir.join(index.to_string());
        std::fs::write(&file, content)?;
        let sha256 = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
        artifacts.push(Artifact { path: (*path).to_owned(), size: content.len() as u64, sha256, file });
    }
    Ok(Report { artifacts, ..report(Reason::Exited, 0) })
}

/// Everything that came through the door.
fn describe(spec: &ExecutionSpec) -> serde_json::Value {
    let stdin = match (&spec.stdin, spec.stdin.file()) {
        (Stdin::Bytes(bytes), _) => bytes.to_vec(),
        (_, Some(path)) => std::fs::read(path).unwrap(),
        _ => panic!("HTTP has no live input yet"),
    };
    let mut files = BTreeMap::new();
    let note = |path: &str, size: u64| {
        if !path.starts_with(".execbox/") {
            files.insert(path.to_owned(), size);
        }
        None
    };
    spec.project.each_file(note, |_, _| ControlFlow::Continue(())).unwrap();
    json!({
        "language": spec.runtime.name,
        "argv": spec.command.run,
        "env": spec.command.env,
        "stdin": String::from_utf8_lossy(&stdin),
        "files": files,
        "limits": spec.limits,
        "artifacts": spec.artifacts,
        "dependencies": spec.dependencies,
        "image": spec.image,
    })
}

impl Sandbox for FakeSandbox {
    fn run<'a>(
        &'a self,
        job: Job,
        events: &'a dyn Events,
        cancel: CancellationToken,
    ) -> BoxFuture<'a, Result<Report, SandboxError>> {
        Box::pin(self.act(job, events, cancel))
    }

    fn ready(&self) -> BoxFuture<'_, Result<(), SandboxError>> {
        let away = self.away.load(Ordering::SeqCst);
        Box::pin(async move { if away { Err(SandboxError::Engine(SECRET.into())) } else { Ok(()) } })
    }

    fn until_ready(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            while self.away.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
    }

    fn images_ready<'a>(&'a self, wanted: WantedImages<'a>) -> BoxFuture<'a, bool> {
        Box::pin(async move { self.has(wanted) })
    }

    fn ensure_images<'a>(
        &'a self,
        wanted: WantedImages<'a>,
        progress: &'a (dyn Fn(&str) + Send + Sync),
    ) -> BoxFuture<'a, Result<(), SandboxError>> {
        Box::pin(async move {
            while !self.has(wanted) && self.building.load(Ordering::SeqCst) {
                progress("building");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Ok(())
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}
