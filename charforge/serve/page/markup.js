// The little markup of role-play, as elements: *actions*, **stress**, "speech". All else stands as it was written.

import { make } from "./dom.js";

const MARKS = /\*\*(?=\S)([^*\n]+?)(?<=\S)\*\*|\*(?=\S)([^*\n]+?)(?<=\S)\*|("[^"\n]+"|“[^“”\n]+”)/g;

/** The nodes of `text`; paragraphs where it has empty lines. */
export function formatted(text) {
  return text
    .trim()
    .split(/\n{2,}/)
    .map((paragraph) => make("p", { dir: "auto" }, inline(paragraph)));
}

function inline(text) {
  const nodes = [];
  let at = 0;
  for (const found of text.matchAll(MARKS)) {
    nodes.push(text.slice(at, found.index));
    const [whole, strong, action, speech] = found;
    nodes.push(
      strong ? make("strong", {}, strong) : action ? make("em", {}, action) : make("span", { class: "speech" }, speech),
    );
    at = found.index + whole.length;
  }
  nodes.push(text.slice(at));
  return nodes.filter((node) => node !== "");
}
