//! A peer from a registry, in its fastest documented mode: `llm-sandbox` with a pool of containers that are kept and
//! used again, without its set-up of a Python environment. Its containers have no limits and no system call filter of
//! their own, and nothing is emptied between two runs.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::Result;
use crate::contender::Operation;
use crate::engine_cycle::EngineCycle;

/// Where deploy/setup-bench.sh puts it.
const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/bench-peer/bin/python");
const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/speed/peer/hello.py");

/// One interpreter with one session out of a pool of its own, so that no caller waits for another's.
struct Peer {
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Peer {
    fn start(engine: &EngineCycle, image: &str) -> Result<Self> {
        let mut command = Command::new(PYTHON);
        let (label, instance) = engine.label()?;
        command.arg(PROGRAM).args([image, label, &instance]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let spawned = command.spawn();
        let mut process = spawned.map_err(|error| format!("{PYTHON}: {error}; run deploy/setup-bench.sh"))?;
        let input = process.stdin.take();
        let output = BufReader::new(process.stdout.take().ok_or("a peer without an output")?);
        let mut peer = Self { process, input, output };
        // Its container is there.
        peer.line()?;
        Ok(peer)
    }

    fn run(&mut self) -> Result<Duration> {
        self.input.as_mut().ok_or("a peer without an input")?.write_all(b"\n")?;
        Ok(Duration::from_nanos(self.line()?))
    }

    fn line(&mut self) -> Result<u64> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim().parse().map_err(|_| "the peer ended; what it says is above")?)
    }
}

impl Drop for Peer {
    /// It removes its container at the end of its input.
    fn drop(&mut self) {
        drop(self.input.take());
        drop(self.process.wait());
    }
}

pub(crate) fn caller(engine: &EngineCycle, image: &str) -> Result<Operation> {
    let mut peer = Peer::start(engine, image)?;
    Ok(Box::new(move || peer.run()))
}
