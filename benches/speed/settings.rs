//! The settings of the server that are measured side by side, and the bounds that each is held to.

use crate::Result;
use crate::server::Server;

/// A kept connection outlives the turns of the others.
const KEPT: [&str; 2] = ["--keep-alive-seconds", "3600"];

/// The log of a server on a host that does not allow the setting: it serves with another.
const NOT_POSSIBLE: &str = "--reuse is not possible here";

pub(crate) struct Setting {
    pub(crate) name: &'static str,
    flags: &'static [&'static str],
    pub(crate) bounds: Bounds,
}

/// Ratios within one run, but for those with a unit.
pub(crate) struct Bounds {
    /// Sync hello p50, one caller / a bare interpreter's start.
    pub(crate) hello: f64,
    /// p99 / p50, one caller.
    pub(crate) tail: f64,
    /// Throughput of eight callers / the limit.
    pub(crate) throughput: f64,
    pub(crate) limit: Limit,
    /// What the server adds to a program in C, in milliseconds.
    pub(crate) added_ms: f64,
}

/// What no server can be faster than.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Each execution has a container of its own: the raw Engine cycle's best.
    Engine,
    /// Containers are used again: bare interpreters on all processors.
    Processors,
}

pub(crate) const SETTINGS: [Setting; 2] = [
    Setting {
        name: "never",
        flags: &["--reuse", "never"],
        bounds: Bounds { hello: 2.0, tail: 3.0, throughput: 0.9, limit: Limit::Engine, added_ms: 12.0 },
    },
    Setting {
        name: "tenant",
        flags: &["--reuse", "tenant"],
        bounds: Bounds { hello: 1.4, tail: 2.0, throughput: 0.75, limit: Limit::Processors, added_ms: 4.0 },
    },
];

impl Setting {
    pub(crate) async fn start(&self, more: &[&str]) -> Result<Server> {
        let server = Server::start(&[&KEPT, self.flags, more].concat()).await?;
        if server.said().contains(NOT_POSSIBLE) {
            return Err(format!("{:?} is not in force: {}", self.flags, server.said()).into());
        }
        Ok(server)
    }
}
