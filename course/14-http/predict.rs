//! Predict: the end of a head is four bytes. What if it comes in two pieces?

fn main() {
    let request = b"GET /hello HTTP/1.1\r\nHost: ann\r\n\r\n";
    // A client sends it in two pieces, and the server looks for the blank line in each piece.
    let has_end = |piece: &[u8]| piece.windows(4).any(|four| four == b"\r\n\r\n");
    let mut missed = 0;
    for cut in 1..request.len() {
        let (first, second) = request.split_at(cut);
        if !has_end(first) && !has_end(second) {
            missed += 1;
        }
    }
    println!("{} ways to cut it; the end is missed in {missed}", request.len() - 1);
    let answers = [(0, 'a'), (1, 'b'), (3, 'c'), (request.len() - 1, 'd')];
    let answer = answers.iter().find(|answer| answer.0 == missed);
    println!("answer: {}", answer.map_or('?', |answer| answer.1));
}
