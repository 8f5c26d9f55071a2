//! A full disk is an error to the sender and nothing else.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use thalweg_log::{EmbeddedLog, Log, LogError};

use crate::rows::*;

/// A file system of its own, unmounted at the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Option<Self> {
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=2m", "thalweg-test"])
            .arg(at)
            .status();
        status.is_ok_and(|status| status.success()).then(|| Self(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_refuses_appends_until_there_is_room() {
    let directory = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(directory.path()) else {
        eprintln!("SKIPPED: mounting a tmpfs is not permitted here, so no disk can be filled");
        return;
    };
    let ballast = disk.0.join("ballast");
    fs::write(&ballast, vec![1; 1 << 20]).unwrap();
    let log_directory = disk.0.join("log");
    let (log, _) = open(&log_directory);
    let mut acknowledged = 0;
    let mut refused = 0;
    while refused < 50 {
        match append(&log, 7, 900).await {
            Ok(end) => {
                assert_eq!(refused, 0, "no room appears by itself");
                acknowledged = end;
            }
            Err(LogError::StorageFull(place)) => {
                assert_eq!(place, at());
                refused += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(acknowledged > 500, "{acknowledged}");
    assert_eq!(readable(&log).await, all(acknowledged));

    // A crash of a full disk.
    let copy = crash_copy(&log_directory);
    let (copied, report) = open(copy.path());
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(readable(&copied).await, all(acknowledged));

    fs::remove_file(ballast).unwrap();
    for _ in 0..20 {
        acknowledged = append(&log, 7, 900).await.unwrap();
    }
    drop(log);
    let (log, report): (EmbeddedLog, _) = open(&log_directory);
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(readable(&log).await, all(acknowledged));
    assert_eq!(log.offsets(at()).unwrap().end, acknowledged);
}
