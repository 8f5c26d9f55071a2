//! State that outlives the process.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thalweg_log::replace_file;

use crate::error::{AlertError, Result};

const VERSION: u32 = 1;

/// A file that is replaced as a whole: whenever the process is killed, it holds the old content or
/// the new one.
#[derive(Debug, Clone)]
pub(crate) struct StateFile {
    path: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Content<T> {
    version: u32,
    state: T,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

impl StateFile {
    /// The file `name` in `directory`, which is made if it is missing.
    pub(crate) fn open(directory: &Path, name: &str) -> Result<Self> {
        fs::create_dir_all(directory)
            .map_err(|reason| AlertError::Io { path: directory.to_owned(), reason })?;
        Ok(Self { path: directory.join(name) })
    }

    /// What was written last; `None` when nothing ever was.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(reason) => return Err(AlertError::Io { path: self.path.clone(), reason }),
        };
        let unreadable =
            |reason: String| AlertError::Unreadable { path: self.path.clone(), reason };
        let Version { version } =
            serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))?;
        if version != VERSION {
            return Err(unreadable(format!("expected version {VERSION}, found {version}")));
        }
        let content: Content<T> =
            serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))?;
        Ok(Some(content.state))
    }

    /// What was written last; when that cannot be read it is put aside, which is logged, and it is
    /// begun anew.
    pub(crate) fn read_or_put_aside<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        let error = match self.read() {
            Err(error @ AlertError::Unreadable { .. }) => error,
            read => return read,
        };
        let mut aside = self.path.clone().into_os_string();
        aside.push(".unreadable");
        fs::rename(&self.path, &aside)
            .map_err(|reason| AlertError::Io { path: self.path.clone(), reason })?;
        tracing::error!(%error, ?aside, "a state is put aside, and begun anew");
        Ok(None)
    }

    /// The bytes to [`StateFile::replace`] the content with.
    pub(crate) fn encode<T: Serialize>(&self, state: &T) -> Result<Vec<u8>> {
        serde_json::to_vec(&Content { version: VERSION, state })
            .map_err(|error| AlertError::Io { path: self.path.clone(), reason: error.into() })
    }

    /// Replaces the content, durably.
    pub(crate) fn replace(&self, bytes: &[u8]) -> Result<()> {
        replace_file(&self.path, bytes)
            .map_err(|reason| AlertError::Io { path: self.path.clone(), reason })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    type State = BTreeMap<String, u32>;

    fn write(file: &StateFile, state: &State) {
        file.replace(&file.encode(state).unwrap()).unwrap();
    }

    #[test]
    fn what_was_written_last_is_read_and_a_torn_write_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let file = StateFile::open(&directory.path().join("a/b"), "state.json").unwrap();
        assert_eq!(file.read::<State>().unwrap(), None);
        for n in [1, 2] {
            let state = State::from([("n".to_owned(), n)]);
            write(&file, &state);
            // As a kill in the middle of the next write would leave it.
            fs::write(directory.path().join("a/b/state.json.new"), "{\"ver").unwrap();
            assert_eq!(file.read::<State>().unwrap(), Some(state));
        }
    }

    #[test]
    fn what_cannot_be_read_is_put_aside_where_that_is_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let file = StateFile::open(directory.path(), "state.json").unwrap();
        fs::write(directory.path().join("state.json"), "{").unwrap();
        assert_eq!(file.read_or_put_aside::<State>().unwrap(), None);
        assert_eq!(fs::read(directory.path().join("state.json.unreadable")).unwrap(), b"{");
        let state = State::from([("n".to_owned(), 1)]);
        write(&file, &state);
        assert_eq!(file.read_or_put_aside::<State>().unwrap(), Some(state));
    }

    #[test]
    fn what_is_no_state_is_an_error_and_not_an_empty_one() {
        let directory = tempfile::tempdir().unwrap();
        let file = StateFile::open(directory.path(), "state.json").unwrap();
        for (text, why) in [
            ("", "EOF"),
            ("{}", "version"),
            (r#"{"version":2}"#, "found 2"),
            (r#"{"version":1,"state":{"n":"x"}}"#, "u32"),
        ] {
            fs::write(directory.path().join("state.json"), text).unwrap();
            let error = file.read::<State>().unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("delete it"), "{text}: {error}");
        }
    }
}
