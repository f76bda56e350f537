use super::*;

/// Clears the screen, sets the title, hides, forges a line, turns the text round, and both once more
/// with C1 controls.
const HOSTILE: &str = "a\u{1b}[2J\u{1b}]0;t\u{7}\u{8}b\r\nusage 0\u{202e}c\u{9b}2Jd\u{7f}\u{2066}e";

fn is_harmless(text: &str) -> bool {
    !text.contains(is_acted_on)
}

#[test]
fn what_a_terminal_would_act_on_is_shown_instead() {
    let shown = line(HOSTILE);
    assert!(is_harmless(&shown), "{shown:?}");
    assert_eq!(
        shown,
        r"a\u{1b}[2J\u{1b}]0;t\u{7}\u{8}b\r\nusage 0\u{202e}c\u{9b}2Jd\u{7f}\u{2066}e"
    );
    assert_eq!(line("grüße, 日本 👩‍🚀"), "grüße, 日本 👩‍🚀");
}

#[test]
fn every_control_and_override_there_is_counts() {
    let all = (0..=0x1f).chain(0x7f..=0x9f);
    let all = all.chain(0x202a..=0x202e).chain(0x2066..=0x2069);
    for letter in all.filter_map(char::from_u32) {
        let text = format!("<{letter}>");
        assert!(is_harmless(&line(&text)), "{text:?}");
        assert!(
            is_harmless(&log(&text, true).replace('\t', " ")),
            "{text:?}"
        );
        assert!(
            is_harmless(&guarded(&text, |_| false).replace(['\n', '\t'], " ")),
            "{text:?}"
        );
    }
}

#[test]
fn lines_of_others_do_not_begin_where_ours_do() {
    assert_eq!(
        block("it broke\nerror: no\n\tat x\u{1b}[1A\n"),
        "it broke\n  error: no\n  \tat x\\u{1b}[1A"
    );
}

#[test]
fn json_on_a_terminal_is_the_same_value() {
    let text = "{\n  \"a\": \"\u{9b}2J \u{202e}\u{7f} \\u001b é\"\n}";
    let shown = json(text);
    assert!(is_harmless(&shown.replace('\n', " ")), "{shown:?}");
    let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
    assert_eq!(value(&shown), value(text));
}

#[test]
fn a_log_keeps_its_colours_and_nothing_else() {
    assert_eq!(log("plain\ttext\r", true), "plain\ttext");
    let line = "\u{1b}[1;38;5;8mred\u{1b}[2K\u{1b}[m \u{1b}[3";
    assert_eq!(
        log(line, true),
        "\u{1b}[1;38;5;8mred\\u{1b}[2K\u{1b}[m \\u{1b}[3\u{1b}[0m"
    );
    assert_eq!(log(line, false), "red\\u{1b}[2K \\u{1b}[3");
    assert_eq!(log("10 %\r20 %", true), "10 %\\r20 %");
}

#[test]
fn of_colours_only_ours_pass_where_a_text_was_forgotten() {
    let ours = |color: &str| matches!(color, "\u{1b}[32m" | "\u{1b}[0m");
    let said = "\u{1b}[32mgood\u{1b}[0m\n\u{1b}[31mforged\u{1b}[1A\r";
    assert_eq!(
        guarded(said, ours),
        "\u{1b}[32mgood\u{1b}[0m\n\\u{1b}[31mforged\\u{1b}[1A\\r"
    );
}

#[test]
fn letters_that_are_cut_in_two_are_put_together() {
    let text = "grüße \u{1b}[2J 日本\n";
    for size in 1..text.len() {
        let mut pieces = Pieces::default();
        let mut shown = String::new();
        for piece in text.as_bytes().chunks(size) {
            shown.push_str(&pieces.next(piece));
        }
        shown.push_str(&pieces.finish());
        assert_eq!(shown, "grüße \\u{1b}[2J 日本\n", "in pieces of {size}");
    }
    let mut pieces = Pieces::default();
    assert_eq!(pieces.next(b"\xff\xfeok\xe6"), "\u{fffd}\u{fffd}ok");
    assert_eq!(pieces.finish(), "\u{fffd}");
}
