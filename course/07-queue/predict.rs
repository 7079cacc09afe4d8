//! Predict: five callbacks, one of them put into the queue by another. What runs first?

use waterwheel::Reactor;
use waterwheel::reactor::Priority::{High, Low, Normal};

fn main() -> std::io::Result<()> {
    let mut reactor = Reactor::new()?;
    reactor.enqueue(Low, |_, seen: &mut String| seen.push('A'));
    reactor.enqueue(Normal, |reactor, seen| {
        seen.push('B');
        reactor.enqueue(High, |_, seen| seen.push('C'));
    });
    reactor.enqueue(High, |_, seen| seen.push('D'));
    reactor.enqueue(Normal, |_, seen| seen.push('E'));
    let mut seen = String::new();
    reactor.run(&mut seen)?;
    println!("{seen}");
    let options = ["ABCDE", "DBCEA", "DBEAC", "DBECA"];
    let answer = options.iter().position(|option| *option == seen);
    println!("answer: {}", answer.and_then(|at| "abcd".chars().nth(at)).unwrap_or('?'));
    Ok(())
}
