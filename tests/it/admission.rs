//! Who runs next: tenants beside each other, and more submissions than there is room for.

use std::collections::BTreeSet;
use std::time::Duration;

use execbox::store::KeySpec;
use futures::StreamExt as _;
use reqwest::Method;

use crate::keys::{User, spec};
use crate::test_app::{Answer, TestApp, fake, tar_of};

#[tokio::test]
async fn a_tenant_at_its_limit_waits_and_others_pass() {
    let app = TestApp::with(|config| {
        config.workers = Some(3);
        config.tenant_concurrency = Some(1);
    })
    .await;
    let (flood, other) = (User::new(&app, &spec("flood")), User::new(&app, &spec("other")));
    let mut hanging = Vec::new();
    for _ in 0..5 {
        hanging.push(flood.submit("hang").await);
    }
    for _ in 0..3 {
        let answer = other.post("/api/v1/exec/sync", &fake("exit 0")).await;
        assert_eq!(answer.assert_ok()["status"], "completed", "two workers are free for it");
    }
    // Each end lets exactly the next one start.
    for (index, path) in hanging.iter().enumerate() {
        while flood.get(path).await.assert_ok()["status"] != "running" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for later in &hanging[index + 1..] {
            assert_eq!(flood.get(later).await.assert_ok()["status"], "pending");
        }
        let killed = Answer::read(flood.ask(Method::DELETE, path, None).await).await;
        assert_eq!(killed.assert_ok()["status"], "killed");
    }
    app.finish().await;
}

#[tokio::test]
async fn a_key_at_its_share_waits_and_the_others_of_its_tenant_pass() {
    let app = TestApp::with(|config| config.workers = Some(3)).await;
    let narrow = User::new(&app, &KeySpec { concurrency: Some(1), ..spec("team") });
    let (wide, other) = (User::new(&app, &spec("team")), User::new(&app, &spec("other")));
    let hanging = [narrow.submit("hang").await, narrow.submit("hang").await];
    for user in [&wide, &other, &wide] {
        let answer = user.post("/api/v1/exec/sync", &fake("exit 0")).await;
        assert_eq!(answer.assert_ok()["status"], "completed", "two workers are free for it");
    }
    assert_eq!(narrow.get(&hanging[0]).await.assert_ok()["status"], "running");
    assert_eq!(narrow.get(&hanging[1]).await.assert_ok()["status"], "pending");
    let kill = async |path| Answer::read(narrow.ask(Method::DELETE, path, None).await).await;
    assert_eq!(kill(&hanging[0]).await.assert_ok()["status"], "killed");
    while narrow.get(&hanging[1]).await.assert_ok()["status"] != "running" {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(kill(&hanging[1]).await.assert_ok()["status"], "killed");
    app.finish().await;
}

#[tokio::test]
async fn once_several_tenants_have_keys_one_worker_is_kept_free_of_each() {
    let app = TestApp::with(|config| config.workers = Some(3)).await;
    let flood = User::new(&app, &spec("flood"));
    let at_once = async |user: &User| {
        user.get("/api/v1/runtimes").await.body["limits"]["request"]["tenant_concurrency"].clone()
    };
    assert_eq!(at_once(&flood).await, 3, "alone it has every worker");
    let other = User::new(&app, &spec("other"));
    while at_once(&flood).await != 2 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut hanging = Vec::new();
    for _ in 0..5 {
        hanging.push(flood.submit("hang").await);
    }
    for _ in 0..3 {
        let answer = other.post("/api/v1/exec/sync", &fake("exit 0")).await;
        assert_eq!(answer.assert_ok()["status"], "completed", "a worker is free for it");
    }
    for (index, path) in hanging.iter().enumerate() {
        let status = flood.get(path).await.assert_ok()["status"].clone();
        assert_eq!(status, if index < 2 { "running" } else { "pending" });
    }
    for path in hanging.iter().rev() {
        Answer::read(flood.ask(Method::DELETE, path, None).await).await.assert_ok();
    }
    app.finish().await;
}

#[tokio::test]
async fn alone_a_tenant_has_every_worker() {
    let app = TestApp::with(|config| config.workers = Some(3)).await;
    let mut hanging = Vec::new();
    for _ in 0..3 {
        hanging.push(app.submit("hang").await);
    }
    for path in &hanging {
        app.until(path, "running").await;
    }
    for path in &hanging {
        app.delete(path).await.assert_ok();
    }
    app.finish().await;
}

/// B13: what is accepted is run, what is refused says when to come again, and no id is lost or given twice.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_submissions_at_once_are_run_or_refused() {
    const SUBMISSIONS: usize = 10_000;
    const AT_ONCE: usize = 500;
    let app = TestApp::with(|config| {
        config.queue_length = 400;
        // The client opens connections ahead; one that stays without a request for the usual 5 s is sent a 408.
        config.request.head_seconds = 60;
    })
    .await;
    let body = fake("sleep 5");
    let submissions = futures::stream::iter(0..SUBMISSIONS)
        .map(|_| app.post_json("/api/v1/exec/async", &body))
        .buffer_unordered(AT_ONCE);
    let answers: Vec<_> = submissions.collect().await;
    let mut accepted = BTreeSet::new();
    for answer in &answers {
        if answer.status == 202 {
            assert!(accepted.insert(answer.body["execution_id"].as_str().unwrap().to_owned()), "given twice");
        } else {
            answer.assert_problem(429, "queue_full");
            assert!(answer.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
        }
    }
    let refused = SUBMISSIONS - accepted.len();
    assert!(accepted.len() >= 360 && refused > 0, "{} accepted, {refused} refused", accepted.len());
    for id in &accepted {
        let done = app.get(&format!("/api/v1/executions/{id}?wait=60")).await;
        assert_eq!(done.assert_ok()["status"], "completed", "{}", done.body);
    }
    assert_eq!(app.sandbox.jobs(), accepted.len(), "each of them ran, and nothing else");
    app.finish().await;
}

/// The disk is shared, too: a queue of large projects is bounded by its bytes.
#[tokio::test]
async fn projects_that_wait_are_bounded_by_their_bytes() {
    let app = TestApp::with(|config| {
        config.workers = Some(1);
        config.queue_mb = 1;
    })
    .await;
    let running = app.submit("hang").await;
    app.until(&running, "running").await;
    let large = || {
        let tar = tar_of(&[("main.py", b"1"), ("data.bin", &[7; 600_000][..])]);
        reqwest::multipart::Form::new().part("tar", reqwest::multipart::Part::bytes(tar))
    };
    let first = app.post_form("/api/v1/exec/async", large()).await;
    assert_eq!(first.status, 202, "{}", first.body);
    let second = app.post_form("/api/v1/exec/async", large()).await;
    assert!(second.assert_problem(429, "queue_full").contains("your executions hold too many bytes"));
    assert!(second.headers.contains_key("retry-after"));
    // Small ones still pass, and what ends makes room.
    assert_eq!(app.post_json("/api/v1/exec/async", &fake("exit 0")).await.status, 202);
    let waiting = format!("/api/v1/executions/{}", first.body["execution_id"].as_str().unwrap());
    app.delete(&waiting).await.assert_ok();
    let third = app.post_form("/api/v1/exec/async", large()).await;
    assert_eq!(third.status, 202, "{}", third.body);
    app.delete(&running).await.assert_ok();
    app.until(&format!("/api/v1/executions/{}", third.body["execution_id"].as_str().unwrap()), "completed")
        .await;
    app.finish().await;
}
