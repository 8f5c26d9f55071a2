//! The inner loop of reading and writing JSON strings.

const ONES: u64 = u64::MAX / 0xff;
const HIGH_BITS: u64 = ONES << 7;

/// Position, from `start` on, of the first byte that cannot stand in a JSON string for itself: a
/// quote, a backslash or a control character. The length of `bytes` when there is none.
///
/// Eight bytes at a time: a byte is zero exactly if subtracting 1 sets its high bit and it was not
/// set before. Borrows disturb only bytes after the first match.
#[inline]
pub(crate) fn plain_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start;
    while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*chunk);
        let zero_if_quote = word ^ (ONES * b'"' as u64);
        let zero_if_backslash = word ^ (ONES * b'\\' as u64);
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        let quote = zero_if_quote.wrapping_sub(ONES) & !zero_if_quote;
        let backslash = zero_if_backslash.wrapping_sub(ONES) & !zero_if_backslash;
        let found = (control | quote | backslash) & HIGH_BITS;
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().position(|byte| !is_plain(*byte)).unwrap_or(rest.len())
}

fn is_plain(byte: u8) -> bool {
    byte >= b' ' && byte != b'"' && byte != b'\\'
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_fast_scan_stops_where_a_slow_one_does(bytes in proptest::collection::vec(any::<u8>(), 0..64), start in 0_usize..64) {
            let slow = (start..bytes.len()).find(|at| !is_plain(bytes[*at])).unwrap_or(bytes.len().max(start));
            prop_assert_eq!(plain_end(&bytes, start), slow);
        }
    }
}
