// What the charts of the overview show: load against forecasts old and new, storage against its plan.
import { api } from './api.js';
import { clock, minute, number } from './format.js';

const HISTORY_H = 6;
const AHEAD_H = 12;
const JUDGED_H = 3;
// Imported history has a value a quarter of an hour; what is further apart is a gap.
const SLOWEST_S = 900;
const HOUR_MS = 3.6e6;

const $ = (/** @type {string} */ selector) => document.querySelector(selector);
const seconds = (instant) => Date.parse(instant) / 1000;
const inKilowatts = (value) => (value == null ? null : value / 1000);
const spanQuery = (from, to) => `from=${encodeURIComponent(new Date(from).toISOString())}&to=${encodeURIComponent(new Date(to).toISOString())}`;
/** What both charts show of time [s]. @param {number} now milliseconds @returns {[number, number]} */
const spanOf = (now) => [now / 1000 - HISTORY_H * 3600, now / 1000 + AHEAD_H * 3600];
const orNull = (promise) => promise.catch(() => null);
const column = (list, pick) => new Map(list.map((row) => [seconds(row.at), pick(row)]));

/** Measured means; an interval that is missing becomes a gap. */
function measured(series) {
  const out = new Map();
  let last = null;
  for (const row of series?.rows ?? []) {
    const at = seconds(row.at);
    if (last != null && at - last > 1.5 * SLOWEST_S) out.set(last + SLOWEST_S, null);
    out.set(at, inKilowatts(row.value));
    last = at;
  }
  return out;
}

/** Line several time-stamped columns up on one ascending axis. @param {Map<number, number | null>[]} columns */
function align(columns) {
  const unix = [...new Set(columns.flatMap((one) => [...one.keys()]))].sort((a, b) => a - b);
  return { unix, values: columns.map((one) => unix.map((instant) => one.get(instant))) };
}

/** Draw both charts for one edge. @param {string} edge @param {number} now milliseconds @param {Map<string, any>} known points that have a value */
export async function loadCharts(edge, now, known) {
  const past = spanQuery(now - HISTORY_H * HOUR_MS, now);
  const readings = (point) => (known.has(point) ? orNull(api(`readings?point=${point}&step=PT5M&${past}`)) : null);
  const span = `forecasts?point=${edge}/site/load_w&${spanQuery(now - HISTORY_H * HOUR_MS, now + AHEAD_H * HOUR_MS)}`;
  const [load, storage, forecast, plan] = await Promise.all([
    readings(`${edge}/site/load_w`),
    readings(`${edge}/site/storage_w`),
    orNull(api(span)),
    orNull(currentPlan(edge)),
  ]);
  const issued = earlierIssue(forecast, now);
  const earlier = issued ? await orNull(api(`${span}&issued_at=${encodeURIComponent(issued)}`)) : null;
  showLoad(edge, load, forecast?.latest, earlier?.latest, now);
  showStorage(edge, storage, plan, now);
}

/** The plan an edge should run; asked for only where there is any, an absent one would be an error. */
async function currentPlan(edge) {
  const plans = await api(`plans?edge=${edge}&limit=1`);
  return plans.length ? api(`plans/current?edge=${edge}`) : null;
}

/** The issue what was measured is judged by: the newest that is some hours old, else the oldest. */
function earlierIssue(forecast, now) {
  const issues = forecast?.issues ?? [];
  if (issues.length < 2) return null;
  const old = issues.findLast((issue) => Date.parse(issue.issued_at) <= now - JUDGED_H * HOUR_MS) ?? issues[0];
  return old.issued_at === forecast.latest.issued_at ? null : old.issued_at;
}

function showLoad(edge, load, latest, earlier, now) {
  const ahead = (latest?.rows ?? []).filter((row) => Date.parse(row.at) < now + AHEAD_H * HOUR_MS);
  // The earlier issue ends where the newest begins: one band an instant.
  const until = Math.min(now, ahead.length ? Date.parse(ahead[0].at) : Infinity);
  const before = (earlier?.rows ?? []).filter((row) => Date.parse(row.at) <= until);
  const picks = ['p50', 'lo90', 'hi90'];
  const columns = [measured(load), ...[ahead, before].flatMap((rows) => picks.map((pick) => column(rows, (row) => inKilowatts(row[pick]))))];
  const { unix, values } = align(columns);
  if (!unix.length) return;
  const labels = latest ? ['Measured', 'Forecast', 'low', 'high'] : ['Measured'];
  const styles = ['measured', 'forecast', 'edge', 'edge'];
  const bands = latest ? [{ label: '90 % band', low: 2, high: 3 }] : [];
  if (before.length) {
    labels.push(`Forecast of ${clock(earlier.issued_at).slice(0, 5)}`, 'earlier low', 'earlier high');
    styles.push('earlier', 'edge', 'edge');
    bands.push({ label: 'earlier', low: 5, high: 6 });
  }
  $('#chart-load').setData({
    unix, unit: '', now: now / 1000, span: spanOf(now), bands,
    curves: labels.map((label, index) => ({ label, values: values[index], style: styles[index] })),
    said: `Load of ${edge} in kW: measured for ${HISTORY_H} hours${before.length ? ', with the forecast issued earlier' : ''}; forecast with its 90 per cent band for ${AHEAD_H} hours.`,
  });
  note('#load-note', latest ? `kW, issued ${clock(latest.issued_at).slice(0, 5)} UTC` : 'kW, no forecast yet', latest ? `model ${latest.model_id}` : '');
}

function showStorage(edge, storage, plan, now) {
  const columns = [measured(storage)];
  if (plan) columns.push(planned(plan.plan, now / 1000 + AHEAD_H * 3600));
  const { unix, values } = align(columns);
  if (!unix.length) return note('#plan-note', `${edge}, nothing measured and no plan yet`, '');
  const curves = [{ label: 'Actual', values: values[0], style: 'measured' }];
  if (plan) curves.push({ label: 'Plan', values: hold(values[1]), style: 'plan', step: true });
  $('#chart-storage').setData({
    unix, unit: 'kW, charging above 0', now: now / 1000, span: spanOf(now), curves, bands: [],
    said: `Storage power of ${edge} in kW, charging above zero: actual and planned.`,
  });
  const worst = plan ? number(plan.plan.certificate.max_loading_pct.p90, 0) : '';
  note('#plan-note', plan ? `${edge}, plan of ${clock(plan.issued_at).slice(0, 5)}, ${plan.verdict}, worst P90 ${worst} %` : `${edge}, no plan yet`,
    plan ? `plan ${plan.plan_id}, issued ${minute(plan.issued_at)} UTC` : '');
}

function note(selector, text, title) {
  $(selector).textContent = text;
  $(selector).title = `${text}${title && `; ${title}`}`;
}

/** Planned power of all batteries by instant [kW]. */
function planned({ devices, start, step_s: stepS }, until) {
  const batteries = devices.filter((device) => device.mode === 'setpoint_w');
  const steps = new Map();
  for (let step = 0; step < (batteries[0]?.values_w.length ?? 0); step += 1) {
    const at = seconds(start) + step * stepS;
    if (at < until) steps.set(at, batteries.reduce((total, device) => total + (device.values_w[step] ?? 0), 0) / 1000);
  }
  return steps;
}

/** A stepped column holds its value at instants that belong to another column. */
function hold(values) {
  let held;
  const end = values.findLastIndex((value) => value != null);
  return values.map((value, index) => {
    if (value != null) held = value;
    return index <= end ? held : undefined;
  });
}
