//! The release binary as an operator starts it: a process of its own, on a free port of the loopback interface.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

use crate::{EXECBOX, Result};

/// What the server has to come up, and to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks whether it is ready.
const READY_POLL: Duration = Duration::from_millis(2);
/// The line of the greeting that the address is read from.
const ROUTE: &str = "/readyz";

pub(crate) struct Server {
    process: Child,
    pid: u32,
    url: String,
    said: String,
    client: reqwest::Client,
    ready_after: Duration,
    data: tempfile::TempDir,
}

impl Server {
    /// Starts it on an empty data folder and waits until it is ready.
    pub(crate) async fn start(flags: &[&str]) -> Result<Self> {
        let data = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let began = Instant::now();
        let mut command = Command::new(EXECBOX);
        command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(data.path()).args(flags);
        let mut process = command.stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true).spawn()?;
        let stderr = process.stderr.take().ok_or("a server without a log")?;
        let (url, said) = tokio::time::timeout(PATIENCE, address(stderr)).await??;
        let pid = process.id().ok_or("the server ended while it started")?;
        let client = reqwest::Client::builder().no_proxy().timeout(10 * PATIENCE).build()?;
        tokio::time::timeout(PATIENCE, ready(&client, &url)).await?;
        Ok(Self { process, pid, url, said, client, ready_after: began.elapsed(), data })
    }

    /// From exec to the first 200 of `/readyz`.
    pub(crate) fn ready_after(&self) -> Duration {
        self.ready_after
    }

    /// Its log before it was ready.
    pub(crate) fn said(&self) -> &str {
        &self.said
    }

    /// Where it listens, without a path.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Its data folder.
    pub(crate) fn data(&self) -> &Path {
        self.data.path()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// The sync hello. Gives the result's timings.
    pub(crate) async fn hello(&self) -> Result<Value> {
        let mut result = self.eval(&json!({"code": "print('hello')"})).await?;
        if result["stdout"] != "hello\n" {
            return Err(format!("no hello: {result}").into());
        }
        Ok(result["timings"].take())
    }

    /// Runs one JSON body.
    pub(crate) async fn eval(&self, body: &Value) -> Result<Value> {
        answer(self.client.post(format!("{}/api/v1/eval", self.url)).json(body)).await
    }

    /// Leaves one JSON body to be run.
    pub(crate) async fn submit(&self, body: &Value) -> Result<Value> {
        answer(self.client.post(format!("{}/api/v1/exec/async", self.url)).json(body)).await
    }

    /// What is known of an execution.
    pub(crate) async fn state(&self, of: &Value) -> Result<Value> {
        let id = of["execution_id"].as_str().ok_or("an execution without an id")?;
        answer(self.client.get(format!("{}/api/v1/executions/{id}", self.url))).await
    }

    /// Forgets an execution.
    pub(crate) async fn purge(&self, result: &Value) -> Result<()> {
        let id = result["execution_id"].as_str().ok_or("a result without an id")?;
        let url = format!("{}/api/v1/executions/{id}?purge=true", self.url);
        answer(self.client.delete(url)).await.map(drop)
    }

    /// Runs an archive that is made while it is sent.
    pub(crate) async fn upload(&self, tar: Part, metadata: &Value) -> Result<Value> {
        let form = Form::new().text("metadata", metadata.to_string()).part("tar", tar);
        answer(self.client.post(format!("{}/api/v1/exec/sync", self.url)).multipart(form)).await
    }

    /// Ends it as an operator does: it drains and removes its containers.
    pub(crate) async fn stop(mut self) -> Result<()> {
        kill(Pid::from_raw(i32::try_from(self.pid)?), Signal::SIGTERM)?;
        let status = tokio::time::timeout(PATIENCE, self.process.wait()).await??;
        if status.success() { Ok(()) } else { Err(format!("the server ended with {status}").into()) }
    }
}

/// Reads the address out of the greeting, and the log before it; the rest of the log is read and dropped, so that the server never waits.
async fn address(stderr: ChildStderr) -> Result<(String, String)> {
    let mut lines = BufReader::new(stderr).lines();
    let mut log = String::new();
    while let Some(line) = lines.next_line().await? {
        if let Some((url, _)) = line.split_once(ROUTE) {
            tokio::spawn(drain(lines));
            return Ok((url.trim().to_owned(), log));
        }
        log = log + &line + "\n";
    }
    Err(format!("the server did not start:\n{log}").into())
}

async fn drain(mut lines: Lines<BufReader<ChildStderr>>) {
    while let Ok(Some(_)) = lines.next_line().await {}
}

async fn ready(client: &reqwest::Client, url: &str) {
    while !client.get(format!("{url}{ROUTE}")).send().await.is_ok_and(|answer| answer.status() == 200) {
        tokio::time::sleep(READY_POLL).await;
    }
}

async fn answer(request: reqwest::RequestBuilder) -> Result<Value> {
    let answer = request.send().await?;
    let (status, body) = (answer.status(), answer.text().await?);
    if !status.is_success() {
        return Err(format!("{status}: {body}").into());
    }
    Ok(serde_json::from_str(&body)?)
}
