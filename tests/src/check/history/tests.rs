//! Histories made by hand, right and wrong.
use super::text::parse;
use super::*;

fn judge(text: &str) -> Result<Summary, String> {
    check_history(text.as_bytes())
}

fn complaint(text: &str) -> String {
    judge(text).expect_err("a broken history must be refused")
}

#[test]
fn a_history_that_could_have_been_is_accepted() {
    let summary = judge(
        "initial-zeroes # and a remark
         write 1 8 5*8
         read 2 8 2      # while the write is under way: either
         ok 2 z 5
         ok 1
         flush 3
         ok 3
         write 4 8 6*8
         power-loss
         lost 4
         read 5 8 8
         ok 5 6 5*7
         trim 6 15 1
         ok 6
         read 7 15 1
         ok 7 5",
    );
    let expected = Summary {
        requests: 7,
        answered: 6,
        sectors_read: 11,
        power_losses: 1,
    };
    assert_eq!(summary, Ok(expected));
}

#[test]
fn a_lost_acknowledged_write_is_refused_with_its_line() {
    let text = "write 1 0 5\nok 1\nread 2 0 1\nok 2 i\n";
    assert!(
        complaint(text).starts_with("line 4: sector 0"),
        "{}",
        complaint(text)
    );
}

#[test]
fn a_value_that_reverts_is_refused() {
    complaint("write 1 0 5\nok 1\nwrite 2 0 6\nread 3 0 1\nok 3 6\nread 4 0 1\nok 4 5");
}

#[test]
fn a_flushed_write_that_a_power_loss_takes_is_refused() {
    let lost = |flush: &str| format!("write 1 0 5\nok 1\n{flush}power-loss\nread 3 0 1\nok 3 i\n");
    assert!(judge(&lost("")).is_ok());
    assert!(judge(&lost("flush 2\n")).is_ok());
    complaint(&lost("flush 2\nok 2\n"));
    complaint("write 1 0 5 fua\nok 1\npower-loss\nread 3 0 1\nok 3 i\n");
}

#[test]
fn what_nobody_wrote_is_refused() {
    complaint("read 1 0 1\nok 1 7");
    complaint("read 1 0 1\nok 1 ?");
    complaint("read 1 0 1\nok 1 z");
    complaint("write 1 0 5\nok 1\nread 2 1 1\nok 2 5");
}

#[test]
fn an_answered_zeroing_hides_what_was_there_and_an_answered_discard_may() {
    let then_five = |verb: &str| {
        judge(&format!(
            "write 1 0 5\nok 1\n{verb} 2 0 1\nok 2\nread 3 0 1\nok 3 5"
        ))
    };
    assert!(then_five("zero").is_err());
    assert!(then_five("trim").is_ok());
}

#[test]
fn lines_that_make_no_sense_are_refused() {
    for text in [
        "wriet 1 0 5",
        "write 1 0",
        "write 1 0 z",
        "write 1 x 5",
        "read 1 0 1 fua",
        "ok 1",
        "lost 1",
        "flush 1\nflush 1",
        "read 1 0 2\nok 1 i",
        "flush 1\nok 1 i",
        "read 1 0 99999999999",
        "read 1 18446744073709551615 2",
        "write 1 0 5*99999999999",
        "write 1 0 5\nok 1\nwrite 2 0 5",
    ] {
        complaint(text);
    }
}

#[test]
fn what_is_written_is_read_back() {
    let text = "write 1 0 5*2 6 fua|zero 2 3 4|zero 2 3 4 fua|trim 3 0 1|read 4 0 9|flush 5|\
                ok 4 i*3 z ? 8*4|ok 5|lost 1|power-loss|initial-zeroes";
    for line in text.split('|') {
        let event = parse(line).expect("a good line").expect("an event");
        assert_eq!(event.to_string(), line);
    }
}
