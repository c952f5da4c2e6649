//! Projects under `examples/`: detected, run sync and async, the same both ways, with their artifacts.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::projects::{describe, described, repository, tar};
use crate::server::Server;

/// `examples/LANGUAGE/PROJECT.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Example {
    language: Option<String>,
    entrypoint: Option<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    stdin: String,
    script: Option<bool>,
    call: Option<String>,
    capture_plots: Option<bool>,
    parameters: Option<Value>,
    input_data: Option<Value>,
    pub expect: Expect,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    #[serde(default)]
    exit_code: i64,
    stdout: String,
    #[serde(default)]
    stderr: String,
    #[serde(default)]
    pub artifacts: Vec<String>,
    #[serde(default)]
    results: Map<String, Value>,
    return_value: Option<Value>,
}

impl Example {
    /// What the request says.
    pub fn metadata(&self) -> Value {
        let mut metadata = json!({"script_args": self.args, "stdin": self.stdin});
        for (field, value) in [
            ("language", json!(self.language)),
            ("entrypoint", json!(self.entrypoint)),
            ("script", json!(self.script)),
            ("call", json!(self.call)),
            ("capture_plots", json!(self.capture_plots)),
            ("parameters", json!(self.parameters)),
            ("input_data", json!(self.input_data)),
        ] {
            if !value.is_null() {
                metadata[field] = value;
            }
        }
        metadata
    }
}

fn paths(result: &Value) -> Vec<String> {
    let artifacts = result["artifacts"].as_array().cloned().unwrap_or_default();
    artifacts.iter().map(|artifact| artifact["path"].as_str().unwrap().to_owned()).collect()
}

pub fn assert_as_expected(expect: &Expect, result: &Value) {
    assert_eq!(result["status"], "completed", "{result:#}");
    assert_eq!(result["exit_code"], expect.exit_code, "{result:#}");
    assert_eq!(result["stdout"].as_str().unwrap_or_default(), expect.stdout, "{result:#}");
    assert_eq!(result["stderr"].as_str().unwrap_or_default(), expect.stderr, "{result:#}");
    assert_eq!(paths(result), expect.artifacts, "{result:#}");
    let results = result["results"].as_object().cloned().unwrap_or_default();
    assert_eq!(results, expect.results, "{result:#}");
    assert_eq!(result["return_value"], json!(expect.return_value), "{result:#}");
}

async fn run_both_ways(server: &Server, language: &str, name: &str) {
    let example: Example = describe(&format!("examples/{language}/{name}.toml"));
    let archive = tar(&repository(&format!("examples/{language}/{name}")));
    let metadata = example.metadata();
    let sync = server.sync(&archive, &metadata).await;
    assert_as_expected(&example.expect, &sync);
    let id = server.submit(&archive, &metadata).await;
    let polled = server.wait(&id).await;
    assert_as_expected(&example.expect, &polled);
    assert_eq!(sync["artifacts"], polled["artifacts"], "the same files both ways, by their hashes");
    for path in &example.expect.artifacts {
        let url = format!("{}/api/v1/executions/{id}/artifacts/{path}", server.url);
        let file = server.client.get(url).send().await.unwrap();
        assert_eq!(file.headers()["content-type"], "application/octet-stream");
        assert!(!file.bytes().await.unwrap().is_empty(), "{path}");
    }
}

#[tokio::test]
async fn examples_do_what_they_say_sync_and_async() {
    let server = Server::start().await;
    let mut seen = 0;
    for language in ["bash", "c", "node", "python"] {
        for name in described(&format!("examples/{language}")) {
            run_both_ways(&server, language, &name).await;
            seen += 1;
        }
    }
    assert!(seen >= 4, "an example for each runtime");
    server.finish().await;
}
