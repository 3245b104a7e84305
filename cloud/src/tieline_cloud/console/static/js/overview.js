// The overview page: network, edges, events, load with its forecast, batteries against their plan.
import { html, render } from '../vendor/lit-html.js';
import './chart.js';
import './network.js';
import { api } from './api.js';
import { age, clock, kilowatts, minute, number, qualityMark, storagePower } from './format.js';
import { connect } from './live.js';
import { toggleTheme } from './theme.js';

const REFRESH_MS = 2000;
const NO_VALUE = 0xffff;
const RUNGS = ['current_plan', 'last_plan', 'local_schedule', 'device_default'];
const RUNG_WORDS = { current_plan: 'current plan', last_plan: 'last plan', local_schedule: 'local schedule', device_default: 'device default' };
const WORST = 12;
const EVENTS = 40;
const HISTORY_H = 6;
const AHEAD_H = 12;

const $ = (/** @type {string} */ selector) => document.querySelector(selector);
const grid = document.body.dataset.grid;
const network = $('tl-network');
const page = { now: null, edges: [], last: new Map(), topology: null, substations: [], lines: [], trafos: [] };

const kpi = (id, text, state = '') => {
  $(id).querySelector('strong').textContent = text;
  $(id).dataset.s = state;
};
const severity = (pct) => (pct > 100 ? 'alarm' : pct > 80 ? 'warn' : '');

/** Columns of /v1/grids/{id} as rows for the picture. */
function rows(columns) {
  const of = (table) => table.id.map((_, index) => Object.fromEntries(Object.keys(table).map((key) => [key, table[key][index]])));
  const names = new Map(columns.substations.node.map((node, index) => [node, columns.substations.edge_id[index]]));
  const buses = of(columns.nodes).map((bus, index) => ({
    ...bus, min_vm_pu: bus.min_pu, max_vm_pu: bus.max_pu, area: names.get(index) ?? columns.areas[bus.area],
  }));
  const branches = of(columns.branches).map((branch) => ({ ...branch, from: branch.f, to: branch.t, open: Boolean(branch.open) }));
  return { hash: columns.topology_hash, buses, branches };
}

async function loadTopology() {
  const columns = await api(`grids/${grid}`);
  page.topology = rows(columns);
  page.substations = columns.substations.branch;
  const { branches } = page.topology;
  page.trafos = [...branches.keys()].filter((index) => branches[index].kind === 'trafo');
  page.lines = [...branches.keys()].filter((index) => branches[index].kind === 'line');
  network.setTopology(page.topology);
  $('#net-size').textContent = `${page.topology.buses.length} buses, ${branches.length} branches`;
}

/** @param {import('./live.js').GridFrame} frame */
function onGrid(frame) {
  if (!page.topology || !page.topology.hash.startsWith(frame.hash)) {
    loadTopology().catch(report);
    return;
  }
  network.setState(frame);
  const worst = (indices) => Math.max(0, ...indices.map((index) => (frame.loading[index] === NO_VALUE ? 0 : frame.loading[index] / 10)));
  const [trafo, line] = [worst(page.trafos), worst(page.lines)];
  kpi('#k-trafo', number(trafo), severity(trafo));
  kpi('#k-line', number(line), severity(line));
  const volts = [...frame.vm].filter((value) => value && value !== NO_VALUE).map((value) => value / 1e4);
  const outside = page.topology.buses.some((bus, index) => {
    const vm = frame.vm[index] / 1e4;
    return frame.vm[index] && frame.vm[index] !== NO_VALUE && (vm < bus.min_vm_pu || vm > bus.max_vm_pu);
  });
  kpi('#k-volt', `${number(Math.min(...volts), 3)} – ${number(Math.max(...volts), 3)}`, outside ? 'alarm' : '');
  render(network.ranked().slice(0, WORST).map((index) => branchRow(frame, index)), $('#worst'));
}

const branchRow = (frame, index) => {
  const branch = page.topology.branches[index];
  const pct = frame.loading[index] / 10;
  return html`<tr aria-selected=${network.selected === index}>
    <td><button class="link" type="button" @click=${() => network.select(index)}>${branch.id}</button></td>
    <td class="n ${pct > 100 ? 'alarm' : pct > 80 ? 'finding' : ''}">${number(pct)}</td>
    <td class="n">${number(frame.vm[branch.to] / 1e4, 3)}</td></tr>`;
};

const lastOf = (point) => page.last.get(point);
const shown = (point, text) => {
  const value = lastOf(point);
  return value ? html`${text(value.value)}${qualityMark(value.quality)}` : '–';
};

const edgeRow = (edge) => {
  const step = RUNGS.indexOf(edge.ladder);
  const late = page.now && edge.last_heard ? (Date.parse(page.now) - Date.parse(edge.last_heard)) / 1000 : null;
  const waiting = edge.backlog_oldest_at && page.now ? (Date.parse(page.now) - Date.parse(edge.backlog_oldest_at)) / 1000 : null;
  return html`<tr>
    <td><b>${edge.edge_id}</b><small class=${edge.online_durable ? '' : 'alarm'}>${edge.online_durable ? 'online' : `offline, heard ${age(late)} ago`}</small></td>
    <td><span class="ladder" data-step=${step} aria-hidden="true">${RUNGS.map((_, rung) => html`<i ?data-on=${rung === step}></i>`)}</span>${RUNG_WORDS[edge.ladder] ?? 'not known'}
      ${edge.shed.length ? html`<small class="alarm">shed: ${edge.shed.join(', ')}</small>` : ''}
      ${edge.devices_offline.length ? html`<small class="finding">offline: ${edge.devices_offline.join(', ')}</small>` : ''}</td>
    <td class="n">${edge.backlog_frames ?? '–'}<small>${waiting == null || !edge.backlog_frames ? 'frames' : `frames, ${age(waiting)}`}</small></td>
    <td class="n">${shown(`${edge.edge_id}/site/load_w`, kilowatts)}</td>
    <td>${shown(`${edge.edge_id}/site/storage_w`, storagePower)}</td></tr>`;
};

function showEdges() {
  render(page.edges.length ? page.edges.map(edgeRow) : html`<tr><td colspan="5" class="empty">No edge was heard yet.</td></tr>`, $('#edges'));
  const sum = (quantity) => page.edges.reduce((total, edge) => total + (lastOf(`${edge.edge_id}/site/${quantity}`)?.value ?? 0), 0);
  const onPlan = page.edges.filter((edge) => edge.ladder === 'current_plan').length;
  kpi('#k-edges', page.edges.length ? `${onPlan} of ${page.edges.length}` : '–', onPlan < page.edges.length ? 'warn' : '');
  if (page.last.size) {
    kpi('#k-load', kilowatts(sum('load_w'), 0));
    kpi('#k-storage', storagePower(sum('storage_w')));
  }
}

async function loadEdges() {
  page.edges = await api('edges');
  const last = await api('readings/last');
  page.last = new Map(last.map((value) => [value.point, value]));
  const select = $('#edge');
  if (select.options.length !== page.edges.length) {
    select.replaceChildren(...page.edges.map((edge) => new Option(edge.edge_id)));
  }
  showEdges();
}

const eventRow = (event) => html`<tr>
  <td><span class="sev ${event.severity}">${event.severity}</span><time datetime=${event.at}>${clock(event.at)}</time></td>
  <td><b>${event.edge_id}${event.device_id ? ` ${event.device_id}` : ''}</b> ${event.text}</td></tr>`;

async function loadEvents() {
  const events = await api(`events?limit=${EVENTS}`);
  render(events.length ? events.map(eventRow) : html`<tr><td colspan="2" class="empty">Nothing has happened.</td></tr>`, $('#events'));
}

/** Line several time-stamped columns up on one ascending axis. @param {Map<number, number | null>[]} columns */
function align(columns) {
  const unix = [...new Set(columns.flatMap((column) => [...column.keys()]))].sort((a, b) => a - b);
  return { unix, values: columns.map((column) => unix.map((instant) => column.get(instant) ?? null)) };
}

const seconds = (instant) => Date.parse(instant) / 1000;
const column = (list, pick) => new Map(list.map((row) => [seconds(row.at), pick(row)]));
const inKilowatts = (value) => (value == null ? null : value / 1000);
const spanQuery = (from, to) => `from=${encodeURIComponent(new Date(from).toISOString())}&to=${encodeURIComponent(new Date(to).toISOString())}`;
const orNull = (promise) => promise.catch(() => null);

async function loadCharts() {
  const edge = $('#edge').value;
  if (!edge || !page.now) return;
  const now = Date.parse(page.now);
  const past = spanQuery(now - HISTORY_H * 3.6e6, now);
  const [load, storage, forecast, plan] = await Promise.all([
    orNull(api(`readings?point=${edge}/site/load_w&step=PT5M&${past}`)),
    orNull(api(`readings?point=${edge}/site/storage_w&step=PT5M&${past}`)),
    orNull(api(`forecasts?point=${edge}/site/load_w&${spanQuery(now - HISTORY_H * 3.6e6, now + AHEAD_H * 3.6e6)}`)),
    orNull(api(`plans/current?edge=${edge}`)),
  ]);
  showLoad(edge, load, forecast, now);
  showStorage(edge, storage, plan, now);
}

function showLoad(edge, load, forecast, now) {
  const ahead = (forecast?.latest?.rows ?? []).filter((row) => Date.parse(row.at) < now + AHEAD_H * 3.6e6);
  const { unix, values } = align([
    column(load?.rows ?? [], (row) => inKilowatts(row.value)),
    column(ahead, (row) => inKilowatts(row.p50)),
    column(ahead, (row) => inKilowatts(row.lo90)),
    column(ahead, (row) => inKilowatts(row.hi90)),
  ]);
  if (!unix.length) return;
  const labels = ['Measured kW', 'Forecast P50', 'P5', 'P95'];
  const styles = ['measured', 'forecast', 'edge', 'edge'];
  $('#chart-load').setData({
    unix, now: now / 1000, band: [2, 3],
    curves: labels.map((label, index) => ({ label, values: values[index], style: styles[index] })),
    said: `Load of ${edge} in kW: measured for ${HISTORY_H} hours, forecast with its 90 per cent band for ${AHEAD_H} hours.`,
  });
  $('#load-note').textContent = forecast?.latest ? `kW, 90 % band, issued ${minute(forecast.latest.issued_at)} UTC` : 'kW, no forecast yet';
}

function showStorage(edge, storage, plan, now) {
  const columns = [column(storage?.rows ?? [], (row) => inKilowatts(row.value))];
  if (plan) {
    const devices = plan.plan.devices.filter((device) => device.mode === 'setpoint_w');
    const start = seconds(plan.plan.start);
    const steps = new Map();
    for (let step = 0; step < (devices[0]?.values_w.length ?? 0); step += 1) {
      const at = start + step * plan.plan.step_s;
      const held = devices.reduce((total, device) => total + (device.values_w[step] ?? 0), 0);
      if (at < now / 1000 + AHEAD_H * 3600) steps.set(at, held / 1000);
    }
    columns.push(steps);
  }
  const { unix, values } = align(columns);
  if (!unix.length) return;
  const curves = [{ label: 'Actual kW', values: values[0], style: 'measured' }];
  if (plan) curves.push({ label: 'Plan kW', values: hold(values[1]), style: 'plan', step: true });
  $('#chart-storage').setData({ unix, now: now / 1000, curves, said: `Storage power of ${edge} in kW, charging above zero: actual and planned.` });
  $('#plan-note').textContent = plan
    ? `kW, charging above 0; plan of ${minute(plan.issued_at)} UTC, ${plan.verdict}, worst P90 ${number(plan.plan.certificate.max_loading_pct.p90)} %`
    : 'kW, charging above 0; no plan yet';
}

/** A stepped column holds its value at instants that belong to another column. */
function hold(values) {
  let held = null;
  const end = values.findLastIndex((value) => value != null);
  return values.map((value, index) => {
    if (value != null) held = value;
    return index <= end ? held : null;
  });
}

const report = (error) => {
  $('#link').title = error.message;
};

function onMessage(message) {
  if (message.type === 'heartbeat') {
    page.now = message.now;
    $('#asof').textContent = clock(message.now);
  } else if (message.type === 'event') {
    loadEvents().catch(report);
  }
}

const refresh = () => Promise.all([loadEdges(), loadEvents()]).then(loadCharts).catch(report);

$('#theme').onclick = toggleTheme;
$('#edge').onchange = () => loadCharts().catch(report);
for (const mode of ['loading', 'voltage']) {
  $(`#by-${mode}`).onclick = () => {
    network.setMode(mode);
    for (const other of ['loading', 'voltage']) $(`#by-${other}`).ariaPressed = String(other === mode);
  };
}
connect([`grid/${grid}`, 'events', 'edges'], {
  grid: onGrid,
  message: onMessage,
  link: (state) => {
    if ($('#link').dataset.s === state) return;
    $('#link').dataset.s = state;
    $('#link').textContent = state === 'live' ? 'live' : 'stale: no word from the hub';
    document.body.classList.toggle('stale', state === 'stale');
  },
});
page.now = await api('health').then((health) => health.now).catch(() => null);
await loadTopology().catch(report);
await refresh();
setInterval(refresh, REFRESH_MS);
