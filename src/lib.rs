//! execbox runs untrusted, multi-file projects in locked-down containers.
//!
//! # Layout
//! Arrows point one way: `main -> cli -> server -> http -> execution -> {store, sandbox}`, with [`archive`],
//! [`runtime`] and [`limits`] as leaves. See ARCHITECTURE.md for the map and the invariants.
//!
//! - [`cli`]: one file per command.
//! - [`config`]: the only place that reads the environment or holds a default number.
//! - [`server`]: the application and `run(listener, app, shutdown)`.
//! - [`http`]: routes, wire types, errors, OpenAPI.
//! - [`execution`]: ids, the validated spec, states, and the service that owns executions.
//! - [`store`]: the data folder, the database with the keys, artifacts.
//! - [`sandbox`]: where a spec runs: the trait, and Docker behind it.
//! - [`runner`]: PID 1 inside each container, and the frames that both sides speak.
//! - [`archive`]: the strict tar reader and the canonical project it emits.
//! - [`runtime`]: the catalogue of languages, read from `images/`.
//! - [`limits`]: what an execution may use.
//! - [`failpoint`]: where crash tests end the process; empty in a release.
//! - [`telemetry`]: tracing and metrics.

pub mod archive;
pub mod cli;
pub mod config;
pub mod execution;
pub mod failpoint;
pub mod http;
pub mod limits;
pub mod runner;
pub mod runtime;
pub mod sandbox;
pub mod server;
pub mod store;
pub mod telemetry;
