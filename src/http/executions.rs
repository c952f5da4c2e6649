//! One execution: what is known of it, and its end before its time.
#![allow(unused_qualifications, reason = "utoipa's macro writes some")]

use std::time::Duration;

use actix_web::web::{Data, Query};
use actix_web::{HttpRequest, HttpResponse};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::execution::id::{BadExecutionId, ExecutionId};
use crate::failpoint;
use crate::http::State;
use crate::http::auth::Caller;
use crate::http::error::{ApiError, Code, Problems};
use crate::http::result::ExecResult;
use crate::http::result_stream;
use crate::store::Scope;

/// The longest wait that one request may ask for, in seconds.
const MAX_WAIT: u64 = 3_600;
/// Characters of a caller's text that an error quotes.
const MAX_SHOWN: usize = 64;

/// The path of everything that belongs to one execution.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[allow(dead_code, reason = "only its description is used")]
pub(super) struct IdPath {
    /// Execution id.
    #[param(
        pattern = "^exe_[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
        example = "exe_550e8400-e29b-41d4-a716-446655440000"
    )]
    id: String,
}

/// Query of `GET /api/v1/executions/{id}`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct GetQuery {
    /// Wait up to this many seconds for the end.
    #[param(minimum = 0, maximum = 3600, example = 30)]
    wait: Option<u64>,
}

/// Query of `DELETE /api/v1/executions/{id}`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DeleteQuery {
    /// Forget the record and the files, too.
    #[serde(default)]
    #[param(required = false)]
    purge: bool,
}

/// What a DELETE left.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Killed {
    /// `killed`, or how it had ended before.
    #[schema(value_type = crate::http::result::Status)]
    status: &'static str,
}

/// The result so far.
///
/// With `wait`, the answer comes when the execution has ended, or after that many seconds with what is known then.
#[utoipa::path(
    get, path = "/api/v1/executions/{id}", operation_id = "get_execution", tag = "executions",
    params(IdPath, GetQuery),
    responses(
        (status = 200, description = "The result, whatever the program did", body = ExecResult),
        Problems,
    )
)]
pub(super) async fn get(
    request: HttpRequest,
    caller: Caller,
    state: Data<State>,
) -> Result<HttpResponse, ApiError> {
    let tenant = caller.tenant(Scope::Read)?;
    let id = id(&request)?;
    let wait = query::<GetQuery>(&request)?.wait.unwrap_or(0);
    if wait > MAX_WAIT {
        return Err(ApiError::new(Code::BadQuery, format!("wait is {wait}; it may be at most {MAX_WAIT}")));
    }
    let found = state.app.service.wait(tenant, id, Some(Duration::from_secs(wait))).await?;
    caller.audit("read", id, found.is_some());
    let execution = found.ok_or_else(ApiError::no_execution)?;
    result_stream::respond(&execution)
}

/// Kills it. One that has ended already stays as it is.
#[utoipa::path(
    delete, path = "/api/v1/executions/{id}", operation_id = "kill_execution", tag = "executions",
    params(IdPath, DeleteQuery),
    responses(
        (status = 200, description = "How it ended", body = Killed),
        Problems,
    )
)]
pub(super) async fn kill(
    request: HttpRequest,
    caller: Caller,
    state: Data<State>,
) -> Result<HttpResponse, ApiError> {
    let tenant = caller.tenant(Scope::Run)?;
    let id = id(&request)?;
    let query = query::<DeleteQuery>(&request)?;
    let service = &state.app.service;
    let (action, status) = match query.purge {
        true => ("purge", service.purge(tenant, id).await?),
        false => ("kill", service.cancel(tenant, id).await?),
    };
    failpoint::pass(if query.purge { "answer.purge" } else { "answer.kill" });
    caller.audit(action, id, status.is_some());
    let status = status.ok_or_else(ApiError::no_execution)?.as_str();
    Ok(HttpResponse::Ok().json(Killed { status }))
}

/// The id in the path, by its grammar.
pub(super) fn id(request: &HttpRequest) -> Result<ExecutionId, ApiError> {
    let text = request.match_info().query("id");
    text.parse().map_err(|error: BadExecutionId| ApiError::new(Code::BadId, format!("{error}")))
}

/// A query with its parameters: the name of each, and what it takes.
pub(super) trait Parameters: DeserializeOwned {
    const ALL: &[(&str, &str)];
}

impl Parameters for GetQuery {
    const ALL: &[(&str, &str)] = &[("wait", "a whole number of seconds, like wait=30")];
}

impl Parameters for DeleteQuery {
    const ALL: &[(&str, &str)] = &[("purge", "purge=true or purge=false")];
}

/// The query, in which every parameter must be known, and come once.
pub(super) fn query<T: Parameters>(request: &HttpRequest) -> Result<T, ApiError> {
    let text = request.query_string();
    let read = Query::<T>::from_query(text);
    read.map(Query::into_inner).map_err(|_| ApiError::new(Code::BadQuery, query_fault(text, T::ALL)))
}

/// What is wrong with a query that could not be read.
fn query_fault(text: &str, all: &[(&str, &str)]) -> String {
    let pairs = Query::<Vec<(String, String)>>::from_query(text).map(Query::into_inner).unwrap_or_default();
    let names = || all.iter().map(|(name, _)| *name);
    if let Some((other, _)) = pairs.iter().find(|(name, _)| names().all(|known| known != name)) {
        let other: String = other.escape_debug().take(MAX_SHOWN).collect();
        let near = crate::runtime::nearest(&other, names());
        let meant = near.first().map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        return format!(
            "there is no query parameter `{other}` here{meant} (known: {})",
            Vec::from_iter(names()).join(", ")
        );
    }
    let faults = all.iter().filter_map(|(name, right)| {
        let mut given = pairs.iter().filter(|(given, _)| given == name);
        let (_, value) = given.next()?;
        let value: String = value.escape_debug().take(MAX_SHOWN).collect();
        Some(match given.next() {
            Some(_) => format!("the query parameter `{name}` comes more than once; give it once: {right}"),
            None => format!("the query parameter `{name}` is `{value}`; give {right}"),
        })
    });
    faults.collect::<Vec<_>>().join("; ")
}
