//! A11, A14, A15: sizes and extended headers.

use super::*;

const AMBIGUOUS: RefusalCode = RefusalCode::AmbiguousSize;
const BAD: RefusalCode = RefusalCode::BadArchive;

#[test]
pub(super) fn a11_two_sizes_that_differ_are_refused() {
    let inner = tar_of(&[file("hidden", b"evil")]);
    let length = inner.len().to_string();
    for (header_size, pax_size) in [
        // The published shapes: the header says nothing, PAX says the nested archive's length.
        (0, length.as_bytes()),
        (512, length.as_bytes()),
        (inner.len(), b"512"),
        // And mirrored.
        (inner.len(), b"0"),
        (inner.len() + 512, length.as_bytes()),
        (1, b"2"),
    ] {
        let mut outer = file("outer", &inner);
        outer = outer.size(format!("{header_size:011o}\0").as_bytes());
        let message = assert_refused(&tar_of(&[pax(&[("size", pax_size)]), outer]), AMBIGUOUS);
        assert!(message.contains("\"outer\""), "{message}");
    }
}

#[test]
fn a11_two_sizes_that_agree_are_accepted() {
    let archive = tar_of(&[pax(&[("size", b"5"), ("path", b"long")]), file("x", b"12345")]);
    assert_accepted(&archive, &[got_file("long", b"12345")]);
}

#[test]
pub(super) fn a11_a_folder_with_content_is_refused() {
    let inner = open_tar(&[file("hidden", b"evil")]);
    for member in [Member::new(b'5', b"d/", &inner), Member::new(0, b"d/", &inner).v7()] {
        assert_refused(&tar_of(&[member]), AMBIGUOUS);
    }
}

#[test]
pub(super) fn a14_long_metadata_is_refused_by_its_header() {
    for kind in *b"xgL" {
        for size in [&b"00000200001\0"[..], b"02260000000\0", b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff"] {
            let mut bytes = Member::new(kind, b"meta", b"").size(size).bytes();
            bytes.truncate(BLOCK);
            let message = assert_refused(&bytes, BAD);
            assert!(message.contains("at most 65536"), "{message}");
        }
    }
}

#[test]
fn a14_metadata_of_64_kib_is_accepted() {
    let comment = vec![b'c'; (64 << 10) - "65536 comment=\n".len()];
    let header = pax(&[("comment", &comment)]);
    assert_eq!(header.content.len(), 64 << 10);
    assert_accepted(&tar_of(&[header, file("x", b"1")]), &[got_file("x", b"1")]);
}

#[test]
pub(super) fn a15_odd_sizes_are_refused() {
    let binary = |bytes: [u8; 12]| bytes.to_vec();
    for field in [
        binary([0xff; 12]),
        binary([0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0]),
        binary([0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]),
        binary([0x81, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
        b"12 34\0".to_vec(),
        b"12\x0034\0".to_vec(),
        b"-1\0".to_vec(),
        b"+1\0".to_vec(),
        b"0x1\0".to_vec(),
        b"0o1\0".to_vec(),
        b"1_0\0".to_vec(),
        b"8\0".to_vec(),
        b"1a\0".to_vec(),
        b"\t1\0".to_vec(),
        b"1\n".to_vec(),
        b"\0\0\0\x001".to_vec(),
        b"            ".to_vec(),
        Vec::new(),
    ] {
        let message = assert_refused(&tar_of(&[file("x", b"1").size(&field)]), AMBIGUOUS);
        assert!(message.contains("\"x\""), "{message}");
    }
}

#[test]
fn a15_sizes_as_real_writers_put_them_are_accepted() {
    for field in [
        &b"00000000003\0"[..],
        b"00000000003 ",
        b"          3 ",
        b"          3\0",
        b"3\0",
        b"3 \0",
        b"000000000003",
        b"\x80\0\0\0\0\0\0\0\0\0\0\x03",
    ] {
        assert_accepted(&tar_of(&[file("x", b"abc").size(field)]), &[got_file("x", b"abc")]);
    }
}

#[test]
pub(super) fn a15_odd_sizes_in_pax_are_refused() {
    for value in [
        &b"05"[..],
        b"+5",
        b"-5",
        b" 5",
        b"5 ",
        b"5.0",
        b"0x5",
        b"",
        b"9223372036854775808",
        b"99999999999999999999",
    ] {
        assert_refused(&tar_of(&[pax(&[("size", value)]), file("x", b"12345")]), AMBIGUOUS);
    }
}

#[test]
pub(super) fn malformed_pax_records_are_refused() {
    for body in [
        &b"garbage"[..],
        b"6 a=b\n\0",
        b"06 a=b\n",
        b"5 a=b\n",
        b"7 a=b\n",
        b"6 a=bc",
        b"5 =b\n",
        b"5 ab\n",
        b"0 a=b\n",
        b"1 \n",
        b" a=b\n",
        b"-6 a=b\n",
        b"18446744073709551616 a=b\n",
        b"9223372036854775807 a=b\n",
        b"15 comment=a\nb\n",
        b"9 pa\nth=\n",
    ] {
        assert_refused(&tar_of(&[Member::new(b'x', b"meta", body), file("x", b"1")]), BAD);
    }
}

#[test]
pub(super) fn one_key_twice_is_refused() {
    assert_refused(&tar_of(&[pax(&[("path", b"a"), ("path", b"b")]), file("x", b"1")]), BAD);
    assert_refused(&tar_of(&[pax(&[("size", b"1"), ("size", b"1")]), file("x", b"1")]), BAD);
}

#[test]
fn global_headers_may_only_hold_what_is_ignored() {
    let harmless = pax_of(b'g', &[("comment", b"of git archive"), ("mtime", b"1")]);
    let named = pax(&[("path", b"y")]);
    let archive = tar_of(&[harmless.clone(), file("x", b"1"), harmless.clone(), named, file("z", b"2")]);
    assert_accepted(&archive, &[got_file("x", b"1"), got_file("y", b"2")]);
    assert_refused(&tar_of(&[file("x", b"1"), harmless]), BAD);
    for key in ["path", "size", "linkpath", "GNU.sparse.major"] {
        assert_refused(&tar_of(&[pax_of(b'g', &[(key, b"1")]), file("x", b"1")]), BAD);
    }
}

#[test]
pub(super) fn extended_headers_in_a_row_are_refused() {
    let (long, extended) = (long_name("a"), pax(&[("mtime", b"1")]));
    let global = pax_of(b'g', &[("comment", b"1")]);
    for pair in [
        [long.clone(), long.clone()],
        [extended.clone(), extended.clone()],
        [long.clone(), extended.clone()],
        [extended.clone(), long.clone()],
        [extended.clone(), global.clone()],
        [long.clone(), global],
    ] {
        assert_refused(&tar_of(&[&pair[..], &[file("x", b"1")]].concat()), BAD);
    }
}

#[test]
pub(super) fn extended_headers_without_their_entry_are_refused() {
    for last in [long_name("a"), pax(&[("path", b"a")])] {
        assert_refused(&tar_of(&[file("x", b"1"), last]), BAD);
    }
    assert_refused(&tar_of(&[Member::new(b'L', b"meta", b""), file("x", b"1")]), BAD);
}

#[test]
fn an_empty_extended_header_is_accepted() {
    assert_accepted(&tar_of(&[pax(&[]), file("x", b"1")]), &[got_file("x", b"1")]);
}

#[test]
pub(super) fn a25_a_long_name_without_nul_at_its_end_is_refused() {
    // Python and GNU tar would take the name to be "lib/a", beyond the size.
    let name = Member::new(b'L', b"././@LongLink", b"lib/a").gnu().size(b"00000000003\0");
    assert_refused(&tar_of(&[name, file("x", b"1").gnu()]), BAD);
}

#[test]
pub(super) fn a25_nul_inside_a_pax_record_is_refused() {
    for body in [&b"8 pat\0=a\n"[..], b"15 comment=a\0b\n", b"24 SCHILY.xattr.us\0er=a\n"] {
        assert_refused(&tar_of(&[Member::new(b'x', b"meta", body), file("x", b"1")]), BAD);
    }
}
