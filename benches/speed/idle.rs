//! What a server costs that nobody calls, with containers that wait.

use std::time::Duration;

use crate::Result;
use crate::cpu::process;
use crate::report::Report;
use crate::settings::SETTINGS;

/// How long nothing happens.
const REST: Duration = Duration::from_secs(30);
/// Before that: the containers are made.
const WARM_UP: Duration = Duration::from_secs(4);
/// Containers that wait.
const WARM: [&str; 4] = ["--warm-min", "4", "--warm-max", "4"];
/// Part of one processor, in percent.
const MAX_PERCENT: f64 = 0.5;
/// The Engine's processes, and the runners in the containers; also those of others on this machine.
const ENGINE: [&str; 4] = ["dockerd", "containerd", "containerd-shim", "execbox"];

pub(crate) async fn measure(report: &mut Report) -> Result<()> {
    eprintln!("bench: idle servers for {} s", REST.as_secs());
    let mut servers = Vec::new();
    for setting in &SETTINGS {
        let server = setting.start(&WARM).await?;
        server.hello().await?;
        servers.push((setting, server));
    }
    tokio::time::sleep(WARM_UP).await;
    let all = || servers.iter().map(|(_, server)| process(server.pid())).collect::<Result<Vec<_>>>();
    let own: Vec<_> = servers.iter().map(|(_, server)| server.pid()).collect();
    let (before, engine) = (all()?, engine(&own)?);
    tokio::time::sleep(REST).await;
    let (after, engine) = (all()?, self::engine(&own)? - engine);
    let percent = |seconds: f64| seconds * 100.0 / REST.as_secs_f64();
    for (at, (setting, server)) in servers.into_iter().enumerate() {
        let name = format!("{}: idle server with 4 warm containers, of one processor", setting.name);
        report.figure(&name, percent(after[at] - before[at]), "%").at_most(MAX_PERCENT);
        server.stop().await?;
    }
    report.facts.number("Engine and runners meanwhile, of one processor", percent(engine), "%");
    Ok(())
}

/// Processor time of the Engine and the runners, without these servers.
fn engine(servers: &[u32]) -> Result<f64> {
    let mut seconds = 0.0;
    for entry in std::fs::read_dir("/proc")? {
        let Ok(pid) = entry?.file_name().to_string_lossy().parse() else { continue };
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if !servers.contains(&pid) && ENGINE.contains(&name.trim()) {
            // One that ends meanwhile counts for nothing.
            seconds += process(pid).unwrap_or(0.0);
        }
    }
    Ok(seconds)
}
