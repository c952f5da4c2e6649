use super::*;

/// A folder with a database that holds one key, closed.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let connection = Database::open(folder.path()).unwrap().connect().unwrap();
    let insert = "INSERT INTO keys (id, tenant, name, secret_sha256, scopes, created_at_ms) \
                  VALUES ('k', 't', '', zeroblob(32), 'run', 1)";
    connection.execute(insert, []).unwrap();
    folder
}

fn file(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join(FILE)
}

fn names(folder: &tempfile::TempDir) -> Vec<String> {
    let entries = std::fs::read_dir(folder.path()).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[track_caller]
fn assert_damaged(folder: &tempfile::TempDir) {
    let before = std::fs::read(file(folder)).ok();
    let error = Database::open(folder.path()).unwrap_err();
    assert!(matches!(error, DatabaseError::Damaged { .. }), "{error}");
    let message = error.to_string();
    assert!(message.contains("restore") && message.contains(FILE), "{message}");
    assert!(std::fs::read(file(folder)).ok() == before, "the evidence is left as it is");
}

#[test]
fn a_fresh_one_can_give_pages_back_and_reading_it_writes_nothing() {
    let folder = folder();
    let database = Database::open(folder.path()).unwrap();
    let connection = database.connect().unwrap();
    assert_eq!(pragma::<i64>(&connection, "auto_vacuum").unwrap(), 2, "incremental");
    let log = std::fs::metadata(file(&folder).with_extension("db-wal")).map_or(0, |log| log.len());
    assert_eq!(log, 0, "a connection that changes nothing writes nothing");
}

#[test]
fn a_fresh_one_is_made_whole_and_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let connection = Database::open(folder.path()).unwrap().connect().unwrap();
    assert_eq!(pragma::<i64>(&connection, "user_version"), Ok(version(MIGRATIONS.len())));
    assert_eq!(pragma::<String>(&connection, "journal_mode").unwrap(), "wal");
    assert_eq!(pragma::<i64>(&connection, "synchronous"), Ok(2));
    assert_eq!(pragma::<i64>(&connection, "foreign_keys"), Ok(1));
    assert_eq!(std::fs::metadata(file(&folder)).unwrap().permissions().mode() & 0o777, 0o600);
    drop(connection);
    assert_eq!(names(&folder), [FILE], "nothing else is left");
}

#[test]
fn what_was_written_is_there_after_reopening_beside_a_second_process() {
    let folder = folder();
    let first = Database::open(folder.path()).unwrap().connect().unwrap();
    let second = Database::open(folder.path()).unwrap().connect().unwrap();
    let count = |connection: &Connection| {
        connection.query_row("SELECT count(*) FROM keys", [], |row| row.get::<_, i64>(0)).unwrap()
    };
    assert_eq!((count(&first), count(&second)), (1, 1));
    second.execute("DELETE FROM keys", []).unwrap();
    assert_eq!(count(&first), 0);
}

#[test]
fn many_that_begin_at_once_find_one_database() {
    let folder = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| Database::open(folder.path()).unwrap());
        }
    });
    assert_eq!(names(&folder).iter().filter(|name| name.ends_with(".db")).count(), 1);
}

#[test]
fn keys_from_before_they_had_a_concurrency_a_lint_or_a_disk_have_none() {
    let folder = folder();
    let connection = Database::open(folder.path()).unwrap().connect().unwrap();
    let before = "ALTER TABLE keys DROP COLUMN concurrency; ALTER TABLE keys DROP COLUMN lint; \
                  ALTER TABLE keys DROP COLUMN max_disk_bytes; PRAGMA user_version = 2";
    connection.execute_batch(before).unwrap();
    drop(connection);
    let keys = crate::store::Keys::open(folder.path()).unwrap().list().unwrap();
    let key = &keys[0];
    assert_eq!((keys.len(), key.concurrency, key.lint, key.ceilings.disk_bytes), (1, None, None, None));
}

#[test]
fn a_newer_version_is_refused() {
    let folder = folder();
    let connection = Database::open(folder.path()).unwrap().connect().unwrap();
    connection.pragma_update(None, "user_version", 9_999).unwrap();
    drop(connection);
    let error = Database::open(folder.path()).unwrap_err();
    assert!(matches!(error, DatabaseError::Newer { found: 9_999, .. }), "{error}");
    assert!(error.to_string().contains("newer execbox"), "{error}");
}

#[test]
fn a_file_that_was_cut_short_is_refused() {
    for length in [0, 1, 100, 512, 4_096, 5_000] {
        let folder = folder();
        let whole = std::fs::metadata(file(&folder)).unwrap().len();
        assert!(whole > length);
        File::options().write(true).open(file(&folder)).unwrap().set_len(length).unwrap();
        assert_damaged(&folder);
    }
}

#[test]
fn a_flipped_bit_in_the_structure_is_refused() {
    // The magic words, the application id, the first page's kind, cell count and pointers, the key table's page.
    for at in [0, 15, 68, 71, 100, 103, 108, 4_096, 4_099, 4_104] {
        let folder = folder();
        let mut bytes = std::fs::read(file(&folder)).unwrap();
        bytes[at] ^= 0x10;
        std::fs::write(file(&folder), bytes).unwrap();
        assert_damaged(&folder);
    }
}

/// SQLite's checks see the structure, not the letters in a row: a flip is either refused or leaves a readable table.
#[test]
fn a_flipped_bit_anywhere_is_refused_or_harms_no_other_row() {
    let whole = std::fs::read(file(&folder())).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for at in (0..whole.len()).step_by(53) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        for name in names(&folder) {
            std::fs::remove_file(folder.path().join(name)).unwrap();
        }
        std::fs::write(file(&folder), bytes).unwrap();
        let Ok(database) = Database::open(folder.path()) else { continue };
        let connection = database.connect().unwrap();
        let count: i64 = connection.query_row("SELECT count(*) FROM keys", [], |row| row.get(0)).unwrap();
        assert_eq!(count, 1, "byte {at}");
    }
}

#[test]
fn other_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(file(&folder), "notes of mine\n".repeat(1_000)).unwrap();
    assert_damaged(&folder);
    std::fs::remove_file(file(&folder)).unwrap();
    Connection::open(file(&folder)).unwrap().execute_batch("CREATE TABLE mine (a)").unwrap();
    assert_damaged(&folder);
}

#[test]
fn a_log_without_its_database_is_refused() {
    let folder = folder();
    std::fs::rename(file(&folder), folder.path().join("execbox.db-wal")).unwrap();
    assert_damaged(&folder);
}

#[test]
fn a_folder_that_can_not_be_written_is_named() {
    // Not even root can make files there.
    for folder in ["/proc/self", "/proc/self/no/such/folder"] {
        let error = Database::open(Path::new(folder)).unwrap_err();
        assert!(matches!(error, DatabaseError::Unusable { .. }), "{error}");
        assert!(error.to_string().contains("--data-dir"), "{error}");
    }
}
