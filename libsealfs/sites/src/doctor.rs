//! What `sealfs doctor` tells of patched sites: for each object whether its image is there, how
//! many sites it covers, and which are left alone and why.

use crate::{SitesError, cache, elf::Elf, image, window::Why};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// One object's state.
#[derive(Clone, Debug)]
pub struct Fact {
    pub object: PathBuf,
    pub build_id: Option<String>,
    pub image: Option<PathBuf>,
    /// Why the image in the cache cannot be used; `None` when it can.
    pub trouble: Option<String>,
    pub sites_found: u32,
    pub sites_before: u32,
    pub sites_carried: u32,
    /// Address within the object and reason.
    pub left: Vec<(u64, Why)>,
}

/// The libc and ld.so that programs on this machine run with: those of this very process first,
/// else those at the usual places.
pub fn system_objects() -> Vec<PathBuf> {
    const NAMES: [&str; 2] = ["libc.so.6", "ld-linux-x86-64.so.2"];
    const PLACES: [&str; 4] = ["/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/usr/lib"];
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let find = |name: &&str| {
        let mapped = maps
            .lines()
            .filter_map(|line| line.find('/').map(|at| &line[at..]));
        mapped
            .map(Path::new)
            .find(|path| path.file_name().is_some_and(|file| file == *name))
            .map(Path::to_owned)
            .or_else(|| {
                PLACES
                    .iter()
                    .map(|place| Path::new(place).join(name))
                    .find(|path| path.exists())
            })
    };
    NAMES.iter().filter_map(find).collect()
}

/// The facts about each object of `paths` with the images in `cache_dir`.
pub fn doctor(paths: &[PathBuf], cache_dir: &Path) -> Vec<Fact> {
    paths.iter().map(|path| examine(path, cache_dir)).collect()
}

fn examine(object: &Path, cache_dir: &Path) -> Fact {
    let mut fact = Fact {
        object: object.to_owned(),
        build_id: None,
        image: None,
        trouble: None,
        sites_found: 0,
        sites_before: 0,
        sites_carried: 0,
        left: Vec::new(),
    };
    if let Err(error) = fill(&mut fact, cache_dir) {
        fact.trouble = Some(error.to_string());
    }
    fact
}

fn fill(fact: &mut Fact, cache_dir: &Path) -> Result<(), SitesError> {
    let file = fs::read(&fact.object).map_err(|source| SitesError::Io {
        path: fact.object.clone(),
        source,
    })?;
    let id = Elf::parse(&file)?
        .build_id()
        .ok_or(SitesError::NoBuildId)?
        .to_vec();
    fact.build_id = Some(cache::hex(&id));
    let built = image::build(&file)?;
    fact.sites_found = built.footer.sites_found;
    fact.sites_before = built.footer.sites_before;
    fact.sites_carried = built.footer.sites_carried;
    fact.left = built.left;
    cache::check_owner(cache_dir)?;
    let path = cache::image_path(cache_dir, &id);
    cache::read_verified(&path)?;
    fact.image = Some(path);
    Ok(())
}
