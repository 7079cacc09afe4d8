//! A stream through a codec, in pieces, as `framed` does it and without a connection.

use waterwheel::net::{Codec, FrameError};

/// What a stream is decoded to: its frames, and what ended it if that was an error.
pub type Decoded = (Vec<Vec<u8>>, Option<FrameError>);

/// Decodes a stream that arrives in these pieces, as `framed` does it.
pub fn decode<'a>(codec: &mut dyn Codec, pieces: impl IntoIterator<Item = &'a [u8]>) -> Decoded {
    let (mut frames, mut input) = (Vec::new(), Vec::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        let mut at = 0;
        while at < input.len() {
            match codec.decode(&input[at..]) {
                Ok(Some(frame)) => {
                    assert!(frame.consumed > 0 && frame.payload.end <= frame.consumed);
                    frames.push(input[at..][frame.payload].to_vec());
                    at += frame.consumed;
                }
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
        input.drain(..at);
    }
    if input.is_empty() {
        return (frames, None);
    }
    match codec.finish(&input) {
        Ok(last) => {
            frames.extend(last.map(|frame| input[frame.payload].to_vec()));
            (frames, None)
        }
        Err(error) => (frames, Some(error)),
    }
}
