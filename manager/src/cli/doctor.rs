//! `sealfs doctor`: what works on this machine, and why something does not.

use super::cluster::ManagerArg;
use super::node::NodePlace;
use super::{DEGRADED, Fail, coverage, keeper, layers, mount, print, print_json, programs};
use clap::Args;
use sealfs_protocol::manager::{ManagerReply, ManagerRequest};
use serde::Serialize;
use std::fmt::Write;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sealfs doctor
  sealfs doctor --manager tcp://10.0.0.1:7420 --json

Exit code 3: something does not work; the line says what to do.")]
pub struct Doctor {
    #[command(flatten)]
    manager: ManagerArg,
    /// Mount prefix to look at
    #[arg(
        long,
        env = "SEALFS_MOUNT",
        value_name = "PATH",
        default_value = "/sealfs"
    )]
    mount: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How it stands with one thing.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Good,
    /// Not there, and not needed by everybody.
    Absent,
    Bad,
}

#[derive(Serialize)]
struct Finding {
    what: String,
    verdict: Verdict,
    text: String,
}

fn finding(what: impl Into<String>, verdict: Verdict, text: impl Into<String>) -> Finding {
    Finding {
        what: what.into(),
        verdict,
        text: text.into(),
    }
}

impl Finding {
    fn of<T>(what: &str, outcome: Result<T, Fail>, text: impl FnOnce(T) -> String) -> Finding {
        match outcome {
            Ok(value) => finding(what, Verdict::Good, text(value)),
            Err(fail) => finding(what, Verdict::Bad, fail.text),
        }
    }
}

pub fn run(args: Doctor) -> Result<u8, Fail> {
    let mut findings = vec![
        Finding::of("library", programs::library(), |path| {
            path.display().to_string()
        }),
        finding(
            "layer 1",
            Verdict::Good,
            "symbols: calls of dynamically linked programs through the PLT",
        ),
    ];
    findings.extend(libc_layers());
    findings.push(finding(
        "layer 3",
        Verdict::Absent,
        "system calls in objects other than libc and ld.so are not seen by this version",
    ));
    findings.push(supervision());
    findings.extend(node());
    findings.push(Finding::of("mount", mount::check(&args.mount), |prefix| {
        format!("{prefix} does not exist in the kernel, as it should be")
    }));
    findings.extend(cluster(&args.manager));
    if args.json {
        print_json(&findings)?;
    } else {
        print(&table(&findings))?;
    }
    let bad = findings.iter().any(|f| f.verdict == Verdict::Bad);
    Ok(if bad { DEGRADED } else { 0 })
}

/// Whether programs that the library cannot reach can be supervised.
fn supervision() -> Finding {
    match coverage::supervisor() {
        Ok(program) => finding(
            "layer 4",
            Verdict::Good,
            format!(
                "{}: static, Go and musl programs are supervised",
                program.display()
            ),
        ),
        Err(fail) => finding(
            "layer 4",
            Verdict::Absent,
            format!(
                "static, Go and musl programs do not see a mount: {}",
                fail.text
            ),
        ),
    }
}

/// One finding for each object with patched system calls.
fn libc_layers() -> Vec<Finding> {
    let dir = layers::cache_dir();
    let prepared = layers::prepare(&dir);
    let facts = sealfs_sites::doctor(&sealfs_sites::system_objects(), &dir);
    let mut findings: Vec<Finding> = Vec::new();
    for fact in facts {
        let name = fact
            .object
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        let what = format!("layer 2, {name}");
        if let Some(trouble) = fact.trouble {
            findings.push(finding(
                what,
                Verdict::Bad,
                format!("{}: {trouble}", fact.object.display()),
            ));
            continue;
        }
        let covered = fact.sites_before + fact.sites_carried;
        let mut text = format!("{covered} of {} system calls covered", fact.sites_found);
        for (address, why) in &fact.left {
            // Writing to a String cannot fail.
            let _ = write!(text, "; {address:#x} left: {}", why.text());
        }
        if let Some(image) = fact.image {
            let _ = write!(text, " ({})", image.display());
        }
        findings.push(finding(what, Verdict::Good, text));
    }
    match prepared {
        Err(fail) => findings.push(finding("layer 2", Verdict::Bad, fail.text)),
        Ok(()) if findings.is_empty() => {
            let text = "no libc.so.6 found where programs of this machine look for it";
            findings.push(finding("layer 2", Verdict::Bad, text));
        }
        Ok(()) => {}
    }
    findings
}

fn node() -> Vec<Finding> {
    let program = Finding::of("keeper", programs::beside("sealfs-keeper"), |path| {
        format!("{}: started when it is needed", path.display())
    });
    let place = match NodePlace::find() {
        Ok(place) => place,
        Err(fail) => return vec![finding("arena", Verdict::Bad, fail.text), program],
    };
    let arena = finding("arena", Verdict::Good, format!("{}, a tmpfs", place.path()));
    match keeper::pid() {
        Some(pid) if program.verdict == Verdict::Good => {
            vec![
                arena,
                finding("keeper", Verdict::Good, format!("runs (process {pid})")),
            ]
        }
        _ => vec![arena, program],
    }
}

fn cluster(manager: &ManagerArg) -> Vec<Finding> {
    let state = match manager.state() {
        Ok(state) => state,
        // Nobody promised that one listens at the default address.
        Err(fail) if manager.manager.is_none() => {
            return vec![finding("manager", Verdict::Absent, fail.text)];
        }
        Err(fail) => return vec![finding("manager", Verdict::Bad, fail.text)],
    };
    let volumes = state.volumes.len();
    let text = format!("ring version {}, volumes: {volumes}", state.ring.version.0);
    let mut findings = vec![finding("manager", Verdict::Good, text)];
    if let Ok(ManagerReply::Servers(servers, _)) = manager.ask(&ManagerRequest::Servers) {
        for server in servers {
            let addresses = server.addresses.join(" ");
            findings.push(if server.healthy {
                finding(server.name, Verdict::Good, addresses)
            } else {
                let text = format!("{addresses}: not heard of lately: look at the server's log");
                finding(server.name, Verdict::Bad, text)
            });
        }
    }
    findings
}

fn table(findings: &[Finding]) -> String {
    let width = findings.iter().map(|f| f.what.len()).max().unwrap_or(0);
    let line = |f: &Finding| {
        let mark = match f.verdict {
            Verdict::Good => "good  ",
            Verdict::Absent => "absent",
            Verdict::Bad => "BAD   ",
        };
        format!("{mark}  {:width$}  {}\n", f.what, f.text)
    };
    findings.iter().map(line).collect()
}
