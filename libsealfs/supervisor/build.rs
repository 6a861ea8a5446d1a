//! The files that the library and the supervisor are both built from ask by this which one it is.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-check-cfg=cfg(supervisor)");
    println!("cargo:rustc-check-cfg=cfg(feature, values(\"selftest\"))");
    println!("cargo:rustc-cfg=supervisor");
}
