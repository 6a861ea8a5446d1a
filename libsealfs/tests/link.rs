//! How the library is linked.

mod support;

use std::process::Command;

fn dynamic_section() -> String {
    support::run(Command::new("readelf").arg("-dW").arg(support::library()))
}

#[test]
fn nothing_but_libc_and_ld_so_is_needed() {
    let dynamic = dynamic_section();
    let needed: Vec<_> = dynamic
        .lines()
        .filter(|line| line.contains("(NEEDED)"))
        .filter_map(|line| line.split(['[', ']']).nth(1))
        .collect();
    assert!(
        needed
            .iter()
            .all(|name| ["libc.so.6", "ld-linux-x86-64.so.2"].contains(name))
    );
    assert!(!needed.is_empty());
}

#[test]
fn it_runs_before_other_constructors_and_stays() {
    let flags = dynamic_section();
    assert!(
        flags.contains("INITFIRST") && flags.contains("NODELETE"),
        "{flags}"
    );
}

#[test]
fn without_a_mount_it_makes_no_system_call() {
    let trace = |command: &mut Command| {
        let traced = support::run(command.env_remove("SEALFS_MOUNT"));
        traced
            .lines()
            .skip_while(|line| !line.starts_with("munmap"))
            .count()
    };
    // ld.so's last call before the constructors unmaps its cache.
    let plain = trace(Command::new("strace").arg("/bin/true"));
    let library = format!("LD_PRELOAD={}", support::library().display());
    let loaded = trace(Command::new("strace").args(["-E", &library, "/bin/true"]));
    assert!(plain > 0);
    assert_eq!(plain, loaded);
}
