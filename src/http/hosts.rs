//! The `Host` header: a page in somebody's browser must not reach this server under a name of its own (DNS
//! rebinding), so names are taken only from a list.

use std::net::IpAddr;

use actix_web::HttpRequest;
use actix_web::http::header;

use crate::http::error::{ApiError, Code};

/// The hosts that a request may name.
#[derive(Debug)]
pub(super) struct Hosts {
    listen: IpAddr,
    allowed: Vec<String>,
}

impl Hosts {
    pub(super) fn new(listen: IpAddr, allowed: &[String]) -> Self {
        Self { listen, allowed: allowed.iter().map(|name| name.to_ascii_lowercase()).collect() }
    }

    /// Refuses a request that names another server, none, or two.
    pub(super) fn check(&self, request: &HttpRequest) -> Result<(), ApiError> {
        let mut given = request.headers().get_all(header::HOST);
        let host = given.next().and_then(|value| value.to_str().ok());
        let target = request.uri().authority().map(actix_web::http::uri::Authority::as_str);
        let known = given.next().is_none() && host.is_some_and(|host| self.knows(host));
        if known && target.is_none_or(|target| self.knows(target)) {
            return Ok(());
        }
        Err(ApiError::new(
            Code::BadHost,
            "the Host header names no host of this server; add the name with --allowed-hosts if it is one",
        ))
    }

    fn knows(&self, host: &str) -> bool {
        let name = without_port(host).to_ascii_lowercase();
        if self.allowed.contains(&name) || name == "localhost" {
            return true;
        }
        // An address can't be rebound: with a wildcard listener any of this machine's may be meant.
        name.parse::<IpAddr>().is_ok_and(|address| {
            address.is_loopback() || address == self.listen || self.listen.is_unspecified()
        })
    }
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`; what is none of them matches nothing.
fn without_port(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return match rest.split_once(']') {
            Some((address, port)) if port.is_empty() || is_port(port) => address,
            _ => "",
        };
    }
    match host.rfind(':') {
        Some(at) if is_port(&host[at..]) => &host[..at],
        _ => host,
    }
}

fn is_port(text: &str) -> bool {
    text.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_a_list_and_addresses_from_the_listener() {
        let hosts = Hosts::new([192, 0, 2, 1].into(), &["Box.Example".to_owned()]);
        for good in [
            "localhost",
            "LOCALHOST:8080",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:8080",
            "[::1]",
            "192.0.2.1:80",
            "box.example",
            "box.example:443",
        ] {
            assert!(hosts.knows(good), "{good}");
        }
        for bad in [
            "",
            "evil.example",
            "localhost.evil.example",
            "192.0.2.2",
            "localhost:99999",
            "localhost:x",
            "[::1",
            "[::1]x",
            "127.0.0.1.evil.example",
            "localhost@evil.example",
            "box.example.evil.example",
        ] {
            assert!(!hosts.knows(bad), "{bad}");
        }
        let everywhere = Hosts::new([0, 0, 0, 0].into(), &[]);
        assert!(everywhere.knows("192.0.2.7:8080") && !everywhere.knows("evil.example"));
    }
}
