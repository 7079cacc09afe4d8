//! A chapter's text as HTML.
//!
//! Knows Markdown. Whatever is HTML in it is left out: the answers to the questions are comments.

use pulldown_cmark::{CodeBlockKind, CowStr, Event, Parser, Tag, TagEnd, html};

/// The text of a chapter whose folder is `name`. Links to files of the repository become
/// `#file=PATH`, those to other chapters `#6`.
pub fn html(name: &str, text: &str) -> String {
    let mut events = Vec::new();
    let mut in_comment = false;
    for event in Parser::new(text) {
        match event {
            Event::Html(text) | Event::InlineHtml(text) => {
                in_comment = text.contains("<!--") && !text.contains("-->");
            }
            _ if in_comment => {}
            Event::Start(Tag::Heading { .. }) => {
                events.push(Event::Html("</section><section>".into()));
                events.push(event);
            }
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) => {
                events.push(Event::Html(caption(&info)));
            }
            Event::End(TagEnd::CodeBlock) => {
                events.push(Event::Html("</code></pre></figure>\n".into()));
            }
            Event::Start(Tag::Link { link_type, dest_url, title, id }) => {
                let dest_url = link(name, &dest_url).into();
                events.push(Event::Start(Tag::Link { link_type, dest_url, title, id }));
            }
            event => events.push(event),
        }
    }
    let mut out = String::from("<section>");
    html::push_html(&mut out, events.into_iter());
    out + "</section>"
}

/// What stands over a block of code: whose it is.
fn caption(info: &str) -> CowStr<'static> {
    let mut words = info.split(' ');
    let language = escape(words.next().unwrap_or_default());
    let of = words.clone().find_map(|word| word.strip_prefix("of="));
    let part = words.find_map(|word| word.split_once('=').filter(|(key, _)| *key != "of"));
    let part = part.map_or(String::new(), |(_, name)| format!(" · {}", escape(name)));
    let caption = of.map_or(String::new(), |of| {
        let of = escape(of);
        format!("<figcaption><a href=\"#file={of}\">{of}</a>{part}</figcaption>")
    });
    format!("<figure class=\"{language}\">{caption}<pre><code>").into()
}

/// Where a link of a text in `course/NAME/` leads.
fn link(name: &str, to: &str) -> String {
    if to.contains("://") || to.starts_with('#') {
        return to.to_owned();
    }
    let (to, _) = to.split_once('#').unwrap_or((to, ""));
    let mut path: Vec<&str> = vec!["course", name];
    for part in to.split('/') {
        match part {
            ".." => drop(path.pop()),
            "" | "." => {}
            part => path.push(part),
        }
    }
    match path.as_slice() {
        ["course", chapter, "README.md"] | ["course", chapter] => {
            let number = chapter.split('-').next().unwrap_or_default();
            format!("#{}", number.trim_start_matches('0'))
        }
        path => format!("#file={}", path.join("/")),
    }
}

/// A sentence, with what stands in backticks as code.
pub fn sentence(text: &str) -> String {
    let part = |(at, part): (usize, &str)| match at % 2 {
        0 => escape(part),
        _ => format!("<code>{}</code>", escape(part)),
    };
    text.split('`').enumerate().map(part).collect()
}

pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_not_in_it() {
        for text in ["1. Which? <!-- a.rs: let x -->\n2. And?", "a\n\n<!-- let x\n\nlet x -->\n\nb"]
        {
            assert!(!html("06-ids", text).contains("let x"), "{text}");
        }
        for chapter in crate::book::chapters() {
            assert!(!html(chapter.name, chapter.given("README.md")).contains("<!--"));
        }
    }

    #[test]
    fn a_sentence_has_its_code_as_code() {
        assert_eq!(sentence("`a<b` is & no more"), "<code>a&lt;b</code> is &amp; no more");
    }

    #[test]
    fn links_lead_to_the_files_and_chapters_of_the_page() {
        assert_eq!(link("06-ids", "../../reactor/id.rs"), "#file=reactor/id.rs");
        assert_eq!(link("06-ids", "../05-edges/README.md"), "#5");
        assert_eq!(link("06-ids", "../../README.md#see-the-loop-turn"), "#file=README.md");
        assert_eq!(link("06-ids", "https://example.org/a"), "https://example.org/a");
    }

    #[test]
    fn code_says_whose_it_is_and_stays_code() {
        let text = "```rust of=reactor/id.rs fn=raw\nlet a = b < c && \"d\";\n```\n";
        let html = html("06-ids", text);
        assert!(html.contains("<a href=\"#file=reactor/id.rs\">reactor/id.rs</a> · raw"), "{html}");
        assert!(html.contains("let a = b &lt; c &amp;&amp;"), "{html}");
    }
}
