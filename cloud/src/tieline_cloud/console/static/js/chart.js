// <tl-chart>: measured solid, forecast and plan dashed, band shaded, 'now' a line. uPlot draws, the theme colours.
import uPlot from '../vendor/uplot.js';
import { clock, number } from './format.js';
import { colour, onTheme } from './theme.js';

/**
 * @typedef {object} Curve
 * @property {string} label
 * @property {(number | null | undefined)[]} values one an instant; null is a gap, undefined an instant of another curve
 * @property {'measured' | 'plan' | 'forecast' | 'earlier' | 'edge'} style
 * @property {boolean} [step] true: holds until the next instant
 */
/**
 * @typedef {object} Band
 * @property {string} label
 * @property {number} low position of the curve below
 * @property {number} high position of the curve above
 */
/** @typedef {{unix: number[], unit: string, curves: Curve[], bands: Band[], now: number, span: [number, number], said: string}} ChartData */

const STYLES = {
  measured: { token: '--ink', width: 2 },
  plan: { token: '--accent', width: 2, dash: [6, 4] },
  forecast: { token: '--accent', width: 2, dash: [6, 4] },
  earlier: { token: '--past', width: 2, dash: [2, 3] },
  edge: { token: '--band', width: 0 },
};
const FONT = '12px Inter, "DejaVu Sans", sans-serif';

class Chart extends HTMLElement {
  /** @type {ChartData | null} */ data = null;

  connectedCallback() {
    this.legend = this.appendChild(document.createElement('div'));
    this.legend.className = 'key';
    this.canvas = this.appendChild(document.createElement('div'));
    this.canvas.className = 'plot';
    this.canvas.setAttribute('role', 'img');
    this.resizer = new ResizeObserver(() => this.plot?.setSize(this.size()));
    this.resizer.observe(this.canvas);
    onTheme(() => this.build());
  }

  size() {
    return { width: Math.max(200, this.canvas.clientWidth), height: Math.max(90, this.canvas.clientHeight) };
  }

  /** @param {ChartData} data */
  setData(data) {
    const same = this.data && this.plot && this.data.curves.length === data.curves.length
      && this.data.curves.every((curve, index) => curve.label === data.curves[index].label);
    this.data = data;
    this.canvas.setAttribute('aria-label', data.said);
    if (!same) return this.build();
    this.plot.setData(this.columns());
    return this.showKey();
  }

  columns() {
    return [this.data.unix, ...this.data.curves.map((curve) => curve.values)];
  }

  build() {
    if (!this.data) return;
    this.plot?.destroy();
    const axis = { stroke: colour('--mute'), grid: { stroke: colour('--line'), width: 1 }, ticks: { show: false }, font: FONT };
    const series = this.data.curves.map((curve) => {
      const style = STYLES[curve.style];
      return {
        label: curve.label, stroke: colour(style.token), width: style.width, dash: style.dash, spanGaps: false,
        points: { show: false }, paths: curve.step ? uPlot.paths.stepped({ align: 1 }) : undefined,
      };
    });
    this.plot = new uPlot({
      ...this.size(),
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1e3), 'Etc/UTC'),
      series: [{}, ...series],
      bands: this.data.bands.map(({ low, high }) => ({ series: [high + 1, low + 1], fill: colour('--band') })),
      axes: [
        { ...axis, size: 24, gap: 4, values: (_plot, ticks) => ticks.map((seconds) => clock(seconds * 1e3).slice(0, 5)) },
        { ...axis, size: 44, gap: 4 },
      ],
      scales: { x: { range: () => this.data.span } },
      padding: [8, 20, 0, 0],
      hooks: { draw: [(plot) => this.paintNow(plot)], setCursor: [() => this.showKey()] },
      cursor: { y: false, points: { show: false } },
      legend: { show: false },
    }, this.columns(), this.canvas);
    this.showKey();
  }

  /** Names of what is drawn, with the value under the pointer, else the present one. */
  showKey() {
    const { unix, unit, curves, bands, now } = this.data;
    const pointed = this.plot.cursor.idx;
    const at = unix[pointed] ?? now;
    const key = (style, text) => {
      const item = document.createElement('span');
      const mark = document.createElement('i');
      mark.className = style;
      item.append(mark, text);
      return item;
    };
    const value = (curve) => {
      const found = pointed == null && curve.style === 'measured' ? lastOf(curve.values) : around(unix, curve.values, at);
      return found == null ? '' : ` ${number(found, 0)}`;
    };
    const named = curves.filter((curve) => curve.style !== 'edge').map((curve) => key(curve.style, `${curve.label}${value(curve)}`));
    const banded = bands.slice(0, 1).map(({ label, low, high }) => key('band', `${label}${value(curves[low])}${value(curves[high]) && ' –'}${value(curves[high])}`));
    const where = pointed == null ? '' : `at ${clock(at * 1e3).slice(0, 5)}`;
    this.legend.replaceChildren(...named, ...banded, key('none', [unit, where].filter(Boolean).join(', ')));
  }

  paintNow(plot) {
    const { now } = this.data;
    if (now < plot.scales.x.min || now > plot.scales.x.max) return;
    const x = plot.valToPos(now, 'x', true);
    const g = plot.ctx;
    g.save();
    g.strokeStyle = colour('--ink');
    g.fillStyle = colour('--ink');
    g.lineWidth = devicePixelRatio;
    g.beginPath();
    g.moveTo(x, plot.bbox.top);
    g.lineTo(x, plot.bbox.top + plot.bbox.height);
    g.stroke();
    g.font = `${11 * devicePixelRatio}px Inter, "DejaVu Sans", sans-serif`;
    g.textAlign = 'left';
    g.fillText('now', x + 4 * devicePixelRatio, plot.bbox.top + plot.bbox.height - 5 * devicePixelRatio);
    g.restore();
  }
}

/** The newest number of a column. @param {(number | null | undefined)[]} values */
const lastOf = (values) => values.findLast((value) => value != null);

/** The number that holds at an instant; none before the first and after the last. */
function around(unix, values, at) {
  const first = values.findIndex((value) => value != null);
  const last = values.findLastIndex((value) => value != null);
  if (first < 0 || at > unix[last]) return null;
  for (let index = last; index >= first; index -= 1) if (unix[index] <= at && values[index] !== undefined) return values[index];
  return unix[first] - at < 900 ? values[first] : null;
}

customElements.define('tl-chart', Chart);
