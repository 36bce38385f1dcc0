//! Pictures of every page, light and dark, for people to look at: kept in `tests/output`. The two of the README are made here
//! as well, when asked: `UPDATE=1 cargo test --test browser pictures`.

use std::{fs, path::Path};

use crate::{
    chromium::Browser,
    scene::{Scene, at},
};

/// The most that a picture of the README may weigh.
const SMALL_BYTES: usize = 100 << 10;

/// The pictures of the README: the file, the page, the scheme.
const SMALL: [(&str, &str, &str); 2] = [
    ("overview-light.png", "/", "light"),
    ("queue-dark.png", "/queues/emails", "dark"),
];

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn pictures_of_every_page() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let (scene, tab) = (Scene::new(), browser.open());
    let output = project().join("tests/output");
    fs::create_dir_all(&output).expect("the directory of the pictures");
    for (name, path) in scene.pages() {
        tab.go(&scene.at(&path));
        for scheme in ["light", "dark"] {
            tab.prefer(scheme);
            tab.resize(1200, 800);
            let picture = tab.picture(true);
            fs::write(output.join(format!("{name}-{scheme}.png")), picture).expect("a picture");
        }
        tab.resize(390, 800);
        let picture = tab.picture(true);
        fs::write(output.join(format!("{name}-phone.png")), picture).expect("a picture");
    }
    let update = std::env::var_os("UPDATE").is_some();
    let small = project().join("packaging/screenshots");
    for (file, path, scheme) in SMALL {
        tab.resize(1000, 700);
        tab.prefer(scheme);
        tab.go(&at(&scene.daemon, path));
        let picture = tab.picture(false);
        assert!(
            picture.len() <= SMALL_BYTES,
            "{file} has {} bytes",
            picture.len()
        );
        if update {
            fs::create_dir_all(&small).expect("the directory of the README's pictures");
            fs::write(small.join(file), picture).expect("a picture");
        } else {
            assert!(
                small.join(file).is_file(),
                "packaging/screenshots/{file} is missing: UPDATE=1 makes it"
            );
        }
    }
    crate::common::mount::say(&format!(
        "\npictures of every page, light, dark and on a phone: {}\n",
        output.display()
    ));
}
