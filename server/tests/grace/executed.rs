//! A file that is executed is kept from writers over kills and power cuts.

use super::*;

#[test]
fn a_file_that_is_executed_is_kept_from_writers_over_a_kill_though_nobody_has_told_yet() {
    for shards in [1, 3] {
        let mut field = Field::new(shards, 1);
        assert!(field.is_writable());
        field.executes();
        assert!(!field.is_writable());
        field.restart(false);
        assert!(!field.is_writable(), "{shards}");
        field.restart(false);
        field.executes();
        field.all_told();
        assert!(!field.is_writable());
        field.close();
        assert!(field.is_writable());
    }
}

#[test]
fn a_file_is_executed_no_more_if_its_session_tells_so_after_a_kill() {
    let mut field = Field::new(3, 1);
    field.executes();
    field.restart(false);
    // The close could not be said.
    field.all_told();
    field.cluster.pass(SECOND);
    assert!(field.is_writable());
}

#[test]
fn writers_wait_after_a_power_cut_until_everybody_has_told_what_is_executed() {
    let mut lost = 0;
    for seed in 0..20 {
        let mut field = Field::new(1 + seed as u32 % 2 * 2, seed);
        field.executes();
        field.restart(true);
        field.rival_begins_to_write();
        if let Some(answer) = field.rival_after(5) {
            assert_eq!(answer, OpReply::Errno(Errno::ETXTBSY), "{seed}");
            continue;
        }
        lost += 1;
        field.executes();
        field.all_told();
        let busy = Some(OpReply::Errno(Errno::ETXTBSY));
        assert_eq!(field.rival_after(2), busy, "{seed}");
    }
    assert!(lost > 0);
}
