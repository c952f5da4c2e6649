//! The circuit to the Engine: closed while it answers, open while it is away.
//!
//! One failed call opens nothing: the Engine is asked whether it is there, and only silence or a refusal opens the
//! circuit. While it is open every call is refused at once, and one small question is asked again and again until
//! the Engine answers it. While it is closed nothing is asked in the background.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bollard::Docker;
use tokio::sync::watch;
use tracing::{info, warn};

/// An Engine that takes longer to say that it is there is away. Under the second in which callers get their 503.
const ANSWER: Duration = Duration::from_millis(700);
/// Between two questions while it is away: work resumes this long after its return, and a little.
const AGAIN: Duration = Duration::from_millis(300);

/// Whether the Engine is there, as far as we know. Cheap to clone; all clones share one state.
#[derive(Debug, Clone)]
pub(super) struct Circuit {
    docker: Docker,
    open: Arc<watch::Sender<bool>>,
}

impl Circuit {
    /// A closed one.
    pub(super) fn new(docker: Docker) -> Self {
        Self { docker, open: Arc::new(watch::Sender::new(false)) }
    }

    pub(super) fn is_open(&self) -> bool {
        *self.open.borrow()
    }

    /// Waits until the Engine is there. Ends at once while the circuit is closed.
    pub(super) async fn closed(&self) {
        // The sender lives as long as we do, so there is no error to see.
        drop(self.open.subscribe().wait_for(|open| !open).await);
    }

    /// Asks the Engine whether it is there, and opens when it is not. While open it is not asked again from here.
    pub(super) async fn check(&self) -> bool {
        if self.is_open() {
            return false;
        }
        let there = answers(&self.docker).await;
        if !there && !self.open.send_replace(true) {
            warn!("the Engine is away; new work is refused and accepted work waits");
            tokio::spawn(close_on_return(self.docker.clone(), Arc::downgrade(&self.open)));
        }
        there
    }
}

/// Ends with the last clone of the circuit, too.
async fn close_on_return(docker: Docker, circuit: Weak<watch::Sender<bool>>) {
    loop {
        tokio::time::sleep(AGAIN).await;
        if circuit.strong_count() == 0 {
            return;
        }
        if answers(&docker).await {
            break;
        }
    }
    if let Some(open) = circuit.upgrade() {
        open.send_replace(false);
        info!("the Engine is back");
    }
}

async fn answers(docker: &Docker) -> bool {
    matches!(tokio::time::timeout(ANSWER, docker.ping()).await, Ok(Ok(_)))
}
