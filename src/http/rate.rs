//! How often each key may ask, and the headers that tell it.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use governor::clock::{Clock as _, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use crate::store::ApiKey;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STANDING: HeaderName = HeaderName::from_static("ratelimit");
/// Seconds in which a key may send as many requests as its rate says.
const WINDOW: u64 = 60;

type Limiter = RateLimiter<NotKeyed, InMemoryState, DefaultClock, StateInformationMiddleware>;

/// The limiters of this process, by the id of the key: there are never more than there are keys.
#[derive(Debug, Default)]
pub(super) struct Rates {
    limiters: Mutex<HashMap<String, Arc<Limiter>>>,
}

/// Where a key stands after a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    limit: NonZeroU32,
    remaining: u32,
}

impl Rates {
    /// Counts a request of this key: where it stands, and how long to wait when that was one too many. `None`: it has
    /// no rate.
    pub(super) fn take(&self, key: &ApiKey) -> Option<(Standing, Result<(), Duration>)> {
        let limit = key.rate_per_minute.and_then(NonZeroU32::new)?;
        let limiter = {
            let mut limiters = self.limiters.lock().unwrap_or_else(PoisonError::into_inner);
            let fresh = || Arc::new(RateLimiter::direct(Quota::per_minute(limit)).with_middleware());
            Arc::clone(limiters.entry(key.id.clone()).or_insert_with(fresh))
        };
        Some(match limiter.check() {
            Ok(snapshot) => (Standing { limit, remaining: snapshot.remaining_burst_capacity() }, Ok(())),
            Err(refusal) => {
                let wait = refusal.wait_time_from(DefaultClock::default().now());
                (Standing { limit, remaining: 0 }, Err(Duration::from_secs(wait.as_secs() + 1)))
            }
        })
    }
}

impl Standing {
    /// Requests a minute.
    pub(super) fn limit(&self) -> NonZeroU32 {
        self.limit
    }

    /// The headers of draft-ietf-httpapi-ratelimit-headers: the quota, what is left of it, seconds until it is whole.
    pub(super) fn add_headers(&self, headers: &mut HeaderMap) {
        let (limit, remaining) = (self.limit.get(), self.remaining);
        let used = u64::from(limit.saturating_sub(remaining));
        let whole = (used * WINDOW).div_ceil(u64::from(limit));
        let policy = format!("\"key\";q={limit};w={WINDOW}");
        let standing = format!("\"key\";r={remaining};t={whole}");
        for (name, value) in [(POLICY, policy), (STANDING, standing)] {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        }
    }
}
