// Submits a task to workqueue, with nothing but Node (18 or newer), and prints its id.
//
//     node submit.mjs QUEUE PAYLOAD        WORKQUEUE_URL=http://127.0.0.1:5000
//
// PAYLOAD is JSON, or else a text.
if (process.argv.length !== 4) {
  console.error("usage: submit.mjs QUEUE PAYLOAD");
  process.exit(1);
}
const [queue, text] = process.argv.slice(2);
let payload = text;
try {
  payload = JSON.parse(text);
} catch {
  // A text, as it is.
}
const url = (process.env.WORKQUEUE_URL ?? "http://127.0.0.1:5000") + "/api/v1/tasks";
const headers = { "Content-Type": "application/json" };
const answer = await fetch(url, { method: "POST", headers, body: JSON.stringify({ queue, payload }) });
const body = await answer.text();
if (!answer.ok) {
  console.error(body); // A problem document: its "detail" says in words what is wrong.
  process.exit(1);
}
console.log(JSON.parse(body).id);
