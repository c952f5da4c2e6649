//! The result as an answer. Large output goes out in pieces that are made when the connection takes them: an answer that
//! is read slowly, or by many at once, occupies a piece of memory each, and not a text of its whole length.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

use actix_web::HttpResponse;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures::stream::{self, Stream};
use serde_json::json;

use crate::execution::content::Content;
use crate::execution::state::{Execution, Finished, Output};
use crate::http::error::ApiError;
use crate::http::result::ExecResult;

/// Output up to this size is answered in one piece, with its length in the head.
const SMALL: usize = 64 << 10;
/// Bytes of output in a piece. A multiple of three, so that pieces of base64 are one text.
const PIECE: usize = 15 << 10;

/// What comes next in an answer.
enum Step {
    /// This.
    Bytes(Bytes),
    /// The inside of a JSON string.
    Text {
        content: Content,
        /// Where it goes on.
        at: usize,
        /// The field that the same bytes get in base64, if they turn out to be no text.
        base64: Option<&'static str>,
        exact: bool,
    },
    /// Base64 of these bytes.
    Base64 { content: Content, at: usize },
    /// A value that the program handed back, with its name.
    Value {
        finished: Arc<Finished>,
        /// Which of its results; `None` is the return value.
        which: Option<usize>,
        /// Where it goes on.
        at: usize,
    },
}

/// The result as the answer to a request.
pub(super) fn respond(execution: &Execution) -> Result<HttpResponse, ApiError> {
    let handed_back = execution.finished.as_ref().map_or(0, |finished| finished.handed_back());
    let is_small = |output: &Output| output.len() + handed_back <= SMALL;
    if let Some(output) = execution.output.in_memory().filter(is_small) {
        return Ok(HttpResponse::Ok().json(ExecResult::new(execution, &output)));
    }
    let steps = steps(execution).map_err(|error| ApiError::internal(&error))?;
    Ok(HttpResponse::Ok().content_type("application/json").streaming(pieces(steps)))
}

/// The same object that [`ExecResult`] is, with the output at its end.
fn steps(execution: &Execution) -> serde_json::Result<VecDeque<Step>> {
    let output = &execution.output;
    let mut rest = ExecResult::new(execution, &Output::default());
    let compile = rest.compile.take();
    (rest.return_value, rest.results) = (None, BTreeMap::new());
    let mut steps = VecDeque::from([Step::Bytes(opened(&rest)?)]);
    if let Some(finished) = &execution.finished {
        let value = |which| Step::Value { finished: Arc::clone(finished), which, at: 0 };
        steps.extend(finished.return_value.as_ref().map(|_| value(None)));
        let results = 0..finished.results.len();
        let closing = (!results.is_empty()).then(|| Step::Bytes(Bytes::from_static(b"}")));
        steps.extend(results.map(|which| value(Some(which))).chain(closing));
    }
    let mut field = |name: &str, content: &Content, base64| {
        steps.push_back(Step::Bytes(format!("{name}\"").into()));
        steps.push_back(Step::Text { content: content.clone(), at: 0, base64, exact: true });
        steps.push_back(Step::Bytes(Bytes::from_static(b"\"")));
    };
    if !output.stdout.is_empty() {
        field(",\"stdout\":", &output.stdout, Some("stdout_base64"));
    }
    if !output.stderr.is_empty() {
        field(",\"stderr\":", &output.stderr, Some("stderr_base64"));
    }
    if let Some(compile) = compile {
        let head = json!({"exit_code": compile.exit_code, "duration_ms": compile.duration_ms});
        let head = String::from_utf8_lossy(&opened(&head)?).into_owned();
        field(&format!(",\"compile\":{head},\"stdout\":"), &output.compile_stdout, None);
        field(",\"stderr\":", &output.compile_stderr, None);
        steps.push_back(Step::Bytes(Bytes::from_static(b"}")));
    }
    steps.push_back(Step::Bytes(Bytes::from_static(b"}")));
    Ok(steps)
}

/// A JSON object that something follows in.
fn opened(object: &impl serde::Serialize) -> serde_json::Result<Bytes> {
    let mut text = serde_json::to_vec(object)?;
    text.pop();
    Ok(text.into())
}

/// One piece after the other, each read and made when it is asked for.
fn pieces(steps: VecDeque<Step>) -> impl Stream<Item = io::Result<Bytes>> {
    stream::try_unfold(steps, |mut steps| async move {
        while let Some(step) = steps.pop_front() {
            let piece = match step {
                Step::Bytes(bytes) => bytes,
                // The quote that ends the text also ends what goes between.
                Step::Text { content, at, base64: Some(name), exact: false } if at == content.len() => {
                    steps.push_front(Step::Base64 { content, at: 0 });
                    format!("\",\"{name}\":\"").into()
                }
                Step::Text { content, at, .. } if at == content.len() => continue,
                Step::Text { content, at, base64, exact } => {
                    // One more, to see whether a character goes over the end.
                    let mut bytes = content.piece(at, PIECE + 1).await?;
                    bytes.truncate(text_length(&bytes));
                    let at = at + bytes.len();
                    let exact = exact && std::str::from_utf8(&bytes).is_ok();
                    steps.push_front(Step::Text { content, at, base64, exact });
                    escaped(&bytes)
                }
                Step::Value { finished, which, at } => {
                    let Some((name, text)) = value(&finished, which) else { continue };
                    let end = text.len().min(at + PIECE);
                    let name = if at == 0 { name.as_bytes() } else { b"" };
                    let piece = [name, &text.as_bytes()[at..end]].concat();
                    if end < text.len() {
                        steps.push_front(Step::Value { finished, which, at: end });
                    }
                    piece.into()
                }
                Step::Base64 { content, at } if at == content.len() => continue,
                Step::Base64 { content, at } => {
                    let bytes = content.piece(at, PIECE).await?;
                    steps.push_front(Step::Base64 { content, at: at + bytes.len() });
                    BASE64_STANDARD.encode(bytes).into()
                }
            };
            return Ok(Some((piece, steps)));
        }
        Ok(None)
    })
}

/// What stands before a value that the program handed back, and its text.
fn value(finished: &Finished, which: Option<usize>) -> Option<(String, &str)> {
    let Some(which) = which else {
        return finished.return_value.as_ref().map(|value| (",\"return_value\":".to_owned(), value.get()));
    };
    let (key, value) = finished.results.iter().nth(which)?;
    let before = if which == 0 { ",\"results\":{" } else { "," };
    Some((format!("{before}{}:", serde_json::Value::from(key.as_str())), value.get()))
}

/// The inside of a JSON string.
fn escaped(bytes: &[u8]) -> Bytes {
    let quoted = serde_json::Value::from(String::from_utf8_lossy(bytes)).to_string();
    let inside = 1..quoted.len() - 1;
    Bytes::from(quoted).slice(inside)
}

/// How much of this goes into one piece: never a part of a character, which has at most three bytes after its first.
fn text_length(bytes: &[u8]) -> usize {
    let at = PIECE.min(bytes.len());
    (at.saturating_sub(3)..=at).rev().find(|at| starts_here(bytes, *at)).unwrap_or(at)
}

/// Whether no character of UTF-8 goes over this place.
fn starts_here(bytes: &[u8], at: usize) -> bool {
    bytes.get(at).is_none_or(|byte| byte & 0b1100_0000 != 0b1000_0000)
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt as _;
    use jiff::Timestamp;
    use serde_json::Value;

    use super::*;
    use crate::execution::id::{ExecutionId, Tenant};
    use crate::execution::json::Json;
    use crate::execution::state::Status;
    use crate::sandbox::{CompileReport, Outcome, Reason, Timings, Truncated, Usage};

    fn execution(output: Output, compiled: bool) -> Execution {
        let finished = Finished {
            outcome: Outcome { reason: Reason::Exited, exit_code: 3, error: None },
            install: None,
            compile: compiled.then_some(CompileReport { exit_code: 1, duration_us: 2_600 }),
            artifacts: Vec::new(),
            truncated: Truncated::default(),
            usage: Usage::default(),
            queue_us: 1,
            duration_us: 2,
            timings: Timings::default(),
            result: Some("\"quoted\"}".into()),
            return_value: Some(Json::parse(r#"{"b": 1, "a": null}"#).unwrap()),
            results: BTreeMap::from([
                ("k \"q\"".into(), Json::parse("[1.50]").unwrap()),
                ("long".into(), Json::parse(&format!("\"{}\"", "\u{e4}\u{1f600}".repeat(PIECE))).unwrap()),
                ("empty".into(), Json::parse("{}").unwrap()),
            ]),
            diagnosis: None,
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
            output: output.into(),
            finished: Some(Arc::new(finished)),
        }
    }

    /// A text of this length in which characters of every length, escapes and bad bytes come at all places.
    fn text(length: usize, pattern: &[u8]) -> Bytes {
        pattern.iter().copied().cycle().take(length).collect()
    }

    #[tokio::test]
    async fn the_pieces_are_the_object_itself() {
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
                    let pieces: Vec<_> = pieces(steps(&execution).unwrap()).try_collect().await.unwrap();
                    assert!(pieces.iter().all(|piece| piece.len() <= 6 * PIECE), "a piece is large");
                    let streamed: Value = serde_json::from_slice(&pieces.concat()).unwrap();
                    let whole = serde_json::to_value(ExecResult::new(&execution, &output)).unwrap();
                    assert_eq!(streamed, whole, "pattern {index}, length {length}");
                }
            }
        }
    }
}
