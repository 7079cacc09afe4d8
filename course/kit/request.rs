//! A request of HTTP, and its head as words and fields (RFC 9112, 3 and 5). What these say of the
//! body is not decided here.

/// A head, and the body behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    pub target: String,
    /// HTTP/1.0, and not HTTP/1.1.
    pub is_old: bool,
    /// The client may send another request: in HTTP/1.1 unless `Connection` has the word `close`, in
    /// HTTP/1.0 only if it has the word `keep-alive` and not `close`.
    pub keep_alive: bool,
    /// Names in small letters, and values without the space around them.
    fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    /// Reads a head: lines that end with CR LF, and a blank one behind them. The body is empty.
    ///
    /// # Errors
    /// The status with which it is refused. 505 if the version is not HTTP/1.0 or HTTP/1.1; 400 if
    /// the first line is not three words, if a name is no token, if there is not exactly one `Host`
    /// (or more than one, in HTTP/1.0), or if a line has a control byte other than a tab: an LF
    /// without its CR, for instance.
    pub fn parse(bytes: &[u8]) -> Result<Request, u16> {
        let text = String::from_utf8_lossy(bytes);
        let text = text.strip_suffix("\r\n\r\n").ok_or(400_u16)?;
        let mut lines = text.split("\r\n");
        if lines.clone().any(|line| line.contains(|c: char| c.is_ascii_control() && c != '\t')) {
            return Err(400);
        }
        let words: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
        let [method, target, version] = words[..] else { return Err(400) };
        if !is_token(method) || target.is_empty() {
            return Err(400);
        }
        if !["HTTP/1.0", "HTTP/1.1"].contains(&version) {
            return Err(505);
        }
        let mut fields = Vec::new();
        for line in lines {
            let (name, value) = line.split_once(':').ok_or(400_u16)?;
            if !is_token(name) {
                return Err(400);
            }
            fields.push((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()));
        }
        let (method, target) = (method.to_owned(), target.to_owned());
        let mut request = Request {
            method,
            target,
            is_old: version == "HTTP/1.0",
            keep_alive: false,
            fields,
            body: Vec::new(),
        };
        let hosts = request.all("host").len();
        if hosts > 1 || hosts == 0 && !request.is_old {
            return Err(400);
        }
        let words = request.all("connection").join(",");
        let has = |word| words.split(',').any(|other| other.trim().eq_ignore_ascii_case(word));
        request.keep_alive = !has("close") && (!request.is_old || has("keep-alive"));
        Ok(request)
    }

    /// The values of all fields of that name, which is in small letters.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let same = self.fields.iter().filter(|field| field.0 == name);
        same.map(|field| field.1.as_str()).collect()
    }
}

fn is_token(name: &str) -> bool {
    let is_one = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_words_and_fields() {
        let request =
            Request::parse(b"GET /a?b HTTP/1.1\r\nHost: x:1 \r\nA:\r\na:\ty\r\n\r\n").unwrap();
        assert_eq!((&*request.method, &*request.target, request.is_old), ("GET", "/a?b", false));
        assert_eq!((request.all("host"), request.all("a")), (vec!["x:1"], vec!["", "y"]));
        assert!(Request::parse(b"GET / HTTP/1.0\r\n\r\n").unwrap().is_old);
    }

    #[test]
    fn a_connection_is_kept_by_the_words_of_the_client() {
        for (version, value, kept) in [
            ("1.1", "", true),
            ("1.1", "upgrade, Close", false),
            ("1.1", "closed", true),
            ("1.0", "", false),
            ("1.0", "Keep-Alive", true),
            ("1.0", "keep-alive, close", false),
        ] {
            let head = format!("GET / HTTP/{version}\r\nHost: a\r\nConnection: {value}\r\n\r\n");
            assert_eq!(Request::parse(head.as_bytes()).unwrap().keep_alive, kept, "{head}");
        }
    }

    #[test]
    fn what_is_no_head_is_refused() {
        for (head, status) in [
            ("GET / HTTP/2.0\r\n\r\n", 505),
            ("GET  / HTTP/1.1\r\n\r\n", 400),
            ("GET /\r\n\r\n", 400),
            (" / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\nB: c\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", 400),
            ("\r\n\r\n", 400),
        ] {
            assert_eq!(Request::parse(head.as_bytes()), Err(status), "{head:?}");
        }
    }
}
