//! OpenTelemetry semantic-convention attributes that have a column of their own.

/// Where an attribute belongs when it is not a plain one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Promoted {
    Service,
    Host,
    Environment,
    HttpMethod,
    HttpPath,
    /// A URL or request target whose path is the column's value.
    HttpTarget,
    HttpStatus,
    ClientIp,
    UserAgent,
    Bytes,
}

/// Column of attribute `key`, current and former names of the HTTP conventions alike
/// (OpenTelemetry Semantic Conventions 1.23 and before, "HTTP spans").
pub(crate) fn promoted(key: &str) -> Option<Promoted> {
    Some(match key {
        "service.name" => Promoted::Service,
        "host.name" => Promoted::Host,
        "deployment.environment" | "deployment.environment.name" => Promoted::Environment,
        "http.request.method" | "http.method" => Promoted::HttpMethod,
        "url.path" => Promoted::HttpPath,
        "http.target" => Promoted::HttpTarget,
        "http.response.status_code" | "http.status_code" => Promoted::HttpStatus,
        "client.address" | "http.client_ip" => Promoted::ClientIp,
        "user_agent.original" | "http.user_agent" => Promoted::UserAgent,
        "http.response.body.size" | "http.response_content_length" => Promoted::Bytes,
        _ => return None,
    })
}
