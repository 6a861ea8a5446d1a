//! Locks over kills and power cuts: kept, lost with the holder told, or given back for good.

use super::*;

#[test]
fn a_lock_is_nobody_elses_after_a_power_cut_until_its_holder_has_closed_the_file() {
    let (mut kept, mut lost) = (0, 0);
    for seed in 0..40 {
        let mut field = Field::new(1 + seed as u32 % 2 * 2, seed);
        let mark = field.holder_locks(LockType::Write);
        field.restart(true);
        field.rival_begins(false);
        assert_eq!(
            field.rival_after(20),
            None,
            "{seed}: the holder has not told yet"
        );
        match field.reassert(Some(mark)) {
            OpReply::Done => kept += 1,
            OpReply::Errno(Errno::EIO) => lost += 1,
            other => panic!("{other:?}"),
        }
        field.all_told();
        let refused = Some(OpReply::Errno(Errno::EAGAIN));
        assert_eq!(field.rival_after(5), refused, "{seed}");
        field.rival_begins(true);
        assert_eq!(field.rival_after(5), None, "{seed}");
        field.close();
        assert_eq!(field.rival_after(5), Some(OpReply::Done), "{seed}");
    }
    assert!(kept > 0 && lost > 0, "{kept} locks kept, {lost} lost");
}

#[test]
fn a_lock_that_was_flushed_is_kept_over_a_power_cut_and_works_on() {
    let mut field = Field::new(3, 1);
    let mark = field.holder_locks(LockType::Write);
    field.sync();
    field.restart(true);
    assert_eq!(field.reassert(Some(mark)), OpReply::Done);
    field.all_told();
    field.rival_begins(true);
    assert_eq!(field.rival_after(5), None);
    field.holder_locks(LockType::Unlock);
    assert_eq!(field.rival_after(5), Some(OpReply::Done));
}

#[test]
fn a_lock_that_was_given_back_does_not_return_with_a_power_cut() {
    for seed in 0..20 {
        let mut field = Field::new(1 + seed as u32 % 2 * 2, seed);
        field.holder_locks(LockType::Write);
        field.sync();
        field.holder_locks(LockType::Unlock);
        field.close();
        field.restart(true);
        field.all_told();
        field.rival_begins(false);
        assert_eq!(field.rival_after(5), Some(OpReply::Done), "{seed}");
    }
}

#[test]
fn a_wait_for_a_lock_outlives_the_grace_and_ends_with_the_holders_lease() {
    let mut field = Field::new(3, 1);
    field.holder_locks(LockType::Write);
    field.restart(true);
    field.rival_begins(true);
    assert_eq!(field.rival_after(5), None);
    let mut got = None;
    for _ in 0..2_000 {
        field.cluster.pass(SECOND / 100);
        got = got.or(field.rival.poll(&mut field.cluster));
    }
    assert_eq!(got.map(|o| o.reply), Some(OpReply::Done));
}

#[test]
fn locks_rest_on_in_the_next_life_if_a_server_is_killed_before_all_have_told() {
    let mut field = Field::new(3, 1);
    let mark = field.holder_locks(LockType::Write);
    field.restart(true);
    field.cluster.pass(SECOND);
    field.restart(false);
    field.rival_begins(false);
    assert_eq!(field.rival_after(15), None);
    field.reassert(Some(mark));
    field.all_told();
    assert_eq!(field.rival_after(5), Some(OpReply::Errno(Errno::EAGAIN)));
    // And not in the one after that.
    field.restart(false);
    field.rival_begins(false);
    assert!(field.rival_after(2).is_some());
}
