//! Mail by SMTP.

use super::Failure;
use crate::{notification::Notification, receiver::EmailConfig};

pub(super) async fn send(_: &EmailConfig, _: &Notification, _: &str) -> Result<(), Failure> {
    Err(Failure::Final("not yet".into()))
}
