//! The real server over the real Engine. These tests fail, and do not skip, where there is no Engine.
//!
//! - [`examples`]: projects under `examples/`, sync and async; [`runtimes`]: all of them, and the faulty ones of each runtime.
//! - [`detected`]: projects that say nothing of language and entrypoint.
//! - [`behaviours`]: every hostile project under `tests/fixtures/`, with the exact reason.
//! - [`sweep`]: what must be as before once a hostile case is over.
//! - [`profile`]: what `inspect` says of a container, field by field.
//! - [`probe`]: what a program in a container must not be able to do, and profiles that are loosened.
//! - [`profile_mutants`]: every field of the profile taken away, for `make mutants-profile`.
//! - [`refusal`]: a server whose containers are looser than they should be does not serve.
//! - [`host_reach`]: what a program finds of the host: nobody who listens, nothing secret.
//! - [`artifacts`]: the files that come back, and how.
//! - [`arrival`]: how files arrive in the workspace, whatever an archive says of them.
//! - [`temporary_files`]: /tmp, its limits, and those it shares with the workspace.
//! - [`tampering`]: programs that change what later ones would use.
//! - [`images`]: images of hostile make, and builds that fail or are cut off.
//! - [`exhaustion`]: processors, descriptors and signals of the server.
//! - [`figures`]: how far over its deadline a program gets, how fast a kill is, how exact output, for `make figures`.
//! - [`script`]: data in and results out, whatever the language; [`script_python`] and its likes: in each of them.
//! - [`plots`]: plots that nobody saved.
//! - [`output`]: nothing lost, nothing mixed up, many at a time.
//! - [`late_runner`]: runners that do not get to say how an execution ended, and programs that try to slow them.
//! - [`leaks`]: what one tenant plants, another never finds.
//! - [`lifecycle`]: kill, drain, a server that dies, containers and images removed from outside.
//! - [`engine_faults`]: an Engine that fails in one call, hangs, or goes away; [`fault_proxy`] is how.
//! - [`engine_restarts`]: a [`private_engine`] that is stopped, killed and halted while programs run.
//! - [`first_start`]: an Engine that has not been started before, with nothing in its data root.
//! - [`dependencies`]: packages that requests ask for, installed once and used without a network; [`node_packages`]: those of node;
//!   [`cargo_packages`]: crates; [`r_packages`]: R's.
//! - [`left_packages`]: packages that nobody comes back for, removed by servers and by a command.
//! - [`hostile_packages`]: what the code of packages finds and uses up, from a [`package_index`] of the tests' own.
//! - [`packed`]: links, folders on top, scripts and files of Windows, as people pack them.
//! - [`own_images`]: images that requests name.
//! - [`workspace_volumes`]: workspaces on the Engine's disk, their limits, and that none is left.
//! - [`recovery`]: a server that is killed or shut down, and what the next one makes of it.
//! - [`storage`]: a full disk, a damaged database.
//! - [`descriptors`]: a server without open files to spare.
//! - [`usage`]: memory, processors and processes, as told and as limited; [`memory_limit`]: what counts as memory.
//! - [`crash_points`]: a server that ends at a chosen point; [`crash_random`]: at any time. [`crash`] is what both check,
//!   and [`crash_work`] what they have run.
//! - [`big_work`]: projects and artifacts far larger than the server's memory.
//! - [`command_line`]: `execbox run` and the other commands.
//!
//! `make engines` runs them on other Engines, and some in an emulated machine, for which [`patience`] widens time limits.

#![allow(unreachable_pub, reason = "one binary, nobody else reaches it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "these are tests"
)]

mod arrival;
mod artifacts;
mod behaviours;
mod big_work;
mod cargo_packages;
mod command_line;
mod crash;
mod crash_points;
mod crash_random;
mod crash_work;
mod dependencies;
mod descriptors;
mod detected;
mod engine;
mod engine_faults;
mod engine_restarts;
mod examples;
mod exhaustion;
mod fault_proxy;
mod field;
mod figures;
mod first_start;
mod host_reach;
mod hostile_packages;
mod images;
mod late_runner;
mod leaks;
mod left_packages;
mod lifecycle;
mod memory_limit;
mod node_packages;
mod output;
mod own_images;
mod package_index;
mod packed;
mod patience;
mod plots;
mod pool;
mod private_engine;
mod probe;
mod profile;
mod profile_mutants;
mod projects;
mod r_packages;
mod recovery;
mod refusal;
#[path = "../../benches/hostile/registry.rs"]
#[allow(dead_code, reason = "`make hostile` and tests/it use the rest of it")]
mod registry;
mod runtimes;
mod script;
mod script_node;
mod script_python;
mod script_r_bash;
mod server;
mod storage;
mod sweep;
mod tampering;
mod temporary_files;
mod usage;
mod workspace_volumes;
