//! Text for people: durations, times, and strings that came from elsewhere.

use std::fmt::Write as _;
use std::time::Duration;

use tenure::{Micros, Utc};
use unicode_width::UnicodeWidthStr;

/// A duration in its two largest units: `250ms`, `4.2s`, `1m 30s`, `2d 3h`.
pub(crate) fn duration(d: Duration) -> String {
    const UNITS: [(u64, &str); 3] = [(86_400, "d"), (3_600, "h"), (60, "m")];
    let seconds = d.as_secs();
    if seconds == 0 {
        return format!("{}ms", d.as_millis());
    }
    if seconds < 10 {
        let tenths = d.subsec_millis() / 100;
        return if tenths == 0 { format!("{seconds}s") } else { format!("{seconds}.{tenths}s") };
    }
    for (at, (size, unit)) in UNITS.iter().enumerate() {
        if *size <= seconds {
            let (next, next_unit) = UNITS.get(at + 1).unwrap_or(&(1, "s"));
            let rest = seconds % size / next;
            let whole = format!("{}{unit}", seconds / size);
            return if rest == 0 { whole } else { format!("{whole} {rest}{next_unit}") };
        }
    }
    format!("{seconds}s")
}

/// A time of the store in UTC, in whole seconds, and without the date if that is today's.
pub(crate) fn time_of_day(at: Micros, now: Micros) -> String {
    let (at, now) = (Utc(at).to_string(), Utc(now).to_string());
    match at.split_once('.') {
        Some((seconds, _)) => match seconds.split_once('T') {
            Some((day, time)) if now.starts_with(day) => format!("{time}Z"),
            _ => format!("{seconds}Z"),
        },
        None => at,
    }
}

/// Shows text that others wrote: what would move the cursor, or turn the direction of writing,
/// becomes visible.
pub(crate) fn safe(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || is_invisible(c) {
            write!(shown, "{}", c.escape_unicode()).expect("a string takes everything");
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Zero-width characters and marks of direction: they make one text look like another.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

/// How many columns the text takes.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// At most `columns` columns of the text.
pub(crate) fn shortened(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut short = String::new();
    for c in text.chars() {
        short.push(c);
        if columns <= width(&short) {
            short.pop();
            break;
        }
    }
    short.push('…');
    short
}

/// `1 waiter`, `2 waiters`.
pub(crate) fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        for (millis, text) in [
            (0, "0ms"),
            (250, "250ms"),
            (1_000, "1s"),
            (4_250, "4.2s"),
            (30_900, "30s"),
            (60_000, "1m"),
            (90_000, "1m 30s"),
            (3_600_000, "1h"),
            (9_000_000, "2h 30m"),
            (86_400_000 * 2 + 3_600_000 * 3, "2d 3h"),
        ] {
            assert_eq!(duration(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn the_date_of_today_is_left_out() {
        let (midnight, hour) = (1_709_164_800_000_000, 3_600_000_000);
        let now = Micros(midnight + 12 * hour + 789_000);
        assert_eq!(time_of_day(now, now), "12:00:00Z");
        assert_eq!(time_of_day(Micros(midnight), now), "00:00:00Z");
        assert_eq!(time_of_day(Micros(midnight + 24 * hour), now), "2024-03-01T00:00:00Z");
        assert_eq!(time_of_day(Micros(u64::MAX), now), "the end of time");
    }

    #[test]
    fn what_others_wrote_cannot_play_tricks() {
        assert_eq!(safe("a\u{1b}[2Jb\u{9b}"), "a\\u{1b}[2Jb\\u{9b}");
        assert_eq!(safe("abc\u{202e}fed"), "abc\\u{202e}fed");
        assert_eq!(safe("größe 漢字 🎉"), "größe 漢字 🎉");
    }

    #[test]
    fn long_text_is_cut_by_columns() {
        assert_eq!(shortened("abc", 3), "abc");
        assert_eq!(shortened("abcd", 3), "ab…");
        assert_eq!(shortened("漢字漢字", 5), "漢字…");
    }
}
