//! Mail by SMTP.

use std::fmt::Write as _;

use lettre::{
    AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor,
    message::header::{ContentType, HeaderName, HeaderValue},
    transport::smtp::{
        authentication::Credentials,
        client::{Certificate, Tls, TlsParameters},
    },
};

use super::Failure;
use crate::{
    alert::Alert,
    labels::one_line,
    notification::{Notification, alert_url},
    receiver::{EmailConfig, MailSecurity},
};

/// Longest subject, bytes.
const MAX_SUBJECT_BYTES: usize = 200;
/// Tells other programs not to answer (RFC 3834 §5).
const AUTO_SUBMITTED: HeaderName = HeaderName::new_from_ascii_str("Auto-Submitted");

/// Sends one mail to all of the receiver's addresses.
pub(super) async fn send(
    config: &EmailConfig,
    notification: &Notification,
    external_url: &str,
) -> Result<(), Failure> {
    let mail = message(config, notification, external_url).map_err(Failure::Final)?;
    let transport = transport(config).map_err(Failure::retry)?;
    match transport.send(mail).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_permanent() => Err(Failure::Final(reason(&error))),
        Err(error) => Err(Failure::retry(reason(&error))),
    }
}

/// What the server said may be anything.
fn reason(error: &lettre::transport::smtp::Error) -> String {
    one_line(&error.to_string(), 500)
}

fn transport(config: &EmailConfig) -> Result<AsyncSmtpTransport<Tokio1Executor>, String> {
    let tls = || -> Result<TlsParameters, String> {
        let mut tls = TlsParameters::builder(config.host.clone());
        if let Some(path) = &config.ca_cert {
            let of_file = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
            let pem = std::fs::read(path).map_err(|error| of_file(&error))?;
            let authority = Certificate::from_pem(&pem).map_err(|error| of_file(&error))?;
            tls = tls.add_root_certificate(authority);
        }
        tls.build_rustls().map_err(|error| error.to_string())
    };
    let (tls, port) = match config.security {
        MailSecurity::Tls => (Tls::Wrapper(tls()?), 465),
        MailSecurity::Starttls => (Tls::Required(tls()?), 587),
        MailSecurity::None => (Tls::None, 25),
    };
    let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&config.host)
        .port(config.port.unwrap_or(port))
        .tls(tls)
        .timeout(Some(config.timeout.get()));
    if let (Some(username), Some(password)) = (&config.username, &config.password) {
        transport = transport.credentials(Credentials::new(username.clone(), password.read()?));
    }
    Ok(transport.build())
}

fn message(
    config: &EmailConfig,
    notification: &Notification,
    external_url: &str,
) -> Result<Message, String> {
    let domain = config.from.0.email.domain();
    let thread = notification.group_labels.fingerprint();
    let sent = notification.created_at.timestamp_micros();
    let automatic = HeaderValue::new(AUTO_SUBMITTED, "auto-generated".to_owned());
    let mut mail = Message::builder()
        .from(config.from.0.clone())
        // The library encodes what is no ASCII; line ends are gone already.
        .subject(one_line(&notification.title(), MAX_SUBJECT_BYTES))
        // The same for each try: a mail that comes twice can be told to be one.
        .message_id(Some(format!("<{sent}.{}@{domain}>", notification.id)))
        // Mails about one group are one conversation.
        .references(format!(
            "<{thread}.{}@{domain}>",
            notification.receiver.replace(['<', '>', '@', ' '], "-")
        ))
        .raw_header(automatic)
        .date(notification.created_at.into())
        .header(ContentType::TEXT_PLAIN);
    for address in &config.to {
        mail = mail.to(address.0.clone());
    }
    mail.body(text(notification, external_url)).map_err(|error| error.to_string())
}

fn text(notification: &Notification, external_url: &str) -> String {
    let mut text = String::new();
    for (title, is_firing) in [("Firing", true), ("Resolved", false)] {
        let alerts = notification.alerts.iter().filter(|alert| alert.is_firing() == is_firing);
        for (n, alert) in alerts.enumerate() {
            if n == 0 {
                let _ = writeln!(text, "{title}\n");
            }
            describe(&mut text, alert, external_url);
        }
    }
    if notification.truncated > 0 {
        let _ = writeln!(text, "and {} more", notification.truncated);
    }
    text
}

fn describe(text: &mut String, alert: &Alert, external_url: &str) {
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "  {name}: {value}");
    };
    line("what", &alert.summary());
    for (name, value) in alert.annotations.iter().filter(|(name, _)| *name != "summary") {
        line(name, value);
    }
    line("labels", &alert.labels.to_string());
    line("since", &alert.starts_at.format("%Y-%m-%d %H:%M:%S UTC").to_string());
    if let Some(ends_at) = alert.ends_at {
        line("until", &ends_at.format("%Y-%m-%d %H:%M:%S UTC").to_string());
    }
    line("more", &alert_url(alert, external_url));
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{labels::Labels, notification::tests::notification, receiver::Mailbox};

    fn mail(notification: &Notification) -> String {
        let mailbox = |text: &str| Mailbox::try_from(text.to_owned()).unwrap();
        let config = EmailConfig {
            to: vec![mailbox("ops@example.com")],
            from: mailbox("thalweg@example.com"),
            host: "localhost".into(),
            port: None,
            security: MailSecurity::None,
            ca_cert: None,
            username: None,
            password: None,
            timeout: crate::period::Period::secs(1),
        };
        let mail = message(&config, notification, "https://x").unwrap();
        String::from_utf8(mail.formatted()).unwrap()
    }

    #[test]
    fn a_mail_says_what_fires_and_what_is_resolved() {
        let mail = mail(&notification());
        assert!(mail.contains("Subject: [FIRING:1] Errors\r\n"), "{mail}");
        assert!(mail.contains("Message-ID: <0.1@example.com>\r\n"), "{mail}");
        let firing = mail.find("what: errors of cart").unwrap();
        assert!(firing < mail.find("Resolved").unwrap());
        assert!(mail.contains("until: 1970-01-01 00:01:00 UTC"), "{mail}");
    }

    #[test]
    fn no_label_adds_a_header_or_ends_the_mail() {
        let mut hostile = notification();
        let value = "x\r\nBcc: all@example.com\r\n\r\n.\r\nQUIT\u{85}é".repeat(50);
        hostile.group_labels = Labels::new([("alertname", &value)]);
        hostile.receiver = "a> b\r\nX-Evil: 1".into();
        let mail = mail(&hostile);
        let (head, _) = mail.split_once("\r\n\r\n").unwrap();
        let names: Vec<&str> = head
            .split("\r\n")
            .filter(|line| !line.starts_with([' ', '\t']))
            .filter_map(|line| line.split_once(':').map(|(name, _)| name))
            .collect();
        assert_eq!(
            names,
            [
                "From",
                "Subject",
                "Message-ID",
                "References",
                "Auto-Submitted",
                "Date",
                "Content-Type",
                "To",
                "Content-Transfer-Encoding"
            ]
        );
    }
}
