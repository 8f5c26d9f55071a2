//! Topics that come and go, and who reads them.

use arrow::datatypes::SchemaRef;

use crate::{Log, config::TopicConfig, embedded::EmbeddedLog, error::Result};

/// A log whose topics can be changed while it runs: what a whole node needs beyond [`Log`].
///
/// All methods block, for a disk or for a broker.
pub trait Topics: Log {
    /// Opens a further topic for rows of `schema`, creating it if need be; one that is open already
    /// is left as it is. Its rows are appended by somebody who keeps them until they are
    /// acknowledged and, after a crash, looks in the topic for those that were.
    ///
    /// # Errors
    /// [`LogError::Config`](crate::LogError::Config) of a topic that cannot be, and whatever the
    /// disk or the broker says.
    fn create_topic(&self, topic: &TopicConfig, schema: SchemaRef) -> Result<()>;

    /// Removes a topic with everything in it, also one that is not open.
    ///
    /// # Errors
    /// [`LogError::UnknownTopic`](crate::LogError::UnknownTopic), and whatever the disk or the
    /// broker says.
    fn remove_topic(&self, name: &str) -> Result<()>;

    /// Closes a topic in this process only, and leaves it to others that share the log.
    fn leave_topic(&self, _name: &str) {}

    /// Names of the topics that are this node's own, those that are not open among them.
    ///
    /// # Errors
    /// Whatever the disk or the broker says.
    fn topics(&self) -> Result<Vec<String>>;

    /// Names of the consumer groups that are this node's own.
    fn groups(&self) -> Vec<String>;

    /// Forgets the offsets of `group`, so that nothing is kept for it any more.
    ///
    /// # Errors
    /// Whatever the disk or the broker says.
    fn forget_group(&self, group: &str) -> Result<()>;

    /// Makes durable what is queued, and closes the log: appends are refused from now on, tailing
    /// streams end.
    fn close(&self);
}

impl Topics for EmbeddedLog {
    fn create_topic(&self, topic: &TopicConfig, _schema: SchemaRef) -> Result<()> {
        // Every entry brings its schema along.
        Self::create_topic(self, topic).map(drop)
    }

    fn remove_topic(&self, name: &str) -> Result<()> {
        Self::remove_topic(self, name)
    }

    fn topics(&self) -> Result<Vec<String>> {
        self.topics_on_disk()
    }

    fn groups(&self) -> Vec<String> {
        Self::groups(self)
    }

    fn forget_group(&self, group: &str) -> Result<()> {
        Self::forget_group(self, group)
    }

    fn close(&self) {
        Self::close(self);
    }
}
