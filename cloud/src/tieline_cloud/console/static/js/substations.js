// Substations of <tl-network>: the transformer's symbol, and a label with its loading, its age and what is out of the ordinary.
import { age, counted, number } from './format.js';
import { placeLabels } from './labels.js';
import { NO_VALUE } from './live.js';
import { colour } from './theme.js';

export const LEGEND_HEIGHT = 34;
const LABEL_FONT = '600 12px Inter, "DejaVu Sans", sans-serif';
const NOTE_FONT = '11px Inter, "DejaVu Sans", sans-serif';

/** Paint symbols of low-voltage transformers and labels of the stations. @param {CanvasRenderingContext2D} g @param {any} network @param {[number, number][]} points of the buses */
export function paintSubstations(g, network, points) {
  const { buses, branches } = network.topology;
  const stale = new Set(network.stations.filter((station) => station.stale).map((station) => station.branch));
  branches.forEach((branch, index) => {
    if (branch.kind !== 'trafo' || buses[branch.to].kv > 1) return;
    paintTransformer(g, points[branch.from], points[branch.to], tokenOf(loadingOf(network, index)), stale.has(index));
  });
  paintLabels(g, network, points);
}

/** Loading of a branch in per cent, or null. */
function loadingOf({ state }, index) {
  return state && state.loading[index] !== NO_VALUE ? state.loading[index] / 10 : null;
}

/** Ink while a loading is no finding. @param {number | null} pct */
const tokenOf = (pct) => (pct > 100 ? '--alarm' : pct >= 80 ? '--warn' : '--ink');

/** Two rings between the ends; wide and coloured by loading, dashed and lighter when what is known is old. */
function paintTransformer(g, [fx, fy], [tx, ty], token, stale) {
  const [x, y, length] = [(fx + tx) / 2, (fy + ty) / 2, Math.hypot(tx - fx, ty - fy) || 1];
  const [ux, uy] = [(tx - fx) / length, (ty - fy) / length];
  g.lineWidth = token === '--ink' ? 1.6 : 3;
  g.strokeStyle = colour(stale ? '--n1' : token === '--ink' ? '--n2' : token);
  g.setLineDash(stale ? [2, 2] : []);
  const ring = (cx, cy, radius) => {
    g.beginPath();
    g.arc(cx, cy, radius, 0, 7);
    g.stroke();
  };
  for (const side of [-3.2, 3.2]) ring(x + ux * side, y + uy * side, 5);
  if (token === '--alarm' && !stale) ring(x, y, 14);
  g.setLineDash([]);
}

/** Name and loading of a station, and what is out of the ordinary. */
function labelOf(network, station) {
  // Of a substation that is not heard and never was, an assumption is no loading.
  const pct = station.stale && station.pct == null ? null : loadingOf(network, station.branch);
  const notes = [];
  if (pct > 100) notes.push('▲ overload');
  if (station.shed.length) notes.push(`▼ ${counted(station.shed.length, 'load')} shed`);
  if (station.stale) notes.push(station.ageS == null ? 'not heard' : `${age(station.ageS)} old`);
  const token = station.shed.length ? '--alarm' : tokenOf(pct);
  const name = station.edge.replace(/^./, (letter) => letter.toUpperCase());
  return { name: `${name}  ${number(pct, 0)} %`, note: notes.join(', '), token };
}

function paintLabels(g, network, points) {
  const { branches } = network.topology;
  const labels = network.stations.map((station) => labelOf(network, station));
  const anchors = network.stations.map((station, index) => {
    const { from, to } = branches[station.branch];
    const { name, note } = labels[index];
    g.font = LABEL_FONT;
    const width = g.measureText(name).width;
    g.font = NOTE_FONT;
    return {
      x: (points[from][0] + points[to][0]) / 2, y: (points[from][1] + points[to][1]) / 2,
      width: Math.max(width, g.measureText(note).width) + 12, height: note ? 36 : 20,
    };
  });
  const along = branches.flatMap(({ from, to }) => [0.25, 0.5, 0.75].map((t) => /** @type {[number, number]} */ ([
    points[from][0] + t * (points[to][0] - points[from][0]), points[from][1] + t * (points[to][1] - points[from][1])])));
  const room = { width: network.clientWidth, height: network.clientHeight - LEGEND_HEIGHT };
  placeLabels(anchors, [...points, ...along], room)
    .forEach((place, index) => paintLabel(g, labels[index], anchors[index], place, network.stations[index].stale));
}

function paintLabel(g, { name, note, token }, { x, y, width, height }, { left, top, far }, stale) {
  const finding = token !== '--ink';
  g.lineWidth = finding && !stale ? 2 : 1;
  g.strokeStyle = colour(finding ? token : '--mute');
  if (far) {
    g.beginPath();
    g.moveTo(x, y);
    g.lineTo(Math.max(left, Math.min(x, left + width)), Math.max(top, Math.min(y, top + height)));
    g.stroke();
  }
  g.fillStyle = colour('--panel');
  g.globalAlpha = finding || stale ? 1 : 0.8;
  g.fillRect(left, top, width, height);
  g.globalAlpha = 1;
  g.setLineDash(stale ? [3, 3] : []);
  if (finding || stale) g.strokeRect(left, top, width, height);
  g.setLineDash([]);
  g.textBaseline = 'middle';
  g.font = LABEL_FONT;
  g.fillStyle = colour(stale ? '--mute' : token);
  g.fillText(name, left + 6, top + 10.5);
  g.font = NOTE_FONT;
  g.fillStyle = colour(finding ? token : '--mute');
  g.fillText(note, left + 6, top + 26);
}
