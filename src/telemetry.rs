//! Tracing and metrics set-up.

/// Counters and gauges of this server.
#[derive(Debug, Default)]
pub struct Metrics {}
