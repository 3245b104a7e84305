// The only place that formats numbers and times. Absent is a dash, never 0; every number has its unit beside it.

/** @typedef {{value: number | null, unit?: string, at?: string | null, quality?: string}} Value */

const QUALITY_MARK = { good: '', uncertain: ' ?', substituted: ' ~', stale: ' (stale)', bad: ' (bad)' };

/** Fixed decimals, or a dash. @param {number | null | undefined} value @param {number} decimals */
export const number = (value, decimals = 1) => (value == null || Number.isNaN(value) ? '–' : value.toFixed(decimals));

/** Watts as kW. @param {number | null | undefined} watts */
export const kilowatts = (watts, decimals = 1) => number(watts == null ? null : watts / 1000, decimals);

/** A storage power as amount and word. @param {number | null | undefined} watts @returns {[string, string]} */
export function storageParts(watts) {
  if (watts == null) return ['–', ''];
  if (Math.abs(watts) < 50) return ['0.0', 'kW, idle'];
  return [kilowatts(Math.abs(watts)), `kW ${watts > 0 ? 'charging' : 'discharging'}`];
}

/** A storage power in words. @param {number | null | undefined} watts */
export function storagePower(watts) {
  const [amount, words] = storageParts(watts);
  if (!words) return amount;
  return words.endsWith('idle') ? 'idle' : `${words.slice(3)} ${amount} kW`;
}

/** Clock time of an instant in UTC. @param {string | number | Date | null | undefined} instant */
export const clock = (instant) => (instant == null ? '–' : new Date(instant).toISOString().slice(11, 19));

/** Date and time of an instant in UTC, to the minute. @param {string | number | Date} instant */
export const minute = (instant) => new Date(instant).toISOString().slice(0, 16).replace('T', ' ');

/** An age in words. @param {number | null | undefined} seconds */
export function age(seconds) {
  if (seconds == null) return '–';
  if (seconds < 90) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

/** The mark that follows a number of doubtful quality. @param {string | undefined} quality */
export const qualityMark = (quality) => QUALITY_MARK[quality ?? 'good'] ?? ` (${quality})`;

/** A number of things, in the singular where it is one. @param {number} count @param {string} thing */
export const counted = (count, thing) => `${count} ${thing}${count === 1 ? '' : 's'}`;
