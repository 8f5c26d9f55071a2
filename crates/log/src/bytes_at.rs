//! Little-endian integers at fixed positions of a header.

/// Reads integers at positions that the caller knows to lie within.
pub(crate) trait BytesAt {
    /// Four bytes at `position`.
    fn u32_at(&self, position: usize) -> u32;
    /// Eight bytes at `position`.
    fn u64_at(&self, position: usize) -> u64;
}

impl BytesAt for [u8] {
    fn u32_at(&self, position: usize) -> u32 {
        u32::from_le_bytes(*self[position..].first_chunk().expect("within the header"))
    }

    fn u64_at(&self, position: usize) -> u64 {
        u64::from_le_bytes(*self[position..].first_chunk().expect("within the header"))
    }
}
