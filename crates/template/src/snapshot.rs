//! All that a miner knows, as bytes.
//!
//! ```text
//! "thtm" version   limits, counters
//! templates        id, count, born               in the order of birth
//! patterns         template, parameters, counts, text
//! redirects        id, into                      the oldest first
//! XXH3-64 of everything before
//! ```
//!
//! Numbers are LEB128; ids and the hash are 8 bytes, little-endian. The
//! elements of patterns are read anew from their texts.

use xxhash_rust::xxh3::xxh3_64;

use crate::config::{Config, ConfigError};
use crate::miner::Miner;
use crate::pattern::Pattern;
use crate::sentence::Reader;

/// The version that is written and read. It changes with the format, and with
/// how messages are cut into words.
pub const SNAPSHOT_VERSION: u8 = 1;

const MAGIC: &[u8; 4] = b"thtm";
const CHECKSUM_BYTES: usize = 8;
/// What was counted up to here can be counted on for ever.
const MAX_COUNT: u64 = 1 << 62;

/// Why bytes are not a snapshot of a miner.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// They begin otherwise.
    #[error("not a snapshot of templates: it does not begin with \"thtm\"")]
    Foreign,
    /// They were written by another version.
    #[error("snapshot of version {0}, only version {SNAPSHOT_VERSION} can be read; mine anew")]
    Version(u8),
    /// They are not what was written.
    #[error("snapshot is cut short or altered: its checksum differs")]
    Checksum,
    /// They cannot have been written by a miner.
    #[error("snapshot is inconsistent at byte {offset}: {what}")]
    Inconsistent {
        /// Where it was noticed.
        offset: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// They hold limits out of range.
    #[error("snapshot has unusable limits: {0}")]
    Config(#[from] ConfigError),
}

impl Miner {
    /// All that it knows, to go on from later with [`restore`](Self::restore).
    ///
    /// Some 30 bytes and its text for each pattern.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        let mut out = Writer(Vec::new());
        out.0.extend_from_slice(MAGIC);
        out.0.push(SNAPSHOT_VERSION);
        out.number(self.config.max_patterns as u64);
        out.number(self.config.line_limit_bytes as u64);
        for counter in [self.lines, self.births, self.forgotten, self.templates.merges] {
            out.number(counter);
        }

        let mut templates: Vec<_> = self.templates.iter().collect();
        templates.sort_unstable_by_key(|entry| entry.born);
        out.number(templates.len() as u64);
        for entry in &templates {
            out.id(entry.id);
            out.number(entry.count);
            out.number(entry.born);
        }

        let mut patterns: Vec<&Pattern> =
            self.patterns.iter().map(|(_, pattern)| pattern).collect();
        patterns.sort_unstable_by_key(|pattern| pattern.born);
        out.number(patterns.len() as u64);
        for pattern in patterns {
            let born = self.templates.get(pattern.template).born;
            let template = templates.partition_point(|entry| entry.born < born);
            out.number(template as u64);
            out.number(pattern.parameters as u64);
            out.number((pattern.parameters >> 64) as u64);
            for number in [pattern.count, pattern.last_line, pattern.born] {
                out.number(number);
            }
            out.number(u64::from(pattern.is_cut));
            out.number(pattern.text.len() as u64);
            out.0.extend_from_slice(pattern.text.as_bytes());
        }

        let redirects = self.templates.redirects();
        out.number(redirects.len() as u64);
        for (id, into) in redirects {
            out.id(id);
            out.id(into);
        }
        let checksum = xxh3_64(&out.0);
        out.id(checksum);
        out.0
    }

    /// A miner that goes on where the one went that wrote the snapshot: from
    /// now on both do the same.
    ///
    /// # Errors
    /// When the bytes are no snapshot, one of another version, or damaged.
    pub fn restore(snapshot: &[u8]) -> Result<Self, SnapshotError> {
        let body = snapshot.strip_prefix(MAGIC).ok_or(SnapshotError::Foreign)?;
        match body.first() {
            Some(&SNAPSHOT_VERSION) => {}
            Some(&version) => return Err(SnapshotError::Version(version)),
            None => return Err(SnapshotError::Checksum),
        }
        let (content, checksum) =
            snapshot.split_last_chunk::<CHECKSUM_BYTES>().ok_or(SnapshotError::Checksum)?;
        if xxh3_64(content) != u64::from_le_bytes(*checksum) {
            return Err(SnapshotError::Checksum);
        }
        let mut input = Input { content, offset: MAGIC.len() + 1 };
        let config = Config { max_patterns: input.size()?, line_limit_bytes: input.size()? };
        let mut miner = Self::new(config)?;
        miner.lines = input.number()?;
        miner.births = input.number()?;
        miner.forgotten = input.number()?;
        let merges = input.number()?;
        if [miner.lines, miner.births, miner.forgotten, merges].iter().any(|&n| n > MAX_COUNT) {
            return Err(input.inconsistent("a count that cannot be"));
        }
        let templates = read_templates(&mut input, &mut miner)?;
        read_patterns(&mut input, &mut miner, &templates)?;
        if miner.templates.iter().any(|entry| entry.patterns.is_empty()) {
            return Err(input.inconsistent("a template without patterns"));
        }
        read_redirects(&mut input, &mut miner)?;
        miner.templates.merges = merges;
        if input.offset != content.len() {
            return Err(input.inconsistent("more bytes than expected"));
        }
        Ok(miner)
    }
}

fn read_templates(input: &mut Input<'_>, miner: &mut Miner) -> Result<Vec<u32>, SnapshotError> {
    let count = input.size()?;
    if count > miner.config.max_patterns {
        return Err(input.inconsistent("more templates than its limit"));
    }
    let mut templates = Vec::with_capacity(count);
    let (mut lines, mut last_born) = (0_u64, 0);
    for _ in 0..count {
        let id = input.id()?;
        if miner.templates.with_id(id).is_some() {
            return Err(input.inconsistent("two templates of one id"));
        }
        let count = input.number()?;
        lines = lines.saturating_add(count);
        if lines > miner.lines {
            return Err(input.inconsistent("templates of more lines than there were"));
        }
        let born = input.birth(last_born, miner.births)?;
        last_born = born;
        let at = miner.templates.insert(id, born);
        miner.templates.get_mut(at).count = count;
        templates.push(at);
    }
    Ok(templates)
}

fn read_patterns(
    input: &mut Input<'_>,
    miner: &mut Miner,
    templates: &[u32],
) -> Result<(), SnapshotError> {
    let count = input.size()?;
    if count > miner.config.max_patterns {
        return Err(input.inconsistent("more patterns than its limit"));
    }
    let mut reader = Reader::default();
    let mut last_born = 0;
    for _ in 0..count {
        let template = input.size()?;
        let template = *templates
            .get(template)
            .ok_or_else(|| input.inconsistent("a pattern of a template that is not there"))?;
        let parameters = u128::from(input.number()?) | u128::from(input.number()?) << 64;
        let (count, last_line) = (input.number()?, input.number()?);
        if count.max(last_line) > miner.lines {
            return Err(input.inconsistent("a pattern of more lines than there were"));
        }
        let born = input.birth(last_born, miner.births)?;
        last_born = born;
        let is_cut = input.number()? != 0;
        let length = input.size()?;
        if length > miner.config.line_limit_bytes {
            return Err(input.inconsistent("a pattern longer than its limit"));
        }
        let text = std::str::from_utf8(input.bytes(length)?)
            .map_err(|_| input.inconsistent("a pattern that is not UTF-8"))?;
        let elements: Box<[_]> = reader.read(text, is_cut).into();
        if parameters.checked_shr(elements.len() as u32).is_some_and(|beyond| beyond != 0) {
            return Err(input.inconsistent("parameters beyond the end of a pattern"));
        }
        let text = text.into();
        let pattern =
            Pattern { text, is_cut, elements, parameters, template, count, last_line, born };
        let home = miner.templates.home(pattern.canonical());
        if home.is_some_and(|home| home != template) {
            return Err(input.inconsistent("one pattern of two templates"));
        }
        if miner.patterns.with_key(pattern.key()).is_some() {
            return Err(input.inconsistent("a pattern that is there twice"));
        }
        if !miner.patterns.has_room_for(pattern.elements.len(), parameters) {
            return Err(input.inconsistent("too many sets of parameters"));
        }
        miner.settle(pattern);
    }
    Ok(())
}

fn read_redirects(input: &mut Input<'_>, miner: &mut Miner) -> Result<(), SnapshotError> {
    for _ in 0..input.size()? {
        let (id, into) = (input.id()?, input.id()?);
        // A chain of redirects has to end. The last link of a circle is refused here.
        if miner.templates.with_id(id).is_some()
            || miner.templates.resolve(into) == id
            || miner.templates.resolve(id) != id
        {
            return Err(input.inconsistent("a redirect that leads nowhere"));
        }
        miner.templates.redirect(id, into);
    }
    Ok(())
}

struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn id(&mut self, id: u64) {
        self.0.extend_from_slice(&id.to_le_bytes());
    }
}

struct Input<'a> {
    content: &'a [u8],
    offset: usize,
}

impl<'a> Input<'a> {
    fn inconsistent(&self, what: &'static str) -> SnapshotError {
        SnapshotError::Inconsistent { offset: self.offset, what }
    }

    fn bytes(&mut self, length: usize) -> Result<&'a [u8], SnapshotError> {
        let bytes = self
            .content
            .get(self.offset..)
            .and_then(|rest| rest.get(..length))
            .ok_or_else(|| self.inconsistent("fewer bytes than expected"))?;
        self.offset += length;
        Ok(bytes)
    }

    fn number(&mut self) -> Result<u64, SnapshotError> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let &[byte] = self.bytes(1)? else { break };
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(self.inconsistent("a number of more than 64 bits"))
    }

    fn size(&mut self) -> Result<usize, SnapshotError> {
        let number = self.number()?;
        usize::try_from(number).map_err(|_| self.inconsistent("a size beyond memory"))
    }

    /// When something was born: after the one before it.
    fn birth(&mut self, last: u64, births: u64) -> Result<u64, SnapshotError> {
        let born = self.number()?;
        if born <= last || born > births {
            return Err(self.inconsistent("a birth out of order"));
        }
        Ok(born)
    }

    fn id(&mut self) -> Result<u64, SnapshotError> {
        let bytes = self.bytes(8)?;
        Ok(bytes.iter().rev().fold(0, |id, &byte| id << 8 | u64::from(byte)))
    }
}
