//! How the page looks: at each size, by day and by night, and to who does not see it.

use serde_json::json;
use support::browser::Browser;
use support::ceiling;

use super::browser::{LIMIT, Tour};

/// Answers what is wrong with the page as it stands: a list of sentences.
const FAULTS: &str = r"
(() => {
    const faults = [], root = document.documentElement;
    const named = node => node.id || node.className || node.tagName;
    const box = node => node.getBoundingClientRect();
    if (root.scrollWidth > innerWidth) faults.push(`${root.scrollWidth - innerWidth} px too wide`);
    if (innerWidth > 900 && root.scrollHeight > innerHeight + 1)
        faults.push(`${root.scrollHeight - innerHeight} px too high`);
    const panels = [...document.querySelectorAll('header, #bar, #say, section')];
    const seen = panels.filter(node => box(node).width && box(node).height);
    for (const one of seen) for (const other of seen) {
        const a = box(one), b = box(other), is = one !== other;
        if (is && a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1)
            faults.push(`${named(one)} overlaps ${named(other)}`);
    }
    for (const node of seen) if (node.scrollWidth > node.clientWidth + 1 && getComputedStyle(node).overflowX === 'auto' && innerWidth > 900)
        faults.push(`${named(node)} scrolls sideways`);
    const rgb = text => (text.match(/[\d.]+/g) || []).map(Number);
    const light = ([r, g, b]) => [r, g, b].map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
    const behind = node => {
        for (; node; node = node.parentElement) {
            const colour = rgb(getComputedStyle(node).backgroundColor);
            if (colour.length === 3 || colour[3] === 1) return colour;
        }
        return [255, 255, 255];
    };
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        const node = texts.currentNode.parentElement, words = texts.currentNode.textContent.trim();
        if (!words || node.closest('script, dialog:not([open])') || !node.checkVisibility({ visibilityProperty: true })) continue;
        const style = getComputedStyle(node), px = parseFloat(style.fontSize);
        if (px < 11) faults.push(`${px} px: ${words}`);
        const [a, b] = [light(rgb(style.color)), light(behind(node))].sort((a, b) => b - a);
        const contrast = (a + 0.05) / (b + 0.05);
        if (contrast < 4.5) faults.push(`contrast ${contrast.toFixed(2)}: ${words} (${named(node)})`);
    }
    return [...new Set(faults)];
})()";

/// Width and height.
const SIZES: [(u32, u32); 4] = [(1280, 800), (1280, 720), (1920, 1080), (400, 860)];

#[test]
#[ignore = "wants chromium: cargo test --all-features --test inspect -- --ignored page"]
fn page_of_the_tour_fits_at_each_size_by_day_and_by_night() {
    let _ceiling = ceiling(LIMIT);
    let tour = Tour::begin(&Browser::start(), 1, true);
    let page = &tour.page;
    let scenes = page.evaluate("hello.scenes.length").as_u64().unwrap();
    let drawn = "!waterwheel.view.changed && new Promise(requestAnimationFrame)";
    for scene in 1..=scenes {
        tour.go_to(scene);
        page.evaluate("command({ do: 'stop' })");
        for name in ["ann", "bob", "cleo"] {
            let say = json!({ "do": "peer", "name": name, "act": "send", "text": "a line of some words" });
            page.evaluate(&format!("command({say})"));
        }
        page.wait_for("waterwheel.data.loop.standing");
        for is_answered in [false, true] {
            if is_answered {
                page.evaluate("answered(0)");
            }
            for (width, height) in SIZES {
                page.size(width, height);
                for is_dark in [false, true] {
                    page.media(is_dark, true);
                    page.evaluate("waterwheel.view.changed = true");
                    page.wait_for(drawn);
                    let faults = page.evaluate(FAULTS);
                    assert_eq!(
                        faults,
                        json!([]),
                        "scene {scene}, {width} x {height}, dark: {is_dark}"
                    );
                }
            }
        }
    }
    for (key, what) in [("i", "instruments"), ("t", "large type"), ("?", "help")] {
        page.size(1920, 1080);
        page.evaluate("document.activeElement.blur()");
        page.press(key);
        page.wait_for(drawn);
        assert!(page.overflow() <= 0, "{what}");
    }
    assert_eq!(page.problems(), [""; 0]);
}

#[test]
#[ignore = "wants chromium: cargo test --all-features --test inspect -- --ignored page"]
fn page_of_the_tour_has_a_name_for_each_control() {
    let _ceiling = ceiling(LIMIT);
    let tour = Tour::begin(&Browser::start(), 3, true);
    let page = &tour.page;
    page.evaluate("command({ do: 'stop' })");
    page.evaluate("command({ do: 'peer', name: 'bob', act: 'send', text: 'x' })");
    page.wait_for("waterwheel.data.loop.standing && document.querySelector('#lanes .chip')");
    let tree = page.accessibility();
    let controls = ["button", "textbox", "slider", "link", "spinbutton"];
    let is_control = |role: &str| controls.contains(&role);
    let found: Vec<_> = tree.iter().filter(|(role, _)| is_control(role)).collect();
    assert!(found.len() > 20, "{found:?}");
    let nameless: Vec<_> = found.iter().filter(|(_, name)| name.is_empty()).collect();
    assert!(nameless.is_empty(), "{nameless:?}");
    // The queue is read as a sentence.
    let chip = "bob, I/O, Normal, this turn";
    assert!(found.iter().any(|(_, name)| name.starts_with(chip)), "{found:?}");
    for list in ["Normal, this turn", "High, next turn", "phases of a turn"] {
        assert!(tree.iter().any(|(role, name)| role == "list" && name == list), "{list}");
    }
}
