//! `GET /api/docs`: the API's description as a page for people.
//!
//! Knows OpenAPI and HTML, not what the operations do: whatever the description says is shown, nothing else.

use std::sync::LazyLock;

use axum::response::Response;
use maud::{Markup, html};
use serde_json::Value;

use super::{openapi, pages};

/// The methods of a path, in the order in which they are shown.
const METHODS: [&str; 4] = ["get", "post", "patch", "delete"];

/// This description as a page.
#[utoipa::path(
    get, path = "/api/docs", tag = "operation", operation_id = "docs",
    responses((status = 200, description = "A page", body = String, content_type = "text/html"))
)]
pub(crate) async fn show() -> Response {
    static CONTENT: LazyLock<Markup> = LazyLock::new(|| content(&openapi::OF_TCP.value));
    pages::respond("API", &CONTENT)
}

/// `document` as a page's content.
pub(crate) fn content(document: &Value) -> Markup {
    let operations = operations(document);
    html! {
        h1 { "The API" }
        (paragraphs(text(&document["info"], "description")))
        p { "For programs, the same as " a href="/api/openapi.json" { "OpenAPI 3.1" } "." }
        @for tag in list(&document["tags"]) {
            @let name = text(tag, "name");
            h2 id=(name) { (text(tag, "description")) }
            @for one in operations.iter().filter(|one| one.tag == name) {
                (operation(one))
            }
        }
        h2 id="schemas" { "Objects" }
        @if let Some(schemas) = document["components"]["schemas"].as_object() {
            @for (name, schema) in schemas {
                h3 id={ "schema-" (name) } { code { (name) } }
                (paragraphs(text(schema, "description")))
                (fields(schema))
            }
        }
    }
}

struct Operation<'a> {
    tag: &'a str,
    method: &'a str,
    path: &'a str,
    content: &'a Value,
}

fn operations(document: &Value) -> Vec<Operation<'_>> {
    let mut operations = Vec::new();
    for (path, entry) in document["paths"].as_object().into_iter().flatten() {
        for method in METHODS {
            if let Some(content) = entry.get(method) {
                let tag = content["tags"][0].as_str().unwrap_or_default();
                operations.push(Operation {
                    tag,
                    method,
                    path,
                    content,
                });
            }
        }
    }
    operations
}

fn operation(operation: &Operation<'_>) -> Markup {
    let content = operation.content;
    let parameters = list(&content["parameters"]);
    html! {
        section {
            h3 id=(text(content, "operationId")) {
                code { (operation.method.to_uppercase()) " " (operation.path) }
            }
            p { strong { (text(content, "summary")) } }
            (paragraphs(text(content, "description")))
            @if !parameters.is_empty() {
                div class="scroll" { table {
                    thead { tr { th { "Parameter" } th { "In" } th { "Value" } th { "Meaning" } } }
                    tbody { @for one in parameters { tr {
                        td data-name="Parameter" { code { (text(one, "name")) } }
                        td data-name="In" { (text(one, "in")) @if one["required"] == true { ", required" } }
                        td data-name="Value" { (kind(&one["schema"])) }
                        td data-name="Meaning" { (marked(text(one, "description"))) }
                    } } }
                } }
            }
            @for (media, body) in object(&content["requestBody"]["content"]) {
                p { "Body: " code { (media) } ", " (kind(&body["schema"])) }
            }
            div class="scroll" { table {
                thead { tr { th { "Status" } th { "Answer" } th { "Meaning" } } }
                tbody { @for (status, response) in object(&content["responses"]) { tr {
                    td data-name="Status" { (status) }
                    td data-name="Answer" { @for (media, body) in object(&response["content"]) {
                        code { (media) } " " (kind(&body["schema"]))
                    } }
                    td data-name="Meaning" { (paragraphs(text(response, "description"))) }
                } } }
            } }
        }
    }
}

/// The members of an object, or the alternatives of a choice.
fn fields(schema: &Value) -> Markup {
    let mut members: Vec<(&String, &Value, bool)> = Vec::new();
    for part in std::iter::once(schema).chain(list(&schema["allOf"])) {
        let required = list(&part["required"]);
        for (name, member) in object(&part["properties"]) {
            members.push((name, member, required.iter().any(|one| one == name)));
        }
    }
    html! {
        @if members.is_empty() {
            p { (kind(schema)) }
        } @else {
            @for part in list(&schema["allOf"]).iter().filter(|part| part.get("$ref").is_some()) {
                p { "All of " (kind(part)) ", and:" }
            }
            div class="scroll" { table {
                thead { tr { th { "Member" } th { "Value" } th { "Meaning" } } }
                tbody { @for (name, member, is_required) in members { tr {
                    td data-name="Member" { code { (name) } @if is_required { ", always" } }
                    td data-name="Value" { (kind(member)) }
                    td data-name="Meaning" { (marked(text(member, "description"))) }
                } } }
            } }
        }
    }
}

/// What a value is: its type, its limits, or a link to its object.
fn kind(schema: &Value) -> Markup {
    if let Some(name) = schema["$ref"]
        .as_str()
        .and_then(|path| path.rsplit('/').next())
    {
        return html! { a href={ "#schema-" (name) } { (name) } };
    }
    let choices = ["oneOf", "anyOf"]
        .into_iter()
        .flat_map(|key| list(&schema[key]));
    let choices: Vec<_> = choices.filter(|one| one["type"] != "null").collect();
    let words: Vec<_> = list(&schema["enum"])
        .iter()
        .filter_map(Value::as_str)
        .collect();
    html! {
        @if !choices.is_empty() {
            @for (index, one) in choices.iter().enumerate() {
                @if index > 0 { " or " }
                (kind(one))
            }
        } @else if !words.is_empty() {
            @for (index, word) in words.iter().enumerate() {
                @if index > 0 { ", " }
                code { (word) }
            }
        } @else if schema["type"] == "array" || list(&schema["type"]).iter().any(|one| one == "array") {
            "array of " (kind(&schema["items"]))
            (limits(schema))
        } @else {
            (type_name(&schema["type"]))
            (limits(schema))
        }
    }
}

fn type_name(value: &Value) -> String {
    let names: Vec<_> = match value {
        Value::String(name) => vec![name.as_str()],
        other => list(other)
            .iter()
            .filter_map(Value::as_str)
            .filter(|name| *name != "null")
            .collect(),
    };
    if names.is_empty() {
        "any JSON value".to_owned()
    } else {
        names.join(" or ")
    }
}

fn limits(schema: &Value) -> Markup {
    const SHOWN: [(&str, &str); 8] = [
        ("minimum", "at least "),
        ("maximum", "at most "),
        ("minLength", "shortest "),
        ("maxLength", "longest "),
        ("minItems", "at least "),
        ("maxItems", "at most "),
        ("default", "default "),
        ("pattern", ""),
    ];
    let shown = SHOWN
        .into_iter()
        .filter_map(|(key, words)| Some((words, schema.get(key)?)));
    html! {
        @for (words, value) in shown {
            ", " (words)
            code { @match value.as_str() { Some(text) => (text), None => (value) } }
        }
    }
}

fn object(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// Text with blank lines between its paragraphs.
fn paragraphs(text: &str) -> Markup {
    html! {
        @for part in text.split("\n\n").filter(|part| !part.trim().is_empty()) {
            p { (marked(part)) }
        }
    }
}

/// Text with words in backquotes, which are shown as code.
fn marked(text: &str) -> Markup {
    html! {
        @for (index, part) in text.split('`').enumerate() {
            @if index % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}
