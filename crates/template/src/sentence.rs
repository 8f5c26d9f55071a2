//! Reads words in their company, so that equal messages get equal elements.

use crate::element::{Context, Element, Kind};
use crate::hash::{fold, word_key};
use crate::lexicon::{completes_a_number, introduces_a_name, is_part_of_a_date};
use crate::scan::scan;

/// How many elements a message is taken to have at most; what comes after is one value.
pub(crate) const MAX_ELEMENTS: usize = 127;

/// How many elements are left of a message that was cut: where it was cut
/// depends on the length of its values, and so do its last words.
const ELEMENTS_OF_A_CUT_MESSAGE: usize = 32;

/// How much of a message without any word tells it from others.
const PUNCTUATION_BYTES: usize = 32;

/// Reads messages; keeps its buffers between them.
#[derive(Default)]
pub(crate) struct Reader {
    words: Vec<Element>,
    elements: Vec<Element>,
    is_cut: bool,
}

impl Reader {
    /// The elements of a message: at least one, at most [`MAX_ELEMENTS`] + 1.
    ///
    /// `is_cut` says that the message went on.
    pub(crate) fn read(&mut self, text: &str, is_cut: bool) -> &[Element] {
        let text = text.as_bytes();
        self.words.clear();
        self.elements.clear();
        self.is_cut = scan(text, MAX_ELEMENTS, &mut self.words) | is_cut;
        join_names_with_numbers(text, &mut self.words);
        complete_values(text, &mut self.words);
        for word in &self.words {
            append(text, &mut self.elements, *word);
        }
        if self.elements.is_empty() {
            let punctuation = &text[..text.len().min(PUNCTUATION_BYTES)];
            let key = word_key(punctuation);
            self.elements.push(Element::constant(Kind::Word, key, 0..text.len()));
        }
        if is_cut {
            self.elements.truncate(ELEMENTS_OF_A_CUT_MESSAGE);
        }
        if self.is_cut {
            let end = self.elements.last().map_or(0, |last| last.end as usize);
            let is_blank = |byte: &&u8| byte.is_ascii_whitespace();
            let blanks = text[end..].iter().take_while(is_blank).count();
            self.elements.push(Element::value(end + blanks..text.len()));
        }
        &self.elements
    }

    /// Whether the message read last ends in a value for all that was cut off.
    pub(crate) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// The elements of the message read last.
    pub(crate) fn elements(&self) -> &[Element] {
        &self.elements
    }
}

/// Makes one name of `sshd[123]` and of `LOCAL(0)`.
fn join_names_with_numbers(text: &[u8], words: &mut Vec<Element>) {
    let mut kept = 0;
    let mut at = 0;
    while at < words.len() {
        let mut word = words[at];
        at += 1;
        if let Some((last, close)) = number_in_brackets(text, &word, &words[at..]) {
            if !word.has_value() {
                word.value_start = word.end + 1;
            }
            word.value_end = close as u32;
            word.end = close as u32 + 1;
            word.key = fold(word.key, 0x2545_f491_4f6c_dd1d);
            word.kind = Kind::Name;
            at += last + 1;
        }
        words[kept] = word;
        kept += 1;
    }
    words.truncate(kept);
}

/// Which of the words after `word` is the last in brackets that open right at
/// its end and hold values only, and where they close.
fn number_in_brackets(text: &[u8], word: &Element, rest: &[Element]) -> Option<(usize, usize)> {
    let close = match text.get(word.end as usize)? {
        b'(' => b')',
        b'[' => b']',
        _ => return None,
    };
    if !matches!(word.kind, Kind::Word | Kind::Name) {
        return None;
    }
    let first = rest.first().filter(|first| first.is_value() && first.start == word.end + 1)?;
    let mut end = first.end as usize;
    let mut last = 0;
    while let Some(next) = rest.get(last + 1).filter(|next| next.is_value()) {
        let gap = &text[end..next.start as usize];
        if !gap.iter().all(|byte| b" ,:/".contains(byte)) {
            break;
        }
        end = next.end as usize;
        last += 1;
    }
    (text.get(end) == Some(&close)).then_some((last, end))
}

/// Makes values of units after numbers and of the words in dates.
fn complete_values(text: &[u8], words: &mut [Element]) {
    for at in 0..words.len() {
        if words[at].kind != Kind::Word {
            continue;
        }
        let word = &text[words[at].span()];
        let is_after_value = at > 0 && words[at - 1].is_value();
        let is_value = (is_after_value && completes_a_number(word))
            || (is_part_of_a_date(word)
                && (is_after_value
                    || words.get(at + 1).is_some_and(|next| {
                        next.is_value()
                            || (next.kind == Kind::Word && is_part_of_a_date(&text[next.span()]))
                    })));
        if is_value {
            words[at] = Element::number(words[at].span());
        }
    }
}

/// Appends a word, or extends the last element by it: values in a row are one
/// element, and so are three or more numbered names. Two stay two, for in their
/// place other messages may have two words.
fn append(text: &[u8], elements: &mut Vec<Element>, mut word: Element) {
    if let [before @ .., last] = elements.as_mut_slice() {
        if goes_on(text, last, &word) {
            let is_list = || text[last.span()].iter().any(|byte| b" ,".contains(byte));
            if word.is_value() || is_list() {
                last.extend_to(word.end);
                return;
            }
            if let [.., first] = before
                && goes_on(text, first, last)
            {
                first.extend_to(word.end);
                elements.pop();
                return;
            }
        }
        let gap = last.end as usize..word.start as usize;
        if !word.is_value() && last.kind == Kind::Word && &text[gap] == b" " {
            let noun = &text[last.span()];
            if introduces_a_name(noun) {
                word.context = Context::Named;
            }
        }
    }
    if !word.is_value() && word.start > 0 && text[word.start as usize - 1] == b'=' {
        word.context = Context::Assigned;
    }
    elements.push(word);
}

/// Whether an element is one more of what the one before is.
fn goes_on(text: &[u8], last: &Element, next: &Element) -> bool {
    let gap = &text[last.end as usize..next.start as usize];
    last.may_repeat()
        && last.kind == next.kind
        && last.key == next.key
        && !gap.iter().any(|byte| b"()[]{}".contains(byte))
}

/// The key of a template as a whole: of its elements' keys, where one that may
/// repeat is taken as one however often it does, whatever punctuation stands between.
pub(crate) fn canonical_key(keys: impl Iterator<Item = (u64, bool)>) -> u64 {
    let mut canonical = 0x2d35_8dcc_aa6c_78a5;
    let mut last = 0;
    for (key, may_repeat) in keys {
        if key != last || !may_repeat {
            canonical = fold(canonical ^ key, 0x8bb8_4b93_962e_acc9).rotate_left(23) ^ key;
        }
        last = key;
    }
    canonical
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::WILDCARD;

    fn shape(text: &str) -> String {
        let mut reader = Reader::default();
        let elements = reader.read(text, false);
        let shown: Vec<&str> = elements
            .iter()
            .map(|element| if element.is_value() { "*" } else { &text[element.span()] })
            .collect();
        shown.join(" ")
    }

    fn keys(text: &str) -> Vec<u64> {
        let mut reader = Reader::default();
        reader.read(text, false).iter().map(|element| element.key).collect()
    }

    #[test]
    fn values_in_a_row_are_one() {
        assert_eq!(shape("ports 80, 443, 8080 open"), "ports * open");
        assert_eq!(shape("from 10.0.0.1:22 port 5"), "from * port *");
    }

    #[test]
    fn brackets_keep_values_apart() {
        assert_eq!(shape("from 10.0.0.1 (10.0.0.2) at 5"), "from * * at *");
    }

    #[test]
    fn a_unit_belongs_to_its_number() {
        assert_eq!(shape("took 5 ms"), "took *");
        assert_eq!(shape("some ms"), "some ms");
    }

    #[test]
    fn a_date_is_a_value() {
        assert_eq!(shape("at Fri Jun 17 07:07:00 2005 UTC it may rain"), "at * it may rain");
    }

    #[test]
    fn a_process_and_its_number_are_one_name() {
        assert_eq!(keys("sshd[123]: bye"), keys("sshd[77]: bye"));
        assert_ne!(keys("sshd[123]: bye"), keys("sshd: bye"));
        assert_eq!(keys("LOCAL(0)").len(), 1);
    }

    #[test]
    fn a_list_of_numbered_names_is_one_element() {
        assert_eq!(keys("lost node1, node2, node17"), keys("lost node4"));
        assert_eq!(keys("lost n1 n2 n3 n4"), keys("lost n4"));
        assert_eq!(keys("lost node1, node2").len(), 3);
    }

    #[test]
    fn words_after_an_equals_sign_or_a_noun_are_told() {
        let mut reader = Reader::default();
        let contexts: Vec<Context> = reader
            .read("for user root tty=ssh", false)
            .iter()
            .map(|element| element.context)
            .collect();
        use Context::{Assigned, Named, Plain};
        assert_eq!(contexts, [Plain, Plain, Named, Plain, Assigned]);
    }

    #[test]
    fn a_message_without_words_has_one_element() {
        assert_eq!(keys("").len(), 1);
        assert_eq!(keys("*****").len(), 1);
        assert_ne!(keys("*****"), keys("-----"));
    }

    #[test]
    fn a_message_that_was_cut_ends_in_a_value() {
        let mut reader = Reader::default();
        assert!(reader.read("half a", true).last().is_some_and(Element::is_value));
        let long = "word ".repeat(1000);
        assert_eq!(reader.read(&long, false).len(), MAX_ELEMENTS + 1);
    }

    #[test]
    fn the_canonical_key_takes_values_in_a_row_as_one() {
        let of = |keys: &[u64]| canonical_key(keys.iter().map(|&key| (key, key == WILDCARD)));
        assert_eq!(of(&[1, WILDCARD, WILDCARD, 2]), of(&[1, WILDCARD, 2]));
        assert_ne!(of(&[1, WILDCARD, 2]), of(&[2, WILDCARD, 1]));
        assert_ne!(of(&[1]), of(&[1, WILDCARD]));
        assert_ne!(of(&[1, 1]), of(&[1]));
    }
}
