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
}

#[derive(Default)]
pub struct Reader {
    next: Next,
    request: Request,
}

impl Reader {
    /// The next request. `Err(None)`: more of it must come. `Err(Some(status))`: it is refused.
    pub fn next(&mut self, input: &mut Input) -> Result<Request, Option<u16>> {
        loop {
            self.next = match self.next {
                Next::Head => {
                    self.request = Request::parse(&self.until(input, b"\r\n\r\n")?)?;
                    // Yours: how many bytes does the body have? Then: chunks.
                    Next::Body(0)
                }
                Next::Body(0) => {
                    self.next = Next::Head;
                    return Ok(std::mem::take(&mut self.request));
                }
                Next::Body(_left) => return Err(None),
            };
        }
    }

    /// Takes the bytes up to that end, which is included.
    fn until(&mut self, input: &mut Input, end: &[u8]) -> Result<Vec<u8>, Option<u16>> {
        let at = input.find(end, 0).ok_or(None)?;
        Ok(input.take(at + end.len()))
    }
}
