//! A package index of a test's own, on the Engine's bridge, where containers that install reach it.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};

use bollard::query_parameters::InspectNetworkOptions;

use crate::engine;

/// What a build script starts with: `wheel(found)` makes a module whose `FOUND` is that.
const BACKEND: &str = r#"
import json, os, sys, zipfile

def wheel(folder, found):
    file = NAME + "-1.0-py3-none-any.whl"
    info = NAME + "-1.0.dist-info/"
    files = {
        NAME + ".py": "FOUND = " + repr(found),
        info + "METADATA": "Metadata-Version: 2.1\nName: " + NAME + "\nVersion: 1.0\n",
        info + "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(name + ",,\n" for name in files) + info + "RECORD,,\n"
    with zipfile.ZipFile(os.path.join(folder, file), "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr(info + "RECORD", record)
    return file
"#;

/// Serves files until its process ends.
pub struct Index {
    pub url: String,
    /// Paths that were asked for.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Index {
    /// With a package of this name at 1.0, as its source, whose build is this body of `build_wheel(wheel_directory, ...)`.
    pub async fn with(name: &'static str, build: &str) -> Self {
        let file = format!("{name}-1.0.tar.gz");
        let page = format!("<!DOCTYPE html><a href=\"/files/{file}\">{file}</a>");
        let files = [
            (format!("/simple/{name}/"), page.into_bytes()),
            (format!("/files/{file}"), source(name, build)),
        ];
        let index = Self::of(|_| files.into()).await;
        Self { url: format!("{}/simple", index.url), ..index }
    }

    /// With the files that this makes, by path, of its URL.
    pub async fn of(files: impl FnOnce(&str) -> HashMap<String, Vec<u8>>) -> Self {
        let listener = TcpListener::bind((bridge_address().await, 0)).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (asked, files) = (Arc::new(Mutex::new(Vec::new())), files(&url));
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                answer(stream, &files, &log);
            }
        });
        Self { url, asked }
    }

    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Flag of a server that installs Python's packages from here.
    pub fn flag(&self) -> String {
        format!("--registry=pip={}", self.url)
    }
}

/// Address of this machine on the Engine's bridge: the one that the kernel would send from to a container there. On its
/// first start an Engine tells the subnet of its bridge, and no gateway.
async fn bridge_address() -> IpAddr {
    let bridge =
        engine::engine().await.inspect_network("bridge", None::<InspectNetworkOptions>).await.unwrap();
    let mut ranges = bridge.ipam.and_then(|ipam| ipam.config).unwrap_or_default().into_iter();
    let subnet = ranges.find_map(|range| range.subnet?.split('/').next()?.parse::<Ipv4Addr>().ok());
    let first = u32::from(subnet.expect("the bridge has an IPv4 subnet")) + 1;
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    // Sends nothing. Where that address is the bridge's own, the answer is the same.
    socket.connect((Ipv4Addr::from(first), 1)).unwrap();
    socket.local_addr().unwrap().ip()
}

fn answer(stream: TcpStream, files: &HashMap<String, Vec<u8>>, log: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
    let Some(first) = lines.next() else { return };
    lines.take_while(|line| !line.is_empty()).for_each(drop);
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    log.lock().unwrap_or_else(PoisonError::into_inner).push(path.clone());
    let kind = if path.ends_with('/') { "text/html" } else { "application/octet-stream" };
    let (status, body) = files.get(&path).map_or(("404 Not Found", &[][..]), |body| ("200 OK", body));
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    // A client that goes away early is no concern of the index.
    (&stream).write_all(head.as_bytes()).and_then(|()| (&stream).write_all(body)).ok();
}

fn source(name: &str, build: &str) -> Vec<u8> {
    let body: String = build.lines().map(|line| format!("    {line}\n")).collect();
    let backend = format!(
        "NAME = {name:?}\n{BACKEND}\ndef build_wheel(folder, config_settings=None, metadata_directory=None):\n{body}"
    );
    let project = "[build-system]\nrequires = []\nbuild-backend = \"backend\"\nbackend-path = [\".\"]\n";
    let packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(packed);
    let metadata = format!("Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n");
    for (file, text) in [("pyproject.toml", project), ("backend.py", &backend), ("PKG-INFO", &metadata)] {
        let mut head = tar::Header::new_gnu();
        head.set_size(text.len() as u64);
        head.set_mode(0o644);
        tar.append_data(&mut head, format!("{name}-1.0/{file}"), text.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}
