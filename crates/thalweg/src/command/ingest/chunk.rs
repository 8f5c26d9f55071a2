//! Files cut into chunks at record ends.

use std::{
    collections::{HashSet, VecDeque},
    io::{BufRead, Read as _},
};

use anyhow::{Context as _, bail};
use bytes::Bytes;

/// Size at which a chunk is closed, bytes.
const CHUNK_BYTES: usize = 1 << 20;
/// Longest record, bytes; well under the server's default body limit.
const MAX_RECORD_BYTES: usize = 8 << 20;

/// Where a record ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// At each newline.
    Lines,
    /// At each newline outside double quotes (RFC 4180 §2).
    Quoted,
}

/// Whole records of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chunk {
    /// Number of the first record: the byte it starts at, plus the records skipped before it.
    pub(super) first_record: u64,
    /// Byte after the last record.
    pub(super) end: u64,
    /// Records known to be stored already, left out of `bytes`.
    pub(super) skipped: u64,
    pub(super) bytes: Bytes,
}

impl Chunk {
    /// This chunk without the records whose numbers are in `stored`, as runs of neighbours.
    pub(super) fn without(self, stored: &HashSet<u64>, framing: Framing) -> VecDeque<Self> {
        let mut runs = VecDeque::new();
        if stored.is_empty() {
            runs.push_back(self);
            return runs;
        }
        let (mut skipped, mut run_start, mut run_record, mut position) =
            (0, 0, self.first_record, 0);
        let mut number = self.first_record;
        let mut run = |start: usize, end: usize, first_record, skipped| {
            let bytes = self.bytes.slice(start..end);
            runs.push_back(Self { first_record, end: self.end, skipped, bytes });
        };
        while position < self.bytes.len() {
            let rest = &self.bytes[position..];
            let end = position + record_end(rest, framing).unwrap_or(rest.len());
            if self.bytes[position..end].trim_ascii().is_empty() {
                // Servers do not number blank lines.
                run_start = if run_start == position { end } else { run_start };
                position = end;
                continue;
            }
            if stored.contains(&number) {
                if run_start < position {
                    run(run_start, position, run_record, skipped);
                    skipped = 0;
                }
                skipped += 1;
                (run_start, run_record) = (end, number + 1);
            }
            number += 1;
            position = end;
        }
        run(run_start, position, run_record, skipped);
        // Only with the last run is the whole chunk dealt with.
        let last = runs.len() - 1;
        runs.iter_mut().take(last).for_each(|run| run.end = self.first_record);
        runs
    }
}

/// Length of the first record of `bytes` with its newline; `None` when it does not end there.
fn record_end(bytes: &[u8], framing: Framing) -> Option<usize> {
    let mut is_quoted = false;
    let end = bytes.iter().position(|byte| {
        is_quoted ^= framing == Framing::Quoted && *byte == b'"';
        *byte == b'\n' && !is_quoted
    });
    end.map(|newline| newline + 1)
}

/// The chunks of a file, from a byte position on.
pub(super) struct Chunks<R> {
    input: R,
    offset: u64,
    framing: Framing,
}

impl<R: BufRead> Chunks<R> {
    pub(super) fn new(input: R, offset: u64, framing: Framing) -> Self {
        Self { input, offset, framing }
    }

    fn read(&mut self) -> anyhow::Result<Option<Chunk>> {
        let mut bytes = Vec::new();
        while bytes.len() < CHUNK_BYTES {
            let start = self.offset + bytes.len() as u64;
            let record = append_record(&mut self.input, &mut bytes, self.framing);
            if record.with_context(|| format!("the record at byte {start} cannot be read"))? == 0 {
                break;
            }
        }
        if bytes.is_empty() {
            return Ok(None);
        }
        let first_record = self.offset;
        self.offset += bytes.len() as u64;
        Ok(Some(Chunk { first_record, end: self.offset, skipped: 0, bytes: bytes.into() }))
    }
}

/// The next record of `input`, with its newline.
pub(super) fn read_record(input: &mut impl BufRead, framing: Framing) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    append_record(input, &mut bytes, framing)?;
    Ok(bytes)
}

/// Appends the next record and returns its length, 0 at the end of the input.
fn append_record(
    input: &mut impl BufRead,
    bytes: &mut Vec<u8>,
    framing: Framing,
) -> anyhow::Result<usize> {
    let record_start = bytes.len();
    let mut is_quoted = false;
    loop {
        let line_start = bytes.len();
        let limit = MAX_RECORD_BYTES as u64 + 1;
        let read = input.by_ref().take(limit).read_until(b'\n', bytes)?;
        if framing == Framing::Quoted {
            let quotes = bytes[line_start..].iter().filter(|byte| **byte == b'"').count();
            is_quoted ^= quotes % 2 == 1;
        }
        let length = bytes.len() - record_start;
        if length > MAX_RECORD_BYTES {
            bail!(
                "it is longer than {MAX_RECORD_BYTES} bytes; is this a file of records, and in the format named?"
            );
        }
        if read == 0 || !is_quoted {
            return Ok(length);
        }
    }
}

impl<R: BufRead> Iterator for Chunks<R> {
    type Item = anyhow::Result<Chunk>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(text: &str, framing: Framing) -> Vec<Chunk> {
        Chunks::new(text.as_bytes(), 0, framing).collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn chunks_end_where_records_end_and_together_are_the_file() {
        let line = format!("{}\n", "x".repeat(999));
        let text = line.repeat(3_000) + "no newline at the end";
        let chunks = chunks(&text, Framing::Lines);
        assert_eq!(chunks.len(), 3);
        assert!(chunks[0].bytes.ends_with(b"\n") && chunks[0].bytes.len() < CHUNK_BYTES + 1000);
        assert_eq!(
            chunks.iter().map(|chunk| &chunk.bytes[..]).collect::<Vec<_>>().concat(),
            text.as_bytes()
        );
        assert_eq!(chunks[1].first_record, chunks[0].end);
    }

    #[test]
    fn a_quoted_newline_does_not_end_a_record() {
        let record = format!("1,\"{}\n{}\"\n", "a".repeat(700_000), "b".repeat(700_000));
        let chunks = chunks(&record.repeat(2), Framing::Quoted);
        assert_eq!(
            chunks.iter().map(|chunk| chunk.bytes.len()).collect::<Vec<_>>(),
            [record.len(); 2]
        );
    }

    #[test]
    fn a_record_without_end_is_an_error_not_a_full_memory() {
        let endless = std::io::BufReader::new(std::io::repeat(b'x'));
        let error = Chunks::new(endless, 0, Framing::Lines).next().unwrap().unwrap_err();
        assert!(format!("{error:#}").contains("byte 0 cannot be read: it is longer"), "{error:#}");
    }

    #[test]
    fn stored_records_are_left_out_and_the_others_keep_their_numbers() {
        let chunk =
            Chunk { first_record: 100, end: 113, skipped: 0, bytes: "a\nb\n\nc\nd\ne\nf\n".into() };
        let stored = HashSet::from([101, 102, 105]);
        let runs: Vec<_> = chunk.without(&stored, Framing::Lines).into_iter().collect();
        let run = |first_record, end, skipped, bytes: &'static str| Chunk {
            first_record,
            end,
            skipped,
            bytes: bytes.into(),
        };
        assert_eq!(
            runs,
            [run(100, 100, 0, "a\n"), run(103, 100, 2, "d\ne\n"), run(106, 113, 1, "")]
        );
    }
}
