//! Decodes files for `tests/reference/image_differences.py`, which compares them with Pillow.
//!
//! Reads paths from standard input. For each path, writes a line with width and height and then the
//! pixels, or a line with 0, 0 and the error.

use std::io::{self, BufRead as _, Write as _};

use images::Decoder;

fn main() -> io::Result<()> {
    let decoder = Decoder::default();
    let mut out = io::BufWriter::new(io::stdout().lock());
    for path in io::stdin().lock().lines() {
        match decoder.decode(&std::fs::read(path?)?) {
            Ok(image) => {
                writeln!(out, "{} {}", image.width, image.height)?;
                out.write_all(&image.data)?;
            }
            Err(error) => writeln!(out, "0 0 {error}")?,
        }
    }
    out.flush()
}
