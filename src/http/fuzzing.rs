//! The readers of request bodies without a server around them, for the fuzz targets in `fuzz/` and their tests. Not part
//! of the ordinary build.

use std::path::Path;
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::web::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, LocalBoxStream};
use tokio::sync::Semaphore;

use crate::config::Config;
use crate::execution::budget::Budget;
use crate::execution::id::Tenant;
use crate::execution::intake;
use crate::http::body::Body;
use crate::http::error::{ApiError, Code};
use crate::http::multipart;
use crate::http::submission::{Incoming, read_json};
use crate::http::text::{Caps, WRITES};
use crate::limits::MIB;
use crate::runtime::Catalogue;
use crate::telemetry::Metrics;

/// What came of a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    /// It becomes an execution.
    Accepted {
        /// The fields of the request, as text.
        request: String,
        /// The project as the runner gets it.
        project: Vec<u8>,
        /// Sum of the files' sizes.
        bytes: u64,
    },
    /// It is answered with a problem.
    Refused {
        /// Its code.
        code: Code,
        /// What the caller is told.
        detail: String,
    },
}

/// Reads bodies as the routes do, one after the other.
pub struct Reader {
    config: Config,
    catalogue: Arc<Catalogue>,
    metrics: Arc<Metrics>,
    runtime: tokio::runtime::Runtime,
}

impl Reader {
    /// With these settings and the languages of the binary.
    ///
    /// # Errors
    /// A system that gives no thread, or languages that can't be read.
    pub fn new(config: Config) -> Result<Self, Box<dyn std::error::Error>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let catalogue = Arc::new(Catalogue::load(None)?);
        Ok(Self { config, catalogue, metrics: Arc::default(), runtime })
    }

    /// The JSON body of `exec/sync` and `exec/async`, in the pieces in which it comes.
    #[must_use]
    pub fn json(&self, pieces: Vec<Vec<u8>>, spool: &Path) -> Read {
        let cap = self.config.request.json_kb << 10;
        self.runtime.block_on(async {
            let body = self.body(pieces, cap);
            self.accept(read_json(body, &self.catalogue, &self.caps(spool), None).await, spool)
        })
    }

    /// The multipart body of the same routes. The boundary is `x`.
    #[must_use]
    pub fn multipart(&self, pieces: Vec<Vec<u8>>, spool: &Path) -> Read {
        let cap = self.config.archive_limits().bytes + (self.config.request.json_kb << 10);
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("multipart/form-data; boundary=x"));
        self.runtime.block_on(async {
            let body = self.body(pieces, cap);
            let caps = self.caps(spool);
            let read = match multipart::read(&headers, body, &caps).await {
                Ok(parts) => parts.request(&caps).await,
                Err(error) => Err(error),
            };
            self.accept(read, spool)
        })
    }

    /// The next piece is not there yet whenever there are several, as on a network.
    fn body(&self, pieces: Vec<Vec<u8>>, cap: u64) -> Body {
        let many = pieces.len() > 1;
        let pieces = stream::iter(pieces).then(move |piece| async move {
            if many {
                tokio::task::yield_now().await;
            }
            Ok::<_, PayloadError>(Bytes::from(piece))
        });
        let pieces: LocalBoxStream<'static, _> = pieces.boxed_local();
        Body::new(Payload::from(pieces), None, &self.config.request, cap, Arc::clone(&self.metrics))
    }

    fn caps(&self, spool: &Path) -> Caps {
        Caps {
            spool: spool.to_owned(),
            archive: self.config.archive_limits(),
            metadata: usize::try_from(self.config.request.json_kb << 10).unwrap_or(usize::MAX),
            memory: Budget::new(usize::try_from(64 * MIB).unwrap_or(usize::MAX), |_| ()),
            tenant: Tenant::local(),
            writes: Arc::new(Semaphore::new(WRITES)),
        }
    }

    fn accept(&self, read: Result<Incoming, ApiError>, spool: &Path) -> Read {
        match read.and_then(|incoming| self.spec(incoming, spool)) {
            Ok(accepted) => accepted,
            Err(ApiError { code, detail, .. }) => Read::Refused { code, detail },
        }
    }

    fn spec(&self, incoming: Incoming, spool: &Path) -> Result<Read, ApiError> {
        let Incoming { request, project, held: _held } = incoming;
        let shown = format!("{request:?}");
        let submission = request.into_submission(project, spool)?;
        let policy = self.config.limit_policy();
        let spec = intake::accept(&self.catalogue, &policy, &Tenant::local(), submission)?;
        let project = spec.project.frames().read().map_err(|error| ApiError::storage(&error))?;
        Ok(Read::Accepted { request: shown, project, bytes: spec.project.bytes() })
    }
}

#[cfg(test)]
mod tests {
    //! The bodies of the fuzz targets, run on their seeds and on mutations of them.

    use proptest::prelude::*;

    mod metadata_body {
        use crate as execbox;
        include!("../../fuzz/bodies/metadata.rs");
    }

    mod multipart_body {
        use crate as execbox;
        include!("../../fuzz/bodies/multipart.rs");
    }

    /// What has a meaning to one of the two readers.
    const WORDS: &[&str] =
        &["\r\n--x\r\n", "--x--", "\r\n\r\n", "name=\"tar\"", "\"", "{", "]", "null", "1e999", "\\u0000"];

    fn seeds(target: &str) -> Vec<Vec<u8>> {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
        let files = std::fs::read_dir(folder).unwrap();
        files.map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
    }

    /// A seed in which stretches of up to 16 bytes are replaced by others.
    fn mutated(target: &str) -> impl Strategy<Value = Vec<u8>> {
        let word = prop::sample::select(WORDS).prop_map(|word| word.as_bytes().to_vec());
        let new = prop_oneof![word, prop::collection::vec(any::<u8>(), 0..16)];
        let change = (any::<prop::sample::Index>(), 0..16_usize, new);
        let changes = prop::collection::vec(change, 0..4);
        (prop::sample::select(seeds(target)), changes).prop_map(|(mut bytes, changes)| {
            for (at, length, new) in changes {
                let start = at.index(bytes.len().max(1)).min(bytes.len());
                let end = (start + length).min(bytes.len());
                bytes.splice(start..end, new);
            }
            bytes
        })
    }

    #[test]
    fn every_target_has_seeds_and_takes_them() {
        let targets =
            [("metadata", metadata_body::metadata as fn(&[u8])), ("multipart", multipart_body::multipart)];
        for (target, body) in targets {
            let seeds = seeds(target);
            assert!(seeds.len() >= 5, "{target}");
            seeds.iter().for_each(|seed| body(seed));
        }
    }

    proptest! {
        #[test]
        fn the_metadata_target_takes_mutations(bytes in mutated("metadata")) {
            metadata_body::metadata(&bytes);
        }

        #[test]
        fn the_multipart_target_takes_mutations(bytes in mutated("multipart")) {
            multipart_body::multipart(&bytes);
        }

        #[test]
        fn both_targets_take_anything(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
            metadata_body::metadata(&bytes);
            multipart_body::multipart(&bytes);
        }
    }
}
