//! Predict: `then` on a promise that has its value already. When does the callback run?

use waterwheel::Reactor;
use waterwheel::patterns::Promise;
use waterwheel::reactor::Priority::Normal;

fn main() -> std::io::Result<()> {
    let mut reactor = Reactor::new()?;
    reactor.enqueue(Normal, |reactor, seen: &mut String| {
        seen.push('A');
        let seven: Promise<String, u32, String> = Promise::resolved(reactor, 7);
        seven.then(reactor, |_, seen, _| seen.push('B'));
        seen.push('C');
    });
    reactor.enqueue(Normal, |_, seen| seen.push('D'));
    let mut seen = String::new();
    reactor.run(&mut seen)?;
    println!("{seen}");
    let options = ["ABCD", "ACBD", "ACDB"];
    let answer = options.iter().position(|option| *option == seen);
    println!("answer: {}", answer.and_then(|at| "abc".chars().nth(at)).unwrap_or('?'));
    Ok(())
}
