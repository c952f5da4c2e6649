//! A socket between the server and the Engine that fails on request: as a whole, or in one chosen call.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

/// The question whether the Engine is there.
pub const PING: &str = "_ping";

/// How one call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection closes; the Engine never hears of the call.
    Refuse,
    /// 500; the Engine never hears of it.
    Error,
    /// The Engine does it, and its answer is lost.
    LoseAnswer,
    /// The Engine does it late.
    Delay(Duration),
    /// No answer, ever; the Engine never hears of it.
    Hang,
    /// This many bytes of the answer come, a stream's included; then the connection closes.
    Cut(usize),
}

/// Which call fails.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// Counted from 1 since it was asked for. Pings don't count: how many there are depends on the clock.
    Nth(usize),
    /// The first of this kind, as [`kind`] names it.
    Kind(&'static str),
}

/// The Engine as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Works.
    Pass,
    /// Connections are cut, and new ones closed without a word.
    Gone,
    /// Connections are taken and stand still, as the Engine's do after SIGSTOP.
    Hang,
}

#[derive(Debug, Default)]
struct Plan {
    armed: Vec<(Target, Fault)>,
    /// The kinds of the calls since then, without pings.
    calls: Vec<String>,
    hit: Vec<String>,
    /// In the bodies of creations, this text becomes that one.
    rewrite: Option<(&'static str, &'static str)>,
}

pub struct FaultProxy {
    folder: tempfile::TempDir,
    plan: Arc<Mutex<Plan>>,
    mode: watch::Sender<Mode>,
}

impl FaultProxy {
    /// In front of the Engine that the tests use.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("engine.sock")).unwrap();
        let (plan, mode) = (Arc::<Mutex<Plan>>::default(), watch::Sender::new(Mode::Pass));
        tokio::spawn({
            let (plan, mode) = (Arc::clone(&plan), mode.clone());
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    tokio::spawn(serve(client, Arc::clone(&plan), mode.subscribe()));
                }
            }
        });
        Self { folder, plan, mode }
    }

    /// For `--docker-host`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.folder.path().join("engine.sock").display())
    }

    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// One call is to fail, beside those asked for before.
    pub fn arm(&self, target: Target, fault: Fault) {
        let mut plan = lock(&self.plan);
        plan.calls.clear();
        plan.armed.push((target, fault));
    }

    /// In the bodies of creations, one text is to become another: an Engine that is asked for one thing and does another.
    pub fn rewrite(&self, from: &'static str, to: &'static str) {
        lock(&self.plan).rewrite = Some((from, to));
    }

    /// The kinds of all calls since the last time, without pings.
    pub fn take_calls(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.plan).calls)
    }

    /// The kinds of the calls that failed since the last time; what has not happened is called off.
    pub fn disarm(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.plan)).hit
    }
}

fn lock(plan: &Mutex<Plan>) -> MutexGuard<'_, Plan> {
    plan.lock().unwrap()
}

impl Plan {
    fn next(&mut self, kind: &str) -> Option<Fault> {
        if kind != PING {
            self.calls.push(kind.to_owned());
        }
        let calls = self.calls.len();
        let matches = |target: &Target| match target {
            Target::Nth(number) => kind != PING && *number == calls,
            Target::Kind(wanted) => *wanted == kind,
        };
        let found = self.armed.iter().position(|(target, _)| matches(target))?;
        self.hit.push(kind.to_owned());
        Some(self.armed.remove(found).1)
    }
}

/// `create`, `attach`, `remove`, ...: what a request wants of the Engine.
fn kind(head: &str) -> String {
    let mut words = head.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split('?').next().unwrap_or_default();
    let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty() && !part.starts_with("v1.")).collect();
    match (method, parts.as_slice()) {
        ("DELETE", ["containers", _]) => "remove".to_owned(),
        (_, ["containers", _, "json"]) => "inspect".to_owned(),
        ("HEAD", ["containers", _, "archive"]) => "stat".to_owned(),
        ("PUT", ["containers", _, "archive"]) => "copy".to_owned(),
        (_, [.., last]) => (*last).to_owned(),
        (_, []) => String::new(),
    }
}

/// The Engine's own socket.
#[allow(clippy::disallowed_methods, reason = "the tests' own Engine, as bollard finds it")]
fn engine_socket() -> PathBuf {
    let named = std::env::var("DOCKER_HOST").ok();
    let named = named.as_deref().and_then(|host| host.strip_prefix("unix://")).map(PathBuf::from);
    named.unwrap_or_else(|| {
        let usual = ["/run/docker.sock", "/var/run/docker.sock"].map(Path::new);
        usual.into_iter().find(|path| path.exists()).expect("an Engine's socket").to_owned()
    })
}

/// One connection, which carries one call: each is told to close, so that calls can be told apart.
async fn serve(mut client: UnixStream, plan: Arc<Mutex<Plan>>, mut mode: watch::Receiver<Mode>) {
    if *mode.borrow() == Mode::Gone {
        return;
    }
    mode.wait_for(|mode| *mode != Mode::Hang).await.ok();
    let Some(mut head) = read_head(&mut client).await else { return };
    let (fault, rewrite) = {
        let mut plan = lock(&plan);
        (plan.next(&kind(&head)), plan.rewrite)
    };
    if let Some((from, to)) = rewrite
        && kind(&head) == "create"
    {
        head = rewritten(&head, &mut client, from, to).await;
    }
    let answer_bytes = match fault {
        None => usize::MAX,
        Some(Fault::Refuse) => return,
        Some(Fault::Error) => return refuse(&mut client).await,
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::LoseAnswer) => 0,
        Some(Fault::Cut(bytes)) => bytes,
        Some(Fault::Delay(delay)) => {
            tokio::time::sleep(delay).await;
            usize::MAX
        }
    };
    forward(client, &head, answer_bytes, mode).await;
}

async fn read_head(client: &mut UnixStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

/// The head with the body after it, changed.
async fn rewritten(head: &str, client: &mut UnixStream, from: &str, to: &str) -> String {
    let length =
        |line: &str| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok();
    let Some(bytes) = head.lines().find_map(length) else { return head.to_owned() };
    let mut body = vec![0; bytes];
    client.read_exact(&mut body).await.unwrap();
    let body = String::from_utf8(body).unwrap().replace(from, to);
    let lines = head.lines().map(|line| match length(line) {
        Some(_) => format!("Content-Length: {}\r\n", body.len()),
        None => format!("{line}\r\n"),
    });
    lines.collect::<String>() + &body
}

async fn refuse(client: &mut UnixStream) {
    let body = r#"{"message":"a fault that the test asked for"}"#;
    let answer = format!(
        "HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    client.write_all(answer.as_bytes()).await.ok();
}

async fn forward(client: UnixStream, head: &str, answer_bytes: usize, mode: watch::Receiver<Mode>) {
    let Ok(engine) = UnixStream::connect(engine_socket()).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_engine, mut to_engine) = engine.into_split();
    let hijacked = head.to_ascii_lowercase().contains("upgrade");
    let head = if hijacked { head.to_owned() } else { head.replacen("\r\n", "\r\nConnection: close\r\n", 1) };
    if to_engine.write_all(head.as_bytes()).await.is_err() {
        return;
    }
    let mut gone = mode.clone();
    let up = async {
        pump(from_client, to_engine, usize::MAX, mode.clone()).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = up => {}
        () = pump(from_engine, to_client, answer_bytes, mode.clone()) => {}
        _ = gone.wait_for(|mode| *mode == Mode::Gone) => {}
    }
}

/// Copies until the end, or until there would be more than `most` bytes.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    most: usize,
    mut mode: watch::Receiver<Mode>,
) {
    let (mut buffer, mut left) = (vec![0; 64 << 10], most);
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        mode.wait_for(|mode| *mode != Mode::Hang).await.ok();
        if to.write_all(&buffer[..count.min(left)]).await.is_err() || count > left {
            return;
        }
        left -= count;
    }
    to.shutdown().await.ok();
}
