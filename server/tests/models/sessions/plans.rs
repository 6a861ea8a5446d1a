//! The bounds within which sessions are checked, and what planted mistakes break.

use super::{GONE, HONEST, Mistake, Sessions};

fn sessions(pauses: u8, deaths: u8, mistake: Option<Mistake>) -> Sessions {
    Sessions {
        pauses,
        deaths,
        mistake,
    }
}

#[test]
fn a_session_that_comes_back_gets_errors() {
    crate::prove(sessions(1, crate::bound(2, 4), None));
}

#[test]
fn planted_mistakes_are_found() {
    let planted = [
        (Mistake::AsksNobody, HONEST),
        (Mistake::HomeForgets, HONEST),
        (Mistake::PushesUnflushed, HONEST),
        (Mistake::AcknowledgesUnflushed, GONE),
        (Mistake::ReleasesWithoutRefusing, HONEST),
        (Mistake::LeaseIsLost, GONE),
    ];
    for (mistake, broken) in planted {
        eprintln!("{mistake:?}");
        crate::finds(sessions(1, 2, Some(mistake)), broken);
    }
}
