//! The runner: PID 1 inside each container, started from the same binary, and the frames it speaks with the server.
//!
//! The runner trusts the server and treats the program it starts as hostile. The server treats what the runner
//! sends as hostile too, and checks it again. One thread, no async: it waits in `poll`.

mod artifacts;
mod disk_limit;
mod disk_use;
mod disk_watch;
mod emptiness;
pub mod frame;
mod incoming;
mod last_words;
mod link;
mod machine_files;
mod memory_watch;
pub mod message;
mod phase;
pub mod probe;
mod program;
mod room;
mod stdin;
mod sys;
mod usage;
mod user;
mod workspace;

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write as _;
use std::process::ExitCode;

use frame::Kind;
use link::{Link, LinkError};
use memory_watch::MemoryWatch;
use message::{End, Exit, Phase, PhaseEnd, Start};
use phase::Conditions;
use room::Furnished;
use workspace::Workspace;

pub(crate) use sys::bound_heaps;

/// First argument by which the binary knows that it is the runner.
pub const ARGUMENT: &str = "__runner";
/// The workspace, the program's working folder.
pub const WORKSPACE: &str = "/work";
/// The folder for temporary files.
pub const TMP: &str = "/tmp";
/// File systems with budgets of their own: their files are not the program's memory.
const FILE_SYSTEMS: [&str; 3] = [WORKSPACE, TMP, "/dev/shm"];
/// Folder for compile output, inside the workspace: never an artifact, and no project may bring it.
pub const BUILD_FOLDER: &str = ".execbox";

/// Serves one execution and ends. With the description of rooms ([`message::RoomSpec`], JSON), one after the other.
#[must_use]
pub fn main(rooms: Option<&OsStr>) -> ExitCode {
    let ended = match rooms {
        None => sys::hide().map_err(LinkError::from).and_then(|()| serve(None)),
        Some(spec) => room::serve(spec),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            sys::kill_all();
            // The server reads our standard error for its log. When it is gone, so is the reader.
            let _ = writeln!(std::io::stderr(), "runner: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One execution, as the first process of a container or of a room in it.
fn serve(room: Option<&Furnished<'_>>) -> Result<(), LinkError> {
    let signals = sys::child_signals()?;
    let mut link = Link::new()?;
    link.send(Kind::Hello, &[])?;
    let start: Start = link.receive(|frame| match frame.kind {
        Kind::Start => Ok(serde_json::from_slice(frame.payload)?),
        other => Err(LinkError::OutOfTurn(other)),
    })?;
    link.queue(Kind::Accepted, &[])?;
    if let Some(room) = room {
        room.close(&start)?;
    }
    let mut end = End {
        nonce: start.nonce.clone(),
        no_room: None,
        compile: None,
        run: None,
        memory_peak_bytes: None,
        memory_peak_hides: false,
        artifacts_truncated: false,
    };
    let workspace = Workspace::open(WORKSPACE, start.watch.is_some(), start.shared)?;
    end.no_room = workspace.receive(&mut link)?;
    if end.no_room.is_none() {
        let tmp = File::open(TMP)?;
        let conditions = Conditions { start: &start, workspace: &workspace, tmp: &tmp, signals: &signals };
        let mut memory = MemoryWatch::new(start.memory_bytes, &FILE_SYSTEMS)?;
        phases(&conditions, &mut memory, &mut link, &mut end)?;
        end.memory_peak_bytes = memory.peak();
        end.memory_peak_hides = memory.is_blind();
    }
    link.queue_message(Kind::End, &end)?;
    link.flush()?;
    if room.is_some() { settle(&mut link) } else { Ok(()) }
}

/// Reads what was still under way for an execution that has ended.
fn settle(link: &mut Link) -> Result<(), LinkError> {
    loop {
        let settled = link.receive(|frame| match frame.kind {
            Kind::Settle => Ok(true),
            Kind::Stdin | Kind::StdinEnd | Kind::Kill => Ok(false),
            other => Err(LinkError::OutOfTurn(other)),
        })?;
        if settled {
            return Ok(());
        }
    }
}

/// Compiles where that is asked for, runs, and sends what is left.
fn phases(
    conditions: &Conditions<'_>,
    memory: &mut MemoryWatch,
    link: &mut Link,
    end: &mut End,
) -> Result<(), LinkError> {
    let (start, workspace) = (conditions.start, conditions.workspace);
    if let Some(compile) = &start.compile {
        let ended = phase::run(conditions, Phase::Compile, compile, memory, link)?;
        let compiled = succeeded(&ended);
        end.compile = Some(ended);
        if !compiled {
            return Ok(());
        }
    }
    let before = artifacts::snapshot(workspace, &start.artifacts);
    let run = phase::run(conditions, Phase::Run, &start.run, memory, link)?;
    let stopped = run.stopped;
    end.run = Some(run);
    // Somebody who asked for a kill waits for the answer, not for files.
    if stopped != Some(message::Stop::Killed) {
        link.queue_message(Kind::Phase, &message::PhaseStart { phase: Phase::Collect, cpu_before_us: None })?;
        // The server's clock for the run stops with it; looking through few files takes less than sending it does.
        if !workspace.has_few_entries() {
            link.flush()?;
        }
        end.artifacts_truncated = artifacts::send(workspace, &start.artifacts, &before, link)?;
    }
    Ok(())
}

fn succeeded(ended: &PhaseEnd) -> bool {
    ended.exit == Exit::Code(0) && ended.stopped.is_none()
}
