// Keeps a page up to date. Every page is whole without this script; it adds three things:
// - times in the browser's zone, where the page has them in UTC,
// - the zone of what is filled in as date and time,
// - the page as it is now, whenever the daemon tells of an event that concerns it.
"use strict";
(() => {
  const SOON = 400; // After an event, before the page is loaded anew: events come in bursts.
  const BUSY = 2500; // Between looks while events come faster than that.
  const AGES = 20000; // Ages, rates and charts change without events.
  const FIRST = 3000; // What happened while the page was loading has been missed.
  const SILENCE = 45000; // The daemon sends a sign of life every 15 seconds.
  const LONGEST_WAIT = 10000; // Between attempts to connect again.

  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "local time";
  const two = (number) => String(number).padStart(2, "0");

  function localise(root) {
    for (const time of root.querySelectorAll("time[datetime]")) {
      const at = new Date(time.dateTime);
      if (isNaN(at)) continue;
      time.title = time.dateTime;
      time.textContent = at.getFullYear() + "-" + two(at.getMonth() + 1) + "-" + two(at.getDate()) + " "
        + two(at.getHours()) + ":" + two(at.getMinutes()) + ":" + two(at.getSeconds());
    }
    for (const name of root.querySelectorAll(".zone")) name.textContent = zone;
    const line = root.querySelector("#zone");
    if (line) line.textContent = "Times are in " + zone + ".";
  }

  // The offset of the day that was filled in, which is not always that of today.
  document.addEventListener("submit", (event) => {
    const { exectime, offset } = event.target.elements;
    if (!exectime || !offset || !exectime.value) return;
    const at = new Date(exectime.value);
    if (!isNaN(at)) offset.value = at.getTimezoneOffset();
  });

  // Makes `old` like `fresh` and leaves alone what is alike, so that focus, selection and open details stay.
  function renew(old, fresh) {
    if (old.isEqualNode(fresh)) return;
    for (const { name } of [...old.attributes]) {
      if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
    }
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value && name !== "open") old.setAttribute(name, value);
    }
    const ids = new Set([...fresh.children].map((child) => child.id));
    for (const child of [...old.children]) if (child.id && !ids.has(child.id)) child.remove();
    let next = old.firstChild;
    for (const child of [...fresh.childNodes]) {
      let match = null;
      if (child.id) match = [...old.children].find((one) => one.id === child.id);
      else if (next && !next.id && next.nodeName === child.nodeName) match = next;
      if (!match) {
        old.insertBefore(document.importNode(child, true), next);
      } else {
        if (match !== next) old.insertBefore(match, next);
        if (match.nodeType !== Node.ELEMENT_NODE) {
          if (match.data !== child.data) match.data = child.data;
        } else if (!match.matches("form.submit, form.filter")) renew(match, child); // What is being filled in stays.
        next = match.nextSibling;
      }
    }
    while (next) {
      const gone = next;
      next = next.nextSibling;
      gone.remove();
    }
  }

  localise(document);
  const wanted = document.body.dataset.live;
  if (wanted === undefined) return;

  const state = document.getElementById("connection");
  const say = (text, lost) => {
    if (state.textContent !== text) state.textContent = text;
    state.dataset.state = lost ? "lost" : "live";
  };

  let refreshing = false;
  async function refresh() {
    if (refreshing) return;
    refreshing = true;
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store" });
      // A task that is gone, say: its page says so from now on.
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.getElementById("main");
      if (!fresh) return;
      localise(page);
      // What was said after a form was sent is said once.
      page.querySelectorAll(".notice").forEach((notice) => notice.remove());
      const notice = document.querySelector(".notice");
      if (notice) fresh.prepend(notice.cloneNode(true));
      renew(document.getElementById("main"), fresh);
    } finally {
      refreshing = false;
    }
  }

  const pause = (millis) => new Promise((done) => setTimeout(done, millis));
  const seen = () => new Promise((done) => {
    const look = () => {
      if (document.hidden) return;
      document.removeEventListener("visibilitychange", look);
      done();
    };
    document.addEventListener("visibilitychange", look);
    look();
  });

  // Listens until an event comes, the page has grown old, or the connection breaks, which is an error.
  async function listen(first, connected) {
    const stop = new AbortController();
    let silence = setTimeout(() => stop.abort(), SILENCE);
    const hide = () => document.hidden && stop.abort();
    document.addEventListener("visibilitychange", hide);
    try {
      const answer = await fetch("/api/v1/events" + (wanted && "?" + wanted), { signal: stop.signal, cache: "no-store" });
      if (!answer.ok) throw new Error("status " + answer.status);
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      // Only now nothing is missed any more: what happened before is seen by loading the page.
      await connected();
      const old = pause(first ? FIRST : AGES).then(() => ({ old: true }));
      for (;;) {
        const { value, done, old: isOld } = await Promise.race([reader.read(), old]);
        if (isOld) return;
        if (done) throw new Error("the stream has ended");
        clearTimeout(silence);
        silence = setTimeout(() => stop.abort(), SILENCE);
        if (/^data:/m.test(value)) return;
      }
    } finally {
      clearTimeout(silence);
      document.removeEventListener("visibilitychange", hide);
      stop.abort();
    }
  }

  (async () => {
    let lost = false;
    let wait = 500;
    let first = true;
    for (;;) {
      await seen();
      const began = Date.now();
      try {
        await listen(first, async () => {
          if (!first) await refresh();
          if (lost) {
            say("Connected again", false);
            setTimeout(() => state.textContent === "Connected again" && say("Live", false), 8000);
          } else if (first) say("Live", false);
          [first, lost, wait] = [false, false, 500];
        });
        await pause(Date.now() - began < BUSY ? Math.max(SOON, BUSY - (Date.now() - began)) : SOON);
      } catch {
        if (document.hidden) continue;
        lost = true;
        say("Reconnecting…", true);
        await pause(wait * (0.75 + Math.random() / 2));
        wait = Math.min(wait * 2, LONGEST_WAIT);
      }
    }
  })();
})();
