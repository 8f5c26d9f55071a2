//! Every sender's wire format, decoded into Arrow batches and appended durably to the log.

pub mod decode;
