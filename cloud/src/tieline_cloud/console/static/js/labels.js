// Where the names of substations go: beside their symbols, never over each other, over as few lines as can be.

const RADII = [14, 24, 38, 56, 80];
const DIRECTIONS = [[1, 0], [-1, 0], [0.7, -0.7], [-0.7, -0.7], [0.7, 0.7], [-0.7, 0.7], [0, -1], [0, 1]];
const OVERLAP = 1e6;
const CROWDED = 4000;

/** @typedef {{x: number, y: number, width: number, height: number}} Anchor what is to be labelled, and how big its label is */
/** @typedef {{left: number, top: number, far: boolean}} Place far: needs a line to its symbol */

/**
 * Place each label; the first in the list choose first.
 * @param {Anchor[]} anchors
 * @param {[number, number][]} obstacles points that are better left free
 * @param {{width: number, height: number}} room
 * @returns {Place[]}
 */
export function placeLabels(anchors, obstacles, room) {
  const taken = [];
  const avoid = obstacles.length > CROWDED ? [] : obstacles;
  return anchors.map((anchor) => {
    let best = null;
    for (const radius of RADII) {
      for (const [dx, dy] of DIRECTIONS) {
        const box = boxAt(anchor, radius, dx, dy);
        const cost = costOf(box, anchor, taken, anchors, avoid, room) + radius;
        if (!best || cost < best.cost) best = { ...box, cost, far: radius > RADII[0] };
      }
    }
    taken.push(best);
    return best;
  });
}

function boxAt({ x, y, width, height }, radius, dx, dy) {
  return { left: x + dx * radius + ((dx - 1) / 2) * width, top: y + dy * radius + ((dy - 1) / 2) * height, width, height };
}

function costOf(box, own, taken, anchors, avoid, room) {
  const inside = ([x, y]) => x > box.left - 2 && x < box.left + box.width + 2 && y > box.top - 2 && y < box.top + box.height + 2;
  let cost = 0;
  if (box.left < 4 || box.top < 4 || box.left + box.width > room.width - 4 || box.top + box.height > room.height - 4) cost += OVERLAP;
  for (const other of taken) {
    const apart = box.left > other.left + other.width + 4 || other.left > box.left + box.width + 4
      || box.top > other.top + other.height + 4 || other.top > box.top + box.height + 4;
    if (!apart) cost += OVERLAP;
  }
  const away = ({ x, y }) => Math.hypot(
    Math.max(box.left - x, 0, x - box.left - box.width), Math.max(box.top - y, 0, y - box.top - box.height));
  for (const anchor of anchors) {
    if (anchor === own) continue;
    if (inside([anchor.x, anchor.y])) cost += 500;
    // A name that is nearer to another symbol would be read as that one's.
    if (away(anchor) < 1.5 * away(own)) cost += 300;
  }
  for (const point of avoid) if (inside(point)) cost += 12;
  return cost;
}
