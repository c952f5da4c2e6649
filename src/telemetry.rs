//! Tracing and metrics set-up.

use std::fmt;
use std::io::IsTerminal as _;
use std::sync::atomic::AtomicI64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tracing_subscriber::EnvFilter;

use crate::execution::state::Execution;

/// Sends log lines to standard error, as text or as one JSON object each.
///
/// `filter` is in the syntax of `RUST_LOG`; an empty one means `info`.
///
/// # Errors
/// A filter that can't be read, or a second call.
pub fn init(json: bool, filter: &str) -> Result<(), InitError> {
    let filter = if filter.is_empty() { "info" } else { filter };
    let filter = EnvFilter::try_new(filter).map_err(|error| InitError(error.to_string()))?;
    // Colours are for people; a file or a log collector gets plain text.
    let colours = std::io::stderr().is_terminal();
    // A log that nobody reads any more is said on standard error otherwise, which panics when that is what broke.
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .log_internal_errors(false);
    let done = if json { lines.json().flatten_event(true).try_init() } else { lines.try_init() };
    done.map_err(|error| InitError(error.to_string()))
}

/// Why logging could not be set up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("logging can't be set up: {0}")]
pub struct InitError(String);

/// Counters and gauges of this server. Labels come from closed lists, never from what users send.
pub struct Metrics {
    registry: Registry,
    finished: Family<FinishedLabels, Counter>,
    requests: Family<RequestLabels, Counter>,
    upload_bytes: Counter,
    connections: Gauge<i64, AtomicI64>,
    cut: Family<CutLabels, Counter>,
    body_memory: Gauge<i64, AtomicI64>,
    queued: Gauge<i64, AtomicI64>,
    running: Gauge<i64, AtomicI64>,
    kept: Gauge<i64, AtomicI64>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct FinishedLabels {
    language: String,
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    route: String,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CutLabels {
    reason: &'static str,
}

/// Why a connection was closed before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Its answer was not read, or not fast enough.
    SlowReader,
    /// The next request did not come, or did not come whole.
    SlowHead,
    /// It was idle, and others wanted in.
    Crowded,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("execbox");
        let finished = Family::default();
        let requests = Family::default();
        let upload_bytes = Counter::default();
        let (queued, running, kept) = (Gauge::default(), Gauge::default(), Gauge::default());
        let (connections, cut, body_memory) = (Gauge::default(), Family::default(), Gauge::default());
        registry.register("executions_finished", "Executions that finished", finished.clone());
        registry.register("http_requests", "Requests that were answered", requests.clone());
        registry.register("upload_bytes", "Bytes of request bodies that were read", upload_bytes.clone());
        registry.register("connections", "Connections that are open", connections.clone());
        registry.register("connections_cut", "Connections that were closed before their time", cut.clone());
        registry.register("body_memory_bytes", "Memory that is reserved for requests", body_memory.clone());
        registry.register("executions_queued", "Executions that wait for a worker", queued.clone());
        registry.register("executions_running", "Executions that run", running.clone());
        registry.register("executions_kept", "Finished executions that are still kept", kept.clone());
        Self {
            registry,
            finished,
            requests,
            upload_bytes,
            connections,
            cut,
            body_memory,
            queued,
            running,
            kept,
        }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Counts a finished execution, by its runtime and the closed list of reasons.
    pub fn on_finish(&self, execution: &Execution) {
        if let Some(finished) = &execution.finished {
            let (language, reason) = (execution.language.to_string(), finished.outcome.reason.as_str());
            self.finished.get_or_create(&FinishedLabels { language, reason }).inc();
        }
    }

    /// A request was answered. `route` is the route's template, never the path.
    pub fn answered(&self, route: &str, status: u16) {
        self.requests.get_or_create(&RequestLabels { route: route.to_owned(), status }).inc();
    }

    /// This many bytes of a request body were read.
    pub fn uploaded(&self, bytes: u64) {
        self.upload_bytes.inc_by(bytes);
    }

    /// This many connections are open.
    pub fn connections(&self, open: usize) {
        self.connections.set(i64::try_from(open).unwrap_or(i64::MAX));
    }

    /// This many bytes of memory are reserved for requests.
    pub fn body_memory(&self, bytes: usize) {
        self.body_memory.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// A connection was closed before its time.
    pub fn cut(&self, why: Cut) {
        let reason = match why {
            Cut::SlowReader => "slow_reader",
            Cut::SlowHead => "slow_head",
            Cut::Crowded => "crowded",
        };
        self.cut.get_or_create(&CutLabels { reason }).inc();
    }

    /// The OpenMetrics text, with these numbers of executions.
    ///
    /// # Errors
    /// Never with a `String` behind it; the encoder's signature has it.
    pub fn text(&self, queued: usize, running: usize, kept: usize) -> Result<String, fmt::Error> {
        for (gauge, value) in [(&self.queued, queued), (&self.running, running), (&self.kept, kept)] {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_every_metric_with_its_labels() {
        let metrics = Metrics::default();
        let labels = FinishedLabels { language: "python".into(), reason: "timed_out" };
        metrics.finished.get_or_create(&labels).inc();
        metrics.answered("/api/v1/eval", 200);
        metrics.uploaded(7);
        metrics.connections(4);
        metrics.body_memory(5);
        metrics.cut(Cut::SlowReader);
        let text = metrics.text(3, 2, 1).unwrap();
        for line in [
            r#"execbox_executions_finished_total{language="python",reason="timed_out"} 1"#,
            r#"execbox_http_requests_total{route="/api/v1/eval",status="200"} 1"#,
            "execbox_upload_bytes_total 7",
            "execbox_connections 4",
            "execbox_body_memory_bytes 5",
            r#"execbox_connections_cut_total{reason="slow_reader"} 1"#,
            "execbox_executions_queued 3",
            "execbox_executions_running 2",
            "execbox_executions_kept 1",
            "# EOF",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn a_filter_that_can_not_be_read_is_refused() {
        assert!(init(false, "info,=,").is_err());
    }
}
