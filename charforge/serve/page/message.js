// One message on the screen.

import { followers, shown } from "./conversation.js";
import { avatar, icon, iconButton, make, nameOf, plain, ring, setRing } from "./dom.js";
import { formatted } from "./markup.js";

/**
 * The element of a message. `view` is {message, conversation, person, last, can, run, editing}; `does` are the page's
 * actions, `pictureUrl(id)` gives the address of a picture.
 */
export function messageElement(view, does, pictureUrl) {
  const { message, person, editing } = view;
  const mine = message.role === "user";
  const article = make("article", { class: mine ? "message mine" : "message theirs", data: { message: message.id } });
  article.append(
    mine
      ? make("h2", { class: "visually-hidden" }, "You")
      : make("h2", { class: "speaker" }, avatar(person), nameOf(person.name)),
    make("div", { class: "body" }),
  );
  if (editing) article.append(editForm(view, does));
  else
    article.append(
      make(
        "div",
        { class: "foot" },
        ...(view.run ? [] : [versionButtons(view, does), ...aboutOf(view, does), actionsOf(view, does)]),
      ),
    );
  fillBody(article, view, does, pictureUrl);
  return article;
}

/** What is said and shown, anew: called for each piece of a reply under way. */
export function fillBody(article, view, does, pictureUrl) {
  const { message, run, editing } = view;
  const { text, pictures, plan } = shown(message);
  const body = article.querySelector(".body");
  if (editing) return;
  const words = make("div", { class: "words" }, formatted(text));
  if (run && !run.drawing && !pictures.length)
    (words.lastElementChild ?? words).append(make("span", { class: "cursor", "aria-hidden": "true" }));
  if (run && !run.drawing && !text) words.append(make("span", { class: "visually-hidden" }, "Writing"));
  const shownBefore = new Map([...body.querySelectorAll("[data-picture]")].map((node) => [node.dataset.picture, node]));
  const figures = pictures.map((id) => shownBefore.get(id) ?? pictureFigure(id, view, does, pictureUrl));
  const drawing = run?.drawing && !pictures.length ? drawingFigure(body.querySelector(".drawing"), run.drawing) : null;
  const caption =
    message.kind === "drawing" && plan ? make("p", { class: "drawn-from quiet", dir: "auto" }, `Drawn: ${plan}`) : null;
  const shownPictures = figures.length ? make("div", { class: "pictures" }, figures) : null;
  body.replaceChildren(...[words.childNodes.length ? words : null, shownPictures, drawing, caption].filter(Boolean));
}

function pictureFigure(id, view, does, pictureUrl) {
  const { message, person } = view;
  const { plan } = shown(message);
  const alt =
    message.role === "user" ? "Picture that you sent" : plan ? plain(plan, 300) : `Picture by ${plain(person.name)}`;
  const image = make("img", { alt, decoding: "async" });
  const open = make(
    "button",
    { type: "button", class: "picture", "aria-label": `${alt}. Show it large`, data: { action: `picture-${id}` } },
    image,
  );
  open.addEventListener("click", () => does.showPicture(message.id, id));
  const figure = make("figure", { data: { picture: id } }, open);
  pictureUrl(id).then((url) => {
    if (url) image.src = url;
    else figure.replaceChildren(make("p", { class: "quiet" }, "This picture is no longer in this browser."));
  });
  return figure;
}

function drawingFigure(before, { plan, step, steps, url }) {
  const share = step !== null && steps > 0 ? Math.min(1, step / steps) : null;
  const figure =
    before ??
    make(
      "figure",
      { class: "drawing" },
      make("div", { class: "canvas" }, ring(share, "Drawing a picture"), make("p", { class: "step" })),
    );
  setRing(figure.querySelector(".ring"), share);
  figure.querySelector(".step").textContent = share === null ? "Drawing" : `Step ${step} of ${steps}`;
  figure.title = plain(plan ?? "", 300);
  let preview = figure.querySelector("img");
  if (url && !preview) {
    preview = make("img", { alt: "", class: "preview" });
    figure.firstChild.prepend(preview);
  }
  if (url && preview.src !== url) preview.src = url;
  return figure;
}

function versionButtons({ message, last }, does) {
  if (message.role === "user" || message.versions.length < 2 || !last) return null;
  const { chosen, versions, kind } = message;
  const what = kind === "greeting" ? "greeting" : "answer";
  const turn = (step) => () => does.chooseVersion(message.id, chosen + step);
  return make(
    "div",
    { class: "versions when-idle", role: "group", "aria-label": kind === "greeting" ? "Greetings" : "Answers" },
    iconButton("back", `Previous ${what}`, turn(-1), { disabled: chosen === 0, data: { action: "previous" } }),
    make(
      "span",
      { class: "quiet" },
      kind === "greeting" ? `Greeting ${chosen + 1} of ${versions.length}` : `${chosen + 1} of ${versions.length}`,
    ),
    iconButton("forward", `Next ${what}`, turn(1), {
      disabled: chosen === versions.length - 1,
      data: { action: "next" },
    }),
  );
}

function aboutOf({ message }, does) {
  if (message.role === "user") return [];
  const { seed, likeness, state } = shown(message);
  const said = [];
  if (state === "stopped") said.push(make("span", { class: "quiet" }, "Stopped"));
  if (state === "length") said.push(make("span", { class: "quiet" }, "Cut at the limit of its length"));
  if (seed !== null) {
    const label = `Seed ${seed}`;
    said.push(
      make(
        "button",
        {
          type: "button",
          class: "text-button quiet seed",
          title: "Use this seed for the next answer",
          "aria-label": `${label}. Use it for the next answer`,
          data: { action: "seed" },
          on: { click: () => does.useSeed(seed) },
        },
        label,
      ),
    );
  }
  if (likeness !== null) {
    said.push(
      make(
        "span",
        { class: "quiet", title: "How much the picture looks like the character: 1 is most" },
        `Likeness ${likeness.toFixed(2)}`,
      ),
    );
  }
  return said;
}

function actionsOf({ message, last, can }, does) {
  const button = (name, label, action) => {
    const always = action === "copy" ? "" : " when-idle";
    return iconButton(name, label, () => does[action](message.id), { class: `icon-button${always}`, data: { action } });
  };
  const theirs = message.role === "assistant";
  const words = shown(message).text;
  return make(
    "div",
    { class: "actions" },
    theirs && last && can && message.kind !== "greeting"
      ? button("retry", "Try again with another seed", "retry")
      : null,
    theirs && last && can && message.kind !== "drawing"
      ? button("go", "Continue: the character speaks again", "goOn")
      : null,
    message.kind === "drawing" ? null : button("edit", "Edit", "edit"),
    words ? button("copy", "Copy", "copy") : null,
    button("trash", "Delete", "remove"),
  );
}

function editForm({ message, conversation, can }, does) {
  const mine = message.role === "user";
  const lost = followers(conversation, message.id);
  const field = make("textarea", {
    value: shown(message).text,
    dir: "auto",
    "aria-label": "Words of this message",
    rows: 1,
  });
  const save = () => does.saveEdit(message.id, field.value);
  const stop = () => does.edit(null);
  const form = make(
    "form",
    { class: "edit" },
    field,
    lost
      ? make(
          "p",
          { class: "quiet" },
          lost === 1 ? "The message after it will be removed." : `The ${lost} messages after it will be removed.`,
        )
      : null,
    make(
      "div",
      { class: "dialog-buttons" },
      make("button", { type: "button", class: "button plain", on: { click: stop } }, "Cancel"),
      make("button", { type: "submit", class: "button" }, icon("check"), mine && can ? "Save and send" : "Save"),
    ),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    save();
  });
  field.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      event.stopPropagation();
      stop();
    }
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) save();
  });
  return form;
}
