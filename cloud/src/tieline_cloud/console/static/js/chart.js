// <tl-chart>: measured solid, forecast and plan dashed, band shaded, 'now' a line. uPlot draws, the theme colours.
import uPlot from '../vendor/uplot.js';
import { clock } from './format.js';
import { colour, onTheme } from './theme.js';

/**
 * @typedef {object} Curve
 * @property {string} label unit included
 * @property {(number | null)[]} values one an instant
 * @property {'measured' | 'plan' | 'forecast' | 'limit' | 'edge'} style
 * @property {boolean} [step] true: holds until the next instant
 */
/** @typedef {{unix: number[], curves: Curve[], band?: [number, number], now?: number, said: string}} ChartData */

const STYLES = {
  measured: { token: '--ink', width: 2 },
  plan: { token: '--accent', width: 2, dash: [6, 4] },
  forecast: { token: '--accent', width: 2, dash: [6, 4] },
  limit: { token: '--warn', width: 1.2, dash: [2, 3] },
  edge: { token: '--accent', width: 0.5 },
};
const FONT = '12px Inter, "DejaVu Sans", sans-serif';

class Chart extends HTMLElement {
  /** @type {ChartData | null} */ data = null;

  connectedCallback() {
    this.setAttribute('role', 'img');
    this.resizer = new ResizeObserver(() => this.plot?.setSize(this.size()));
    this.resizer.observe(this);
    onTheme(() => this.build());
  }

  size() {
    const legend = this.querySelector('.u-legend')?.clientHeight ?? 26;
    return { width: Math.max(200, this.clientWidth), height: Math.max(110, this.clientHeight - legend) };
  }

  /** @param {ChartData} data */
  setData(data) {
    const same = this.data && this.plot && this.data.curves.length === data.curves.length
      && this.data.curves.every((curve, index) => curve.label === data.curves[index].label);
    this.data = data;
    this.setAttribute('aria-label', data.said);
    if (same) this.plot.setData(this.columns());
    else this.build();
  }

  columns() {
    return [this.data.unix, ...this.data.curves.map((curve) => curve.values)];
  }

  build() {
    if (!this.data) return;
    this.plot?.destroy();
    this.replaceChildren();
    const axis = { stroke: colour('--mute'), grid: { stroke: colour('--line'), width: 1 }, ticks: { stroke: colour('--line') }, font: FONT };
    const series = this.data.curves.map((curve) => {
      const style = STYLES[curve.style];
      return {
        label: curve.label, stroke: colour(style.token), width: style.width, dash: style.dash, spanGaps: false,
        points: { show: false }, paths: curve.step ? uPlot.paths.stepped({ align: 1 }) : undefined,
        value: (_plot, value) => (value == null ? '–' : value.toFixed(1)),
      };
    });
    this.plot = new uPlot({
      ...this.size(),
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1e3), 'Etc/UTC'),
      series: [{ label: 'UTC', value: (_plot, seconds) => (seconds == null ? '–' : clock(seconds * 1e3).slice(0, 5)) }, ...series],
      bands: this.data.band ? [{ series: [this.data.band[1] + 1, this.data.band[0] + 1], fill: colour('--band') }] : [],
      axes: [{ ...axis, values: (_plot, ticks) => ticks.map((seconds) => clock(seconds * 1e3).slice(0, 5)) }, { ...axis, size: 46 }],
      hooks: { draw: [(plot) => this.paintNow(plot)] },
      cursor: { y: false },
      legend: { live: true },
    }, this.columns(), this);
    this.plot.setSize(this.size());
  }

  paintNow(plot) {
    const { now } = this.data;
    if (now == null || now < plot.scales.x.min || now > plot.scales.x.max) return;
    const x = plot.valToPos(now, 'x', true);
    const g = plot.ctx;
    g.save();
    g.strokeStyle = colour('--ink');
    g.fillStyle = colour('--ink');
    g.setLineDash([2, 3]);
    g.beginPath();
    g.moveTo(x, plot.bbox.top);
    g.lineTo(x, plot.bbox.top + plot.bbox.height);
    g.stroke();
    g.font = `${12 * devicePixelRatio}px Inter, "DejaVu Sans", sans-serif`;
    g.fillText('now', x + 5, plot.bbox.top + 14 * devicePixelRatio);
    g.restore();
  }
}

customElements.define('tl-chart', Chart);
