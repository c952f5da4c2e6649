//! Data for a program on its way in, and what it hands back on its way out.

use serde_json::{Value, json};

use crate::test_app::{Answer, TestApp, fake};

fn described(result: &Value) -> Value {
    serde_json::from_str(result["stdout"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn each_wish_takes_its_template_and_data_its_file() {
    let app = TestApp::start().await;
    let plain = json!(["/usr/bin/python3", "main.py"]);
    let script = json!(["/usr/bin/python3", "/usr/lib/execbox/script.pyc", "main.py"]);
    for (asked, argv, has_file) in [
        (json!({}), &plain, false),
        (json!({"script": false, "call": "", "parameters": null, "capture_plots": false}), &plain, false),
        (json!({"parameters": {"x": 1}}), &plain, true),
        (json!({"input_data": 0}), &plain, true),
        (json!({"eval_last_expr": true}), &script, false),
        (json!({"script": true}), &script, true),
        (json!({"call": "main"}), &script, true),
        (json!({"capture_plots": true}), &script, true),
        // Large enough to be in a file on its way.
        (json!({"script": true, "input_data": "x".repeat(1 << 20)}), &script, true),
    ] {
        let mut body = json!({"code": "1"});
        body.as_object_mut().unwrap().extend(asked.as_object().unwrap().clone());
        let result = app.post_json("/api/v1/exec/sync", &body).await;
        let spec = described(result.assert_ok());
        assert_eq!(&spec["argv"], argv, "{asked}");
        let env = spec["env"].as_array().unwrap();
        assert_eq!(env.contains(&json!(["EXECBOX_INPUT", "/work/.execbox/input.json"])), has_file, "{asked}");
        assert_eq!(spec["files"], json!({"main.py": 1}), "the file is none of the project");
    }
    app.finish().await;
}

#[tokio::test]
async fn what_is_handed_back_is_in_the_result_and_stays_there() {
    let app = TestApp::start().await;
    let result = app.run("results").await;
    assert_eq!(result["results"], json!({"k": {"b": 1.5, "a": null}}));
    assert_eq!((&result["return_value"], &result["truncated"]["results"]), (&json!([1]), &json!(true)));
    assert_eq!(result["notices"].as_array().unwrap().len(), 2, "{result:#}");
    let id = result["execution_id"].as_str().unwrap();
    assert_eq!(app.get(&format!("/api/v1/executions/{id}")).await.assert_ok(), &result);
    let none = app.run("exit 0").await;
    assert!(none.get("results").is_none() && none.get("return_value").is_none(), "{none}");
    app.finish().await;
}

#[tokio::test]
async fn data_that_no_program_could_read_is_refused_by_its_field() {
    let app = TestApp::start().await;
    let deep = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
    for (data, says) in [
        (deep(200), "nested deeper than 127 levels"),
        (deep(100_000), "nested deeper than 127 levels"),
        ("1e999".into(), ": the JSON can't be read: number out of range"),
        ("\"\\ud800\"".into(), ": the JSON can't be read: "),
        ("nan".into(), ": the JSON can't be read: "),
    ] {
        let body = format!(r#"{{"code": "1", "parameters": {data}}}"#);
        let request =
            app.client.post(app.url("/api/v1/exec/sync")).header("Content-Type", "application/json");
        let answer = Answer::read(request.body(body).send().await.unwrap()).await;
        let detail = answer.assert_problem(400, "bad_json");
        assert!(detail.starts_with("parameters") && detail.contains(says), "{detail}");
    }
    let body = json!({"code": "1", "parameters": {"deep": {"er": [1, {"x": [[]]}]}}, "labels": fake("exit 0")["labels"]});
    app.post_json("/api/v1/exec/sync", &body).await.assert_ok();
    app.finish().await;
}

#[tokio::test]
async fn data_has_a_cap_of_its_own() {
    let app = TestApp::with(|config| config.request.input_kb = 1).await;
    let body = |bytes: usize| json!({"code": "1", "parameters": "x".repeat(bytes - 2), "input_data": [1]});
    app.post_json("/api/v1/exec/sync", &body(1_021)).await.assert_ok();
    let answer = app.post_json("/api/v1/exec/sync", &body(1_022)).await;
    let detail = answer.assert_problem(413, "input_too_large");
    assert!(detail.contains("1025 bytes are over the limit of 1024"), "{detail}");
    app.finish().await;
}

#[tokio::test]
async fn what_a_language_can_not_do_is_refused_with_those_that_can() {
    let app = TestApp::start().await;
    for (body, code, named) in [
        (json!({"code": "1", "language": "lua", "script": true}), "script_not_supported", "python"),
        (json!({"code": "1", "language": "lua", "call": "main"}), "call_not_supported", "python"),
        (json!({"code": "1", "language": "lua", "capture_plots": true}), "plots_not_supported", "python"),
        (json!({"code": "1", "call": "main()"}), "bad_call", "call: `main()`"),
        (json!({"code": "1", "call": "x".repeat(10_000)}), "bad_call", "1 to 128"),
        (
            json!({"code": "1", "call": "main", "eval_last_expr": true}),
            "invalid_value",
            "`call` or `eval_last_expr`",
        ),
        (json!({"code": "1", "script": "ls"}), "bad_json", "script"),
        (
            json!({"code": "1", "input_data": "x".repeat(2 << 20), "config": {"disk_mb": 1}}),
            "project_too_large",
            "input_data",
        ),
    ] {
        let answer = app.post_json("/api/v1/exec/sync", &body).await;
        let detail = answer.assert_problem(400, code);
        assert!(detail.contains(named), "{named} is not in {detail:?}");
    }
    assert_eq!(app.sandbox.jobs(), 0, "nothing that was refused ran");
    app.finish().await;
}
