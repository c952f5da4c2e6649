//! Executions: ids, the validated spec, states as plain data, and the service that owns them from submit to result.
//!
//! No web framework and no container library here: requests come in as [`spec::ExecutionSpec`], programs run behind
//! [`crate::sandbox::Sandbox`].

mod accepting;
mod backlog;
pub mod budget;
pub mod content;
mod entry;
mod finishing;
pub mod id;
pub mod idempotency;
pub mod intake;
pub mod json;
pub mod live;
mod live_file;
pub mod preparation;
mod queue;
mod record;
mod recording;
mod recovery;
mod results;
pub mod service;
pub mod spec;
pub mod state;
mod worker;
