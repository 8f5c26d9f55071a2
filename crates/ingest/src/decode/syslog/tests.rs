//! Messages as RFCs, daemons and devices write them.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::decode::{
    BodyFormat,
    testing::{Decoded, RECEIVED_NANOS, decoded},
};

const SYSLOG: BodyFormat<'static> = BodyFormat::Syslog { offset_secs: 0 };

fn read_line(line: &str) -> Decoded {
    decoded(SYSLOG, line)
}

/// Time of the only event.
fn time_of(event: &Decoded) -> Option<String> {
    let nanos = event.only("time_unix_nano")?.parse().unwrap();
    let time = chrono::DateTime::from_timestamp_nanos(nanos);
    Some(time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
}

/// Service, host, time and message of the event in `line`.
fn parts(line: &str) -> [Option<String>; 4] {
    let event = read_line(line);
    [event.only("service"), event.only("host"), time_of(&event), event.only("message")]
}

fn some<const N: usize>(values: [&str; N]) -> [Option<String>; N] {
    values.map(|value| (!value.is_empty()).then(|| value.to_owned()))
}

fn attributes(line: &str) -> Value {
    read_line(line).attributes().remove(0)
}

#[test]
fn the_examples_of_rfc_5424_are_read() {
    let bom = '\u{feff}';
    let su = format!(
        "<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - {bom}'su root' failed for lonvick on /dev/pts/8"
    );
    let message = "'su root' failed for lonvick on /dev/pts/8";
    assert_eq!(
        parts(&su),
        some(["su", "mymachine.example.com", "2003-10-11T22:14:15.003Z", message])
    );
    let event = read_line(&su);
    assert_eq!(event.only("level").as_deref(), Some("ERROR"));
    assert_eq!(event.only("severity_number").as_deref(), Some("18"));
    assert_eq!(attributes(&su), json!({"syslog.facility": "auth", "syslog.msgid": "ID47"}));

    let with_offset = "<165>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 myproc 8710 - - %% It's time to make the do-nuts.";
    assert_eq!(
        parts(with_offset),
        some([
            "myproc",
            "192.0.2.1",
            "2003-08-24T12:14:15.000003Z",
            "%% It's time to make the do-nuts."
        ])
    );
    assert_eq!(
        attributes(with_offset),
        json!({"syslog.facility": "local4", "syslog.procid": "8710"})
    );

    let data = r#"<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 [exampleSDID@32473 iut="3" eventSource="Application" eventID="1011"][examplePriority@32473 class="high"]"#;
    assert_eq!(
        attributes(data),
        json!({
            "syslog.facility": "local4", "syslog.msgid": "ID47",
            "exampleSDID@32473.iut": "3", "exampleSDID@32473.eventSource": "Application",
            "exampleSDID@32473.eventID": "1011", "examplePriority@32473.class": "high",
        })
    );
    assert_eq!(read_line(data).only("message"), None);
    let of_rsyslog = "<157>1 2026-11-25T02:06:17.503163+00:00 vm new 7 - -  two words";
    assert_eq!(read_line(of_rsyslog).only("message").as_deref(), Some("two words"));
    let event = read_line("<0>1 - - - - - -");
    assert_eq!(event.only("level").as_deref(), Some("FATAL"));
    assert_eq!(event.only("time_unix_nano"), Some(RECEIVED_NANOS.to_string()));
    assert_eq!(event.only("message"), None);
}

#[test]
fn structured_data_keeps_escapes_repeats_and_empty_elements() {
    let line = r#"<13>1 - - - - - [a@1 q="x \"y\" \\ \] \n ]" ip="1" ip="2"][empty@1] m"#;
    assert_eq!(
        attributes(line),
        json!({
            "syslog.facility": "user", "a@1.q": "x \"y\" \\ ] \\n ]", "a@1.ip": ["1", "2"],
            "empty@1": {},
        })
    );
    assert_eq!(read_line(line).only("message").as_deref(), Some("m"));
}

#[test]
fn structured_data_that_is_broken_is_part_of_the_message_and_said_to_be() {
    for (data, reason) in [
        ("[a", "structured data: expected `name=\"value\"` or `]`, found \"\""),
        ("[a b=\"c] m", "structured data: expected a closing quote, found \"c] m\""),
        ("[a b=\"c\\", "structured data: expected a closing quote, found \"c\\\\\""),
        ("[] m", "structured data: expected an element's id of 1 to 32 bytes, found \"] m\""),
        ("[a]m", "structured data: expected a space or `[` after it, found \"m\""),
        ("m n", "structured data: expected `-` or `[`, found \"m n\""),
    ] {
        let line = format!("<13>1 - host app - - {data}");
        let event = read_line(&line);
        assert_eq!(event.only("message").as_deref(), Some(data));
        assert_eq!(event.only("host").as_deref(), Some("host"));
        assert_eq!(event.attributes()[0]["syslog.malformed"], reason);
    }
}

#[test]
fn the_dialects_of_rfc_3164_are_read() {
    // Received on 14 November 2023 at 22:13:20.
    for (line, expected) in [
        (
            "<34>Oct 11 22:14:15 mymachine su: 'su root' failed",
            ["su", "mymachine", "2023-10-11T22:14:15Z", "'su root' failed"],
        ),
        ("<13>Nov  1 01:02:03 cron[7]: run", ["cron", "", "2023-11-01T01:02:03Z", "run"]),
        ("<13>Nov 1 1:02:03 h cron[7] run", ["cron", "h", "2023-11-01T01:02:03Z", "run"]),
        ("<13>Dec 24 01:02:03 h a: m", ["a", "h", "2022-12-24T01:02:03Z", "m"]),
        ("<13>Nov 15 22:13:20 h a: ahead", ["a", "h", "2023-11-15T22:13:20Z", "ahead"]),
        ("<13>Nov 15 22:13:21 h a: old", ["a", "h", "2022-11-15T22:13:21Z", "old"]),
        ("<13>Feb 29 00:00:00 h a: leap", ["a", "h", "2020-02-29T00:00:00Z", "leap"]),
        (
            "<13>Oct 11 2022 22:14:15 asa : %ASA-6: m",
            ["unknown_service", "asa", "2022-10-11T22:14:15Z", ": %ASA-6: m"],
        ),
        ("<13>Oct 11 22:14:15 2022 h a: m", ["a", "h", "2022-10-11T22:14:15Z", "m"]),
        (
            "<13>2023-10-11T22:14:15.123456+02:00 h a[1]: m",
            ["a", "h", "2023-10-11T20:14:15.123456Z", "m"],
        ),
        ("<13>2023-10-11 22:14:15 h a: m", ["a", "h", "2023-10-11T22:14:15Z", "m"]),
        (
            "<189>42: *Oct 11 22:14:15.003 UTC: %SYS-5-CONFIG_I: Configured",
            ["%SYS-5-CONFIG_I", "", "2023-10-11T22:14:15.003Z", "Configured"],
        ),
        ("<13>su: m", ["su", "", "2023-11-14T22:13:20Z", "m"]),
        ("<13>just words", ["unknown_service", "", "2023-11-14T22:13:20Z", "just words"]),
        (
            "<13>1 bottle of beer",
            ["unknown_service", "", "2023-11-14T22:13:20Z", "1 bottle of beer"],
        ),
        ("<192>x: m", ["unknown_service", "", "2023-11-14T22:13:20Z", "<192>x: m"]),
        ("<13>", ["unknown_service", "", "2023-11-14T22:13:20Z", ""]),
        ("Oct 11 22:14:15 h a[7]: m", ["a", "h", "2023-10-11T22:14:15Z", "m"]),
        ("error: not a tag", ["unknown_service", "", "2023-11-14T22:13:20Z", "error: not a tag"]),
        (
            "<13>Oct 11 22:14:15 fe80::1%eth0 a: m",
            ["a", "fe80::1%eth0", "2023-10-11T22:14:15Z", "m"],
        ),
        (
            "<13>Oct 11 22:14:15 h CEF:0|Vendor|Product|1.0|100|x|9|src=1.2.3.4",
            [
                "unknown_service",
                "h",
                "2023-10-11T22:14:15Z",
                "CEF:0|Vendor|Product|1.0|100|x|9|src=1.2.3.4",
            ],
        ),
        (
            "<13>Oct 32 22:14:15 h a: m",
            ["unknown_service", "", "2023-11-14T22:13:20Z", "Oct 32 22:14:15 h a: m"],
        ),
    ] {
        let mut found = parts(line);
        // An empty message is one all the same.
        found[3] = found[3].take().filter(|message| !message.is_empty());
        assert_eq!(found, some(expected), "{line}");
    }
}

#[test]
fn process_sequence_and_facility_are_attributes() {
    assert_eq!(
        attributes("<189>42: *Oct 11 22:14:15: a[7]: m"),
        json!({"syslog.facility": "local7", "syslog.sequence": "42", "syslog.procid": "7"})
    );
    assert_eq!(read_line("Oct 11 22:14:15 h a: m").only("attributes"), None);
}

#[test]
fn a_message_without_a_priority_has_no_level() {
    let event = read_line("Oct 11 22:14:15 h a: m");
    assert_eq!((event.only("level"), event.only("severity_number")), (None, None));
}

#[test]
fn every_severity_has_its_number() {
    let number =
        |severity: u8| read_line(&format!("<{}>m", 8 + severity)).only("severity_number").unwrap();
    let numbers: Vec<String> = (0..8).map(number).collect();
    assert_eq!(numbers, ["21", "19", "18", "17", "13", "10", "9", "5"]);
}

#[test]
fn local_times_are_read_by_the_configured_offset() {
    let berlin = BodyFormat::Syslog { offset_secs: 3600 };
    for (line, time) in [
        ("<13>Oct 11 22:14:15 h a: m", "2023-10-11T21:14:15Z"),
        ("<13>2023-10-11T22:14:15 h a: m", "2023-10-11T21:14:15Z"),
        ("<13>2023-10-11T22:14:15Z h a: m", "2023-10-11T22:14:15Z"),
        ("<13>2023-10-11T22:14:15-01:00 h a: m", "2023-10-11T23:14:15Z"),
        ("<13>Oct 11 22:14:15 GMT: a: m", "2023-10-11T22:14:15Z"),
        ("<13>1 2023-10-11T22:14:15Z h a - - - m", "2023-10-11T22:14:15Z"),
    ] {
        assert_eq!(time_of(&decoded(berlin, line)).as_deref(), Some(time), "{line}");
    }
}

#[test]
fn bytes_that_are_not_utf8_are_latin_1() {
    let message = |line: &[u8]| decoded(SYSLOG, line).only("message").unwrap();
    assert_eq!(message(b"<13>app: caf\xe9\0\r\n"), "café");
    // A sender that counts bytes cuts characters in two; the others are still UTF-8.
    assert_eq!(message(b"<13>app: caf\xc3\xa9 \xe2\x82"), "café â\u{82}");
}

#[test]
fn a_message_that_is_too_long_is_rejected() {
    let line = |length: usize| decoded(SYSLOG, vec![b'x'; length]);
    assert_eq!(line(MAX_MESSAGE_BYTES).events.num_rows(), 1);
    let reason = "message: expected at most 65536 bytes, found more";
    assert_eq!(line(MAX_MESSAGE_BYTES + 1).faults, [(0, reason.to_owned())]);
}

#[test]
fn what_was_received_keeps_its_bytes_and_names_its_sender() {
    let mut body = Vec::new();
    for (sender, message) in [
        ("192.0.2.1", "<13>Oct 11 22:14:15 named a: one\ntwo"),
        ("192.0.2.1", "<13>a: m"),
        ("2001:db8::1", "<13>1 - - a - - - m"),
    ] {
        received::push(&mut body, sender.parse().unwrap(), message.as_bytes());
    }
    let events = decoded(BodyFormat::SyslogReceived { offset_secs: 0 }, &body);
    let column = |name| events.column(name).into_iter().flatten().collect::<Vec<_>>();
    assert_eq!(column("host"), ["named", "192.0.2.1", "2001:db8::1"]);
    assert_eq!(column("client_ip"), ["192.0.2.1", "192.0.2.1", "2001:db8::1"]);
    assert_eq!(column("message"), ["one\ntwo", "m", "m"]);
}

fn param_text() -> impl Strategy<Value = String> {
    "\\PC{0,10}|[\\x01-\\x7f]{0,6}"
}

/// A value escaped as RFC 5424 §6.3.3 asks.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace(']', "\\]")
}

proptest! {
    #[test]
    fn any_rfc_5424_message_reads_back(
        (priority, nanos) in (0..192_u8, 0..i64::MAX / 2),
        (host, app) in ("[!-,.-~]{1,20}", "[!-,.-~]{1,20}"),
        (process, id) in ("[!-,.-~]{1,10}", "[!-,.-~]{1,10}"),
        params in proptest::collection::vec(("[a-z]{1,3}@[0-9]", "[a-z]{1,3}", param_text()), 0..4),
        message in param_text(),
    ) {
        let time = chrono::DateTime::from_timestamp_nanos(nanos);
        let time = time.to_rfc3339_opts(chrono::SecondsFormat::Nanos, true);
        let data: String = params
            .iter()
            .map(|(element, name, value)| format!(r#"[{element} {name}="{}"]"#, escaped(value)))
            .collect();
        let data = if data.is_empty() { "-" } else { &data };
        let text = format!("<{priority}>1 {time} {host} {app} {process} {id} {data} {message}");
        let mut body = Vec::new();
        received::push(&mut body, "::1".parse().unwrap(), text.as_bytes());
        let event = decoded(BodyFormat::SyslogReceived { offset_secs: 0 }, &body);
        prop_assert_eq!(event.only("time_unix_nano"), Some(nanos.to_string()));
        let message = message.strip_prefix(['\u{feff}', ' ']).unwrap_or(&message);
        for (column, value) in [("host", host.as_str()), ("service", &app), ("message", message)] {
            let found = event.only(column);
            prop_assert_eq!(found.as_deref(), Some(value), "{}", column);
        }
        let attributes = event.attributes().remove(0);
        prop_assert_eq!(&attributes["syslog.procid"], &json!(process));
        prop_assert_eq!(&attributes["syslog.msgid"], &json!(id));
        for (element, name, _) in &params {
            let same = params.iter().filter(|param| (&param.0, &param.1) == (element, name));
            let values: Vec<&str> = same.map(|param| param.2.as_str()).collect();
            let found = &attributes[format!("{element}.{name}")];
            match values[..] {
                [value] => prop_assert_eq!(found, &json!(value)),
                _ => prop_assert_eq!(found, &json!(values)),
            }
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic_or_lose_a_message(
        messages in proptest::collection::vec(
            proptest::collection::vec(prop_oneof![
                "<[0-9]{1,4}>|1 |- |\\[a b=\"|\"|\\\\|\\]|[A-Z][a-z]{2} {1,2}[0-9]{1,2} |[0-9]{1,2}:[0-9]{2}:[0-9]{2}|[.][0-9]{0,12}| [0-9]{4}|[0-9]{4}-[0-9]{2}-[0-9]{2}[T ]|[+-][0-9]{2}:[0-9]{2}|: |[a-z]{1,4}|é|\n".prop_map(String::into_bytes),
                proptest::collection::vec(any::<u8>(), 0..4),
            ], 0..10).prop_map(|pieces| pieces.concat()),
            0..4,
        ),
    ) {
        let mut body = Vec::new();
        for message in &messages {
            received::push(&mut body, "192.0.2.1".parse().unwrap(), message);
        }
        let events = decoded(BodyFormat::SyslogReceived { offset_secs: -3600 }, &body);
        prop_assert_eq!(events.events.num_rows(), messages.len());
        let _ = crate::decode::testing::try_decoded(BodyFormat::SyslogReceived { offset_secs: 0 }, &messages.concat());
    }
}
