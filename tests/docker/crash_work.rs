//! Work for servers that are about to die: what is asked of them, what they have acknowledged, and what that promises.

use std::time::{Duration, Instant};

use bollard::query_parameters::KillContainerOptionsBuilder;
use serde_json::{Value, json};

use crate::engine;

/// A server is asked for no longer than this; it may be dead.
const PATIENCE: Duration = Duration::from_secs(60);

/// Ways to use a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Async, small.
    Inline,
    /// Async, with a project that is a file beside its record.
    Large,
    /// Async, with artifacts.
    Artifacts,
    /// Async, with an output that is a file beside its record.
    Output,
    /// Async, killed while it waits behind others.
    Killed,
    /// Async, under an Idempotency-Key.
    Keyed,
    /// Sync, under an Idempotency-Key.
    Sync,
    /// Async, purged once it has ended.
    Purged,
    /// Async, running when the server is shut down.
    Drained,
    /// Async; its container is killed from outside.
    Lost,
    /// Async; its container is paused from outside, then it is killed.
    Paused,
    /// Async, in an image that has to be built.
    Built,
    /// Async, in a container that waited and whose limits are changed for it.
    Resized,
    /// Async, with a workspace on the Engine's disk.
    OnDisk,
    /// Async, with something to be installed first.
    Installed,
}

impl Kind {
    pub const ALL: [Self; 15] = [
        Self::Inline,
        Self::Large,
        Self::Artifacts,
        Self::Output,
        Self::Killed,
        Self::Keyed,
        Self::Sync,
        Self::Purged,
        Self::Drained,
        Self::Lost,
        Self::Paused,
        Self::Built,
        Self::Resized,
        Self::OnDisk,
        Self::Installed,
    ];
    /// Those that need nothing but a server.
    pub const PLAIN: [Self; 8] = [
        Self::Inline,
        Self::Large,
        Self::Artifacts,
        Self::Output,
        Self::Killed,
        Self::Keyed,
        Self::Sync,
        Self::Purged,
    ];
}

/// How far a purge got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purge {
    Not,
    Asked,
    Answered,
}

/// One piece of work.
#[derive(Debug, Clone)]
pub struct Work {
    pub kind: Kind,
    pub number: usize,
    /// Acknowledged under this id.
    pub id: Option<String>,
    /// Its end, when that was answered.
    pub answered: Option<Value>,
    /// A kill was asked for.
    pub kill_asked: bool,
    /// What the kill was answered with.
    pub killed: Option<String>,
    pub purge: Purge,
    /// What was read after a crash.
    pub seen: Option<Value>,
}

/// The connection broke, as when a server dies; says how.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Broken(String);

impl From<reqwest::Error> for Broken {
    fn from(error: reqwest::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<bollard::errors::Error> for Broken {
    fn from(error: bollard::errors::Error) -> Self {
        Self(error.to_string())
    }
}

/// Where a server is.
#[derive(Debug, Clone)]
pub struct Address {
    pub url: String,
    pub label: String,
    pub pid: nix::unistd::Pid,
}

impl Work {
    pub fn new(kind: Kind, number: usize) -> Self {
        Self {
            kind,
            number,
            id: None,
            answered: None,
            kill_asked: false,
            killed: None,
            purge: Purge::Not,
            seen: None,
        }
    }

    /// The word by which the database tells it.
    pub fn word(&self) -> String {
        format!("{:?}-{}", self.kind, self.number)
    }

    fn has_key(&self) -> bool {
        matches!(self.kind, Kind::Keyed | Kind::Sync)
    }

    /// The project that a large one brings.
    fn large(&self) -> String {
        format!("{:08}", self.number).repeat(16_000)
    }

    fn code(&self) -> String {
        let number = self.number;
        match self.kind {
            Kind::Inline | Kind::Keyed | Kind::Sync | Kind::Killed | Kind::Built | Kind::Resized => {
                format!("echo {number}")
            }
            Kind::Large => "sha256sum < large.txt".into(),
            Kind::Artifacts => {
                format!("echo {number} > small.txt; seq {number} 20000 > big.txt; echo {number}")
            }
            Kind::OnDisk => format!("echo {number} > small.txt; echo {number}"),
            Kind::Installed => "cat /deps/number".into(),
            Kind::Output => format!("seq {number} 20000"),
            Kind::Purged => format!("seq {number} 20000; seq {number} 20001 > big.txt"),
            Kind::Drained | Kind::Paused => format!("echo up; sleep 2; echo {number}"),
            Kind::Lost => format!("echo up; sleep 1; echo {number}"),
        }
    }

    fn body(&self) -> Value {
        let labels = json!({"work": self.word()});
        match self.kind {
            Kind::Large => {
                let files = json!([
                    {"name": "main.sh", "content": self.code()},
                    {"name": "large.txt", "content": self.large()},
                ]);
                json!({"language": "bash", "files": files, "labels": labels})
            }
            Kind::Built => {
                let files = json!([{"name": "main.crash", "content": self.code()}]);
                json!({"language": "crash", "files": files, "labels": labels})
            }
            Kind::Resized => {
                json!({"language": "bash", "code": self.code(), "labels": labels, "config": {"memory_mb": 300}})
            }
            // By which its container is found.
            Kind::Lost | Kind::Paused => {
                json!({"language": "bash", "code": self.code(), "labels": labels, "script_args": [self.word()]})
            }
            Kind::OnDisk => {
                let config = json!({"disk_mb": 2_000});
                json!({"language": "bash", "code": self.code(), "labels": labels, "config": config})
            }
            Kind::Installed => {
                let commands = [format!("echo {} > number", self.number)];
                json!({"language": "bash", "code": self.code(), "labels": labels, "pre_commands": commands})
            }
            _ => json!({"language": "bash", "code": self.code(), "labels": labels}),
        }
    }

    /// Standard output of a whole run.
    pub fn stdout(&self) -> String {
        let number = self.number;
        match self.kind {
            Kind::Large => format!("{}  -\n", execbox::store::ContentHash::of(self.large().as_bytes())),
            Kind::Output | Kind::Purged => lines(number, 20_000),
            Kind::Drained | Kind::Paused | Kind::Lost => format!("up\n{number}\n"),
            _ => format!("{number}\n"),
        }
    }

    /// Artifacts of a whole run.
    pub fn artifacts(&self) -> Vec<(&'static str, String)> {
        match self.kind {
            Kind::Artifacts => {
                vec![("small.txt", format!("{}\n", self.number)), ("big.txt", lines(self.number, 20_000))]
            }
            Kind::Purged => vec![("big.txt", lines(self.number, 20_001))],
            Kind::OnDisk => vec![("small.txt", format!("{}\n", self.number))],
            _ => Vec::new(),
        }
    }

    /// Sends it; again, under its key, where it has one.
    pub async fn send(&mut self, client: &reqwest::Client, server: &Address) -> Result<(), Broken> {
        let route = if self.kind == Kind::Sync { "sync" } else { "async" };
        let mut request = client.post(format!("{}/api/v1/exec/{route}", server.url)).json(&self.body());
        if self.has_key() {
            request = request.header("idempotency-key", self.word());
        }
        let answer = request.timeout(PATIENCE).send().await?;
        let status = answer.status().as_u16();
        let body: Value = answer.json().await?;
        match status {
            200 | 202 => {}
            // It is being shut down.
            503 => return Err(Broken(body.to_string())),
            _ => panic!("{}: {status}: {body:#}", self.word()),
        }
        let id = body["execution_id"].as_str().unwrap().to_owned();
        if let Some(before) = &self.id {
            assert_eq!(*before, id, "{}: doubled under its key", self.word());
        }
        self.id = Some(id);
        if status == 200 {
            self.answered = Some(body);
        }
        Ok(())
    }

    fn url(&self, server: &Address) -> String {
        format!("{}/api/v1/executions/{}", server.url, self.id.as_deref().unwrap_or_default())
    }

    /// Waits for its end; `None` when it is not known.
    pub async fn wait(&self, client: &reqwest::Client, server: &Address) -> Result<Option<Value>, Broken> {
        let began = Instant::now();
        loop {
            let url = format!("{}?wait=30", self.url(server));
            let answer = client.get(url).timeout(PATIENCE).send().await?;
            if answer.status() == 404 {
                return Ok(None);
            }
            let (status, result) = (answer.status(), answer.json::<Value>().await?);
            assert_eq!(status, 200, "{}: {result:#}", self.word());
            if !matches!(result["status"].as_str(), Some("pending" | "running")) {
                return Ok(Some(result));
            }
            assert!(began.elapsed() < PATIENCE, "{} does not end: {result:#}", self.word());
        }
    }

    pub async fn artifact(
        &self,
        client: &reqwest::Client,
        server: &Address,
        name: &str,
    ) -> Result<String, Broken> {
        let url = format!("{}/artifacts/{name}", self.url(server));
        Ok(client.get(url).timeout(PATIENCE).send().await?.text().await?)
    }

    async fn kill(&mut self, client: &reqwest::Client, server: &Address) -> Result<(), Broken> {
        self.kill_asked = true;
        let answer = client.delete(self.url(server)).timeout(PATIENCE).send().await?;
        if answer.status() != 200 {
            return Err(Broken(answer.status().to_string()));
        }
        let body: Value = answer.json().await?;
        self.killed = body["status"].as_str().map(str::to_owned);
        Ok(())
    }

    pub async fn purge(&mut self, client: &reqwest::Client, server: &Address) -> Result<(), Broken> {
        self.purge = Purge::Asked;
        let answer =
            client.delete(format!("{}?purge=true", self.url(server))).timeout(PATIENCE).send().await?;
        if !matches!(answer.status().as_u16(), 200 | 404) {
            return Err(Broken(answer.status().to_string()));
        }
        self.purge = Purge::Answered;
        Ok(())
    }

    async fn wrote(&self, client: &reqwest::Client, server: &Address) -> Result<(), Broken> {
        let began = Instant::now();
        loop {
            let state: Value = client.get(self.url(server)).timeout(PATIENCE).send().await?.json().await?;
            if state["stdout"].as_str().is_some_and(|stdout| stdout.contains("up")) {
                return Ok(());
            }
            assert!(began.elapsed() < PATIENCE, "{} does not start: {state:#}", self.word());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Its container, which goes when the server dies.
    async fn container(&self, server: &Address) -> Result<String, Broken> {
        let found = engine::container_of(&server.label, &self.word()).await;
        found.ok_or_else(|| Broken("it has no container".into()))
    }

    /// Has a container wait that this can take when its limits are changed.
    async fn warm_up(client: &reqwest::Client, server: &Address) -> Result<(), Broken> {
        let began = Instant::now();
        let body = json!({"language": "bash", "code": "true"});
        client.post(format!("{}/api/v1/eval", server.url)).json(&body).timeout(PATIENCE).send().await?;
        while engine::containers(&server.label).await.is_empty() && began.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Its runner has to say that it waits.
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok(())
    }

    /// Does all of it, as far as the server lives.
    pub async fn run(&mut self, client: &reqwest::Client, server: &Address) -> Result<(), Broken> {
        if self.kind == Kind::Resized {
            Self::warm_up(client, server).await?;
        }
        self.send(client, server).await?;
        match self.kind {
            Kind::Killed => self.kill(client, server).await?,
            Kind::Purged => {
                self.wait(client, server).await?;
                self.purge(client, server).await?;
            }
            Kind::Drained => {
                self.wrote(client, server).await?;
                nix::sys::signal::kill(server.pid, nix::sys::signal::Signal::SIGTERM).ok();
            }
            Kind::Lost => {
                self.wrote(client, server).await?;
                let options = KillContainerOptionsBuilder::default().signal("KILL").build();
                let container = self.container(server).await?;
                engine::engine().await.kill_container(&container, Some(options)).await?;
                self.wait(client, server).await?;
            }
            Kind::Paused => {
                self.wrote(client, server).await?;
                let container = self.container(server).await?;
                engine::engine().await.pause_container(&container).await?;
                self.kill(client, server).await?;
            }
            _ => {
                self.wait(client, server).await?;
            }
        }
        Ok(())
    }
}

fn lines(from: usize, to: usize) -> String {
    (from..=to).map(|number| format!("{number}\n")).collect()
}
