//! The web console, embedded, and served as it should be.
//!
//! ```text
//! console/dist ── build.rs: gzip ──▶ Assets ──▶ router: GET / and the console's own pages
//!                                                       GET /_console/… with hashed names
//! ```
//!
//! Pages are one HTML document, whose script shows the page that the path names. A path that is
//! neither a page nor a file of the console is no business of this crate: other routers answer
//! it, or nobody. The files need no token; the API that they ask does.

mod asset;
mod headers;
mod router;

pub use router::{PAGES, router};
