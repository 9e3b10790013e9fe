//! Exit codes, signals, and the end of a child, without a terminal.

use std::fs;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use super::stage::{
    Report, Running, await_end, await_pending, await_stop, owner, pid, script, signal,
};

fn start(command: &[String], mode: &str, report: &Report) -> Running {
    Running::start(&mut owner(command, mode, report))
}

/// The exit code of an owner whose child runs `command`.
fn code_of(command: &[String]) -> i32 {
    start(command, "wait", &Report::new()).code()
}

#[test]
fn the_childs_exit_code_is_passed_on() {
    for code in [0, 1, 75, 255] {
        assert_eq!(code_of(&script(&format!("exit {code}"))), code);
    }
}

#[test]
fn death_by_a_signal_is_128_and_its_number() {
    for (signal, code) in [("KILL", 137), ("TERM", 143), ("INT", 130), ("SEGV", 139)] {
        assert_eq!(code_of(&script(&format!("ulimit -c 0; kill -{signal} $$"))), code);
    }
}

#[test]
fn a_command_that_does_not_exist_is_127() {
    assert_eq!(code_of(&["/nonexistent/command".to_owned()]), 127);
    assert_eq!(code_of(&["tenure-no-such-command".to_owned()]), 127);
}

#[test]
fn a_command_that_cannot_be_executed_is_126() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("data");
    fs::write(&file, "not a program").unwrap();
    assert_eq!(code_of(&[file.to_str().unwrap().to_owned()]), 126);
    assert_eq!(code_of(&[folder.path().to_str().unwrap().to_owned()]), 126);
}

#[test]
fn the_child_has_the_added_environment_and_the_inherited_one() {
    let mut report = Report::new();
    let text = r#"echo "$TENURE_TEST_ADDED $INHERITED" >"$REPORT""#;
    let mut command = owner(&script(text), "wait", &report);
    let mut running = Running::start(command.env("INHERITED", "inherited"));
    assert_eq!(report.line(), "added inherited");
    assert_eq!(running.code(), 0);
}

#[test]
fn forwarded_signals_reach_grandchildren() {
    for (signal, name) in [
        (Signal::INT, "INT"),
        (Signal::TERM, "TERM"),
        (Signal::HUP, "HUP"),
        (Signal::QUIT, "QUIT"),
        (Signal::USR1, "USR1"),
        (Signal::USR2, "USR2"),
    ] {
        let mut report = Report::new();
        let grandchild = format!(
            r#"trap "echo grandchild >&3; exit" {name}; echo ready >&3; while :; do sleep 0.01; done"#
        );
        let text = format!(
            r#"exec 3>"$REPORT"; trap "echo child >&3; exit 9" {name}; sh -c '{grandchild}'; echo missed >&3"#
        );
        let mut running = start(&script(&text), "wait", &report);
        assert_eq!(report.line(), "ready");
        running.signal(signal);
        assert_eq!(report.line(), "grandchild");
        assert_eq!(report.line(), "child");
        assert_eq!(running.code(), 9);
    }
}

#[test]
fn a_signal_before_the_child_exists_is_told_to_the_owner() {
    let mut report = Report::new();
    let mut running = start(&script("exit 0"), "signal-first", &report);
    assert_eq!(report.line(), "waiting");
    running.signal(Signal::HUP);
    assert_eq!(running.code(), Signal::HUP.as_raw());
}

#[test]
fn a_signal_ignored_from_the_start_stays_ignored_in_the_child() {
    let mut report = Report::new();
    let inner = owner(
        &script(r#"exec 3>"$REPORT"; kill -HUP $$; echo alive >&3; kill -TERM $$"#),
        "wait",
        &report,
    );
    let mut outer = Command::new("sh");
    outer.args(["-c", r#"trap "" HUP; exec "$0" "$@""#]).arg(inner.get_program());
    outer.args(inner.get_args()).stdin(Stdio::null());
    outer.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut running = Running::start(&mut outer);
    assert_eq!(report.line(), "alive");
    assert_eq!(running.code(), 143);
}

#[test]
fn a_child_that_ignores_term_is_killed_after_the_grace() {
    let mut report = Report::new();
    let text = r#"exec 3>"$REPORT"; trap "echo refused >&3" TERM; echo ready >&3; while :; do sleep 0.01; done"#;
    let mut running = start(&script(text), "end", &report);
    assert_eq!(report.line(), "ready");
    running.signal(Signal::USR1);
    assert_eq!(report.line(), "refused");
    running.signal(Signal::USR1);
    assert_eq!(running.code(), 137);
    report.closed();
}

#[test]
fn a_child_that_obeys_term_is_not_killed() {
    let mut report = Report::new();
    let text =
        r#"exec 3>"$REPORT"; trap "exit 4" TERM; echo ready >&3; while :; do sleep 0.01; done"#;
    let mut running = start(&script(text), "end-without-kill", &report);
    assert_eq!(report.line(), "ready");
    running.signal(Signal::USR1);
    assert_eq!(running.code(), 4);
    report.closed();
}

#[test]
fn grandchildren_are_killed_when_an_ended_child_leaves_them() {
    let mut report = Report::new();
    let text =
        r#"exec 3>"$REPORT"; (trap "" TERM; echo ready >&3; while :; do sleep 0.01; done) & wait"#;
    let mut running = start(&script(text), "end-without-kill", &report);
    assert_eq!(report.line(), "ready");
    running.signal(Signal::USR1);
    assert_eq!(running.code(), 143);
    report.closed();
}

#[test]
fn grandchildren_are_left_alone_when_the_child_ends_by_itself() {
    let mut report = Report::new();
    let gate = report.gate();
    let text = r#"exec 3>"$REPORT"; (read line <"$GATE"; echo "alive $line" >&3) & echo ready >&3; exit 6"#;
    let mut command = owner(&script(text), "wait", &report);
    let mut running = Running::start(command.env("GATE", &gate));
    assert_eq!(report.line(), "ready");
    assert_eq!(running.code(), 6);
    fs::write(gate, "and well\n").unwrap();
    assert_eq!(report.line(), "alive and well");
    report.closed();
}

#[test]
fn a_stopped_child_can_be_ended() {
    let mut report = Report::new();
    let text = r#"exec 3>"$REPORT"; echo $$ >&3; kill -STOP $$; echo resumed >&3"#;
    let mut running = start(&script(text), "end-without-kill", &report);
    await_stop(pid(&report.line()));
    running.signal(Signal::USR1);
    assert_eq!(running.code(), 143);
    report.closed();
}

#[test]
fn a_child_frozen_by_somebody_else_stays_so_until_continued_and_we_stay_awake() {
    let mut report = Report::new();
    let text = r#"exec 3>"$REPORT"; trap "echo told >&3" USR2; echo $$ >&3; kill -STOP $$; echo resumed >&3"#;
    let mut running = start(&script(text), "wait", &report);
    let child = pid(&report.line());
    await_stop(child);
    running.signal(Signal::USR2);
    await_pending(child, Signal::USR2);
    running.signal(Signal::CONT);
    assert_eq!(report.line(), "told");
    assert_eq!(report.line(), "resumed");
    assert_eq!(running.code(), 0);
}

#[test]
fn the_child_dies_with_an_owner_that_is_killed() {
    let mut report = Report::new();
    let text = r#"exec 3>"$REPORT"; echo $$ >&3; exec sleep 60"#;
    let mut running = start(&script(text), "wait", &report);
    let child = pid(&report.line());
    running.signal(Signal::KILL);
    assert_eq!(running.status().code(), None);
    await_end(child);
    report.closed();
}

#[test]
fn a_child_killed_from_outside_is_reported() {
    let mut report = Report::new();
    let text = r#"exec 3>"$REPORT"; echo $$ >&3; exec sleep 60"#;
    let mut running = start(&script(text), "wait", &report);
    signal(pid(&report.line()), Signal::KILL);
    assert_eq!(running.code(), 137);
}
