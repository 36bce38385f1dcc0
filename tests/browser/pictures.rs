//! Pictures of every page, light and dark, for people to look at: kept in `tests/output`. The two of the README are made here
//! as well, when asked: `UPDATE=1 cargo test --test browser pictures`.

use std::{fs, path::Path};

use crate::{chromium::Browser, scene::Scene, tab::Tab};

/// The most that a picture of the README may weigh.
const SMALL_BYTES: usize = 100 << 10;

/// How high a picture of a page gets: what is below repeats itself.
const HIGHEST: u32 = 2400;

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn pictures_of_every_page() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let (mut scene, tab) = (Scene::calm(), browser.open());
    // A minute of traffic for the README's charts; some of it in a test.
    let beats = if is_update() { 290 } else { 15 };
    scene.traffic(beats);
    tab.resize(1100, 940);
    small(&scene, &tab, "overview-light.png", "/?span=minute");
    scene.trouble();
    tab.resize(1000, 640);
    tab.prefer("dark");
    small(&scene, &tab, "queue-dark.png", "/queues/emails?state=dead");

    let output = project().join("tests/output");
    fs::create_dir_all(&output).expect("the directory of the pictures");
    for (name, path) in scene.pages() {
        tab.go(&scene.at(&path));
        for (kind, scheme, width) in [
            ("light", "light", 1200),
            ("dark", "dark", 1200),
            ("phone", "light", 390),
        ] {
            tab.prefer(scheme);
            tab.resize(width, 800);
            let picture = tab.picture(Some(HIGHEST));
            fs::write(output.join(format!("{name}-{kind}.png")), picture).expect("a picture");
        }
    }
    crate::common::mount::say(&format!(
        "\npictures of every page, light, dark and on a phone: {}\n",
        output.display()
    ));
}

fn is_update() -> bool {
    std::env::var_os("UPDATE").is_some()
}

/// A picture of the README: made when asked, looked for else.
fn small(scene: &Scene, tab: &Tab, file: &str, path: &str) {
    tab.go(&scene.at(path));
    let picture = tab.picture(None);
    assert!(
        picture.len() <= SMALL_BYTES,
        "{file} has {} bytes",
        picture.len()
    );
    let dir = project().join("packaging/screenshots");
    if is_update() {
        fs::create_dir_all(&dir).expect("the directory of the README's pictures");
        fs::write(dir.join(file), picture).expect("a picture");
    } else {
        assert!(
            dir.join(file).is_file(),
            "packaging/screenshots/{file} is missing: UPDATE=1 makes it"
        );
    }
}
