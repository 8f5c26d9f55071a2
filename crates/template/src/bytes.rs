//! What a byte can be part of.

/// May stand inside a word.
pub(crate) const WORD: u8 = 1;
/// `0` to `9`.
pub(crate) const DIGIT: u8 = 2;
/// May stand in a hexadecimal number.
pub(crate) const HEX: u8 = 4;
/// A letter; bytes beyond ASCII count as letters.
pub(crate) const LETTER: u8 = 8;
/// An ASCII capital.
pub(crate) const CAPITAL: u8 = 16;

const fn classes_of(byte: u8) -> u8 {
    let mut classes = 0;
    if byte.is_ascii_digit() {
        classes |= WORD | DIGIT;
    }
    if byte.is_ascii_hexdigit() {
        classes |= HEX;
    }
    if byte.is_ascii_alphabetic() || byte >= 0x80 {
        classes |= WORD | LETTER;
    }
    if byte.is_ascii_uppercase() {
        classes |= CAPITAL;
    }
    // What holds names, numbers, paths and addresses together.
    if matches!(byte, b'_' | b'-' | b'.' | b'/' | b'@' | b'\\' | b'$' | b'~' | b'+' | b'%' | b'&') {
        classes |= WORD;
    }
    classes
}

static CLASSES: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = classes_of(byte as u8);
        byte += 1;
    }
    table
};

/// All classes of a byte, as bits.
#[inline]
pub(crate) fn classes(byte: u8) -> u8 {
    CLASSES[usize::from(byte)]
}

/// Whether a byte has one of these classes.
#[inline]
pub(crate) fn is(byte: u8, class: u8) -> bool {
    classes(byte) & class != 0
}
