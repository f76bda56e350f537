//! Figures and JSON as people read them.

use std::time::Duration;

use parallax_api::Time;

/// Something in bytes: `12 B`, `3.4 MiB`.
#[must_use]
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let (mut scaled, mut unit) = (count * 10 / 1024, 0);
    while scaled >= 10_240 && unit + 1 < UNITS.len() {
        scaled /= 1024;
        unit += 1;
    }
    match scaled % 10 {
        0 => format!("{} {}", scaled / 10, UNITS[unit]),
        tenths => format!("{}.{tenths} {}", scaled / 10, UNITS[unit]),
    }
}

/// A span in its two largest units: `3s`, `4m10s`, `2d3h`.
#[must_use]
pub(crate) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let pair = |large: u64, small: u64, units: (char, char)| match small {
        0 => format!("{large}{}", units.0),
        _ => format!("{large}{}{small}{}", units.0, units.1),
    };
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => pair(seconds / 60, seconds % 60, ('m', 's')),
        3600..86_400 => pair(seconds / 3600, seconds % 3600 / 60, ('h', 'm')),
        _ => pair(seconds / 86_400, seconds % 86_400 / 3600, ('d', 'h')),
    }
}

/// How long ago `time` was.
#[must_use]
pub(crate) fn age(time: Time) -> String {
    span(now().0.since(time.0))
}

/// As [`age`], in a sentence: `4m10s ago`.
#[must_use]
pub(crate) fn ago(time: Time) -> String {
    match age(time).as_str() {
        "0s" => "just now".to_owned(),
        age => format!("{age} ago"),
    }
}

/// The first line of a text. What follows, such as last lines of a log, is announced at its end.
#[must_use]
pub(crate) fn first_line(text: &str) -> &str {
    let line = text.lines().next().unwrap_or_default();
    line.trim_end_matches("; last lines:")
}

/// A time of the future or past, to the second: microseconds are for programs.
#[must_use]
pub(crate) fn when(time: Time) -> String {
    let whole = time.0.unix_micros().div_euclid(1_000_000) * 1_000_000;
    let whole = parallax_core::time::Timestamp::from_unix_micros(whole);
    Time::from(whole).to_string().replace(".000000", "")
}

/// The present, by this machine's clock.
#[must_use]
pub(crate) fn now() -> Time {
    let micros = jiff::Timestamp::now().as_microsecond();
    parallax_core::time::Timestamp::from_unix_micros(micros).into()
}

/// CPU in thousandths of a core, as `0.25` or `2`.
#[must_use]
pub(crate) fn cores(millis: u64) -> String {
    let text = format!("{}.{:03}", millis / 1000, millis % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Parts per million, as `0.8731`.
#[must_use]
pub(crate) fn ppm(ppm: u32) -> String {
    format!("{}.{:04}", ppm / 1_000_000, ppm % 1_000_000 / 100)
}

/// How many brackets of `json` are open at most, or more where texts have brackets.
fn depth_of(json: &str) -> usize {
    let (mut depth, mut most) = (0_usize, 0);
    for byte in json.bytes() {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        most = most.max(depth);
    }
    most
}

/// Deeper JSON is shown as it came: one field a line, it would be mostly indentation, growing with
/// the square of its depth.
const MOST_DEPTH: usize = 32;

/// JSON with one field a line. Works on the text, so that every number keeps its digits and every
/// object its order.
#[must_use]
pub(crate) fn indented(json: &str) -> String {
    if depth_of(json) > MOST_DEPTH {
        return json.to_owned();
    }
    let mut text = String::with_capacity(json.len() * 2);
    let mut depth = 0;
    let mut letters = json.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => {
                text.push('"');
                while let Some(inner) = letters.next() {
                    text.push(inner);
                    match inner {
                        '\\' => text.extend(letters.next()),
                        '"' => break,
                        _ => {}
                    }
                }
            }
            '{' | '[' => {
                text.push(letter);
                while letters.peek().is_some_and(|next| next.is_whitespace()) {
                    letters.next();
                }
                if let Some(close) = letters.next_if(|next| matches!(next, '}' | ']')) {
                    text.push(close);
                } else {
                    depth += 1;
                    break_line(&mut text, depth);
                }
            }
            '}' | ']' => {
                depth -= 1;
                break_line(&mut text, depth);
                text.push(letter);
            }
            ',' => {
                text.push(',');
                break_line(&mut text, depth);
            }
            ':' => text.push_str(": "),
            letter if letter.is_whitespace() => {}
            letter => text.push(letter),
        }
    }
    text
}

fn break_line(text: &mut String, depth: usize) {
    text.push('\n');
    text.extend(std::iter::repeat_n("  ", depth));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_spans_are_short() {
        assert_eq!(bytes(12), "12 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(5 << 30), "5 GiB");
        assert_eq!(span(Duration::from_secs(59)), "59s");
        assert_eq!(span(Duration::from_secs(250)), "4m10s");
        assert_eq!(span(Duration::from_secs(2 * 86_400 + 3 * 3600)), "2d3h");
        assert_eq!(ppm(873_100), "0.8731");
        assert_eq!(cores(250), "0.25");
        assert_eq!(cores(2000), "2");
        assert_eq!(first_line("exit code 1; last lines:\nfoo"), "exit code 1");
        let time = parallax_core::time::Timestamp::from_unix_micros(1_790_000_000_123_456);
        assert_eq!(when(time.into()), "2026-09-21T14:13:20Z");
    }

    #[test]
    fn indenting_changes_no_value() {
        let json = r#"{"b":12345678901234567890.10,"a":[1, {"q":"x\",{"}],"e":{ },"l":[]}"#;
        let expected = "{\n  \"b\": 12345678901234567890.10,\n  \"a\": [\n    1,\n    {\n      \"q\": \"x\\\",{\"\n    }\n  ],\n  \"e\": {},\n  \"l\": []\n}";
        assert_eq!(indented(json), expected);
    }

    #[test]
    fn deep_json_is_shown_as_it_came_and_not_as_a_square_of_blanks() {
        let deep = "[".repeat(120_000) + &"]".repeat(120_000);
        assert_eq!(indented(&deep), deep);
        let wide = format!("{}{}{}", "[".repeat(32), "0,".repeat(1000), "]".repeat(32));
        assert!(indented(&wide).len() < wide.len() * 40);
    }
}
