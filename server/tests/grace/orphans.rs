//! A file without a name stays until every session that lives has told that it has it open no more.

use super::*;

#[test]
fn an_orphan_waits_for_every_live_session_however_long_that_takes() {
    for shards in [1, 3] {
        let mut field = Field::new(shards, 1);
        field.unlink();
        field.restart(false);
        field.live_on(40);
        assert!(field.exists(), "{shards}: its keeper was cut off, not dead");
        assert!(field.is_awaited());
        assert_eq!(field.reassert(None), OpReply::Done);
        field.all_told();
        assert!(!field.is_awaited());
        field.live_on(20);
        assert!(field.exists(), "it is open");
        field.close();
        field.cluster.pass(SECOND);
        assert!(!field.exists());
    }
}

#[test]
fn an_orphan_goes_when_the_last_awaited_session_has_ended_or_told_of_others() {
    for tells in [false, true] {
        let mut field = Field::new(3, 1);
        field.unlink();
        field.restart(false);
        field.live_on(15);
        assert!(field.exists());
        if tells {
            field.all_told();
            field.cluster.pass(SECOND);
        } else {
            field.cluster.pass(14 * SECOND);
        }
        assert!(!field.exists(), "tells: {tells}");
    }
}

#[test]
fn an_orphan_waits_though_ends_of_an_earlier_life_are_carried_out_at_the_start() {
    for shards in [1, 3] {
        let mut field = Field::new(shards, 1);
        // One whose home is the shard that is restarted: it takes the end up again.
        let partitions = field.cluster.ring().partitions();
        let here = |s: SessionId| field.cluster.owner(hash::session_home(s, partitions));
        let session = (100..1_000)
            .map(SessionId)
            .find(|s| here(*s) == field.shard);
        let session = session.expect("numbers do not end");
        let home = hash::session_home(session, partitions);
        assert_eq!(field.tell(home, Op::EndSession { session }), OpReply::Done);
        field.unlink();
        field.restart(false);
        field.cluster.pass(SECOND);
        assert!(field.exists(), "{shards}");
    }
}

#[test]
fn an_orphan_waits_for_a_home_that_is_down() {
    let mut field = Field::new(3, 1);
    field.unlink();
    let home = field.cluster.owner(field.home);
    field.cluster.kill(home);
    field.restart(false);
    field.cluster.pass(30 * SECOND);
    assert!(field.exists(), "nobody knows whether the session lives");
    field.cluster.start(home);
    field.live_on(15);
    assert!(field.exists(), "it does");
    field.cluster.pass(15 * SECOND);
    assert!(!field.exists());
}
