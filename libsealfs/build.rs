//! How the shared library is linked: it runs before every other constructor, is never unloaded,
//! and needs nothing but libc and ld.so. rustc asks for `-lgcc_s`; a linker script of that name in
//! our own search directory answers with the static unwinder instead.

use std::{env, fs, path::PathBuf};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // The supervisor is built from these sources too, and sets this.
    println!("cargo:rustc-check-cfg=cfg(supervisor)");
    let Some(out) = env::var_os("OUT_DIR").map(PathBuf::from) else {
        return;
    };
    let script = out.join("libgcc_s.so");
    if let Err(error) = fs::write(&script, "INPUT(-lgcc_eh -lgcc)\n") {
        println!("cargo:warning=cannot write {}: {error}", script.display());
    }
    println!("cargo:rustc-link-search=native={}", out.display());
    for flag in ["initfirst", "nodelete", "now", "relro"] {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,{flag}");
    }
    println!("cargo:rustc-cdylib-link-arg=-Wl,--exclude-libs,ALL");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libsealfs.so");
}
