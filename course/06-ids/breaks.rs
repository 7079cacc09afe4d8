//! Break: two letters, one of them for somebody who has gone. First with plain numbers as names, as
//! the kernel's; then with your registry.

#[path = "registry.rs"]
#[allow(clippy::all, dead_code)]
#[rustfmt::skip]
mod registry;

use registry::Registry;

fn main() {
    // With numbers: a place is a name.
    let mut people = ["Ann", "Bob"];
    let bob = 1;
    let letter = "Bob, the key is under the mat";
    people[bob] = "Cleo"; // Bob leaves, Cleo comes, and the place is free for her.
    println!("numbers:       {} reads {letter:?}", people[bob]);

    // With your registry.
    let mut people = Registry::new();
    people.insert("Ann");
    let bob = people.insert("Bob");
    people.remove(bob);
    people.insert("Cleo");
    match people.get(bob) {
        Some(name) => println!("your registry: {name} reads {letter:?}"),
        None => println!("your registry: the letter is refused, its reader has gone"),
    }

    // A place that is used often: when does an old id fit again?
    let mut uses = 0u64;
    let mut people = Registry::new();
    let first = people.insert(uses);
    people.remove(first);
    while uses < 10_000_000 && people.places() == 1 {
        uses += 1;
        let id = people.insert(uses);
        if people.get(first).is_some() {
            println!("your registry: after {uses} uses the first id fits again");
            return;
        }
        people.remove(id);
    }
    match people.places() {
        1 => println!("your registry: {uses} uses of one place, and the first id is still old"),
        places => println!("your registry: {uses} uses took {places} places"),
    }
}
