"use strict";
// One page, no library: asks the agent for its status every two seconds and writes text, never markup.
const $ = (id) => document.getElementById(id);
const EVERY_MS = 2000;
const LADDER = { current_plan: "current plan", last_plan: "last plan", local_schedule: "local schedule", device_default: "device default" };
const LABELS = { p_w: "power", q_var: "reactive power", closed: "position", breaker_closed: "breaker", soc_pct: "state of charge",
  loading_pct: "loading", v_v: "voltage", f_hz: "frequency" };
const WRITES = { commanded: "written, not read back yet", confirmed: "read back", effective: "in effect" };
let zone = "UTC", seen = 0, shown = null, alarmsAt = 0;

const text = (node, value) => { if (node.textContent !== value) node.textContent = value; };
const clock = (iso, seconds = true) => new Intl.DateTimeFormat("en-GB", {
  timeZone: zone, hour: "2-digit", minute: "2-digit", ...(seconds ? { second: "2-digit" } : {}) }).format(new Date(iso));
const byName = (a, b) => a.localeCompare(b, "en", { numeric: true });
const day = (iso) => new Intl.DateTimeFormat("sv-SE", { timeZone: zone }).format(new Date(iso));
const element = (kind, value = "", className = "") => {
  const made = document.createElement(kind);
  made.textContent = value;
  if (className) made.className = className;
  return made;
};

function number(value, unit) {
  const size = Math.abs(value);
  for (const [factor, prefix] of [[1e6, "M"], [1e3, "k"]]) {
    if (["W", "var", "VA", "Wh"].includes(unit) && size >= factor) return `${Number((value / factor).toPrecision(4))} ${prefix}${unit}`;
  }
  return `${Number(value.toPrecision(5))} ${unit}`.trim();
}

// In a column of values, one number has as many decimals as the next.
const DECIMALS = { Hz: 3, V: 1, A: 1, "%": 1 };
function measured(value, unit) {
  const [text, scaled] = number(value, unit).split(" ");
  const decimals = scaled === unit ? DECIMALS[unit] : Math.abs(Number(text)) >= 100 ? 1 : 2;
  return decimals === undefined ? `${text} ${scaled ?? ""}`.trim() : `${(scaled === unit ? value : Number(text)).toFixed(decimals)} ${scaled}`;
}

function valueText(one) {
  if (one.value === null) return "no value";
  if (one.quantity.endsWith("closed")) return one.value >= 0.5 ? "closed" : "open";
  return measured(one.value, one.unit);
}

function age(seconds) {
  if (seconds < 90) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} days`;
}

const hours = (value) => (value < 100 ? `${Number(value.toPrecision(2))} h` : `${Math.round(value / 24)} days`);

function banners(status) {
  const told = [];
  if (status === null) told.push(["alarm", `The agent does not answer: what stands below is ${age((Date.now() - seen) / 1000)} old`]);
  if (status?.monitor_only) told.push(["note", "Monitor only: no hub key is configured, nothing is written to any device"]);
  if (status?.dry_run) told.push(["note", "Dry run: decisions are traced, nothing is written to any device"]);
  if (status && !status.outbox?.usable) told.push(["alarm", "The disk refuses: nothing measured is kept"]);
  const key = JSON.stringify(told);
  if ($("banners").dataset.key === key) return;
  $("banners").dataset.key = key;
  $("banners").replaceChildren(...told.map(([kind, words]) => {
    const made = element("p", words);
    made.dataset.s = kind;
    return made;
  }));
}

function cards(status) {
  const step = status.ladder.step;
  text($("ladder"), LADDER[status.ladder.name] ?? status.ladder.name);
  $("ladder").className = `big${step > 0 ? " finding" : ""}`;
  const plan = status.plan ? `; plan ${status.plan.plan_id} until ${day(status.plan.end)} ${clock(status.plan.end, false)}` : "";
  text($("reason"), `step ${step} of 3: ${status.ladder.reason}${plan}`);
  text($("hub"), status.hub_online ? "answers" : "away");
  $("hub").className = `big${status.hub_online ? "" : " finding"}`;
  text($("heard"), status.hub_heard_at ? `last heard ${day(status.hub_heard_at)} ${clock(status.hub_heard_at)}` : "not heard since the start");
  text($("shed"), status.shed.length ? `${status.shed.length} load${status.shed.length > 1 ? "s" : ""}` : "nothing");
  text($("shedname"), status.dry_run ? "Would be shed" : "Shed now");
  $("shed").className = `big${status.shed.length ? " finding" : ""}`;
  text($("shedlist"), [...status.shed].sort(byName).join(", "));
  const autonomy = status.autonomy;
  text($("autonomy"), autonomy.hours === null ? "> 30 days" : hours(autonomy.hours));
  const ends = { schedule: "then device defaults", network: "then its network table is too old", energy: "then storage is at its reserve", outbox: "then unsent readings are lost" };
  text($("autonomywhy"), autonomy.hours === null ? "no end in sight" : (ends[autonomy.limited_by] ?? autonomy.limited_by));
  const room = status.outbox, waiting = Object.values(status.backlog).reduce((sum, row) => sum + row.readings, 0);
  text($("room"), room?.room_h == null ? "not known" : hours(room.room_h));
  text($("outbox"), room ? `${Math.round(room.used_bytes / 1e6)} of ${Math.round(room.max_bytes / 1e6)} MB used; ${waiting} readings wait` : "");
  text($("jitter"), `${Number(status.cycle.late_p99_ms.toPrecision(2))} ms late`);
  $("jitter").className = `big${status.cycle.missed ? " finding" : ""}`;
  text($("cycle"), `99 % of starts; work ${Number(status.cycle.p99_ms.toPrecision(2))} ms; ${status.cycle.missed} of ${status.cycle.count} missed`);
}

function row(name, device, now) {
  const head = element("th");
  head.scope = "row";
  head.append(name, element("small", device.role));
  if (!device.online) head.append(element("small", `offline: ${device.error ?? "not reached yet"}`, "finding"));
  if (device.tag) head.append(element("small", device.tag, "finding"));
  const values = element("td");
  for (const one of device.values) {
    const made = element("span", "", "v"), old = ["stale", "bad"].includes(one.quality);
    made.append(element("span", valueText(one), old && one.value !== null ? "old" : ""));
    const seconds = (now - Date.parse(one.at)) / 1000;
    made.append(element("small", `${LABELS[one.quantity] ?? one.quantity} ${clock(one.at)}${one.quality === "good" ? "" : ` ${one.quality}, ${age(seconds)}`}`, old ? "finding" : ""));
    made.title = `${one.text}, measured ${day(one.at)} ${clock(one.at)} ${zone}, ${one.quality}`;
    values.append(made);
  }
  if (!device.values.length) values.append(element("span", "nothing measured", "mute"));
  const told = element("td", device.told ?? "measured only");
  if (device.because) told.append(element("small", device.because));
  const state = element("td"), good = [null, "commanded", "confirmed", "effective"].includes(device.command);
  state.append(element("span", device.command === null ? (device.told === null ? "" : "nothing written") : (WRITES[device.command] ?? device.command), good ? "" : "alarm"));
  const why = element("td"), button = element("button", "Why?");
  button.type = "button";
  button.setAttribute("aria-label", `Why? Explain ${name}`);
  button.addEventListener("click", () => explain(name));
  if (device.told != null) why.append(button);
  const made = element("tr");
  made.id = `device-${name}`;
  made.append(head, values, told, state, why);
  return made;
}

function devices(status) {
  const names = Object.keys(status.devices), now = Date.parse(status.at);
  const away = names.filter((name) => !status.devices[name].online).length;
  text($("devicecount"), `${names.length - away} of ${names.length} answer`);
  const focused = document.activeElement?.closest("tr")?.id;
  const weight = (name) => (status.devices[name].online ? 1 : 0);
  $("rows").replaceChildren(...names.sort((a, b) => weight(a) - weight(b) || byName(a, b))
    .map((name) => row(name, status.devices[name], now)));
  if (focused) document.getElementById(focused)?.querySelector("button")?.focus();
}

function svg(kind, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", kind);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function plot(status) {
  const curve = status.forecast_curve;
  text($("model"), curve ? `${status.forecast}, issued ${clock(curve.issued_at, false)}` : status.forecast);
  const key = `${curve?.issued_at} ${clock(status.at, false)}`;
  if ($("plot").dataset.key === key) return;
  $("plot").dataset.key = key;
  if (!curve) { $("plot").replaceChildren(element("p", "No forecast yet.", "mute")); return; }
  const W = 720, H = 230, L = 62, R = 10, T = 12, B = 26;
  const start = Date.parse(curve.start), step = curve.step_s * 1000, end = start + step * curve.p50.length;
  let low = Math.min(0, ...curve.p10), high = Math.max(...curve.p90);
  const unit = 10 ** Math.floor(Math.log10(Math.max(high - low, 1) / 2)), tick = [1, 2, 5, 10].map((f) => f * unit).find((t) => (high - low) / t <= 4.5);
  low = Math.floor(low / tick) * tick; high = Math.ceil(high / tick) * tick;
  const x = (ms) => L + ((ms - start) / (end - start)) * (W - L - R), y = (w) => T + ((high - w) / (high - low)) * (H - T - B);
  const point = (value, index) => `${x(start + (index + 0.5) * step).toFixed(1)},${y(value).toFixed(1)}`;
  const parts = [];
  for (let w = low; w <= high + tick / 2; w += tick) {
    parts.push(svg("line", { class: "grid", x1: L, x2: W - R, y1: y(w), y2: y(w) }), svg("text", { x: L - 8, y: y(w) + 4, "text-anchor": "end" }, number(w, "W")));
  }
  const hour = 3600e3, every = (end - start) / hour > 12 ? 6 : 1;
  for (let ms = Math.ceil(start / hour) * hour; ms < end; ms += hour) {
    const label = clock(ms, false);
    if (Number(label.slice(0, 2)) % every === 0 && label.endsWith(":00")) parts.push(svg("text", { x: x(ms), y: H - 6, "text-anchor": "middle" }, label));
  }
  const back = curve.p10.map(point).reverse();
  parts.push(svg("polygon", { class: "band", points: [...curve.p90.map(point), ...back].join(" ") }), svg("polyline", { class: "mid", points: curve.p50.map(point).join(" ") }));
  const now = Date.parse(status.at);
  if (now >= start && now < end) parts.push(svg("line", { class: "now", x1: x(now), x2: x(now), y1: T, y2: H - B }), svg("text", { x: x(now) + 5, y: T + 10 }, "now"));
  const peak = curve.p50.indexOf(Math.max(...curve.p50));
  const words = `Median load of the ${Math.round((end - start) / hour)} h from ${day(start)} ${clock(start, false)}, highest ${number(curve.p50[peak], "W")} at ${clock(start + peak * step, false)}, with the 10 to 90 % band.`;
  $("plot").replaceChildren(svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": words }, ...parts), element("figcaption", words, "mute"));
}

async function ask(path) {
  const answer = await fetch(path, { signal: AbortSignal.timeout(5000), cache: "no-store" });
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.detail ?? answer.statusText);
  return body;
}

async function explain(name) {
  text($("whyname"), `Why ${name} does what it does`);
  text($("whytext"), "asking the agent ...");
  if (!$("why").open) $("why").showModal();
  try {
    const words = (await ask(`why?device=${encodeURIComponent(name)}&replay=1`)).text.trimEnd();
    // A long line goes on below its words, not below its label.
    $("whytext").replaceChildren(...words.split("\n").map((line) => element("div", line, line.startsWith("  ") ? "labelled" : "")));
  } catch (error) {
    text($("whytext"), String(error.message));
  }
}

async function alarms() {
  if (Date.now() - alarmsAt < 10000) return;
  alarmsAt = Date.now();
  const { alarms: found } = await ask("alarms");
  text($("alarmcount"), found.length ? `${found.length}${found.length === 50 ? " newest" : ""}` : "none");
  $("alarms").replaceChildren(...found.map((one) => {
    const made = element("li");
    made.append(element("span", `${one.severity} `, one.severity === "ALARM" ? "alarm" : "finding"), element("span", one.text),
      element("small", ` ${day(one.at)} ${clock(one.at)}, ${one.code}`, "mute"));
    return made;
  }));
}

async function refresh() {
  try {
    const status = await ask("status");
    seen = Date.now();
    zone = status.time_zone;
    if (shown === null) document.title = `${status.edge} · Tieline edge`;
    shown = status;
    text($("name"), status.site);
    text($("edge"), status.edge === status.site ? "" : status.edge);
    text($("asof"), `${day(status.at)} ${clock(status.at)} ${zone}`);
    text($("software"), `${status.software}, up to date every ${EVERY_MS / 1000} s`);
    banners(status); cards(status); devices(status); plot(status);
    await alarms();
  } catch (error) {
    if (Date.now() - seen > 2 * EVERY_MS) banners(null);
    if (!(error instanceof TypeError) && error.name !== "TimeoutError") console.warn(error.message);
  } finally {
    setTimeout(refresh, EVERY_MS);
  }
}
refresh();
