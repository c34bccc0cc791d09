// The messages of the conversation on the screen: only what has changed is made anew, and the focus stays where it is.

import { iconButton, make, plain } from "./dom.js";
import { fillBody, messageElement } from "./message.js";

const NEAR_PX = 80;

export function threadIn(root, toEnd, does, pictureUrl) {
  let elements = new Map();
  let of = null;
  let editing = null;
  const tail = make("div", { class: "tail" });
  let countdown = null;

  const isAtEnd = () => root.scrollHeight - root.scrollTop - root.clientHeight < NEAR_PX;
  let follows = true;
  let top = 0;
  const scrollToEnd = () => {
    root.scrollTop = root.scrollHeight;
    top = root.scrollTop;
  };
  root.addEventListener("scroll", () => {
    // only the user goes upwards; a message that grows leaves the place as it is
    follows = isAtEnd() || (follows && root.scrollTop >= top - 1);
    top = root.scrollTop;
    toEnd.hidden = follows;
  });
  toEnd.addEventListener("click", () => {
    follows = true;
    scrollToEnd();
    root.focus({ preventScroll: true });
  });
  let planned = false;
  const keepAtEnd = () => {
    if (!follows || planned) return;
    planned = true;
    requestAnimationFrame(() => {
      planned = false;
      if (follows) scrollToEnd();
    });
  };
  // pictures that come late push the end away
  root.addEventListener("load", keepAtEnd, true);
  new ResizeObserver(keepAtEnd).observe(root);

  /** `can`: whether anybody here could answer now. `trouble` is what went wrong last, {message, retryAfter, again}. */
  function show({ conversation, people, run, trouble, can }) {
    if (of !== conversation.id) {
      elements = new Map();
      of = conversation.id;
      editing = null;
      follows = true;
      root.replaceChildren();
    }
    const held = heldFocus();
    // what cannot be done while somebody speaks is hidden by its style: a thousand messages need not be made anew
    root.classList.toggle("busy", run !== null);
    const next = new Map();
    conversation.messages.forEach((message, at) => {
      const last = at === conversation.messages.length - 1;
      const view = {
        message,
        conversation,
        last,
        can,
        editing: editing === message.id,
        run: run?.message === message.id ? run : null,
        person: people.get(message.speaker) ?? {
          id: message.speaker ?? "",
          name: conversation.names[message.speaker] ?? message.speaker ?? "",
          picture: null,
        },
      };
      next.set(message.id, elementFor(view));
    });
    elements = next;
    fillTail(conversation, run, trouble, can);
    const wanted = [...[...elements.values()].map(({ node }) => node), tail];
    wanted.forEach((node, at) => root.children[at] !== node && root.insertBefore(node, root.children[at] ?? null));
    while (root.children.length > wanted.length) root.lastChild.remove();
    giveBack(held);
    if (follows) scrollToEnd();
  }

  function elementFor(view) {
    const { message, last, run, editing: open, can, person } = view;
    const before = elements.get(message.id);
    const frame = [last, run, open, can && (last || open), person.picture, person.name, run ? null : message].map(
      (value) => value ?? null,
    );
    if (before && frame.every((value, at) => value === before.frame[at])) {
      if (run) fillBody(before.node, view, does, pictureUrl);
      return before;
    }
    const node = messageElement(view, does, pictureUrl);
    if (before) before.node.replaceWith(node);
    return { node, frame };
  }

  function fillTail(conversation, run, trouble, can) {
    clearInterval(countdown);
    const last = conversation.messages.at(-1);
    const parts = [];
    if (trouble) parts.push(troubleNote(trouble));
    else if (can && !run && last?.role === "user") {
      parts.push(
        make(
          "button",
          { type: "button", class: "button plain", data: { action: "answer" }, on: { click: () => does.answer() } },
          "Get an answer",
        ),
      );
    }
    if (!conversation.messages.length && !run)
      parts.push(make("p", { class: "quiet empty" }, "Say something to begin."));
    tail.replaceChildren(...parts);
  }

  function troubleNote({ message, retryAfter, again }) {
    const button = make(
      "button",
      { type: "button", class: "button", data: { action: "again" }, on: { click: again } },
      "Try again",
    );
    if (retryAfter) {
      const until = Date.now() + retryAfter * 1000;
      const count = () => {
        const left = Math.ceil((until - Date.now()) / 1000);
        button.textContent = left > 0 ? `Try again (best in ${left} s)` : "Try again";
        if (left <= 0) clearInterval(countdown);
      };
      countdown = setInterval(count, 1000);
      count();
    }
    return make(
      "div",
      { class: "trouble", role: "alert" },
      make("p", { dir: "auto" }, plain(message, 500)),
      make("div", { class: "dialog-buttons" }, button, iconButton("close", "Dismiss", does.forgive)),
    );
  }

  function heldFocus() {
    const at = document.activeElement;
    if (!root.contains(at) || at === root) return null;
    return { node: at, message: at.closest("[data-message]")?.dataset.message, action: at.dataset.action };
  }

  function giveBack(held) {
    if (!held || held.node.isConnected) return;
    const article = held.message && elements.get(held.message)?.node;
    const same =
      article && held.action && article.querySelector(`[data-action="${CSS.escape(held.action)}"]:not(:disabled)`);
    (same || article?.querySelector(".actions button, .versions button:not(:disabled)") || root).focus({
      preventScroll: true,
    });
  }

  /** Opens the words of a message for change, null closes them; the caller shows the thread anew. */
  function edit(id) {
    const before = editing;
    editing = id;
    return before;
  }

  return {
    show,
    edit,
    scrollToEnd: () => {
      follows = true;
      scrollToEnd();
    },
    focusEdit() {
      const field = root.querySelector(".edit textarea");
      field?.focus();
      field?.setSelectionRange(field.value.length, field.value.length);
    },
    focusAction: (id, action) => elements.get(id)?.node.querySelector(`[data-action="${action}"]`)?.focus(),
  };
}
