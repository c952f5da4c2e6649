//! Images that requests name, and the operator's allow-list.

use serde_json::{Value, json};

use crate::test_app::TestApp;

fn with_image(image: &str) -> Value {
    json!({"code": "print(1)", "language": "python", "docker_image": image})
}

async fn allowing(rules: &'static [&'static str]) -> TestApp {
    TestApp::with(|config| config.containers.allow_image = rules.iter().map(ToString::to_string).collect())
        .await
}

#[tokio::test]
async fn only_what_a_rule_allows_is_run() {
    let app = allowing(&["python:3.*", "a.example:5000/team/*"]).await;
    for image in ["python:3.13-slim", "a.example:5000/team/x:1", "a.example:5000/team/x"] {
        let answer = app.post_json("/api/v1/eval", &with_image(image)).await;
        let stdout = answer.assert_ok()["stdout"].as_str().unwrap();
        let spec: Value = serde_json::from_str(stdout).unwrap();
        let full = if image.ends_with("/x") { format!("{image}:latest") } else { image.to_owned() };
        assert_eq!(spec["image"], json!(full));
        assert_eq!(spec["argv"], json!(["python3", "main.py"]), "found by PATH");
    }
    for image in ["python", "evil/python:3.1", "python:4", "a.example:5000/x", "../x", "sha256:00", "x y"] {
        let answer = app.post_json("/api/v1/eval", &with_image(image)).await;
        let detail = answer.assert_problem(400, "image_not_allowed");
        assert!(detail.starts_with("docker_image: "), "{detail}");
    }
    let answer = app.post_json("/api/v1/eval", &with_image("node:22")).await;
    let detail = answer.assert_problem(400, "image_not_allowed");
    assert!(detail.contains("--allow-image") && detail.contains("python:3.*"), "{detail}");
    app.finish().await;
}

#[tokio::test]
async fn what_only_our_own_images_have_is_refused() {
    let app = TestApp::with(|config| {
        config.containers.allow_image = vec!["python:*".to_owned()];
        config.packages.installs = execbox::execution::intake::Installs::Packages;
    })
    .await;
    for (field, value) in [
        ("eval_last_expr", json!(true)),
        ("script", json!(true)),
        ("call", json!("main")),
        ("capture_plots", json!(true)),
    ] {
        let mut helped = with_image("python:3");
        helped[field] = value;
        let answer = app.post_json("/api/v1/eval", &helped).await;
        assert!(answer.assert_problem(400, "image_not_allowed").contains(field));
    }
    let mut packages = with_image("python:3");
    packages["requirements_txt"] = json!("six==1.16.0");
    app.post_json("/api/v1/eval", &packages).await.assert_problem(400, "not_supported");
    app.finish().await;
}
