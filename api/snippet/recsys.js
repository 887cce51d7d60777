/* Recommendations in a shop's page, after recsys.init({ key, endpoint, user, session, consent }).
 * Nothing throws into the page: while the server is away, slates are empty, events wait. */
(() => {
  "use strict";

  const STORED = "recsys.session";
  const BATCH = 50; // events: a beacon takes 64 kB
  const KEEP = 1000; // events that wait; then the oldest go
  const PAUSE_MS = 1000; // what happens within it travels together
  const SEEN_MS = 1000; // half of an item for it counts as seen

  let config;
  let queue = [];
  let timer;
  let pause = PAUSE_MS;
  let sending = false;
  const shown = new WeakMap(); // element to { itemId, requestId, timer }

  const id = () =>
    Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");

  function init({ key, endpoint = "", user, session, consent = true }) {
    let kept;
    try {
      kept = consent && localStorage.getItem(STORED);
    } catch {} // nothing may be stored
    config = { key, endpoint: endpoint.replace(/\/$/, ""), user, session: session || kept || id() };
    allow(consent);
  }

  /* Whether the session is kept and events are told. */
  function allow(consent) {
    config.consent = consent;
    if (!consent) queue = [];
    try {
      if (consent) localStorage.setItem(STORED, config.session);
      else localStorage.removeItem(STORED);
    } catch {}
  }

  const shopper = () => ({ session_id: config.session, ...(config.user && { user_id: config.user }) });

  async function post(path, body, keepalive = false) {
    const answer = await fetch(config.endpoint + path, {
      method: "POST",
      keepalive,
      headers: { "Content-Type": "application/json", Authorization: `Bearer ${config.key}` },
      body: JSON.stringify(body),
    });
    const content = await answer.json().catch(() => ({}));
    if (answer.ok) return content;
    throw Object.assign(new Error(content.error?.message ?? answer.status), { status: answer.status });
  }

  const asked = (path, body) =>
    post(path, body).catch((error) => ({ items: [], error: error.message }));

  /* The server's answer; without one, no items and an `error`. */
  function recommend({ context = [], ...rest } = {}) {
    const context_item_ids = [context].flat();
    const body = { ...shopper(), context_item_ids, return_properties: true, ...rest };
    return asked("/v1/recommend", body);
  }

  /* Fills an element with a slate; without items, what it holds stays. `renderItem(item)` makes
   * an element; clicks on it are told, and that it was seen. */
  async function render(target, options, renderItem = link) {
    const answer = await recommend(options);
    const place = typeof target === "string" ? document.querySelector(target) : target;
    if (!place || !answer.items.length) return answer;
    const elements = answer.items.map((item) => {
      const element = renderItem(item);
      shown.set(element, { itemId: item.item_id, requestId: answer.request_id });
      element.addEventListener("click", () => track("click", item.item_id, answer.request_id));
      return element;
    });
    place.replaceChildren(...elements);
    elements.forEach((element) => watch.observe(element));
    return answer;
  }

  /* A title never becomes markup, an address never a script. */
  function link({ item_id, properties = {} }) {
    const element = document.createElement("a");
    const url = properties.attributes?.url;
    element.className = "recsys-item";
    element.textContent = properties.title || item_id;
    if (/^(https?:\/\/|\/(?!\/))/.test(url)) element.href = url;
    return element;
  }

  const watch = new IntersectionObserver(
    (entries) => {
      for (const { target, intersectionRatio } of entries) {
        const what = shown.get(target);
        clearTimeout(what.timer);
        if (intersectionRatio >= 0.5) what.timer = setTimeout(seen, SEEN_MS, target, what);
      }
    },
    { threshold: 0.5 },
  );

  function seen(element, what) {
    if (document.hidden) return void (what.timer = setTimeout(seen, SEEN_MS, element, what));
    watch.unobserve(element);
    track("seen", what.itemId, what.requestId);
  }

  function track(type, itemId, requestId) {
    if (!config?.consent) return;
    queue.push({
      event_id: id(), // sent twice, it is stored once
      event_type: type,
      item_id: String(itemId),
      event_time: new Date().toISOString(),
      ...shopper(),
      ...(requestId && { request_id: requestId }),
    });
    queue = queue.slice(-KEEP);
    timer ??= setTimeout(flush, pause);
  }

  async function flush() {
    timer = undefined;
    if (sending || !queue.length) return;
    sending = true;
    const batch = queue.slice(0, BATCH);
    try {
      await post("/v1/events", { events: batch }, true);
      drop(batch);
      pause = PAUSE_MS;
    } catch ({ status }) {
      if ([400, 413, 415, 422].includes(status)) drop(batch); // refused, now and ever
      else pause = Math.min(2 * pause, 60 * PAUSE_MS);
    }
    sending = false;
    if (queue.length) timer ??= setTimeout(flush, pause);
  }

  function drop(batch) {
    queue = queue.filter((event) => !batch.includes(event));
  }

  /* The page goes, and what waits: as text, for which a beacon need not ask. */
  function leave() {
    while (queue.length) {
      const batch = queue.slice(0, BATCH);
      const body = new Blob([JSON.stringify({ events: batch })], { type: "text/plain" });
      const key = encodeURIComponent(config.key);
      if (!navigator.sendBeacon(`${config.endpoint}/v1/events?key=${key}`, body)) return;
      drop(batch);
    }
  }

  /* What happened in this session is the user's, too. */
  function login(userId) {
    config.user = String(userId);
    return asked("/v1/sessions", shopper());
  }

  addEventListener("pagehide", leave);
  addEventListener("visibilitychange", () => document.hidden && leave(), true);

  window.recsys = { init, allow, recommend, render, track, login };
})();
