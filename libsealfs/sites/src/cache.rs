//! The directory where images are kept: `<build-id>.v1`, made once per object and user.
//!
//! What must stay true: code from this directory runs inside every program that is started with
//! the library, so it and its files belong to the user or to root and nobody else can write them;
//! an image is complete under its name or not there (it is renamed into place).

use crate::{
    SitesError,
    elf::Elf,
    format::{self, Footer},
    image::{self, Image},
};
use std::{
    env, fs,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

const WRITABLE_BY_OTHERS: u32 = 0o022;

/// An object whose image is in the cache.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub object: PathBuf,
    pub build_id: String,
    pub image: PathBuf,
    pub sites_found: u32,
    pub sites_before: u32,
    pub sites_carried: u32,
    pub sites_left: u32,
}

/// Where images are kept unless told otherwise: `$SEALFS_CACHE`, else below `$XDG_CACHE_HOME`,
/// else below `$HOME/.cache`, else a directory of the user's own in `/var/tmp`.
pub fn default_cache_dir() -> PathBuf {
    let set = |name| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    set("SEALFS_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|dir| dir.join("sealfs")))
        .or_else(|| set("HOME").map(|dir| dir.join(".cache/sealfs")))
        .unwrap_or_else(|| PathBuf::from(format!("/var/tmp/sealfs-{}", user())))
}

#[allow(unsafe_code, reason = "std has no word for the effective user")]
fn user() -> u32 {
    // SAFETY: geteuid has no arguments and cannot fail.
    unsafe { libc::geteuid() }
}

/// Makes sure that the image of every object in `paths` is in `cache_dir`, building what is
/// missing or damaged. The directory is made if need be.
pub fn prepare(paths: &[PathBuf], cache_dir: &Path) -> Result<Vec<Prepared>, SitesError> {
    if !cfg!(target_arch = "x86_64") {
        return Err(SitesError::Machine);
    }
    open_cache(cache_dir)?;
    paths
        .iter()
        .map(|path| prepare_one(path, cache_dir))
        .collect()
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> SitesError + '_ {
    move |source| SitesError::Io {
        path: path.to_owned(),
        source,
    }
}

fn open_cache(dir: &Path) -> Result<(), SitesError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(io(dir))?;
    check_owner(dir)
}

/// Refuses what others could have written.
pub fn check_owner(path: &Path) -> Result<(), SitesError> {
    let facts = fs::metadata(path).map_err(io(path))?;
    let trusted = facts.uid() == user() || facts.uid() == 0;
    if !trusted || facts.mode() & WRITABLE_BY_OTHERS != 0 {
        return Err(SitesError::Untrusted(path.to_owned()));
    }
    Ok(())
}

fn prepare_one(object: &Path, dir: &Path) -> Result<Prepared, SitesError> {
    let object = fs::canonicalize(object).map_err(io(object))?;
    let file = fs::read(&object).map_err(io(&object))?;
    let named = |error: SitesError| SitesError::Object {
        object: object.clone(),
        why: error.into(),
    };
    let id = Elf::parse(&file)
        .and_then(|elf| {
            elf.build_id()
                .map(<[u8]>::to_vec)
                .ok_or(SitesError::NoBuildId)
        })
        .map_err(named)?;
    let path = image_path(dir, &id);
    let footer = match read_verified(&path) {
        Ok(footer) if footer.id() == id => footer,
        _ => {
            let Image { bytes, footer, .. } = image::build(&file).map_err(named)?;
            publish(&bytes, &path)?;
            footer
        }
    };
    Ok(prepared(object, path, &footer))
}

fn prepared(object: PathBuf, image: PathBuf, footer: &Footer) -> Prepared {
    Prepared {
        object,
        build_id: hex(footer.id()),
        image,
        sites_found: footer.sites_found,
        sites_before: footer.sites_before,
        sites_carried: footer.sites_carried,
        sites_left: footer.sites_left,
    }
}

/// A build-id as people write it.
pub fn hex(id: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('?');
    id.iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

/// Where the image of the object with this build-id lies.
pub fn image_path(dir: &Path, build_id: &[u8]) -> PathBuf {
    let mut name = [0; format::NAME_BYTES];
    let used = format::file_name(build_id, &mut name);
    dir.join(String::from_utf8_lossy(&name[..used]).as_ref())
}

/// Reads an image's footer after checking its owner and every byte of it.
pub fn read_verified(path: &Path) -> Result<Footer, SitesError> {
    check_owner(path)?;
    let bytes = fs::read(path).map_err(io(path))?;
    let damaged = || SitesError::Damaged(path.to_owned());
    let split = bytes
        .len()
        .checked_sub(format::FOOTER_BYTES)
        .ok_or_else(damaged)?;
    let (content, tail) = bytes.split_at(split);
    let tail: [u8; format::FOOTER_USED] = tail[..format::FOOTER_USED]
        .try_into()
        .map_err(|_| damaged())?;
    let footer = Footer::decode(&tail).ok_or_else(damaged)?;
    if format::crc32c(0, content) != footer.content_crc {
        return Err(damaged());
    }
    Ok(footer)
}

fn publish(bytes: &[u8], path: &Path) -> Result<(), SitesError> {
    let unfinished = path.with_extension(format!("tmp{}", std::process::id()));
    let write = || {
        let mut options = fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o644)
            .open(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&unfinished, path)
    };
    write().map_err(|source| {
        // What is left behind is only litter; the first error is the one to tell.
        let _ = fs::remove_file(&unfinished);
        SitesError::Io {
            path: path.to_owned(),
            source,
        }
    })
}
