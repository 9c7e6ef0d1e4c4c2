// The live page: asks live.json again and again, and shows what it says.
//
// All numbers are made by the server; here they get units, places and lines. The document is
// changed only where something has changed, and built of nodes and texts, never of markup.
"use strict";

const SPAN_S = 120;
const RETRY_S = 2;
const ANSWER_S = 5;
const WIDTH = 240;
const HEIGHT = 60;

const $ = (id) => document.getElementById(id);

function make(name, className, text) {
  const node = document.createElement(name);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function draw(name, attributes) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const key in attributes) node.setAttribute(key, attributes[key]);
  return node;
}

function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function dress(node, className) {
  if (node.className !== className) node.className = className;
}

// -- numbers as texts ------------------------------------------------------------------

const NONE = "–";

function digits(number, most = 1) {
  const few = Math.abs(number) >= 10 ? 0 : most;
  return number.toLocaleString("en", { minimumFractionDigits: 0, maximumFractionDigits: few });
}

function perSecond(number) {
  return number === null ? NONE : digits(number);
}

function seconds(number) {
  if (number < 1) return `${digits(number * 1000)} ms`;
  return `${digits(number)} s`;
}

// A percentile out of buckets: below the first and above the last bound that is all there is.
function within(number, [first, last]) {
  if (number === null) return NONE;
  if (number <= first) return `< ${seconds(first)}`;
  return number >= last ? `> ${seconds(last)}` : seconds(number);
}

function age(s) {
  if (s < 9.95) return `${s.toFixed(1)}s`;
  if (s < 60) return `${Math.floor(s)}s`;
  return s < 3600 ? `${Math.floor(s / 60)}m` : `${Math.floor(s / 3600)}h`;
}

function life(s) {
  const [days, hours, minutes] = [Math.floor(s / 86400), Math.floor(s / 3600) % 24, Math.floor(s / 60) % 60];
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min` : `${Math.floor(s)} s`;
}

function bytes(number) {
  if (number === null) return NONE;
  const mib = number / 1048576;
  return mib < 1024 ? `${digits(mib)} MiB` : `${digits(mib / 1024)} GiB`;
}

const share = (number) => (number === null ? NONE : `${digits(number * 100, 0)} %`);
const plural = (count, one) => `${count.toLocaleString("en")} ${one}${count === 1 ? "" : "s"}`;
const clock = (unix) => new Date(unix * 1000).toLocaleTimeString("en-GB");
const last = (column) => (column.length ? column[column.length - 1] : null);

// -- cards -----------------------------------------------------------------------------

// What each card shows: its series, the least top of its chart, how a number is written,
// its number and a line about it.
const CARDS = [
  {
    title: "Threads busy", series: ["busy"], top: 1, fixed: true, write: share,
    value: (s) => [`${s.busy}`, `of ${s.threads}`],
    about: (s) => `${share(last(s.history.busy))} of the last ${s.window}`,
  },
  {
    title: "Requests", series: ["rate"], top: 1, write: (n) => `${perSecond(n)}/s`,
    value: (s) => [perSecond(last(s.history.rate)), "per second"],
    about: (s) => (s.connections.length
      ? `${plural(s.connections.reduce((a, b) => a + b, 0), "connection")}, ${s.connections[3]} idle` : ""),
  },
  {
    title: "Errors (5xx)", series: ["errors"], top: 1, write: (n) => `${perSecond(n)}/s`,
    value: (s) => [perSecond(last(s.history.errors)), "per second"],
    about: (s) => {
      const [errors, rate] = [last(s.history.errors), last(s.history.rate)];
      return rate ? `${share(errors / rate)} of responses` : "";
    },
  },
  {
    title: "Duration", series: ["p50", "p95", "p99"], top: 0.001, write: seconds, bounds: "duration",
    names: ["p50", "p95", "p99"],
  },
  {
    title: "Queue time", series: ["queue_p50", "queue_p95", "queue_p99"], top: 0.001, write: seconds,
    bounds: "queue", names: ["p50", "p95", "p99"],
  },
  {
    title: "Backlog", series: ["backlog"], top: 10, write: digits,
    value: (s) => [last(s.history.backlog) === null ? NONE : digits(last(s.history.backlog)), "waiting"],
    about: (s) => {
      const limits = s.listeners.filter((one) => one.limit !== null);
      const dropped = s.listeners.reduce((sum, one) => sum + (one.dropped || 0), 0);
      const room = limits.length ? `limit ${limits.map((one) => one.limit.toLocaleString("en")).join(", ")}` : "";
      return dropped ? `${room}; ${dropped.toLocaleString("en")} dropped` : room;
    },
  },
  {
    title: "CPU of workers", series: ["cpu"], top: 0.1, write: (n) => digits(n, 2),
    value: (s) => [last(s.history.cpu) === null ? NONE : digits(last(s.history.cpu), 2), `of ${plural(s.cores, "core")}`],
    about: () => "",
  },
  {
    title: "Memory of workers", series: ["memory"], top: 1048576, step: 1048576, write: bytes,
    value: (s) => bytes(last(s.history.memory)).split(" "),
    about: (s) => (s.memory.limit ? `container ${bytes(s.memory.used)} of ${bytes(s.memory.limit)}` : "no container limit"),
  },
  {
    title: "Workers ended", series: ["exits"], top: 1, write: digits, bars: true,
    // As drawn: an exporter that a reload or an upgrade has replaced knows less than this page.
    value: (s) => [s.history.exits.reduce((sum, ended) => sum + (ended || 0), 0).toLocaleString("en"), "in two minutes"],
    about: (s) => {
      const recent = s.exits.filter((one) => one.recent);
      return recent.map((one) => `${one.recent} ${one.reason.replace(/_/g, " ")}`).join(", ");
    },
  },
];

function buildCard(card) {
  const box = make("article", "card");
  const left = box.appendChild(make("div"));
  const title = left.appendChild(make("h3", "", card.title));
  title.id = `card-${CARDS.indexOf(card)}`;
  box.setAttribute("aria-labelledby", title.id);
  if (card.names) {
    const list = left.appendChild(make("dl", "lines"));
    card.numbers = card.names.map((name, index) => {
      const sample = draw("svg", { viewBox: "0 0 26 8", "aria-hidden": "true" });
      sample.append(draw("path", { class: `line-${index + 1}`, d: "M1 4H25" }));
      list.append(sample, make("dt", "", name), make("dd", "", NONE));
      return list.lastChild;
    });
  } else {
    const line = left.appendChild(make("p", "value"));
    card.number = line.appendChild(make("span", "", NONE));
    line.append(" ");
    card.unit = line.appendChild(make("small"));
    card.more = left.appendChild(make("p", "about"));
  }
  const chart = box.appendChild(make("div", "chart"));
  card.high = chart.appendChild(make("p")).appendChild(make("span", "high"));
  card.svg = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
  card.svg.append(draw("path", { class: "axis", d: `M0 0H${WIDTH}M0 ${HEIGHT}H${WIDTH}` }));
  if (card.series.length === 1) card.area = card.svg.appendChild(draw("path", { class: "area" }));
  card.paths = card.series.map((_, index) => card.svg.appendChild(draw("path", { class: `line-${index + 1}` })));
  chart.append(card.svg);
  const feet = chart.appendChild(make("p"));
  feet.setAttribute("aria-hidden", "true");
  feet.append(make("span", "", "2 min ago"), make("span", "", "now"));
  $("cards").append(box);
}

// The next of 1, 2, 5, 10, ... steps at or above a number.
function roundUp(number, step = 1) {
  const ten = step * 10 ** Math.floor(Math.log10(number / step));
  return [1, 2, 5, 10].map((times) => times * ten).find((top) => top >= number * 0.999999);
}

function tracePath(at, column, now, top, bars) {
  let [line, area, begun] = ["", "", null];
  const x = (index) => Math.max(0, WIDTH * (1 - (now - at[index]) / SPAN_S)).toFixed(1);
  const y = (value) => (HEIGHT * (1 - Math.min(value / top, 1))).toFixed(1);
  column.forEach((value, index) => {
    if (value === null) {
      if (begun !== null) area += `V${HEIGHT}Z`;
      begun = null;
    } else if (bars) {
      if (value) line += `M${x(index)} ${HEIGHT}V${y(value)}`;
    } else if (begun === null) {
      begun = index;
      line += `M${x(index)} ${y(value)}h0`;
      area += `M${x(index)} ${HEIGHT}V${y(value)}`;
    } else {
      line += `L${x(index)} ${y(value)}`;
      area += `L${x(index)} ${y(value)}`;
    }
  });
  return [line, begun === null ? area : `${area}V${HEIGHT}Z`];
}

function showCard(card, state) {
  const columns = card.series.map((name) => state.history[name]);
  const known = columns.flat().filter((value) => value !== null);
  const most = Math.max(card.top, ...known);
  const top = card.fixed ? card.top : roundUp(most, card.step);
  columns.forEach((column, index) => {
    const [line, area] = tracePath(state.history.at, column, state.now, top, card.bars);
    card.paths[index].setAttribute("d", line);
    if (card.area) card.area.setAttribute("d", area);
  });
  say(card.high, card.write(top));
  let now;
  if (card.names) {
    const texts = columns.map((column) => within(last(column), state.bounds[card.bounds]));
    texts.forEach((text, index) => say(card.numbers[index], text));
    now = card.names.map((name, index) => `${name} ${texts[index]}`).join(", ");
  } else {
    const [number, unit] = card.value(state);
    say(card.number, number);
    say(card.unit, unit || "");
    say(card.more, card.about(state));
    now = `${number} ${unit || ""}`;
  }
  const highest = known.length ? `, highest ${card.write(Math.max(...known))}` : "";
  card.svg.setAttribute("aria-label", `${card.title} over two minutes: now ${now}${highest}`);
}

// -- the grid --------------------------------------------------------------------------

const grid = { shape: "", rows: [] };
const AFTER = ["Busy", "Requests/s", "CPU", "Memory", "Up"];

function buildGrid(workers, columns) {
  const head = make("tr");
  const column = (text, className) => {
    const cell = head.appendChild(make("th", className));
    cell.scope = "col";
    if (className) cell.append(make("span", "unseen", "Thread "));
    cell.append(text);
  };
  column("Worker");
  for (let number = 1; number <= columns; number += 1) column(String(number), "thread");
  AFTER.forEach((text) => column(text));
  const body = document.createDocumentFragment();
  grid.rows = workers.map((worker) => {
    const row = body.appendChild(make("tr"));
    const name = row.appendChild(make("th", "", String(worker.slot)));
    name.scope = "row";
    name.append(" ");
    const state = name.appendChild(make("span", "state"));
    const cells = [];
    for (let number = 0; number < columns; number += 1) {
      const cell = row.appendChild(make("td", "thread"));
      const sign = cell.appendChild(make("span"));
      sign.setAttribute("aria-hidden", "true");
      cells.push({ cell, sign, words: cell.appendChild(make("span", "unseen")) });
    }
    return { state, cells, after: AFTER.map(() => row.appendChild(make("td"))) };
  });
  $("grid").tHead.replaceChildren(head);
  $("grid").tBodies[0].replaceChildren(body);
}

function showThread({ cell, sign, words }, s, state) {
  if (s === undefined) {
    dress(cell, "thread");
    say(sign, "");
    say(words, "no such thread");
  } else if (s < 0) {
    dress(cell, "thread idle");
    say(sign, "·");
    say(words, "idle");
  } else {
    const kind = s >= state.stuck_s ? "stuck" : s >= state.long_s ? "long" : "busy";
    dress(cell, `thread ${kind}`);
    say(sign, `${{ stuck: "✕ ", long: "! ", busy: "" }[kind]}${age(s)}`);
    say(words, `${kind} ${age(s)}`);
  }
}

function showGrid(state) {
  const columns = Math.max(0, ...state.workers.map((worker) => worker.threads.length));
  const shape = `${columns}:${state.workers.map((worker) => worker.slot)}`;
  if (shape !== grid.shape) {
    buildGrid(state.workers, columns);
    grid.shape = shape;
  }
  state.workers.forEach((worker, index) => {
    const row = grid.rows[index];
    const silent = worker.silent_s > 0;
    say(row.state, silent ? `silent for ${life(worker.silent_s)}` : worker.state);
    dress(row.state, silent || worker.state !== "ready" ? "state odd" : "state");
    row.cells.forEach((cell, number) => showThread(cell, worker.threads[number], state));
    const texts = [
      `${worker.busy} of ${worker.size}`,
      perSecond(worker.rate),
      worker.cpu === null ? NONE : share(worker.cpu),
      bytes(worker.memory),
      life(worker.up_s),
    ];
    texts.forEach((text, number) => say(row.after[number], text));
  });
  const limit = state.timeout_s ? `--timeout, ${life(state.timeout_s)}` : `${life(state.stuck_s)}`;
  say($("long-means"), `long: over half of ${limit}`);
  say($("stuck-means"), `stuck: over ${limit}`);
}

// -- the rest --------------------------------------------------------------------------

function showAdvice(advice) {
  const found = advice ? advice.found : [];
  const none = advice ? "Nothing: no limit is near." : "Watching; this takes a few seconds.";
  say($("advice-none"), found.length ? "" : none);
  const list = $("advice-list");
  while (list.children.length > found.length) list.lastChild.remove();
  found.forEach((one, index) => {
    let item = list.children[index];
    if (!item) {
      item = list.appendChild(make("li"));
      item.append(make("strong"), document.createTextNode(""), make("span"));
    }
    say(item.children[0], `${one.limit}: `);
    if (item.childNodes[1].data !== one.text) item.childNodes[1].data = one.text;
    say(item.children[1], one.numbers.join(" · "));
  });
  // Numbers move all the time; what is read aloud changes only when the advice does.
  if (!advice) return;
  const limits = found.map((one) => one.limit).join(", ");
  if (showAdvice.limits === limits) return;
  const first = showAdvice.limits === undefined;
  showAdvice.limits = limits;
  const text = found.map((one) => `${one.limit}: ${one.text}.`).join(" ");
  say($("advice-said"), found.length ? `Advice. ${text}` : first ? "" : "No limit is near any more.");
}

function showHeader(state) {
  const build = state.build.version ? `${state.build.version} · Python ${state.build.python} · ${state.build.parser}` : "";
  say($("build"), build);
  say($("health"), state.not_ready ? `✕ not ready: ${state.not_ready}` : "✓ ready");
  dress($("health"), state.not_ready ? "badge bad" : "badge good");
  const states = ["ready", "booting", "draining"].map((name) => [
    state.workers.filter((worker) => worker.state === name).length, name,
  ]);
  const counts = states.filter(([count], index) => count || !index).map(([count, name]) => `${count} ${name}`);
  const wanted = state.workers_wanted;
  const bounds = state.workers_most > state.workers_least ? ` (${state.workers_least}:${state.workers_most})` : "";
  say($("fleet"), `${plural(wanted, "worker")} wanted${bounds}, ${counts.join(", ")} · up ${life(state.up_s)}`);
  say($("updated"), clock(state.now));
  document.title = `${state.not_ready ? "✕" : "✓"} ${state.busy}/${state.threads} busy · gthreadsrv`;
}

function showListeners(listeners) {
  const body = $("listeners").tBodies[0];
  while (body.rows.length > listeners.length) body.deleteRow(-1);
  listeners.forEach((one, index) => {
    let row = body.rows[index];
    if (!row) {
      row = body.insertRow();
      row.append(make("th"), make("td"), make("td"), make("td"));
      row.cells[0].scope = "row";
    }
    [one.name, one.queued, one.limit, one.dropped].forEach((value, number) =>
      say(row.cells[number], value === null ? NONE : value.toLocaleString("en")));
  });
}

function showEvents(state) {
  const list = (pairs) => pairs.map(([name, count]) => `${count.toLocaleString("en")} ${name.replace(/_/g, " ")}`).join(", ");
  const facts = [
    ["Workers ended", list(state.exits.map((one) => [one.reason, one.all])) || "none"],
    ["Reloads", list(Object.entries(state.reloads).filter(([, count]) => count)) || "none"],
    ["Requests past --timeout", list(Object.entries(state.timeouts).filter(([, count]) => count)) || "none"],
  ];
  const events = $("events");
  facts.forEach(([name, text], index) => {
    if (!events.children[2 * index]) events.append(make("dt", "", name), make("dd"));
    say(events.children[2 * index + 1], text);
  });
}

// The exporter is replaced in a reload and begins its history anew: what was seen here stays.
const kept = [];

function remember(history, now) {
  const names = Object.keys(history);
  const fresh = history.at.map((at, index) =>
    Object.fromEntries(names.map((name) => [name, history[name][index]])));
  const begin = fresh.length ? fresh[0].at : now;
  const old = kept.filter((one) => one.at < begin && one.at >= now - SPAN_S);
  kept.splice(0, kept.length, ...old, ...fresh);
  return Object.fromEntries(names.map((name) => [name, kept.map((one) => one[name])]));
}

function show(state) {
  state.threads = state.workers.reduce((sum, worker) => sum + worker.size, 0);
  state.busy = state.workers.reduce((sum, worker) => sum + worker.busy, 0);
  state.history = remember(state.history, state.now);
  state.window = "10 s";
  showHeader(state);
  showAdvice(state.advice);
  CARDS.forEach((card) => showCard(card, state));
  showGrid(state);
  showListeners(state.listeners);
  showEvents(state);
}

// -- asking ----------------------------------------------------------------------------

const asking = { paused: false, timer: 0, abort: null, since: 0, busy: 0 };

function reached() {
  asking.since = 0;
  asking.busy = 0;
  say($("lost"), "");
  document.body.classList.remove("lost");
}

function lost(why) {
  if (!asking.since) asking.since = Date.now() / 1000;
  const when = clock(asking.since);
  say($("lost"), `${why} since ${when}. What is below is from before; asking again every ${RETRY_S} s.`);
  document.body.classList.add("lost");
  say($("health"), "✕ no answer");
  dress($("health"), "badge bad");
  document.title = "✕ no answer · gthreadsrv";
}

async function ask() {
  const abort = new AbortController();
  asking.abort = abort;
  const late = setTimeout(() => abort.abort(), ANSWER_S * 1000);
  let next = RETRY_S;
  try {
    const answer = await fetch("live.json", { cache: "no-store", signal: abort.signal });
    if (answer.ok) {
      const state = await answer.json();
      reached();
      show(state);
      next = state.poll_s;
    } else if (answer.status === 503 && !asking.busy) {
      asking.busy = 1; // more viewers than the port serves at once; the next may be lucky
    } else {
      lost(`The metrics port answers with ${answer.status}`);
    }
  } catch (error) {
    if (asking.abort !== abort) return; // stopped by hand, or hidden
    lost(error.name === "AbortError" ? "The server does not answer" : "The server cannot be reached");
  } finally {
    clearTimeout(late);
  }
  if (asking.abort === abort) asking.timer = setTimeout(ask, next * 1000);
}

function stop() {
  clearTimeout(asking.timer);
  const abort = asking.abort;
  asking.abort = null;
  if (abort) abort.abort();
}

function goOn() {
  stop();
  if (!asking.paused && !document.hidden) ask();
}

CARDS.forEach(buildCard);
$("pause").addEventListener("click", () => {
  asking.paused = !asking.paused;
  say($("pause"), asking.paused ? "Resume" : "Pause");
  goOn();
});
document.addEventListener("visibilitychange", goOn);
goOn();
