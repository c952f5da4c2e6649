//! A real server in a process of its own, on a free port, with a data folder that goes with it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use crate::engine;

/// The binary under test.
pub const EXECBOX: &str = env!("CARGO_BIN_EXE_execbox");
/// A first use may build an image.
const PATIENCE: Duration = Duration::from_secs(600);

pub struct Server {
    process: Child,
    pub url: String,
    pub data: tempfile::TempDir,
    pub client: reqwest::Client,
}

impl Server {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    pub async fn start_with(flags: &[&str]) -> Self {
        Self::start_on(tempfile::tempdir().unwrap(), flags).await
    }

    /// A server on a data folder that an earlier one may have used.
    pub async fn start_on(data: tempfile::TempDir, flags: &[&str]) -> Self {
        Self::start_after(":", data, flags).await
    }

    /// A server whose process has been through this line of shell first, as `ulimit -n 64`.
    pub async fn start_after(shell: &str, data: tempfile::TempDir, flags: &[&str]) -> Self {
        let reuse = tested_reuse().filter(|_| !flags.contains(&"--reuse"));
        let reuse: Vec<_> = reuse.iter().flat_map(|reuse| ["--reuse", reuse]).collect();
        let mut process = Command::new("/bin/sh")
            .args(["-c", &format!("{shell} && exec \"$@\""), "sh", EXECBOX])
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(data.path())
            .args(flags)
            .args(reuse)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (found, url) = mpsc::channel();
        let stderr = BufReader::new(process.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if let Some(end) = line.find("/api/v1/exec/sync ") {
                    found.send(line[..end].trim().to_owned()).ok();
                }
                eprintln!("server: {line}");
            }
        });
        let waited = tokio::task::spawn_blocking(move || url.recv_timeout(Duration::from_secs(60)));
        let url = waited.await.unwrap().expect("the server must come up");
        let client = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
        Self { process, url, data, client }
    }

    pub fn pid(&self) -> nix::unistd::Pid {
        nix::unistd::Pid::from_raw(i32::try_from(self.process.id()).unwrap())
    }

    /// The label of this server's containers.
    pub fn label(&self) -> String {
        let name = std::fs::read_to_string(self.data.path().join("instance")).unwrap();
        format!("execbox.instance={name}")
    }

    fn form(tar: &[u8], metadata: &Value) -> Form {
        Form::new().part("tar", Part::bytes(tar.to_vec())).text("metadata", metadata.to_string())
    }

    /// Runs an archive and gives its result.
    pub async fn sync(&self, tar: &[u8], metadata: &Value) -> Value {
        let url = format!("{}/api/v1/exec/sync", self.url);
        let answer = self.client.post(url).multipart(Self::form(tar, metadata)).send().await.unwrap();
        ok(answer).await
    }

    /// Submits an archive and gives its id.
    pub async fn submit(&self, tar: &[u8], metadata: &Value) -> String {
        let url = format!("{}/api/v1/exec/async", self.url);
        let answer = self.client.post(url).multipart(Self::form(tar, metadata)).send().await.unwrap();
        assert_eq!(answer.status(), 202);
        let body: Value = answer.json().await.unwrap();
        body["execution_id"].as_str().unwrap().to_owned()
    }

    /// Submits one inline program.
    pub async fn submit_code(&self, language: &str, code: &str) -> String {
        let url = format!("{}/api/v1/exec/async", self.url);
        let body = json!({"language": language, "code": code});
        let answer = self.client.post(url).json(&body).send().await.unwrap();
        let body: Value = answer.json().await.unwrap();
        body["execution_id"].as_str().unwrap_or_else(|| panic!("{body}")).to_owned()
    }

    /// Runs one JSON body.
    pub async fn eval(&self, body: &Value) -> Value {
        let url = format!("{}/api/v1/eval", self.url);
        ok(self.client.post(url).json(body).send().await.unwrap()).await
    }

    pub async fn get(&self, id: &str) -> Value {
        ok(self.client.get(format!("{}/api/v1/executions/{id}", self.url)).send().await.unwrap()).await
    }

    /// Waits for the terminal state.
    pub async fn wait(&self, id: &str) -> Value {
        loop {
            let url = format!("{}/api/v1/executions/{id}?wait=30", self.url);
            let state = ok(self.client.get(url).send().await.unwrap()).await;
            if !matches!(state["status"].as_str(), Some("pending" | "running")) {
                return state;
            }
        }
    }

    pub async fn kill(&self, id: &str) -> Value {
        ok(self.client.delete(format!("{}/api/v1/executions/{id}", self.url)).send().await.unwrap()).await
    }

    /// Forgets an execution that has ended.
    pub async fn purge(&self, id: &str) {
        ok(self
            .client
            .delete(format!("{}/api/v1/executions/{id}?purge=true", self.url))
            .send()
            .await
            .unwrap())
        .await;
    }

    /// Waits until the program has written this to stdout.
    pub async fn wrote(&self, id: &str, text: &str) {
        let began = Instant::now();
        while !self.get(id).await["stdout"].as_str().unwrap_or_default().contains(text) {
            assert!(began.elapsed() < PATIENCE, "{text:?} never came");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(self.pid(), signal).unwrap();
    }

    /// Waits for the process to end.
    pub async fn ended(&mut self, within: Duration) -> std::process::ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < within, "the server did not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn get_health(&self) -> Value {
        ok(self.client.get(format!("{}/health", self.url)).send().await.unwrap()).await
    }

    /// Ends the server as an operator does, and asserts that nothing is left.
    pub async fn finish(self) {
        drop(self.finish_for_later().await);
    }

    /// The same with its data folder, for a later server.
    pub async fn finish_for_later(mut self) -> tempfile::TempDir {
        let health = self.get_health().await;
        assert_eq!((&health["queued"], &health["running"]), (&json!(0), &json!(0)), "{health}");
        let label = self.label();
        self.signal(nix::sys::signal::Signal::SIGTERM);
        assert!(self.ended(Duration::from_secs(40)).await.success());
        engine::assert_gone(&label).await;
        let spooled = std::fs::read_dir(self.data.path().join("spool")).unwrap().count();
        assert_eq!(spooled, 0, "uploads are left in the spool");
        std::mem::replace(&mut self.data, tempfile::tempdir().unwrap())
    }

    /// Ends it without a word.
    pub async fn crash(mut self) -> tempfile::TempDir {
        self.signal(nix::sys::signal::Signal::SIGKILL);
        self.ended(Duration::from_secs(5)).await;
        std::mem::replace(&mut self.data, tempfile::tempdir().unwrap())
    }
}

/// The setting under which all tests run that do not name one: `EXECBOX_TESTS_REUSE`.
#[allow(clippy::disallowed_methods, reason = "it is the tests' own, not a setting of the server")]
pub fn tested_reuse() -> Option<String> {
    std::env::var("EXECBOX_TESTS_REUSE").ok()
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.process.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.process.kill().ok();
            self.process.wait().ok();
        }
    }
}

async fn ok(answer: reqwest::Response) -> Value {
    let status = answer.status();
    let text = answer.text().await.unwrap();
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).unwrap()
}
