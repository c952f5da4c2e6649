//! What a project says of itself: its files tell language and entrypoint, `execbox.toml` what else, its sources what the
//! lint has to say.

use execbox::runtime::{Catalogue, PathPattern};
use execbox::store::{KeySpec, LintRule};
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use crate::keys::{User, spec};
use crate::projects::{Folder, repository, runtime_folders};
use crate::test_app::{Answer, TestApp, tar_of};

const SYNC: &str = "/api/v1/exec/sync";

fn form(files: &[(&str, &[u8])], metadata: &Value) -> Form {
    Form::new().part("tar", Part::bytes(tar_of(files))).text("metadata", metadata.to_string())
}

fn inline(files: &[(&str, &[u8])], mut metadata: Value) -> Value {
    let file =
        |(name, content): &(&str, &[u8])| json!({"name": name, "content": String::from_utf8_lossy(content)});
    metadata["files"] = files.iter().map(file).collect();
    metadata
}

/// What the sandbox is given to run.
#[track_caller]
fn given(answer: &Answer) -> Value {
    serde_json::from_str(answer.assert_ok()["stdout"].as_str().unwrap()).unwrap()
}

/// Runs it as an archive and as inline files, which must come to the same.
async fn both_ways(app: &TestApp, files: &[(&str, &[u8])], metadata: &Value) -> Value {
    let archive = given(&app.post_form(SYNC, form(files, metadata)).await);
    let inline = given(&app.post_json(SYNC, &inline(files, metadata.clone())).await);
    assert_eq!(archive, inline);
    archive
}

#[tokio::test]
async fn a_project_is_found_by_its_files_and_their_content() {
    let app = TestApp::start().await;
    let package: &[u8] = br#"{"name": "shop", "main": "./lib/shop", "scripts": {"test": "jest"}}"#;
    let large = vec![b'#'; 200_000];
    for (files, language, word) in [
        (
            &[("go.mod", &b"module shop"[..]), ("shop.go", b""), ("gen.py", b"")][..],
            "go",
            "/work/.execbox/shop",
        ),
        // Too large for memory, and what tells stands last.
        (&[("lib/shop.js", &large), ("a.js", &large), ("package.json", package)], "node", "lib/shop.js"),
        (&[("tool.py", b""), ("run.sh", b""), ("schema.sql", b"")], "python", "tool.py"),
    ] {
        let given = both_ways(&app, files, &json!({})).await;
        assert_eq!(given["language"], language);
        assert!(given["argv"].as_array().unwrap().contains(&json!(word)), "{given}");
    }
    // One that is too long to be a package.json says nothing.
    let long = [package, &vec![b' '; 65 << 10]].concat();
    let files = [("package.json", &*long), ("lib/shop.js", b""), ("index.js", b"")];
    assert_eq!(both_ways(&app, &files, &json!({})).await["argv"][1], "index.js");
    app.finish().await;
}

#[tokio::test]
async fn what_is_undecided_is_refused_with_every_choice() {
    let app = TestApp::start().await;
    let both: [(&str, &[u8]); 2] = [("main.py", b""), ("main.js", b"")];
    let answer = app.post_form(SYNC, form(&both, &json!({}))).await;
    let detail = answer.assert_problem(400, "ambiguous_language");
    assert_eq!(
        detail,
        "language: the project could be node (main.js) or python (main.py); name its `entrypoint` or its `language`"
    );
    for decided in [json!({"entrypoint": "main.js"}), json!({"language": "node"})] {
        assert_eq!(both_ways(&app, &both, &decided).await["language"], "node");
    }
    let many: [(&str, &[u8]); 2] = [("shop.js", b""), ("cart.js", b"")];
    let answer = app.post_form(SYNC, form(&many, &json!({}))).await;
    assert!(answer.assert_problem(400, "no_entrypoint").ends_with("; name one of cart.js, shop.js"));
    app.finish().await;
}

/// python-executor's own clients name neither; what they send is Python.
#[tokio::test]
async fn the_first_inline_file_runs_only_where_all_is_python() {
    let app = TestApp::start().await;
    for (names, expected) in [
        (&["b.py", "a.py"][..], Some(("python", "b.py"))),
        (&["b.py", "a.py", "data.csv", "run.sh"], Some(("python", "b.py"))),
        (&["tool.py", "main.go", "go.mod"], Some(("go", "/work/.execbox/main"))),
        (&["b.py", "a.js"], None),
    ] {
        let files: Vec<(&str, &[u8])> = names.iter().map(|name| (*name, &b""[..])).collect();
        let answer = app.post_json(SYNC, &inline(&files, json!({}))).await;
        match expected {
            None => assert!(answer.assert_problem(400, "ambiguous_language").contains("python (b.py)")),
            Some((language, word)) => {
                let given = given(&answer);
                assert_eq!(given["language"], language, "{names:?}");
                assert!(given["argv"].as_array().unwrap().contains(&json!(word)), "{given}");
            }
        }
    }
    app.finish().await;
}

const WHOLE: &[u8] = br#"
language = "node"
entrypoint = "shop.js"
args = ["--quiet", "a b"]
artifacts = ["*.png"]

[env]
PLACE = "file"
COLOUR = "red"

[limits]
timeout_seconds = 7
memory_mb = 64
"#;

#[tokio::test]
async fn execbox_toml_says_how_a_project_is_run() {
    let app = TestApp::start().await;
    let files = [("execbox.toml", WHOLE), ("main.py", b""), ("shop.js", b"")];
    let given = both_ways(&app, &files, &json!({})).await;
    assert_eq!(given["argv"], json!(["/usr/bin/node", "shop.js", "--quiet", "a b"]));
    assert_eq!((&given["artifacts"], &given["limits"]["timeout_ms"]), (&json!(["*.png"]), &json!(7000)));
    assert_eq!(given["limits"]["memory_bytes"], 64 << 20);
    assert!(given["env"].as_array().unwrap().contains(&json!(["PLACE", "file"])), "{given}");
    // It is a file of the project like any other.
    assert_eq!(given["files"]["execbox.toml"], WHOLE.len());
    app.finish().await;
}

#[tokio::test]
async fn the_request_overrides_it_field_by_field() {
    let app = TestApp::start().await;
    let files = [("execbox.toml", WHOLE), ("main.py", b""), ("shop.js", b"")];
    let request = json!({
        "language": "python", "entrypoint": "main.py", "script_args": [], "artifacts": ["*.csv"],
        "env_vars": {"PLACE": "request"}, "config": {"memory_mb": 32},
    });
    let given = both_ways(&app, &files, &request).await;
    assert_eq!(given["argv"], json!(["/usr/bin/python3", "main.py"]));
    assert_eq!(
        (&given["artifacts"], &given["limits"]["memory_bytes"]),
        (&json!(["*.csv"]), &json!(32 << 20))
    );
    assert_eq!(given["limits"]["timeout_ms"], 7000, "what it leaves open is the file's");
    let env = given["env"].as_array().unwrap();
    assert!(env.contains(&json!(["PLACE", "request"])) && env.contains(&json!(["COLOUR", "red"])), "{given}");
    app.finish().await;
}

#[tokio::test]
async fn a_broken_execbox_toml_is_refused_with_the_place() {
    let app = TestApp::start().await;
    let long = vec![b'#'; 70_000];
    for (text, code, says) in [
        (
            &b"language = \"python\"\nlanguages = 1"[..],
            "bad_project_file",
            "line 2, column 1: unknown field `languages`",
        ),
        (b"[limits]\ngpus = 1", "bad_project_file", "line 2, column 1: unknown field `gpus`"),
        (b"language = \n", "bad_project_file", "execbox.toml: line 1, column 12: "),
        (b"args = \"x\"", "bad_project_file", "line 1, column 8: invalid type"),
        (b"\xff", "bad_project_file", "line 1, column 1: not UTF-8"),
        (&long, "bad_project_file", "is over 65536 bytes"),
        (b"language = \"pyhton\"", "unknown_language", "execbox.toml: language: `pyhton` is no language"),
        (b"entrypoint = \"../x\"", "bad_path", "execbox.toml: entrypoint: `../x`"),
        (b"entrypoint = \"gone.py\"", "no_entrypoint", "execbox.toml: entrypoint: `gone.py` is not a file"),
        (b"args = [\"a\\u0000\"]", "bad_args", "execbox.toml: args[0] holds a NUL"),
        (b"artifacts = [\"/etc/*\"]", "bad_artifacts", "execbox.toml: artifacts: `/etc/*`"),
        (b"[env]\nEXECBOX_X = \"1\"", "bad_env", "execbox.toml: env: `EXECBOX_X` is reserved"),
        (b"[limits]\nmemory_mb = 1e9", "limit_too_high", "execbox.toml: limits.memory_mb is 1000000000"),
        (b"[limits]\npids = 0", "limit_too_low", "execbox.toml: limits.pids is 0"),
    ] {
        let files = [("main.py", &b"print(1)"[..]), ("execbox.toml", text)];
        let answer = app.post_form(SYNC, form(&files, &json!({}))).await;
        let detail = answer.assert_problem(400, code);
        assert!(detail.contains(says), "{says} is not in {detail:?}");
    }
    // One in a folder is nobody's.
    both_ways(&app, &[("main.py", b""), ("sub/execbox.toml", b"]")], &json!({})).await;
    app.finish().await;
}

#[tokio::test]
async fn findings_are_notices_when_they_are_asked_for() {
    let app = TestApp::start().await;
    let files: [(&str, &[u8]); 3] = [
        ("main.py", b"import lib\n\nimport subprocess\n"),
        ("lib.py", b"eval('1')\n"),
        ("eval.txt", b"eval('1')"),
    ];
    let told = json!(["lint: lib.py:1: runs text as code", "lint: main.py:3: starts other programs"]);
    for (asked, notices) in
        [(json!({"lint": true}), Some(&told)), (json!({"lint": false}), None), (json!({}), None)]
    {
        for answer in [
            app.post_form(SYNC, form(&files, &asked)).await,
            app.post_json(SYNC, &inline(&files, asked.clone())).await,
        ] {
            let found = answer.assert_ok().get("notices").filter(|found| **found != json!([]));
            assert_eq!(found, notices, "{asked}");
        }
    }
    let answer = app.post_json("/api/v1/eval", &json!({"code": "eval('1')", "lint": true})).await;
    assert_eq!(answer.assert_ok()["notices"], json!(["lint: main.py:1: runs text as code"]));
    app.post_json(SYNC, &json!({"code": "1", "lint": "yes"})).await.assert_problem(400, "bad_json");
    app.finish().await;
}

#[tokio::test]
async fn a_key_can_tell_findings_always_or_refuse_them() {
    let app = TestApp::start().await;
    let with = |lint| KeySpec { lint, ..spec("a") };
    let bad = json!({"code": "x = 1\nimport socket\n", "lint": false});
    let plain = User::new(&app, &with(None)).post(SYNC, &bad).await;
    assert!(!plain.assert_ok()["notices"].to_string().contains("lint"));
    let advised = User::new(&app, &with(Some(LintRule::Advise))).post(SYNC, &bad).await;
    assert!(
        advised.assert_ok()["notices"][0].as_str().unwrap().starts_with("lint: main.py:2: opens network")
    );
    let blocked = User::new(&app, &with(Some(LintRule::Block)));
    let jobs = app.sandbox.jobs();
    for path in [SYNC, "/api/v1/exec/async", "/api/v1/eval"] {
        let answer = blocked.post(path, &bad).await;
        let detail = answer.assert_problem(400, "lint_refused");
        assert!(detail.contains("main.py:2: opens network connections"), "{detail}");
    }
    assert_eq!(app.sandbox.jobs(), jobs, "nothing that was refused ran");
    blocked.post(SYNC, &json!({"code": "print(1)"})).await.assert_ok();
    app.finish().await;
}

/// One row for each language, as it is in the catalogue.
#[test]
fn the_page_on_projects_has_every_language() {
    let page = std::fs::read_to_string(repository("docs/projects.md")).unwrap();
    let catalogue = Catalogue::load(None).unwrap();
    let cell = |words: &[&str]| words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" ");
    let mut missing = String::new();
    for Folder { name, version, .. } in runtime_folders() {
        let runtime = catalogue.resolve(&format!("{name}@{version}")).unwrap();
        let texts =
            |patterns: &[PathPattern]| cell(&patterns.iter().map(PathPattern::text).collect::<Vec<_>>());
        let outranks = cell(&runtime.signs.outranks.iter().map(String::as_str).collect::<Vec<_>>());
        let row = format!(
            "| {name} | {} | {} | {outranks} |\n",
            texts(&runtime.entrypoints),
            texts(&runtime.signs.markers)
        );
        // Versions share a row, and a variant is never found.
        let is_variant = runtime.base.as_ref().is_some_and(|base| base.extensions == runtime.extensions);
        if !is_variant && !page.contains(&row) && !missing.contains(&row) {
            missing.push_str(&row);
        }
    }
    assert!(missing.is_empty(), "docs/projects.md lacks:\n{missing}");
}
