//! Every way in and out of an execution, sync and async.

use std::time::{Duration, Instant};

use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use crate::fake_sandbox::ARTIFACTS;
use crate::test_app::{TestApp, fake, form, tar_of};

/// What the fake sandbox saw of the spec.
fn described(result: &Value) -> Value {
    serde_json::from_str(result["stdout"].as_str().unwrap()).unwrap()
}

/// A result without what differs from run to run.
fn comparable(mut result: Value) -> Value {
    for field in ["execution_id", "created_at", "started_at", "finished_at", "duration_ms", "timings"] {
        assert!(!result[field].is_null(), "{field} is missing in {result}");
        result.as_object_mut().unwrap().remove(field);
    }
    result
}

#[tokio::test]
async fn sync_and_async_give_the_same_result() {
    let app = TestApp::start().await;
    for behaviour in [
        "exit 0",
        "exit 3",
        "signal",
        "oom",
        "timeout",
        "flood",
        "disk",
        "binary",
        "compile_error",
        "results",
    ] {
        let sync = app.run(behaviour).await;
        let path = app.submit(behaviour).await;
        let poll = app.get(&format!("{path}?wait=10")).await;
        assert_eq!(comparable(sync), comparable(poll.assert_ok().clone()), "{behaviour}");
    }
    app.finish().await;
}

#[tokio::test]
async fn outcomes_are_results_with_status_200() {
    let app = TestApp::start().await;
    for (behaviour, status, reason, exit_code) in [
        ("exit 0", "completed", "exited", json!(0)),
        ("exit 3", "completed", "exited", json!(3)),
        ("signal", "completed", "signaled", json!(139)),
        ("oom", "failed", "out_of_memory", json!(137)),
        ("timeout", "failed", "timed_out", json!(137)),
        ("flood", "failed", "output_limit", json!(137)),
        ("disk", "failed", "disk_limit", json!(137)),
        ("compile_error", "failed", "compile_failed", json!(1)),
        ("image", "failed", "internal", json!(125)),
        ("broken", "failed", "internal", json!(125)),
    ] {
        let result = app.run(behaviour).await;
        assert_eq!(result["status"], status, "{behaviour}");
        assert_eq!(result["reason"], reason, "{behaviour}");
        assert_eq!(result.get("exit_code"), Some(&exit_code), "{behaviour}");
    }
    app.finish().await;
}

#[tokio::test]
async fn a_result_has_the_documented_fields_and_no_empty_ones() {
    let app = TestApp::start().await;
    let result = app.run("exit 3").await;
    let fields: Vec<_> = result.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        fields,
        [
            "attempt",
            "created_at",
            "duration_ms",
            "execution_id",
            "exit_code",
            "finished_at",
            "labels",
            "language",
            "reason",
            "started_at",
            "status",
            "stderr",
            "stdout",
            "timings",
            "truncated",
            "usage",
            "version",
        ]
    );
    assert_eq!(
        result["usage"],
        json!({"wall_ms": 12, "cpu_ms": 11, "memory_peak_bytes": 9_437_184, "oom_kills": 1})
    );
    assert_eq!(result["timings"]["run_ms"], 12.4);
    assert_eq!(
        result["truncated"],
        json!({"stdout": false, "stderr": false, "artifacts": false, "results": false})
    );
    assert_eq!((&result["stdout"], &result["stderr"]), (&json!("out\n"), &json!("err\n")));
    for time in ["created_at", "started_at", "finished_at"] {
        let text = result[time].as_str().unwrap();
        assert!(text.len() == 24 && text.ends_with('Z') && text.as_bytes()[19] == b'.', "{text}");
    }

    let compile = app.run("compile_error").await;
    let expected = json!({"stdout": "", "stderr": "main.c:1: error\n", "exit_code": 1, "duration_ms": 3});
    assert_eq!(compile["compile"], expected);
    assert!(compile.get("stdout").is_none() && compile.get("stderr").is_none());
    app.finish().await;
}

#[tokio::test]
async fn output_is_kept_exactly_and_cut_at_the_cap() {
    let app = TestApp::start().await;
    let binary = app.run("binary").await;
    assert_eq!(binary["stdout"], "\u{fffd}\0\u{1b}[2J");
    assert_eq!(binary["stdout_base64"], "/wAbWzJK");
    let timeout = app.run("timeout").await;
    assert_eq!(timeout["stdout"], "before the end\n");
    assert!(timeout["error"].as_str().unwrap().contains("config.timeout_seconds"));
    let flood = app.run("flood").await;
    assert_eq!(flood["stdout"].as_str().unwrap().len(), 1 << 20);
    assert_eq!(flood["truncated"]["stdout"], true);
    assert_eq!(app.run("value").await["result"], "42");
    app.finish().await;
}

#[tokio::test]
async fn multipart_takes_both_parts_in_either_order_however_they_are_dressed() {
    let app = TestApp::start().await;
    let tar = || tar_of(&[("src/main.py", b"print(1)"), ("src/tools.py", b"x = 1\n")]);
    let metadata =
        json!({"entrypoint": "src/main.py", "script_args": ["-v"], "stdin": "in", "labels": {"a": "b"}});
    let plain = Form::new().part("tar", Part::bytes(tar())).text("metadata", metadata.to_string());
    let dressed = Form::new()
        .part("metadata", Part::text(metadata.to_string()).file_name("m.txt").mime_str("text/html").unwrap())
        .part("tar", Part::bytes(tar()).file_name("../x").mime_str("image/png").unwrap());
    for form in [plain, dressed] {
        let answer = app.post_form("/api/v1/exec/sync", form).await;
        let seen = described(answer.assert_ok());
        assert_eq!(seen["files"], json!({"src/main.py": 8, "src/tools.py": 6}));
        assert_eq!((&seen["stdin"], &seen["language"]), (&json!("in"), &json!("python")));
        let argv: Vec<_> = seen["argv"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert!(argv.ends_with(&["src/main.py", "-v"]) || argv.contains(&"src/main.py"), "{argv:?}");
        assert_eq!(answer.body["labels"], json!({"a": "b"}));
    }
    // Every field of the metadata has a default, so the part may be missing.
    let bare = Form::new().part("tar", Part::bytes(tar_of(&[("main.py", b"1")])));
    assert_eq!(app.post_form("/api/v1/exec/sync", bare).await.status, 200);
    app.finish().await;
}

#[tokio::test]
async fn inline_projects_come_as_code_or_files() {
    let app = TestApp::start().await;
    for (body, language, files) in [
        (json!({"code": "print(1)"}), "python", json!({"main.py": 8})),
        (json!({"code": "1", "entrypoint": "run.py"}), "python", json!({"run.py": 1})),
        (json!({"code": "1", "language": "node"}), "node", json!({"main.js": 1})),
        (
            json!({"files": [{"name": "b.py", "content": "1"}, {"name": "a.py", "content": ""}]}),
            "python",
            json!({"b.py": 1, "a.py": 0}),
        ),
        (
            json!({"files": [{"name": "main.py", "content": "AP8=", "encoding": "base64"}], "code": "no"}),
            "python",
            json!({"main.py": 2}),
        ),
    ] {
        for route in ["/api/v1/eval", "/api/v1/exec/sync"] {
            let answer = app.post_json(route, &body).await;
            let seen = described(answer.assert_ok());
            // The runtime says which file its code usually lies in; only its extension matters here.
            let names =
                |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
            if language == "node" {
                assert!(names(&seen["files"])[0].ends_with(".js"), "{seen}");
            } else {
                assert_eq!(seen["files"], files, "{body}");
            }
            assert_eq!(seen["language"], language, "{body}");
        }
    }
    app.finish().await;
}

#[tokio::test]
async fn fields_reach_the_program_and_limits_the_sandbox() {
    let app = TestApp::start().await;
    let body = json!({
        "code": "1", "env_vars": ["A=1", "B=x=y"], "artifacts": ["out/*"], "eval_last_expr": true,
        "config": {"timeout_seconds": 1.5, "memory_mb": 64, "pids": 9.0, "cpu_shares": 512, "network_disabled": false},
    });
    let answer = app.post_json("/api/v1/eval", &body).await;
    let seen = described(answer.assert_ok());
    let env = seen["env"].as_array().unwrap();
    assert!(env.contains(&json!(["A", "1"])) && env.contains(&json!(["B", "x=y"])), "{env:?}");
    assert_eq!(seen["limits"]["timeout_ms"], 1_500);
    assert_eq!(seen["limits"]["memory_bytes"], 64 << 20);
    assert_eq!(seen["limits"]["pids"], 9);
    assert_eq!(seen["artifacts"], json!(["out/*"]));
    let notices = answer.body["notices"].to_string();
    assert!(notices.contains("network stays off"), "{notices}");
    app.finish().await;
}

#[tokio::test]
async fn an_accepted_execution_says_where_its_result_will_be() {
    let app = TestApp::start().await;
    let answer = app.post_form("/api/v1/exec/async", form(&json!({}))).await;
    assert_eq!(answer.status, 202);
    let id = answer.body["execution_id"].as_str().unwrap();
    assert_eq!(answer.body, json!({"execution_id": id}));
    assert_eq!(answer.headers["location"], format!("/api/v1/executions/{id}"));
    app.until(&format!("/api/v1/executions/{id}"), "completed").await;
    app.finish().await;
}

#[tokio::test]
async fn waiting_ends_with_the_execution_or_the_time() {
    let app = TestApp::start().await;
    let path = app.submit("hang").await;
    app.until(&path, "running").await;
    let began = Instant::now();
    let so_far = app.get(&format!("{path}?wait=1")).await;
    assert!(began.elapsed() >= Duration::from_secs(1));
    let body = so_far.assert_ok();
    assert_eq!(
        (&body["status"], &body["stdout"], &body["exit_code"]),
        (&json!("running"), &json!("so far\n"), &Value::Null)
    );
    assert!(body.get("finished_at").is_none() && body.get("duration_ms").is_none(), "{body}");

    let waiting = format!("{path}?wait=30");
    let waiter = app.get(&waiting);
    let killer = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        app.delete(&path).await
    };
    let began = Instant::now();
    let (waited, killed) = tokio::join!(waiter, killer);
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!((&waited.body["status"], &killed.body), (&json!("killed"), &json!({"status": "killed"})));
    app.finish().await;
}

#[tokio::test]
async fn delete_kills_what_runs_and_what_waits_and_leaves_what_has_ended() {
    let app = TestApp::with(|config| config.workers = Some(1)).await;
    let running = app.submit("hang").await;
    app.until(&running, "running").await;
    let pending = app.submit("exit 0").await;
    assert_eq!(app.get(&pending).await.body["status"], "pending");
    let began = Instant::now();
    assert_eq!(app.delete(&pending).await.assert_ok(), &json!({"status": "killed"}));
    assert_eq!(app.delete(&running).await.assert_ok(), &json!({"status": "killed"}));
    assert!(began.elapsed() < Duration::from_millis(300));
    let killed = app.get(&running).await.body;
    assert_eq!((&killed["reason"], &killed["stdout"]), (&json!("killed"), &json!("so far\n")));
    assert_eq!(app.delete(&running).await.body, json!({"status": "killed"}), "again is harmless");

    let ended = app.submit("exit 0").await;
    app.until(&ended, "completed").await;
    assert_eq!(app.delete(&ended).await.assert_ok(), &json!({"status": "completed"}));
    assert_eq!(app.get(&ended).await.assert_ok()["status"], "completed");
    assert_eq!(app.sandbox.jobs(), 2, "the one that waited never ran");
    let never = app.get(&pending).await.body;
    assert_eq!((&never["reason"], &never["exit_code"]), (&json!("killed"), &json!(125)));
    app.finish().await;
}

#[tokio::test]
async fn purge_forgets_the_record_and_the_files() {
    let app = TestApp::start().await;
    let done = app.submit("artifacts").await;
    app.until(&done, "completed").await;
    let file = format!("{done}/artifacts/{}", ARTIFACTS[0].0);
    assert_eq!(app.client.get(app.url(&file)).send().await.unwrap().status(), 200);
    assert_eq!(app.delete(&format!("{done}?purge=true")).await.assert_ok(), &json!({"status": "completed"}));
    for path in [done.clone(), file, format!("{done}/artifacts"), format!("{done}/artifacts.tar")] {
        app.get(&path).await.assert_problem(404, "not_found");
    }
    app.delete(&done).await.assert_problem(404, "not_found");

    let running = app.submit("hang").await;
    assert_eq!(app.delete(&format!("{running}?purge=true")).await.assert_ok(), &json!({"status": "killed"}));
    app.get(&running).await.assert_problem(404, "not_found");
    app.finish().await;
}

#[tokio::test]
async fn a_callers_request_id_comes_back_and_others_get_one() {
    let app = TestApp::start().await;
    let asked = app.client.get(app.url("/health")).header("x-request-id", "trace-7").send().await.unwrap();
    assert_eq!(asked.headers()["x-request-id"], "trace-7");
    let bad = app.client.get(app.url("/nowhere")).header("x-request-id", "a b").send().await.unwrap();
    assert_ne!(bad.headers()["x-request-id"], "a b");
    let made = app.post_json("/api/v1/exec/sync", &fake("exit 0")).await;
    assert_eq!(made.headers["x-request-id"].len(), 36);
    assert!(made.headers.get("access-control-allow-origin").is_none());
    assert_eq!(made.headers["x-content-type-options"], "nosniff");
    app.finish().await;
}
