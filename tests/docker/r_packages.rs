//! R's packages, which are Debian's, by apt from the mirror of this machine.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::dependencies::{finish, no_package_volumes};
use crate::package_index::Index;
use crate::server::Server;

fn with(code: &str, description: &str) -> Value {
    json!({"language": "r", "code": code, "dependencies": {"DESCRIPTION": description}})
}

/// One of them is compiled, and needs a library that the image lacks.
const DESCRIPTION: &str = "Package: app\nDepends: R (>= 4.1)\nImports: xml2 (>= 1.3.0), R6, MASS, readxl, writexl\nSuggests: none.such\n";
const READ: &str = "document <- xml2::read_xml('<a><b>1</b><b>2</b></a>')\n\
    total <- sum(xml2::xml_double(xml2::xml_find_all(document, '//b')))\n\
    Box <- R6::R6Class('Box', list(total = total))\n\
    cat(Box$new()$total, find.package('R6'), jsonlite::toJSON(1), is.function(MASS::rlm), '\\n')";

#[tokio::test]
async fn packages_of_a_description_are_installed_once_and_used_without_a_network() {
    let server = Server::start_with(&["--installs", "packages"]).await;
    let body = json!({"language": "r", "entrypoint": "main.R", "install": true,
        "files": [{"name": "main.R", "content": READ}, {"name": "DESCRIPTION", "content": DESCRIPTION}]});
    let first = server.eval(&body).await;
    assert_eq!(first["stdout"], "3 /deps/usr/lib/R/site-library/R6 [1] TRUE \n", "{first:#}");
    assert_eq!(first["install"]["exit_code"], 0, "{first:#}");
    let log = first["install"]["log"].as_str().unwrap();
    assert!(log.contains("\nxml2 1.") && log.contains("libxml2"), "{log}");

    // The same in other words.
    let offline = "library(xml2)\nopened <- tryCatch(url('http://192.0.2.1', open = 'r'), error = function(e) 'none')\n\
        known <- system(\"dpkg-query --show --showformat '${Status}' libxml2\", intern = TRUE)\n\
        lost <- Filter(Negate(file.exists), list.files('/deps/lib', full.names = TRUE))\n\
        cat(opened, file.access('/deps/usr', 2), known, length(lost), '\\n')";
    let second = server
        .eval(&with(offline, "Imports: writexl,MASS, R6,\n  xml2 (>=1.3-0), readxl\nDepends:\n R (>= 4.1)"))
        .await;
    assert_eq!(second["stdout"], "none -1 install ok installed 0 \n", "{second:#}");
    assert_eq!(second["install"], Value::Null, "{second:#}");

    let sheet = "writexl::write_xlsx(data.frame(n = c(1, 2), who = c('a', NA)), 'book.xlsx')\n\
        save_result('sheet', load_file('book.xlsx'))";
    let mut script = with(sheet, DESCRIPTION);
    script["script"] = json!(true);
    let rows = json!({"sheet": [{"n": 1, "who": "a"}, {"n": 2, "who": null}]});
    assert_eq!(server.eval(&script).await["results"], rows);
    finish(server).await;
}

#[tokio::test]
async fn what_debian_lacks_is_told_by_name_and_leaves_nothing() {
    let server = Server::start_with(&["--installs", "packages"]).await;
    for (description, says) in [
        ("Imports: dplry", "Debian has no package of R named `dplry` (near: dplyr"),
        ("Imports: r6", "there is no package `r6`; it is called `R6`"),
        ("Imports: R6 (>= 99.1)", "`R6 (>= 99.1)` is not to be had: Debian has 2."),
        ("Imports: MASS (< 1)", "`MASS (< 1)` is not to be had: Debian has 7."),
        ("Depends: R (>= 99)", "`R (>= 99)` is not to be had: Debian has 4."),
    ] {
        let result = server.eval(&with("cat('never')", description)).await;
        assert_eq!(result["reason"], "install_failed", "{result:#}");
        assert!(result["error"].as_str().unwrap().contains(says), "{result:#}");
        assert_eq!(result.get("stdout"), None, "{result:#}");
    }
    no_package_volumes(&server).await;
    finish(server).await;
}

/// What a mirror has whose `Release` files nobody signed.
fn unsigned() -> HashMap<String, Vec<u8>> {
    let release = "Origin: Debian\nSuite: stable\nCodename: trixie\nDate: Sat, 09 Aug 2025 09:00:00 UTC\n\
        Architectures: amd64 arm64\nComponents: main\nSHA256:\n \
        e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 0 main/binary-amd64/Packages\n";
    let suites =
        ["debian/dists/trixie", "debian/dists/trixie-updates", "debian-security/dists/trixie-security"];
    suites.map(|suite| (format!("/{suite}/Release"), release.into())).into()
}

#[tokio::test]
async fn nothing_is_taken_from_a_mirror_that_debian_did_not_sign() {
    let mirror = Index::of(|_| unsigned()).await;
    let registry = format!("--registry=debian={}/debian", mirror.url);
    let server = Server::start_with(&["--installs", "packages", &registry]).await;
    let result = server.eval(&with("cat('never')", "Imports: R6")).await;
    assert_eq!(result["reason"], "install_failed", "{result:#}");
    let log = result["install"]["log"].as_str().unwrap();
    assert!(log.contains("Release' is not signed"), "{log}");
    assert!(log.ends_with("\nthe lists of Debian's packages could not be fetched\n"), "{log}");
    let asked = mirror.asked();
    assert!(asked.iter().any(|path| path == "/debian/dists/trixie/Release"), "{asked:?}");
    assert!(!asked.iter().any(|path| path.contains("Packages")), "{asked:?}");
    finish(server).await;
}
