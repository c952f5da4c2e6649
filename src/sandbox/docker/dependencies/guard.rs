//! The only way out for containers that install: a network of their own that leads nowhere but to this server, which
//! passes connections on to public addresses and to the operator's registries, and to nothing else: no metadata service,
//! no host of a private network.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bollard::models::NetworkCreateRequest;
use bollard::query_parameters::{InspectNetworkOptions, ListNetworksOptionsBuilder};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tracing::{debug, info, warn};

use crate::sandbox::SandboxError;
use crate::sandbox::docker::engine::{Engine, EngineError};
use crate::sandbox::docker::ownership::{APP, Ownership};

const PREFIX: &str = "execbox-install-";
const QUICK: Duration = Duration::from_secs(10);
/// Making one takes the Engine some calls to the kernel's filters.
const MAKE: Duration = Duration::from_secs(30);
/// What a container gets to say where it wants to go, and what it takes to get there.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of the head of a request.
const MAX_HEAD: usize = 16 << 10;
/// Connections at once, of all installs.
const CONNECTIONS: usize = 256;
/// Before the next is accepted after a failure, such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);
/// Where what is public may be fetched from.
const PORTS: [u16; 2] = [80, 443];

/// Whom the guard lets containers reach beside what is public.
#[derive(Debug, Clone, Default)]
pub(super) struct Exits {
    /// `host:port` of the operator's registries.
    registries: Vec<String>,
    /// `host:port` of the operator's proxy: then all goes there, and it decides.
    proxy: Option<String>,
}

impl Exits {
    pub(super) fn new<'a>(registries: impl Iterator<Item = &'a String>, proxy: Option<&str>) -> Self {
        Self {
            registries: registries.filter_map(|url| authority(url)).collect(),
            proxy: proxy.and_then(authority),
        }
    }
}

/// A network with its guard. The task ends with this; the network is removed by [`Guard::remove`], or the next start.
#[derive(Debug)]
pub(super) struct Guard {
    /// Its network's name.
    pub(super) network: String,
    /// `host:port` of the guard, as containers reach it.
    pub(super) address: String,
    task: JoinHandle<()>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Guard {
    /// Makes a network, and listens at the host's end of it.
    pub(super) async fn start(
        engine: &Engine,
        ownership: &Ownership,
        exits: Exits,
    ) -> Result<Self, SandboxError> {
        let network = format!("{PREFIX}{}", uuid::Uuid::new_v4().simple());
        let apart = ("com.docker.network.bridge.enable_icc".to_owned(), "false".to_owned());
        let request = NetworkCreateRequest {
            name: network.clone(),
            internal: Some(true),
            labels: Some(ownership.labels()),
            options: Some(HashMap::from([apart])),
            ..Default::default()
        };
        engine.call("create network", MAKE, engine.docker.create_network(request)).await?;
        match listen(engine, &network).await {
            Ok((listener, address)) => {
                let task = tokio::spawn(serve(listener, Arc::new(exits)));
                info!(%network, "containers that install have a network of their own");
                Ok(Self { network, address, task })
            }
            Err(error) => {
                remove(engine, &network).await;
                Err(error)
            }
        }
    }

    /// Once no container is in it.
    pub(super) async fn remove(&self, engine: &Engine) {
        remove(engine, &self.network).await;
    }
}

async fn listen(engine: &Engine, network: &str) -> Result<(TcpListener, String), SandboxError> {
    let inspecting = engine.docker.inspect_network(network, None::<InspectNetworkOptions>);
    let inspected = engine.call("inspect network", QUICK, inspecting).await?;
    let ranges = inspected.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
    let gateway = ranges.into_iter().find_map(|range| range.gateway);
    let gateway =
        gateway.ok_or_else(|| SandboxError::Engine("a network without an address of ours".into()))?;
    // The Engine may write it with its prefix.
    let host = gateway.split('/').next().unwrap_or_default().to_owned();
    let not_ours = |error: std::io::Error| {
        SandboxError::Engine(format!(
            "containers that install can't be guarded from here ({host}: {error}): the Engine is on another machine, or this \
             server in a container; see --install-network"
        ))
    };
    let listener = TcpListener::bind((host.as_str(), 0)).await.map_err(not_ours)?;
    let address = listener.local_addr()?.to_string();
    Ok((listener, address))
}

async fn remove(engine: &Engine, network: &str) {
    match engine.call("remove network", MAKE, engine.docker.remove_network(network)).await {
        Ok(()) | Err(EngineError::NotFound { .. }) => {}
        Err(error) => warn!(%network, %error, "a network could not be removed; the next start does"),
    }
}

/// Removes networks that servers left which are gone.
pub(super) async fn remove_orphans(engine: &Engine, ownership: &Ownership) -> Result<(), EngineError> {
    let filters = HashMap::from([("label", vec![APP])]);
    let options = ListNetworksOptionsBuilder::default().filters(&filters).build();
    let networks = engine.call("list networks", QUICK, engine.docker.list_networks(Some(options))).await?;
    for network in networks {
        let name = network.name.unwrap_or_default();
        if name.starts_with(PREFIX) && network.labels.is_some_and(|labels| ownership.is_orphan(&labels)) {
            remove(engine, &name).await;
        }
    }
    Ok(())
}

async fn serve(listener: TcpListener, exits: Arc<Exits>) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    // Ends what is under way, too, when it is dropped.
    let mut all = tokio::task::JoinSet::new();
    loop {
        while all.try_join_next().is_some() {}
        let Ok(permit) = Arc::clone(&connections).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let exits = Arc::clone(&exits);
                all.spawn(async move {
                    pass(stream, &exits).await;
                    drop(permit);
                });
            }
            Err(error) => {
                debug!(%error, "a connection of an install could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// One connection: where to, whether it may, and then whatever it says.
async fn pass(mut inner: TcpStream, exits: &Exits) {
    let opened = match &exits.proxy {
        Some(proxy) => dial(proxy).await.map(|outer| (outer, Vec::new())),
        None => match tokio::time::timeout(PATIENCE, head(&mut inner)).await {
            Ok(Some(head)) => open(&mut inner, &head, exits).await,
            _ => Err("400 Bad Request"),
        },
    };
    match opened {
        Ok((mut outer, first)) => {
            if outer.write_all(&first).await.is_ok() {
                // Either end may go at any time.
                let _ = copy_bidirectional(&mut inner, &mut outer).await;
            }
        }
        Err(status) => {
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            let _ = inner.write_all(answer.as_bytes()).await;
        }
    }
}

/// Up to the empty line, and what came with it.
async fn head(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut piece = [0; 4_096];
        let count = stream.read(&mut piece).await.ok().filter(|count| *count > 0)?;
        head.extend_from_slice(&piece[..count]);
        if head.len() > MAX_HEAD {
            return None;
        }
    }
    Some(head)
}

/// The connection that the head of a request asks for, and what is to be sent on it first.
async fn open(
    inner: &mut TcpStream,
    head: &[u8],
    exits: &Exits,
) -> Result<(TcpStream, Vec<u8>), &'static str> {
    let Asked { authority, first, tunnel } = asked(head).ok_or("400 Bad Request")?;
    let outer = if exits.registries.contains(&authority) {
        dial(&authority).await?
    } else {
        dial_public(&authority).await?
    };
    if tunnel {
        inner.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.map_err(|_| "502 Bad Gateway")?;
    }
    Ok((outer, first))
}

/// What a request asks of a proxy.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    /// `host:port`
    authority: String,
    /// What goes on to there first.
    first: Vec<u8>,
    /// It is to be answered before.
    tunnel: bool,
}

fn asked(head: &[u8]) -> Option<Asked> {
    let line_end = head.windows(2).position(|end| end == b"\r\n")?;
    let line = std::str::from_utf8(&head[..line_end]).ok()?;
    let mut words = line.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    if method == "CONNECT" {
        let rest = head.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
        let (host, port) = target.rsplit_once(':')?;
        port.parse::<u16>().ok().filter(|_| !host.is_empty())?;
        return Some(Asked {
            authority: target.to_ascii_lowercase(),
            first: head[rest..].to_vec(),
            tunnel: true,
        });
    }
    let authority = authority(target).filter(|_| target.starts_with("http://"))?;
    let path = target["http://".len()..].find('/').map_or("/", |at| &target["http://".len() + at..]);
    let first = [format!("{method} {path} {version}").as_bytes(), &head[line_end..]].concat();
    Some(Asked { authority, first, tunnel: false })
}

/// `host:port` of a URL, with the scheme's port where it names none.
fn authority(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let host = rest.split(['/', '?', '#']).next()?;
    let host = host.rsplit('@').next()?.to_ascii_lowercase();
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let port = if scheme == "https" { 443 } else { 80 };
    match host.as_str() {
        "" => None,
        _ if has_port => Some(host),
        _ => Some(format!("{host}:{port}")),
    }
}

/// To where the operator says.
async fn dial(authority: &str) -> Result<TcpStream, &'static str> {
    match tokio::time::timeout(PATIENCE, TcpStream::connect(authority)).await {
        Ok(Ok(stream)) => Ok(stream),
        _ => Err("502 Bad Gateway"),
    }
}

/// To an address that was looked at, not to a name that may be another's by then.
async fn dial_public(authority: &str) -> Result<TcpStream, &'static str> {
    let port = authority.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    if !port.is_some_and(|port| PORTS.contains(&port)) {
        return Err("403 Forbidden");
    }
    let found = tokio::time::timeout(PATIENCE, tokio::net::lookup_host(authority)).await;
    let Ok(Ok(found)) = found else { return Err("502 Bad Gateway") };
    let found: Vec<_> = found.collect();
    let public: Vec<_> = found.into_iter().filter(|address| is_public(address.ip())).collect();
    if public.is_empty() {
        return Err("403 Forbidden");
    }
    match tokio::time::timeout(PATIENCE, TcpStream::connect(public.as_slice())).await {
        Ok(Ok(stream)) => Ok(stream),
        _ => Err("502 Bad Gateway"),
    }
}

/// Not this machine, its network or its cloud.
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, ..] = address.octets();
            !(address.is_private()
                || address.is_loopback()
                || address.is_link_local()
                || address.is_multicast()
                || address.is_broadcast()
                || a == 0
                || a >= 240
                // Shared between a provider and its customers; some clouds have their services there.
                || (a == 100 && (64..128).contains(&b)))
        }
        IpAddr::V6(address) => {
            // Only what is handed out; without 6to4, Teredo and the like, which lead to addresses of the other kind.
            let [a, b, ..] = address.segments();
            (0x2000..0x4000).contains(&a) && a != 0x2002 && !(a == 0x2001 && b < 0x200)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_public() {
        for (address, public) in [
            ("8.8.8.8", true),
            ("2606:4700::1111", true),
            ("169.254.169.254", false),
            ("10.1.2.3", false),
            ("172.16.0.1", false),
            ("172.32.0.1", true),
            ("192.168.1.1", false),
            ("127.0.0.1", false),
            ("0.0.0.0", false),
            ("100.100.100.200", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("::1", false),
            ("fd00:ec2::254", false),
            ("fe80::1", false),
            ("::ffff:169.254.169.254", false),
            ("64:ff9b::a9fe:a9fe", false),
            ("2002:a9fe:a9fe::1", false),
        ] {
            assert_eq!(is_public(address.parse().unwrap()), public, "{address}");
        }
    }

    #[test]
    fn a_request_says_where_it_wants_to_go() {
        let tunnel = asked(b"CONNECT A.example:443 HTTP/1.1\r\nHost: b.example\r\n\r\nrest").unwrap();
        let expected = Asked { authority: "a.example:443".into(), first: b"rest".to_vec(), tunnel: true };
        assert_eq!(tunnel, expected);
        let plain = asked(b"GET http://u:p@a.example/x?y HTTP/1.1\r\nHost: b.example\r\n\r\n").unwrap();
        assert_eq!(plain.authority, "a.example:80");
        assert_eq!(plain.first, b"GET /x?y HTTP/1.1\r\nHost: b.example\r\n\r\n");
        for odd in [
            "",
            "GET / HTTP/1.1\r\n\r\n",
            "CONNECT a.example HTTP/1.1\r\n\r\n",
            "CONNECT :443 x\r\n\r\n",
            "x\r\n\r\n",
        ] {
            assert_eq!(asked(odd.as_bytes()), None, "{odd}");
        }
    }

    #[test]
    fn registries_are_known_by_host_and_port() {
        let urls = ["https://a.example/simple".to_owned(), "http://n:p@b.example:8080/x".to_owned()];
        let exits = Exits::new(urls.iter(), Some("http://proxy.example:3128"));
        assert_eq!(exits.registries, ["a.example:443", "b.example:8080"]);
        assert_eq!(exits.proxy.as_deref(), Some("proxy.example:3128"));
    }
}
