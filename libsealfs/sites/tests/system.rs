//! The installed libc and ld.so: nearly every site is covered, and every image holds what it says.

use sealfs_sites::{Footer, Why, build, doctor, prepare, system_objects};
use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

fn covered(footer: &Footer) -> u32 {
    footer.sites_before + footer.sites_carried
}

fn object(name: &str) -> PathBuf {
    system_objects()
        .into_iter()
        .find(|path| path.file_name().is_some_and(|file| file == name))
        .expect("this machine has glibc")
}

#[test]
fn sites_of_libc_are_covered_to_98_percent_and_nearly_all_before_the_instruction() {
    let image = build(&fs::read(object("libc.so.6")).unwrap()).unwrap();
    let footer = image.footer;
    println!("libc: {footer:?}, left {:x?}", image.left);
    assert!(footer.sites_found >= 400);
    assert!(covered(&footer) * 100 >= footer.sites_found * 98);
    assert!(footer.sites_before * 100 >= footer.sites_found * 97);
}

#[test]
fn sites_of_ld_so_are_covered() {
    let image = build(&fs::read(object("ld-linux-x86-64.so.2")).unwrap()).unwrap();
    let footer = image.footer;
    println!("ld.so: {footer:?}, left {:x?}", image.left);
    assert!(footer.sites_found >= 35);
    assert!(covered(&footer) * 100 >= footer.sites_found * 93);
}

#[test]
fn return_from_signal_handlers_is_left_alone() {
    let image = build(&fs::read(object("libc.so.6")).unwrap()).unwrap();
    assert!(image.left.iter().any(|(_, why)| *why == Why::SignalReturn));
}

#[test]
fn a_second_preparation_keeps_the_first_image() {
    let cache = tempfile::tempdir().unwrap();
    let first = prepare(&system_objects(), cache.path()).unwrap();
    let before = fs::metadata(&first[0].image).unwrap().modified().unwrap();
    let second = prepare(&system_objects(), cache.path()).unwrap();
    assert_eq!(
        before,
        fs::metadata(&second[0].image).unwrap().modified().unwrap()
    );
}

#[test]
fn a_damaged_image_is_built_anew() {
    let cache = tempfile::tempdir().unwrap();
    let path = prepare(&[object("ld-linux-x86-64.so.2")], cache.path()).unwrap()[0]
        .image
        .clone();
    let good = fs::read(&path).unwrap();
    let mut bad = good.clone();
    bad[5000] ^= 1;
    fs::write(&path, bad).unwrap();
    prepare(&[object("ld-linux-x86-64.so.2")], cache.path()).unwrap();
    assert_eq!(good, fs::read(&path).unwrap());
}

#[test]
fn a_cache_that_others_may_write_is_refused() {
    let cache = tempfile::tempdir().unwrap();
    fs::set_permissions(cache.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let refused = prepare(&system_objects(), cache.path()).unwrap_err();
    assert!(refused.to_string().contains("others may write it"));
}

#[test]
fn doctor_names_what_is_missing() {
    let cache = tempfile::tempdir().unwrap();
    let facts = doctor(&system_objects(), cache.path());
    assert!(
        facts
            .iter()
            .all(|fact| fact.trouble.is_some() && fact.sites_found > 0)
    );
}

#[test]
fn a_text_file_is_not_an_object() {
    assert!(
        build(b"#!/bin/sh\n")
            .unwrap_err()
            .to_string()
            .contains("not an object")
    );
}

#[test]
fn no_cut_of_a_real_object_panics() {
    let whole = fs::read(object("ld-linux-x86-64.so.2")).unwrap();
    for cut in (0..whole.len()).step_by(4093) {
        let _ = build(&whole[..cut]);
    }
}

/// An unwinder that meets the trampoline compares these bytes.
#[test]
fn the_signal_return_trampoline_keeps_its_bytes() {
    const TRAMPOLINE: &[u8] = b"\x48\xc7\xc0\x0f\0\0\0\x0f\x05";
    let file = fs::read(object("libc.so.6")).unwrap();
    let at = file
        .windows(TRAMPOLINE.len())
        .position(|bytes| bytes == TRAMPOLINE)
        .unwrap();
    assert_eq!(
        &build(&file).unwrap().bytes[at..at + TRAMPOLINE.len()],
        TRAMPOLINE
    );
}
