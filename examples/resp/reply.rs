//! Replies of a Redis server: bytes in, values out. RESP2, as a client without `HELLO 3` gets it.

/// The depth of arrays in arrays at most.
const DEPTH_MAX: u32 = 8;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Null,
    Number(i64),
    Text(Vec<u8>),
    Error(String),
    Array(Vec<Value>),
}

impl Value {
    pub fn text(&self) -> &str {
        match self {
            Value::Text(bytes) => str::from_utf8(bytes).unwrap_or_default(),
            _ => "",
        }
    }

    /// The values of an array; none of anything else.
    pub fn array(&self) -> &[Value] {
        if let Value::Array(values) = self { values } else { &[] }
    }
}

/// The reply in front of the input, and the rest of it; `None` if it is not complete.
///
/// # Errors
/// It is no reply.
pub fn parse(input: &[u8]) -> Result<Option<(Value, &[u8])>, &'static str> {
    read(input, DEPTH_MAX)
}

fn read(input: &[u8], depth: u32) -> Result<Option<(Value, &[u8])>, &'static str> {
    let Some((kind, rest)) = input.split_first() else { return Ok(None) };
    let Some(end) = rest.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
    let (line, rest) = rest.split_at(end + 1);
    let line = line.strip_suffix(b"\r\n").ok_or("no reply of Redis")?;
    let line = String::from_utf8_lossy(line);
    let number = || line.parse::<i64>().map_err(|_| "a number that is none");
    let value = match kind {
        b'+' => Value::Text(line.as_bytes().to_vec()),
        b'-' => Value::Error(line.into_owned()),
        b':' => Value::Number(number()?),
        b'$' => {
            let Ok(length) = usize::try_from(number()?) else {
                return Ok(Some((Value::Null, rest)));
            };
            let Some((text, behind)) = rest.split_at_checked(length) else { return Ok(None) };
            let Some((end, behind)) = behind.split_at_checked(2) else { return Ok(None) };
            let is_whole = end == b"\r\n";
            let text = Value::Text(text.to_vec());
            return if is_whole { Ok(Some((text, behind))) } else { Err("a string too long") };
        }
        b'*' if depth == 0 => return Err("arrays too deep"),
        b'*' => {
            let Ok(count) = usize::try_from(number()?) else {
                return Ok(Some((Value::Null, rest)));
            };
            let (mut values, mut rest) = (Vec::new(), rest);
            for _ in 0..count {
                let Some((value, behind)) = read(rest, depth - 1)? else { return Ok(None) };
                values.push(value);
                rest = behind;
            }
            return Ok(Some((Value::Array(values), rest)));
        }
        _ => return Err("no reply of Redis"),
    };
    Ok(Some((value, rest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reply_is_the_same_wherever_it_is_cut_and_what_is_none_is_refused() {
        let input = b"*5\r\n+OK\r\n$4\r\na\r\nb\r\n:-7\r\n*1\r\n$-1\r\n-ERR no\r\nrest";
        let text = |text: &str| Value::Text(text.into());
        let nothing = Value::Array(vec![Value::Null]);
        let error = Value::Error("ERR no".to_owned());
        let all = vec![text("OK"), text("a\r\nb"), Value::Number(-7), nothing, error];
        assert_eq!(parse(input), Ok(Some((Value::Array(all), &b"rest"[..]))));
        for end in 0..input.len() - 4 {
            assert_eq!(parse(&input[..end]), Ok(None), "{end}");
        }
        for wrong in [&b"hello\r\n"[..], b"+OK\n", b":x\r\n", b"$1\r\nabc", &b"*1\r\n".repeat(9)] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(parse(b"*-1\r\n"), Ok(Some((Value::Null, &b""[..]))));
        assert_eq!(parse(b"*9223372036854775807\r\n"), Ok(None));
    }
}
