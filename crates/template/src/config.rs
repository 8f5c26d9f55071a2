//! Limits of a miner.

/// How much a [`Miner`](crate::Miner) remembers. One configuration serves logs of every kind.
///
/// There is nothing to tune for accuracy: what counts as a parameter is worked
/// out from the messages.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// How many patterns are kept, and so at most how many templates; 16 to
    /// 100,000. A template has a pattern for each number of words it was
    /// seen with. When they are all taken, the ones seen once and then the
    /// ones not seen for longest are forgotten, an eighth at a time.
    pub max_patterns: usize,
    /// How many bytes of a message are looked at; 64 to 65,536. What comes
    /// after counts as one value.
    pub line_limit_bytes: usize,
}

impl Default for Config {
    /// 10,000 patterns of at most 4 KiB.
    fn default() -> Self {
        Self { max_patterns: 10_000, line_limit_bytes: 4096 }
    }
}

impl Config {
    /// Sets [`max_patterns`](Self::max_patterns).
    #[must_use]
    pub fn with_max_patterns(self, max_patterns: usize) -> Self {
        Self { max_patterns, ..self }
    }

    /// Sets [`line_limit_bytes`](Self::line_limit_bytes).
    #[must_use]
    pub fn with_line_limit_bytes(self, line_limit_bytes: usize) -> Self {
        Self { line_limit_bytes, ..self }
    }

    /// # Errors
    /// When a limit is out of its range.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if !(16..=100_000).contains(&self.max_patterns) {
            return Err(ConfigError::MaxPatterns(self.max_patterns));
        }
        if !(64..=65_536).contains(&self.line_limit_bytes) {
            return Err(ConfigError::LineLimit(self.line_limit_bytes));
        }
        Ok(())
    }
}

/// A limit that a miner cannot work with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// [`Config::max_patterns`] is out of range.
    #[error("max_patterns is {0}, and has to be between 16 and 100000")]
    MaxPatterns(usize),
    /// [`Config::line_limit_bytes`] is out of range.
    #[error("line_limit_bytes is {0}, and has to be between 64 and 65536")]
    LineLimit(usize),
}
