//! The probe of the container profile, and what it says of profiles that are loosened.

use std::process::Command;
use std::time::Duration;

use bollard::models::{ContainerCreateBody, HostConfigCgroupnsModeEnum};
use execbox::config::Config;
use execbox::limits::Limits;
use execbox::runner::probe::Outcome;
use execbox::sandbox::Sandbox as _;
use execbox::sandbox::docker::{DockerConfig, DockerSandbox, PoolLimits, ProbeReport, Reuse};

use crate::registry;
use crate::server::EXECBOX;

pub async fn sandbox(instance: &str) -> DockerSandbox {
    let config = DockerConfig {
        host: Config::default().engine_address().unwrap(),
        oci_runtime: None,
        uid_base: 20_000,
        runner: Some(EXECBOX.into()),
        instance: instance.to_owned(),
        ca_bundle: None,
        debian_mirror: None,
        build_proxy: None,
        build_network: "none".to_owned(),
        build_timeout: Duration::from_secs(1),
        disk: Config::default().disk(),
        installs: Config::default().installs(),
        pool: PoolLimits { least: 0, most: 0, total: 0 },
    };
    DockerSandbox::connect(config).await.expect("an Engine must be there; run deploy/setup-engine.sh")
}

pub fn limits() -> Limits {
    Config::default().limit_policy().default
}

fn print(report: &ProbeReport) {
    for row in &report.rows {
        eprintln!("{:<11} {:<58} {:?} ({})", row.class, row.name, row.outcome, row.detail);
    }
}

#[tokio::test]
async fn everything_forbidden_is_refused() {
    let sandbox = sandbox("probe-refused").await;
    for reuse in [Reuse::Never, Reuse::Tenant] {
        let report = sandbox.probe(&limits(), reuse).await.unwrap();
        print(&report);
        assert_eq!(report.require(), Ok(()), "{reuse:?}");
        assert!(report.that(Outcome::Refused).count() >= 300, "{reuse:?}: {}", report.rows.len());
    }
    sandbox.close().await;
}

/// Each attempt that a case of `tests/hostile.toml` names was made, and did not work.
#[tokio::test]
async fn every_case_has_its_rows() {
    let sandbox = sandbox("probe-cases").await;
    for reuse in [Reuse::Never, Reuse::Tenant] {
        let report = sandbox.probe(&limits(), reuse).await.unwrap();
        for (id, case) in registry::read().unwrap() {
            for attempt in &case.rows {
                let found: Vec<_> =
                    report.rows.iter().filter(|row| row.name.starts_with(attempt.as_str())).collect();
                assert!(!found.is_empty(), "{id}, {reuse:?}: nobody tried {attempt}");
                for row in found {
                    assert_ne!(
                        row.outcome,
                        Outcome::Worked,
                        "{id}, {reuse:?}: {} ({})",
                        row.name,
                        row.detail
                    );
                }
            }
        }
    }
    sandbox.close().await;
}

/// The workspace on the Engine's disk loosens nothing.
#[tokio::test]
async fn everything_forbidden_is_refused_with_a_workspace_on_disk() {
    let sandbox = sandbox("probe-on-disk").await;
    let on_disk = Limits { disk_bytes: Config::default().disk().most_in_memory + 1, ..limits() };
    let report = sandbox.probe(&on_disk, Reuse::Never).await.unwrap();
    sandbox.close().await;
    print(&report);
    assert_eq!(report.require(), Ok(()));
    assert!(report.rows.iter().all(|row| !row.name.ends_with("bytes in /work")), "it was in memory");
    assert!(report.that(Outcome::Refused).count() >= 300, "{}", report.rows.len());
}

/// Limits at the low end of what settings can say must not make the probe itself fail.
#[tokio::test]
async fn small_limits_leave_room_for_the_probe() {
    let sandbox = sandbox("probe-small").await;
    let small = Limits {
        memory_bytes: 8 << 20,
        disk_bytes: 1 << 20,
        pids: 3,
        cpu_millis: 100,
        output_bytes: 1,
        timeout_ms: 1000,
        ..limits()
    };
    let report = sandbox.probe(&small, Reuse::Never).await.unwrap();
    sandbox.close().await;
    assert_eq!(report.require(), Ok(()));
}

/// The probe would find it, too; a setting that can only be wrong is refused before anything starts.
#[test]
fn containers_that_would_run_as_root_are_refused() {
    let data = tempfile::tempdir().unwrap();
    let mut serve = Command::new(EXECBOX);
    serve.args(["serve", "--listen", "127.0.0.1:0", "--uid-base", "0", "--data-dir"]).arg(data.path());
    let output = serve.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("--uid-base"), "{said}");
    assert!(!said.contains("/api/v1/exec/sync"), "it announced itself: {said}");
}

/// A stronger OCI runtime that is asked for and missing must not mean the usual one.
#[test]
fn an_oci_runtime_that_the_engine_lacks_is_refused_with_those_it_has() {
    for flag in ["--oci-runtime", "--runtime"] {
        let data = tempfile::tempdir().unwrap();
        let mut serve = Command::new(EXECBOX);
        serve
            .args(["serve", "--listen", "127.0.0.1:0", flag, "no-such-runtime", "--data-dir"])
            .arg(data.path());
        let output = serve.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{said}");
        assert!(said.contains("no OCI runtime \"no-such-runtime\"") && said.contains("runc"), "{said}");
        assert!(!said.contains("/api/v1/exec/sync"), "it announced itself: {said}");
    }
}

/// `make mutants-profile` does this for every field; here are the worst.
#[tokio::test]
async fn a_loosened_profile_is_refused_by_name() {
    type Loosen = fn(&mut ContainerCreateBody);
    let loosened: [(Loosen, &str); 6] = [
        // Later versions of the Engine's own filter refuse io_uring, too; none refuses this.
        (|body| host(body).security_opt = None, "ptrace(PTRACE_TRACEME)"),
        (|body| host(body).readonly_rootfs = Some(false), "/ is mounted for writing"),
        (|body| host(body).cap_drop = None, "a capability to gain"),
        (|body| host(body).masked_paths = Some(Vec::new()), "read /proc/interrupts"),
        (|body| host(body).pids_limit = None, "processes over 129"),
        (
            |body| host(body).cgroupns_mode = Some(HostConfigCgroupnsModeEnum::HOST),
            "the container's id in /proc/self/cgroup",
        ),
    ];
    let sandbox = sandbox("probe-loosened").await;
    for (loosen, name) in loosened {
        let alter = |mut body: ContainerCreateBody| {
            loosen(&mut body);
            body
        };
        let report = sandbox.probe_altered(&limits(), Reuse::Never, alter).await.unwrap();
        let refusal = report.require().unwrap_err();
        assert!(refusal.contains(name), "{name} is not among: {refusal}");
    }
    sandbox.close().await;
}

fn host(body: &mut ContainerCreateBody) -> &mut bollard::models::HostConfig {
    body.host_config.get_or_insert_default()
}
