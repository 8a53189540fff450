//! The disk fails as it says it does.

use super::super::{LockMode, OpenMode, Storage, read_file};
use super::*;

fn outcomes(make: impl Fn(&SimStorage)) -> BTreeSet<Option<Vec<u8>>> {
    let after = |seed| {
        let sim = SimStorage::new(seed);
        make(&sim);
        sim.crash();
        sim.peek("f")
    };
    (0..200).map(after).collect()
}

fn create(sim: &SimStorage) -> Box<dyn super::super::StorageFile> {
    let file = sim.open("f", OpenMode::CreateNew).unwrap();
    sim.sync_dir("").unwrap();
    file
}

#[test]
fn what_was_synced_stays() {
    let synced = outcomes(|sim| {
        let file = create(sim);
        file.write_at(b"abc", 0).unwrap();
        file.sync_data().unwrap();
    });
    assert_eq!(synced, BTreeSet::from([Some(b"abc".to_vec())]));
}

#[test]
fn what_was_not_synced_is_kept_lost_or_torn() {
    let torn = outcomes(|sim| create(sim).write_at(b"abc", 0).unwrap());
    let prefixes = ["", "a", "ab", "abc"].map(|text| Some(text.as_bytes().to_vec()));
    assert_eq!(torn, BTreeSet::from(prefixes));
    let reordered = outcomes(|sim| create(sim).write_at(&[1; 1024], 0).unwrap());
    let second_only = [[0; 512], [1; 512]].concat();
    assert!(reordered.contains(&Some(second_only)), "a later sector may survive without an earlier one");
}

#[test]
fn names_are_kept_or_lost() {
    let named = outcomes(|sim| drop(sim.open("f", OpenMode::CreateNew).unwrap()));
    assert_eq!(named, BTreeSet::from([None, Some(Vec::new())]));
    let renamed = outcomes(|sim| {
        let old = create(sim);
        old.write_at(b"old", 0).unwrap();
        old.sync_data().unwrap();
        let new = sim.open("g", OpenMode::CreateNew).unwrap();
        new.write_at(b"new", 0).unwrap();
        new.sync_data().unwrap();
        sim.rename("g", "f").unwrap();
    });
    assert_eq!(renamed, BTreeSet::from([b"old", b"new"].map(|text| Some(text.to_vec()))));
}

#[test]
fn a_failed_sync_loses_the_bytes_even_if_the_next_one_works() {
    let lost = outcomes(|sim| {
        let file = create(sim);
        file.write_at(b"abc", 0).unwrap();
        sim.fail_sync(0);
        assert!(file.sync_data().is_err());
        file.sync_data().unwrap();
    });
    assert_eq!(lost, BTreeSet::from([Some(Vec::new())]));
}

#[test]
fn a_full_disk_takes_a_part() {
    let sim = SimStorage::new(0);
    let file = create(&sim);
    sim.set_capacity(Some(4));
    file.write_at(b"abc", 0).unwrap();
    assert_eq!(file.write_at(b"defg", 3).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(sim.peek("f").unwrap(), b"abcd");
    file.write_at(b"xyz", 0).unwrap();
    sim.remove("f").unwrap();
    assert_eq!(sim.used(), 0);
}

#[test]
fn the_chosen_operation_fails() {
    let sim = SimStorage::new(0);
    let file = create(&sim);
    sim.fail_op(1);
    file.write_at(b"a", 0).unwrap();
    assert!(file.write_at(b"b", 0).is_err());
    file.write_at(b"c", 0).unwrap();
    sim.halt_at(0);
    assert!(file.len().is_err() && file.len().is_err());
    sim.crash();
    assert!(file.len().is_err(), "a file that was open before the power cut is dead");
    assert!(read_file(&sim, "f", 9).is_ok());
    sim.set_read_only(true);
    let err = sim.open("f", OpenMode::Write).err().unwrap();
    assert_eq!(err.kind(), io::ErrorKind::ReadOnlyFilesystem);
}

#[test]
fn a_power_cut_ends_locks() {
    let sim = SimStorage::new(0);
    let shared = sim.try_lock("l", LockMode::Shared).unwrap().unwrap();
    assert!(sim.try_lock("l", LockMode::Exclusive).unwrap().is_none());
    sim.crash();
    let alone = sim.try_lock("l", LockMode::Exclusive).unwrap().unwrap();
    drop(shared);
    assert!(sim.try_lock("l", LockMode::Shared).unwrap().is_none());
    drop(alone);
    assert!(sim.try_lock("l", LockMode::Shared).unwrap().is_some());
}

/// The bytes are read back until the power goes; then they are as if nobody had asked for them to be synced.
#[test]
fn a_sync_that_lies_may_lose_the_bytes_and_the_name() {
    let lied = outcomes(|sim| {
        let file = create(sim);
        sim.lie_about_syncs(1);
        file.write_at(b"a", 0).unwrap();
        file.sync_data().unwrap();
        assert_eq!(sim.peek("f").unwrap(), b"a");
    });
    assert_eq!(lied, BTreeSet::from(["", "a"].map(|text| Some(text.as_bytes().to_vec()))));
    let unnamed = outcomes(|sim| {
        sim.lie_about_syncs(1);
        create(sim);
    });
    assert_eq!(unnamed, BTreeSet::from([None, Some(Vec::new())]));
    let sometimes = outcomes(|sim| {
        sim.lie_about_syncs(2);
        create(sim);
    });
    assert_eq!(sometimes, unnamed);
}

#[test]
fn a_write_that_goes_to_another_file_is_missing_in_its_own() {
    let mut seen = BTreeSet::new();
    for seed in 0..40 {
        let sim = SimStorage::new(seed);
        sim.plant("g", &[7; 1024]);
        let file = create(&sim);
        file.write_at(&[1; 100], 0).unwrap();
        file.sync_data().unwrap();
        sim.misdirect_write(1);
        file.write_at(&[2; 100], 100).unwrap();
        file.write_at(&[3; 100], 200).unwrap();
        file.write_at(&[4; 100], 300).unwrap();
        file.sync_data().unwrap();
        let own = [[1; 100], [2; 100], [3; 100], [4; 100]].concat();
        assert_eq!(sim.peek("f").unwrap(), own);
        let is_cached = sim.peek("g").unwrap() == [7; 1024];
        sim.crash();
        assert_eq!(sim.peek("f").unwrap(), [[1; 100], [2; 100], [0; 100], [4; 100]].concat());
        let (other, sector) = (sim.peek("g").unwrap(), own[..300].to_vec());
        let place = if other[0] == 7 { 512 } else { 0 };
        assert_eq!(
            other[place..place + 300],
            sector,
            "the whole sector came, as far as it was written by then"
        );
        assert!(other[place + 300..].iter().chain(&other[..place]).all(|byte| *byte == 7));
        seen.insert((is_cached, place));
    }
    assert_eq!(seen.len(), 4);
}

/// The deepest came first: it was there without those above, and no list led to it.
#[test]
fn a_folder_is_in_the_one_above_wherever_its_making_fails() {
    for n in 0..3 {
        let sim = SimStorage::new(0);
        sim.fail_op(n);
        assert!(sim.create_dir("a/b/c").is_err());
        let found = ["", "a", "a/b"].map(|dir| sim.list(dir).is_ok_and(|names| !names.is_empty()));
        assert_eq!(found, [n > 0, n > 1, false]);
        sim.create_dir("a/b/c").unwrap();
        assert_eq!(sim.list("a/b").unwrap(), ["c"]);
    }
}
