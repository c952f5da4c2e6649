//! Every setting of the server with its default: the only place that reads the environment or holds a default
//! number. A flag wins over the environment, which wins over the TOML file, which wins over the default.

mod check;
mod engine_address;
mod environment;
mod images;
mod packages;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;

use crate::archive::ArchiveLimits;
use crate::limits::{KIB, KeyCeilings, LimitPolicy, Limits, MIB};
use crate::sandbox::docker::{DiskConfig, PoolLimits, Reuse};
use crate::store::RetentionPolicy;

pub use environment::{NOT_SETTINGS, unknown_variables};
pub use images::ImageConfig;
pub use packages::PackageConfig;

/// Memory that a container which waits is counted with, in MiB.
const WARM_MB: u64 = 24;

/// The data folder, unless another is named.
const DATA_DIR: &str = "execbox-data";

/// Settings of `execbox serve`, and of the commands that run executions themselves.
#[derive(Clone, Debug, clap::Args)]
pub struct Config {
    /// Address to serve on. While there are no keys, only a loopback address is accepted.
    #[arg(long, env = "EXECBOX_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDR")]
    pub listen: SocketAddr,

    /// Serve on a non-loopback address although there are no keys: anyone who reaches it can run programs. Once there
    /// are keys, they are asked for all the same.
    #[arg(long, env = "EXECBOX_ALLOW_UNAUTHENTICATED", value_parser = BoolishValueParser::new())]
    pub allow_unauthenticated: bool,

    /// Host names that a request may carry, beside loopback's and the listen address.
    #[arg(long, env = "EXECBOX_ALLOWED_HOSTS", value_delimiter = ',', value_name = "HOST,...")]
    pub allowed_hosts: Vec<String>,

    /// What must stay free on the disk of the data folder: with less, new work is answered 503, and what was accepted goes on.
    // Room for what the running executions may leave: some hundred MiB of artifacts and output.
    #[arg(long, env = "EXECBOX_DATA_RESERVE_MB", default_value_t = 256, value_name = "MIB")]
    pub data_reserve_mb: u64,

    /// Folder for uploads, artifacts and records. Used by one server at a time.
    #[arg(long, env = "EXECBOX_DATA_DIR", default_value = DATA_DIR, value_name = "DIR")]
    pub data_dir: PathBuf,

    /// Docker Engine to use: `unix:///run/docker.sock`, the path alone, or `tcp://HOST:PORT`. Default: DOCKER_HOST, else
    /// the usual sockets.
    #[arg(long, env = "EXECBOX_DOCKER_HOST", value_name = "URL")]
    pub docker_host: Option<String>,

    /// OCI runtime for the containers, like `runsc`. Fails closed when the Engine does not have it.
    #[arg(long, visible_alias = "runtime", env = "EXECBOX_OCI_RUNTIME", value_name = "NAME")]
    pub oci_runtime: Option<String>,

    /// Executions that run at once. Default: four for each processor, as far as the memory of this machine holds the
    /// default `--memory-mb` and `--disk-mb` of each, and at least two.
    #[arg(long, env = "EXECBOX_WORKERS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4_096))]
    pub workers: Option<u16>,

    /// First numeric user id of the containers: each that lives has one of its own, of the 5,000 from this on.
    // Never root or a system user; all below 65536, the end of a default user namespace map.
    #[arg(long, env = "EXECBOX_UID_BASE", default_value_t = 20_000, value_name = "UID",
          value_parser = clap::value_parser!(u32).range(1_000..=60_000))]
    pub uid_base: u32,

    /// How containers are used and kept warm.
    #[command(flatten)]
    pub containers: ContainerConfig,

    /// Executions that may wait; one more is answered 429.
    #[arg(long, env = "EXECBOX_QUEUE_LENGTH", default_value_t = 1_000, value_name = "N")]
    pub queue_length: usize,

    /// Waiting executions of one tenant; one more of its own is answered 429. Default: nine tenths of the queue.
    #[arg(long, env = "EXECBOX_TENANT_QUEUE_LENGTH", value_name = "N")]
    pub tenant_queue_length: Option<usize>,

    /// Projects and standard input of all executions that have not ended, in MiB; one more is answered 429. Of them one
    /// tenant has at most nine tenths.
    #[arg(long, env = "EXECBOX_QUEUE_MB", default_value_t = 8_192, value_name = "MIB")]
    pub queue_mb: u64,

    /// Executions of one tenant that run at once; more of its own wait while others pass. Default: all workers, and one
    /// fewer while several tenants have keys, so that one is always free for somebody else.
    #[arg(long, env = "EXECBOX_TENANT_CONCURRENCY", value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub tenant_concurrency: Option<u16>,

    /// Seconds that running executions get to finish after SIGTERM.
    #[arg(long, env = "EXECBOX_DRAIN_SECONDS", default_value_t = 30, value_name = "S")]
    pub drain_seconds: u64,

    /// Settings of image builds.
    #[command(flatten)]
    pub build: BuildConfig,

    /// Images of the languages.
    #[command(flatten)]
    pub images: ImageConfig,

    /// Packages that requests ask for.
    #[command(flatten)]
    pub packages: PackageConfig,

    /// Defaults and ceilings of one execution.
    #[command(flatten)]
    pub limits: LimitConfig,

    /// Caps on what a request carries.
    #[command(flatten)]
    pub request: RequestConfig,

    /// How long finished executions are kept.
    #[command(flatten)]
    pub retention: RetentionConfig,
}

/// Where the records are, for commands that need no other setting.
#[derive(Clone, Debug, clap::Args)]
pub struct DataDirConfig {
    /// Folder of the server's records. It may be in use.
    #[arg(long, env = "EXECBOX_DATA_DIR", default_value = DATA_DIR, value_name = "DIR")]
    pub data_dir: PathBuf,
}

/// How containers are used and kept warm.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Containers")]
pub struct ContainerConfig {
    /// Whether a container may serve more than one execution. `tenant` takes a host that lets a container make namespaces;
    /// where a probe finds that it does not, the server says so and stays on `never`.
    #[arg(long, env = "EXECBOX_REUSE", value_enum, default_value_t = Reuse::Never, value_name = "never|tenant")]
    pub reuse: Reuse,

    /// Images of their own that requests may name (`docker_image`): globs over NAME:TAG, in which `*` stands for all but
    /// `/`. Missing ones are pulled. Default: none.
    #[arg(long, env = "EXECBOX_ALLOW_IMAGE", value_delimiter = ',', value_parser = image_rule, value_name = "GLOB,...")]
    pub allow_image: Vec<String>,

    /// Containers that wait, started, for each language and set of limits that was used in the last 10 minutes: at least
    /// this many.
    #[arg(long, env = "EXECBOX_WARM_MIN", default_value_t = 1, value_name = "N")]
    pub warm_min: usize,

    /// The same at most; between the two the number follows the busiest second of the last minute. 0 keeps none warm.
    /// Default: four for each worker.
    #[arg(long, env = "EXECBOX_WARM_MAX", value_name = "N")]
    pub warm_max: Option<usize>,

    /// Memory of all containers that wait. Each counts as 24 MiB: its runner, its shim, and what the kernel holds for it.
    // Measured on Engine 20.10: runner 2 MiB, containerd-shim 9 to 12 MiB, kernel memory some 3 MiB.
    #[arg(long, env = "EXECBOX_WARM_MEMORY_MB", default_value_t = 1_024, value_name = "MIB")]
    pub warm_memory_mb: u64,
}

fn image_rule(rule: &str) -> Result<String, String> {
    crate::execution::intake::image_rule(rule).map(|_| rule.to_owned())
}

/// Settings of image builds, which need the network.
#[derive(Clone, Debug, clap::Args)]
pub struct BuildConfig {
    /// File with the CA certificates that image builds trust, for networks that re-sign TLS. `system`, this machine's
    /// own bundle, is the default where there is one; an empty value leaves builds with those of the base image.
    #[arg(long, env = "EXECBOX_CA_BUNDLE", value_name = "FILE")]
    pub ca_bundle: Option<PathBuf>,

    /// Debian mirror for image builds and for the bootstrapped base.
    #[arg(long, env = "EXECBOX_DEBIAN_MIRROR", value_name = "URL")]
    pub debian_mirror: Option<String>,

    /// Proxy for image builds.
    #[arg(long, env = "EXECBOX_BUILD_PROXY", value_name = "URL")]
    pub build_proxy: Option<String>,

    /// Network of image builds: `bridge`, `host`, or a name the Engine knows.
    #[arg(long, env = "EXECBOX_BUILD_NETWORK", default_value = "bridge", value_name = "NAME")]
    pub build_network: String,

    /// Seconds that one image build may take.
    #[arg(long, env = "EXECBOX_BUILD_TIMEOUT", default_value_t = 1_800, value_name = "S")]
    pub build_timeout_seconds: u64,

    /// Folder with more runtimes (`NAME/runtime.toml`, `NAME/Dockerfile`); they win over the built-in ones.
    #[arg(long, env = "EXECBOX_IMAGES_DIR", value_name = "DIR")]
    pub images_dir: Option<PathBuf>,
}

/// Defaults and ceilings of one execution.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Limits of one execution (default and ceiling)")]
pub struct LimitConfig {
    /// Wall time of the program.
    #[arg(long, env = "EXECBOX_TIMEOUT", default_value_t = 300, value_name = "S")]
    pub timeout_seconds: u64,
    /// Most that a request may ask for.
    #[arg(long, env = "EXECBOX_MAX_TIMEOUT", default_value_t = 3_600, value_name = "S")]
    pub max_timeout_seconds: u64,
    /// Wall time of the compiler.
    #[arg(long, env = "EXECBOX_COMPILE_TIMEOUT", default_value_t = 60, value_name = "S")]
    pub compile_timeout_seconds: u64,
    /// Most that a request may ask for.
    #[arg(long, env = "EXECBOX_MAX_COMPILE_TIMEOUT", default_value_t = 600, value_name = "S")]
    pub max_compile_timeout_seconds: u64,
    /// Memory of the program and all it starts.
    #[arg(long, env = "EXECBOX_MEMORY_MB", default_value_t = 512, value_name = "MIB")]
    pub memory_mb: u64,
    /// Most that a request may ask for.
    #[arg(long, env = "EXECBOX_MAX_MEMORY_MB", default_value_t = 4_096, value_name = "MIB")]
    pub max_memory_mb: u64,
    /// Size of the workspace and of /tmp, each, and of both together.
    #[arg(long, env = "EXECBOX_DISK_MB", default_value_t = 256, value_name = "MIB")]
    pub disk_mb: u64,
    /// Most that a request may ask for.
    #[arg(long, env = "EXECBOX_MAX_DISK_MB", default_value_t = 4_096, value_name = "MIB")]
    pub max_disk_mb: u64,
    /// Workspaces up to this size live in memory, as part of the container's; a larger one is a volume of its own on the
    /// Engine's disk, for as long as the execution, beside a /tmp of this size.
    // Four times the default workspace: what compilers and tests write stays fast, and each worker takes at most 1 GiB
    // for files.
    #[arg(long, env = "EXECBOX_MEMORY_DISK_MB", default_value_t = 1_024, value_name = "MIB")]
    pub memory_disk_mb: u64,
    /// What must stay free on the Engine's disk: with less, programs in such volumes are stopped and tried again.
    // Room for what all workers write between two looks.
    #[arg(long, env = "EXECBOX_DISK_RESERVE_MB", default_value_t = 2_048, value_name = "MIB")]
    pub disk_reserve_mb: u64,
    /// Files and folders in the workspace.
    #[arg(long, env = "EXECBOX_DISK_INODES", default_value_t = 65_536, value_name = "N")]
    pub disk_inodes: u64,
    /// Processors, as a fraction.
    #[arg(long, env = "EXECBOX_CPUS", default_value_t = 1.0, value_name = "N")]
    pub cpus: f64,
    /// Most that a request may ask for.
    #[arg(long, env = "EXECBOX_MAX_CPUS", default_value_t = 2.0, value_name = "N")]
    pub max_cpus: f64,
    /// Processes and threads.
    #[arg(long, env = "EXECBOX_PIDS", default_value_t = 128, value_name = "N")]
    pub pids: u64,
    /// Most that a request may ask for.
    #[arg(long, env = "EXECBOX_MAX_PIDS", default_value_t = 512, value_name = "N")]
    pub max_pids: u64,
    /// What is kept of stdout, and again of stderr.
    #[arg(long, env = "EXECBOX_OUTPUT_KB", default_value_t = 1_024, value_name = "KIB")]
    pub output_kb: u64,
    /// Most that a request may ask for.
    #[arg(long, env = "EXECBOX_MAX_OUTPUT_KB", default_value_t = 16_384, value_name = "KIB")]
    pub max_output_kb: u64,
    /// Sum of the sizes of one execution's artifacts.
    #[arg(long, env = "EXECBOX_ARTIFACT_MB", default_value_t = 64, value_name = "MIB")]
    pub artifact_mb: u64,
    /// Number of one execution's artifacts.
    #[arg(long, env = "EXECBOX_ARTIFACT_COUNT", default_value_t = 256, value_name = "N")]
    pub artifact_count: u64,
}

/// Caps on what a request carries.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Limits of one request")]
pub struct RequestConfig {
    /// Size of an archive, unpacked.
    #[arg(long, env = "EXECBOX_ARCHIVE_MB", default_value_t = 100, value_name = "MIB")]
    pub archive_mb: u64,
    /// Files and folders in an archive.
    #[arg(long, env = "EXECBOX_ARCHIVE_ENTRIES", default_value_t = 10_000, value_name = "N")]
    pub archive_entries: u64,
    /// Depth of folders in an archive.
    #[arg(long, env = "EXECBOX_ARCHIVE_DEPTH", default_value_t = 32, value_name = "N")]
    pub archive_depth: usize,
    /// Size of a JSON body or of the metadata part.
    #[arg(long, env = "EXECBOX_JSON_KB", default_value_t = 8_192, value_name = "KIB")]
    pub json_kb: u64,
    /// Size of `parameters` and `input_data` together. Over HTTP they are part of the JSON, which has its own limit.
    #[arg(long, env = "EXECBOX_INPUT_KB", default_value_t = 16_384, value_name = "KIB")]
    pub input_kb: u64,
    /// Size of the code of `/api/v1/eval` (100 KiB, as in python-executor).
    #[arg(long, env = "EXECBOX_EVAL_CODE_KB", default_value_t = 100, value_name = "KIB")]
    pub eval_code_kb: u64,
    /// Seconds that the head of a request may take.
    #[arg(long, env = "EXECBOX_HEAD_SECONDS", default_value_t = 5, value_name = "S")]
    pub head_seconds: u64,
    /// Seconds without a single byte of the body before it is given up with 408.
    #[arg(long, env = "EXECBOX_BODY_IDLE_SECONDS", default_value_t = 10, value_name = "S")]
    pub body_idle_seconds: u64,
    /// Bytes per second that a body must average, after the first idle period. Doubled after each minute that the caller
    /// was waited for, up to 64 times as much.
    #[arg(long, env = "EXECBOX_BODY_MIN_RATE", default_value_t = 1_024, value_name = "B/S")]
    pub body_min_rate: u64,
    /// Seconds that a caller may take nothing of an answer before its connection is closed.
    #[arg(long, env = "EXECBOX_ANSWER_IDLE_SECONDS", default_value_t = 30, value_name = "S")]
    pub answer_idle_seconds: u64,
    /// Bytes per second of an answer that a caller must take on average, where it has to be waited for.
    #[arg(long, env = "EXECBOX_ANSWER_MIN_RATE", default_value_t = 1_024, value_name = "B/S")]
    pub answer_min_rate: u64,
    /// Seconds after which a connection without a request is closed.
    #[arg(long, env = "EXECBOX_KEEP_ALIVE_SECONDS", default_value_t = 30, value_name = "S")]
    pub keep_alive_seconds: u64,
    /// Connections that are open at once. From seven eighths of it on, each new one closes the one that has been idle
    /// longest.
    #[arg(long, env = "EXECBOX_CONNECTIONS", default_value_t = 2_048, value_name = "N")]
    pub connections: usize,
    /// Memory for all requests together, from their first byte to the end of their execution: JSON bodies and `metadata`
    /// parts (long ones wait in files), archives' names, and executions that wait. Who finds none within 10 s is answered
    /// 429.
    // An 8 MiB body takes at most half of it while it is read; see src/http/text.rs.
    #[arg(long, env = "EXECBOX_BODY_MEMORY_MB", default_value_t = 64, value_name = "MIB",
          value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    pub body_memory_mb: u64,
    /// Uploads over 64 KiB that are read at once; one more is answered 429. While several tenants have keys, none of them
    /// has more than three quarters.
    #[arg(long, env = "EXECBOX_UPLOADS", default_value_t = 64, value_name = "N")]
    pub uploads: usize,
}

/// How long finished executions are kept.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Kept results")]
pub struct RetentionConfig {
    /// Age at which a finished execution is forgotten.
    #[arg(long, env = "EXECBOX_KEEP_SECONDS", default_value_t = 86_400, value_name = "S")]
    pub keep_seconds: u64,
    /// Finished executions of each tenant that are kept; the oldest goes first.
    #[arg(long, env = "EXECBOX_KEEP_COUNT", default_value_t = 10_000, value_name = "N")]
    pub keep_count: usize,
    /// Output and artifacts of each tenant that are kept.
    #[arg(long, env = "EXECBOX_KEEP_MB", default_value_t = 1_024, value_name = "MIB")]
    pub keep_mb: u64,
}

impl Default for Config {
    /// The documented defaults, without a look at the environment.
    #[allow(clippy::expect_used)]
    fn default() -> Self {
        #[derive(clap::Parser)]
        struct Defaults {
            #[command(flatten)]
            config: Config,
        }
        let command = <Defaults as clap::CommandFactory>::command().mut_args(|arg| arg.env(None::<&str>));
        let matches = command.get_matches_from(["execbox"]);
        <Defaults as clap::FromArgMatches>::from_arg_matches(&matches).expect("the defaults parse").config
    }
}

impl Config {
    /// Workers, with the default resolved.
    #[must_use]
    pub fn workers(&self) -> u16 {
        self.workers.unwrap_or_else(|| {
            let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
            // A machine that does not tell its memory gets the least.
            let memory = nix::sys::sysinfo::sysinfo().map_or(0, |machine| machine.ram_total());
            let limits = &self.limits;
            let each = limits.memory_mb.saturating_add(limits.disk_mb.min(limits.memory_disk_mb));
            default_workers(processors, memory, each.saturating_mul(MIB))
        })
    }

    /// How many containers wait.
    #[must_use]
    pub fn pool_limits(&self) -> PoolLimits {
        let containers = &self.containers;
        let most = containers.warm_max.unwrap_or(4 * usize::from(self.workers()));
        let needed = most > 0 || containers.reuse == Reuse::Tenant;
        let total = if needed { containers.warm_memory_mb / WARM_MB } else { 0 };
        PoolLimits { least: containers.warm_min, most, total: usize::try_from(total).unwrap_or(usize::MAX) }
    }

    /// Waiting executions of one tenant, with the default resolved: others always find some room.
    #[must_use]
    pub fn tenant_queue_length(&self) -> usize {
        self.tenant_queue_length.unwrap_or(self.queue_length - self.queue_length / 10)
    }

    /// Bytes of projects and standard input that executions may hold which have not ended.
    #[must_use]
    pub fn backlog_bytes(&self) -> u64 {
        self.queue_mb.saturating_mul(MIB)
    }

    /// The same of one tenant: others always find some room.
    #[must_use]
    pub fn tenant_backlog_bytes(&self) -> u64 {
        self.backlog_bytes() / 10 * 9
    }

    /// Bytes that must be free on the disk of the data folder for new work to be taken.
    #[must_use]
    pub fn data_reserve_bytes(&self) -> u64 {
        self.data_reserve_mb.saturating_mul(MIB)
    }

    /// Executions of one tenant that run at once, with the default resolved for so many tenants with keys.
    #[must_use]
    pub fn tenant_concurrency(&self, tenants: usize) -> usize {
        let kept_free = u16::from(tenants > 1);
        usize::from(self.tenant_concurrency.unwrap_or_else(|| (self.workers() - kept_free).max(1)))
    }

    /// Defaults and ceilings of one execution.
    #[must_use]
    pub fn limit_policy(&self) -> LimitPolicy {
        let l = &self.limits;
        let millis = |cpus: f64| {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let millis = (cpus.clamp(0.01, 1024.0) * 1000.0) as u64;
            millis
        };
        let shared = Limits {
            timeout_ms: l.timeout_seconds.saturating_mul(1000),
            compile_timeout_ms: l.compile_timeout_seconds.saturating_mul(1000),
            memory_bytes: l.memory_mb.saturating_mul(MIB),
            disk_bytes: l.disk_mb.saturating_mul(MIB),
            disk_inodes: l.disk_inodes,
            cpu_millis: millis(l.cpus),
            pids: l.pids,
            output_bytes: l.output_kb.saturating_mul(KIB),
            artifact_bytes: l.artifact_mb.saturating_mul(MIB),
            artifact_count: l.artifact_count,
        };
        let ceiling = Limits {
            timeout_ms: l.max_timeout_seconds.saturating_mul(1000),
            compile_timeout_ms: l.max_compile_timeout_seconds.saturating_mul(1000),
            memory_bytes: l.max_memory_mb.saturating_mul(MIB),
            disk_bytes: l.max_disk_mb.saturating_mul(MIB),
            cpu_millis: millis(l.max_cpus),
            pids: l.max_pids,
            output_bytes: l.max_output_kb.saturating_mul(KIB),
            ..shared
        };
        let input_bytes = self.request.input_kb.saturating_mul(KIB);
        LimitPolicy { default: shared, ceiling, key: KeyCeilings::default(), input_bytes }
    }

    /// Which workspaces are volumes on the Engine's disk.
    #[must_use]
    pub fn disk(&self) -> DiskConfig {
        DiskConfig {
            most_in_memory: self.limits.memory_disk_mb.saturating_mul(MIB),
            reserve: self.limits.disk_reserve_mb.saturating_mul(MIB),
        }
    }

    /// Caps of the archive reader.
    #[must_use]
    pub fn archive_limits(&self) -> ArchiveLimits {
        ArchiveLimits {
            bytes: self.request.archive_mb.saturating_mul(MIB),
            entries: self.request.archive_entries,
            depth: self.request.archive_depth,
        }
    }

    /// The Engine's address: the setting, else `DOCKER_HOST`, else `None` for the usual sockets.
    ///
    /// # Errors
    /// It is no address, or of a kind that is not spoken; the sentence says what would be right, and who said it.
    #[allow(clippy::disallowed_methods)]
    pub fn engine_address(&self) -> Result<Option<String>, String> {
        let set = |address: &String| !address.is_empty();
        let (name, address) = match self.docker_host.clone().filter(set) {
            Some(address) => ("--docker-host", Some(address)),
            None => ("DOCKER_HOST", std::env::var("DOCKER_HOST").ok().filter(set)),
        };
        let address = address.map(|address| engine_address::parse(&address)).transpose();
        address.map_err(|why| format!("{name}: {why}"))
    }

    /// How long finished executions are kept.
    #[must_use]
    pub fn retention_policy(&self) -> RetentionPolicy {
        RetentionPolicy {
            age: Duration::from_secs(self.retention.keep_seconds),
            count: self.retention.keep_count,
            bytes: self.retention.keep_mb.saturating_mul(MIB),
        }
    }

    /// What SIGTERM leaves to running executions.
    #[must_use]
    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }
}

/// Executions for each processor that run at once: programs that sleep or loop then leave room for short ones, among which
/// the kernel shares the processors.
const WORKERS_PER_PROCESSOR: usize = 4;
/// Fewest workers by default: one program never blocks all others.
const LEAST_WORKERS: usize = 2;
/// Most workers by default; `--workers` takes up to 4,096.
const MOST_WORKERS: usize = 256;

/// Number of workers on a machine of so many processors and bytes, of which one execution may take `each` bytes.
fn default_workers(processors: usize, memory: u64, each: u64) -> u16 {
    let fitting = usize::try_from(memory / each.max(1)).unwrap_or(usize::MAX);
    let workers = processors.saturating_mul(WORKERS_PER_PROCESSOR).min(fitting);
    u16::try_from(workers.clamp(LEAST_WORKERS, MOST_WORKERS)).unwrap_or(u16::MAX)
}

/// The settings file that the environment names, before any flag is parsed.
#[must_use]
#[allow(clippy::disallowed_methods)]
pub fn config_file() -> Option<PathBuf> {
    std::env::var_os("EXECBOX_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Where distributions keep the CA bundle: Debian, Fedora, openSUSE, Alpine.
const SYSTEM_CA_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

impl BuildConfig {
    /// The CA bundle for image builds, with `system` resolved.
    ///
    /// # Errors
    /// There is no such file; the sentence says what to set.
    pub fn ca_bundle_file(&self) -> Result<Option<PathBuf>, String> {
        let system = || SYSTEM_CA_BUNDLES.iter().map(PathBuf::from).find(|path| path.is_file());
        match &self.ca_bundle {
            None => Ok(system()),
            Some(name) if name.as_os_str().is_empty() => Ok(None),
            Some(name) if name.as_os_str() == "system" => {
                let missing = || {
                    let places = SYSTEM_CA_BUNDLES.join(", ");
                    format!("--ca-bundle system: none of {places} is here; name the file")
                };
                system().map(Some).ok_or_else(missing)
            }
            Some(path) if path.is_file() => Ok(Some(path.clone())),
            Some(path) => Err(format!("--ca-bundle {}: there is no such file", path.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ca_bundle_is_a_file_or_the_sentence_says_which_is_missing() {
        let bundle = |name: Option<&str>| {
            let build = BuildConfig { ca_bundle: name.map(PathBuf::from), ..Config::default().build };
            build.ca_bundle_file()
        };
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(
            bundle(None).unwrap(),
            bundle(Some("system")).unwrap_or_default(),
            "the default, if it is here"
        );
        assert_eq!(bundle(Some("")), Ok(None), "an empty variable is none");
        assert_eq!(bundle(file.path().to_str()), Ok(Some(file.path().to_owned())));
        assert!(bundle(Some("/no/such/bundle")).unwrap_err().contains("/no/such/bundle"));
    }

    #[test]
    fn a_named_engine_wins() {
        let config = Config { docker_host: Some("unix:///x.sock".into()), ..Config::default() };
        assert_eq!(config.engine_address(), Ok(Some("unix:///x.sock".into())));
        let config = Config { docker_host: Some("ssh://x".into()), ..Config::default() };
        assert!(
            config.engine_address().unwrap_err().starts_with("--docker-host: the Engine's address `ssh://x`")
        );
    }

    #[test]
    fn workers_are_four_for_each_processor_as_far_as_memory_goes() {
        let each = 768 * MIB;
        assert_eq!(default_workers(2, 24 << 30, each), 8);
        assert_eq!(default_workers(2, 4 << 30, each), 5);
        assert_eq!(default_workers(1, 1 << 30, each), 2, "one program never blocks all others");
        assert_eq!(default_workers(2, 0, each), 2);
        assert_eq!(default_workers(1_000, u64::MAX, 0), 256);
        assert_eq!(Config { workers: Some(3), ..Config::default() }.workers(), 3);
    }

    #[test]
    fn a_limit_beyond_all_measure_stays_one() {
        let mut config = Config::default();
        config.limits.max_memory_mb = u64::MAX;
        assert_eq!(config.limit_policy().ceiling.memory_bytes, u64::MAX);
    }
}
