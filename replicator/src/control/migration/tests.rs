//! What is noted of a migration.

use super::*;

#[test]
fn what_was_noted_of_a_migration_is_read_again_until_it_is_over() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("migrations/r0");
    assert_eq!(read(&path).unwrap(), None);
    let until = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    write(&path, until).unwrap();
    assert_eq!(read(&path).unwrap(), Some(until));
    forget(&path).unwrap();
    forget(&path).unwrap();
    assert_eq!(read(&path).unwrap(), None);
}

#[test]
fn a_damaged_note_is_an_error_and_no_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("r0");
    fs::write(&path, "tomorrow\n").unwrap();
    assert!(read(&path).is_err());
}

#[test]
fn a_migration_of_no_time_or_of_ever_is_refused() {
    assert!(order(9).is_err());
    assert!(order(86_401).is_err());
    assert!(matches!(order(10), Ok(Command::Migrate { ms: 10_000 })));
}
