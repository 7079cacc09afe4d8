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
use std::time::{Duration, Instant};

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
        let page = self.blank();
        page.go(url);
        page
    }

    /// Opens a page on which nothing is, to be prepared for what it will show.
    pub fn blank(&self) -> Page {
        let target = self.call("", "Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = self.call("", "Target.attachToTarget", attach)["sessionId"].clone();
        let session = session.as_str().expect("a session").to_owned();
        let page = Page { browser: self.clone(), session };
        for domain in ["Page.enable", "Runtime.enable", "Log.enable", "Network.enable"] {
            page.call(domain, json!({}));
        }
        page
    }

    fn call(&self, session: &str, method: &str, params: Value) -> Value {
        self.try_call(session, method, params).unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// Its answer, or the error that it gives instead.
    fn try_call(&self, session: &str, method: &str, params: Value) -> Result<Value, Value> {
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
                return match answer["error"].take() {
                    Value::Null => Ok(answer["result"].take()),
                    error => Err(error),
                };
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
        self.try_evaluate(expression).unwrap_or_else(|error| panic!("{expression}: {error}"))
    }

    /// The value, or the browser's error: the page has left for another one meanwhile.
    fn try_evaluate(&self, expression: &str) -> Result<Value, Value> {
        let params = json!({
            "expression": expression, "awaitPromise": true, "returnByValue": true,
            "userGesture": true,
        });
        let mut answer = self.browser.try_call(&self.session, "Runtime.evaluate", params)?;
        let error = &answer["exceptionDetails"];
        assert!(error.is_null(), "{expression}: {error:#}\n{}", self.text_or_nothing());
        Ok(answer["result"]["value"].take())
    }

    /// Waits until an expression becomes true, in JavaScript's sense, and answers its value. Where
    /// the expression throws it is not true yet: an element is still to come. A page that loads
    /// itself again meanwhile, or leaves, is waited for as well.
    pub fn wait_for(&self, expression: &str) -> Value {
        let until = Instant::now() + Duration::from_millis(WAIT_MS.into());
        loop {
            let left_ms = until.saturating_duration_since(Instant::now()).as_millis();
            let waited = self.try_evaluate(&format!(
                "new Promise((resolve, reject) => {{
                    const end = Date.now() + {left_ms};
                    const look = () => {{
                        let value, error;
                        try {{ value = {expression}; }} catch (thrown) {{ error = thrown; }}
                        if (value) resolve(value);
                        else if (Date.now() > end) reject(error ?? new Error('waited in vain'));
                        else setTimeout(look, 10);
                    }};
                    look();
                }})"
            ));
            match waited {
                Ok(value) => return value,
                // What the browser says of a page that is no longer there, and of nothing else.
                Err(error) if error["code"] == -32000 && left_ms > 0 => {}
                Err(error) => panic!("{expression}: {error}"),
            }
        }
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
        self.press("Enter");
    }

    /// Presses a key, wherever the focus is: a character, or a name such as `ArrowLeft`; with
    /// `Shift+` before it, shift as well.
    pub fn press(&self, key: &str) {
        let (key, shift) = key.strip_prefix("Shift+").map_or((key, false), |key| (key, true));
        let (text, code) = match key {
            "Enter" => ("\r", 13),
            "Tab" => ("", 9),
            "Escape" => ("", 27),
            " " => (" ", 32),
            _ if key.chars().count() == 1 => (key, 0),
            _ => ("", 0),
        };
        for kind in ["keyDown", "keyUp"] {
            let event = json!({
                "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code,
                "modifiers": if shift { 8 } else { 0 },
                "text": if kind == "keyDown" { text } else { "" },
            });
            self.call("Input.dispatchKeyEvent", event);
        }
    }

    /// Clicks into the middle of an element, once it is there and to be seen.
    pub fn click(&self, selector: &str) {
        let at = self.wait_for(&format!(
            "(() => {{
                const node = document.querySelector({});
                node?.scrollIntoView({{ block: 'nearest' }});
                const box = node?.getBoundingClientRect();
                return box?.width && [box.left + box.width / 2, box.top + box.height / 2];
            }})()",
            json!(selector)
        ));
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({
                "type": kind, "x": at[0], "y": at[1], "button": "left", "clickCount": 1,
            });
            self.call("Input.dispatchMouseEvent", event);
        }
    }

    /// The names and roles of what a screen reader finds.
    pub fn accessibility(&self) -> Vec<(String, String)> {
        self.call("Accessibility.enable", json!({}));
        let tree = self.call("Accessibility.getFullAXTree", json!({}));
        let nodes = tree["nodes"].as_array().expect("a tree").iter();
        let nodes = nodes.filter(|node| node["ignored"] == false);
        let text = |node: &Value, of: &str| node[of]["value"].as_str().unwrap_or("").to_owned();
        nodes.map(|node| (text(node, "role"), text(node, "name"))).collect()
    }

    /// Shows the page in a window of this width, by day or by night.
    pub fn view(&self, width: u32, is_dark: bool) {
        self.size(width, if width < 600 { 860 } else { 800 });
        self.media(is_dark, true);
    }

    pub fn size(&self, width: u32, height: u32) {
        let metrics = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600,
        });
        self.call("Emulation.setDeviceMetricsOverride", metrics);
    }

    /// What the reader prefers: dark or light, and less motion or any.
    pub fn media(&self, is_dark: bool, is_calm: bool) {
        let scheme = if is_dark { "dark" } else { "light" };
        let media = json!({ "features": [
            { "name": "prefers-color-scheme", "value": scheme },
            { "name": "prefers-reduced-motion", "value": if is_calm { "reduce" } else { "no-preference" } },
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

    /// All that it has asked for: addresses of http.
    pub fn requests(&self) -> Vec<String> {
        let events = self.events();
        let asked = events.iter().filter(|event| event["method"] == "Network.requestWillBeSent");
        let urls = asked.map(|event| event["params"]["request"]["url"].as_str().unwrap_or(""));
        urls.filter(|url| url.starts_with("http")).map(str::to_owned).collect()
    }

    /// Cuts it off from the network, or connects it again.
    pub fn offline(&self, is_off: bool) {
        let conditions = json!({
            "offline": is_off, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1,
        });
        self.call("Network.emulateNetworkConditions", conditions);
    }

    /// What it has said unasked so far.
    fn events(&self) -> Vec<Value> {
        self.evaluate("0"); // What was said before this is here by now.
        let pipe = self.browser.0.borrow();
        let own = pipe.events.iter().filter(|event| event["sessionId"] == self.session.as_str());
        own.cloned().collect()
    }

    /// What went wrong in it so far: exceptions, and errors in its console, such as a resource that
    /// could not be loaded.
    pub fn problems(&self) -> Vec<String> {
        let events = self.events();
        let is_problem = |event: &&Value| match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Runtime.consoleAPICalled") => event["params"]["type"] == "error",
            Some("Log.entryAdded") => event["params"]["entry"]["level"] == "error",
            _ => false,
        };
        events.iter().filter(is_problem).map(|event| event["params"].to_string()).collect()
    }
}
