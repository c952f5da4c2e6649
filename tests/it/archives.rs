//! Archives as the tools and clients of the field pack them.

use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use crate::projects::{Packed, go_tar};
use crate::test_app::{Answer, TestApp, tar_of};

const SYNC: &str = "/api/v1/exec/sync";

async fn send(app: &TestApp, tar: Vec<u8>, metadata: &Value) -> Answer {
    let form = Form::new().part("tar", Part::bytes(tar)).text("metadata", metadata.to_string());
    app.post_form(SYNC, form).await
}

async fn send_json(app: &TestApp, files: &[(&str, &[u8])], mut metadata: Value) -> Answer {
    let file =
        |(name, content): &(&str, &[u8])| json!({"name": name, "content": String::from_utf8_lossy(content)});
    metadata["files"] = files.iter().map(file).collect();
    app.post_json(SYNC, &metadata).await
}

/// What the sandbox is given, and what the caller is told.
#[track_caller]
fn given(answer: &Answer) -> (Value, String) {
    let result = answer.assert_ok();
    (serde_json::from_str(result["stdout"].as_str().unwrap()).unwrap(), result["notices"].to_string())
}

#[tokio::test]
async fn an_archive_of_a_client_in_go_runs() {
    let app = TestApp::start().await;
    let archive =
        go_tar(&[Packed::Dir("lib/"), Packed::File("lib/a.py", b"1"), Packed::File("main.py", b"2")]);
    let (given, _) = given(&send(&app, archive, &json!({})).await);
    assert_eq!(given["files"], json!({"lib/a.py": 1, "main.py": 1}));
    app.finish().await;
}

#[tokio::test]
async fn links_are_taken_or_left_out_with_a_notice() {
    let app = TestApp::start().await;
    let archive = go_tar(&[
        Packed::File("main.py", b"123"),
        Packed::Link("inside", "main.py"),
        Packed::Link("outside", "/etc/passwd"),
        Packed::Copy("copy.py", "main.py"),
        Packed::Copy("nothing", "/etc/shadow"),
    ]);
    let (given, notices) = given(&send(&app, archive, &json!({})).await);
    assert_eq!(given["files"], json!({"copy.py": 3, "main.py": 3}));
    for name in ["outside", "nothing"] {
        assert!(notices.contains(&format!("link \\\"{name}\\\" was left out")), "{notices}");
    }
    assert!(!notices.contains("inside\\\""), "{notices}");
    let bomb: Vec<String> = (0..9_000).map(|at| at.to_string()).collect();
    let big = vec![0; 60 << 20];
    let mut members = vec![Packed::File("main.py", &big)];
    members.extend(bomb.iter().map(|name| Packed::Copy(name, "main.py")));
    let answer = send(&app, go_tar(&members), &json!({})).await;
    answer.assert_problem(413, "archive_too_large");
    app.finish().await;
}

#[tokio::test]
async fn one_folder_on_top_is_taken_for_the_project() {
    let app = TestApp::start().await;
    let project: &[(&str, &[u8])] = &[("proj-1/main.py", b"1"), ("proj-1/lib/a.py", b"")];
    let mac = [project, &[("__MACOSX/proj-1/._main.py", &b"x"[..]), (".DS_Store", b"x"), ("._proj-1", b"x")]]
        .concat();
    let named = [project, &[("proj-1/execbox.toml", &b"entrypoint = \"lib/a.py\""[..])]].concat();
    for (files, metadata, start) in [
        (project, json!({}), "main.py"),
        (project, json!({"entrypoint": "lib/a.py"}), "lib/a.py"),
        (project, json!({"language": "python"}), "main.py"),
        (&mac, json!({}), "main.py"),
        (&named, json!({}), "lib/a.py"),
        (&named, json!({"entrypoint": "./proj-1/main.py"}), "main.py"),
    ] {
        for answer in
            [send(&app, tar_of(files), &metadata).await, send_json(&app, files, metadata.clone()).await]
        {
            let (given, notices) = given(&answer);
            assert!(given["argv"].as_array().unwrap().contains(&json!(start)), "{given}");
            assert!(notices.contains("all files are in the folder"), "{notices}");
            let names: Vec<_> = given["files"].as_object().unwrap().keys().collect();
            assert!(names.iter().all(|name| !name.contains("proj-1") && !name.contains("._")), "{names:?}");
        }
    }
    // As inline files it would be the first of them, which runs as it is named.
    let (alone, notices) = given(&send(&app, tar_of(&[("p/only.py", b"1")]), &json!({})).await);
    assert_eq!(alone["argv"][1], "only.py");
    assert!(notices.contains("all files are in the folder"), "{notices}");
    // These start from above.
    for (files, metadata, start) in [
        (project, json!({"entrypoint": "proj-1/main.py"}), "proj-1/main.py"),
        (&[("src/main.py", &b"1"[..]), ("src/a.py", b"")][..], json!({}), "src/main.py"),
        (&[("app/__main__.py", b"1"), ("app/a.py", b"")], json!({"entrypoint": "app/__main__.py"}), "app"),
    ] {
        let (given, notices) = given(&send(&app, tar_of(files), &metadata).await);
        let words = given["argv"].to_string();
        assert!(words.contains(start) && notices == "null", "{given} {notices}");
    }
    app.finish().await;
}

#[tokio::test]
async fn what_can_not_start_says_what_would() {
    let app = TestApp::start().await;
    for (files, metadata, code, says) in [
        (&[("analysis.ipynb", &b"{}"[..])][..], json!({}), "no_entrypoint", "notebooks are not run"),
        (&[("Main.py", b"1")], json!({"entrypoint": "main.py"}), "no_entrypoint", "did you mean `Main.py`?"),
        (
            &[("a/b.py", b"1")],
            json!({"entrypoint": "a\\b.py"}),
            "bad_path",
            "`a\\b.py` has a backslash; use /",
        ),
        (
            &[("tool", b"#!/usr/bin/env python3\n")],
            json!({"entrypoint": "tool"}),
            "unknown_language",
            "`tool` begins with `#!/usr/bin/env python3`, which looks like python: set `language`",
        ),
        (&[("tool", b"#!/bin/sh\n"), ("x.txt", b"")], json!({}), "no_entrypoint", "looks like bash"),
    ] {
        for answer in
            [send(&app, tar_of(files), &metadata).await, send_json(&app, files, metadata.clone()).await]
        {
            let detail = answer.assert_problem(400, code);
            assert!(detail.contains(says), "{detail}");
        }
    }
    app.finish().await;
}
