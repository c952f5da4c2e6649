//! The bodies of the fuzz targets, run on their seeds and on mutations of them.

use std::path::{Path, PathBuf};

use proptest::prelude::*;

mod archive_body {
    use crate as execbox;
    include!("../../../fuzz/bodies/archive.rs");
}

mod frames_body {
    use crate as execbox;
    include!("../../../fuzz/bodies/frames.rs");
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let files = std::fs::read_dir(folder).unwrap();
    files.map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
}

fn mutated(target: &str) -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (prop::sample::select(seeds(target)), changes).prop_map(|(mut bytes, changes)| {
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes
    })
}

#[test]
fn every_target_has_seeds_and_takes_them() {
    for (target, body) in [("archive", archive_body::archive as fn(&[u8])), ("frames", frames_body::frames)] {
        let seeds = seeds(target);
        assert!(seeds.len() >= 3, "{target}");
        seeds.iter().for_each(|seed| body(seed));
    }
}

proptest! {
    #[test]
    fn the_archive_target_takes_mutations(bytes in mutated("archive")) {
        archive_body::archive(&bytes);
    }

    #[test]
    fn the_frames_target_takes_mutations(bytes in mutated("frames")) {
        frames_body::frames(&bytes);
    }

    #[test]
    fn both_targets_take_anything(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        archive_body::archive(&bytes);
        frames_body::frames(&bytes);
    }
}
