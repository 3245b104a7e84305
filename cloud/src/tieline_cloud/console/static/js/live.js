// One WebSocket a tab: binary grid frames and JSON messages; reconnects with jitter, says when data is stale.

/** What a frame says where there is no value. */
export const NO_VALUE = 0xffff;
const STALE_MS = 5000;
const SLOWEST_RETRY_MS = 3000;

/**
 * @typedef {object} GridFrame
 * @property {number} seq
 * @property {number} unixS
 * @property {string} hash first 12 bytes of the topology hash, hexadecimal
 * @property {Uint16Array} loading tenths of a per cent, a branch each
 * @property {Uint16Array} vm 1e-4 pu, a bus each
 * @property {Uint8Array} quality a branch each
 */

/** Decode one grid frame. @param {ArrayBuffer} buffer @returns {GridFrame} */
export function decodeGrid(buffer) {
  const view = new DataView(buffer);
  const branches = view.getUint32(4, true);
  const buses = view.getUint32(16, true);
  const hash = [...new Uint8Array(buffer, 20, 12)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  const at = 32;
  return {
    seq: view.getUint32(0, true),
    unixS: view.getFloat64(8, true),
    hash,
    loading: new Uint16Array(buffer.slice(at, at + 2 * branches)),
    vm: new Uint16Array(buffer.slice(at + 2 * branches, at + 2 * branches + 2 * buses)),
    quality: new Uint8Array(buffer, at + 2 * branches + 2 * buses, branches),
  };
}

/**
 * Keep a live connection for as long as the page stands.
 * @param {string[]} topics
 * @param {{grid?: (frame: GridFrame) => void, message?: (message: any) => void, link: (state: 'live' | 'stale') => void}} on
 */
export function connect(topics, on) {
  let heard = 0;
  let retryMs = 500;
  const received = () => {
    heard = performance.now();
    retryMs = 500;
    on.link('live');
  };
  setInterval(() => {
    if (performance.now() - heard > STALE_MS) on.link('stale');
  }, 1000);
  const open = () => {
    const socket = new WebSocket(`${location.origin.replace('http', 'ws')}/v1/live`);
    socket.binaryType = 'arraybuffer';
    socket.onopen = () => socket.send(JSON.stringify({ subscribe: topics }));
    socket.onmessage = (event) => {
      received();
      if (event.data instanceof ArrayBuffer) on.grid?.(decodeGrid(event.data));
      else on.message?.(JSON.parse(event.data));
    };
    socket.onclose = () => {
      setTimeout(open, retryMs * (0.5 + Math.random()));
      retryMs = Math.min(retryMs * 2, SLOWEST_RETRY_MS);
    };
  };
  open();
}
