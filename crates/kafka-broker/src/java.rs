//! Kafka's programs, which run in Java.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};

/// Where Kafka's jars are.
const JARS: &str = "KAFKA_JARS";

/// Java with Kafka's classes.
#[derive(Clone, Debug)]
pub struct Java {
    jars: PathBuf,
}

impl Java {
    /// Java and the jars that [`KAFKA_JARS`](crate) names.
    ///
    /// # Errors
    /// What is missing, and how to get it.
    pub fn find() -> anyhow::Result<Self> {
        let jars = std::env::var_os(JARS)
            .map(PathBuf::from)
            .with_context(|| format!("{JARS} is not set: run these tests by `make test-kafka`"))?;
        let has_kafka = std::fs::read_dir(&jars).is_ok_and(|mut files| {
            files.any(|file| {
                file.is_ok_and(|f| f.file_name().to_string_lossy().starts_with("kafka_"))
            })
        });
        if !has_kafka {
            bail!("{JARS}: expected Kafka's jars in {}; run `make kafka-jars`", jars.display());
        }
        let version = Command::new("java").arg("-version").stderr(Stdio::null()).status();
        if !version.is_ok_and(|status| status.success()) {
            bail!(
                "expected `java` (17 or later); run `scripts/debian-packages openjdk-17-jre-headless`"
            );
        }
        Ok(Self { jars })
    }

    /// A command that runs `class` with at most `heap_mib` of heap.
    pub fn command(&self, heap_mib: usize, class: &str) -> Command {
        // A test that is killed must not leave brokers behind.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "java"])
            .arg(format!("-Xmx{heap_mib}m"))
            .args(["-Xms64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"])
            .arg(self.jars.join("*"))
            .arg(class)
            .stdin(Stdio::null());
        command
    }
}
