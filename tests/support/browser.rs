//! A browser: headless Chromium, told what to do in its DevTools protocol.
//!
//! It reads commands from its descriptor 3 and answers on 4, each message JSON and a zero byte
//! (`--remote-debugging-pipe`): so all that it takes is a child process whose stdin and stdout are
//! ours. Methods and events: <https://chromedevtools.github.io/devtools-protocol/>.

use std::cell::RefCell;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::process::Process;
use serde_json::{Value, json};

/// Nothing of its own in the network, nothing kept, no sandbox (CI runs as root).
const FLAGS: [&str; 10] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
];

/// How long a page may take for what is waited for.
const WAIT_MS: u32 = 20_000;

/// A browser with a profile of its own; it ends with this value and its last page. As any
/// [`Process`], it lives a minute at most.
#[derive(Clone)]
pub struct Browser(Rc<RefCell<Pipe>>);

struct Pipe {
    process: Process,
    profile: PathBuf,
    sent: u64,
    /// What pages said unasked, with the session of each.
    events: Vec<Value>,
}

impl Browser {
    pub fn start() -> Browser {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let profile = format!("waterwheel-browser-{}-{number}", std::process::id());
        let profile = std::env::temp_dir().join(profile);
        fs::create_dir(&profile).expect("a fresh directory");
        let mut command = Command::new("sh");
        command
            .args(["-c", "exec \"$@\" 3<&0 4>&1 1>&2 0</dev/null 2>\"$STDERR\"", "sh", "chromium"])
            .args(FLAGS)
            .arg(format!("--user-data-dir={}", profile.display()))
            .env("STDERR", profile.join("stderr"));
        let process = Process::start(&mut command);
        Browser(Rc::new(RefCell::new(Pipe { process, profile, sent: 0, events: Vec::new() })))
    }

    /// Opens a page and waits until it is loaded; what it does by itself then goes on.
    pub fn open(&self, url: &str) -> Page {
        let target = self.call("", "Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = self.call("", "Target.attachToTarget", attach)["sessionId"].clone();
        let session = session.as_str().expect("a session").to_owned();
        let page = Page { browser: self.clone(), session };
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            page.call(domain, json!({}));
        }
        page.go(url);
        page
    }

    fn call(&self, session: &str, method: &str, params: Value) -> Value {
        let mut pipe = self.0.borrow_mut();
        pipe.sent += 1;
        let id = pipe.sent;
        let mut message = json!({ "id": id, "method": method, "params": params });
        if !session.is_empty() {
            message["sessionId"] = session.into();
        }
        pipe.process.type_in(format!("{message}\0"));
        loop {
            let Some(answer) = pipe.process.until(b'\0') else {
                let stderr = fs::read_to_string(pipe.profile.join("stderr"));
                panic!("chromium ended at {method}: {}", stderr.unwrap_or_default());
            };
            let mut answer: Value = serde_json::from_slice(&answer).expect("JSON");
            if answer["id"] == id {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].take();
            }
            pipe.events.push(answer);
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.process.finish(); // The end of its commands is its end.
        let _ = fs::remove_dir_all(&self.profile);
    }
}

/// A tab.
pub struct Page {
    browser: Browser,
    session: String,
}

impl Page {
    fn call(&self, method: &str, params: Value) -> Value {
        self.browser.call(&self.session, method, params)
    }

    /// Leaves for another page and waits until that is loaded.
    pub fn go(&self, url: &str) {
        let navigated = self.call("Page.navigate", json!({ "url": url }));
        assert!(navigated["errorText"].is_null(), "{url}: {navigated}");
        self.wait_for("document.readyState === 'complete'");
    }

    /// The value of a JavaScript expression; a promise is waited for.
    pub fn evaluate(&self, expression: &str) -> Value {
        let params = json!({
            "expression": expression, "awaitPromise": true, "returnByValue": true,
            "userGesture": true,
        });
        let mut answer = self.call("Runtime.evaluate", params);
        let error = &answer["exceptionDetails"];
        assert!(error.is_null(), "{expression}: {error:#}\n{}", self.text_or_nothing());
        answer["result"]["value"].take()
    }

    /// Waits until an expression becomes true, in JavaScript's sense, and answers its value.
    pub fn wait_for(&self, expression: &str) -> Value {
        self.evaluate(&format!(
            "new Promise((resolve, reject) => {{
                const end = Date.now() + {WAIT_MS};
                const look = () => {{
                    const value = {expression};
                    if (value) resolve(value);
                    else if (Date.now() > end) reject(new Error('waited in vain'));
                    else setTimeout(look, 10);
                }};
                look();
            }})"
        ))
    }

    /// The text that is to be seen.
    pub fn text(&self) -> String {
        self.evaluate("document.body.innerText").as_str().unwrap_or_default().to_owned()
    }

    fn text_or_nothing(&self) -> String {
        let params = json!({ "expression": "document.body.innerText", "returnByValue": true });
        self.call("Runtime.evaluate", params)["result"]["value"].to_string()
    }

    /// Gives an element the focus and types into it, as keys do.
    pub fn type_into(&self, selector: &str, text: &str) {
        self.evaluate(&format!("document.querySelector({}).focus()", json!(selector)));
        self.call("Input.insertText", json!({ "text": text }));
    }

    /// Presses Enter, wherever the focus is.
    pub fn press_enter(&self) {
        for kind in ["keyDown", "keyUp"] {
            let enter = json!({
                "type": kind, "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13,
                "text": if kind == "keyDown" { "\r" } else { "" },
            });
            self.call("Input.dispatchKeyEvent", enter);
        }
    }

    /// Shows the page in a window of this width, by day or by night.
    pub fn view(&self, width: u32, is_dark: bool) {
        let metrics = json!({
            "width": width, "height": if width < 600 { 860 } else { 800 },
            "deviceScaleFactor": 1, "mobile": width < 600,
        });
        self.call("Emulation.setDeviceMetricsOverride", metrics);
        let scheme = if is_dark { "dark" } else { "light" };
        let media = json!({ "features": [
            { "name": "prefers-color-scheme", "value": scheme },
            { "name": "prefers-reduced-motion", "value": "reduce" },
        ] });
        self.call("Emulation.setEmulatedMedia", media);
    }

    /// How many pixels of the page are out of sight to the right: more than none is a page that
    /// scrolls sideways.
    pub fn overflow(&self) -> i64 {
        let overflow = "document.documentElement.scrollWidth - innerWidth";
        self.evaluate(overflow).as_i64().expect("a number")
    }

    /// A picture of what is to be seen: PNG, in base64.
    pub fn screenshot(&self) -> String {
        let shot = self.call("Page.captureScreenshot", json!({ "format": "png" }));
        shot["data"].as_str().expect("base64").to_owned()
    }

    /// What went wrong in it so far: exceptions, and errors in its console, such as a resource that
    /// could not be loaded.
    pub fn problems(&self) -> Vec<String> {
        self.evaluate("0"); // What was said before this is here by now.
        let pipe = self.browser.0.borrow();
        let own = pipe.events.iter().filter(|event| event["sessionId"] == self.session.as_str());
        let is_problem = |event: &&Value| match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Runtime.consoleAPICalled") => event["params"]["type"] == "error",
            Some("Log.entryAdded") => event["params"]["entry"]["level"] == "error",
            _ => false,
        };
        own.filter(is_problem).map(|event| event["params"].to_string()).collect()
    }
}
