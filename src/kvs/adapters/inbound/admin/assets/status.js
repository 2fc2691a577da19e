import { bytes, chart, draw, merged, nanoseconds, number, quantile, seconds, since } from "./charts.js";

const POLL_MS = 1000;
const MOST_POINTS = 60; // of a curve
const MOST_TRANSACTIONS = 100; // that the server tells of
const WINDOW = 10; // polls that times are taken over

const $ = (id) => document.getElementById(id);
const samples = []; // the last answers, the newest last
const curves = new Map();
let pageToken = "";
let timer = 0;

// What comes from clients gets into the page as text only.
function element(tag, text = "", className = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

function row(...cells) {
  const made = element("tr");
  for (const [content, className] of cells) {
    const cell = element("td", "", className);
    cell.append(content);
    made.append(cell);
  }
  return made;
}

function fill(id, rows, columns, empty) {
  if (!rows.length) {
    const cell = element("td", empty, "empty");
    cell.colSpan = columns;
    const made = element("tr");
    made.append(cell);
    rows = [made];
  }
  $(id).replaceChildren(...rows);
}

// The server.

async function ask(path, body) {
  const options = { cache: "no-store", credentials: "same-origin" };
  if (body) {
    options.method = "POST";
    options.headers = { "Content-Type": "application/json", "X-KVS-Token": pageToken };
    options.body = JSON.stringify(body);
  }
  const response = await fetch(path, options);
  const answer = response.ok ? await response.json() : (await response.text()).trim();
  return { ok: response.ok, status: response.status, answer };
}

async function poll() {
  clearTimeout(timer);
  if (!document.hidden) {
    try {
      const { ok, status, answer } = await ask("api/status");
      if (status === 401) return showLogin();
      if (!ok) throw new Error(answer || `status ${status}`);
      notice("");
      show(answer);
    } catch (error) {
      badge("unreachable", "bad");
      notice(`No answer from the server: ${error.message}`);
    }
  }
  timer = setTimeout(poll, POLL_MS);
}

function notice(text) {
  $("notice").textContent = text;
  $("notice").hidden = !text;
}

function badge(text, kind) {
  $("state").textContent = text;
  $("state").className = `badge ${kind}`;
}

// Logging in.

function showLogin() {
  badge("locked", "");
  $("main").hidden = true;
  $("logout").hidden = true;
  $("login").hidden = false;
  $("token").focus();
}

$("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  const token = $("token").value;
  $("token").value = "";
  $("login-error").textContent = "";
  try {
    const { ok, answer } = await ask("api/login", { token });
    if (!ok) throw new Error(answer);
    $("login").hidden = true;
    poll();
  } catch (error) {
    $("login-error").textContent = error.message;
  }
});
$("logout").addEventListener("click", async () => {
  await ask("api/logout", {});
  poll();
});
document.addEventListener("visibilitychange", () => document.hidden || poll());

// The page.

function show(now) {
  pageToken = now.page_token;
  samples.push(now);
  if (samples.length > MOST_POINTS) samples.shift();
  $("main").hidden = false;
  $("logout").hidden = !now.is_admin;
  showAbout(now);
  showTiles(now);
  showTransactions(now);
  showConflicts(now);
  showCommands(now);
  showMemory(now.figures);
  showServer(now);
  showSlow(now);
}

function showAbout(now) {
  const { version, build, engine, role, uptime_s } = now.figures;
  if (now.not_ready.length) badge(now.not_ready.join(", "), "bad");
  else badge(role ?? "ready", "good");
  const up = uptime_s == null ? "" : ` · up ${seconds(uptime_s)}`;
  $("about").textContent = `${version} · ${engine} · ${build}${up}`;
}

function rate(name) {
  if (samples.length < 2) return null;
  const [before, now] = samples.slice(-2);
  return perSecond(now.figures[name] - before.figures[name], before, now);
}

function perSecond(grown, before, now) {
  const passed = now.unix_s - before.unix_s;
  return passed > 0 && grown >= 0 ? grown / passed : 0;
}

const total = (sample) => sample.commands.reduce((sum, each) => sum + count(each.buckets), 0);
const count = (buckets) => buckets.reduce((sum, [, each]) => sum + each, 0);
const before = () => samples[Math.max(0, samples.length - 1 - WINDOW)];

function recent(now, name) {
  const was = before();
  const buckets = (sample) => sample.commands.find((each) => each.name === name)?.buckets;
  return since(buckets(now), was === now ? [] : buckets(was));
}

function showTiles(now) {
  const figures = now.figures;
  const all = merged(now.commands.map((each) => recent(now, each.name)));
  const last = samples.at(-2);
  tile("requests per second", last ? perSecond(total(now) - total(last), last, now) : null, number);
  tile("commits per second", rate("commits"), number);
  tile("conflicts per second", rate("conflicts"), number);
  tile("99th percentile", quantile(all, 0.99), nanoseconds);
  tile("clients", figures.clients, number, `of ${number(figures.max_clients)}`);
  tile("open transactions", figures.open_transactions, number, seconds(figures.oldest_snapshot_s));
  tile("received per second", rate("received_bytes"), bytes);
  tile("sent per second", rate("sent_bytes"), bytes);
}

function tile(name, value, format, hint = "") {
  let found = curves.get(name);
  if (!found) {
    found = { values: [], box: element("div", "", "tile"), value: element("span", "", "value"), svg: chart() };
    found.box.append(element("span", name, "name"), found.value, found.svg);
    $("tiles").append(found.box);
    curves.set(name, found);
  }
  found.value.replaceChildren(format(value), " ", element("small", hint));
  found.values.push(value ?? 0);
  if (found.values.length > MOST_POINTS) found.values.shift();
  draw(found.svg, found.values, MOST_POINTS);
}

function showTransactions(now) {
  const open = now.transactions ?? [];
  const rows = open.map((each) => {
    const client = element("span");
    client.append(element("code", each.address || "–"));
    if (each.name) client.append(" ", element("span", each.name, "soft"));
    return row(
      [client],
      [element("span", each.user || "–"), "wide"],
      [seconds(each.age_s), "number"],
      [number(each.depth), "number"],
      [bytes(each.bytes), "number"],
      [now.is_admin ? abortButton(each, now.seen_s) : "", "number"],
    );
  });
  const all = now.figures.open_transactions ?? 0;
  $("transactions-count").textContent = rows.length >= MOST_TRANSACTIONS && all > rows.length ? `the ${rows.length} oldest of ${number(all)}` : "";
  const had = document.activeElement?.dataset?.session;
  fill("transactions", rows, 6, "None is open.");
  if (had) document.querySelector(`button[data-session="${had}"]`)?.focus();
}

function abortButton(each, seen_s) {
  const button = element("button", "Abort", "danger");
  button.dataset.session = each.session;
  button.setAttribute("aria-label", `Abort the transaction of ${each.address}`);
  button.addEventListener("click", async () => {
    if (!confirm(`End the transaction of ${each.address}, and its connection?`)) return;
    const { ok, answer } = await ask("api/abort", { session: each.session, seen_s });
    if (!ok) alert(answer);
    poll();
  });
  return button;
}

function showConflicts(now) {
  const rows = (now.conflict_keys ?? []).map((each) => {
    const key = element("span");
    key.append(element("code", each.is_prefix ? `${each.key}*` : each.key));
    if (each.is_prefix) key.append(" ", element("span", "a range", "soft"));
    const counted = each.excess ? `${number(each.conflicts - each.excess)} to ${number(each.conflicts)}` : number(each.conflicts);
    return row([key], [counted, "number"]);
  });
  fill("conflicts", rows, 2, "There has been no conflict.");
}

function showCommands(now) {
  const was = before();
  const rows = now.commands
    .map((each) => ({ ...each, recent: recent(now, each.name) }))
    .map((each) => ({ ...each, rate: was === now ? 0 : perSecond(count(each.recent), was, now) }))
    .sort((one, other) => other.rate - one.rate || count(other.buckets) - count(one.buckets))
    .map((each) =>
      row(
        [element("code", each.name)],
        [number(each.rate), "number"],
        [nanoseconds(quantile(each.recent, 0.5)), "number"],
        [nanoseconds(quantile(each.recent, 0.99)), "number"],
        [nanoseconds(quantile(each.recent, 0.999)), "number wide"],
        [number(each.failed), "number"],
      ),
    );
  fill("commands", rows, 6, "There has been no command.");
}

function showMemory(figures) {
  const resident = figures.resident_bytes;
  const kinds = [
    ["process", resident, null],
    ["data, if limited", figures.data_bytes, figures.max_data_bytes],
    ["old versions for snapshots", figures.history_bytes, figures.max_history_bytes],
    ["clients: input, output, transactions", figures.clients_bytes, figures.max_clients_bytes],
    ["open transactions", figures.transactions_bytes, figures.max_clients_bytes],
    ["waiting for the disk", sum(figures.in_flight_bytes, figures.held_output_bytes), null],
    ["free in the C library", figures.malloc_free_bytes, null],
  ];
  const bars = kinds.filter(([, value]) => value != null).map(([name, value, limit]) => bar(name, value, limit, resident));
  $("memory").replaceChildren(...bars);
}

const sum = (one, other) => (one == null ? null : one + (other ?? 0));

function bar(name, value, limit, resident) {
  const made = element("div", "", "bar");
  const label = element("div", "", "label");
  const sizes = element("span", bytes(value), "nowrap");
  if (limit) sizes.append(element("span", ` of ${bytes(limit)}`, "soft"));
  label.append(element("span", name), sizes);
  const share = Math.min(1, value / (limit || resident || 1));
  const inner = element("div", "", limit && share > 0.9 ? "fill full" : "fill");
  inner.style.width = `${share * 100}%`;
  const track = element("div", "", "track");
  track.append(inner);
  made.append(label, track);
  return made;
}

function showServer(now) {
  const figures = now.figures;
  const append = before().append.buckets && now.append.buckets ? since(now.append.buckets, before() === now ? [] : before().append.buckets) : null;
  const lag = figures.leads === 0 ? `${number(figures.replica_entries)} entries read` : null;
  const lines = [
    ["role", figures.role],
    ["leader", figures.role ? (figures.leader ?? "none") : null],
    ["term", figures.term],
    ["standbys", figures.role ? number(figures.standbys) : null],
    ["journal", figures.journal_entries == null ? null : `${number(figures.journal_entries)} entries`],
    ["follows", lag],
    ["keys", number(figures.keys)],
    ["keys that expire", figures.deadlines == null ? null : number(figures.deadlines)],
    ["expiry behind", figures.expiry_lag_s == null ? null : seconds(figures.expiry_lag_s)],
    ["reads that found a value", hits(figures)],
    ["snapshots", figures.snapshots == null ? null : number(figures.snapshots)],
    ["99 % of commits durable within", append?.length ? nanoseconds(quantile(append, 0.99)) : null],
    ["aborted transactions", figures.aborts == null ? null : number(figures.aborts)],
    ["refused clients", figures.clients_refused == null ? null : number(figures.clients_refused)],
    ["errors", Object.entries(now.errors).map(([code, times]) => `${code} ${number(times)}`).join(", ") || null],
    ["log events dropped", figures.log_events_dropped ? number(figures.log_events_dropped) : null],
    ["loop answered within", figures.loop_delay_s == null ? null : nanoseconds(Math.round(figures.loop_delay_s * 1e9))],
  ];
  const shown = lines.filter(([, value]) => value != null);
  $("server").replaceChildren(...shown.flatMap(([name, value]) => [element("dt", name), element("dd", String(value))]));
}

function hits({ keyspace_hits, keyspace_misses }) {
  const reads = keyspace_hits + keyspace_misses;
  return reads ? `${((keyspace_hits / reads) * 100).toFixed(1)} % of ${number(reads)}` : null;
}

function showSlow(now) {
  const rows = (now.slow_commands ?? []).map((each) => {
    const client = element("span");
    client.append(element("code", each.address));
    if (each.name) client.append(" ", element("span", each.name, "soft"));
    return row(
      [new Date(each.unix_s * 1000).toLocaleTimeString(), "nowrap"],
      [nanoseconds(each.duration_us * 1000), "number"],
      [element("code", each.arguments.join(" "))],
      [client, "wide"],
    );
  });
  fill("slow", rows, 4, "None has been slow.");
}

poll();
