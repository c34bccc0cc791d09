// The page as a whole: what is on the screen, and what the buttons do.

import { askKeysWith, avatarOf, people as listPeople } from "./api.js";
import { openBook } from "./book.js";
import { composerIn } from "./composer.js";
import * as talk from "./conversation.js";
import { announce, ask, showPicture, toast } from "./dialogs.js";
import { iconButton, make, plain, watch } from "./dom.js";
import { acceptDrops } from "./drops.js";
import { exportFile, importFiles } from "./files.js";
import { choose } from "./settings.js";
import { sidebarIn } from "./sidebar.js";
import { speakingIn } from "./speaking.js";
import { startIn, switcherIn } from "./start.js";
import { forgetfulStore, openStore } from "./store.js";
import { threadIn } from "./thread.js";

const part = (id) => document.getElementById(id);
const people = new Map();
const drafts = new Map();
const titleDiffers = watch();
let current = null;
let planned = false;

askKeysWith((before) =>
  ask({
    title: "This server asks for a key",
    explanation: {
      wrong: "The key that was given is not the right one.",
      unsendable:
        "A key has letters, digits and signs of ASCII only: no ü, no €. See whether the right one was copied.",
    }[before] ?? "Whoever started it knows the key. It is kept until this tab is closed.",
    label: "Key",
    type: "password",
    confirm: "Open",
  }),
);

const book = await openBook(await storeOfBrowser(), {
  onChange: redraw,
  isBusy: (id) => speaking.of(id) !== null,
  onLost: (error) =>
    notice(`This could not be saved in your browser (${error.name}). Export the conversation if you want to keep it.`),
});
const speaking = speakingIn(book, { onChange: redraw, onEnd: tellEnd });
const start = startIn(part("people"), part("bases"));
const switcher = switcherIn(part("switcher"), part("switcher-menu"), { begin, invite, leave });
const sidebar = sidebarIn({
  rename,
  exportFile: (id) => exportFile(book, id),
  remove: removeConversation,
  importFiles: bringIn,
});
const composer = composerIn(part("composer"), { send, draw: drawScene, stop: () => speaking.stop(current) });
const thread = threadIn(
  part("thread"),
  part("to-end"),
  {
    answer: () => answer(current),
    chooseVersion: (id, chosen) => change(talk.changed(here(), id, (message) => ({ ...message, chosen }))),
    copy,
    edit,
    forgive() {
      speaking.forgive(current);
      redraw();
      composer.focus();
    },
    goOn: (id) => speaking.reply(current, messageOf(id).speaker),
    remove: removeMessage,
    retry,
    saveEdit,
    showPicture: openPicture,
    useSeed(seed) {
      choose({ seed });
      toast(`The next answer has the seed ${seed}.`);
    },
  },
  book.urlOf,
);

const here = () => book.get(current);
const messageOf = (id) => here().messages.find((message) => message.id === id);
const change = (conversation) => book.put(conversation);

async function storeOfBrowser() {
  try {
    return await openStore();
  } catch (error) {
    notice(
      `This browser keeps nothing for this page (${error.name}): conversations end with this tab. ` +
        "Export what you want to keep.",
    );
    return forgetfulStore();
  }
}

// what is on the screen

function redraw() {
  // many changes, one picture of them
  if (planned) return;
  planned = true;
  requestAnimationFrame(() => {
    planned = false;
    show();
  });
}

function show() {
  const conversation = here();
  // deleted, perhaps in another tab
  if (current && !conversation) leaveScreen();
  sidebar.show(book.list(), people, current);
  part("start").hidden = conversation !== null;
  part("talk").hidden = conversation === null;
  part("skip").hidden = conversation === null;
  if (conversation === null) {
    switcher.hide();
    if (titleDiffers(null)) part("title").replaceChildren("charforge");
    part("title").classList.remove("visually-hidden");
    document.title = "charforge";
    start.show([...people.values()], begin);
    return;
  }
  const title = plain(talk.titleOf(conversation), 60);
  if (titleDiffers(title)) part("title").replaceChildren(make("bdi", {}, title));
  // before anything is said, the name beside it says the same
  part("title").classList.toggle("visually-hidden", !talk.isBegun(conversation));
  document.title = `${title} · charforge`;
  const members = conversation.members.map((id) => people.get(id)).filter(Boolean);
  const run = speaking.of(current);
  switcher.show(conversation, people);
  thread.show({ conversation, people, run, trouble: speaking.trouble(current), can: members.length > 0 });
  composer.show({
    can: members.length > 0,
    running: run !== null,
    draws: members.some(({ draws }) => draws),
    name: members.map(({ name }) => name).join(", "),
    members,
  });
}

function leaveScreen() {
  current = null;
  history.replaceState(null, "", "#/");
}

function route() {
  const id = /^#\/c\/([\w-]+)$/.exec(location.hash)?.[1] ?? null;
  if (current) drafts.set(current, composer.draft());
  current = id;
  if (id && !book.get(id)) leaveScreen();
  show();
  composer.restore(drafts.get(current));
  if (!current) return;
  thread.scrollToEnd();
  if (!matchMedia("(pointer: coarse)").matches) composer.focus();
}

const go = (id) => (location.hash = id ? `#/c/${id}` : "#/");

function notice(text, action = null) {
  const box = part("notice");
  const close = () => (box.hidden = true);
  box.hidden = false;
  box.replaceChildren(
    make("p", { dir: "auto" }, text),
    action
      ? make("button", { type: "button", class: "button", on: { click: () => (close(), action.run()) } }, action.label)
      : "",
    iconButton("close", "Dismiss", close),
  );
}

function tellEnd(id, message, trouble) {
  if (id !== current) {
    if (message && book.get(id))
      toast(`${plain(talk.membersText(book.get(id)), 40)} has answered in another conversation.`, {
        label: "Open",
        run: () => go(id),
      });
    return;
  }
  if (!message || trouble) return;
  const { text, pictures } = talk.shown(message);
  const name = plain(book.get(id).names[message.speaker] ?? message.speaker, 40);
  announce(`${name}: ${text}${pictures.length ? " With a picture." : ""}`);
}

// conversations

function begin(id) {
  const conversation = talk.newConversation(people.get(id));
  book.put(conversation);
  go(conversation.id);
}

function invite(id) {
  const person = people.get(id);
  const conversation = here();
  change({
    ...conversation,
    members: [...conversation.members, id],
    names: { ...conversation.names, [id]: person.name },
  });
  toast(`${plain(person.name, 40)} is here too. Whoever is named answers.`);
}

function leave(id) {
  const conversation = here();
  change({ ...conversation, members: conversation.members.filter((member) => member !== id) });
}

async function rename(id) {
  const conversation = book.get(id);
  const title = await ask({
    title: "Rename this conversation",
    label: "Name",
    value: talk.titleOf(conversation).slice(0, 80),
    confirm: "Rename",
  });
  if (title) book.put({ ...book.get(id), title });
}

function removeConversation(id) {
  const conversation = book.get(id);
  speaking.stop(id);
  book.remove(id);
  if (id === current) go(null);
  toast(`Deleted: ${plain(talk.titleOf(conversation), 40)}`, {
    label: "Undo",
    run: () => (book.put(conversation), go(id)),
  });
}

async function bringIn(files) {
  const id = await importFiles(book, files, [...people.values()]);
  if (id) go(id);
}

// what is said

function send({ text, blobs, to }) {
  speaking.forgive(current);
  thread.edit(null);
  const pictures = blobs.map((blob) => book.addPicture(blob));
  change(talk.added(here(), talk.newSaying(text, pictures)));
  thread.scrollToEnd();
  answer(current, to);
}

function answer(id, to = null) {
  const conversation = book.get(id);
  const members = conversation.members.filter((member) => people.has(member));
  const speaker = to ?? talk.nextSpeaker({ ...conversation, members });
  if (!speaker) return;
  announce(`${plain(people.get(speaker).name, 40)} is writing.`);
  speaking.reply(id, speaker);
}

function drawScene(scene) {
  const spoke = here().messages.findLast((message) => people.get(message.speaker)?.draws)?.speaker;
  const speaker = spoke ?? here().members.find((id) => people.get(id)?.draws);
  announce("Drawing a picture.");
  thread.scrollToEnd();
  speaking.drawing(current, speaker, scene);
}

function retry(id) {
  const message = messageOf(id);
  if (message.kind === "drawing") speaking.drawing(current, message.speaker, talk.shown(message).plan, id);
  else speaking.reply(current, message.speaker, id);
  composer.focus();
}

function edit(id) {
  const before = thread.edit(id);
  show();
  if (id) thread.focusEdit();
  else thread.focusAction(before, "edit");
}

function saveEdit(id, text) {
  const before = here();
  const message = messageOf(id);
  if (!text.trim() && !talk.shown(message).pictures.length) {
    toast("A message needs words. To take it away, delete it.");
    return;
  }
  thread.edit(null);
  const lost = talk.followers(before, id);
  change(talk.edited(before, id, text.trim()));
  show();
  if (message.role === "user") answer(current);
  if (message.role === "user") composer.focus();
  else thread.focusAction(id, "edit");
  if (lost) offerUndo(before, lost === 1 ? "One message was removed." : `${lost} messages were removed.`);
}

function removeMessage(id) {
  const before = here();
  speaking.forgive(current);
  change(talk.without(before, id));
  show();
  composer.focus();
  offerUndo(before, "The message was deleted.");
}

/** The way back to `before`; what has been said since then goes with it. */
function offerUndo(before, text) {
  toast(text, {
    label: "Undo",
    run() {
      speaking.stop(before.id);
      book.put(before);
      go(before.id);
    },
  });
}

async function copy(id) {
  try {
    await navigator.clipboard.writeText(talk.shown(messageOf(id)).text);
    toast("Copied.");
  } catch {
    toast("This browser does not let the page copy. Select the words and copy them yourself.");
  }
}

async function openPicture(messageId, pictureId) {
  const message = messageOf(messageId);
  const [blob, url] = [await book.picture(pictureId), await book.urlOf(pictureId)];
  if (!blob) return;
  const { plan = null, seed = null, likeness = null } = talk.shown(message);
  const name = message.speaker ? (here().names[message.speaker] ?? message.speaker) : "picture";
  const numbers = [
    seed === null ? null : `Seed ${seed}`,
    likeness === null ? null : `Likeness ${likeness.toFixed(2)}`,
  ].filter(Boolean);
  const about = [plan, numbers.join(" · ")].filter(Boolean);
  showPicture({
    url,
    blob,
    alt: plan ? plain(plan, 300) : "Picture",
    about,
    stem: seed === null ? plain(name) : `${plain(name)} ${seed}`,
  });
}

// the beginning

async function meet() {
  part("main").setAttribute("aria-busy", "true");
  try {
    for (const person of await listPeople()) people.set(person.id, { ...person, picture: null });
    if (!people.size) notice("This server has no characters.", { label: "Look again", run: meet });
  } catch (error) {
    notice(error.message, { label: "Try again", run: meet });
  }
  part("main").removeAttribute("aria-busy");
  show();
  for (const person of people.values()) {
    avatarOf(person).then(
      (picture) => {
        people.set(person.id, { ...person, picture });
        redraw();
      },
      // without its picture a character is shown by its letter
      (error) => console.warn(`no avatar of ${person.id}: ${error.message}`),
    );
  }
}

addEventListener("hashchange", () => {
  sidebar.close();
  route();
});
part("skip").addEventListener("click", (event) => {
  // its address would lead away from the conversation
  event.preventDefault();
  composer.focus();
});
addEventListener("pagehide", () => book.flush());
addEventListener("keydown", (event) => {
  const busy = document.querySelector("dialog[open], :popover-open");
  if (event.key === "Escape" && !busy && current && speaking.of(current)) speaking.stop(current);
});
acceptDrops({
  canTakePictures: () => current !== null,
  takePictures: (files) => composer.add(files),
  takeConversations: bringIn,
});
await meet();
route();
document.body.dataset.ready = "";
