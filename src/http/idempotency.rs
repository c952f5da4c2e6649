//! The `Idempotency-Key` header: a caller that does not know whether its request arrived sends it again.

use std::io::{self, Read as _};
use std::sync::Arc;

use actix_web::{HttpRequest, web};
use sha2::{Digest as _, Sha256};

use crate::execution::idempotency::IdempotencyKey;
use crate::execution::spec::{ExecutionSpec, Stdin};
use crate::http::error::{ApiError, Code};
use crate::runtime::Command;

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

/// The key with what it names: two requests are the same when they run the same files in the same way, however their
/// bodies are packed.
pub(super) async fn named(
    key: String,
    spec: ExecutionSpec,
) -> Result<(IdempotencyKey, ExecutionSpec), ApiError> {
    let spec = Arc::new(spec);
    let hashed = Arc::clone(&spec);
    let hashing = web::block(move || fingerprint(&hashed)).await;
    let request =
        hashing.map_err(|error| ApiError::internal(&error))?.map_err(|error| ApiError::storage(&error))?;
    let spec = Arc::try_unwrap(spec).map_err(|_| ApiError::internal(&"a spec is still being hashed"))?;
    Ok((IdempotencyKey { key, request }, spec))
}

fn fingerprint(spec: &ExecutionSpec) -> io::Result<[u8; 32]> {
    let Command { compile, run, env } = &spec.command;
    let how = (&spec.runtime.name, &spec.runtime.version, compile, run, env);
    let with = (&spec.limits, &spec.artifacts, &spec.labels);
    let mut hash = Sha256::new();
    hash.update(serde_json::to_vec(&(how, with))?);
    if let Some(dependencies) = &spec.dependencies {
        hash.update(serde_json::to_vec(dependencies)?);
    }
    if let Some(image) = &spec.image {
        hash.update(image);
    }
    if let Stdin::Bytes(stdin) = &spec.stdin {
        hash.update((stdin.len() as u64).to_le_bytes());
        hash.update(stdin);
    }
    let mut project = spec.project.frames().open()?;
    let mut piece = vec![0; 64 << 10];
    loop {
        let count = project.read(&mut piece)?;
        if count == 0 {
            return Ok(hash.finalize().into());
        }
        hash.update(&piece[..count]);
    }
}
