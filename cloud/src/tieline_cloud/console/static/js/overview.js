// The overview page: six figures, network, edges, events, load with its forecast, batteries against their plan.
import { html, render } from '../vendor/lit-html.js';
import './chart.js';
import './network.js';
import { api } from './api.js';
import { loadCharts } from './curves.js';
import { edgeRows, onPlan } from './edges.js';
import { age, clock, kilowatts, number, storageParts } from './format.js';
import { connect, NO_VALUE } from './live.js';
import { freshness, stations } from './stations.js';
import { toggleTheme } from './theme.js';

const REFRESH_MS = 2000;
const SPEAK_MS = 5000;
const WORST = 12;
const EVENTS = 40;

const $ = (/** @type {string} */ selector) => document.querySelector(selector);
const grid = document.body.dataset.grid;
const network = $('tl-network');
const page = { now: null, speed: 1, edges: [], last: new Map(), topology: null, columns: null, stations: [], frame: null, lines: [], trafos: [] };

/** Show one figure. @param {string} id @param {string} text @param {string} note unit, and what the operator must know @param {'' | 'warn' | 'alarm' | 'old'} state */
function kpi(id, text, note, state = '') {
  $(id).querySelector('strong').textContent = text;
  $(id).querySelector('small').textContent = note;
  $(id).querySelector('p').title = `${text} ${note}`;
  $(id).dataset.s = state;
}
const severity = (pct) => (pct > 100 ? 'alarm' : pct >= 80 ? 'warn' : '');

/** Columns of /v1/grids/{id} as rows for the picture. */
function rows(columns) {
  const of = (table) => table.id.map((_, index) => Object.fromEntries(Object.keys(table).map((key) => [key, table[key][index]])));
  const buses = of(columns.nodes).map((bus) => ({ ...bus, min_vm_pu: bus.min_pu, max_vm_pu: bus.max_pu }));
  const branches = of(columns.branches).map((branch) => ({ ...branch, from: branch.f, to: branch.t, open: Boolean(branch.open) }));
  return { hash: columns.topology_hash, buses, branches };
}

async function loadTopology() {
  const columns = await api(`grids/${grid}`);
  page.topology = rows(columns);
  page.columns = columns.substations;
  const { branches } = page.topology;
  page.trafos = [...branches.keys()].filter((index) => branches[index].kind === 'trafo');
  page.lines = [...branches.keys()].filter((index) => branches[index].kind === 'line');
  network.setTopology(page.topology);
  $('#net-size').textContent = `${page.topology.buses.length} buses, ${branches.length} branches`;
  showState();
}

/** @param {import('./live.js').GridFrame} frame */
function onGrid(frame) {
  page.frame = frame;
  if (page.topology?.hash.startsWith(frame.hash)) showState();
  else loadTopology().catch(report);
}

/** What a transformer measures itself goes before what was estimated for it. */
function showState() {
  const { frame, topology } = page;
  if (!topology) return;
  page.stations = stations(page.columns, page);
  network.setStations(page.stations);
  if (!frame || !topology.hash.startsWith(frame.hash)) return;
  for (const { branch, pct } of page.stations) if (pct != null) frame.loading[branch] = Math.round(pct * 10);
  network.setState(frame);
  showLoading('#k-trafo', page.trafos);
  showLoading('#k-line', page.lines);
  const known = topology.buses.map((bus, index) => ({ bus, vm: frame.vm[index] / 1e4, raw: frame.vm[index] })).filter(({ raw }) => raw && raw !== NO_VALUE);
  const outside = known.some(({ bus, vm }) => vm < bus.min_vm_pu || vm > bus.max_vm_pu);
  const volts = known.map(({ vm }) => vm);
  if (volts.length) kpi('#k-volt', `${number(Math.min(...volts), 3)} – ${number(Math.max(...volts), 3)}`, 'pu', outside ? 'alarm' : '');
  render(network.ranked().slice(0, WORST).map((index) => branchRow(index)), $('#worst'));
}

/** Highest loading of some branches; one that rests on an old measurement is shown as old. */
function showLoading(id, indices) {
  const { loading } = page.frame;
  const known = indices.filter((index) => loading[index] !== NO_VALUE);
  if (!known.length) return kpi(id, '–', '%');
  const worst = known.reduce((best, index) => (loading[index] > loading[best] ? index : best));
  const old = page.stations.filter((station) => station.stale && indices.includes(station.branch));
  const self = old.find((station) => station.branch === worst);
  const pct = loading[worst] / 10;
  if (self) return kpi(id, number(pct), `%, ${self.ageS == null ? 'not heard' : `${age(self.ageS)} old`}`, 'old');
  return kpi(id, number(pct), old.length ? `%, ${old.length} not known` : '%', severity(pct));
}

const branchRow = (index) => {
  const branch = page.topology.branches[index];
  const pct = page.frame.loading[index] / 10;
  const old = page.stations.some((station) => station.branch === index && station.stale);
  const finding = { alarm: 'alarm', warn: 'finding' }[severity(pct)] ?? '';
  return html`<tr aria-current=${network.selected === index ? 'true' : 'false'} class=${old ? 'old' : ''}>
    <td><button class="link" type="button" @click=${() => network.select(index)}>${branch.id}</button></td>
    <td class="n ${old ? '' : finding}">${number(pct)}</td>
    <td class="n">${number(page.frame.vm[branch.to] / 1e4, 3)}</td>
    <td class="basis">${network.basis(index)}</td></tr>`;
};

function showEdges() {
  const station = (edge) => page.stations.find((row) => row.edge === edge.edge_id);
  render(page.edges.length
    ? page.edges.map((edge) => edgeRows(edge, page, station(edge)))
    : html`<tr><td colspan="6" class="empty">No edge was heard yet.</td></tr>`, $('#edges'));
  const { now, lastKnown } = onPlan(page);
  const all = page.edges.filter((edge) => !edge.third_party).length;
  kpi('#k-edges', all ? `${now} of ${all}` : '–', lastKnown ? `${lastKnown} when last heard` : '', now < all ? 'warn' : '');
  showSum('#k-load', 'load_w', (watts) => [kilowatts(watts, 0), 'kW']);
  showSum('#k-storage', 'storage_w', storageParts);
}

/** Sum of one quantity over the edges that have it; with an old part it is no present number. */
function showSum(id, quantity, parts) {
  const values = page.edges.map((edge) => ({ edge, value: page.last.get(`${edge.edge_id}/site/${quantity}`) })).filter(({ value }) => value?.value != null);
  if (!values.length) return;
  const [text, unit] = parts(values.reduce((total, { value }) => total + value.value, 0));
  const old = values.filter(({ edge, value }) => freshness(value, edge, page).stale).length;
  kpi(id, text, old ? `${unit}, ${old === values.length ? 'old' : `${old} of ${values.length} old`}` : unit, old ? 'old' : '');
}

async function loadEdges() {
  const [health, edges, last] = await Promise.all([api('health'), api('edges'), api('readings/last')]);
  page.now = health.now;
  page.speed = Math.max(1, health.clock_speed);
  page.edges = edges;
  page.last = new Map(last.map((value) => [value.point, value]));
  const select = $('#edge');
  if (select.options.length !== edges.length) select.replaceChildren(...edges.map((edge) => new Option(edge.edge_id)));
  if (!page.topology && health.parts.grid?.imported) await loadTopology();
  showState();
  showEdges();
}

/** Which device, unless the text begins with it. */
const deviceOf = ({ device_id: device, text }) => (device && !text.startsWith(device) ? ` ${device}` : '');

const eventRow = (event) => html`<tr>
  <td><span class="sev ${event.severity}">${event.severity}</span><time datetime=${event.at}>${clock(event.at)}</time></td>
  <td><b>${event.edge_id}${deviceOf(event)}</b> ${event.text}</td></tr>`;

async function loadEvents() {
  const events = await api(`events?limit=${EVENTS}`);
  render(events.length ? events.map(eventRow) : html`<tr><td colspan="2" class="empty">Nothing has happened.</td></tr>`, $('#events'));
}

let spokenAt = -Infinity;

/** New alarms are spoken, at most one in five seconds. */
function speak(event) {
  if (event.severity !== 'ALARM' || performance.now() - spokenAt < SPEAK_MS) return;
  spokenAt = performance.now();
  $('#spoken').textContent = `Alarm, ${event.edge_id}: ${event.text}`;
}

const report = (error) => {
  $('#link').title = error.message;
};

const showCharts = async () => {
  if ($('#edge').value && page.now) await loadCharts($('#edge').value, Date.parse(page.now), page.last);
};

async function refresh() {
  if ($('#link').dataset.s === 'stale') return;
  await Promise.all([loadEdges(), loadEvents()]).then(showCharts).catch(report);
}

async function keepFresh() {
  await refresh();
  setTimeout(keepFresh, REFRESH_MS);
}

function onMessage(message) {
  if (message.type === 'heartbeat') {
    page.now = message.now;
    $('#asof').textContent = clock(message.now);
    showEdges();
  } else if (message.type === 'edges') {
    page.edges = message.edges;
    showEdges();
  } else if (message.type === 'event') {
    speak(message.event);
    loadEvents().catch(report);
  }
}

function onLink(state) {
  if ($('#link').dataset.s === state) return;
  $('#link').dataset.s = state;
  $('#link').textContent = state === 'live' ? 'live' : 'stale: no word from the hub';
  document.body.classList.toggle('stale', state === 'stale');
}

$('#theme').onclick = toggleTheme;
$('#edge').onchange = () => showCharts().catch(report);
network.addEventListener('select', showState);
for (const mode of ['loading', 'voltage']) {
  $(`#by-${mode}`).onclick = () => {
    network.setMode(mode);
    for (const other of ['loading', 'voltage']) $(`#by-${other}`).ariaPressed = String(other === mode);
  };
}
connect([`grid/${grid}`, 'events', 'edges'], { grid: onGrid, message: onMessage, link: onLink });
await keepFresh();
