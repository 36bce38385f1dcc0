//! What is wrong, in words, at the top of the overview; or that all is well.

use maud::{Markup, html};

use crate::api::{Severity, Trouble};

/// The banner.
pub(super) fn banner(troubles: &[Trouble]) -> Markup {
    let (notices, wrong): (Vec<&Trouble>, Vec<&Trouble>) = troubles
        .iter()
        .partition(|one| one.severity == Severity::Notice);
    let is_critical = wrong.iter().any(|one| one.severity == Severity::Critical);
    html! {
        div id="troubles" {
            @if wrong.is_empty() {
                p class="well" role="status" { "All is well." }
            } @else {
                section class={ "troubles" @if !is_critical { " warning" } } role="alert" aria-labelledby="troubles-title" {
                    h2 id="troubles-title" { @if is_critical { "Something is wrong" } @else { "Something needs a look" } }
                    (list(&wrong))
                }
            }
            @if !notices.is_empty() {
                section class="troubles notices" aria-labelledby="notices-title" {
                    h2 id="notices-title" { "Set on purpose" }
                    (list(&notices))
                }
            }
        }
    }
}

fn list(troubles: &[&Trouble]) -> Markup {
    html! {
        ul {
            @for one in troubles {
                li class=(one.kind) {
                    // The words name the queue already: they are the link, rather than a second name before them.
                    b dir="auto" {
                        @if let Some(queue) = &one.queue {
                            a href={ "/queues/" (queue) } { (one.what) }
                        } @else {
                            (one.what)
                        }
                    }
                    @if !one.next.is_empty() { span class="next" { (one.next) } }
                }
            }
        }
    }
}
