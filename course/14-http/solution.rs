//! Where does a message end? HTTP requests out of a stream of bytes, wherever it is cut.
//!
//! # Contract
//! * `next` gives a request as soon as its last byte has come. It takes the bytes of that request, and
//!   none behind it. It makes no difference where the stream is cut.
//! * A body has as many bytes as `Content-Length` says. With `Transfer-Encoding: chunked` it is
//!   chunks, which are joined. With neither there is none.
//! * 400 if two readers might read it differently: a length and a coding together, or two of either;
//!   a coding in HTTP/1.0; a size that is not digits alone; CR or LF in the line of a size; a chunk
//!   that does not end where its size says. 501: a coding that is not `chunked` alone.
//! * 431: a head of more than `HEAD_MAX` bytes, its blank line included, or a line of a chunk, or
//!   behind the last one. 413: a body of more than `BODY_MAX` bytes. Both as soon as it is known.
//! * However small the pieces are, a byte is looked at five times at most.

use kit::{Input, Request};

pub const HEAD_MAX: usize = 8192;
pub const BODY_MAX: usize = 65_536;

/// What the next bytes are.
#[derive(Clone, Copy, Default)]
enum Next {
    #[default]
    Head,
    /// So many bytes of the body.
    Body(usize),
    /// The line with a chunk's size.
    Size,
    /// So many bytes of a chunk, and then CR LF.
    Chunk(usize),
    /// Lines that nobody needs, and a blank one.
    Trailer,
}

#[derive(Default)]
pub struct Reader {
    next: Next,
    /// The end that is looked for does not begin before this place of the input.
    seen: usize,
    request: Request,
}

impl Reader {
    /// The next request. `Err(None)`: more of it must come. `Err(Some(status))`: it is refused.
    pub fn next(&mut self, input: &mut Input) -> Result<Request, Option<u16>> {
        loop {
            self.next = match self.next {
                Next::Head => {
                    self.request = Request::parse(&self.until(input, b"\r\n\r\n")?)?;
                    self.begin()?
                }
                Next::Size => self.chunk(input)?,
                Next::Chunk(0) if input.len() < 2 => return Err(None),
                Next::Chunk(0) if input.take(2) == b"\r\n" => Next::Size,
                Next::Chunk(0) => return Err(Some(400)),
                Next::Chunk(left) => Next::Chunk(left - self.fill(input, left)?),
                Next::Trailer => match &self.until(input, b"\r\n")?[..] {
                    b"\r\n" => Next::Body(0),
                    _ => Next::Trailer,
                },
                Next::Body(0) => {
                    self.next = Next::Head;
                    return Ok(std::mem::take(&mut self.request));
                }
                Next::Body(left) => Next::Body(left - self.fill(input, left)?),
            };
        }
    }

    /// Takes the bytes up to that end, which is included.
    fn until(&mut self, input: &mut Input, end: &[u8]) -> Result<Vec<u8>, Option<u16>> {
        let found = input.find(end, self.seen);
        let length = found.map_or(input.len() + 1, |at| at + end.len());
        // A part of the end may have come: the next search begins with it.
        self.seen = if found.is_some() { 0 } else { length.saturating_sub(end.len()) };
        match found {
            _ if length > HEAD_MAX => Err(Some(431)),
            Some(_) => Ok(input.take(length)),
            None => Err(None),
        }
    }

    /// Moves bytes into the body, at most so many. Gives how many.
    fn fill(&mut self, input: &mut Input, most: usize) -> Result<usize, Option<u16>> {
        let bytes = input.take(most);
        self.request.body.extend_from_slice(&bytes);
        if bytes.is_empty() { Err(None) } else { Ok(bytes.len()) }
    }

    /// A head has come: how does the body end?
    fn begin(&self) -> Result<Next, u16> {
        let [lengths, codings] =
            ["content-length", "transfer-encoding"].map(|name| self.request.all(name));
        match (&lengths[..], &codings[..]) {
            ([], []) => Ok(Next::Body(0)),
            ([length], []) => Ok(Next::Body(self.size(length, 10)?)),
            ([], [_]) if self.request.is_old => Err(400),
            ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => Ok(Next::Size),
            ([], [_]) => Err(501),
            _ => Err(400),
        }
    }

    /// The line of a size: how long is the chunk?
    fn chunk(&mut self, input: &mut Input) -> Result<Next, Option<u16>> {
        let line = self.until(input, b"\r\n")?;
        let line = String::from_utf8_lossy(&line[..line.len() - 2]);
        match self.size(line.split(';').next().unwrap_or_default(), 16)? {
            _ if line.contains(['\r', '\n']) => Err(Some(400)),
            0 => Ok(Next::Trailer),
            size => Ok(Next::Chunk(size)),
        }
    }

    /// So many more bytes for the body, if they are digits and there is room.
    fn size(&self, digits: &str, radix: u32) -> Result<usize, u16> {
        let is_number = !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix));
        match usize::from_str_radix(digits, radix) {
            _ if !is_number => Err(400),
            Ok(size) if size <= BODY_MAX - self.request.body.len() => Ok(size),
            _ => Err(413), // A number that does not fit is too large, too.
        }
    }
}
