//! Log lines of a daemon: time, level, text, on standard error.
//!
//! What must stay true: a log that cannot be written (full disk, closed pipe) loses lines and
//! nothing else.

use std::io::Write;
use std::time::SystemTime;

/// Starts logging at `SEALFS_LOG` (off, error, warn, info, debug; default info).
pub fn start() {
    let level = std::env::var("SEALFS_LOG")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(log::LevelFilter::Info);
    let logger = fern::Dispatch::new()
        .format(|out, message, record| {
            let now = humantime::format_rfc3339_millis(SystemTime::now());
            out.finish(format_args!("{now} {:5} {message}", record.level()));
        })
        .level(level)
        .chain(Box::new(Lossy) as Box<dyn Write + Send>);
    // A second start keeps the first logger, which is as good.
    let _ = logger.apply();
}

/// Standard error, with failures ignored.
struct Lossy;

impl Write for Lossy {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let _ = std::io::stderr().write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
