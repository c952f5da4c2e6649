//! The real routes over a scripted sandbox: no Docker here.
//!
//! - [`executions`]: every way in and out of an execution, sync and async.
//! - [`script`]: data for a program, and what it hands back.
//! - [`artifacts`]: lists and downloads, and names that try to get out.
//! - [`connections`]: too many of them, idle ones, and callers that do not read.
//! - [`slow_readers`]: what answers hold in memory and open while somebody takes their time.
//! - [`server_routes`]: runtimes, health, metrics, documentation.
//! - [`problems`]: every code of the table of errors.
//! - [`bodies`]: caps, pace and shapes of bodies; raw requests.
//! - [`origins`]: requests that a web page sends.
//! - [`body_memory`]: what bodies hold of the server's memory, and that all of it comes back.
//! - [`project_files`]: what a project says of itself, and what its sources show.
//! - [`archives`]: links, folders on top and modes, as clients pack them.
//! - [`python_executor`]: bodies as that project's own clients send them.
//! - [`admission`]: who runs next, how many at once, and floods of submissions.
//! - [`faults`]: retries, panics, full queues, drain, callers that go away.
//! - [`idempotency`]: requests that name themselves.
//! - [`dependencies`]: packages that requests ask for, and what results say of them.
//! - [`own_images`]: images that requests name, and the operator's allow-list.
//! - [`keys`]: who may call, how often, and what another tenant is told.
//! - [`operator`]: keys on the command line, and what a damaged database is answered with.
//! - [`variables`]: variables of the environment that are settings, and those that are none.
//! - [`figures`]: kills that race with the end, artifacts that are read while they go, guessed ids, for `make figures`.
//! - [`hostile_cases`]: the registry of hostile cases is whole, for `make hostile`.
//! - [`runtimes`]: every folder under `images/` has its examples and faulty programs, and they are found to be its.
//! - [`absences`]: what the design says is never there.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what surrounds the tests may stop them; the lints know only functions that are tests themselves"
)]

mod absences;
mod admission;
mod archives;
mod artifacts;
mod bodies;
mod body_memory;
mod connections;
mod dependencies;
mod executions;
mod fake_sandbox;
mod faults;
mod figures;
mod hostile_cases;
mod idempotency;
mod images;
mod keys;
mod operator;
mod origins;
mod own_images;
mod problems;
mod project_files;
#[path = "../docker/projects.rs"]
#[allow(dead_code, unreachable_pub, reason = "tests/docker uses the rest of it")]
mod projects;
mod python_executor;
#[path = "../../benches/hostile/registry.rs"]
mod registry;
mod runtimes;
mod script;
mod server_routes;
mod slow_readers;
mod test_app;
mod variables;
