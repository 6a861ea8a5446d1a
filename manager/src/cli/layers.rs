//! The images of patched libc and ld.so that programs map at start: made here, before they run.

use super::Fail;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Where root keeps images: other users' programs below a `sealfs run` of root's must read them.
const SYSTEM_CACHE: &str = "/var/cache/sealfs";

/// The directory of images for programs started from here.
pub fn cache_dir() -> PathBuf {
    let chosen = std::env::var_os("SEALFS_SITES").filter(|v| !v.is_empty());
    if let Some(dir) = chosen {
        return dir.into();
    }
    let is_set = std::env::var_os("SEALFS_CACHE").is_some_and(|v| !v.is_empty());
    if rustix::process::geteuid().is_root() && !is_set {
        let mut builder = std::fs::DirBuilder::new();
        let made = builder.recursive(true).mode(0o755).create(SYSTEM_CACHE);
        if made.is_ok() {
            return SYSTEM_CACHE.into();
        }
    }
    sealfs_sites::default_cache_dir()
}

/// Makes sure that programs find the images of this machine's libc and ld.so.
pub fn prepare(dir: &Path) -> Result<(), Fail> {
    match sealfs_sites::prepare(&sealfs_sites::system_objects(), dir) {
        Ok(_) => Ok(()),
        // The user accepts that only the PLT is covered.
        Err(_) if std::env::var("SEALFS_PARTIAL").is_ok_and(|v| v == "1") => Ok(()),
        Err(error) => Err(format!(
            "libc cannot be covered: {error}: `sealfs doctor` tells more; SEALFS_PARTIAL=1 runs \
             programs with calls from within libc left out"
        )
        .into()),
    }
}
