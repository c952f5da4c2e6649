//! A22: what archives are packed in.

use std::io::Write;
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

const BAD: RefusalCode = RefusalCode::BadArchive;

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

fn good() -> Vec<u8> {
    tar_of(&[file("main.py", b"print(1)")])
}

#[test]
fn a_zstd_frame_to_be_skipped_may_come_first() {
    for kind in 0x50..=0x5f {
        let skipped = [&[kind, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"any"].concat();
        let packed = [&skipped[..], &skipped, &zstd(&good())].concat();
        for piece in [1, 7, packed.len()] {
            assert_eq!(read_in_pieces(&packed, piece, LIMITS), Ok(vec![got_file("main.py", b"print(1)")]));
        }
        assert_eq!(read(&skipped).unwrap_err().0, BAD, "nothing else is there");
    }
    // A name may begin with the same letter.
    let plain = tar_of(&[file("P/main.py", b"1")]);
    assert_eq!(read(&plain), Ok(vec![got_file("P/main.py", b"1")]));
    assert_eq!(read(b"P").unwrap_err().0, BAD);
}

#[test]
fn what_is_no_archive_is_told_what_it_is() {
    let long = "x = 1\n".repeat(500);
    for text in ["print('hello')\n", "", "P", "# \u{e4}\u{f6}\u{fc}\n", &long, "{\"a\": 1}"] {
        let (code, message) = read(text.as_bytes()).unwrap_err();
        assert_eq!(code, BAD, "{text:?}");
        assert_eq!(
            message.contains("starts like text; create one with `tar -cf p.tar FILES`"),
            !text.is_empty(),
            "{message}"
        );
    }
    let (_, message) = read(&[0xff; 600]).unwrap_err();
    assert!(message.contains("its first block"), "{message}");
    let (_, message) = read(b"PK\x03\x04rest").unwrap_err();
    assert!(message.contains("zip archive"), "{message}");
}

#[test]
fn archives_of_stars_own_format_are_refused_by_name() {
    let mut archive = good();
    archive[508..512].copy_from_slice(b"tar\0");
    archive[148..156].fill(b' ');
    let sum: u32 = archive[..512].iter().map(|byte| u32::from(*byte)).sum();
    archive[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let (code, message) = read(&archive).unwrap_err();
    assert!(code == BAD && message.contains("xstar"), "{message}");
}

#[test]
fn streams_of_several_parts_are_one() {
    let archive = good();
    let (head, tail) = archive.split_at(700);
    for pack in [gzip, zstd] {
        for packed in [[pack(head), pack(b""), pack(tail)].concat(), [pack(b""), pack(&archive)].concat()] {
            for piece in [1, 7, packed.len()] {
                let got = read_in_pieces(&packed, piece, LIMITS);
                assert_eq!(got, Ok(vec![got_file("main.py", b"print(1)")]));
            }
        }
    }
}

#[test]
pub(super) fn a17_something_after_the_stream_is_refused() {
    for pack in [gzip, zstd] {
        for tail in [&b"x"[..], &[0; 512], b"\x1f\x8b", b"PK\x03\x04"] {
            assert_refused(&[&pack(&good())[..], tail].concat(), BAD);
        }
    }
    // A second archive inside the stream is no less than a second archive.
    assert_refused(&[gzip(&good()), gzip(&good())].concat(), BAD);
}

#[test]
fn damaged_streams_are_refused() {
    let archive = tar_of(&[file("x", &(0..9000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>())]);
    let whole = read(&archive);
    for packed in [gzip(&archive), zstd::bulk::compress(&archive, 3).unwrap()] {
        for at in (0..packed.len()).step_by(97) {
            let mut damaged = packed.clone();
            damaged[at] ^= 0x10;
            if let Ok(got) = read(&damaged) {
                // Headers hold bytes that mean nothing, such as the time; zstd without a checksum may change content.
                assert!(packed[0] == 0x28 || Ok(got) == whole);
            }
        }
    }
    let mut wrong_sum = gzip(&archive);
    let end = wrong_sum.len();
    wrong_sum[end - 8] ^= 1;
    assert_refused(&wrong_sum, BAD);
}

#[test]
pub(super) fn a22_other_formats_are_named() {
    let foreign: &[(&[u8], &str)] = &[
        (b"PK\x03\x04\x14\0\0\0", "zip"),
        (b"PK\x05\x06", "zip"),
        (b"BZh91AY&SY", "bzip2"),
        (b"\xfd7zXZ\0\0\x04", "xz"),
        (b"7z\xbc\xaf\x27\x1c\0\x04", "7z"),
        (b"\x04\x22\x4d\x18d@\xa7", "lz4"),
        (b"LZIP\x01", "lzip"),
        (b"\x5d\0\0\x80\0", "lzma"),
        (b"\x1f\x9d\x90", "compress"),
        (b"Rar!\x1a\x07\x01\0", "RAR"),
        (b"070701000", "cpio"),
        (b"!<arch>\ndebian-binary", "ar archive"),
    ];
    for (magic, name) in foreign {
        for length in [magic.len(), 600] {
            let mut body = magic.to_vec();
            body.resize(length, 0x55);
            let message = assert_refused(&body, RefusalCode::UnsupportedMediaType);
            assert!(message.contains(name) && message.contains("gzip or zstd"), "{message}");
        }
    }
    for packed in [gzip(&gzip(&good())), zstd(&gzip(&good())), gzip(&zstd(&good()))] {
        assert!(assert_refused(&packed, RefusalCode::UnsupportedMediaType).contains("twice"));
    }
}

/// [`good`], as other tools pack it: bzip2, xz, lz4, and an archive of 7z.
const FOREIGN: [(&[u8], &str); 4] = [
    (
        b"BZh91AY&SYX5SX\0\0.\xdb\x80\xca\x80@a}\x80\0 `#^ \x08( \0TP\x98\0A\x813\xd4\x12I\x1a\x1a\x06@4\xd0\
          R\x07\xc8\x85b\x0cg\x1b\x8bok\x1005#<\xdfS!\xec#w!\xd2\x96\xb4\x9c\xa8\xc6\x18\x98\x95\xfd\x19 \xcat,\
          \x02\"R\xf0]\xc9\x14\xe1BA`\xd5M`",
        "bzip2",
    ),
    (
        b"\xfd7zXZ\0\0\x01i\"\xde6\x02\0!\x01\x16\0\0\0t/\xe5\xa3\xe0\x07\xff\0G]\x006\x98Ir\x85\x02\xbcn<\
          B\xde\xda\x84\xbf\xac\x9a\xf5\xb5\x11\x9b\x0e\x9fn\xc0g\xbf\x10\xc48\xc9\xd8\xf1\xf4a\xf4\xcb\
          \xff\xa5\x83\x8f\xe3\x07\xb9\x98\xe5q\x97F\x85\xcbhLlb:\xa7\x9b\xcc\xf7\x09\xcb\xeb\xcb\0\xee3\xee\
          \x08\x17\0\0\0\0-\x02\x13?\0\x01_\x80\x10\0\0\0\xf2\x89r\xdf>0\x0d\x8b\x02\0\0\0\0\x01YZ",
        "xz",
    ),
    (
        b"\x04\"M\x18`@\x82U\0\0\0\x8fmain.py\0\x01\0I\x920000644\x000\x01\0\x0c\x08\x007001\x0c\0\x01\x18\0\
          \x8f7232\0 0\0\x01\0P\x9fustar\x0000\0\x01\0\xe3\x9fprint(1)\0\x01\0\xff\xff\xff\xff\xff\xe4P\0\0\
          \0\0\0\0\0\0\0",
        "lz4",
    ),
    (
        b"7z\xbc\xaf'\x1c\0\x04\xd6-\xcd\x9fM\0\0\0\0\0\0\x005\0\0\0\0\0\0\0\xb0C\x81&\x006\x98Ir\x85\x02\
          \xbcn<B\xde\xda\x84\xbf\xac\x9a\xf5\xb5\x11\x9b\x0e\x9fn\xc0g\xbf\x10\xc48\xc9\xd8\xf1\xf4a\xf4\
          \xcb\xff\xa5\x83\x8f\xe3\x07\xb9\x98\xe5q\x97F\x85\xcbhLlb:\xa7\x9b\xcc\xf7\x09\xcb\xeb\xcb\0\xee3\
          \xees\x8a7\xff\xff\xd2\x9e\xd0\0\x01\x04\x06\0\x01\x09M\0\x07\x0b\x01\0\x01#\x03\x01\x01\x05]\0\x10\
          \0\0\x0c\x88\0\x0a\x01-\x02\x13?\0\0\x05\x01\x11\x0d\0p\0.\0t\0a\0r\0\0\0\0\0",
        "7z",
    ),
];

#[test]
pub(super) fn a22_what_real_tools_pack_is_told_apart() {
    for pack in [gzip, zstd] {
        assert_accepted(&pack(&good()), &[got_file("main.py", b"print(1)")]);
    }
    for (packed, name) in FOREIGN {
        let message = assert_refused(packed, RefusalCode::UnsupportedMediaType);
        assert!(message.contains(name), "{message}");
    }
}

#[test]
fn a22_names_that_look_like_other_formats_are_names() {
    for name in ["BZh91AY&SY", "LZIP.txt", "070701.log", "!<arch>"] {
        assert_accepted(&tar_of(&[file(name, b"1")]), &[got_file(name, b"1")]);
    }
}

#[test]
pub(super) fn a22_a_zstd_window_over_8_mib_is_refused_before_it_is_allocated() {
    let packed = |window_log| {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(window_log).unwrap();
        encoder.write_all(&good()).unwrap();
        encoder.finish().unwrap()
    };
    assert_accepted(&packed(23), &[got_file("main.py", b"print(1)")]);
    assert!(assert_refused(&packed(24), BAD).contains("8 MiB"));
    assert_refused(&packed(27), BAD);
}

#[test]
fn zstd_levels_up_to_19_are_accepted() {
    for level in [-5, 1, 3, 19] {
        let mut packed = Vec::new();
        let content = vec![b'a'; 1 << 19];
        zstd::stream::copy_encode(&tar_of(&[file("x", &content)])[..], &mut packed, level).unwrap();
        assert_accepted(&packed, &[got_file("x", &content)]);
    }
}

/// Feeds pieces until the reader refuses. Gives the refusal, and how many bytes it had taken.
fn feed(limits: ArchiveLimits, pieces: impl Iterator<Item = Vec<u8>>) -> (RefusalCode, usize) {
    let spool = tempfile::tempdir().unwrap();
    let mut reader = ArchiveReader::new(spool.path(), limits).unwrap();
    let mut taken = 0;
    for piece in pieces {
        taken += piece.len();
        if let Err(error) = reader.push(&piece) {
            let ArchiveError::Refused { code, .. } = error else { panic!("{error}") };
            return (code, taken);
        }
    }
    panic!("taken to the end");
}

/// Packed streams that unpack to far more than the cap: a good archive and then zeros, and a file's content, each in
/// one part and in endless parts.
pub(super) fn bombs() -> Vec<Vec<Vec<u8>>> {
    let zeros = vec![0; 32 << 20];
    let announced = open_tar(&[file("big", b"").size(b"\x80\0\0\0\0\0\0\0\0\xa0\0\0")]);
    let mut bombs = Vec::new();
    for pack in [gzip, zstd] {
        for head in [good(), announced.clone()] {
            bombs.push(vec![pack(&[&head[..], &zeros].concat())]);
            let mut parts = vec![pack(&zeros); 50];
            parts.insert(0, pack(&head));
            bombs.push(parts);
        }
    }
    bombs
}

#[test]
fn a22_bombs_stop_at_the_cap() {
    let limits = ArchiveLimits { bytes: 10 << 20, ..LIMITS };
    for bomb in bombs() {
        let (code, taken) = feed(limits, bomb.into_iter());
        // The announced file ends at 10 MiB, and zeros are a fine end mark: then it is the stream that is too long.
        assert_eq!(code, RefusalCode::TooLarge);
        assert!(taken < 50_000, "{taken} bytes were taken");
    }
}

/// Runs itself again in a process of its own: what other tests hold must not be counted.
#[test]
fn a14_a22_memory_is_flat_whatever_comes() {
    const NAME: &str = "archive::tests::compression::a14_a22_memory_is_flat_whatever_comes";
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--nocapture");
    if arguments.by_ref().take(2).eq(["--exact", NAME].map(str::to_owned)) && arguments.next().is_none() {
        return hostile_streams_grow_no_memory();
    }
    let own = std::env::current_exe().unwrap();
    let output = Command::new(own).args(["--exact", NAME]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

fn hostile_streams_grow_no_memory() {
    let limits = ArchiveLimits { bytes: 10 << 20, ..LIMITS };
    let bombs = bombs();
    let before = reset_peak_memory();
    for bomb in bombs {
        feed(limits, bomb.into_iter());
    }
    // 300 MiB of a long name: its header is enough.
    let endless_name = Member::new(b'L', b"meta", b"").size(b"02260000000\0").bytes();
    feed(limits, std::iter::once(endless_name).chain(std::iter::repeat_n(vec![b'n'; 1 << 20], 300)));
    feed(limits, std::iter::repeat(open_tar(&[long_name(vec![b'n'; 65_000]), file("x", b"").gnu()])));
    let grown = peak_memory() - before;
    // The window of zstd is 8 MiB.
    assert!(grown < 12 << 20, "memory grew by {grown} bytes");
}

/// Highest resident memory of this process so far, in bytes.
pub(super) fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

/// Starts the peak again from what is resident now.
pub(super) fn reset_peak_memory() -> u64 {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    peak_memory()
}

#[test]
fn a22_parts_that_unpack_to_nothing_do_not_go_on_for_ever() {
    let small = ArchiveLimits { bytes: 1 << 20, entries: 10, depth: 3 };
    let (code, _) = feed(small, std::iter::repeat(gzip(b"").repeat(100)));
    assert_eq!(code, BAD);
    let (code, taken) = feed(small, std::iter::repeat(zstd(b"").repeat(100)));
    assert_eq!(code, RefusalCode::TooLarge);
    assert!(taken < 5 << 20);
}
