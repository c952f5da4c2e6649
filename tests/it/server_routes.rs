//! What the server tells of itself: runtimes, health, metrics, documentation.

use std::io::Read as _;

use serde_json::{Value, json};

use crate::test_app::TestApp;

#[tokio::test]
async fn runtimes_show_what_is_on_offer_and_the_limits() {
    let app = TestApp::start().await;
    let answer = app.get("/api/v1/runtimes").await;
    let runtimes = answer.assert_ok()["runtimes"].as_array().unwrap();
    let python = runtimes.iter().find(|runtime| runtime["name"] == "python").unwrap();
    assert_eq!(python["ready"], true);
    for field in ["version", "aliases", "extensions", "packages", "features"] {
        assert!(!python[field].is_null(), "{field}");
    }
    let features = json!(["script", "call", "eval_last_expr", "capture_plots"]);
    assert_eq!(python["features"], features);
    let lua = runtimes.iter().find(|runtime| runtime["name"] == "lua").unwrap();
    assert_eq!(lua["features"], json!([]));
    assert!(runtimes.iter().any(|runtime| runtime["ready"] == false));
    let limits = &answer.body["limits"];
    assert_eq!(limits["default"]["timeout_seconds"], 300.0);
    assert_eq!(limits["default"]["memory_mb"], 512);
    assert_eq!(limits["default"]["cpus"], 1.0);
    assert_eq!(limits["ceiling"]["memory_mb"], 4_096);
    assert_eq!(limits["request"]["archive_mb"], 100);
    app.finish().await;
}

#[tokio::test]
async fn health_is_not_readiness() {
    let app = TestApp::start().await;
    app.sandbox.set_away(true);
    for path in ["/health", "/healthz"] {
        assert_eq!(app.get(path).await.assert_ok()["status"], "ok");
    }
    let away = app.get("/readyz").await;
    away.assert_problem(503, "not_ready");
    assert!(away.headers.contains_key("retry-after"));
    app.sandbox.set_away(false);
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    assert_eq!(app.get("/readyz").await.assert_ok()["status"], "ok");
    app.finish().await;
}

#[tokio::test]
async fn metrics_count_and_hold_nothing_of_the_users() {
    let app = TestApp::start().await;
    app.run("exit 3").await;
    app.run("oom").await;
    app.get("/api/v1/canary-in-the-path").await.assert_problem(404, "unknown_route");
    let text = app.client.get(app.url("/metrics")).send().await.unwrap().text().await.unwrap();
    for line in [
        r#"execbox_executions_finished_total{language="python",reason="exited"} 1"#,
        r#"execbox_executions_finished_total{language="python",reason="out_of_memory"} 1"#,
        r#"execbox_http_requests_total{route="/api/v1/exec/sync",status="200"} 2"#,
        r#"execbox_http_requests_total{route="unmatched",status="404"} 1"#,
        "execbox_executions_queued 0",
        "execbox_executions_kept 2",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
    assert!(!text.contains("canary") && !text.contains("exe_"), "{text}");
    app.finish().await;
}

#[tokio::test]
async fn the_documentation_page_is_whole_without_a_network() {
    let app = TestApp::start().await;
    let page = app.client.get(app.url("/docs")).send().await.unwrap();
    assert_eq!(page.url().path(), "/docs/");
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.contains("script-src 'self';") && !policy.contains("http"), "{policy}");
    let html = page.text().await.unwrap();
    assert!(html.contains("swagger-ui"), "{html}");
    assert!(!html.contains("<script>"), "the policy forbids inline scripts");
    for reference in html.split(['"', '\'']).filter(|text| text.ends_with(".js") || text.ends_with(".css")) {
        assert!(!reference.contains("//"), "{reference} is somebody else's");
        let url = app.url(&format!("/docs/{}", reference.trim_start_matches("./")));
        let file = app.client.get(url).send().await.unwrap();
        assert_eq!(file.status(), 200, "{reference}");
    }
    read_packed_and_plain(&app, "/docs/swagger-ui-bundle.js").await;
    let setup =
        app.client.get(app.url("/docs/swagger-initializer.js")).send().await.unwrap().text().await.unwrap();
    assert!(setup.contains("/openapi.json"), "{setup}");
    app.finish().await;
}

/// Browsers take less than half the bytes, and who takes no compression gets the same in plain.
async fn read_packed_and_plain(app: &TestApp, path: &str) {
    let request = |accepted| app.client.get(app.url(path)).header("accept-encoding", accepted).send();
    let packed = request("gzip, deflate, br").await.unwrap();
    assert_eq!(packed.headers()["content-encoding"], "gzip");
    let packed = packed.bytes().await.unwrap();
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&*packed).read_to_end(&mut unpacked).unwrap();
    assert!(packed.len() < unpacked.len() / 2, "{} of {}", packed.len(), unpacked.len());
    for accepted in ["identity", "gzip;q=0, *"] {
        let plain = request(accepted).await.unwrap();
        assert!(
            plain.headers().get("content-encoding").is_none() && plain.headers()["vary"] == "accept-encoding"
        );
        assert_eq!(plain.bytes().await.unwrap(), unpacked, "{accepted}");
    }
    let unsaid = app.client.get(app.url(path)).send().await.unwrap();
    assert_eq!(unsaid.bytes().await.unwrap(), unpacked);
}

#[tokio::test]
async fn the_committed_openapi_document_is_the_codes_own() {
    let app = TestApp::start().await;
    let served = app.client.get(app.url("/openapi.json")).send().await.unwrap().text().await.unwrap();
    let committed = include_str!("../../openapi/openapi.json");
    assert!(
        served == committed,
        "openapi/openapi.json is not what the code says; run `make openapi`, read the difference and commit it"
    );
    let document: Value = serde_json::from_str(&served).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    for reference in served.split('"').filter_map(|text| text.strip_prefix("#/components/schemas/")) {
        assert!(document["components"]["schemas"][reference].is_object(), "{reference} is not described");
    }
    for code in execbox::http::error::Code::ALL {
        let row = format!("| `{}` | {} |", code.as_str(), code.status());
        assert!(document["info"]["description"].as_str().unwrap().contains(&row), "{row}");
    }
    app.finish().await;
}

#[tokio::test]
async fn every_documented_operation_is_there_and_every_route_documented() {
    let app = TestApp::start().await;
    let document = app.get("/openapi.json").await.body;
    let mut documented = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            documented.push(format!("{} {path}", method.to_uppercase()));
            let url = app.url(
                &path.replace("{id}", "exe_550e8400-e29b-41d4-a716-446655440000").replace("{path}", "x"),
            );
            let method = method.to_uppercase().parse().unwrap();
            let status = app.client.request(method, url).send().await.unwrap().status().as_u16();
            // 404 for the unknown id, 415 for the missing body: but the route itself is known.
            assert!(matches!(status, 200 | 404 | 415), "{path}: {status}");
        }
    }
    documented.sort_unstable();
    assert_eq!(
        json!(documented),
        json!([
            "DELETE /api/v1/executions/{id}",
            "GET /api/v1/executions/{id}",
            "GET /api/v1/executions/{id}/artifacts",
            "GET /api/v1/executions/{id}/artifacts.tar",
            "GET /api/v1/executions/{id}/artifacts/{path}",
            "GET /api/v1/runtimes",
            "GET /health",
            "GET /metrics",
            "GET /readyz",
            "POST /api/v1/eval",
            "POST /api/v1/exec/async",
            "POST /api/v1/exec/sync",
        ])
    );
    app.finish().await;
}

/// HEAD has the answer of GET, without its body.
#[tokio::test]
async fn head_is_get_without_a_body() {
    let app = TestApp::start().await;
    let path = app.submit("large_artifact").await;
    app.until(&path, "completed").await;
    let open = ["/health", "/healthz", "/readyz", "/metrics", "/openapi.json", "/api/v1/runtimes", "/docs/"];
    let own = ["", "/artifacts", "/artifacts/large", "/artifacts.tar"].map(|rest| format!("{path}{rest}"));
    for path in open.map(str::to_owned).into_iter().chain(own) {
        let get = app.client.get(app.url(&path)).send().await.unwrap();
        let head = app.client.head(app.url(&path)).send().await.unwrap();
        assert_eq!(head.status(), 200, "{path}");
        for name in ["content-type", "content-disposition", "content-length"] {
            // What counts requests, or tells of the moment, has another length each time.
            if name != "content-length" || path.ends_with("/large") {
                assert_eq!(head.headers().get(name), get.headers().get(name), "{path}: {name}");
            }
        }
        assert!(head.bytes().await.unwrap().is_empty(), "{path}");
    }
    let missing = app.client.head(app.url(&format!("{path}/artifacts/none"))).send().await.unwrap();
    assert_eq!(missing.status(), 404);
    app.finish().await;
}
