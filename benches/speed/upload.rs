//! A project of 1 GiB: from its first byte to the first line of its program, beside a plain copy of as many bytes into a
//! tmpfs of a container of the same profile, through the Engine's attach.

use std::time::{Duration, Instant};

use bollard::container::AttachContainerResults;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptions, StartContainerOptions,
};
use futures::StreamExt as _;
use tokio::io::AsyncWriteExt as _;

use crate::Result;
use crate::archive::{Large, noise};
use crate::client::Client;
use crate::engine_cycle::EngineCycle;
use crate::report::Report;
use crate::resident::peak;
use crate::samples::Samples;
use crate::server::Server;
use crate::settings::SETTINGS;
use crate::table::{MB, float};

const BYTES: u64 = 1 << 30;
/// Room for it, in MiB.
pub(crate) const ROOM_MIB: u64 = 1_100;
/// Of the copy and of each setting.
const ROUNDS: usize = 3;
/// The upload may take as long as this many copies.
const MAX_COPIES: f64 = 1.5;
/// Resident set of a busy server, in MB.
const MAX_BUSY_MB: f64 = 80.0;
/// Says at once how much came in. The line is its whole output, so that the answer comes when the line does.
const MAIN: &str = "import os; print(os.path.getsize('blob'))\n";
/// Copies its input, says that it has it.
const COPY: [&str; 3] = ["/bin/sh", "-c", "cat > /work/blob && echo in"];

/// Of one server.
#[derive(Default)]
struct Uploads {
    whole: Samples,
    sandbox: Samples,
    most: f64,
}

pub(crate) async fn measure(engine: &EngineCycle, report: &mut Report) -> Result<()> {
    let room = ROOM_MIB.to_string();
    let large = Large::new("/api/v1/exec/sync", MAIN, BYTES)?;
    let mut servers = Vec::new();
    for setting in &SETTINGS {
        servers.push((setting, setting.start(&["--archive-mb", &room, "--disk-mb", &room]).await?));
    }
    let mut copies = Samples::default();
    let mut uploads: Vec<_> = servers.iter().map(|_| Uploads::default()).collect();
    for round in 1..=ROUNDS {
        eprintln!("bench: 1 GiB, round {round} of {ROUNDS}");
        copies.add(copy(engine).await?);
        for ((_, server), uploads) in servers.iter().zip(&mut uploads) {
            let work = async { tokio::task::block_in_place(|| upload(server, &large)) };
            let (occupied, (took, sandbox_ms)) = peak(server.pid(), work).await?;
            uploads.whole.add(took);
            uploads.sandbox.add_ms(sandbox_ms);
            uploads.most = uploads.most.max(occupied);
        }
    }
    report.facts.value("1 GiB copied into a container's tmpfs through attach", &copies, "ms");
    for ((setting, server), Uploads { whole, sandbox, most }) in servers.into_iter().zip(uploads) {
        server.stop().await?;
        let name = setting.name;
        report.facts.value(&format!("{name}: 1 GiB archive, to its program's first line"), &whole, "ms");
        report.facts.value(&format!("{name}:   of it from the spool into the container"), &sandbox, "ms");
        let most_row = format!("{name}: server RSS, peak of a 1 GiB upload");
        report.facts.number(&most_row, most, "MB").at_most(MAX_BUSY_MB);
        let ratio = whole.median() / copies.median();
        report
            .figure(&format!("{name}: 1 GiB archive to first line / plain copy"), ratio, "×")
            .at_most(MAX_COPIES);
    }
    let rate = float(BYTES) / MB / (copies.median() / 1_000.0);
    report.facts.number("plain copy through attach", rate, "MB/s");
    Ok(())
}

/// The whole time, and the server's part of it until the project was in the container.
fn upload(server: &Server, large: &Large) -> Result<(Duration, f64)> {
    let mut client = Client::connect(server.url())?;
    let began = Instant::now();
    client.send(&large.head)?;
    (0..large.pieces).try_for_each(|_| client.send(&large.piece))?;
    client.send(&large.tail)?;
    let answer = client.receive("200")?;
    let took = began.elapsed();
    let answer: serde_json::Value = serde_json::from_slice(answer)?;
    if answer["stdout"] == format!("{BYTES}\n") {
        Ok((took, answer["timings"]["sandbox_ms"].as_f64().unwrap_or(0.0)))
    } else {
        Err(format!("the upload did not arrive whole: {answer}").into())
    }
}

async fn copy(engine: &EngineCycle) -> Result<Duration> {
    let body = ContainerCreateBody {
        entrypoint: Some(COPY.map(str::to_owned).to_vec()),
        cmd: None,
        ..engine.body_with_room(ROOM_MIB).await?
    };
    let (docker, piece) = (engine.docker(), noise());
    let id = docker.create_container(None::<CreateContainerOptions>, body).await?.id;
    let options = AttachContainerOptionsBuilder::default().stdin(true).stdout(true).stderr(true).stream(true);
    let AttachContainerResults { mut output, mut input } =
        docker.attach_container(&id, Some(options.build())).await?;
    docker.start_container(&id, None::<StartContainerOptions>).await?;
    let began = Instant::now();
    for _ in 0..BYTES / piece.len() as u64 {
        input.write_all(&piece).await?;
    }
    input.shutdown().await?;
    let said = output.next().await.ok_or("a copy without an end")??.to_string();
    let took = began.elapsed();
    engine.remove(&id).await?;
    if said == "in\n" { Ok(took) } else { Err(format!("the copy says: {said}").into()) }
}
