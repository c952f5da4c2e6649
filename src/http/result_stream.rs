//! The result as an answer. Large output goes out in pieces that are made when the connection takes them: an answer that
//! is read slowly, or by many at once, occupies a piece of memory each, and not a text of its whole length.

use std::convert::Infallible;
use std::iter::once;

use actix_web::HttpResponse;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures::stream;
use serde_json::json;

use crate::execution::state::{Execution, Output};
use crate::http::error::ApiError;
use crate::http::result::ExecResult;

/// Output up to this size is answered in one piece, with its length in the head.
const SMALL: usize = 64 << 10;
/// Bytes of output in a piece. A multiple of three, so that pieces of base64 are one text.
const PIECE: usize = 15 << 10;

/// The result as the answer to a request.
pub(super) fn respond(execution: &Execution) -> Result<HttpResponse, ApiError> {
    if execution.output.len() <= SMALL {
        return Ok(HttpResponse::Ok().json(ExecResult::from(execution)));
    }
    let pieces = pieces(execution).map_err(|error| ApiError::internal(&error))?;
    let body = stream::iter(pieces.map(Ok::<_, Infallible>));
    Ok(HttpResponse::Ok().content_type("application/json").streaming(body))
}

/// The same object that [`ExecResult`] is, with the output at its end.
fn pieces(execution: &Execution) -> serde_json::Result<impl Iterator<Item = Bytes> + use<>> {
    let output = execution.output.clone();
    let mut rest = ExecResult::from(&Execution { output: Output::default(), ..execution.clone() });
    let compile = rest.compile.take();
    let head = opened(&rest)?;
    let program = fields("stdout", output.stdout, true).chain(fields("stderr", output.stderr, true));
    let compile = compile
        .map(|compile| opened(&json!({"exit_code": compile.exit_code, "duration_ms": compile.duration_ms})));
    let compile = compile.transpose()?.map(|head| {
        once(Bytes::from_static(b",\"compile\":"))
            .chain(once(head))
            .chain(fields("stdout", output.compile_stdout, false))
            .chain(fields("stderr", output.compile_stderr, false))
            .chain(once(Bytes::from_static(b"}")))
    });
    let end = once(Bytes::from_static(b"}"));
    Ok(once(head).chain(compile.into_iter().flatten()).chain(program).chain(end))
}

/// A JSON object that something follows in.
fn opened(object: &impl serde::Serialize) -> serde_json::Result<Bytes> {
    let mut text = serde_json::to_vec(object)?;
    text.pop();
    Ok(text.into())
}

/// The field of a text; where it is not exact and that is `told`, also the field of its exact bytes.
fn fields(name: &'static str, bytes: Bytes, told: bool) -> impl Iterator<Item = Bytes> {
    let exact = std::str::from_utf8(&bytes).is_ok();
    let base64 = (told && !exact).then(|| field(name, "_base64", encoded(bytes.clone())));
    let text = (!(told && bytes.is_empty())).then(|| field(name, "", escaped(bytes)));
    text.into_iter().flatten().chain(base64.into_iter().flatten())
}

fn field(
    name: &'static str,
    suffix: &'static str,
    value: impl Iterator<Item = Bytes>,
) -> impl Iterator<Item = Bytes> {
    once(Bytes::from(format!(",\"{name}{suffix}\":\""))).chain(value).chain(once(Bytes::from_static(b"\"")))
}

/// The inside of a JSON string.
fn escaped(bytes: Bytes) -> impl Iterator<Item = Bytes> {
    cut(bytes, |bytes| {
        let at = PIECE.min(bytes.len());
        // Never within a character: it has at most three bytes after its first.
        (at.saturating_sub(3)..=at).rev().find(|at| starts_here(bytes, *at)).unwrap_or(at)
    })
    .map(|piece| {
        let quoted = serde_json::Value::from(String::from_utf8_lossy(&piece)).to_string();
        let inside = 1..quoted.len() - 1;
        Bytes::from(quoted).slice(inside)
    })
}

fn encoded(bytes: Bytes) -> impl Iterator<Item = Bytes> {
    cut(bytes, |bytes| PIECE.min(bytes.len())).map(|piece| BASE64_STANDARD.encode(piece).into())
}

/// Whether no character of UTF-8 goes over this place.
fn starts_here(bytes: &[u8], at: usize) -> bool {
    bytes.get(at).is_none_or(|byte| byte & 0b1100_0000 != 0b1000_0000)
}

/// Cuts into pieces, of a length that is found for what is left each time.
fn cut(mut bytes: Bytes, length: impl Fn(&[u8]) -> usize) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || (!bytes.is_empty()).then(|| bytes.split_to(length(&bytes))))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;
    use serde_json::Value;

    use super::*;
    use crate::execution::id::{ExecutionId, Tenant};
    use crate::execution::state::{Finished, Status};
    use crate::sandbox::{CompileReport, Outcome, Reason, Timings, Truncated, Usage};

    fn execution(output: Output, compiled: bool) -> Execution {
        let finished = Finished {
            outcome: Outcome { reason: Reason::Exited, exit_code: Some(3), error: None },
            compile: compiled.then_some(CompileReport { exit_code: 1, duration_us: 2_600 }),
            artifacts: Vec::new(),
            truncated: Truncated::default(),
            usage: Usage::default(),
            queue_us: 1,
            duration_us: 2,
            timings: Timings::default(),
            result: Some("\"quoted\"}".into()),
            notices: vec!["a notice".into()],
        };
        Execution {
            id: ExecutionId::random(),
            tenant: Tenant::local(),
            status: Status::Completed,
            language: "c".into(),
            version: "1".into(),
            labels: Arc::default(),
            attempt: 1,
            created_at: Timestamp::UNIX_EPOCH,
            started_at: None,
            finished_at: None,
            output,
            finished: Some(Arc::new(finished)),
        }
    }

    /// A text of this length in which characters of every length, escapes and bad bytes come at all places.
    fn text(length: usize, pattern: &[u8]) -> Bytes {
        pattern.iter().copied().cycle().take(length).collect()
    }

    #[test]
    fn the_pieces_are_the_object_itself() {
        let patterns: [&[u8]; 6] = [
            b"plain",
            "a\u{e4}\u{20ac}\u{1f600}\"\\\n\u{1}".as_bytes(),
            "\u{1f600}".as_bytes(),
            b"\xff\xc3a\xe2\x82",
            b"\x80",
            b"\xf0\x9f\x98",
        ];
        for (index, pattern) in patterns.iter().enumerate() {
            for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + index] {
                let output = Output {
                    stdout: text(length, pattern),
                    stderr: text(length / 2, pattern),
                    compile_stdout: text(length / 3, pattern),
                    compile_stderr: text(length, pattern),
                };
                for compiled in [false, true] {
                    let execution = execution(output.clone(), compiled);
                    let pieces: Vec<_> = pieces(&execution).unwrap().collect();
                    assert!(pieces.iter().all(|piece| piece.len() <= 6 * PIECE), "a piece is large");
                    let streamed: Value = serde_json::from_slice(&pieces.concat()).unwrap();
                    let whole = serde_json::to_value(ExecResult::from(&execution)).unwrap();
                    assert_eq!(streamed, whole, "pattern {index}, length {length}");
                }
            }
        }
    }
}
