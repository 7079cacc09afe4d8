//! The certificate of a server among these examples: from a file, or made by the server.

use std::fs;

use waterwheel::protocols::tls;

use crate::cli;

/// The options that name its files.
pub const OPTIONS: [&str; 3] = ["--cert", "--key", "--save"];

/// The server's side of TLS, by its options.
pub fn server(args: &cli::Args) -> Result<tls::Server, String> {
    let (cert, key) = match (args.text("--cert"), args.text("--key")) {
        (Some(cert), Some(key)) => (read(cert), read(key)),
        (None, None) => made(args.text("--save"))?,
        _ => cli::bad_usage("--cert and --key go together"),
    };
    Ok(tls::Server::new(cert, key).unwrap_or_else(|error| cli::bad_usage(error)))
}

/// A certificate that is signed only by itself, and its key.
fn made(save: Option<&str>) -> Result<(Vec<u8>, Vec<u8>), String> {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names);
    let made = made.map_err(|error| format!("cannot make a certificate: {error}"))?;
    let pem = made.cert.pem();
    if let Some(path) = save {
        fs::write(path, &pem)
            .unwrap_or_else(|error| cli::bad_usage(format_args!("cannot write {path}: {error}")));
    }
    Ok((pem.into(), made.signing_key.serialize_pem().into()))
}

/// The content of a file; the program ends if it cannot be read.
pub fn read(path: &str) -> Vec<u8> {
    let refuse = |error| cli::bad_usage(format_args!("cannot read {path}: {error}"));
    fs::read(path).unwrap_or_else(refuse)
}
