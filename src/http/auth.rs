//! Who calls: the key of a request, what it is allowed, and how often. Once the server has keys, everything but the
//! open paths needs one.

use std::future::{Ready, ready};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_web::dev::{Payload, ServiceRequest};
use actix_web::http::header::{self, HeaderMap, HeaderName};
use actix_web::{FromRequest, HttpMessage as _, HttpRequest};
use tracing::info;

use crate::execution::id::{ExecutionId, Tenant};
use crate::execution::intake::LintMode;
use crate::execution::spec::KeyShare;
use crate::http::State;
use crate::http::error::{ApiError, Code};
use crate::limits::LimitPolicy;
use crate::store::{ApiKey, DatabaseError, Keys, LintRule, Scope};

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// How long the answer is believed that there are no keys at all.
const FRESH: Duration = Duration::from_secs(1);

/// Health and documentation. Compared with the path as it was sent, so that another spelling needs a key.
fn is_open(path: &str) -> bool {
    matches!(path, "/health" | "/healthz" | "/readyz" | "/openapi.json" | "/docs")
        || path.starts_with("/docs/")
}

/// Who sent a request. The tenant comes out of it only for a scope that the key has.
#[derive(Clone)]
pub(super) struct Caller {
    key: Option<Arc<ApiKey>>,
    tenant: Tenant,
    request_id: Arc<str>,
}

impl Caller {
    /// The tenant for whom this is done.
    pub(super) fn tenant(&self, scope: Scope) -> Result<&Tenant, ApiError> {
        match &self.key {
            Some(key) if !key.may(scope) => {
                Err(ApiError::new(Code::Forbidden, format!("this key does not have the scope `{scope}`")))
            }
            _ => Ok(&self.tenant),
        }
    }

    /// The server's limits, under the key's ceilings.
    pub(super) fn narrow(&self, policy: LimitPolicy) -> LimitPolicy {
        self.key.as_ref().map_or(policy, |key| policy.narrowed(&key.ceilings))
    }

    /// What the key makes of findings in sources, whatever the request asks for.
    pub(super) fn lint(&self) -> LintMode {
        match self.key.as_ref().and_then(|key| key.lint) {
            None => LintMode::Off,
            Some(LintRule::Advise) => LintMode::Advise,
            Some(LintRule::Block) => LintMode::Block,
        }
    }

    /// What the key may have running at once, where it has less than its tenant.
    pub(super) fn share(&self) -> Option<KeyShare> {
        let key = self.key.as_ref()?;
        Some(KeyShare { key: key.id.clone(), concurrency: key.concurrency? })
    }

    /// One line for what was done. Names and ids only: never a key, code, or an environment.
    pub(super) fn audit(&self, action: &'static str, execution: ExecutionId, found: bool) {
        let key = self.key.as_ref().map_or("none", |key| key.id.as_str());
        let outcome = if found { "done" } else { "not_found" };
        let (tenant, request_id) = (&self.tenant, &self.request_id);
        info!(target: "audit", action, outcome, key, %tenant, %execution, %request_id);
    }
}

impl FromRequest for Caller {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let caller = request.extensions().get::<Self>().cloned();
        ready(caller.ok_or_else(|| ApiError::internal(&"a route that needs a caller is open to all")))
    }
}

/// Lets a request pass, and leaves its [`Caller`] with it.
pub(super) fn admit(state: &State, request: &ServiceRequest, id: &str) -> Result<(), ApiError> {
    if is_open(request.path()) {
        return Ok(());
    }
    let key = if state.door.has_keys(&state.app.keys)? {
        let text = presented(request.headers())?;
        let found = answer(state.app.keys.authenticate(&text))?;
        state.sharing.refresh(&state.app);
        Some(Arc::new(found.ok_or_else(|| refuse("the key is unknown, revoked, expired, or not complete"))?))
    } else {
        None
    };
    let tenant = match &key {
        Some(key) => key.tenant.parse().map_err(|error| ApiError::internal(&error))?,
        None => Tenant::local(),
    };
    let rated = key.as_deref().and_then(|key| state.rates.take(key));
    request.extensions_mut().insert(Caller { key, tenant, request_id: id.into() });
    let Some((standing, verdict)) = rated else { return Ok(()) };
    request.extensions_mut().insert(standing);
    verdict.map_err(|wait| {
        let detail = format!("this key may send {} requests a minute; try again later", standing.limit());
        ApiError { retry_after: Some(wait), ..ApiError::new(Code::RateLimited, detail) }
    })
}

/// How long a key that was let in is believed.
pub(super) const TRUSTED: Duration = Duration::from_secs(1);

/// Looks again at the key of a request that has taken long: it may have been revoked meanwhile, or have expired.
pub(super) fn confirm(state: &State, request: &HttpRequest) -> Result<(), ApiError> {
    let has_key = request.extensions().get::<Caller>().is_some_and(|caller| caller.key.is_some());
    if !has_key || answer(state.app.keys.authenticate(&presented(request.headers())?))?.is_some() {
        return Ok(());
    }
    Err(refuse("the key was revoked, or expired, while the request waited"))
}

/// The key in the headers. Two keys in one request are none: it would be a guess which is meant.
fn presented(headers: &HeaderMap) -> Result<String, ApiError> {
    let bearer = headers.get_all(header::AUTHORIZATION).map(|value| {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
    });
    let plain =
        headers.get_all(API_KEY).map(|value| value.to_str().ok().map(|token| token.trim().to_owned()));
    let mut given = bearer.chain(plain);
    match (given.next(), given.next()) {
        (None, _) => {
            Err(refuse("this server needs a key: send `Authorization: Bearer KEY` or `X-API-Key: KEY`"))
        }
        (Some(Some(key)), None) => Ok(key),
        _ => Err(refuse("send one key, as `Authorization: Bearer KEY` or as `X-API-Key: KEY`")),
    }
}

fn refuse(detail: &str) -> ApiError {
    ApiError::new(Code::Unauthenticated, detail)
}

/// A question to the database. Asked on the thread that serves: it reads a few pages that are in memory, a reader
/// waits for no writer, and a request that has waited loses the framework's answer to a malformed body.
fn answer<T>(answer: Result<T, DatabaseError>) -> Result<T, ApiError> {
    answer.map_err(|error| {
        tracing::error!(%error, "the keys can't be read");
        ApiError::new(Code::StorageFailed, "the server could not check the key; try again later")
    })
}

/// Whether keys are needed. Once they are, they stay needed.
#[derive(Debug, Default)]
pub(super) struct Door {
    has_keys: AtomicBool,
    none_since: Mutex<Option<Instant>>,
}

impl Door {
    fn has_keys(&self, keys: &Keys) -> Result<bool, ApiError> {
        if self.has_keys.load(Ordering::Relaxed) {
            return Ok(true);
        }
        let known = *self.none_since.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_some_and(|asked| asked.elapsed() < FRESH) {
            return Ok(false);
        }
        let asked = Instant::now();
        let any = answer(keys.any())?;
        self.has_keys.fetch_or(any, Ordering::Relaxed);
        *self.none_since.lock().unwrap_or_else(PoisonError::into_inner) = (!any).then_some(asked);
        Ok(any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderValue;

    fn read(headers: &[(&'static str, &'static str)]) -> Option<String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        presented(&map).ok()
    }

    #[test]
    fn a_key_comes_in_one_of_two_headers_and_only_once() {
        for good in [("authorization", "Bearer k"), ("authorization", "bearer  k "), ("x-api-key", "k")] {
            assert_eq!(read(&[good]).as_deref(), Some("k"), "{good:?}");
        }
        for bad in [
            &[][..],
            &[("authorization", "k")],
            &[("authorization", "Basic k")],
            &[("authorization", "Bearer k"), ("x-api-key", "k")],
            &[("x-api-key", "k"), ("x-api-key", "l")],
        ] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn only_the_exact_open_paths_are_open() {
        for open in ["/health", "/healthz", "/readyz", "/openapi.json", "/docs", "/docs/", "/docs/index.css"]
        {
            assert!(is_open(open), "{open}");
        }
        for closed in [
            "/",
            "/metrics",
            "/api/v1/runtimes",
            "/health/",
            "/%68ealth",
            "/docsx",
            "//docs/",
            "/openapi.json/x",
        ] {
            assert!(!is_open(closed), "{closed}");
        }
    }
}
