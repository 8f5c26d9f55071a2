//! Files of the console, as they were built.

use std::io::Read as _;

use flate2::read::GzDecoder;

/// A file of the console.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asset {
    /// Path below `console/dist`.
    pub(crate) path: &'static str,
    pub(crate) content_type: &'static str,
    pub(crate) gzip: &'static [u8],
}

/// Every file that `make console` built; none when it did not run.
pub(crate) const ASSETS: &[Asset] = include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// Name of the document that all pages are.
const DOCUMENT: &str = "index.html";

impl Asset {
    /// The document that all pages are; `None` when the console was not built.
    pub(crate) fn document(assets: &[Self]) -> Option<Self> {
        assets.iter().find(|asset| asset.path == DOCUMENT).copied()
    }

    /// The files besides the document, whose names change with their content.
    pub(crate) fn hashed(assets: &[Self]) -> impl Iterator<Item = Self> {
        assets.iter().filter(|asset| asset.path != DOCUMENT).copied()
    }

    /// The file for clients that do not take gzip.
    pub(crate) fn decompressed(&self) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        GzDecoder::new(self.gzip).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The limit that the console promises, in bytes over the wire.
    const MAX_GZIP_BYTES: usize = 300 * 1000;

    #[test]
    fn the_whole_console_is_smaller_than_it_promises() {
        let bytes: usize = ASSETS.iter().map(|asset| asset.gzip.len()).sum();
        assert!(bytes <= MAX_GZIP_BYTES, "{bytes} bytes");
    }

    #[test]
    fn every_file_survives_its_compression() {
        for asset in ASSETS {
            assert!(!asset.decompressed().unwrap().is_empty(), "{}", asset.path);
        }
    }
}
