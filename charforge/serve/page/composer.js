// Where the user writes: words, pictures, and the options of the reply.

import { icon, iconButton, make, plain, watch } from "./dom.js";
import { picturesAmong, prepared } from "./pictures.js";
import { choose, chosen, LEAST_SEED, MOST_SEED, onChosen } from "./settings.js";
import { toast } from "./dialogs.js";

const MOST_PICTURES = 8;
const PICTURES = {
  auto: ["Auto", "The character decides"],
  always: ["Always", "A picture with every reply"],
  never: ["Never", "No pictures"],
};

/** `does`: {send({text, blobs, to}), draw(text), stop()}. */
export function composerIn(root, does) {
  const part = (id) => document.getElementById(id);
  const text = part("composer-text");
  const send = part("send");
  let waiting = [];
  const differs = watch();
  let adding = Promise.resolve();
  let state = { can: false, running: false, draws: false, name: "" };

  part("attach").append(icon("attach"));
  part("draw").append(icon("brush"));
  part("options-open").append(icon("options"));
  optionsIn(part("options"), part("options-open"), part("options-summary"));

  const grow = () => {
    text.style.height = "auto";
    text.style.height = `${Math.min(text.scrollHeight, innerHeight * 0.35)}px`;
  };
  text.addEventListener("input", () => {
    grow();
    refresh();
  });
  text.addEventListener("keydown", (event) => {
    const enters = event.key === "Enter" && !event.shiftKey && !event.isComposing;
    // on a screen without keys, Enter begins a line
    if (enters && (event.ctrlKey || !matchMedia("(pointer: coarse)").matches)) {
      event.preventDefault();
      if (!state.running) submit();
    }
  });
  root.addEventListener("submit", (event) => {
    event.preventDefault();
    if (state.running) does.stop();
    else submit();
  });

  async function submit() {
    // pictures that are still being made small go with this message
    await adding;
    const said = text.value.trim();
    if (!state.can || state.running || (!said && !waiting.length)) return;
    const blobs = waiting.map(({ blob }) => blob);
    const to = part("who-answers").hidden ? null : part("who-answers-select").value || null;
    clear();
    does.send({ text: said, blobs, to });
  }

  function clear() {
    text.value = "";
    waiting.forEach(({ url }) => URL.revokeObjectURL(url));
    waiting = [];
    grow();
    refresh();
    showWaiting();
  }

  part("draw").addEventListener("click", () => {
    const scene = text.value.trim();
    if (!scene) {
      toast("Write what to draw, then press this button.");
      text.focus();
      return;
    }
    text.value = "";
    grow();
    does.draw(scene);
    text.focus();
  });

  part("attach").addEventListener("click", () => part("attach-files").click());
  part("attach-files").addEventListener("change", async ({ target }) => {
    await add([...target.files]);
    target.value = "";
    text.focus();
  });
  text.addEventListener("paste", (event) => {
    const files = picturesAmong(event.clipboardData);
    if (!files.length) return;
    event.preventDefault();
    add(files);
  });

  // one after the other, so that they are sent in the order in which they came
  function add(files) {
    adding = adding.then(() => addEach(files));
    return adding;
  }

  async function addEach(files) {
    for (const file of files) {
      if (waiting.length >= MOST_PICTURES) {
        toast(`A message takes ${MOST_PICTURES} pictures. The others were left out.`);
        break;
      }
      try {
        const blob = await prepared(file);
        waiting.push({ blob, url: URL.createObjectURL(blob), name: file.name });
      } catch {
        toast(`${plain(file.name) || "This file"} cannot be read as a picture. Choose a PNG, JPEG or WebP.`);
      }
    }
    showWaiting();
    refresh();
  }

  function showWaiting() {
    const list = part("attached");
    list.hidden = !waiting.length;
    list.replaceChildren(
      ...waiting.map((one, at) => {
        const name = plain(one.name) || `Picture ${at + 1}`;
        const drop = () => {
          URL.revokeObjectURL(one.url);
          waiting = waiting.filter((other) => other !== one);
          showWaiting();
          refresh();
          text.focus();
        };
        return make("li", {}, make("img", { src: one.url, alt: name }), iconButton("close", `Leave out ${name}`, drop));
      }),
    );
  }

  function refresh() {
    const { can, running, draws, name } = state;
    const label = running ? "Stop" : "Send";
    if (send.title !== label || !send.firstChild) {
      send.replaceChildren(icon(running ? "stop" : "send"));
      send.title = label;
      send.setAttribute("aria-label", label);
    }
    // never disabled while it has the focus: the focus would be lost
    send.setAttribute("aria-disabled", String(!running && (!can || (!text.value.trim() && !waiting.length))));
    text.placeholder = can ? `Message ${plain(name, 30)}` : "Nobody here can answer";
    part("composer-label").textContent = `Message ${plain(name, 30)}`;
    part("draw").hidden = !draws;
    part("draw").disabled = running || !can;
    part("attach").disabled = !can;
  }

  return {
    add,
    focus: () => text.focus(),
    /** What the composer may do now: {can, running, draws, name, members: [{id, name}]}. */
    show(next) {
      state = next;
      const many = next.members.length > 1;
      part("who-answers").hidden = !many;
      if (differs(next.members)) {
        const select = part("who-answers-select");
        const before = select.value;
        select.replaceChildren(
          make("option", { value: "" }, "Who is next"),
          ...next.members.map(({ id, name }) => make("option", { value: id }, plain(name, 30))),
        );
        if (next.members.some(({ id }) => id === before)) select.value = before;
      }
      refresh();
    },
    /** Words that were typed for another conversation do not stay. */
    clear,
    draft: () => ({ text: text.value, waiting }),
    restore(draft) {
      text.value = draft?.text ?? "";
      waiting = draft?.waiting ?? [];
      grow();
      showWaiting();
      refresh();
    },
  };
}

/** What was typed as a seed, null where it is no whole number that is held exactly. */
function seedOf(typed) {
  const number = /^-?\d+$/.test(typed) ? Number(typed) : NaN;
  // -0 is 0
  return Number.isSafeInteger(number) ? number + 0 : null;
}

function optionsIn(panel, button, summary) {
  const segments = make("div", { class: "segments" });
  const choices = make("fieldset", { class: "field" }, make("legend", {}, "Pictures"), segments);
  for (const [value, [label, title]] of Object.entries(PICTURES)) {
    segments.append(
      make(
        "label",
        { title },
        make("input", { type: "radio", name: "pictures", value, on: { change: () => choose({ pictures: value }) } }),
        make("span", {}, label),
      ),
    );
  }
  const seed = make("input", {
    id: "seed",
    type: "text",
    pattern: "-?[0-9]*",
    placeholder: "new each time",
    "aria-describedby": "seed-help",
  });
  seed.addEventListener("change", () => {
    const typed = seed.value.trim();
    const number = seedOf(typed);
    if (typed && number === null)
      toast(`A seed is a whole number from ${LEAST_SEED} to ${MOST_SEED}, or nothing for a new one each time.`);
    choose({ seed: number });
  });
  const persona = make("textarea", {
    id: "persona",
    rows: 2,
    dir: "auto",
    placeholder: "a lighthouse keeper from the north",
    maxLength: 2000,
  });
  persona.addEventListener("change", () => choose({ persona: persona.value }));
  panel.append(
    choices,
    make(
      "div",
      { class: "field" },
      make("label", { htmlFor: "seed" }, "Seed of the next answer"),
      seed,
      make(
        "p",
        { class: "quiet", id: "seed-help" },
        "The same seed after the same words gives the same answer. It counts up with each.",
      ),
    ),
    make("div", { class: "field" }, make("label", { htmlFor: "persona" }, "Who you are"), persona),
  );

  const show = ({ pictures, seed: number, persona: who }) => {
    choices.querySelector(`[value="${pictures}"]`).checked = true;
    seed.value = number === null ? "" : String(number);
    if (document.activeElement !== persona) persona.value = who;
    const parts = [pictures === "auto" ? null : `Pictures: ${pictures}`, number === null ? null : `Seed ${number}`];
    summary.textContent = parts.filter(Boolean).join(" · ");
  };
  const toggle = (open) => {
    panel.hidden = !open;
    button.setAttribute("aria-expanded", String(open));
  };
  button.addEventListener("click", () => toggle(panel.hidden));
  panel.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    // what was typed counts: leaving the field hands it in
    document.activeElement.blur();
    toggle(false);
    button.focus();
  });
  onChosen(show);
  show(chosen());
}
