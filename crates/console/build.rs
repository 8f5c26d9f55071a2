//! Compresses what `make console` left in `console/dist`, to be embedded.
//!
//! Writes `assets.rs`, a table of path, content type and gzip bytes; an empty one when the console
//! was not built, so that `cargo build` needs no npm.

use std::{
    env,
    error::Error,
    fmt::Write as _,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};

fn main() -> Result<(), Box<dyn Error>> {
    // Relative to this crate, where cargo runs this: checkouts may share a target directory.
    let root = Path::new("../../console");
    let dist = root.join("dist");
    // A path that does not exist would make cargo run this at each build.
    let watched = if dist.exists() { &dist } else { root };
    println!("cargo::rerun-if-changed={}", watched.display());

    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut files = Vec::new();
    if dist.join("index.html").exists() {
        collect(&dist, &mut files)?;
    }
    files.sort();
    let mut table = String::from("&[\n");
    for (number, file) in files.iter().enumerate() {
        let compressed = out.join(format!("{number}.gz"));
        let mut gzip = GzEncoder::new(fs::File::create(&compressed)?, Compression::best());
        gzip.write_all(&fs::read(file)?)?;
        gzip.finish()?;
        let path = file.strip_prefix(&dist)?.to_str().ok_or("expected file names in UTF-8")?;
        writeln!(
            table,
            "    Asset {{ path: {path:?}, content_type: {:?}, gzip: include_bytes!({compressed:?}) }},",
            content_type(file)?
        )?;
    }
    table.push(']');
    fs::write(out.join("assets.rs"), table)?;
    Ok(())
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

fn content_type(file: &Path) -> Result<&'static str, String> {
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("html") => Ok("text/html; charset=utf-8"),
        Some("js") => Ok("text/javascript; charset=utf-8"),
        Some("css") => Ok("text/css; charset=utf-8"),
        Some("svg") => Ok("image/svg+xml"),
        _ => Err(format!(
            "{}: expected a file of HTML, JavaScript, CSS or SVG; say its content type here",
            file.display()
        )),
    }
}
