// <tl-network>: canvas picture of a grid. Grey is normal, colour is a finding; one path a class keeps 10,000 branches cheap.
import { age, number } from './format.js';
import { NO_VALUE } from './live.js';
import { LEGEND_HEIGHT, paintSubstations } from './substations.js';
import { colour, onTheme } from './theme.js';

/** @typedef {{id: string, x: number, y: number, kv: number, min_vm_pu: number, max_vm_pu: number, area?: string, label?: string}} Bus */
/** @typedef {{id: string, from: number, to: number, kind: string, open: boolean}} Branch */
/** @typedef {{hash: string, buses: Bus[], branches: Branch[]}} Topology */

// Upper edge of the class in per cent of the rating, colour token, line width.
const LOADING = [[20, '--n0', 1], [60, '--n1', 1.5], [80, '--n2', 2], [100, '--warn', 3.4], [Infinity, '--alarm', 5.5]];
// Upper edge of the class as a share of the way from nominal (0) to the bus's own limit (-1 low, +1 high).
const VOLTAGE = [[-1, '--alarm', 5.5], [-0.6, '--vlo', 2.8], [0.6, '--n1', 1.5], [1, '--vhi', 2.8], [Infinity, '--alarm', 5.5]];
const LEGEND = {
  loading: ['< 20 %', '20–60 %', '60–80 %', '80–100 %', '> 100 % of rating'],
  voltage: ['▼ below limit', 'low', 'normal', 'high', '▲ above limit'],
};
const HIT_RADIUS = 12;
// A schematic, not a map: it may be stretched by so much in one direction to fill its panel.
const STRETCH = 1.6;
const SUBSTITUTED = 1;
const DEAD = 2;

class Network extends HTMLElement {
  /** @type {'loading' | 'voltage'} */ mode = 'loading';
  /** @type {Topology | null} */ topology = null;
  /** @type {import('./live.js').GridFrame | null} */ state = null;
  /** @type {import('./stations.js').Station[]} */ stations = [];
  selected = -1;
  /** @type {{sx: number, sy: number, ox: number, oy: number} | null} */ view = null;

  connectedCallback() {
    this.canvas = this.appendChild(document.createElement('canvas'));
    this.legend = this.appendChild(document.createElement('div'));
    this.legend.className = 'legend';
    this.tip = this.appendChild(document.createElement('div'));
    this.tip.className = 'tip';
    this.tip.hidden = true;
    this.said = this.appendChild(document.createElement('div'));
    this.said.className = 'vh';
    this.said.setAttribute('aria-live', 'polite');
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute('role', 'application');
    this.canvas.setAttribute('aria-label', 'Network picture. Arrow keys walk the branches from the most loaded, plus and minus zoom, 0 fits, Escape lets go. The table of branches holds the same facts.');
    new ResizeObserver(() => this.fit()).observe(this);
    this.listen();
    onTheme(() => this.redraw());
  }

  listen() {
    const { canvas } = this;
    canvas.addEventListener('wheel', (event) => {
      event.preventDefault();
      this.zoom(event.deltaY < 0 ? 1.25 : 0.8, event.offsetX, event.offsetY);
    }, { passive: false });
    canvas.addEventListener('pointermove', (event) => {
      if (!event.buttons || !this.view) return this.hover(event.offsetX, event.offsetY);
      this.view.ox += event.movementX;
      this.view.oy += event.movementY;
      return this.redraw();
    });
    canvas.addEventListener('pointerleave', () => { this.tip.hidden = true; });
    canvas.addEventListener('keydown', (event) => this.key(event));
  }

  /** @param {Topology} topology */
  setTopology(topology) {
    this.topology = topology;
    this.fit();
  }

  /** @param {import('./live.js').GridFrame} state */
  setState(state) {
    this.state = state;
    this.redraw();
  }

  /** @param {import('./stations.js').Station[]} stations */
  setStations(stations) {
    this.stations = stations;
    this.redraw();
  }

  /** @param {'loading' | 'voltage'} mode */
  setMode(mode) {
    this.mode = mode;
    this.redraw();
  }

  fit() {
    const { clientWidth: width, clientHeight: height, topology } = this;
    if (!topology || !width) return;
    this.canvas.width = width * devicePixelRatio;
    this.canvas.height = height * devicePixelRatio;
    const known = topology.buses.filter((bus) => bus.x != null);
    const span = (/** @type {number[]} */ values) => [Math.min(...values), Math.max(...values)];
    const [x0, x1] = span(known.map((bus) => bus.x));
    const [y0, y1] = span(known.map((bus) => bus.y));
    const wide = (0.86 * width) / (x1 - x0 || 1);
    const high = (0.9 * (height - LEGEND_HEIGHT)) / (y1 - y0 || 1);
    const sx = Math.min(wide, STRETCH * high);
    const sy = Math.min(high, STRETCH * wide);
    this.view = { sx, sy, ox: width / 2 - ((x0 + x1) / 2) * sx, oy: (height - LEGEND_HEIGHT) / 2 + ((y0 + y1) / 2) * sy };
    this.redraw();
  }

  zoom(factor, x = this.clientWidth / 2, y = this.clientHeight / 2) {
    const { view } = this;
    if (!view) return;
    view.ox = x - (x - view.ox) * factor;
    view.oy = y - (y - view.oy) * factor;
    view.sx *= factor;
    view.sy *= factor;
    this.redraw();
  }

  /** @param {Bus} bus @returns {[number, number]} */
  at(bus) {
    return [bus.x * this.view.sx + this.view.ox, this.view.oy - bus.y * this.view.sy];
  }

  /** Signed share of the way from nominal to the bus's limit. @param {number} index */
  deviation(index) {
    const bus = this.topology.buses[index];
    const off = this.state.vm[index] / 1e4 - 1;
    return off < 0 ? off / (1 - bus.min_vm_pu) : off / (bus.max_vm_pu - 1);
  }

  /** Whether the state says anything about a branch. @param {Branch} branch @param {number} index */
  known(branch, index) {
    return this.state != null && this.state.loading[index] !== NO_VALUE && this.state.vm[branch.to] !== NO_VALUE;
  }

  /** @param {Branch} branch @param {number} index */
  classOf(branch, index) {
    if (this.mode === 'loading') return LOADING.findIndex(([edge]) => this.state.loading[index] / 10 < edge);
    const value = this.deviation(branch.to);
    return VOLTAGE.findIndex(([edge]) => value < edge);
  }

  redraw() {
    if (this.queued) return;
    this.queued = true;
    requestAnimationFrame(() => {
      this.queued = false;
      this.paint();
    });
  }

  paint() {
    const { view, topology } = this;
    if (!view || !topology) return;
    const g = this.canvas.getContext('2d');
    g.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    g.clearRect(0, 0, this.clientWidth, this.clientHeight);
    const points = topology.buses.map((bus) => this.at(bus));
    this.paintBranches(g, points);
    if (topology.buses.length < 2000) this.paintBuses(g, points);
    this.paintSelection(g, points);
    this.paintLegend();
  }

  paintBranches(g, points) {
    const { branches } = this.topology;
    const classes = this.mode === 'loading' ? LOADING : VOLTAGE;
    const paths = classes.map(() => new Path2D());
    const open = new Path2D();
    branches.forEach((branch, index) => {
      const path = branch.open || !this.known(branch, index) ? open : paths[this.classOf(branch, index)];
      path.moveTo(...points[branch.from]);
      path.lineTo(...points[branch.to]);
    });
    const thin = branches.length > 2000 ? 0.6 : 1;
    g.lineCap = 'round';
    g.setLineDash([4, 4]);
    g.strokeStyle = colour('--mute');
    g.lineWidth = 1;
    g.stroke(open);
    g.setLineDash([]);
    paths.forEach((path, index) => {
      g.strokeStyle = colour(classes[index][1]);
      g.lineWidth = classes[index][2] * thin;
      g.stroke(path);
    });
  }

  paintBuses(g, points) {
    const { buses } = this.topology;
    g.fillStyle = colour('--n2');
    buses.forEach((bus, index) => {
      const [x, y] = points[index];
      if (bus.kv > 50) return g.fillRect(x - 6, y - 6, 12, 12);
      g.beginPath();
      g.arc(x, y, bus.kv < 1 ? 3.2 : 2, 0, 7);
      return g.fill();
    });
    paintSubstations(g, this, points);
  }

  paintSelection(g, points) {
    if (this.selected < 0) return;
    const branch = this.topology.branches[this.selected];
    g.strokeStyle = colour('--focus');
    g.lineWidth = 9;
    g.globalAlpha = 0.5;
    g.beginPath();
    g.moveTo(...points[branch.from]);
    g.lineTo(...points[branch.to]);
    g.stroke();
    g.globalAlpha = 1;
  }

  paintLegend() {
    if (this.legend.dataset.mode === this.mode) return;
    this.legend.dataset.mode = this.mode;
    const classes = this.mode === 'loading' ? LOADING : VOLTAGE;
    const rows = classes.map(([, token, width], index) => {
      const row = document.createElement('span');
      const line = document.createElement('i');
      line.style.setProperty('--c', `var(${token})`);
      line.style.setProperty('--w', `${width}px`);
      row.append(line, LEGEND[this.mode][index]);
      return row;
    });
    const open = document.createElement('span');
    const dashes = document.createElement('i');
    dashes.className = 'open';
    open.append(dashes, 'open');
    this.legend.replaceChildren(...rows, open);
  }

  hover(x, y) {
    if (!this.view || !this.state) return;
    let nearest = HIT_RADIUS ** 2;
    let hit = -1;
    this.topology.branches.forEach((branch, index) => {
      const [ax, ay] = this.at(this.topology.buses[branch.from]);
      const [bx, by] = this.at(this.topology.buses[branch.to]);
      const along = ((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / ((bx - ax) ** 2 + (by - ay) ** 2 || 1);
      const t = Math.max(0, Math.min(1, along));
      const away = (ax + t * (bx - ax) - x) ** 2 + (ay + t * (by - ay) - y) ** 2;
      if (away < nearest) [nearest, hit] = [away, index];
    });
    this.tip.hidden = hit < 0;
    if (hit < 0) return;
    this.tip.textContent = this.describe(hit);
    this.tip.style.left = `${Math.min(x + 14, this.clientWidth - 190)}px`;
    this.tip.style.top = `${y + 14}px`;
  }

  /** What a branch's numbers rest on. @param {number} index */
  basis(index) {
    const station = this.stations.find((candidate) => candidate.branch === index && candidate.pct != null);
    if (station) return station.stale ? `${age(station.ageS)} old` : 'measured';
    const quality = this.state.quality[index];
    if (quality & DEAD) return 'dead';
    return quality & SUBSTITUTED ? 'assumed' : 'computed';
  }

  describe(index) {
    const branch = this.topology.branches[index];
    if (branch.open) return `${branch.id}\nopen`;
    if (!this.known(branch, index)) return `${branch.id}\nnot known`;
    const [loading, vm] = [this.state.loading[index] / 10, this.state.vm[branch.to] / 1e4];
    return `${branch.id}\nloading ${number(loading)} %\nend voltage ${number(vm, 3)} pu\n${this.basis(index)}`;
  }

  /** Branch numbers from the most loaded down. */
  ranked() {
    const known = [...this.state.loading.keys()].filter((index) => this.state.loading[index] !== NO_VALUE);
    return known.sort((a, b) => this.state.loading[b] - this.state.loading[a]);
  }

  key(event) {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (step && this.state) {
      const order = this.ranked();
      const rank = Math.max(0, Math.min(order.length - 1, order.indexOf(this.selected) + step));
      if (order.length) this.select(order[rank]);
      event.preventDefault();
    } else if (event.key === '+') this.zoom(1.25);
    else if (event.key === '-') this.zoom(0.8);
    else if (event.key === '0') this.fit();
    else if (event.key === 'Escape') this.select(-1);
  }

  /** @param {number} index */
  select(index) {
    this.selected = index;
    this.said.textContent = index < 0 ? '' : this.describe(index).replaceAll('\n', ', ');
    this.dispatchEvent(new Event('select'));
    this.redraw();
  }
}

customElements.define('tl-network', Network);
