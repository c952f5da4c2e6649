//! An Engine on its first start, with an empty data root, as on a bare machine. Later starts of an Engine know more: where
//! these tests run often, its bridge has a gateway, and what relies on that works there only.

use crate::private_engine::PrivateEngine;
use crate::server::EXECBOX;

/// Tests that need an address of this machine on a bridge, and nothing of the internet: packages through the guard, and
/// what a program reaches.
const TESTS: [&str; 3] = [
    "hostile_packages::f04_without_leave_no_source_is_built_and_no_other_index_is_asked",
    "hostile_packages::f05_a_package_replaces_nothing_but_what_its_own_programs_import",
    "host_reach::nobody_who_listens_on_the_host_is_reached",
];

/// The images of Python, and of its installer.
async fn images() -> [String; 2] {
    let mut build = tokio::process::Command::new(EXECBOX);
    build.args(["images", "build", "python", "--installs", "packages"]).stdout(std::process::Stdio::null());
    assert!(build.status().await.unwrap().success());
    let python = execbox::runtime::Catalogue::load(None).unwrap().resolve("python").unwrap();
    [python.image_name(), python.installer().image_name()]
}

/// The tests run once more in a process of their own: which Engine is used is a matter of the environment.
#[tokio::test(flavor = "multi_thread")]
async fn packages_and_programs_are_served_on_an_engines_first_start() {
    let images = images().await;
    let private = PrivateEngine::start_with_bridge().await;
    for image in &images {
        private.load(image).await;
    }
    let mut again = private.inside(std::env::current_exe().unwrap());
    again.args(["--exact", "--test-threads", "1"]).args(TESTS);
    let ran = tokio::task::spawn_blocking(move || again.output().unwrap()).await.unwrap();
    let told = [ran.stdout, ran.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(ran.status.success(), "{told}");
    assert!(told.contains(&format!("{} passed; 0 failed", TESTS.len())), "{told}");
}
