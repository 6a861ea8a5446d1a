//! `sealfs cat`.

use super::remote::BUFFER_BYTES;
use super::{Links, Where, for_each};
use clap::Args;
use std::ffi::OsString;
use std::io::Write;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sealfs cat /sealfs/log/today
  sealfs cat home:/a home:/b | sort")]
pub struct Cat {
    /// Files, as /sealfs/… or VOLUME:/…
    #[arg(required = true)]
    paths: Vec<OsString>,
    #[command(flatten)]
    place: Where,
}

pub fn cat(args: &Cat) -> u8 {
    let mut links = Links::default();
    let mut buffer = vec![0; BUFFER_BYTES];
    for_each(&args.paths, |typed| {
        let (remote, path) = args.place.connect(typed, &mut links)?;
        let mut file = remote.open_read(&path)?;
        loop {
            let n = file.read(&mut buffer)?;
            if n == 0 {
                return Ok(());
            }
            let mut out = std::io::stdout().lock();
            match out.write_all(&buffer[..n]).and_then(|()| out.flush()) {
                Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
                written => written.map_err(|e| format!("standard output: {e}"))?,
            }
        }
    })
}
