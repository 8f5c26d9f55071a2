//! The few English words that say something about their neighbours.

const LONGEST: usize = 12;

/// Calls `known` with the word in lower case.
#[inline]
fn lowered(word: &[u8], known: impl Fn(&[u8]) -> bool) -> bool {
    let mut buffer = [0; LONGEST];
    let Some(lower) = buffer.get_mut(..word.len()) else { return false };
    lower.copy_from_slice(word);
    lower.make_ascii_lowercase();
    known(lower)
}

/// Whether a word after a number belongs to it: a unit, a time zone, a half of the day.
pub(crate) fn completes_a_number(word: &[u8]) -> bool {
    lowered(word, |word| {
        matches!(
            word,
            b"b" | b"byte"
                | b"bytes"
                | b"kb"
                | b"mb"
                | b"gb"
                | b"tb"
                | b"kib"
                | b"mib"
                | b"gib"
                | b"tib"
                | b"kbytes"
                | b"mbytes"
                | b"bit"
                | b"bits"
                | b"kbps"
                | b"mbps"
                | b"gbps"
                | b"ns"
                | b"us"
                | b"ms"
                | b"msec"
                | b"msecs"
                | b"s"
                | b"sec"
                | b"secs"
                | b"second"
                | b"seconds"
                | b"millis"
                | b"milliseconds"
                | b"microseconds"
                | b"nanoseconds"
                | b"min"
                | b"mins"
                | b"minute"
                | b"minutes"
                | b"h"
                | b"hour"
                | b"hours"
                | b"d"
                | b"day"
                | b"days"
                | b"hz"
                | b"khz"
                | b"mhz"
                | b"ghz"
                | b"percent"
                | b"celsius"
                | b"utc"
                | b"gmt"
                | b"z"
                | b"est"
                | b"edt"
                | b"cst"
                | b"cdt"
                | b"mst"
                | b"mdt"
                | b"pst"
                | b"pdt"
                | b"cet"
                | b"cest"
                | b"am"
                | b"pm"
        )
    })
}

/// Whether a word is the short name of a month or a day of the week.
pub(crate) fn is_part_of_a_date(word: &[u8]) -> bool {
    word.len() == 3
        && lowered(word, |word| {
            matches!(
                word,
                b"jan"
                    | b"feb"
                    | b"mar"
                    | b"apr"
                    | b"may"
                    | b"jun"
                    | b"jul"
                    | b"aug"
                    | b"sep"
                    | b"oct"
                    | b"nov"
                    | b"dec"
                    | b"mon"
                    | b"tue"
                    | b"wed"
                    | b"thu"
                    | b"fri"
                    | b"sat"
                    | b"sun"
            )
        })
}

/// Whether a noun is usually followed by the name of one of its kind.
pub(crate) fn introduces_a_name(word: &[u8]) -> bool {
    lowered(word, |word| matches!(word, b"user" | b"username" | b"account" | b"hostname"))
}
