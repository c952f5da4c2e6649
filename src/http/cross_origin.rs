//! Requests that a page of another site sends. A browser sends some kinds of them without asking first (forms, multipart,
//! plain text), with whatever the user's machine can reach, so a route that changes something does not take them. Browsers
//! say in headers where a request comes from; other clients send neither header and are not concerned.

use actix_web::HttpRequest;
use actix_web::http::header::{self, HeaderMap, HeaderName};
use actix_web::http::uri::Authority;
use actix_web::http::{Method, Uri};

use crate::http::error::{ApiError, Code};

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Refuses a request that changes something and comes from a page of another origin.
pub(super) fn check(request: &HttpRequest) -> Result<(), ApiError> {
    let headers = request.headers();
    if !changes_something(request) || (is_own_site(headers) && is_own_origin(headers)) {
        return Ok(());
    }
    Err(ApiError::new(
        Code::CrossOrigin,
        "the request comes from a web page of another origin, as its Origin or Sec-Fetch-Site header says; send it from \
         a page of this server, or from a program that is no browser",
    ))
}

/// All methods but those that only read. A WebSocket begins with a GET, and no browser asks before it sends one.
fn changes_something(request: &HttpRequest) -> bool {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    !reads || request.headers().contains_key(header::SEC_WEBSOCKET_KEY)
}

/// `none` is what the user has typed or clicked in the browser itself.
fn is_own_site(headers: &HeaderMap) -> bool {
    headers.get_all(FETCH_SITE).all(|site| matches!(site.as_bytes(), b"same-origin" | b"none"))
}

/// Whether every `Origin` has the host and port of the `Host` header. The scheme is not compared: TLS may end in front of
/// this server, which then does not know of it.
fn is_own_origin(headers: &HeaderMap) -> bool {
    let own = headers.get(header::HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
    headers.get_all(header::ORIGIN).all(|origin| {
        let origin = origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok());
        origin.zip(own.as_ref()).is_some_and(|(origin, own)| has_host_of(&origin, own))
    })
}

fn has_host_of(origin: &Uri, own: &Authority) -> bool {
    let usual = match origin.scheme_str() {
        Some("http") => 80,
        Some("https") => 443,
        _ => return false,
    };
    let bare = origin.path() == "/" && origin.query().is_none();
    let named = origin.authority().filter(|named| bare && !named.as_str().contains('@'));
    named.is_some_and(|named| {
        named.host().eq_ignore_ascii_case(own.host())
            && named.port_u16().unwrap_or(usual) == own.port_u16().unwrap_or(usual)
    })
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn post(headers: &[(&'static str, &str)]) -> TestRequest {
        let request = TestRequest::post().insert_header(("host", "box.example:8080"));
        headers.iter().fold(request, |request, header| request.append_header(*header))
    }

    fn passes(request: TestRequest) -> bool {
        match check(&request.to_http_request()) {
            Ok(()) => true,
            Err(error) => {
                assert_eq!(error.code, Code::CrossOrigin);
                false
            }
        }
    }

    #[test]
    fn programs_and_own_pages_pass() {
        assert!(passes(post(&[])), "as curl sends it");
        for headers in [
            &[("origin", "http://box.example:8080")][..],
            &[("origin", "https://box.example:8080"), ("sec-fetch-site", "same-origin")],
            &[("origin", "http://BOX.example:8080")],
            &[("sec-fetch-site", "same-origin")],
            &[("sec-fetch-site", "none")],
        ] {
            assert!(passes(post(headers)), "{headers:?}");
        }
    }

    #[test]
    fn other_pages_are_refused() {
        for headers in [
            &[("origin", "http://evil.example:8080")][..],
            &[("origin", "http://box.example")],
            &[("origin", "http://box.example:8081")],
            &[("origin", "https://box.example")],
            &[("origin", "http://box.example:8080.evil.example")],
            &[("origin", "http://box.example:8080@evil.example")],
            &[("origin", "http://evil@box.example:8080")],
            &[("origin", "http://box.example.:8080")],
            &[("origin", "http://box.example:8080/x")],
            &[("origin", "box.example:8080")],
            &[("origin", "file://box.example:8080")],
            &[("origin", "null")],
            &[("origin", "")],
            &[("origin", "http://box.example:8080"), ("origin", "http://evil.example")],
            &[("origin", "http://box.example:8080"), ("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "Same-Origin")],
            &[("sec-fetch-site", "")],
            &[("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")],
        ] {
            assert!(!passes(post(headers)), "{headers:?}");
        }
    }

    #[test]
    fn ports_that_are_not_said_are_the_schemes_own() {
        let from = |host: &'static str, origin: &'static str| {
            passes(TestRequest::post().insert_header(("host", host)).insert_header(("origin", origin)))
        };
        for (host, origin) in [
            ("box.example", "https://box.example"),
            ("box.example:443", "https://box.example"),
            ("box.example", "http://box.example:80"),
            ("[::1]:8080", "http://[::1]:8080"),
            ("127.0.0.1", "http://127.0.0.1"),
        ] {
            assert!(from(host, origin), "{host} {origin}");
        }
        for (host, origin) in [
            ("box.example:443", "http://box.example"),
            ("box.example", "http://box.example:443"),
            ("[::1]:8080", "http://[::2]:8080"),
            ("127.0.0.1:8080", "http://localhost:8080"),
            ("", "http://box.example"),
        ] {
            assert!(!from(host, origin), "{host} {origin}");
        }
    }

    #[test]
    fn only_what_changes_something_is_concerned() {
        let foreign = |request: TestRequest| {
            passes(request.insert_header(("host", "a")).insert_header(("origin", "http://b")))
        };
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            assert!(!foreign(TestRequest::default().method(method.clone())), "{method}");
        }
        for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
            assert!(foreign(TestRequest::default().method(method.clone())), "{method}");
        }
        assert!(!foreign(TestRequest::get().insert_header(("sec-websocket-key", "x"))));
    }
}
