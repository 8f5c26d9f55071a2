//! Native JSON: an object, an array of objects, or an object on each line.

use thalweg_event::{
    envelope,
    json::{Cursor, Malformed},
};

use super::{Sink, Unreadable, lines};

/// Reads an array element by element; a body that begins with an object is that object alone if
/// it spans lines, and one object on each line otherwise.
pub(super) fn decode(body: &[u8], sink: &mut Sink<'_>) -> Result<(), Unreadable> {
    let body = body.trim_ascii();
    match body.first() {
        Some(b'[') => decode_array(body, sink),
        Some(b'{') if spans_lines(body) => {
            sink.record(body, |row| envelope::decode(lines::utf8(body)?, row));
            Ok(())
        }
        Some(b'{') => {
            decode_lines(body, sink);
            Ok(())
        }
        found => {
            let found = found.map_or("nothing".into(), |byte| format!("`{}`", byte.escape_ascii()));
            Err(Unreadable(format!(
                "body: expected a JSON object or an array of objects, found {found}"
            )))
        }
    }
}

pub(super) fn decode_lines(body: &[u8], sink: &mut Sink<'_>) {
    lines::decode(body, sink, envelope::decode);
}

fn decode_array(body: &[u8], sink: &mut Sink<'_>) -> Result<(), Unreadable> {
    let text = lines::utf8(body).map_err(|fault| Unreadable(fault.0))?;
    let malformed = |malformed: Malformed| Unreadable(format!("body: {malformed}"));
    let mut cursor = Cursor::new(text);
    let mut goes_on = cursor.open_array().map_err(malformed)?;
    while goes_on {
        let element = cursor.value().map_err(malformed)?.raw();
        sink.record(element.as_bytes(), |row| envelope::decode(element, row));
        goes_on = cursor.next_element().map_err(malformed)?;
    }
    cursor.end().map_err(malformed)
}

/// Whether `body` is one document on several lines, and not one on each.
fn spans_lines(body: &[u8]) -> bool {
    let Some(newline) = memchr::memchr(b'\n', body) else { return false };
    let first_line = body[..newline].trim_ascii();
    first_line == b"{" || !is_document(first_line) && is_document(body)
}

fn is_document(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| {
        let mut cursor = Cursor::new(text);
        cursor.value().and_then(|_| cursor.end()).is_ok()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use crate::decode::{
        BodyFormat,
        testing::{decoded, try_decoded},
    };

    fn event(message: &str) -> String {
        json!({"service": "shop", "message": message}).to_string()
    }

    fn messages(body: &str) -> Vec<Option<String>> {
        decoded(BodyFormat::Json, body).column("message")
    }

    #[test]
    fn an_object_an_array_and_lines_give_the_same_events() {
        let (a, b) = (event("a"), event("b"));
        let pretty = a.replace(',', ",\n  ").replace('{', "{\n");
        assert_eq!(messages(&a), [Some("a".into())]);
        assert_eq!(messages(&pretty), [Some("a".into())]);
        let both = [Some("a".into()), Some("b".into())];
        assert_eq!(messages(&format!(" [{a} ,\n{b}]\n")), both);
        assert_eq!(messages(&format!("{a}\n\n{b}\r\n")), both);
        assert_eq!(messages("[]"), []);
    }

    #[test]
    fn a_bad_line_or_element_is_rejected_and_the_rest_kept() {
        let (a, b) = (event("a"), event("b"));
        let lines = decoded(BodyFormat::Json, format!("{a}\n{{\"x\": \n{b}"));
        assert_eq!(lines.column("message"), [Some("a".into()), Some("b".into())]);
        let reason = "record: expected a JSON value at byte 6, found the end";
        assert_eq!(lines.faults, [(1, reason.to_owned())]);
        assert_eq!(lines.originals(), [b"{\"x\": "]);

        let array = decoded(BodyFormat::Json, format!("[{a}, 7, {b}]"));
        assert_eq!(array.column("message"), [Some("a".into()), Some("b".into())]);
        assert_eq!(array.faults[0].0, 1);
        assert_eq!(array.originals(), [b"7"]);
    }

    #[test]
    fn a_broken_object_on_several_lines_is_one_rejected_record() {
        let decoded = decoded(BodyFormat::Json, "{\n \"service\": \"a\",\n \"message\": }\n");
        assert_eq!(decoded.faults.len(), 1);
        assert!(decoded.faults[0].1.contains("expected a JSON value"), "{:?}", decoded.faults);
    }

    #[test]
    fn a_broken_array_or_another_kind_of_body_is_unreadable() {
        for (body, reason) in [
            ("[{}, ", "body: expected a JSON value at byte 4, found the end"),
            ("[{}] x", "body: expected the end at byte 5, found 'x'"),
            ("", "body: expected a JSON object or an array of objects, found nothing"),
            ("\"a\"", "body: expected a JSON object or an array of objects, found `\\\"`"),
        ] {
            let error = try_decoded(BodyFormat::Json, body.as_bytes()).unwrap_err();
            assert_eq!(error.0, reason);
        }
    }

    #[test]
    fn too_deep_nesting_is_rejected() {
        let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
        let body = format!(r#"{{"service":"a","message":"m","x":{deep}}}"#);
        let decoded = decoded(BodyFormat::Ndjson, body);
        assert!(decoded.faults[0].1.contains("64 levels"), "{:?}", decoded.faults);
    }

    fn value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<i32>().prop_map(|eighths| (f64::from(eighths) / 8.0).into()),
            "\\PC*|[\\x00-\\x7f]*".prop_map(serde_json::Value::String),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::Array),
                prop::collection::btree_map("\\PC{0,6}", inner, 0..4)
                    .prop_map(|members| members.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_a_sender_wrote_reads_back(
            message in "\\PC*|[\\x00-\\x7f]*",
            nanos in 0..i64::MAX,
            attributes in prop::collection::btree_map("[a-z\\PC]{1,8}", value(), 0..5),
        ) {
            let event = json!({
                "timestamp": chrono::DateTime::from_timestamp_nanos(nanos).to_rfc3339(),
                "service": "shop", "message": message, "metadata": attributes,
            });
            for body in [event.to_string(), format!("[{event:#}]")] {
                let decoded = decoded(BodyFormat::Json, body);
                prop_assert_eq!(decoded.only("message").unwrap(), message.clone());
                prop_assert_eq!(decoded.only("time_unix_nano").unwrap(), nanos.to_string());
                prop_assert_eq!(&decoded.attributes()[0], &json!(attributes));
            }
        }
    }
}
