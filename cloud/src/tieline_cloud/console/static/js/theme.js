// Light and dark: the system decides until the operator does.

const root = document.documentElement;
const system = matchMedia('(prefers-color-scheme: dark)');
const listeners = new Set();
const probe = document.createElement('span');
probe.hidden = true;

/** Call back after each change of theme. @param {() => void} listener */
export const onTheme = (listener) => listeners.add(listener);

const changed = () => listeners.forEach((listener) => listener());
system.addEventListener('change', changed);

/** Turn the theme over. */
export function toggleTheme() {
  const dark = root.dataset.theme ? root.dataset.theme === 'dark' : system.matches;
  root.dataset.theme = dark ? 'light' : 'dark';
  changed();
}

/** The present colour of a token such as `--alarm`, as the canvas understands it. @param {string} token */
export function colour(token) {
  if (!probe.isConnected) document.body.append(probe);
  probe.style.color = `var(${token})`;
  return getComputedStyle(probe).color;
}
