//! Job control, on a pseudo-terminal whose session a shell leads.

use std::fs;

use rustix::process::Signal;

use super::screen::Screen;
use super::stage::{Report, is_stopped, pid, script, signal};

/// Reads a line from the terminal and shows it.
const READS: &str = r#"echo ready; read line; echo "got:$line""#;

/// Reports its number and its owner's and waits at the gate; tells when it is continued.
///
/// No process is started meanwhile: a shell that is stopped while it starts one may hang (vfork).
const WAITS: &str = r#"trap 'echo continued' CONT; exec 3>"$REPORT" 4<>"${REPORT%/*}/gate"
echo $$ >&3; echo $PPID >&3; until read line <&4; do :; done; echo "got:$line""#;

#[test]
fn a_child_that_reads_the_terminal_is_not_stopped() {
    let (mut screen, report) = (Screen::new(), Report::new());
    let text = format!("trap 'echo continued' CONT; {READS}");
    let mut session =
        screen.session(&["sh", "-c", r#"exec "$OWNER""#], &script(&text), "wait", &report);
    screen.shows("ready");
    screen.press("hello\n");
    let before = screen.shows("got:hello");
    assert!(!before.contains("continued"), "it was stopped: {before:?}");
    assert_eq!(session.code(), 0);
}

#[test]
fn ctrl_c_reaches_the_child() {
    let (mut screen, report) = (Screen::new(), Report::new());
    let command = script("echo ready; exec sleep 60");
    let mut session = screen.session(&["sh", "-c", r#"exec "$OWNER""#], &command, "wait", &report);
    screen.shows("ready");
    screen.press("\x03");
    assert_eq!(session.code(), 130);
}

#[test]
fn the_terminal_is_given_back_at_the_end() {
    let (mut screen, report) = (Screen::new(), Report::new());
    let shell = r#""$OWNER"; echo next; read line; echo "shell:$line""#;
    let mut session = screen.session(&["sh", "-c", shell], &script(READS), "wait", &report);
    screen.shows("ready");
    screen.press("hello\n");
    screen.shows("next");
    screen.press("again\n");
    screen.shows("shell:again");
    assert_eq!(session.code(), 0);
}

#[test]
fn the_terminal_is_given_back_when_the_child_cannot_start() {
    let (mut screen, report) = (Screen::new(), Report::new());
    let command = ["/nonexistent/command".to_owned()];
    let shell = r#""$OWNER"; echo "status:$?"; read line; echo "shell:$line""#;
    let mut session = screen.session(&["sh", "-c", shell], &command, "wait", &report);
    screen.shows("status:127");
    screen.press("hello\n");
    screen.shows("shell:hello");
    assert_eq!(session.code(), 0);
}

#[test]
fn ctrl_z_stops_the_whole_job_and_fg_continues_it() {
    let (mut screen, mut report) = (Screen::new(), Report::new());
    let gate = report.gate();
    let shell = r#""$OWNER"; echo "status:$?"; fg; echo "status:$?""#;
    let mut session = screen.session(&["bash", "-mc", shell], &script(WAITS), "wait", &report);
    let child = pid(&report.line());
    assert_eq!(screen.foreground(), child);
    screen.press("\x1a");
    screen.shows("status:148");
    screen.shows("continued");
    assert_eq!(screen.foreground(), child);
    fs::write(gate, "hello\n").unwrap();
    screen.shows("got:hello");
    screen.shows("status:0");
    assert_eq!(session.code(), 0);
}

#[test]
fn a_child_whose_lock_was_lost_while_stopped_never_runs_again() {
    let (mut screen, mut report) = (Screen::new(), Report::new());
    report.gate();
    let shell = r#""$OWNER"; echo "status:$?"; fg; echo "status:$?""#;
    let mut session =
        screen.session(&["bash", "-mc", shell], &script(WAITS), "lost-while-stopped", &report);
    let child = pid(&report.line());
    let owner = pid(&report.line());
    screen.press("\x1a");
    screen.shows("status:148");
    assert_eq!(report.line(), "lost");
    assert!(is_stopped(child));
    signal(owner, Signal::USR1);
    let before = screen.shows("status:137");
    assert!(!before.contains("continued"), "it ran again: {before:?}");
    assert_eq!(session.code(), 0);
}

#[test]
fn ctrl_z_passes_without_effect_where_no_shell_could_continue_us() {
    let (mut screen, report) = (Screen::new(), Report::new());
    let text =
        r#"trap 'echo continued' CONT; echo ready; until read line; do :; done; echo "got:$line""#;
    let mut session =
        screen.session(&["sh", "-c", r#"exec "$OWNER""#], &script(text), "wait", &report);
    screen.shows("ready");
    screen.press("\x1a");
    screen.shows("continued");
    screen.press("hello\n");
    screen.shows("got:hello");
    assert_eq!(session.code(), 0);
}

#[test]
fn a_background_job_that_reads_stops_until_it_is_in_the_foreground() {
    let (mut screen, report) = (Screen::new(), Report::new());
    let shell =
        r#""$OWNER" & until jobs -s | grep -q .; do :; done; echo stopped; fg; echo "status:$?""#;
    let mut session = screen.session(&["bash", "-mc", shell], &script(READS), "wait", &report);
    screen.shows("stopped");
    screen.press("hello\n");
    screen.shows("got:hello");
    screen.shows("status:0");
    assert_eq!(session.code(), 0);
}

#[test]
fn a_pager_behind_us_keeps_the_terminal() {
    let (mut screen, report) = (Screen::new(), Report::new());
    let pager = r#"{ read line </dev/tty; echo "pager:$line"; echo go >"${REPORT%/*}/gate"; }"#;
    let command = script(r#"echo ready >&2; read line <"${REPORT%/*}/gate"; exit 0"#);
    report.gate();
    let shell = format!(r#""$OWNER" | {pager}"#);
    let mut session = screen.session(&["sh", "-c", &shell], &command, "wait", &report);
    screen.shows("ready");
    screen.press("hello\n");
    screen.shows("pager:hello");
    assert_eq!(session.code(), 0);
}

#[test]
fn a_child_in_a_pipeline_gets_the_terminal_when_it_reads() {
    let (mut screen, report) = (Screen::new(), Report::new());
    let shell = r#""$OWNER" | cat; echo "status:$?""#;
    let mut session = screen.session(&["bash", "-mc", shell], &script(READS), "wait", &report);
    screen.shows("ready");
    screen.press("hello\n");
    screen.shows("got:hello");
    screen.shows("status:0");
    assert_eq!(session.code(), 0);
}

#[test]
fn ctrl_z_stops_a_pipeline_and_fg_continues_it() {
    let (mut screen, mut report) = (Screen::new(), Report::new());
    let gate = report.gate();
    let shell = r#""$OWNER" | cat; echo "status:$?"; fg; echo "status:$?""#;
    let mut session = screen.session(&["bash", "-mc", shell], &script(WAITS), "wait", &report);
    let child = pid(&report.line());
    assert_ne!(screen.foreground(), child);
    screen.press("\x1a");
    screen.shows("status:148");
    screen.shows("continued");
    fs::write(gate, "hello\n").unwrap();
    screen.shows("got:hello");
    screen.shows("status:0");
    assert_eq!(session.code(), 0);
}

#[test]
fn a_child_that_opens_the_terminal_by_name_gets_it() {
    let (mut screen, report) = (Screen::new(), Report::new());
    let command = script(r#"echo ready; read line </dev/tty; echo "got:$line""#);
    let shell = r#""$OWNER" </dev/null; read line; echo "shell:$line""#;
    let mut session = screen.session(&["sh", "-c", shell], &command, "wait", &report);
    screen.shows("ready");
    screen.press("hello\n");
    screen.shows("got:hello");
    screen.press("again\n");
    screen.shows("shell:again");
    assert_eq!(session.code(), 0);
}

#[test]
fn a_killed_child_leaves_the_terminal_as_it_was() {
    let (mut screen, report) = (Screen::new(), Report::new());
    let command = script("stty -echo raw; echo ready; kill -KILL $$");
    let shell = r#""$OWNER"; echo "status:$?"; read line"#;
    let mut session = screen.session(&["sh", "-c", shell], &command, "wait", &report);
    screen.shows("status:137");
    assert!(screen.echoes());
    screen.press("\n");
    assert_eq!(session.code(), 0);
}
