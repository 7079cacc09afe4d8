//! From fetch's options to who asks, and what.

use std::fs;
use std::time::Duration;

use waterwheel::net::http::{Ask, Client, ClientLimits, Method};
#[cfg(feature = "tls")]
use waterwheel::net::tls;

use crate::cli::Args;

/// Who asks, as the options want it.
pub fn client<S: 'static>(args: &Args) -> Result<Client<S>, String> {
    let total_timeout = args.number("--max-time")?.map(Duration::from_secs);
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

/// What is asked.
pub fn ask(args: &Args, url: &str) -> Result<Ask, String> {
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
    let mut ask = Ask::new(method, url);
    let mut names_itself = false;
    for field in args.all("-H") {
        let (name, value) = field.split_once(':').ok_or(format!("no header field: {field:?}"))?;
        names_itself |= name.trim().eq_ignore_ascii_case("user-agent");
        ask = ask.header(name.trim(), value.trim());
    }
    if !names_itself {
        ask = ask.header("User-Agent", "waterwheel-fetch");
    }
    if args.has("-L") {
        ask = ask.redirects(10);
    }
    Ok(match data {
        Some(data) => ask.body(data),
        None => ask,
    })
}
