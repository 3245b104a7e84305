// The table of edges. What an edge that is not heard said last is shown lighter, with its age, never as present.
import { html } from '../vendor/lit-html.js';
import { age, counted, kilowatts, number, qualityMark, storagePower } from './format.js';
import { freshness, isHeard, silence } from './stations.js';

const RUNGS = ['current_plan', 'last_plan', 'local_schedule', 'device_default'];
const WORDS = { current_plan: 'current plan', last_plan: 'last plan', local_schedule: 'local schedule', device_default: 'device default' };

const linkState = (edge, heard, page) => {
  if (edge.third_party) return html`<small class=${heard ? '' : 'finding'}>third party, at most once${heard ? '' : edge.last_heard ? ', offline' : ', never heard'}</small>`;
  if (!heard) return html`<small class="alarm">${edge.last_heard ? `offline for ${age(silence(edge, page))}` : 'never heard'}</small>`;
  if (!edge.online_durable) return html`<small class="finding">durable lane down</small>`;
  if (!edge.online_live) return html`<small class="finding">live lane down</small>`;
  return html`<small>online</small>`;
};

/** A value with its age when it is old. */
const cell = (edge, page, value, text) => {
  if (!value) return '–';
  const { ageS, stale } = freshness(value, edge, page);
  if (stale) return html`<span class="old">${text(value.value)}<small>${age(ageS)} old</small></span>`;
  return html`${text(value.value)}${qualityMark(value.quality)}`;
};

const loading = (edge, page, station) => {
  const value = station?.pct;
  if (value == null) return '–';
  if (station.stale) return html`<span class="old">${number(value)}<small>${age(station.ageS)} old</small></span>`;
  return html`<span class=${value > 100 ? 'alarm' : value >= 80 ? 'finding' : ''}>${value > 100 ? '▲ ' : ''}${number(value)}</span>`;
};

const backlog = (edge, heard, page) => {
  const waiting = edge.backlog_oldest_at && page.now ? (Date.parse(page.now) - Date.parse(edge.backlog_oldest_at)) / 1000 : null;
  if (edge.backlog_frames == null) return '–';
  if (!heard) return html`<span class="old">${counted(edge.backlog_frames, 'frame')}<small>when last heard</small></span>`;
  return html`${counted(edge.backlog_frames, 'frame')}<small>${edge.backlog_frames && waiting != null ? `oldest ${age(waiting)}` : ''}</small>`;
};

const detail = (edge, heard) => {
  const parts = [
    edge.shed.length ? html`<span class="alarm">▼ ${counted(edge.shed.length, 'load')} shed: ${edge.shed.join(', ')}${heard ? '' : ' (when last heard)'}</span>` : '',
    edge.dry_run ? html`<span class="finding">dry run: decides and writes nothing</span>` : '',
    edge.tagged.length ? html`<span class="finding">tagged “do not operate”: ${edge.tagged.join(', ')}</span>` : '',
    edge.desired_confirmed === false ? html`<span class="finding">does not run yet what was published</span>` : '',
    edge.devices_offline.length ? html`<span class="finding">devices offline: ${edge.devices_offline.join(', ')}</span>` : '',
  ].filter(Boolean);
  return parts.length ? html`<tr class="detail"><td colspan="6">${parts}</td></tr>` : '';
};

/** How long the edge can do without the hub as it is meant to. */
const autonomy = (edge) => (edge.autonomy_h == null ? '' : html`<small>${age(edge.autonomy_h * 3600)} without the hub</small>`);

/** Rows of one edge. @param {any} edge @param {any} page @param {import('./stations.js').Station | undefined} station */
export function edgeRows(edge, page, station) {
  const heard = isHeard(edge, page);
  const step = RUNGS.indexOf(edge.ladder);
  const value = (quantity) => page.last.get(`${edge.edge_id}/site/${quantity}`);
  return html`<tr>
    <th scope="row">${edge.edge_id}${linkState(edge, heard, page)}</th>
    <td class=${heard ? '' : 'old'}><span class="ladder" data-step=${heard ? step : 'old'} aria-hidden="true">${RUNGS.map((_, rung) => html`<i ?data-on=${rung === step}></i>`)}</span>${edge.third_party ? 'not ours to plan' : WORDS[edge.ladder] ?? 'not known'}
      ${heard || step < 0 ? autonomy(edge) : html`<small>when last heard</small>`}</td>
    <td class="n">${loading(edge, page, station)}</td>
    <td class="n">${cell(edge, page, value('load_w'), kilowatts)}</td>
    <td>${cell(edge, page, value('storage_w'), storagePower)}</td>
    <td class="n">${backlog(edge, heard, page)}</td></tr>${detail(edge, heard)}`;
}

/** How many edges run the current plan now, and how many that are not heard did when they last were. */
export function onPlan(page) {
  const running = page.edges.filter((edge) => edge.ladder === 'current_plan');
  const now = running.filter((edge) => isHeard(edge, page)).length;
  return { now, lastKnown: running.length - now };
}
