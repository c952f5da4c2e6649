//! What users of such servers send on their first day: `tests/field/*.toml`, each a kind with cases from several languages.
//! All are sent to one server as JSON, and every case that does not hold is named at the end.

use futures::StreamExt as _;
use serde::Deserialize;
use serde_json::Value;

use crate::projects::{describe, described};
use crate::server::Server;

/// Requests that are under way at once.
const AT_ONCE: usize = 2;

/// A file of `tests/field/`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Kind {
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    title: String,
    /// The body of `exec/sync`.
    request: Value,
    expect: Expect,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    /// Of the answer, where it is no result; `detail_has` goes with it.
    http: Option<u64>,
    #[serde(default)]
    detail_has: Vec<String>,
    stdout: Option<String>,
    #[serde(default)]
    stdout_has: Vec<String>,
    stderr: Option<String>,
    exit_code: Option<i64>,
    reason: Option<String>,
    #[serde(default)]
    error_has: Vec<String>,
    /// Parts of the notices, all of them taken together.
    #[serde(default)]
    notice_has: Vec<String>,
    #[serde(default)]
    no_notices: bool,
    artifacts: Option<Vec<String>>,
}

/// What is wrong with an answer, in a line each.
fn faults(expect: &Expect, status: u64, result: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let mut hold = |holds: bool, what: String| faults.extend((!holds).then_some(what));
    hold(status == expect.http.unwrap_or(200), format!("HTTP {status}"));
    let text = |field: &str| result[field].as_str().unwrap_or_default().to_owned();
    for (field, wanted) in
        [("stdout", &expect.stdout), ("stderr", &expect.stderr), ("reason", &expect.reason)]
    {
        hold(
            wanted.as_ref().is_none_or(|wanted| text(field) == *wanted),
            format!("{field} {:?}", text(field)),
        );
    }
    let code = &result["exit_code"];
    hold(expect.exit_code.is_none_or(|wanted| *code == wanted), format!("exit_code {code}"));
    let notices: Vec<_> =
        result["notices"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let parts = [
        ("detail", text("detail"), &expect.detail_has),
        ("stdout", text("stdout"), &expect.stdout_has),
        ("error", text("error"), &expect.error_has),
        ("notices", notices.join("\n"), &expect.notice_has),
    ];
    for (field, found, wanted) in parts {
        let missing = wanted.iter().filter(|part| !found.contains(part.as_str()));
        missing.for_each(|part| hold(false, format!("{field} lacks {part:?}: {found:?}")));
    }
    hold(!expect.no_notices || notices.is_empty(), format!("notices {notices:?}"));
    let artifacts: Vec<_> = result["artifacts"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|found| found["path"].as_str())
        .collect();
    let same = expect.artifacts.as_ref().is_none_or(|wanted| artifacts == *wanted);
    hold(same, format!("artifacts {artifacts:?}"));
    if !faults.is_empty() {
        faults.push(format!(
            "stderr {:?}, compile {}, error {:?}",
            text("stderr"),
            result["compile"],
            text("error")
        ));
    }
    faults
}

async fn send(server: &Server, case: &Case) -> Vec<String> {
    let url = format!("{}/api/v1/exec/sync", server.url);
    let answer = server.client.post(url).json(&case.request).send().await.unwrap();
    let status = u64::from(answer.status().as_u16());
    faults(&case.expect, status, &answer.json().await.unwrap())
}

async fn hold(kind: &str) {
    let Kind { case: cases } = describe(&format!("tests/field/{kind}.toml"));
    // Compilers take their time while other tests run.
    let server =
        Server::start_with(&["--compile-timeout-seconds", "300", "--image-wait-seconds", "900"]).await;
    let wrong: Vec<_> = futures::stream::iter(&cases)
        .map(async |case| (case, send(&server, case).await))
        .buffered(AT_ONCE)
        .filter_map(async |(case, faults)| {
            (!faults.is_empty()).then(|| format!("{}:\n    {}", case.title, faults.join("\n    ")))
        })
        .collect()
        .await;
    server.finish().await;
    assert!(wrong.is_empty(), "{} of {} do not hold:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

macro_rules! kinds {
    ($($name:ident)*) => {
        $(#[tokio::test]
        async fn $name() {
            hold(stringify!($name)).await;
        })*

        #[test]
        fn every_kind_has_its_test() {
            assert_eq!(described("tests/field"), [$(stringify!($name)),*]);
        }
    };
}

kinds! {
    hints
    packed_elsewhere
    surroundings
}
