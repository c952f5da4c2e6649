//! Keys and tenants: what opens without one, what each scope opens, and that another tenant's execution is answered
//! as one that never was.

use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use execbox::limits::{KeyCeilings, MIB};
use execbox::store::{KeySpec, Scope};
use jiff::{Timestamp, ToSpan as _};
use reqwest::Method;
use serde_json::{Value, json};

use crate::test_app::{Answer, TestApp, fake, tar_of};

/// Looks like an id, and names nothing.
const UNKNOWN: &str = "/api/v1/executions/exe_550e8400-e29b-41d4-a716-446655440000";
/// Every verb on an execution.
const VERBS: [(Method, &str); 8] = [
    (Method::GET, ""),
    (Method::GET, "?wait=1"),
    (Method::GET, "/artifacts"),
    (Method::GET, "/artifacts/plot.png"),
    (Method::GET, "/artifacts.tar"),
    (Method::HEAD, ""),
    (Method::DELETE, ""),
    (Method::DELETE, "?purge=true"),
];

pub(crate) fn spec(tenant: &str) -> KeySpec {
    KeySpec { tenant: tenant.into(), scopes: vec![Scope::Run, Scope::Read], ..KeySpec::default() }
}

/// One user with a key.
pub(crate) struct User<'a> {
    app: &'a TestApp,
    pub(crate) key: String,
    id: String,
}

impl<'a> User<'a> {
    pub(crate) fn new(app: &'a TestApp, spec: &KeySpec) -> Self {
        let (key, id) = app.keys.create(spec).unwrap();
        Self { app, key, id }
    }

    pub(crate) async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> reqwest::Response {
        let request = self.app.client.request(method, self.app.url(path)).bearer_auth(&self.key);
        body.into_iter().fold(request, |request, body| request.json(body)).send().await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        Answer::read(self.ask(Method::GET, path, None).await).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        Answer::read(self.ask(Method::POST, path, Some(body)).await).await
    }

    pub(crate) async fn submit(&self, behaviour: &str) -> String {
        let answer = self.post("/api/v1/exec/async", &fake(behaviour)).await;
        assert_eq!(answer.status, 202, "{}", answer.body);
        format!("/api/v1/executions/{}", answer.body["execution_id"].as_str().unwrap())
    }
}

/// Status, headers and body, without what differs from one request to the next.
pub(crate) async fn shape(response: reqwest::Response) -> (u16, Vec<(String, String)>, String) {
    let status = response.status().as_u16();
    let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    let changing = ["date", "x-request-id"];
    let mut headers: Vec<_> = response
        .headers()
        .iter()
        .filter(|(name, _)| !changing.contains(&name.as_str()))
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    headers.sort();
    (status, headers, response.text().await.unwrap().replace(&id, "ID"))
}

#[tokio::test]
async fn another_tenants_execution_is_one_that_never_was() {
    let app = TestApp::start().await;
    let (owner, other) = (User::new(&app, &spec("a")), User::new(&app, &spec("b")));
    let finished = owner.submit("artifacts").await;
    let running = owner.submit("hang").await;
    assert_eq!(owner.get(&format!("{finished}?wait=5")).await.assert_ok()["status"], "completed");
    for execution in [&finished, &running] {
        for (method, suffix) in VERBS {
            let foreign = other.ask(method.clone(), &format!("{execution}{suffix}"), None).await;
            let unknown = other.ask(method.clone(), &format!("{UNKNOWN}{suffix}"), None).await;
            let (foreign, unknown) = (shape(foreign).await, shape(unknown).await);
            assert!(matches!(foreign.0, 404 | 405), "{method} {suffix}: {foreign:?}");
            assert_eq!(foreign, unknown, "{method} {suffix}");
        }
    }
    // Nothing that the other one tried changed anything.
    assert_eq!(owner.get(&format!("{finished}/artifacts")).await.assert_ok()["truncated"], false);
    assert_eq!(owner.get(&running).await.assert_ok()["status"], "running");
    let friend = User::new(&app, &spec("a"));
    let killed = friend.ask(Method::DELETE, &running, None).await;
    assert_eq!(Answer::read(killed).await.assert_ok()["status"], "killed", "keys of one tenant share");
    app.finish().await;
}

#[tokio::test]
async fn a_key_that_is_not_valid_opens_nothing() {
    let app = TestApp::start().await;
    let good = User::new(&app, &spec("a"));
    let revoked = User::new(&app, &spec("a"));
    app.keys.revoke(&revoked.id).unwrap();
    let past = Some(Timestamp::now() - 1.second());
    let expired = User::new(&app, &KeySpec { expires_at: past, ..spec("a") });
    let half = format!("exb_{}_{}", good.id, "A".repeat(43));
    let mut shapes = Vec::new();
    for key in [&revoked.key, &expired.key, &half, &good.key[..30], "x", &good.key.to_uppercase()] {
        let request = app.client.get(app.url("/api/v1/runtimes")).bearer_auth(key);
        shapes.push(shape(request.send().await.unwrap()).await);
    }
    shapes.dedup();
    assert_eq!(shapes.len(), 1, "{shapes:?}");
    assert!(shapes[0].1.contains(&("www-authenticate".into(), "Bearer realm=\"execbox\"".into())));

    for (method, path) in [
        (Method::POST, "/api/v1/exec/sync"),
        (Method::POST, "/api/v1/exec/async"),
        (Method::POST, "/api/v1/eval"),
        (Method::GET, "/api/v1/runtimes"),
        (Method::GET, "/%61pi/v1/runtimes"),
        (Method::GET, "//api/v1/runtimes"),
        (Method::GET, "/docs/../api/v1/runtimes"),
        (Method::GET, "/docs/%2e%2e/api/v1/runtimes"),
        (Method::GET, "/metrics"),
        (Method::GET, "/%6detrics"),
        (Method::GET, "/nowhere"),
    ] {
        let answer = app.client.request(method, app.url(path)).json(&fake("exit 0")).send().await.unwrap();
        Answer::read(answer).await.assert_problem(401, "unauthenticated");
    }
    for (method, suffix) in VERBS {
        let answer = app.client.request(method, app.url(&format!("{UNKNOWN}{suffix}"))).send().await.unwrap();
        assert_eq!(answer.status(), 401);
    }
    assert_eq!(app.sandbox.jobs(), 0);
    for open in ["/health", "/healthz", "/readyz", "/openapi.json", "/docs", "/docs/"] {
        assert_eq!(app.client.get(app.url(open)).send().await.unwrap().status(), 200, "{open}");
    }
    assert_eq!(good.get("/api/v1/runtimes").await.status, 200);
    let plain = app.client.get(app.url("/api/v1/runtimes")).header("x-api-key", &good.key).send().await;
    assert_eq!(plain.unwrap().status(), 200);
    app.finish().await;
}

#[tokio::test]
async fn a_key_that_is_revoked_ends_at_once_and_the_last_one_does_not_open_the_server() {
    let app = TestApp::start().await;
    let early = app.submit("exit 0").await;
    let user = User::new(&app, &spec("a"));
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    app.get("/api/v1/runtimes").await.assert_problem(401, "unauthenticated");
    assert_eq!(user.get("/api/v1/runtimes").await.status, 200);
    user.get(&early).await.assert_problem(404, "not_found");
    let local = User::new(&app, &spec("local"));
    assert_eq!(local.get(&early).await.assert_ok()["status"], "completed", "what ran before there were keys");
    app.keys.revoke(&user.id).unwrap();
    app.keys.revoke(&local.id).unwrap();
    user.get("/api/v1/runtimes").await.assert_problem(401, "unauthenticated");
    app.get("/api/v1/runtimes").await.assert_problem(401, "unauthenticated");
    app.finish().await;
}

#[tokio::test]
async fn each_scope_opens_its_own_routes_only() {
    let app = TestApp::start().await;
    let with = |scope| User::new(&app, &KeySpec { scopes: vec![scope], ..spec("a") });
    let (run, read, admin) = (with(Scope::Run), with(Scope::Read), with(Scope::Admin));
    let path = run.submit("artifacts").await;
    assert_eq!(
        run.post("/api/v1/eval", &fake("exit 0")).await.status,
        200,
        "a sync answer is part of the run"
    );
    for (method, suffix) in VERBS.into_iter().filter(|(method, _)| *method == Method::GET) {
        let path = format!("{path}{suffix}");
        for user in [&run, &admin] {
            let answer = Answer::read(user.ask(method.clone(), &path, None).await).await;
            assert!(answer.assert_problem(403, "forbidden").contains("`read`"));
        }
        assert_eq!(read.ask(method, &path, None).await.status(), 200, "{path}");
    }
    for user in [&read, &admin] {
        for route in ["exec/sync", "exec/async", "eval"] {
            let answer = user.post(&format!("/api/v1/{route}"), &fake("exit 0")).await;
            assert!(answer.assert_problem(403, "forbidden").contains("`run`"));
        }
        Answer::read(user.ask(Method::DELETE, &path, None).await).await.assert_problem(403, "forbidden");
    }
    for user in [&run, &read] {
        user.get("/metrics").await.assert_problem(403, "forbidden");
    }
    assert_eq!(admin.ask(Method::GET, "/metrics", None).await.status(), 200);
    for user in [&run, &read, &admin] {
        assert_eq!(user.get("/api/v1/runtimes").await.status, 200);
    }
    app.finish().await;
}

#[tokio::test]
async fn a_rate_is_held_and_told() {
    let app = TestApp::start().await;
    let slow = User::new(&app, &KeySpec { rate_per_minute: Some(3), ..spec("a") });
    let free = User::new(&app, &spec("a"));
    for left in [2, 1, 0] {
        let answer = slow.get("/api/v1/runtimes").await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.headers["ratelimit-policy"], "\"key\";q=3;w=60");
        let whole = (3 - left) * 20;
        assert_eq!(answer.headers["ratelimit"], format!("\"key\";r={left};t={whole}").as_str());
    }
    let refused = slow.post("/api/v1/exec/sync", &fake("exit 0")).await;
    refused.assert_problem(429, "rate_limited");
    assert_eq!(refused.headers["ratelimit"], "\"key\";r=0;t=60");
    let wait: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((15..=21).contains(&wait), "{wait}");
    assert_eq!(app.sandbox.jobs(), 0);
    let answer = free.get("/api/v1/runtimes").await;
    assert_eq!(answer.status, 200);
    assert!(!answer.headers.contains_key("ratelimit"));
    app.finish().await;
}

#[tokio::test]
async fn a_keys_ceilings_narrow_the_servers() {
    let app = TestApp::start().await;
    let ceilings = KeyCeilings {
        timeout_ms: Some(2_000),
        memory_bytes: Some(64 * MIB),
        disk_bytes: Some(32 * MIB),
        cpu_millis: Some(500),
    };
    let narrow = User::new(&app, &KeySpec { ceilings, ..spec("a") });
    let shown = narrow.get("/api/v1/runtimes").await;
    let limits = &shown.assert_ok()["limits"];
    assert_eq!((&limits["ceiling"]["memory_mb"], &limits["ceiling"]["disk_mb"]), (&json!(64), &json!(32)));
    assert_eq!(
        (&limits["default"]["timeout_seconds"], &limits["default"]["cpus"]),
        (&json!(2.0), &json!(0.5))
    );
    for (field, value) in [("timeout_seconds", 3.0), ("memory_mb", 65.0), ("disk_mb", 33.0), ("cpus", 0.6)] {
        let answer = narrow.post("/api/v1/eval", &json!({"code": "1", "config": {field: value}})).await;
        let detail = answer.assert_problem(400, "limit_too_high");
        assert!(detail.contains(field) && detail.contains("this key's ceiling"), "{detail}");
    }
    let answer = narrow.post("/api/v1/eval", &json!({"code": "1", "config": {"pids": 100_000}})).await;
    assert!(answer.assert_problem(400, "limit_too_high").contains("this server's ceiling"));
    // Without a label the fake sandbox prints its own spec.
    let ran = narrow.post("/api/v1/eval", &json!({"code": "1"})).await;
    let seen: Value = serde_json::from_str(ran.assert_ok()["stdout"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&seen["limits"]["timeout_ms"], &seen["limits"]["memory_bytes"], &seen["limits"]["disk_bytes"]),
        (&json!(2_000), &json!(64 * MIB), &json!(32 * MIB))
    );
    app.finish().await;
}

#[tokio::test]
async fn another_tenants_id_takes_as_long_as_an_unknown_one() {
    let app = TestApp::start().await;
    let (owner, other) = (User::new(&app, &spec("a")), User::new(&app, &spec("b")));
    let foreign = owner.submit("artifacts").await;
    owner.get(&format!("{foreign}?wait=5")).await.assert_ok();
    let mut times = [Vec::new(), Vec::new()];
    // In turn, so that whatever else the machine does slows both.
    for _ in 0..300 {
        for (path, times) in [foreign.as_str(), UNKNOWN].into_iter().zip(&mut times) {
            let begun = Instant::now();
            assert_eq!(other.ask(Method::GET, path, None).await.status(), 404);
            times.push(begun.elapsed().as_secs_f64());
        }
    }
    let [foreign, unknown] = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    });
    assert!((0.7..1.4).contains(&(foreign / unknown)), "{foreign} and {unknown} s");
    app.finish().await;
}

/// Everything that was logged in this process.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn capture() -> Self {
        static LOG: OnceLock<Log> = OnceLock::new();
        let start = || {
            let log = Self::default();
            let writer = log.clone();
            // The test's own client logs what it sends; that is not ours.
            let lines = tracing_subscriber::fmt()
                .with_env_filter("debug,reqwest=off,hyper=off,hyper_util=off,execbox=trace,audit=trace")
                .with_ansi(false)
                .with_writer(move || writer.clone());
            lines.try_init().unwrap();
            log
        };
        LOG.get_or_init(start).clone()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

#[tokio::test]
async fn the_log_says_who_did_what_and_holds_nothing_of_theirs() {
    let log = Log::capture();
    let app = TestApp::start().await;
    let (owner, other) = (User::new(&app, &spec("acme")), User::new(&app, &spec("rival")));
    let secrets = json!({"code": "print('canary-code')", "labels": {"fake": "hang"}, "stdin": "canary-stdin",
        "env_vars": {"TOKEN": "canary-env"}, "script_args": ["canary-arg"], "script": true,
        "parameters": {"p": "canary-parameter"}, "input_data": ["canary-data"]});
    let ran = owner.post("/api/v1/exec/async", &secrets).await;
    let id = ran.body["execution_id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/executions/{id}");
    owner.get(&path).await.assert_ok();
    other.get(&path).await.assert_problem(404, "not_found");
    owner.ask(Method::DELETE, &path, None).await;
    owner.get(&format!("{path}/artifacts")).await.assert_ok();
    owner.ask(Method::DELETE, &format!("{path}?purge=true"), None).await;
    let half = format!("exb_{}_canary{}", owner.id, "A".repeat(37));
    app.client.get(app.url(&path)).bearer_auth(&half).send().await.unwrap();
    let request = app.client.get(app.url(&format!("{path}?key={}", owner.key))).bearer_auth(&owner.key);
    let refused = Answer::read(request.send().await.unwrap()).await;
    assert!(!refused.body.to_string().contains(&owner.key[18..]), "{}", refused.body);

    let text = log.text();
    let lines: Vec<_> = text.lines().filter(|line| line.contains("audit") && line.contains(&id)).collect();
    for (action, outcome, user, tenant) in [
        ("run", "done", &owner, "acme"),
        ("read", "done", &owner, "acme"),
        ("read", "not_found", &other, "rival"),
        ("kill", "done", &owner, "acme"),
        ("read_artifacts", "done", &owner, "acme"),
        ("purge", "done", &owner, "acme"),
    ] {
        let words = [
            format!("action=\"{action}\""),
            format!("outcome=\"{outcome}\""),
            format!("key=\"{}\"", user.id),
            format!("tenant={tenant}"),
            "request_id=".to_owned(),
        ];
        let found = lines.iter().filter(|line| words.iter().all(|word| line.contains(word))).count();
        assert_eq!(found, 1, "{words:?} in {lines:#?}");
    }
    assert_eq!(lines.len(), 6, "{lines:#?}");
    for secret in [&owner.key[17..], &other.key[17..], "canary"] {
        assert!(!text.contains(secret), "{secret} is in the log");
    }
    app.finish().await;
}

/// Case A04: who reads the log in a terminal sees what was sent, and nothing of it moves the terminal.
#[tokio::test]
async fn the_log_holds_no_control_character_whatever_is_sent() {
    let log = Log::capture();
    let app = TestApp::start().await;
    let user = User::new(&app, &spec("terminal"));
    // ESC, the one-byte CSI, BEL, a direction mark, and a line of its own.
    const ODD: &str = "marked\u{1b}[2J\u{9b}31m\u{7}\u{202e}\nfake line";
    let form = reqwest::multipart::Form::new()
        .part("tar", reqwest::multipart::Part::bytes(tar_of(&[("main.py", b"1"), (ODD, b"1")])));
    let request = app.client.post(app.url("/api/v1/exec/sync")).bearer_auth(&user.key).multipart(form);
    Answer::read(request.send().await.unwrap()).await.assert_problem(400, "bad_path");
    for body in [
        json!({"code": "1", "language": ODD}),
        json!({"code": "1", "entrypoint": ODD}),
        json!({"code": "1", "labels": {ODD: "x"}}),
        json!({"code": "1", ODD: "x"}),
        json!({"files": [{"name": ODD, "content": ""}]}),
    ] {
        user.post("/api/v1/eval", &body).await;
    }
    let path = "/api/v1/executions/marked%1b%5b2J%0afake%20line%c2%9b";
    user.get(path).await.assert_problem(400, "bad_id");
    for header in ["x-request-id", "user-agent", "idempotency-key", "x-forwarded-for"] {
        let value = reqwest::header::HeaderValue::from_bytes(b"marked\x9b2J\xe2\x80\xae").unwrap();
        let request =
            app.client.get(app.url("/api/v1/runtimes")).bearer_auth(&user.key).header(header, value);
        request.send().await.unwrap();
    }
    let text = log.text();
    assert!(text.contains("/api/v1/exec/sync"), "the log has the requests");
    let odd = text.chars().filter(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}').collect::<String>();
    assert_eq!(odd, "", "the log has control characters");
    assert!(!text.lines().any(|line| line.starts_with("fake line")), "a line that a caller wrote");
    app.finish().await;
}

/// Case G03: what is open to everybody, or to an operator, counts, and names nobody.
#[tokio::test]
async fn what_everybody_is_told_names_nobody() {
    let app = TestApp::with(|config| config.workers = Some(1)).await;
    let (owner, other) = (User::new(&app, &spec("neighbour")), User::new(&app, &spec("rival")));
    let admin = User::new(&app, &KeySpec { scopes: vec![Scope::Admin], ..spec("operator") });
    let running = owner.submit("hang").await;
    while owner.get(&running).await.assert_ok()["status"] != "running" {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let waiting = owner.submit("exit 0").await;
    let own = other.submit("exit 0").await;
    let mut told = other.get(&own).await.body.to_string();
    for path in ["/health", "/healthz", "/readyz", "/api/v1/runtimes"] {
        told += &other.ask(Method::GET, path, None).await.text().await.unwrap();
    }
    told += &admin.ask(Method::GET, "/metrics", None).await.text().await.unwrap();
    let id = |path: &str| path.rsplit('_').next().unwrap().to_owned();
    for word in ["neighbour".to_owned(), owner.id.clone(), id(&running), id(&waiting)] {
        assert!(!told.contains(&word), "{word} is in {told}");
    }
    for path in [&running, &waiting] {
        Answer::read(owner.ask(Method::DELETE, path, None).await).await.assert_ok();
    }
    assert_eq!(other.get(&format!("{own}?wait=10")).await.assert_ok()["status"], "completed");
    app.finish().await;
}

/// Case G01.
#[tokio::test]
async fn ten_thousand_guesses_find_nothing_and_cost_little() {
    const GUESSES: usize = 10_000;
    let app = TestApp::start().await;
    let user = User::new(&app, &spec("a"));
    let begun = Instant::now();
    let guess = async |worker: usize| {
        for number in (worker..GUESSES).step_by(16) {
            // Half of them know the public part.
            let id = if number % 2 == 0 { user.id.clone() } else { format!("{number:012x}") };
            let key = format!("exb_{id}_{number:0>42}A");
            let request = app.client.get(app.url("/api/v1/runtimes")).bearer_auth(key);
            assert_eq!(request.send().await.unwrap().status(), 401);
        }
    };
    futures::future::join_all((0..16).map(guess)).await;
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    assert_eq!(user.get("/api/v1/runtimes").await.status, 200);
    app.finish().await;
}

/// Whoever waits is looked at again before the answer.
#[tokio::test]
async fn a_key_that_is_revoked_while_its_request_waits_gets_nothing() {
    let app = TestApp::start().await;
    let (revoked, good) = (User::new(&app, &spec("a")), User::new(&app, &spec("a")));
    let path = good.submit("sleep 1500").await;
    let waiting = format!("{path}?wait=20");
    let body = fake("sleep 1500");
    let revoke = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        app.keys.revoke(&revoked.id).unwrap();
    };
    let (read, run, seen, ()) = tokio::join!(
        revoked.get(&waiting),
        revoked.post("/api/v1/exec/sync", &body),
        good.get(&waiting),
        revoke
    );
    for refused in [read, run] {
        assert!(refused.assert_problem(401, "unauthenticated").contains("while the request waited"));
    }
    assert_eq!(seen.assert_ok()["status"], "completed");
    app.finish().await;
}
