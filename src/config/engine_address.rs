//! The Engine's address, as an operator may write it.

/// What is said of every address that is refused.
const FORMS: &str = "write unix:///run/docker.sock, tcp://HOST:PORT or http://HOST:PORT";

/// The address with its scheme: a bare absolute path is that of a socket.
///
/// # Errors
/// A sentence that names the address, and what would be right.
pub(super) fn parse(address: &str) -> Result<String, String> {
    if address.starts_with('/') {
        return Ok(format!("unix://{address}"));
    }
    let refused = |why: &str| Err(format!("the Engine's address `{address}` {why}"));
    match address.split_once("://") {
        Some(("unix", "")) => refused(&format!("names no socket; {FORMS}")),
        Some(("tcp" | "http", rest)) if rest.is_empty() || rest.starts_with('/') => {
            refused(&format!("names no host; {FORMS}"))
        }
        Some(("unix" | "tcp" | "http", _)) => Ok(address.to_owned()),
        Some(("ssh", host)) => refused(&format!(
            "is reached over ssh, which execbox does not speak; forward its socket with `ssh -nNT -L \
             /tmp/engine.sock:/var/run/docker.sock {host}`, and write unix:///tmp/engine.sock"
        )),
        Some(("https", _)) => refused(&format!("is reached over TLS, which execbox does not speak; {FORMS}")),
        Some(("npipe", _)) => refused(&format!("is a pipe of Windows, and this is Linux; {FORMS}")),
        Some(("fd", _)) => refused(&format!("is one that only dockerd itself can use; {FORMS}")),
        _ => refused(&format!("is of no kind that execbox knows; {FORMS}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_scheme_or_is_the_path_of_a_socket() {
        assert_eq!(parse("/run/docker.sock").as_deref(), Ok("unix:///run/docker.sock"));
        for known in
            ["unix:///run/docker.sock", "unix://docker.sock", "tcp://10.0.0.1:2375", "http://engine:80"]
        {
            assert_eq!(parse(known).as_deref(), Ok(known));
        }
    }

    #[test]
    fn what_is_not_spoken_is_refused_by_name() {
        for (address, word) in [
            ("ssh://me@far", "-L /tmp/engine.sock:/var/run/docker.sock me@far"),
            ("https://far:2376", "TLS"),
            ("npipe:////./pipe/docker_engine", "Windows"),
            ("fd://", "dockerd itself"),
            ("unix://", "names no socket"),
            ("tcp://", "names no host"),
            ("http:///x", "names no host"),
            ("docker.sock", "no kind"),
            ("UNIX:///run/docker.sock", "no kind"),
            ("  ", "no kind"),
        ] {
            let refused = parse(address).unwrap_err();
            assert!(refused.contains(&format!("`{address}`")) && refused.contains(word), "{refused}");
            assert!(refused.contains("unix:///"), "{refused}");
        }
    }
}
