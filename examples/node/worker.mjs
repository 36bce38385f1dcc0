// A worker for workqueue, with nothing but Node (18 or newer).
//
//     node worker.mjs [QUEUE]        WORKQUEUE_URL=http://127.0.0.1:5000  WORKQUEUE_LEASE=60
//
// Copy it, and replace `handle`. It stops on SIGTERM or Ctrl-C, after the task that it is doing.
import { setTimeout as sleep } from "node:timers/promises";

const url = (process.env.WORKQUEUE_URL ?? "http://127.0.0.1:5000") + "/api/v1";
const lease = Number(process.env.WORKQUEUE_LEASE ?? 60);
const queue = process.argv[2] ?? "default";

// The work. What it throws is the error of a failed attempt, which is tried again later.
async function handle(payload) {
  if (payload?.fail) throw new Error(payload.fail);
  await sleep((payload?.seconds ?? 0) * 1000);
  console.log(JSON.stringify(payload));
}

class Refused extends Error {}

// Asks until the daemon answers, with growing pauses while it restarts, or until the signal.
async function call(path, body, signal) {
  for (let pause = 100; ; pause = Math.min(pause * 2, 5000)) {
    try {
      const headers = { "Content-Type": "application/json" };
      const answer = await fetch(url + path, { method: "POST", headers, body: JSON.stringify(body), signal });
      if (answer.ok) return await answer.json();
      const problem = await answer.text(); // A problem document: its "detail" says in words what is wrong.
      if (answer.status < 500) throw new Refused(`${path}: ${problem}`);
      throw new Error(problem);
    } catch (error) {
      if (error instanceof Refused || signal?.aborted) throw error;
      console.error(`the daemon does not answer, again in ${pause} ms: ${error.cause?.message ?? error.message}`);
      await sleep(pause, undefined, { signal });
    }
  }
}

// Does one task, and gives what the next claim tells of it: nothing where the attempt failed.
async function work({ id, token, payload }) {
  const lost = (error) => console.error(`the lease is lost: ${error.message}`);
  const keeper = setInterval(() => call(`/tasks/${id}/extend`, { token, lease }).catch(lost), (lease / 3) * 1000);
  try {
    await handle(payload);
    return [{ id, token }];
  } catch (error) {
    await call(`/tasks/${id}/fail`, { token, error: String(error) }).catch(lost);
    return [];
  } finally {
    clearInterval(keeper);
  }
}

const stopping = new AbortController();
for (const name of ["SIGTERM", "SIGINT"]) process.on(name, () => stopping.abort());

let completed = [];
while (!stopping.signal.aborted) {
  const claim = { queues: [queue], wait: 30, lease, worker: `node:${process.pid}`, complete: completed };
  let tasks;
  try {
    // A claim that waits is given up by a stop; what it was just handed comes back when its lease ends.
    ({ tasks } = await call("/claim", claim, stopping.signal));
  } catch (error) {
    if (stopping.signal.aborted) break;
    throw error;
  }
  completed = [];
  for (const task of tasks) completed.push(...(await work(task)));
}
// Said again where it is not sure that it was heard: the second time does nothing.
if (completed.length > 0) await call("/claim", { max: 0, complete: completed });
process.exit(0); // Kept connections would keep the process.
