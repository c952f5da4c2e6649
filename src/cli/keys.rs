//! `execbox keys`: who may call the server. Works on the records beside a server that runs.

use std::path::Path;
use std::process::ExitCode;

use jiff::{SignedDuration, Timestamp};

use crate::cli::failure::Failure;
use crate::cli::output;
use crate::config::DataDirConfig;
use crate::execution::id::{BadTenant, Tenant};
use crate::limits::{KeyCeilings, MIB};
use crate::store::{ApiKey, Database, KeySpec, Keys, LintRule, Scope, is_in_use};

/// Hours that a day of `--expires-days` has.
const DAY_HOURS: i64 = 24;

/// Make, list and revoke the keys of the HTTP interface.
///
/// A server that has keys answers nothing but its health and documentation without one. It needs no restart: what is
/// done here holds within a second.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Create(Box<Create>),
    /// List the keys, those that are over too. Secrets are not kept, so they can't be shown.
    List {
        #[command(flatten)]
        place: DataDirConfig,
    },
    /// End a key for good.
    Revoke {
        /// The id that `create` and `list` show: the part of the key between the first two underscores.
        id: String,
        #[command(flatten)]
        place: DataDirConfig,
    },
}

/// Make a key. It is printed once, to standard output, and can't be shown again.
#[derive(clap::Args)]
struct Create {
    /// Owner of what is run with it. Keys of one tenant see the same executions.
    #[arg(long, value_name = "NAME", value_parser = tenant)]
    tenant: String,
    /// What it is allowed: `run` (run and kill), `read` (results and artifacts), `admin` (metrics).
    #[arg(long, value_name = "SCOPE,...", value_delimiter = ',', default_value = "run,read")]
    scope: Vec<Scope>,
    /// What it is for, for people.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    name: String,
    /// Days after which it stops to work.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..=36_500))]
    expires_days: Option<i64>,
    /// Requests per minute.
    #[arg(long, value_name = "N/min", value_parser = rate)]
    rate: Option<u32>,
    /// Executions of it that run at once; more of its own wait while others pass. Default: what its tenant may have.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    concurrency: Option<u16>,
    /// Looks through the sources of every program for what is worth a word: `advise` tells it with the result, `block`
    /// refuses the program. This never replaces isolation. Default: as the request asks.
    #[arg(long, value_name = "advise|block")]
    lint: Option<LintRule>,
    /// Most seconds that an execution may ask for, where that is less than the server's ceiling.
    #[arg(id = "key_timeout_seconds", long = "max-timeout-seconds", value_name = "S", value_parser = positive)]
    max_timeout_seconds: Option<u64>,
    /// Most memory that an execution may ask for, where that is less than the server's ceiling.
    #[arg(id = "key_memory_mb", long = "max-memory-mb", value_name = "MIB", value_parser = positive)]
    max_memory_mb: Option<u64>,
    /// Largest workspace that an execution may ask for, where that is less than the server's ceiling.
    #[arg(id = "key_disk_mb", long = "max-disk-mb", value_name = "MIB", value_parser = positive)]
    max_disk_mb: Option<u64>,
    /// Most processors that an execution may ask for, where that is less than the server's ceiling.
    #[arg(id = "key_cpus", long = "max-cpus", value_name = "N", value_parser = cpus)]
    max_cpu_millis: Option<u64>,
    #[command(flatten)]
    place: DataDirConfig,
}

pub(super) fn keys(args: Args) -> Result<ExitCode, Failure> {
    match args.command {
        Command::Create(args) => create(*args),
        Command::List { place } => list(&place.data_dir),
        Command::Revoke { id, place } => revoke(&place.data_dir, &id),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn create(args: Create) -> Result<(), Failure> {
    crate::store::keep_files_private();
    let folder = args.place.data_dir.clone();
    let is_new = !folder.exists();
    // Keys can be made before the first server runs.
    std::fs::create_dir_all(&folder)
        .map_err(|error| Failure::ours(format!("--data-dir {}: {error}", folder.display())))?;
    let spec = args.into_spec()?;
    let (text, id) = open(&folder)?.create(&spec).map_err(Failure::ours)?;
    output::result(format!("{text}\n").as_bytes()).map_err(Failure::ours)?;
    output::note(&format!("key {id} of tenant {}; it is not shown again", spec.tenant));
    output::note(&place_of(&folder, is_new));
    Ok(())
}

/// Which servers know a key: those of one folder only, and a key in the wrong one opens nothing.
fn place_of(folder: &Path, is_new: bool) -> String {
    let whole = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let made = if is_new { ", which was made for it" } else { "" };
    let used = match is_in_use(folder) {
        Ok(true) => "a server uses it, and knows the key from now on",
        Ok(false) => {
            "no server uses it at present: start one with the same --data-dir, or name the right folder"
        }
        Err(_) => "whether a server uses it could not be seen",
    };
    format!("the key is for the data folder {}{made}; {used}", whole.display())
}

/// Opens the keys of a folder that is there: looking at keys makes no folder.
fn open_existing(folder: &Path) -> Result<Keys, Failure> {
    let found = Database::is_in(folder).map_err(|error| {
        Failure::usage(format!("--data-dir {}: it can't be looked into: {error}", folder.display()))
    })?;
    if found {
        return open(folder);
    }
    Err(Failure::usage(format!(
        "--data-dir {}: this is no data folder of execbox, so there are no keys in it; name the one of your server",
        folder.display()
    )))
}

fn list(folder: &Path) -> Result<(), Failure> {
    let head = ["ID", "TENANT", "SCOPES", "STATE", "CREATED", "EXPIRES", "RATE", "CEILINGS", "NAME"];
    let mut rows = vec![head.map(String::from).to_vec()];
    let now = Timestamp::now();
    rows.extend(open_existing(folder)?.list().map_err(Failure::ours)?.iter().map(|key| row(key, now)));
    output::result(output::table(&rows).as_bytes()).map_err(Failure::ours)
}

fn revoke(folder: &Path, id: &str) -> Result<(), Failure> {
    if open_existing(folder)?.revoke(id).map_err(Failure::ours)? {
        output::note(&format!("key {id} is revoked"));
        return Ok(());
    }
    // What was typed may be a whole key, so it is not repeated.
    Err(Failure::usage("there is no key with this id; `execbox keys list` shows the ids"))
}

fn open(folder: &Path) -> Result<Keys, Failure> {
    Keys::open(folder).map_err(Failure::ours)
}

impl Create {
    fn into_spec(self) -> Result<KeySpec, Failure> {
        let after = |days: i64| Timestamp::now().checked_add(SignedDuration::from_hours(days * DAY_HOURS));
        let expires_at = self.expires_days.map(after).transpose();
        Ok(KeySpec {
            tenant: self.tenant,
            name: self.name,
            scopes: self.scope,
            expires_at: expires_at.map_err(|error| Failure::usage(format!("--expires-days: {error}")))?,
            rate_per_minute: self.rate,
            concurrency: self.concurrency,
            lint: self.lint,
            ceilings: KeyCeilings {
                timeout_ms: self.max_timeout_seconds.map(|seconds| seconds.saturating_mul(1000)),
                memory_bytes: self.max_memory_mb.map(|mib| mib.saturating_mul(MIB)),
                disk_bytes: self.max_disk_mb.map(|mib| mib.saturating_mul(MIB)),
                cpu_millis: self.max_cpu_millis,
            },
        })
    }
}

fn row(key: &ApiKey, now: Timestamp) -> Vec<String> {
    let date = |time: Timestamp| time.strftime("%Y-%m-%d").to_string();
    let state = match key.revoked_at {
        Some(_) => "revoked",
        None if !key.is_valid(now) => "expired",
        None => "valid",
    };
    vec![
        key.id.clone(),
        key.tenant.clone(),
        key.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(","),
        state.to_owned(),
        date(key.created_at),
        key.expires_at.map_or_else(|| "never".to_owned(), date),
        key.rate_per_minute.map_or_else(|| "-".to_owned(), |rate| format!("{rate}/min")),
        ceilings(key),
        // A name may hold anything; the table is read in a terminal.
        key.name.escape_debug().to_string(),
    ]
}

fn ceilings(key: &ApiKey) -> String {
    let thousandths = |value: u64| format!("{}.{:03}", value / 1000, value % 1000);
    let shown = [
        key.concurrency.map(|count| format!("concurrency={count}")),
        key.lint.map(|rule| format!("lint={}", rule.as_str())),
        key.ceilings.timeout_ms.map(|ms| format!("timeout_seconds={}", ms / 1000)),
        key.ceilings.memory_bytes.map(|bytes| format!("memory_mb={}", bytes / MIB)),
        key.ceilings.disk_bytes.map(|bytes| format!("disk_mb={}", bytes / MIB)),
        key.ceilings.cpu_millis.map(|millis| format!("cpus={}", thousandths(millis))),
    ];
    let shown: Vec<_> = shown.into_iter().flatten().collect();
    if shown.is_empty() { "-".to_owned() } else { shown.join(",") }
}

fn tenant(name: &str) -> Result<String, BadTenant> {
    name.parse::<Tenant>().map(|tenant| tenant.to_string())
}

fn rate(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix("/min").unwrap_or(text);
    let rate = number.parse().ok().filter(|rate| *rate > 0);
    rate.ok_or_else(|| "a rate is a whole number of requests per minute, like 60/min".to_owned())
}

fn positive(text: &str) -> Result<u64, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| "a whole number above 0 is needed".to_owned())
}

/// Into thousandths of a processor.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked first")]
fn cpus(text: &str) -> Result<u64, String> {
    match text.parse::<f64>() {
        Ok(cpus) if (0.01..=1024.0).contains(&cpus) => Ok((cpus * 1000.0).round() as u64),
        _ => Err("a number from 0.01 to 1024 is needed".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        keys: Args,
    }

    fn parse(words: &str) -> Result<Args, String> {
        let args = Cli::try_parse_from(words.split(' ')).map_err(|error| error.to_string())?;
        Ok(args.keys)
    }

    fn spec(words: &str) -> Result<KeySpec, String> {
        let Command::Create(create) = parse(&format!("keys create {words}"))?.command else {
            panic!("{words}")
        };
        create.into_spec().map_err(|failure| failure.message)
    }

    #[test]
    fn every_flag_gets_into_the_key() {
        let given = "--tenant team-1 --scope run,admin --name ci --expires-days 2 --rate 60/min --concurrency 2 --lint block \
                     --max-timeout-seconds 5 --max-memory-mb 64 --max-disk-mb 32 --max-cpus 0.5";
        let key = spec(given).unwrap();
        assert_eq!((key.tenant.as_str(), key.name.as_str()), ("team-1", "ci"));
        assert_eq!(key.scopes, [Scope::Run, Scope::Admin]);
        let hours = key.expires_at.unwrap().duration_since(Timestamp::now()).as_hours();
        assert!((47..=48).contains(&hours), "{hours}");
        assert_eq!((key.rate_per_minute, key.concurrency), (Some(60), Some(2)));
        assert_eq!(key.lint, Some(LintRule::Block));
        let ceilings = KeyCeilings {
            timeout_ms: Some(5_000),
            memory_bytes: Some(64 * MIB),
            disk_bytes: Some(32 * MIB),
            cpu_millis: Some(500),
        };
        assert_eq!(key.ceilings, ceilings);
    }

    #[test]
    fn without_flags_a_key_runs_and_reads_under_the_servers_limits() {
        let key = spec("--tenant a").unwrap();
        assert_eq!(key.scopes, [Scope::Run, Scope::Read]);
        assert_eq!((key.expires_at, key.rate_per_minute, key.concurrency), (None, None, None));
        assert_eq!(key.ceilings, KeyCeilings::default());
    }

    #[test]
    fn a_mistake_says_what_would_be_right() {
        for (words, right) in [
            ("--scope run", "--tenant"),
            ("--tenant A", "lower-case"),
            ("--tenant a --scope root", "run, read and admin"),
            ("--tenant a --rate 0/min", "60/min"),
            ("--tenant a --rate 5/hour", "60/min"),
            ("--tenant a --concurrency 0", "1"),
            ("--tenant a --lint warn", "advise and block"),
            ("--tenant a --max-memory-mb 0", "above 0"),
            ("--tenant a --max-disk-mb 0", "above 0"),
            ("--tenant a --max-cpus nan", "0.01"),
            ("--tenant a --expires-days 0", "1"),
        ] {
            let message = spec(words).unwrap_err();
            assert!(message.contains(right), "{words}: {message}");
        }
    }

    #[test]
    fn a_key_is_listed_without_its_secret_and_revoked_by_its_id() {
        let folder = tempfile::tempdir().unwrap();
        let new = folder.path().join("new");
        // The lock of a server that runs is not in the way.
        let _server = crate::store::DataDir::open(&new).unwrap();
        let keys = open(&new).unwrap();
        let (text, id) = keys
            .create(
                &spec("--tenant a --name x\u{1b}[31m --rate 5 --concurrency 3 --lint advise --max-disk-mb 7")
                    .unwrap(),
            )
            .unwrap();
        let shown = row(&keys.list().unwrap()[0], Timestamp::now()).join(" ");
        assert!(shown.contains(&id) && shown.contains("valid") && shown.contains("5/min"), "{shown}");
        assert!(shown.contains("concurrency=3,lint=advise,disk_mb=7"), "{shown}");
        assert!(!shown.contains(&text[20..]) && !shown.contains('\u{1b}'), "{shown}");
        revoke(&new, &id).unwrap();
        let shown = row(&keys.list().unwrap()[0], Timestamp::now()).join(" ");
        assert!(shown.contains("revoked"), "{shown}");
        let refusal = revoke(&new, &text).unwrap_err();
        assert!(!refusal.message.contains(&text[20..]), "{}", refusal.message);
        assert!(list(&folder.path().join("gone")).unwrap_err().message.contains("--data-dir"));
    }
}
