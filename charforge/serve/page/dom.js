// Elements, made without a line of HTML from outside: whatever a card or a reply holds becomes text and nothing else.

const SVG = "http://www.w3.org/2000/svg";

const ICONS = {
  attach:
    "M21 11.5l-8.6 8.6a5.5 5.5 0 0 1-7.8-7.8l8.9-8.9a3.7 3.7 0 0 1 5.2 5.2l-8.8 8.8a1.8 1.8 0 0 1-2.6-2.6l7.9-7.9",
  back: "M15 5l-7 7 7 7",
  brush: "M4 20c3 1 6 0 6-3a2.5 2.5 0 0 0-5 0c0 1.5-1 2-1 3zM9.5 14.5L19 4l1.5 1.5L11 15.5",
  check: "M5 12.5l4.5 4.5L19 7",
  close: "M6 6l12 12M18 6L6 18",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  down: "M12 5v14M6 13l6 6 6-6",
  edit: "M4 20l1-4L16.5 4.5a2.1 2.1 0 0 1 3 3L8 19zM14.5 6.5l3 3",
  forward: "M9 5l7 7-7 7",
  go: "M5 5l7 7-7 7M13 5l7 7-7 7",
  menu: "M4 7h16M4 12h16M4 17h16",
  more: "M5 12h.01M12 12h.01M19 12h.01",
  moon: "M20 14.5A8 8 0 0 1 9.5 4 8 8 0 1 0 20 14.5z",
  options: "M4 7h9M19 7h1M4 17h3M13 17h7M16 4.5v5M10 14.5v5",
  people:
    "M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7zM2.5 20c.5-4 3-6 6.5-6s6 2 6.5 6M16 4.5a3.5 3.5 0 0 1 0 6.3M18 14.5c2 .8 3.2 2.6 3.5 5.5",
  plus: "M12 5v14M5 12h14",
  retry: "M20 12a8 8 0 1 1-2.5-5.8M20 3v4.5h-4.5",
  save: "M12 4v11M7 11l5 5 5-5M5 20h14",
  send: "M12 20V5M6 11l6-6 6 6",
  stop: "M7 7h10v10H7z",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2v2M12 20v2M4.2 4.2l1.5 1.5M18.3 18.3l1.5 1.5M2 12h2M20 12h2M4.2 19.8l1.5-1.5M18.3 5.7l1.5-1.5",
  system: "M4 5h16v11H4zM9 20h6M12 16v4",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  upload: "M12 20V9M7 13l5-5 5 5M5 4h14",
};

/** A new element. Keys of `props`: `class`, `data`, `on` (listeners), a property of the element, or an attribute. */
export function make(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") node.className = value;
    else if (name === "data") Object.assign(node.dataset, value);
    else if (name === "on")
      for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    else if (name.startsWith("aria-") || !(name in node)) node.setAttribute(name, value === true ? "" : value);
    else node[name] = value;
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** One of the line drawings on buttons; a screen reader passes over it. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** A button with a drawing alone: `label` is its name for everybody who does not see it. */
export function iconButton(name, label, click, props = {}) {
  return make(
    "button",
    { type: "button", class: "icon-button", title: label, "aria-label": label, on: { click }, ...props },
    icon(name),
  );
}

/** The progress ring: `value` between 0 and 1, or null while nobody knows. */
export function ring(value, label) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 44 44");
  svg.setAttribute("class", value === null ? "ring ring-unknown" : "ring");
  svg.setAttribute("role", "progressbar");
  svg.setAttribute("aria-label", label);
  for (const part of ["ring-track", "ring-done"]) {
    const circle = document.createElementNS(SVG, "circle");
    for (const [name, number] of [
      ["cx", 22],
      ["cy", 22],
      ["r", 18],
      ["pathLength", 100],
    ])
      circle.setAttribute(name, number);
    circle.setAttribute("class", part);
    svg.append(circle);
  }
  setRing(svg, value);
  return svg;
}

export function setRing(svg, value) {
  svg.classList.toggle("ring-unknown", value === null);
  const percent = value === null ? 25 : Math.round(100 * value);
  svg.lastChild.setAttribute("stroke-dasharray", `${percent} 100`);
  if (value === null) return;
  for (const [name, number] of [
    ["valuemin", 0],
    ["valuemax", 100],
    ["valuenow", percent],
  ])
    svg.setAttribute(`aria-${name}`, number);
}

// control characters, ends of lines, and spaces without a width
const CONTROLS = /[\u0000-\u001f\u007f-\u009f\u200b\u2028\u2029\u2060-\u2065\ufeff]/g;
// the marks with which a text can turn the direction of what stands around it
const TURNING = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f]/g;
// Joiners shape letters and emoji (Persian, families). Elsewhere they would make names differ that look the same. After
// a mark they may be the last of a word (Malayalam).
const STRAY_JOINER =
  /(?<![\p{L}\p{M}\p{Extended_Pictographic}\p{Emoji_Modifier}])[\u200c\u200d]|(?<!\p{M})[\u200c\u200d](?![\p{L}\p{M}\p{Extended_Pictographic}])/gu;

// more marks on one letter than any language writes: they would pile up over the lines above
const PILED_UP = /(\p{M}{5})\p{M}+/gu;

/** A name for places that hold plain text alone (titles, labels, files): one line, and no marks that turn it around. */
export function plain(name, longest = 80) {
  const visible = String(name)
    .replace(TURNING, "")
    .replace(CONTROLS, " ")
    .replace(STRAY_JOINER, "")
    .replace(PILED_UP, "$1");
  const line = visible.replace(/\s+/g, " ").trim();
  const letters = [...line];
  if (letters.length <= longest) return line;
  return `${letters.slice(0, longest - 1).join("").replace(/[\u200c\u200d]$/, "")}…`;
}

/** A name in running text: whatever marks are in it turn nothing but itself. */
export function nameOf(name) {
  return make("bdi", {}, plain(name));
}

/** The picture of who speaks, else the first letter of the name on a colour of its own. */
export function avatar(person, size = "") {
  const box = make("span", { class: `avatar ${size}`, "aria-hidden": "true" });
  box.style.setProperty(
    "--hue",
    String([...person.id].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 360, 7)),
  );
  const letter = [...plain(person.name).replace(/[^\p{L}\p{N}]/gu, "")][0] || "?";
  const first = make("span", {}, letter.toUpperCase());
  box.append(first);
  if (person.picture) {
    const image = make("img", { src: person.picture, alt: "" });
    // a picture that cannot be shown leaves the letter
    image.addEventListener("error", () => image.remove());
    image.addEventListener("load", () => first.remove());
    box.append(image);
  }
  return box;
}

/** Says of each value whether it differs from the one before: what is the same need not be drawn again. */
export function watch() {
  let before = null;
  return (value) => {
    const now = JSON.stringify(value);
    const differs = now !== before;
    before = now;
    return differs;
  };
}

/** Puts a popover under its button, within the window. */
export function placeBy(popover, button) {
  const at = button.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = popover;
  const left = Math.max(8, Math.min(at.left, innerWidth - width - 8));
  const below = at.bottom + 6;
  const top = below + height > innerHeight - 8 ? Math.max(8, at.top - height - 6) : below;
  popover.style.left = `${left}px`;
  popover.style.top = `${top}px`;
}
