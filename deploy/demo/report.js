// Draws the charts whose data stand in the page; uPlot is in scope.
const INK = {ink: ['#1a1d21', '#e4e7ea'], accent: ['#1f4e79', '#9cc3ea'], warn: ['#b45f06', '#f5a623'], alarm: ['#b00020', '#ff5c77'],
  mute: ['#8a929b', '#6d757e'], line: ['#dfe3e7', '#30363d'], band: ['#1f4e7930', '#9cc3ea38']};
const dark = matchMedia('(prefers-color-scheme: dark)').matches, colour = (name) => INK[name][dark ? 1 : 0];
const time = (s, long) => new Date(s * 1e3).toISOString().slice(11, long ? 19 : 16);
for (const chart of JSON.parse(document.getElementById('charts').textContent)) {
  const at = document.getElementById(chart.id), short = chart.x.at(-1) - chart.x[0] < 900;
  const axis = {space: 70, stroke: colour('mute'), grid: {stroke: colour('line'), width: 1}, ticks: {stroke: colour('line')}, font: '12px sans-serif'};
  new uPlot({width: at.clientWidth, height: 262, tzDate: (s) => uPlot.tzDate(new Date(s * 1e3), 'Etc/UTC'), cursor: {y: false}, legend: {live: false},
    series: [{label: 'UTC', value: (_, s) => (s == null ? '-' : time(s, true))}, ...chart.series.map((s) => ({label: s.label, stroke: colour(s.colour),
      width: s.width ?? 2, dash: s.dash, spanGaps: true, points: {show: false}, paths: s.step ? uPlot.paths.stepped({align: 1}) : undefined,
      value: (_, v) => (v == null ? '-' : v.toFixed(1))}))],
    bands: chart.band ? [{series: chart.band, fill: colour('band')}] : [],
    scales: chart.range ? {y: {range: chart.range}} : {},
    axes: [{...axis, values: (_, ticks) => ticks.map((s) => time(s, short))}, {...axis, size: 56}],
    hooks: {draw: [(u) => { for (const m of chart.marks ?? []) { const x = u.valToPos(m.at, 'x', true), c = u.ctx;
      if (x < u.bbox.left || x > u.bbox.left + u.bbox.width) continue;
      c.save(); c.strokeStyle = colour('mute'); c.fillStyle = colour('ink'); c.setLineDash([3, 3]); c.beginPath(); c.moveTo(x, u.bbox.top);
      c.lineTo(x, u.bbox.top + u.bbox.height); c.stroke(); c.font = `${11 * devicePixelRatio}px sans-serif`;
      c.fillText(m.text, x + 4, u.bbox.top + (12 + 14 * (m.row ?? 0)) * devicePixelRatio); c.restore(); } }]}},
    [chart.x, ...chart.series.map((s) => s.y)], at);
}
