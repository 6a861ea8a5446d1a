//! `sealfs completions` and `sealfs man`: made from the same definitions as the help.

use super::Fail;
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use std::path::PathBuf;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sealfs completions bash > /etc/bash_completion.d/sealfs
  sealfs completions zsh > ~/.zfunc/_sealfs")]
pub struct Completions {
    shell: Shell,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sealfs man /usr/local/share/man/man1
  sealfs man . && man -l sealfs-dev-up.1")]
pub struct Man {
    /// Write the pages into this directory
    dir: PathBuf,
}

pub fn completions(args: &Completions) -> Result<u8, Fail> {
    let mut out = Vec::new();
    clap_complete::generate(args.shell, &mut super::Cli::command(), "sealfs", &mut out);
    super::print(&String::from_utf8_lossy(&out))?;
    Ok(0)
}

pub fn man(args: &Man) -> Result<u8, Fail> {
    let fail = |e| Fail::from(format!("{}: {e}", args.dir.display()));
    clap_mangen::generate_to(super::Cli::command(), &args.dir).map_err(fail)?;
    Ok(0)
}
