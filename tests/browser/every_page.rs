//! What holds on every page, whatever it shows: nothing to complain of, small, narrow, dark and light, by keyboard, and
//! accessible by a checker's judgement.

use serde_json::json;

use crate::{axe, chromium::Browser, scene::Scene, tab::Tab};

/// The most that a page may transfer, with all that it loads.
const TRANSFER_BYTES: u64 = 60 << 10;

/// Visits every page, and collects what `look` finds wrong there.
fn everywhere(scene: &Scene, tab: &Tab, mut look: impl FnMut(&Tab) -> Vec<String>) {
    let mut wrong = Vec::new();
    for (name, path) in scene.pages() {
        tab.go(&scene.at(&path));
        for one in look(tab) {
            wrong.push(format!("{name}: {one}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_page_violates_its_policy_or_complains() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let (scene, tab) = (Scene::new(), browser.open());
    let mut mark = tab.mark();
    let mut addresses = Vec::new();
    everywhere(&scene, &tab, |tab| {
        let mut wrong = tab.complaints(mark);
        // The page of a task that is not there is answered 404, which the browser tells of.
        wrong.retain(|one| !one.contains("status of 404") || !one.contains("/tasks/01900000-"));
        let (bytes, loaded) = tab.transferred(mark);
        if bytes > TRANSFER_BYTES {
            wrong.push(format!("{bytes} bytes for {loaded:?}"));
        }
        addresses.extend(loaded);
        mark = tab.mark();
        wrong
    });
    // What keeps the policy from saying nothing: it is there, strict, and holds against a script that stands in the page.
    let from_elsewhere = addresses
        .iter()
        .find(|address| !address.contains(&scene.daemon.address));
    assert_eq!(from_elsewhere, None, "everything is the daemon's own");
    let ran = "(() => { const script = document.createElement('script'); script.textContent = 'window.ran = true';
        document.body.append(script); return window.ran === true })()";
    tab.go(&scene.at("/"));
    mark = tab.mark();
    assert!(!tab.holds(ran), "a script in the page runs");
    tab.until("true");
    assert!(
        tab.complaints(mark)
            .iter()
            .any(|one| one.contains("Content Security Policy")),
        "the browser was told to refuse it"
    );
}

#[test]
fn every_page_fits_into_60_kib_when_it_is_loaded_afresh() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let (scene, tab) = (Scene::new(), browser.open());
    tab.without_cache();
    let mut mark = tab.mark();
    everywhere(&scene, &tab, |tab| {
        let (bytes, loaded) = tab.transferred(mark);
        mark = tab.mark();
        assert!(bytes > 500, "the bytes are counted: {bytes} for {loaded:?}");
        let style = loaded.iter().any(|address| address.contains(".css"));
        assert!(style, "all of it is counted: {loaded:?}");
        (bytes > TRANSFER_BYTES)
            .then(|| format!("{bytes} bytes for {loaded:?}"))
            .into_iter()
            .collect()
    });
}

#[test]
fn no_page_scrolls_sideways_on_a_phone() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let (scene, tab) = (Scene::new(), browser.open());
    tab.resize(360, 740);
    // What sticks out, without what a region of its own scrolls or hides.
    let out = "(() => {
        const width = document.documentElement.clientWidth, out = [];
        const inside = element => { for (let up = element.parentElement; up && up !== document.body; up = up.parentElement)
            if (getComputedStyle(up).overflowX !== 'visible') return true; return false };
        if (width !== 360) out.push(`the page is laid out ${width} px wide`);
        if (document.scrollingElement.scrollWidth > width) {
            out.push(`scrolls to ${document.scrollingElement.scrollWidth}`);
            for (const element of document.querySelectorAll('body *'))
                if (element.getBoundingClientRect().right > width + 1 && !inside(element)) out.push(element.outerHTML.slice(0, 120));
        }
        return out.slice(0, 5) })()";
    everywhere(&scene, &tab, |tab| lines(tab, out));
    // Fingers need room: WCAG 2.5.8 asks for 24 by 24 pixels of what is not a link in a text.
    let small = "[...document.querySelectorAll('button, input:not([type=hidden]), select, textarea, summary')]
        .filter(one => one.checkVisibility()).map(one => [one.getBoundingClientRect(), one])
        .filter(([box]) => box.height < 24 && box.width > 1).map(([box, one]) => `${box.height} px: ${one.outerHTML.slice(0, 120)}`)";
    everywhere(&scene, &tab, |tab| {
        let mut wrong = lines(tab, small);
        wrong.retain(|one| !one.contains("type=\"radio\"") && !one.contains("type=\"checkbox\""));
        wrong
    });
}

#[test]
fn every_page_is_dark_where_dark_is_preferred() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let (scene, tab) = (Scene::new(), browser.open());
    // How light text and ground are, 0 to 1, by painting with them: a browser tells colours in many notations.
    let lights = "(() => {
        const pen = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true});
        const light = colour => { pen.clearRect(0, 0, 1, 1); pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1);
            const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data; return a < 255 ? null : (0.2126 * r + 0.7152 * g + 0.0722 * b) / 255 };
        const ground = [document.body, document.documentElement].map(one => light(getComputedStyle(one).backgroundColor)).find(one => one !== null);
        return {ground, text: light(getComputedStyle(document.body).color)} })()";
    for (scheme, dark) in [("light", false), ("dark", true)] {
        tab.prefer(scheme);
        everywhere(&scene, &tab, |tab| {
            let seen = tab.value(lights);
            let (ground, text) = (seen["ground"].as_f64(), seen["text"].as_f64());
            let right = match (ground, text) {
                (Some(ground), Some(text)) if dark => ground < 0.2 && text > 0.7,
                (Some(ground), Some(text)) => ground > 0.8 && text < 0.3,
                _ => false,
            };
            (!right)
                .then(|| format!("{scheme}: {seen}"))
                .into_iter()
                .collect()
        });
    }
}

#[test]
fn the_accessibility_checker_finds_nothing() {
    let Some(script) = axe::script() else { return };
    let Some(browser) = Browser::start() else {
        return;
    };
    let (scene, tab) = (Scene::new(), browser.open());
    // Planted, so that "nothing found" says something: a picture without a text, and grey on grey.
    tab.go(&scene.at("/"));
    tab.value("document.querySelector('main').append(document.createElement('img'))");
    assert!(
        axe::violations(&tab, script)
            .iter()
            .any(|one| one.contains("image-alt")),
        "the checker checks"
    );
    for scheme in ["light", "dark"] {
        tab.prefer(scheme);
        everywhere(&scene, &tab, |tab| axe::violations(tab, script));
    }
}

#[test]
fn the_keyboard_reaches_all_that_the_mouse_can_and_shows_where_it_is() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let (scene, tab) = (Scene::new(), browser.open());
    everywhere(&scene, &tab, |tab| {
        let wanted = lines(tab, REACHABLE);
        assert!(wanted.len() > 2, "the navigation at least: {wanted:?}");
        let mut wrong = Vec::new();
        let mut reached: Vec<String> = Vec::new();
        // A field for date and time has several stops of its own; more than this has no page.
        for _ in 0..wanted.len() * 8 + 20 {
            tab.press("Tab");
            let stop = tab.value(STOP);
            let Some(name) = stop["name"].as_str() else {
                break;
            };
            if reached.last().is_some_and(|last| last == name) {
                continue;
            }
            if reached.contains(&name.to_owned()) {
                break;
            }
            // What the browser itself makes reachable, a region that scrolls, it also marks itself.
            if stop["known"] == true && stop["shown"] != true {
                wrong.push(format!("no focus is to be seen on {name}"));
            }
            reached.push(name.to_owned());
        }
        reached.retain(|name| wanted.contains(name));
        if reached != wanted {
            wrong.push(format!(
                "reached {}\n   of {}",
                json!(reached),
                json!(wanted)
            ));
        }
        wrong
    });
}

/// All that can be clicked or written in, in the order of the page; a group of radio buttons is one stop. Notes in the window how
/// each looks without the focus.
const REACHABLE: &str = "(() => {
    window.nameOf = one => one.type === 'radio' ? 'radio ' + one.name : one.tagName + ' ' + [...document.querySelectorAll('*')].indexOf(one);
    window.lookOf = one => [one, one.parentElement].map(one => getComputedStyle(one)).map(style => [style.outlineStyle,
        style.outlineWidth, style.outlineColor, style.boxShadow, style.borderColor, style.backgroundColor].join()).join();
    const all = [...document.querySelectorAll('a[href], button, input, select, textarea, summary, [tabindex]')];
    window.plain = new Map(all.map(one => [one, lookOf(one)]));
    const reachable = all.filter(one => one.type !== 'hidden' && !one.disabled && one.tabIndex >= 0
        && one.checkVisibility({visibilityProperty: true}));
    return [...new Set(reachable.map(nameOf))] })()";

/// Where the focus is, and whether one sees it: something inside the window that looks otherwise than before.
const STOP: &str = "(() => {
    const one = document.activeElement;
    if (!one || one === document.body) return {name: null};
    const box = one.getBoundingClientRect();
    return {name: nameOf(one), known: plain.has(one), shown: plain.get(one) !== lookOf(one)
        && box.width > 0 && box.right > 0 && box.bottom > 0 && box.top < innerHeight} })()";

fn lines(tab: &Tab, expression: &str) -> Vec<String> {
    let found = tab.value(expression);
    let found = found
        .as_array()
        .unwrap_or_else(|| panic!("{expression}: {found}"));
    found
        .iter()
        .map(|one| one.as_str().unwrap_or_default().to_owned())
        .collect()
}
