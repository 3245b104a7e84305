// What is known of each substation with an edge, and whether it may still be called present.

// An edge is silent, and a value old, after so many seconds of wall time.
const SILENT_S = 10;
const OLD_S = 60;

/**
 * @typedef {object} Station
 * @property {string} edge id
 * @property {number} branch its transformer, a position in the topology
 * @property {number | null} pct loading its transformer measured
 * @property {number | null} ageS of that measurement
 * @property {boolean} stale true: shown with its age, never as good
 * @property {string[]} shed loads it has switched off
 */

const secondsBetween = (from, to) => (from && to ? Math.max(0, (Date.parse(to) - Date.parse(from)) / 1000) : null);

/** True while the hub hears an edge. @param {any} edge @param {{now: string | null, speed: number}} page */
export function isHeard(edge, page) {
  // A third party speaks when something changes and may be quiet for long: its death certificate says when it is gone.
  if (edge.third_party) return edge.online_live;
  const late = secondsBetween(edge.last_heard, page.now);
  return (edge.online_durable || edge.online_live) && late != null && late <= SILENT_S * page.speed;
}

/** Seconds since an edge was heard. @param {any} edge @param {{now: string | null}} page */
export const silence = (edge, page) => secondsBetween(edge.last_heard, page.now);

/** A value's age and whether it is stale. @param {any} value @param {any} edge @param {{now: string | null, speed: number}} page */
export function freshness(value, edge, page) {
  const ageS = secondsBetween(value?.at, page.now);
  const doubtful = value != null && (value.quality === 'stale' || value.quality === 'bad');
  return { ageS, stale: !isHeard(edge, page) || doubtful || (ageS != null && ageS > OLD_S * page.speed) };
}

/**
 * Every substation with an edge, the transformer's own measurement first.
 * @param {{substations: {edge_id: string[], branch: number[]}}} columns
 * @param {any} page
 * @returns {Station[]}
 */
export function stations(columns, page) {
  return columns.edge_id.map((id, index) => {
    const branch = columns.branch[index];
    const edge = page.edges.find((row) => row.edge_id === id) ?? { online_durable: false, online_live: false, shed: [] };
    const value = page.last.get(`${page.topology.branches[branch].id}/loading_pct`);
    return { edge: id, branch, pct: value?.value ?? null, shed: edge.shed, ...freshness(value, edge, page) };
  });
}
