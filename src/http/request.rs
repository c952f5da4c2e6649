//! What a caller sends: the metadata part of a multipart body, and the JSON bodies, field by field.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::execution::json::Json;
use crate::http::error::{ApiError, Code};
use crate::http::shape::{self, Shape};
use crate::limits::RequestedLimits;

/// What to run and how. The same fields in the `metadata` part and in a JSON body; every field may be left out.
#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
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
    /// JSON body only: the files of the project, as a list or as `{"name": "content"}`. They win over `code`.
    #[schema(value_type = Option<FilesSchema>)]
    pub(super) files: Option<Files>,
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
#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ExecConfig {
    /// Wall time of the program, in seconds.
    pub(super) timeout_seconds: Option<f64>,
    /// Wall time of the compiler, in seconds.
    pub(super) compile_timeout_seconds: Option<f64>,
    /// Memory of the program and all it starts, in MiB.
    pub(super) memory_mb: Option<f64>,
    /// Size of the workspace and of /tmp, each, and of both together, in MiB.
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
#[derive(Debug, Deserialize, Serialize, ToSchema)]
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

/// Files in the order in which they came.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
pub(super) struct Files(pub(super) Vec<InlineFile>);

/// The two ways to write them.
#[derive(ToSchema)]
#[schema(as = Files)]
#[serde(untagged)]
#[allow(dead_code, reason = "only its schema is used")]
pub(super) enum FilesSchema {
    /// Each with its name, its content, and how that is written.
    List(Vec<InlineFile>),
    /// Content by name, as it is.
    Map(BTreeMap<String, String>),
}

impl<'de> Deserialize<'de> for Files {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FilesVisitor)
    }
}

struct FilesVisitor;

impl<'de> Visitor<'de> for FilesVisitor {
    type Value = Files;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of files or an object of contents")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Files, A::Error> {
        let mut all = Vec::new();
        while let Some(file) = seq.next_element()? {
            all.push(file);
        }
        Ok(Files(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Files, A::Error> {
        let mut all = Vec::new();
        while let Some((name, content)) = map.next_entry()? {
            all.push(InlineFile { name, content, encoding: Encoding::Utf8 });
        }
        Ok(Files(all))
    }
}

/// Environment variables in the order in which they came.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
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

/// Fields of an [`ExecRequest`], as they are checked before any of it is read. A test compares them with its schema.
const REQUEST: Shape = Shape::Object(&[
    ("entrypoint", Shape::Text),
    ("language", Shape::Text),
    ("python_version", Shape::Text),
    ("docker_image", Shape::Text),
    ("code", Shape::Text),
    ("files", Shape::Either(&Shape::List(&FILE), &Shape::Map(&Shape::Text))),
    ("requirements_txt", Shape::Text),
    ("dependencies", Shape::Map(&Shape::Text)),
    ("install", Shape::Flag),
    ("pre_commands", Shape::List(&Shape::Text)),
    ("stdin", Shape::Text),
    ("script_args", Shape::List(&Shape::Text)),
    ("env_vars", Shape::Either(&Shape::List(&Shape::Pair), &Shape::Map(&Shape::Text))),
    ("script", Shape::Flag),
    ("parameters", Shape::Any),
    ("input_data", Shape::Any),
    ("call", Shape::Text),
    ("capture_plots", Shape::Flag),
    ("eval_last_expr", Shape::Flag),
    ("artifacts", Shape::List(&Shape::Text)),
    ("lint", Shape::Flag),
    ("labels", Shape::Map(&Shape::Text)),
    ("config", CONFIG),
]);

/// The same of an [`ExecConfig`].
const CONFIG: Shape = Shape::Object(&[
    ("timeout_seconds", Shape::Number),
    ("compile_timeout_seconds", Shape::Number),
    ("memory_mb", Shape::Number),
    ("disk_mb", Shape::Number),
    ("cpus", Shape::Number),
    ("pids", Shape::Number),
    ("output_kb", Shape::Number),
    ("cpu_shares", Shape::Number),
    ("network_disabled", Shape::Flag),
]);

/// The same of an [`InlineFile`].
const FILE: Shape = Shape::Whole(
    2,
    &[("name", Shape::Text), ("content", Shape::Text), ("encoding", Shape::Word(&["utf8", "base64"]))],
);

/// Checks the JSON of a request, without keeping anything of it.
pub(super) fn check(json: &[u8]) -> Result<(), ApiError> {
    shape::check(json, &REQUEST)
}

/// Reads the JSON of a request; the error names the field and the place.
pub(super) fn parse(json: &[u8]) -> Result<ExecRequest, ApiError> {
    check(json)?;
    // The check leaves nothing to refuse.
    serde_json::from_slice(json).map_err(|error| ApiError::new(Code::BadJson, format!("the body: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(json: &str) -> (Code, String) {
        let error = parse(json.as_bytes()).unwrap_err();
        (error.code, error.detail)
    }

    #[test]
    fn unknown_fields_are_named_wherever_they_are() {
        for (json, told) in [
            (
                r#"{"mounts": []}"#,
                "the body: there is no field `mounts`; the fields are `entrypoint`, `language`,",
            ),
            (
                r#"{"config": {"privileged": true}}"#,
                "config: there is no field `privileged`; the fields are ",
            ),
            (
                r#"{"files": [{"name": "a", "content": "", "mode": 1}]}"#,
                "files[0]: there is no field `mode`; the fields",
            ),
            (
                r#"{"entry_point": "a"}"#,
                "the body: there is no field `entry_point`; did you mean `entrypoint`?",
            ),
            (r#"{"Language": "c"}"#, "the body: there is no field `Language`; did you mean `language`?"),
            (r#"{"args": []}"#, "the body: there is no field `args`; did you mean `script_args`?"),
            (
                r#"{"timeout_seconds": 1}"#,
                "the body: there is no field `timeout_seconds`; did you mean `config.timeout_",
            ),
            (
                r#"{"config": {"timeout": 1}}"#,
                "config: there is no field `timeout`; did you mean `timeout_seconds`?",
            ),
            (r#"{"files": [{"nmae": "a"}]}"#, "files[0]: there is no field `nmae`; did you mean `name`?"),
        ] {
            let (code, detail) = refusal(json);
            assert_eq!(code, Code::UnknownField, "{json}: {detail}");
            assert!(detail.starts_with(told), "{json}: {detail}");
        }
    }

    #[test]
    fn lists_in_place_of_objects_and_other_wrong_types_are_refused() {
        for (json, told) in [
            ("[]", "the body: this is a list; give an object (line 1 column"),
            (r#"["main.py", "python"]"#, "the body: this is a list; give an object"),
            (r#"{"config": [60, 60, 64]}"#, "config: this is a list; give an object"),
            (
                r#"{"files": [["a.py", "1"]]}"#,
                "files[0]: this is a list; give an object like {name, content, encoding}",
            ),
            (r#"{"labels": []}"#, "labels: this is a list; give an object of texts by name"),
            (r#"{"dependencies": []}"#, "dependencies: this is a list"),
            (r#"{"script_args": {}}"#, "script_args: this is an object; give a list of texts"),
            (r#"{"script_args": ["a", null]}"#, "script_args[1]: this is null; give a text"),
            (r#"{"code": 1}"#, "code: this is the number 1; give a text"),
            (r#"{"lint": "yes"}"#, "lint: this is the text \"yes\"; give true or false"),
            (
                r#"{"config": {"timeout_seconds": "unknown field `x`"}}"#,
                "config.timeout_seconds: this is the text \"unknown field `x`\"; give a number (line 1 column",
            ),
            (r#"{"files": [{"name": "a"}]}"#, "files[0]: `content` is missing; give an object like"),
            (
                r#"{"files": [{"name": "a", "content": "", "encoding": "hex"}]}"#,
                "files[0].encoding: this is the text \"hex\"",
            ),
            (r#"{"files": {"a.py": {"content": "1"}}}"#, "files.a.py: this is an object; give a text"),
            (
                r#"{"files": ["a.py"]}"#,
                "files[0]: this is the text \"a.py\"; give an object like {name, content",
            ),
            (
                r#"{"files": "a.py"}"#,
                "files: this is the text \"a.py\"; give a list of objects like {name, content, encoding} or an",
            ),
            (
                r#"{"env_vars": ["A=1", "B"]}"#,
                "env_vars[1]: this is the text \"B\" without a `=`; give a text like \"NAME",
            ),
        ] {
            let (code, detail) = refusal(json);
            assert_eq!(code, Code::BadJson, "{json}: {detail}");
            assert!(detail.starts_with(told), "{json}: {detail}");
        }
    }

    #[test]
    fn a_name_that_comes_twice_is_refused_wherever_it_does() {
        for (json, place) in [
            (r#"{"code": "a", "code": "b"}"#, "code"),
            (r#"{"code": "a", "co\u0064e": "b"}"#, "code"),
            (r#"{"parameters": {"a": 1, "b": {"c": 1, "c": 2}}}"#, "parameters.b.c"),
            (r#"{"input_data": [1, {"x": 1, "x": 1}]}"#, "input_data[1].x"),
            (r#"{"labels": {"a": "1", "a": "2"}}"#, "labels.a"),
            (r#"{"env_vars": {"A": "1", "A": "2"}}"#, "env_vars.A"),
            (r#"{"dependencies": {"a": "1", "a": "2"}}"#, "dependencies.a"),
            (r#"{"config": {"pids": 1, "pids": 2}}"#, "config.pids"),
            (r#"{"files": {"a.py": "1", "a.py": "2"}}"#, "files.a.py"),
            (r#"{"files": [{"name": "a", "name": "b", "content": ""}]}"#, "files[0].name"),
        ] {
            let (code, detail) = refusal(json);
            assert_eq!(code, Code::BadJson, "{json}: {detail}");
            assert!(detail.starts_with(&format!("{place}: this name comes twice")), "{json}: {detail}");
        }
        parse(
            br#"{"parameters": [{"a": 1}, {"a": 1}], "labels": {"a": "1"}, "input_data": {"a": {"a": 1}}}"#,
        )
        .unwrap();
    }

    #[test]
    fn what_is_no_json_is_refused_with_its_place() {
        for (json, told) in [
            ("", "the body: the JSON ends in the middle (line 1 column 0)"),
            ("{", "the body: the JSON ends in the middle"),
            ("{}{}", "the body: the JSON can't be read: trailing characters (line 1 column 3)"),
            ("{\"code\":\"\u{0}\"}", "code: the JSON can't be read: control character"),
            (r#"{"parameters": {"a": [1, tru]}}"#, "parameters.a[1]: the JSON can't be read: expected ident"),
            (
                r#"{"config": {"memory_mb": 1e999}}"#,
                "config.memory_mb: the JSON can't be read: number out of range",
            ),
        ] {
            let (code, detail) = refusal(json);
            assert_eq!(code, Code::BadJson, "{json}");
            assert!(detail.starts_with(told), "{json}: {detail}");
        }
        for deep in ["[".repeat(200_000), format!(r#"{{"parameters": {}"#, "[".repeat(200_000))] {
            assert_eq!(refusal(&deep).0, Code::BadJson);
        }
    }

    /// What is amplified from text to values is bounded; what stays text is not counted.
    #[test]
    fn values_are_counted_before_any_of_them_is_made() {
        let list = |name: &str, count: usize| format!(r#"{{"{name}": [{}""]}}"#, r#""","#.repeat(count - 1));
        assert_eq!(parse(list("script_args", 49_000).as_bytes()).unwrap().script_args.unwrap().len(), 49_000);
        for (json, place) in [
            (list("script_args", 2_800_000), "script_args[49999]"),
            (
                format!(r#"{{"files": [{}1]}}"#, r#"{"name": "", "content": ""},"#.repeat(50_000)),
                "files[1666",
            ),
        ] {
            let (code, detail) = refusal(&json);
            assert_eq!(code, Code::BadJson);
            assert!(detail.starts_with(place) && detail.contains("more than 50000 values"), "{detail}");
        }
        assert!(parse(list("input_data", 2_800_000).as_bytes()).unwrap().input_data.is_some());
        let names: String = (0..100_001).map(|name| format!(r#""{name}":1,"#)).collect();
        let (_, detail) = refusal(&format!(r#"{{"parameters": {{{names}"":1}}}}"#));
        assert!(detail.starts_with("parameters.") && detail.contains("more than 100000 names"), "{detail}");
    }

    #[test]
    fn the_shapes_have_the_fields_of_the_schemas() {
        let document: serde_json::Value = serde_json::from_str(&crate::http::openapi_json()).unwrap();
        for (shape, name) in [(&REQUEST, "ExecRequest"), (&CONFIG, "ExecConfig"), (&FILE, "InlineFile")] {
            let (Shape::Object(fields) | Shape::Whole(_, fields)) = shape else {
                panic!("{name} is an object")
            };
            let mut fields: Vec<_> = fields.iter().map(|(name, _)| *name).collect();
            fields.sort_unstable();
            let schema = document["components"]["schemas"][name]["properties"].as_object().unwrap();
            let mut known: Vec<_> = schema.keys().map(String::as_str).collect();
            known.sort_unstable();
            assert_eq!(fields, known, "{name}");
        }
    }

    #[test]
    fn files_come_as_a_list_or_by_name() {
        for json in [
            r#"{"files": [{"name": "b", "content": "1"}, {"name": "a", "content": "2", "encoding": "utf8"}]}"#,
            r#"{"files": {"b": "1", "a": "2"}}"#,
        ] {
            let Files(files) = parse(json.as_bytes()).unwrap().files.unwrap();
            let seen: Vec<_> = files.iter().map(|file| (file.name.as_str(), file.content.as_str())).collect();
            assert_eq!(seen, [("b", "1"), ("a", "2")], "{json}");
        }
    }

    #[test]
    fn what_is_quoted_is_cut_and_the_place_is_not() {
        let long = "\u{e9}".repeat(50_000);
        for (json, starts) in [
            (format!(r#"{{"{long}": 1}}"#), "the body: there is no field `\u{e9}"),
            (format!(r#"{{"labels": {{"{long}": 1}}}}"#), "labels.\u{e9}"),
            (format!(r#"{{"config": "{long}"}}"#), "config: this is the text \"\u{e9}"),
        ] {
            let (_, detail) = refusal(&json);
            assert!(detail.len() < 1_500, "{} bytes", detail.len());
            assert!(detail.starts_with(starts), "{detail}");
            assert!(detail.contains("line 1 column"), "{detail}");
        }
    }

    #[test]
    fn environment_variables_come_as_a_list_or_an_object() {
        let both = [r#"{"env_vars": ["A=1", "B=x=y"]}"#, r#"{"env_vars": {"A": "1", "B": "x=y"}}"#];
        for json in both {
            let EnvVars(all) = parse(json.as_bytes()).unwrap().env_vars.unwrap();
            assert_eq!(all, [("A".into(), "1".into()), ("B".into(), "x=y".into())], "{json}");
        }
    }

    #[test]
    fn null_means_absent_and_numbers_may_be_whole_or_not() {
        let request =
            parse(br#"{"stdin": null, "config": {"cpus": 0.5, "memory_mb": 64, "cpu_shares": 1024}}"#)
                .unwrap();
        let config = request.config.unwrap();
        assert_eq!((request.stdin, config.cpus, config.memory_mb), (None, Some(0.5), Some(64.0)));
    }
}
