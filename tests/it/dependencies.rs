//! What a request may say of packages, and what a result says of them.

use execbox::config::Config;
use execbox::execution::intake::Installs;
use serde_json::{Value, json};

use crate::test_app::{TestApp, fake};

fn packages(config: &mut Config) {
    config.packages.installs = Installs::Packages;
}

async fn app_with(installs: Installs) -> TestApp {
    TestApp::with(|config| config.packages.installs = installs).await
}

fn with(field: &str, value: Value) -> Value {
    let mut body = json!({"code": "print(1)", "language": "python"});
    body[field] = value;
    body
}

/// What the sandbox was asked to run.
async fn spec(app: &TestApp, body: &Value) -> Value {
    let answer = app.post_json("/api/v1/eval", body).await;
    serde_json::from_str(answer.assert_ok()["stdout"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn nothing_is_installed_unless_the_operator_says_so() {
    let app = TestApp::start().await;
    for (field, value) in [
        ("requirements_txt", json!("six==1.16.0")),
        ("dependencies", json!({"requirements.txt": "six==1.16.0"})),
        ("install", json!(true)),
        ("pre_commands", json!(["true"])),
    ] {
        let answer = app.post_json("/api/v1/eval", &with(field, value)).await;
        let detail = answer.assert_problem(400, "not_supported");
        let setting = if field == "pre_commands" { "--installs code" } else { "--installs packages" };
        assert!(detail.starts_with(field) && detail.ends_with(setting), "{detail}");
    }
    let empty = json!({"code": "1", "requirements_txt": " ", "dependencies": {}, "install": false, "pre_commands": []});
    assert_eq!(spec(&app, &empty).await["dependencies"], Value::Null);
    app.finish().await;

    let app = app_with(Installs::Packages).await;
    let answer = app.post_json("/api/v1/eval", &with("pre_commands", json!(["true"]))).await;
    assert!(answer.assert_problem(400, "not_supported").contains("--installs code"));
    app.finish().await;
}

#[tokio::test]
async fn packages_reach_the_sandbox_in_one_form() {
    let app = TestApp::with(packages).await;
    let text = "B.c==2\n# x\nA[y,X] == 1.0 ; python_version>'3'\n";
    let canonical = "a[x,y]==1.0 ; python_version > \"3\"\nb-c==2\n";
    let project = json!({
        "language": "python",
        "files": [{"name": "main.py", "content": "1"}, {"name": "requirements.txt", "content": text}],
        "install": true,
    });
    for body in [
        with("requirements_txt", json!(text)),
        with("dependencies", json!({"requirements.txt": text})),
        project,
    ] {
        let spec = spec(&app, &body).await;
        assert_eq!(spec["dependencies"]["files"], json!({"requirements.txt": canonical}), "{body}");
        assert_eq!(spec["dependencies"]["code"], false);
        assert!(spec["env"].as_array().unwrap().contains(&json!(["PYTHONPATH", "/deps/site"])), "{spec}");
    }
    // A comment asks for nothing.
    assert_eq!(spec(&app, &with("requirements_txt", json!("# none"))).await["dependencies"], Value::Null);
    let mut own = with("requirements_txt", json!(text));
    own["env_vars"] = json!({"PYTHONPATH": "/work/lib"});
    assert!(spec(&app, &own).await["env"].as_array().unwrap().contains(&json!(["PYTHONPATH", "/work/lib"])));
    app.finish().await;

    let app = app_with(Installs::Code).await;
    let spec = spec(&app, &with("pre_commands", json!(["echo x > /work/x"]))).await;
    let expected = json!({"files": {}, "pre_commands": ["echo x > /work/x"], "code": true});
    assert_eq!(spec["dependencies"], expected);
    app.finish().await;
}

#[tokio::test]
async fn what_can_not_be_installed_is_refused_by_field_and_line() {
    let app = TestApp::with(packages).await;
    let long = "x".repeat(100_000);
    for (body, says) in [
        (with("requirements_txt", json!("six==1.16.0\nnumpy")), "requirements_txt: line 2, `numpy`"),
        (with("requirements_txt", json!("six @ https://evil.example/six.whl")), "is an address"),
        (with("requirements_txt", json!("--index-url https://evil.example")), "is an option"),
        (with("requirements_txt", json!(format!("six=={long}"))), "line 1"),
        (with("dependencies", json!({"requirements.txt": "./x"})), "dependencies: requirements.txt: line 1"),
        (with("dependencies", json!({"../x": ""})), "`../x`"),
        (with("dependencies", json!({"package.json": "{}"})), "`package.json`"),
        (with("install", json!(true)), "install: the project has no requirements.txt"),
        (json!({"code": "1", "language": "bash", "requirements_txt": "six==1.16.0"}), "bash"),
        (
            json!({"code": "1", "language": "python", "requirements_txt": "six==1.16.0",
                "dependencies": {"requirements.txt": "six==1.16.0"}}),
            "leave one of them out",
        ),
    ] {
        let answer = app.post_json("/api/v1/eval", &body).await;
        let detail = answer.assert_problem(400, "bad_dependencies");
        assert!(detail.contains(says) && detail.len() < 600, "{detail}");
    }
    app.finish().await;

    let app = app_with(Installs::Code).await;
    for commands in [json!(["a\u{0}b"]), json!(vec!["x"; 101]), json!([long])] {
        let answer = app.post_json("/api/v1/eval", &with("pre_commands", commands)).await;
        assert!(answer.assert_problem(400, "bad_dependencies").starts_with("pre_commands"));
    }
    app.finish().await;
}

#[tokio::test]
async fn of_a_lock_of_cargos_remain_the_crates_of_the_registry() {
    let app = TestApp::with(packages).await;
    let hash = "49f1f14873335454500d59611f1cf4a4b0f786f9ac11f4312a78e4cf2566695b";
    let lock = |source: &str| {
        format!(
            "version = 4\n[[package]]\nname = \"app\"\nversion = \"0.1.0\"\n\
             [[package]]\nname = \"itoa\"\nversion = \"1.0.11\"\nsource = \"{source}\"\nchecksum = \"{hash}\"\n"
        )
    };
    let manifest = "[package]\nname = \"app\"\nversion = \"0.1.0\"\n[dependencies]\nitoa = \"1\"\n";
    let fine = lock("registry+https://github.com/rust-lang/crates.io-index");
    let apart = |lock: &str| json!({"language": "rust", "code": "fn main() {}", "dependencies": {"Cargo.toml": manifest, "Cargo.lock": lock}});
    let project = json!({"install": true, "files": [
        {"name": "src/main.rs", "content": "fn main() {}"},
        {"name": "Cargo.toml", "content": manifest},
        {"name": "Cargo.lock", "content": fine},
    ]});
    for body in [apart(&fine), project] {
        let spec = spec(&app, &body).await;
        let locked = format!("itoa 1.0.11 {hash}\n");
        let files = &spec["dependencies"]["files"];
        assert_eq!(files["Cargo.lock"], locked, "{body}");
        let wanted = files["Cargo.toml"].as_str().unwrap();
        assert!(wanted.contains("itoa = \"1\"") && !wanted.contains("app"), "{wanted}");
    }
    // One that needs no crates asks for nothing.
    assert_eq!(spec(&app, &apart("version = 4\n")).await["dependencies"], Value::Null);

    let mut without = apart("");
    without["dependencies"] = Value::Null;
    without["install"] = json!(true);
    let mut other = without.clone();
    other["install"] = Value::Null;
    other["requirements_txt"] = json!("itoa==1.0.11");
    let git = "git+https://git.example/itoa#0123";
    for (body, says) in [
        (
            apart(&lock(git)),
            "dependencies: Cargo.lock: `itoa 1.0.11` is from `git+https://git.example/itoa#0123`",
        ),
        (
            apart(&lock("sparse+https://crates.example/")),
            "`itoa 1.0.11` is from `sparse+https://crates.example/`",
        ),
        (apart(&fine.replace(hash, "")), "`itoa 1.0.11` has no sha256"),
        (apart(&fine.replace("itoa", "../itoa")), "`../itoa 1.0.11` has no name"),
        (apart("[package]"), "Cargo.lock is no lock of cargo's"),
        (without, "install: the project has no Cargo.toml"),
        (other, "give Cargo.toml and Cargo.lock in `dependencies`"),
    ] {
        let answer = app.post_json("/api/v1/eval", &body).await;
        let detail = answer.assert_problem(400, "bad_dependencies");
        assert!(detail.contains(says) && detail.len() < 600, "{detail}");
    }
    app.finish().await;
}

#[tokio::test]
async fn of_a_description_remain_the_packages_that_programs_need() {
    let app = TestApp::with(packages).await;
    let text = "Package: app\nTitle: Mine\nDepends: R (>= 4.1)\nImports:\n    stringr(>=1.5),\n    R6\nSuggests: testthat\n";
    let apart = json!({"language": "r", "code": "1", "dependencies": {"DESCRIPTION": text}});
    let project = json!({"language": "r", "install": true, "entrypoint": "main.R",
        "files": [{"name": "main.R", "content": "1"}, {"name": "DESCRIPTION", "content": text}]});
    for body in [apart, project] {
        let spec = spec(&app, &body).await;
        let canonical = "Imports: R (>= 4.1),\n R6,\n stringr (>= 1.5)\n";
        assert_eq!(spec["dependencies"]["files"], json!({"DESCRIPTION": canonical}), "{body}");
        let libraries = json!(["R_LIBS", "/deps/usr/lib/R/site-library"]);
        assert!(spec["env"].as_array().unwrap().contains(&libraries), "{spec}");
    }
    for (text, says) in [
        (
            "Imports: R6,\n tidyverse/dplyr",
            "dependencies: DESCRIPTION: line 2, `tidyverse/dplyr`, is an address",
        ),
        ("Remotes: tidyverse/dplyr", "line 1, `Remotes`"),
        ("Additional_repositories: https://evil.example", "line 1, `Additional_repositories`"),
        ("Imports: dplyr (~ 1)", "line 1, `dplyr (~ 1)`"),
        ("dplyr", "line 1, `dplyr`"),
    ] {
        let body = json!({"language": "r", "code": "1", "dependencies": {"DESCRIPTION": text}});
        let answer = app.post_json("/api/v1/eval", &body).await;
        let detail = answer.assert_problem(400, "bad_dependencies");
        assert!(detail.contains(says) && detail.len() < 600, "{detail}");
    }
    let other = json!({"language": "r", "code": "1", "requirements_txt": "R6"});
    let answer = app.post_json("/api/v1/eval", &other).await;
    assert!(answer.assert_problem(400, "bad_dependencies").contains("give DESCRIPTION in `dependencies`"));
    app.finish().await;
}

#[tokio::test]
async fn a_range_passes_where_the_operator_allows_it() {
    let app = TestApp::with(|config| {
        packages(config);
        config.packages.allow_unpinned = true;
    })
    .await;
    let spec = spec(&app, &with("requirements_txt", json!("pandas>=2,<3\nnumpy"))).await;
    assert_eq!(spec["dependencies"]["files"]["requirements.txt"], "numpy\npandas<3,>=2\n");
    app.finish().await;
}

#[tokio::test]
async fn the_result_has_the_log_of_the_install() {
    let app = TestApp::start().await;
    let result = app.run("install_error").await;
    assert_eq!((&result["status"], &result["reason"]), (&json!("failed"), &json!("install_failed")));
    let expected = json!({"log": "ERROR: No matching distribution\n", "exit_code": 1, "duration_ms": 3});
    assert_eq!(result["install"], expected);
    assert_eq!(result["timings"]["install_ms"], 3.5);
    assert_eq!(result["exit_code"], 1);
    // Kept with the record.
    let path = format!("/api/v1/executions/{}", result["execution_id"].as_str().unwrap());
    assert_eq!(app.get(&path).await.assert_ok()["install"], expected);
    assert_eq!(app.run("exit 0").await.get("install"), None);
    app.finish().await;
}

#[tokio::test]
async fn other_packages_are_another_request_under_an_idempotency_key() {
    let app = TestApp::with(packages).await;
    let send = async |text: &str| {
        let mut body = fake("exit 0");
        body["requirements_txt"] = json!(text);
        let request = app.client.post(app.url("/api/v1/exec/sync")).json(&body);
        let response = request.header("idempotency-key", "one").send().await.unwrap();
        crate::test_app::Answer::read(response).await
    };
    let first = send("six==1.16.0").await.assert_ok()["execution_id"].clone();
    assert_eq!(send("six==1.16.0").await.assert_ok()["execution_id"], first);
    for other in ["SIX == 1.16.0", "six==1.17.0"] {
        send(other).await.assert_problem(422, "idempotency_key_reused");
    }
    app.finish().await;
}
