//! Fetch's options, and the client and the requests that they describe.

use std::fs;
use std::time::Duration;

use waterwheel::protocols::http::{Client, ClientLimits, ClientRequest, Method};
#[cfg(feature = "tls")]
use waterwheel::protocols::tls;

use crate::cli::{self, Args};

const USAGE: &str = "\
Usage: fetch [OPTIONS] URL...

Fetches the URLs side by side and prints what is there, in their order. The exit code is 1
if one of them failed.

Options:
  -o FILE            write to FILE; given again, the next URL's
  -i                 print the head, too
  -I                 print the head only (HEAD)
  -X METHOD          use this method
  -d TEXT            send this (POST); @FILE: what is in there
  -H 'NAME: VALUE'   add a header field; as often as wanted
  -L                 follow redirects, 10 at most
  -f                 a status of 400 or more is a failure, and its page not printed
  --max-time SECONDS
                     give up a URL after so long
  --proxy URL        use this proxy
  --cacert FILE      trust these certificates (PEM), and no others
  --progress         show the bar although stderr is no terminal
  -s                 say nothing on stderr but errors
  -h, --help         show this";

const OPTIONS: [&str; 7] = ["-o", "-X", "-d", "-H", "--max-time", "--proxy", "--cacert"];
const SWITCHES: [&str; 6] = ["-i", "-I", "-L", "-f", "-s", "--progress"];

/// Reads the command line.
pub fn parse() -> Args {
    cli::parse_values(USAGE, &OPTIONS, &SWITCHES)
}

/// The client, with its limits, its proxy and the certificates that it trusts.
pub fn client<S: 'static>(args: &Args) -> Result<Client<S>, String> {
    let total_timeout = args.number("--max-time").map(Duration::from_secs);
    let mut client = Client::new().limits(ClientLimits { total_timeout, ..Default::default() });
    if let Some(proxy) = args.text("--proxy") {
        client = client.proxy(proxy);
    }
    match args.text("--cacert") {
        None => Ok(client),
        #[cfg(feature = "tls")]
        Some(file) => {
            let roots = fs::read(file).and_then(tls::Client::with_roots);
            Ok(client.tls(roots.map_err(|error| format!("{file}: {error}"))?))
        }
        #[cfg(not(feature = "tls"))]
        Some(_) => Err("--cacert wants the feature tls".to_owned()),
    }
}

/// The request for one URL.
pub fn request(args: &Args, url: &str) -> Result<ClientRequest, String> {
    let data = match args.text("-d").map(|text| (text, text.strip_prefix('@'))) {
        None => None,
        Some((text, None)) => Some(text.as_bytes().to_vec()),
        Some((_, Some(file))) => Some(fs::read(file).map_err(|error| format!("{file}: {error}"))?),
    };
    let method = match args.text("-X") {
        Some(method) => method.parse().map_err(|_| format!("no method: {method:?}"))?,
        None if args.has("-I") => Method::HEAD,
        None if data.is_some() => Method::POST,
        None => Method::GET,
    };
    let mut request = ClientRequest::new(method, url);
    let mut names_itself = false;
    for field in args.all("-H") {
        let (name, value) = field.split_once(':').ok_or(format!("no header field: {field:?}"))?;
        names_itself |= name.trim().eq_ignore_ascii_case("user-agent");
        request = request.header(name.trim(), value.trim());
    }
    if !names_itself {
        request = request.header("User-Agent", "waterwheel-fetch");
    }
    if args.has("-L") {
        request = request.redirects(10);
    }
    Ok(match data {
        Some(data) => request.body(data),
        None => request,
    })
}
