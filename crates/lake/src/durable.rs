//! A local file system on which a small object, once written, survives a power failure.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path as FsPath;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use uuid::Uuid;

/// [`LocalFileSystem`], whose objects are synced before they appear under their names.
///
/// `object_store` leaves syncing to the operating system, but the log forgets rows as soon as the
/// Delta log claims them.
#[derive(Debug)]
pub(crate) struct DurableFileSystem {
    inner: LocalFileSystem,
    /// Tells what this one has staged from what any other has, in any process of any machine.
    number: u128,
    staged: AtomicU64,
}

impl DurableFileSystem {
    pub(crate) fn new() -> Self {
        let (inner, number) = (LocalFileSystem::new(), Uuid::now_v7().as_u128());
        Self { inner, number, staged: AtomicU64::new(0) }
    }
}

/// Writes `payload` next to `target` and moves it there; `create` refuses to replace.
fn write(staged: &FsPath, target: &FsPath, payload: &PutPayload, create: bool) -> io::Result<()> {
    let parent = target.parent().unwrap_or(target);
    fs::create_dir_all(parent)?;
    let mut file = File::create(staged)?;
    payload.iter().try_for_each(|bytes| file.write_all(bytes))?;
    file.sync_all()?;
    if create {
        fs::hard_link(staged, target)?;
        fs::remove_file(staged)?;
    } else {
        fs::rename(staged, target)?;
    }
    File::open(parent)?.sync_all()
}

#[async_trait]
impl ObjectStore for DurableFileSystem {
    async fn put_opts(
        &self,
        at: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let create = match opts.mode {
            PutMode::Create => true,
            PutMode::Overwrite => false,
            PutMode::Update(_) => return self.inner.put_opts(at, payload, opts).await,
        };
        let target = self.inner.path_to_filesystem(at)?;
        // Names ending in `#` and digits are invisible to `LocalFileSystem`.
        let mut staged = target.clone().into_os_string();
        let count = self.staged.fetch_add(1, Ordering::Relaxed);
        staged.push(format!("#{:039}{count}", self.number));
        let at = at.to_string();
        let written = tokio::task::spawn_blocking(move || {
            write(staged.as_ref(), &target, &payload, create)
                .inspect_err(|_| drop(fs::remove_file(&staged)))
        });
        match written.await.map_err(|source| Error::JoinError { source })? {
            Ok(()) => Ok(PutResult { e_tag: None, version: None }),
            Err(source) if source.kind() == io::ErrorKind::AlreadyExists => {
                Err(Error::AlreadyExists { path: at, source: source.into() })
            }
            Err(source) => {
                Err(Error::Generic { store: "DurableFileSystem", source: source.into() })
            }
        }
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, opts).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(at, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

impl fmt::Display for DurableFileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DurableFileSystem")
    }
}
