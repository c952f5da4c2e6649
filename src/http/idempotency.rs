//! The `Idempotency-Key` header: a caller that does not know whether its request arrived sends it again.

use std::io::{self, Read as _};

use actix_web::{HttpRequest, web};
use sha2::{Digest as _, Sha256};

use crate::archive::Project;
use crate::execution::idempotency::IdempotencyKey;
use crate::http::error::{ApiError, Code};
use crate::http::request::ExecRequest;

const HEADER: &str = "idempotency-key";
/// Characters of a key.
const MAX_KEY: usize = 255;

/// The key of a request, where it has one.
pub(super) fn key(request: &HttpRequest) -> Result<Option<String>, ApiError> {
    let mut given = request.headers().get_all(HEADER);
    let Some(first) = given.next() else { return Ok(None) };
    let text = first.to_str().unwrap_or_default();
    let fine = (1..=MAX_KEY).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if fine && given.next().is_none() {
        return Ok(Some(text.to_owned()));
    }
    let detail = format!("Idempotency-Key must be one word of 1 to {MAX_KEY} visible ASCII characters");
    Err(ApiError::new(Code::BadIdempotencyKey, detail))
}

/// The key with what it names: two requests are the same when every field of them is, and every file of their projects,
/// however an archive is packed.
pub(super) async fn named(
    key: String,
    request: ExecRequest,
    project: Project,
) -> Result<(IdempotencyKey, ExecRequest, Project), ApiError> {
    let hashing = web::block(move || {
        let hash = fingerprint(&request, &project)?;
        io::Result::Ok((IdempotencyKey { key, request: hash }, request, project))
    });
    let hashed = hashing.await.map_err(|error| ApiError::internal(&error))?;
    hashed.map_err(|error| ApiError::storage(&error))
}

/// The whole request is hashed as it would be written, so that no field can be forgotten. Its files are in the project.
fn fingerprint(request: &ExecRequest, project: &Project) -> io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    hash.update(serde_json::to_vec(request)?);
    let mut frames = project.frames().open()?;
    let mut piece = vec![0; 64 << 10];
    loop {
        let count = frames.read(&mut piece)?;
        if count == 0 {
            return Ok(hash.finalize().into());
        }
        hash.update(&piece[..count]);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashSet};
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::config::Config;
    use crate::http::request::parse;
    use crate::http::submission::Inline;
    use crate::runtime::Catalogue;

    /// A value for each field, other than what the request below has.
    fn others() -> Value {
        json!({
            "entrypoint": "b.py", "language": "bash", "python_version": "3", "docker_image": "x:1", "code": "2",
            "files": {"main.py": "3"}, "requirements_txt": "six==1.16.0", "dependencies": {"package.json": "{}"},
            "install": true, "pre_commands": ["true"], "stdin": "x", "script_args": ["x"], "env_vars": {"K": "V"},
            "script": true, "parameters": {"x": 1}, "input_data": [1], "call": "main", "capture_plots": true,
            "eval_last_expr": true, "artifacts": ["*.png"], "lint": true, "labels": {"k": "v"},
            "config": {"pids": 7}
        })
    }

    fn limits() -> Value {
        json!({
            "timeout_seconds": 7, "compile_timeout_seconds": 7, "memory_mb": 77, "disk_mb": 7, "cpus": 0.5, "pids": 7,
            "output_kb": 7, "cpu_shares": 7, "network_disabled": false
        })
    }

    fn schema(name: &str) -> BTreeSet<String> {
        let document: Value = serde_json::from_str(&crate::http::openapi_json()).unwrap();
        let fields = document["components"]["schemas"][name]["properties"].as_object().unwrap();
        fields.keys().cloned().collect()
    }

    #[test]
    fn every_field_of_the_schema_changes_the_fingerprint() {
        let (catalogue, spool) = (Arc::new(Catalogue::load(None).unwrap()), tempfile::tempdir().unwrap());
        let print = |body: &Value| {
            let request = parse(body.to_string().as_bytes()).unwrap();
            let inline = Inline::new(request, &catalogue).unwrap();
            let (request, project) = inline.write(spool.path(), Config::default().archive_limits()).unwrap();
            fingerprint(&request, &project).unwrap()
        };
        let base = json!({"code": "1"});
        assert_eq!(print(&base), print(&base));
        let mut seen = HashSet::from([print(&base)]);
        for (fields, of) in [(others(), "ExecRequest"), (limits(), "ExecConfig")] {
            let fields = fields.as_object().unwrap();
            assert_eq!(fields.keys().cloned().collect::<BTreeSet<_>>(), schema(of), "{of}");
            for (name, value) in fields {
                let mut body = base.clone();
                let place = if of == "ExecConfig" { &mut body["config"] } else { &mut body };
                place[name] = value.clone();
                let known = name == "pids" && of == "ExecConfig";
                assert_eq!(seen.insert(print(&body)), !known, "{name}");
            }
        }
    }
}
