//! The real server on a port of its own, over the fake sandbox. At its end nothing may be left.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use execbox::config::Config;
use execbox::execution::preparation::Preparation;
use execbox::execution::service::{Service, ServiceConfig};
use execbox::runtime::Catalogue;
use execbox::server::{self, App};
use execbox::store::{Keys, RetentionPolicy, Store};
use execbox::telemetry::Metrics;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::fake_sandbox::FakeSandbox;

/// A tar archive of these files.
pub(crate) fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut head = tar::Header::new_gnu();
        head.set_size(content.len() as u64);
        head.set_mode(0o644);
        tar.append_data(&mut head, name, *content).unwrap();
    }
    tar.into_inner().unwrap()
}

/// The smallest project.
pub(crate) fn hello_tar() -> Vec<u8> {
    tar_of(&[("main.py", b"print('hello')\n")])
}

/// The multipart body with this metadata and the smallest project.
pub(crate) fn form(metadata: &Value) -> Form {
    Form::new()
        .part("tar", Part::bytes(hello_tar()).file_name("code.tar"))
        .text("metadata", metadata.to_string())
}

/// A JSON body whose execution does what the fake sandbox knows under this name.
pub(crate) fn fake(behaviour: &str) -> Value {
    json!({"code": "print(1)", "labels": {"fake": behaviour}})
}

/// A status with its JSON body.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) async fn read(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{status}: not JSON: {text:?}"));
        Self { status, headers, body }
    }

    /// A whole and proper problem of this status and code.
    #[track_caller]
    pub(crate) fn assert_problem(&self, status: u16, code: &str) -> &str {
        let body = &self.body;
        assert_eq!((self.status, body["code"].as_str()), (status, Some(code)), "{body}");
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(body["status"], status);
        assert_eq!(body["request_id"], self.headers["x-request-id"].to_str().unwrap());
        assert_eq!(body["error"], body["detail"]);
        assert!(body["type"].is_string() && body["title"].is_string(), "{body}");
        let text = body.to_string();
        for secret in ["/var/", "/tmp", "docker.sock", "0123456789ab", ".rs:"] {
            assert!(!text.contains(secret), "{secret} leaks in {text}");
        }
        body["detail"].as_str().unwrap()
    }

    #[track_caller]
    pub(crate) fn assert_ok(&self) -> &Value {
        assert_eq!(self.status, 200, "{}", self.body);
        &self.body
    }
}

pub(crate) struct TestApp {
    pub(crate) sandbox: Arc<FakeSandbox>,
    pub(crate) service: Service,
    pub(crate) keys: Arc<Keys>,
    pub(crate) client: reqwest::Client,
    pub(crate) address: SocketAddr,
    shutdown: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<std::io::Result<()>>>,
    data: tempfile::TempDir,
}

impl TestApp {
    pub(crate) async fn start() -> Self {
        Self::with(|_| ()).await
    }

    /// With settings that differ from the defaults.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config { workers: Some(2), drain_seconds: 5, ..Config::default() };
        change(&mut config);
        let data = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let sandbox = Arc::new(FakeSandbox::default());
        let metrics = Arc::new(Metrics::default());
        let sizes = ServiceConfig {
            workers: config.workers(),
            queue_length: config.queue_length,
            tenant_queue_length: config.tenant_queue_length(),
            tenant_concurrency: config.tenant_concurrency(0),
            backlog_bytes: config.backlog_bytes(),
            tenant_backlog_bytes: config.tenant_backlog_bytes(),
            data_reserve_bytes: config.data_reserve_bytes(),
            retention: RetentionPolicy { age: Duration::from_secs(600), count: 50_000, bytes: 1 << 30 },
        };
        let on_finish = server::count_finished(&metrics);
        let store = Store::open(data.path()).unwrap();
        let catalogue = Arc::new(Catalogue::load(None).unwrap());
        let service = Service::start(sizes, Arc::clone(&sandbox) as _, store, &catalogue, on_finish);
        let service = service.await.unwrap();
        let keys = Arc::new(Keys::open(data.path()).unwrap());
        let prepared = Preparation::of(config.images.prepared(), &catalogue);
        let preparation = Arc::new(prepared.unwrap());
        let app = App {
            service: service.clone(),
            catalogue,
            config: Arc::new(config),
            keys: Arc::clone(&keys),
            metrics,
            preparation,
        };
        let (shutdown, stop) = oneshot::channel();
        let server = tokio::spawn(server::run(listener, app, async { drop(stop.await) }));
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { sandbox, service, keys, client, address, shutdown: Some(shutdown), server: Some(server), data }
    }

    pub(crate) fn data(&self) -> &std::path::Path {
        self.data.path()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        Answer::read(self.client.get(self.url(path)).send().await.unwrap()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        Answer::read(self.client.delete(self.url(path)).send().await.unwrap()).await
    }

    pub(crate) async fn post_json(&self, path: &str, body: &Value) -> Answer {
        Answer::read(self.client.post(self.url(path)).json(body).send().await.unwrap()).await
    }

    pub(crate) async fn post_form(&self, path: &str, form: Form) -> Answer {
        Answer::read(self.client.post(self.url(path)).multipart(form).send().await.unwrap()).await
    }

    /// Runs a fake behaviour to its end.
    pub(crate) async fn run(&self, behaviour: &str) -> Value {
        self.post_json("/api/v1/exec/sync", &fake(behaviour)).await.assert_ok().clone()
    }

    /// Starts a fake behaviour; gives the path of the execution.
    pub(crate) async fn submit(&self, behaviour: &str) -> String {
        let answer = self.post_json("/api/v1/exec/async", &fake(behaviour)).await;
        assert_eq!(answer.status, 202, "{}", answer.body);
        format!("/api/v1/executions/{}", answer.body["execution_id"].as_str().unwrap())
    }

    /// Waits until an execution is in this status.
    pub(crate) async fn until(&self, path: &str, status: &str) -> Value {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let answer = self.get(path).await;
            if answer.assert_ok()["status"] == status {
                return answer.body;
            }
            assert!(Instant::now() < deadline, "never {status}: {}", answer.body);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// SIGTERM, as it were. The server goes on answering while it drains.
    pub(crate) fn begin_shutdown(&mut self) {
        self.shutdown.take().unwrap().send(()).unwrap();
    }

    /// Waits for the end of the server, and looks that nothing is left.
    pub(crate) async fn finish(mut self) {
        self.assert_nothing_left().await;
        if self.shutdown.is_some() {
            self.begin_shutdown();
        }
        let server = self.server.take().unwrap();
        tokio::time::timeout(Duration::from_secs(20), server).await.expect("it stops").unwrap().unwrap();
    }

    async fn assert_nothing_left(&self) {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let load = self.service.load();
            let spooled = std::fs::read_dir(self.data.path().join("spool")).unwrap().count();
            if (load.queued, load.running, spooled) == (0, 0, 0) {
                return;
            }
            assert!(Instant::now() < deadline, "left behind: {load:?}, {spooled} files in the spool");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        let finished = self.server.is_none() || std::thread::panicking();
        assert!(finished, "the test must end with TestApp::finish, which looks for what is left");
    }
}
