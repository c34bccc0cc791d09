// Windows over the page: a question, the key, a picture in full; and short notes with a way back.

import { iconButton, make } from "./dom.js";
import { endingOf, fileStem, saveAs } from "./pictures.js";

const TOAST_MS = 12_000;

function opened(dialog) {
  const before = document.activeElement;
  document.body.append(dialog);
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (before?.isConnected) before.focus();
  });
  // a click beside the window closes it
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.showModal();
  return dialog;
}

/** Asks for one line of text; null where the user leaves. */
export function ask({ title, explanation = "", label, value = "", type = "text", confirm = "Save" }) {
  return new Promise((resolve) => {
    const field = make("input", {
      id: "asked",
      type,
      value,
      dir: "auto",
      required: true,
      autocomplete: "off",
      spellcheck: false,
    });
    const form = make(
      "form",
      { method: "dialog" },
      make("h2", { id: "asked-title" }, title),
      explanation ? make("p", { class: "quiet" }, explanation) : null,
      make("label", { htmlFor: "asked" }, label),
      field,
      make(
        "div",
        { class: "dialog-buttons" },
        make("button", { type: "button", class: "button plain", on: { click: () => dialog.close() } }, "Cancel"),
        make("button", { type: "submit", class: "button", value: "given" }, confirm),
      ),
    );
    const dialog = make("dialog", { class: "dialog", "aria-labelledby": "asked-title" }, form);
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "given" ? field.value.trim() || null : null));
    // form-action is closed to this page; the form of a dialog is sent nowhere, but not every browser knows
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      dialog.close("given");
    });
    opened(dialog);
    field.select();
  });
}

/** A picture as large as the window. `about` are lines under it. */
export function showPicture({ url, blob, alt, about, stem }) {
  const image = make("img", { src: url, alt });
  const dialog = make(
    "dialog",
    { class: "dialog large-picture", "aria-label": "Picture" },
    make(
      "div",
      { class: "large-tools" },
      make(
        "button",
        { type: "button", class: "button", on: { click: () => saveAs(blob, fileStem(stem) + endingOf(blob)) } },
        "Save",
      ),
      iconButton("close", "Close", () => dialog.close()),
    ),
    image,
    about.length
      ? make(
          "div",
          { class: "large-about", tabIndex: 0, role: "note", "aria-label": "About this picture" },
          about.map((line) => make("p", { dir: "auto" }, line)),
        )
      : null,
  );
  opened(dialog);
}

/** A short note at the window's foot. `action` is {label, run}. */
export function toast(text, action = null) {
  const root = document.getElementById("toasts");
  const note = make("div", { class: "toast" }, make("span", { dir: "auto" }, text));
  const close = () => {
    clearTimeout(timer);
    note.remove();
  };
  let timer = setTimeout(close, TOAST_MS);
  const hold = () => clearTimeout(timer);
  const release = () => {
    clearTimeout(timer);
    timer = setTimeout(close, TOAST_MS);
  };
  for (const [event, does] of [
    ["mouseenter", hold],
    ["focusin", hold],
    ["mouseleave", release],
    ["focusout", release],
  ]) {
    note.addEventListener(event, does);
  }
  if (action) {
    const run = () => {
      close();
      action.run();
    };
    note.append(make("button", { type: "button", class: "text-button", on: { click: run } }, action.label));
  }
  note.append(iconButton("close", "Dismiss", close));
  root.replaceChildren(note);
}

/** Says something to those who listen to the page. */
export function announce(text) {
  document.getElementById("live").replaceChildren(make("p", {}, text));
}
