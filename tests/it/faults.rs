//! When something fails that is not the program: retries, panics, full queues, drain, callers that go away.

use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::fake_sandbox::SECRET;
use crate::test_app::{Answer, TestApp, fake};

#[tokio::test]
async fn our_failures_are_tried_again_and_never_look_like_outcomes() {
    let app = TestApp::start().await;
    let third = app.run("transient 2").await;
    assert_eq!((&third["status"], &third["attempt"]), (&json!("completed"), &json!(3)));
    assert!(third.get("stdout").is_none(), "output of a lost attempt is void: {third}");
    for (behaviour, attempts) in [("broken", 3), ("panic", 3), ("image", 1)] {
        let result = app.run(behaviour).await;
        assert_eq!(
            (&result["status"], &result["reason"]),
            (&json!("failed"), &json!("internal")),
            "{behaviour}"
        );
        assert_eq!(result["attempt"], attempts, "{behaviour}");
        assert!(!result.to_string().contains(SECRET), "{result}");
        assert!(!result["error"].as_str().unwrap().is_empty());
    }
    // The workers are still there.
    assert_eq!(app.run("exit 0").await["status"], "completed");
    app.finish().await;
}

#[tokio::test]
async fn an_engine_that_is_away_costs_no_attempt_and_does_not_hold_up_a_kill() {
    let app = TestApp::with(|config| config.workers = Some(1)).await;
    let patient = app.run("away 5").await;
    assert_eq!((&patient["status"], &patient["attempt"]), (&json!("completed"), &json!(1)), "{patient}");
    let retried = app.submit("away 1000000").await;
    app.until(&retried, "running").await;
    app.sandbox.set_away(true);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let began = Instant::now();
    app.delete(&retried).await;
    assert!(began.elapsed() < Duration::from_millis(300), "the kill took {:?}", began.elapsed());
    app.sandbox.set_away(false);
    app.finish().await;
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_loses_nothing() {
    let app = TestApp::with(|config| {
        config.workers = Some(1);
        config.queue_length = 3;
    })
    .await;
    let first = app.submit("hang").await;
    app.until(&first, "running").await;
    let answers = join_all((0..300).map(|_| {
        let request = app.client.post(app.url("/api/v1/exec/async")).json(&fake("exit 0")).send();
        async { Answer::read(request.await.unwrap()).await }
    }))
    .await;
    let (accepted, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 202);
    assert_eq!((accepted.len(), refused.len()), (3, 297));
    for answer in &refused {
        answer.assert_problem(429, "queue_full");
        let seconds: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=60).contains(&seconds));
    }
    app.delete(&first).await;
    for answer in accepted {
        let path = format!("/api/v1/executions/{}", answer.body["execution_id"].as_str().unwrap());
        assert_eq!(app.get(&format!("{path}?wait=10")).await.body["status"], "completed");
    }
    app.finish().await;
}

#[tokio::test]
async fn a_tenant_with_its_whole_share_of_the_queue_is_told_so() {
    let app = TestApp::with(|config| {
        config.workers = Some(1);
        config.queue_length = 10;
        config.tenant_queue_length = Some(2);
    })
    .await;
    let running = app.submit("hang").await;
    app.until(&running, "running").await;
    let waiting = [app.submit("exit 0").await, app.submit("exit 0").await];
    let refused = app.post_json("/api/v1/exec/async", &fake("exit 0")).await;
    refused.assert_problem(429, "queue_full");
    assert!(refused.body["detail"].as_str().unwrap().contains("your 2 places"), "{}", refused.body);
    app.delete(&running).await;
    for path in waiting {
        let done = app.get(&format!("{path}?wait=10")).await;
        assert_eq!(done.body["status"], "completed");
    }
    app.finish().await;
}

#[tokio::test]
async fn no_engine_no_work() {
    let app = TestApp::start().await;
    app.sandbox.set_away(true);
    for route in ["/api/v1/exec/sync", "/api/v1/exec/async", "/api/v1/eval"] {
        let began = Instant::now();
        let answer = app.post_json(route, &fake("exit 0")).await;
        answer.assert_problem(503, "not_ready");
        assert!(answer.headers.contains_key("retry-after"));
        assert!(began.elapsed() < Duration::from_secs(1));
    }
    assert_eq!(app.sandbox.jobs(), 0);
    app.sandbox.set_away(false);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    app.run("exit 0").await;
    app.finish().await;
}

#[tokio::test]
async fn a_drain_refuses_new_work_and_finishes_what_runs() {
    let mut app = TestApp::start().await;
    let path = app.submit("sleep 700").await;
    app.until(&path, "running").await;
    let (url, client) = (app.url("/api/v1/exec/sync"), app.client.clone());
    let sync = tokio::spawn(async move { client.post(url).json(&fake("sleep 500")).send().await });
    tokio::time::sleep(Duration::from_millis(100)).await;

    app.begin_shutdown();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let refused = app.post_json("/api/v1/exec/async", &fake("exit 0")).await;
    refused.assert_problem(503, "draining");
    assert!(refused.headers.contains_key("retry-after"));
    app.get("/readyz").await.assert_problem(503, "draining");
    assert_eq!(app.get("/health").await.status, 200);

    let answer = Answer::read(sync.await.unwrap().unwrap()).await;
    assert_eq!(answer.assert_ok()["status"], "completed", "a caller that waits gets its result");
    assert_eq!(app.get(&format!("{path}?wait=5")).await.body["status"], "completed");
    app.finish().await;
}

#[tokio::test]
async fn what_outlasts_the_drain_is_killed() {
    let mut app = TestApp::with(|config| config.drain_seconds = 1).await;
    let (url, client) = (app.url("/api/v1/exec/sync"), app.client.clone());
    let sync = tokio::spawn(async move { client.post(url).json(&fake("hang")).send().await });
    let deadline = Instant::now() + Duration::from_secs(5);
    while app.sandbox.jobs() == 0 {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let began = Instant::now();
    app.begin_shutdown();
    let answer = Answer::read(sync.await.unwrap().unwrap()).await;
    let result = answer.assert_ok();
    assert_eq!((&result["status"], &result["stdout"]), (&json!("killed"), &json!("so far\n")));
    app.finish().await;
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_sync_caller_that_goes_away_stops_nothing() {
    let app = TestApp::start().await;
    let body = fake("sleep 150").to_string();
    let request = format!(
        "POST /api/v1/exec/sync HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    // Cut at many places: while the head, the body and the result are on their way.
    for percent in 0..=100 {
        let mut stream = TcpStream::connect(app.address).await.unwrap();
        stream.write_all(&request.as_bytes()[..request.len() * percent / 100]).await.unwrap();
        if percent == 100 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        drop(stream);
    }
    let deadline = Instant::now() + Duration::from_secs(5);
    while app.service.load().kept == 0 {
        assert!(Instant::now() < deadline, "the whole request was not run to its end");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(app.sandbox.jobs(), 1);
    app.finish().await;
}

#[tokio::test]
async fn many_at_once_all_come_back() {
    let app = TestApp::start().await;
    let answers = join_all((0..200).map(|number| {
        let body = json!({"code": "1", "stdin": number.to_string()});
        let request = app.client.post(app.url("/api/v1/eval")).json(&body).send();
        async move { (number, Answer::read(request.await.unwrap()).await) }
    }))
    .await;
    for (number, answer) in answers {
        let stdout = answer.assert_ok()["stdout"].as_str().unwrap();
        let seen: serde_json::Value = serde_json::from_str(stdout).unwrap();
        assert_eq!(seen["stdin"], number.to_string(), "everybody gets their own");
    }
    app.finish().await;
}

#[tokio::test]
async fn a_broken_disk_is_our_failure() {
    let app = TestApp::start().await;
    let spool = app.service.spool_dir();
    std::fs::remove_dir(&spool).unwrap();
    // A small project needs no file.
    let code = format!("print(1) # {}", "x".repeat(10_000));
    let large = json!({"code": code, "labels": {"fake": "exit 0"}});
    let answer = app.post_json("/api/v1/exec/sync", &large).await;
    answer.assert_problem(503, "storage_failed");
    app.get("/readyz").await.assert_problem(503, "storage_failed");
    std::fs::create_dir(&spool).unwrap();
    app.run("exit 0").await;
    app.finish().await;
}
