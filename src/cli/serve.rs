//! `execbox serve`: the HTTP server.

use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;

use clap::builder::BoolishValueParser;
use tracing::{info, warn};

use crate::cli::failure::Failure;
use crate::cli::signals::Signals;
use crate::cli::{descriptors, engine, output};
use crate::config::Config;
use crate::execution::preparation::Preparation;
use crate::execution::service::{Service, ServiceConfig};
use crate::failpoint;
use crate::http;
use crate::runner::probe::Outcome;
use crate::sandbox::docker::{DockerSandbox, Reuse, ReuseInForce};
use crate::server::{self, App};
use crate::store::{Keys, Store};
use crate::telemetry::{self, Metrics};

/// Who ran, killed and read what is logged whatever else is not; `audit=off` in --log ends it.
const AUDIT_FILTER: &str = "audit=info";

/// Serve the HTTP interface.
///
/// SIGTERM, SIGINT and SIGHUP drain: nothing new is taken, and what runs has --drain-seconds to finish. A second
/// signal ends the server at once.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: Config,

    /// What is logged, like `info` or `execbox=debug,warn`.
    #[arg(long, env = "EXECBOX_LOG", default_value = "info", value_name = "FILTER")]
    log: String,

    /// Log as JSON, a line for each event.
    #[arg(long, env = "EXECBOX_LOG_JSON", value_parser = BoolishValueParser::new())]
    log_json: bool,

    #[cfg(any(debug_assertions, feature = "failpoints"))]
    #[command(flatten)]
    failpoints: FailpointArgs,
}

/// For crash tests; see [`crate::failpoint`].
#[cfg(any(debug_assertions, feature = "failpoints"))]
#[derive(clap::Args)]
struct FailpointArgs {
    /// End as by `kill -9` at this point's N-th passage: `POINT[=N]`.
    #[arg(long, hide = true)]
    fail_at: Option<failpoint::FailAt>,

    /// Add the name of each point that is passed to this file.
    #[arg(long, hide = true)]
    fail_trace: Option<std::path::PathBuf>,
}

/// All settings, as flags of a command of their own: what a settings file may hold.
pub(super) fn settings() -> clap::Command {
    <Args as clap::Args>::augment_args(clap::Command::new("execbox"))
}

pub(super) fn serve(args: Args) -> Result<ExitCode, Failure> {
    let filter = format!("{},{AUDIT_FILTER},{}", http::LOG_FILTER, args.log);
    telemetry::init(args.log_json, &filter).map_err(Failure::usage)?;
    #[cfg(any(debug_assertions, feature = "failpoints"))]
    failpoint::arm(args.failpoints.fail_at, args.failpoints.fail_trace).map_err(Failure::ours)?;
    crate::store::keep_files_private();
    crate::runner::bound_heaps();
    let runtime = super::tokio_runtime()?;
    let mut config = args.config;
    descriptors::fit(&mut config);
    runtime.block_on(serve_until_signal(config))?;
    // A blocking call that hangs must not hold the process.
    runtime.shutdown_background();
    Ok(ExitCode::SUCCESS)
}

/// Without keys, whoever reaches the address can run programs.
fn check_exposure(config: &Config, has_keys: bool) -> Result<(), Failure> {
    let address = config.listen;
    if has_keys || address.ip().is_loopback() {
        return Ok(());
    }
    if config.allow_unauthenticated {
        output::complaint(&format!("warning: anyone who reaches {address} can run programs here"));
        return Ok(());
    }
    Err(Failure::usage(format!(
        "--listen {address} is not a loopback address, and there are no keys: anyone who reaches it could run programs \
         here. Make a key with `execbox keys create`, or listen on 127.0.0.1, or say --allow-unauthenticated if \
         something in front of it checks who calls"
    )))
}

async fn serve_until_signal(config: Config) -> Result<(), Failure> {
    let mut signals = Signals::listen().map_err(Failure::ours)?;
    // First what fails at once when it is wrong; the Engine takes longer.
    config.check().map_err(Failure::usage)?;
    config.check_installs().map_err(Failure::usage)?;
    let store = Store::open(&config.data_dir).map_err(Failure::ours)?;
    let keys = Arc::new(Keys::open(&config.data_dir).map_err(Failure::ours)?);
    check_exposure(&config, keys.any().map_err(Failure::ours)?)?;
    let listener = bind(config.listen)?;
    let catalogue = Arc::new(engine::catalogue(&config)?);
    let prepared = Preparation::of(config.images.prepared(), &catalogue);
    let preparation = Arc::new(prepared.map_err(|error| Failure::usage(format!("--prepare: {error}")))?);
    let sandbox = tokio::select! {
        sandbox = probed_sandbox(&config, store.data().instance()) => sandbox?,
        // Nothing has been accepted yet.
        _ = signals.next() => return Ok(()),
    };
    let tenants = keys.tenants().map_err(Failure::ours)?;
    let metrics = Arc::new(Metrics::default());
    let finished = Arc::clone(&metrics);
    let on_finish = Box::new(move |execution: &_| finished.on_finish(execution));
    let service =
        Service::start(service_config(&config, tenants), Arc::new(sandbox), store, &catalogue, on_finish);
    let service = service.await.map_err(Failure::ours)?;
    failpoint::pass("start.serving");
    announce(listener.local_addr().unwrap_or(config.listen));
    let app = App { service, catalogue, config: Arc::new(config), keys, metrics, preparation };
    let shutdown = async move {
        signals.next().await;
        output::complaint("draining; a second signal ends at once");
        signals.end_at_next();
    };
    server::run(listener, app, shutdown).await.map_err(Failure::ours)
}

/// Fails closed: what must be refused in a container is tried before anyone's program is.
async fn probed_sandbox(config: &Config, instance: &str) -> Result<DockerSandbox, Failure> {
    let sandbox = engine::connect_warm(config, instance).await?;
    sandbox.remove_leftovers().await.map_err(Failure::ours)?;
    let limits = config.limit_policy().default;
    let probed = sandbox.probe(&limits, Reuse::Never).await;
    let report = probed.map_err(|error| {
        Failure::ours(format!("the container profile could not be probed, so nothing is served: {error}"))
    })?;
    report.require().map_err(Failure::ours)?;
    info!(refused = report.that(Outcome::Refused).count(), "the container profile holds");
    tell(&sandbox.set_reuse(config.containers.reuse, &limits).await);
    Ok(sandbox)
}

fn tell(ReuseInForce { reuse, why_not }: &ReuseInForce) {
    match why_not {
        None => info!(?reuse, "the setting of --reuse is in force"),
        Some(why) => {
            warn!(in_force = ?reuse, %why, "--reuse is not possible here: each execution gets its own container")
        }
    }
}

fn service_config(config: &Config, tenants: usize) -> ServiceConfig {
    ServiceConfig {
        workers: config.workers(),
        queue_length: config.queue_length,
        tenant_queue_length: config.tenant_queue_length(),
        tenant_concurrency: config.tenant_concurrency(tenants),
        backlog_bytes: config.backlog_bytes(),
        tenant_backlog_bytes: config.tenant_backlog_bytes(),
        data_reserve_bytes: config.data_reserve_bytes(),
        retention: config.retention_policy(),
    }
}

fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address)
        .map_err(|error| Failure::ours(format!("--listen {address}: {error}; name another address or port")))
}

fn announce(address: SocketAddr) {
    output::note(&format!("execbox {} serves", env!("CARGO_PKG_VERSION")));
    for (path, what) in [
        ("/api/v1/exec/sync", "POST a project, get its result"),
        ("/api/v1/exec/async", "POST a project, get an id"),
        ("/docs/", "the interface, to read and try"),
        ("/readyz", "whether executions can start"),
    ] {
        let url = format!("http://{address}{path}");
        output::note(&format!("  {url:<46} {what}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_served_without_keys_or_the_flag() {
        for (listen, allow, has_keys, fine) in [
            ("127.0.0.1:0", false, false, true),
            ("[::1]:0", false, false, true),
            ("0.0.0.0:0", false, false, false),
            ("10.1.2.3:80", false, false, false),
            ("10.1.2.3:80", false, true, true),
            ("[::]:0", true, false, true),
        ] {
            let config =
                Config { listen: listen.parse().unwrap(), allow_unauthenticated: allow, ..Config::default() };
            assert_eq!(check_exposure(&config, has_keys).is_ok(), fine, "{listen}");
        }
    }
}
