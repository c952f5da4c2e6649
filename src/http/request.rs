//! What a caller sends: the metadata part of a multipart body, and the JSON bodies, field by field.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::execution::json::Json;
use crate::http::error::{ApiError, Code};
use crate::limits::RequestedLimits;

/// What to run and how. The same fields in the `metadata` part and in a JSON body; every field may be left out.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"code": "print(6 * 7)", "language": "python"}))]
pub(super) struct ExecRequest {
    /// File to run. When absent, the project's `execbox.toml` says it, or its files do.
    #[schema(example = "main.py")]
    pub(super) entrypoint: Option<String>,
    /// Runtime's name, alias, or `name@version` with a semver range. When absent, the project's `execbox.toml` says it, or
    /// the entrypoint's extension, or the project's files.
    #[schema(example = "python")]
    pub(super) language: Option<String>,
    /// `"3.13"` means `language: python@3.13`.
    pub(super) python_version: Option<String>,
    /// An image of your own instead of the language's, where the operator allows it.
    #[schema(example = "python:3.13-slim")]
    pub(super) docker_image: Option<String>,
    /// JSON body only: the one file to run.
    #[schema(example = "print(6 * 7)")]
    pub(super) code: Option<String>,
    /// JSON body only: the files of the project. They win over `code`.
    pub(super) files: Option<Vec<InlineFile>>,
    /// Python packages, a line each: `name==version`, with `--hash=` and markers where wanted.
    #[schema(example = "six==1.16.0")]
    pub(super) requirements_txt: Option<String>,
    /// Packages in the language's own files, content by file name, such as `package.json` and `package-lock.json`, `Cargo.toml`
    /// and `Cargo.lock`, R's `DESCRIPTION`.
    pub(super) dependencies: Option<BTreeMap<String, String>>,
    /// Install what these files of the project name.
    pub(super) install: Option<bool>,
    /// Lines of shell that run before the install, in its container, not as root.
    pub(super) pre_commands: Option<Vec<String>>,
    /// Standard input.
    pub(super) stdin: Option<String>,
    /// Arguments of the program.
    pub(super) script_args: Option<Vec<String>>,
    /// Environment variables: `["K=V"]` or `{"K": "V"}`.
    #[schema(value_type = Option<EnvVarsSchema>)]
    pub(super) env_vars: Option<EnvVars>,
    /// The program gets names for its data and its results without an import (`docs/scripts.md`): `parameters`,
    /// `input_data`, `uploaded_files`, `save_result`, `load_file` and others.
    pub(super) script: Option<bool>,
    /// Any JSON for the program.
    #[schema(value_type = Option<Value>)]
    pub(super) parameters: Option<Json>,
    /// Any JSON for the program.
    #[schema(value_type = Option<Value>)]
    pub(super) input_data: Option<Json>,
    /// A function of the entrypoint to call without arguments; what it returns is the `return_value`.
    #[schema(example = "main")]
    pub(super) call: Option<String>,
    /// Plots that are open at the end become artifacts: `plot_1.png` and so on.
    pub(super) capture_plots: Option<bool>,
    /// Give the value of the last expression, as the language writes it, as `result`.
    pub(super) eval_last_expr: Option<bool>,
    /// Globs of the files to return; everything created or changed when absent.
    pub(super) artifacts: Option<Vec<String>>,
    /// Look through the sources for what is worth a word, and tell it as `notices`.
    pub(super) lint: Option<bool>,
    /// Kept with the record.
    pub(super) labels: Option<BTreeMap<String, String>>,
    /// Limits that differ from the defaults.
    pub(super) config: Option<ExecConfig>,
}

/// Limits of one execution. More than the server's ceiling is refused; `GET /api/v1/runtimes` shows the ceilings.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ExecConfig {
    /// Wall time of the program, in seconds.
    pub(super) timeout_seconds: Option<f64>,
    /// Wall time of the compiler, in seconds.
    pub(super) compile_timeout_seconds: Option<f64>,
    /// Memory of the program and all it starts, in MiB.
    pub(super) memory_mb: Option<f64>,
    /// Size of the workspace, in MiB.
    pub(super) disk_mb: Option<f64>,
    /// Processors, as a fraction.
    pub(super) cpus: Option<f64>,
    /// Processes and threads.
    pub(super) pids: Option<f64>,
    /// What is kept of stdout, and again of stderr, in KiB.
    pub(super) output_kb: Option<f64>,
    /// Accepted for clients of python-executor, without effect: use `cpus`.
    #[allow(dead_code, reason = "read so that it is a known field of the right type")]
    pub(super) cpu_shares: Option<f64>,
    /// Accepted for clients of python-executor; the network stays off.
    pub(super) network_disabled: Option<bool>,
}

/// A file of an inline project.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct InlineFile {
    /// Path relative to the workspace.
    #[schema(example = "src/tools.py")]
    pub(super) name: String,
    /// Its content.
    pub(super) content: String,
    /// How `content` is to be read.
    #[serde(default)]
    pub(super) encoding: Encoding,
}

/// How a file's content is written in JSON.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Encoding {
    /// As it is.
    #[default]
    Utf8,
    /// RFC 4648, with padding.
    Base64,
}

/// Environment variables in the order in which they came.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct EnvVars(pub(super) Vec<(String, String)>);

/// The two ways to write them.
#[derive(ToSchema)]
#[schema(as = EnvVars)]
#[serde(untagged)]
#[allow(dead_code, reason = "only its schema is used")]
pub(super) enum EnvVarsSchema {
    /// `NAME=value`
    List(Vec<String>),
    /// Value by name.
    Map(BTreeMap<String, String>),
}

impl<'de> Deserialize<'de> for EnvVars {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EnvVisitor)
    }
}

struct EnvVisitor;

impl<'de> Visitor<'de> for EnvVisitor {
    type Value = EnvVars;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#"a list of "NAME=value" or an object of strings"#)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<EnvVars, A::Error> {
        let mut all = Vec::new();
        while let Some(pair) = seq.next_element::<String>()? {
            let (name, value) = pair.split_once('=').ok_or_else(|| {
                serde::de::Error::custom(format_args!("entry {} has no `=`; write \"NAME=value\"", all.len()))
            })?;
            all.push((name.to_owned(), value.to_owned()));
        }
        Ok(EnvVars(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<EnvVars, A::Error> {
        let mut all = Vec::new();
        while let Some(pair) = map.next_entry::<String, String>()? {
            all.push(pair);
        }
        Ok(EnvVars(all))
    }
}

impl From<&ExecConfig> for RequestedLimits {
    fn from(config: &ExecConfig) -> Self {
        Self {
            timeout_seconds: config.timeout_seconds,
            compile_timeout_seconds: config.compile_timeout_seconds,
            memory_mb: config.memory_mb,
            disk_mb: config.disk_mb,
            cpus: config.cpus,
            pids: config.pids,
            output_kb: config.output_kb,
        }
    }
}

/// Reads JSON; the error names the field and the place.
pub(super) fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, ApiError> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        json_error(&path, &error.into_inner())
    })?;
    reader.end().map_err(|error| json_error(".", &error))?;
    Ok(value)
}

/// A field that does not exist is told apart by the words of serde's own message.
fn json_error(path: &str, error: &serde_json::Error) -> ApiError {
    let message = error.to_string();
    let field = if path == "." { String::new() } else { format!("{}: ", without_middle(path, 100, 50)) };
    let code = if message.starts_with("unknown field `") { Code::UnknownField } else { Code::BadJson };
    // What is expected, and the place, are at the end.
    ApiError::new(code, format!("{field}{}", without_middle(&message, 200, 500)))
}

/// A text that quotes what was sent can be as long as the body: no more of it than this many bytes at each end.
fn without_middle(text: &str, start: usize, end: usize) -> String {
    if text.len() <= start + end {
        return text.to_owned();
    }
    let (start, end) = (text.floor_char_boundary(start), text.ceil_char_boundary(text.len() - end));
    format!("{} ... {}", &text[..start], &text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(json: &str) -> (Code, String) {
        let error = parse::<ExecRequest>(json.as_bytes()).unwrap_err();
        (error.code, error.detail)
    }

    #[test]
    fn unknown_fields_are_named_wherever_they_are() {
        for (json, name) in [
            (r#"{"mounts": []}"#, "mounts"),
            (r#"{"config": {"privileged": true}}"#, "config"),
            (r#"{"config": {"privileged": true}}"#, "`privileged`"),
            (r#"{"files": [{"name": "a", "content": "", "mode": 1}]}"#, "files[0]"),
        ] {
            let (code, detail) = refusal(json);
            assert_eq!(code, Code::UnknownField, "{json}: {detail}");
            assert!(detail.contains(name), "{json}: {detail}");
        }
    }

    #[test]
    fn wrong_types_name_the_path_and_the_place() {
        let (code, detail) = refusal(r#"{"config": {"timeout_seconds": "unknown field `x`"}}"#);
        assert_eq!(code, Code::BadJson);
        assert!(detail.starts_with("config.timeout_seconds: invalid type"), "{detail}");
        assert!(detail.contains("line 1 column"), "{detail}");
        for json in
            ["", "{", "[]", "{}{}", r#"{"code": 1}"#, r#"{"code": "a", "code": "b"}"#, "{\"code\":\"\u{0}\"}"]
        {
            assert_eq!(refusal(json).0, Code::BadJson, "{json}");
        }
        assert_eq!(refusal(&"[".repeat(200_000)).0, Code::BadJson);
        assert_eq!(refusal(&format!(r#"{{"parameters": {}"#, "[".repeat(200_000))).0, Code::BadJson);
        assert_eq!(refusal(r#"{"config": {"memory_mb": 1e999}}"#).0, Code::BadJson);
    }

    #[test]
    fn what_is_quoted_is_cut_and_the_place_is_not() {
        let long = "\u{e9}".repeat(50_000);
        for (json, starts) in [
            (format!(r#"{{"{long}": 1}}"#), "\u{e9}"),
            (format!(r#"{{"labels": {{"{long}": 1}}}}"#), "labels.\u{e9}"),
            (format!(r#"{{"config": "{long}"}}"#), "config: invalid type: string \"\u{e9}"),
        ] {
            let (_, detail) = refusal(&json);
            assert!(detail.len() < 1_000, "{} bytes", detail.len());
            assert!(detail.starts_with(starts), "{detail}");
            assert!(detail.contains("line 1 column"), "{detail}");
            assert!(detail.contains("unknown field `") || detail.contains("invalid type: "), "{detail}");
        }
    }

    #[test]
    fn environment_variables_come_as_a_list_or_an_object() {
        let both = [r#"{"env_vars": ["A=1", "B=x=y"]}"#, r#"{"env_vars": {"A": "1", "B": "x=y"}}"#];
        for json in both {
            let EnvVars(all) = parse::<ExecRequest>(json.as_bytes()).unwrap().env_vars.unwrap();
            assert_eq!(all, [("A".into(), "1".into()), ("B".into(), "x=y".into())], "{json}");
        }
        let (code, detail) = refusal(r#"{"env_vars": ["A=1", "B"]}"#);
        assert_eq!(code, Code::BadJson);
        assert!(detail.contains("env_vars") && detail.contains("entry 1"), "{detail}");
    }

    #[test]
    fn null_means_absent_and_numbers_may_be_whole_or_not() {
        let request: ExecRequest =
            parse(br#"{"stdin": null, "config": {"cpus": 0.5, "memory_mb": 64, "cpu_shares": 1024}}"#)
                .unwrap();
        let config = request.config.unwrap();
        assert_eq!((request.stdin, config.cpus, config.memory_mb), (None, Some(0.5), Some(64.0)));
    }
}
