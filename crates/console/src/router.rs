//! Routes of the console.

use axum::{
    Router,
    body::Body,
    response::{IntoResponse as _, Response},
    routing::get,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::{
    asset::{ASSETS, Asset},
    headers::protect,
};

/// Paths of the console's pages. Their state is in the query.
pub const PAGES: [&str; 9] =
    ["/", "/logs", "/traces", "/services", "/alerts", "/patterns", "/sql", "/system", "/send"];

/// Names change with contents, so a copy is good for ever.
const FOR_EVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
const ASK_AGAIN: HeaderValue = HeaderValue::from_static("no-cache");

/// What is shown in place of a console that was not built.
const NOT_BUILT: &str = include_str!("not_built.html");

/// Serves the console's pages and files, to anyone: what they show comes from the API.
pub fn router() -> Router {
    routes(ASSETS)
}

fn routes(assets: &'static [Asset]) -> Router {
    let document = Asset::document(assets);
    let mut router = Router::new();
    for page in PAGES {
        router =
            router.route(page, get(async move |headers: HeaderMap| page_of(document, &headers)));
    }
    for asset in Asset::hashed(assets) {
        let path = format!("/{}", asset.path);
        let answer = async move |headers: HeaderMap| answer(asset, &headers, FOR_EVER);
        router = router.route(&path, get(answer));
    }
    router
}

fn page_of(document: Option<Asset>, headers: &HeaderMap) -> Response {
    match document {
        Some(document) => answer(document, headers, ASK_AGAIN),
        None => {
            let html = (header::CONTENT_TYPE, "text/html; charset=utf-8");
            protect(([html], NOT_BUILT).into_response())
        }
    }
}

fn answer(asset: Asset, headers: &HeaderMap, cache: HeaderValue) -> Response {
    let mut response = if takes_gzip(headers) {
        let body = Body::from(Bytes::from_static(asset.gzip));
        ([(header::CONTENT_ENCODING, "gzip")], body).into_response()
    } else {
        match asset.decompressed() {
            Ok(bytes) => bytes.into_response(),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        }
    };
    let all = response.headers_mut();
    all.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.content_type));
    all.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    all.insert(header::CACHE_CONTROL, cache);
    protect(response)
}

/// Whether the client takes gzip (RFC 9110 §12.5.3).
fn takes_gzip(headers: &HeaderMap) -> bool {
    let lists = headers.get_all(header::ACCEPT_ENCODING).iter();
    lists.filter_map(|list| list.to_str().ok()).flat_map(|list| list.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let weight = weight.trim().strip_prefix("q=").and_then(|weight| weight.parse().ok());
        name.trim().eq_ignore_ascii_case("gzip") && weight != Some(0.0)
    })
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use tower_service::Service as _;

    use super::*;

    /// A console of a document and a script, compressed by `gzip -n`.
    const BUILT: &[Asset] = &[
        Asset { path: "index.html", content_type: "text/html; charset=utf-8", gzip: DOCUMENT_GZIP },
        Asset {
            path: "_console/app-1a2b3c.js",
            content_type: "text/javascript; charset=utf-8",
            gzip: DOCUMENT_GZIP,
        },
    ];
    /// `<p>` as gzip with one stored block.
    const DOCUMENT_GZIP: &[u8] = &[
        0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1, 3, 0, 0xfc, 0xff, b'<', b'p', b'>', 0xbb, 0xa1,
        0x6e, 0x3c, 3, 0, 0, 0,
    ];

    async fn get(assets: &'static [Asset], path: &str, encoding: &str) -> (Response<()>, Vec<u8>) {
        let request =
            http::Request::get(path).header(header::ACCEPT_ENCODING, encoding).body(Body::empty());
        let answer = routes(assets).call(request.unwrap()).await.unwrap();
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        (Response::from_parts(parts, ()), body)
    }

    fn text(answer: &Response<()>, name: header::HeaderName) -> &str {
        answer.headers()[name].to_str().unwrap()
    }

    #[tokio::test]
    async fn every_page_is_the_document_and_asks_again() {
        for page in PAGES {
            let (answer, body) = get(BUILT, page, "gzip, br").await;
            assert_eq!(answer.status(), 200, "{page}");
            assert_eq!(text(&answer, header::CONTENT_ENCODING), "gzip");
            assert_eq!(text(&answer, header::CACHE_CONTROL), "no-cache");
            assert_eq!(body, DOCUMENT_GZIP);
        }
    }

    #[tokio::test]
    async fn files_with_hashed_names_are_kept_for_ever() {
        let (answer, _) = get(BUILT, "/_console/app-1a2b3c.js", "gzip").await;
        assert_eq!(text(&answer, header::CONTENT_TYPE), "text/javascript; charset=utf-8");
        assert!(text(&answer, header::CACHE_CONTROL).contains("immutable"));
    }

    #[tokio::test]
    async fn clients_that_do_not_take_gzip_get_plain_files() {
        for encoding in ["identity", "gzip;q=0"] {
            let (answer, body) = get(BUILT, "/", encoding).await;
            assert_eq!(answer.headers().get(header::CONTENT_ENCODING), None);
            assert_eq!(body, b"<p>", "{encoding}");
        }
    }

    #[tokio::test]
    async fn no_script_runs_that_is_not_a_file_of_the_console() {
        for (assets, path) in [(BUILT, "/"), (BUILT, "/_console/app-1a2b3c.js"), (&[], "/logs")] {
            let (answer, _) = get(assets, path, "").await;
            let policy = text(&answer, header::CONTENT_SECURITY_POLICY);
            assert!(policy.contains("default-src 'self'"), "{policy}");
            assert!(!policy.contains("unsafe"), "{policy}");
            assert_eq!(text(&answer, header::X_CONTENT_TYPE_OPTIONS), "nosniff");
        }
    }

    #[tokio::test]
    async fn paths_of_others_are_not_answered() {
        for path in ["/api/v1/nothing", "/v1/nothing", "/_console/nothing.js", "/logs/nothing"] {
            let (answer, _) = get(BUILT, path, "gzip").await;
            assert_eq!(answer.status(), 404, "{path}");
        }
    }

    #[tokio::test]
    async fn a_console_that_was_not_built_says_how_to_build_it() {
        let (answer, body) = get(&[], "/", "").await;
        assert_eq!(answer.status(), 200);
        assert!(String::from_utf8(body).unwrap().contains("make console"));
    }
}
