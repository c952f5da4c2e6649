//! Images that are not built yet: no caller waits for one without a word.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::test_app::TestApp;

async fn app(wait_seconds: u64) -> TestApp {
    let app = TestApp::with(|config| config.images.image_wait_seconds = wait_seconds).await;
    app.sandbox.set_building(true);
    app
}

#[tokio::test]
async fn a_sync_caller_waits_for_an_image_as_long_as_the_settings_say() {
    for (wait_seconds, at_least, at_most) in [(0, 0, 1_000), (1, 1_000, 2_000)] {
        let app = app(wait_seconds).await;
        for path in ["/api/v1/eval", "/api/v1/exec/sync"] {
            let began = Instant::now();
            let answer = app.post_json(path, &json!({"language": "ruby", "code": "exit 0"})).await;
            let waited = began.elapsed();
            answer.assert_problem(503, "image_not_ready");
            assert_eq!(answer.headers["retry-after"], "10");
            let detail = answer.body["detail"].as_str().unwrap();
            assert!(detail.contains("image of ruby") && detail.contains("/api/v1/exec/async"), "{detail}");
            assert!(waited >= Duration::from_millis(at_least), "{waited:?}");
            assert!(waited < Duration::from_millis(at_most), "{waited:?}");
        }
        assert_eq!(app.service.load().kept, 0, "nothing is kept of them");
        // An image that is there keeps nobody.
        app.post_json("/api/v1/eval", &json!({"code": "exit 0"})).await.assert_ok();
        app.sandbox.set_building(false);
        app.post_json("/api/v1/eval", &json!({"language": "ruby", "code": "exit 0"})).await.assert_ok();
        app.finish().await;
    }
}

#[tokio::test]
async fn an_async_execution_waits_in_its_place() {
    let app = app(0).await;
    let body = json!({"language": "ruby", "code": "exit 0"});
    let answer = app.post_json("/api/v1/exec/async", &body).await;
    assert_eq!(answer.status, 202);
    let path = format!("/api/v1/executions/{}", answer.body["execution_id"].as_str().unwrap());
    assert_ne!(app.get(&path).await.assert_ok()["status"], "completed");
    app.sandbox.set_building(false);
    app.until(&path, "completed").await;
    app.finish().await;
}

#[tokio::test]
async fn readyz_tells_how_far_the_prepared_images_are() {
    let app = TestApp::with(|config| {
        config.images.prepare = ["python", "", " ruby@3.3 "].map(str::to_owned).to_vec();
    })
    .await;
    let ready = json!({"python@3.13": "ready", "ruby@3.3": "ready"});
    let began = Instant::now();
    while app.get("/readyz").await.assert_ok()["images"] != ready {
        assert!(began.elapsed() < Duration::from_secs(5));
    }
    assert_eq!(app.get("/health").await.assert_ok().get("images"), None);
    app.finish().await;
}
