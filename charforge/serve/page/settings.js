// What the user has chosen, kept in this browser.

const KEY = "charforge-options";
const USUAL = { pictures: "auto", seed: null, persona: "" };
// the whole numbers that JavaScript holds exactly
export const MOST_SEED = Number.MAX_SAFE_INTEGER;
export const LEAST_SEED = Number.MIN_SAFE_INTEGER;

const options = { ...USUAL, ...read() };
const listeners = [];

function read() {
  try {
    return JSON.parse(localStorage.getItem(KEY)) ?? {};
  } catch {
    // nothing kept, or nothing readable: the usual ones
    return {};
  }
}

export const chosen = () => ({ ...options });
export const onChosen = (listener) => listeners.push(listener);

export function choose(change) {
  Object.assign(options, change);
  keep(KEY, JSON.stringify(options));
  for (const listener of listeners) listener(chosen());
}

/** The seed of the next answer: the one that was set, which then counts up, else a new one. */
export function takeSeed(random) {
  const { seed } = options;
  if (seed === null) return random();
  choose({ seed: seed >= MOST_SEED ? 0 : seed + 1 });
  return seed;
}

export const theme = () => document.documentElement.dataset.theme ?? "system";

export function chooseTheme(name) {
  if (name === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  keep("charforge-theme", name);
}

function keep(key, value) {
  try {
    localStorage.setItem(key, value);
  } catch {
    // a browser that keeps nothing has been told of at the start; the choice holds until the page is closed
  }
}
