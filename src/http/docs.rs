//! The OpenAPI document, made from the handlers, and the page that shows it.

use std::fmt::Write as _;
use std::io::Read as _;
use std::sync::Arc;

use actix_web::http::header::{self, AcceptEncoding, Encoding, Header as _};
use actix_web::{HttpRequest, HttpResponse, web};
use flate2::read::GzDecoder;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_swagger_ui::{Config, SwaggerFile};

use crate::http::error::{ApiError, Code, Problem};
use crate::http::{artifacts, execute, executions, health, runtimes};

/// The routes of the document; a test holds that it has all of them.
#[derive(OpenApi)]
#[openapi(
    info(title = "execbox", license(name = "Apache-2.0", identifier = "Apache-2.0")),
    paths(
        execute::sync, execute::asynchronous, execute::eval,
        executions::get, executions::kill,
        artifacts::list, artifacts::one, artifacts::all,
        runtimes::list, health::health, health::ready, health::metrics,
    ),
    components(schemas(Problem<'static>)),
    security(("bearer" = []), ("api_key" = []), ()),
    modifiers(&Schemes),
    tags(
        (name = "executions", description = "Run a project, follow it, end it"),
        (name = "artifacts", description = "The files that a program left"),
        (name = "server", description = "What the server offers, and how it is"),
    )
)]
struct Document;

/// The two headers that a key may come in.
struct Schemes;

impl Modify for Schemes {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        let bearer = Http::builder()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("A key of `execbox keys create`"));
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer.build()));
        let plain = ApiKeyValue::with_description("X-API-Key", "The same key");
        components.add_security_scheme("api_key", SecurityScheme::ApiKey(ApiKey::Header(plain)));
    }
}

/// The OpenAPI 3.1 document, ending in a line break.
#[must_use]
pub fn openapi_json() -> String {
    let mut document = Document::openapi();
    document.info.description = Some(description());
    // A document that can't be written would fail every test of it.
    let mut json = document.to_pretty_json().unwrap_or_default();
    json.push('\n');
    json
}

fn description() -> String {
    let mut text = String::from(
        "Runs tar archives of multi-file projects in locked-down containers.\n\n\
         A server that has keys needs one with each request but for health and documentation: `run` to run and kill, \
         `read` to read, `admin` for the metrics. What another tenant owns is answered as if it did not exist.\n\n\
         A program that fails is a result with status 200; a request that can't be served is a problem \
         (`application/problem+json`) with one of these codes:\n\n| Code | Status | Meaning |\n|---|---|---|\n",
    );
    for code in Code::ALL {
        let row = (code.as_str(), code.status(), code.meaning().trim());
        // Writing to a string does not fail.
        let _ = writeln!(text, "| `{}` | {} | {} |", row.0, row.1, row.2);
    }
    text
}

pub(super) async fn openapi() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(openapi_json())
}

pub(super) async fn redirect() -> HttpResponse {
    HttpResponse::PermanentRedirect().insert_header((header::LOCATION, "/docs/")).finish()
}

/// A file of the page, from this binary.
pub(super) async fn page(path: web::Path<String>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    // The validator badge would ask a server of somebody else's.
    let config = Config::from("/openapi.json").validator_url("none");
    let file =
        utoipa_swagger_ui::serve(&path, Arc::new(config)).map_err(|error| ApiError::internal(&error))?;
    let Some(SwaggerFile { bytes, content_type, gzpipped: packed, .. }) = file else {
        return super::unknown_route().await;
    };
    let mut response = HttpResponse::Ok();
    response.content_type(content_type);
    if !packed {
        return Ok(response.body(bytes.into_owned()));
    }
    response.insert_header((header::VARY, "accept-encoding"));
    if takes_gzip(&request) {
        return Ok(response.insert_header(header::ContentEncoding::Gzip).body(bytes.into_owned()));
    }
    let mut plain = Vec::new();
    GzDecoder::new(&*bytes).read_to_end(&mut plain).map_err(|error| ApiError::internal(&error))?;
    Ok(response.body(plain))
}

/// Whoever says nothing about encodings, like a command line, wants to read what comes.
fn takes_gzip(request: &HttpRequest) -> bool {
    let offered = [Encoding::gzip(), Encoding::identity()];
    let accepted = AcceptEncoding::parse(request).ok();
    accepted.and_then(|accepted| accepted.negotiate(offered.iter())) == Some(Encoding::gzip())
}
