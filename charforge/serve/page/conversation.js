// A conversation as a value. Every function returns a new one; nothing here knows the page, the server or the browser.
//
// conversation: {id, title, members: [model ids], names: {id: name}, created, changed, messages}
// user's message: {id, role: "user", text, pictures: [picture ids], date}
// character's message: {id, role: "assistant", speaker, kind: "reply" | "greeting" | "drawing", versions, chosen}
// version: {text, plan, pictures: [picture ids], seed, likeness, state, date}; its state is "writing", "done", "stopped",
// or "length" where it was cut off

export const newId = () => `${Date.now().toString(36)}-${Math.random().toString(36).slice(2, 10)}`;
export const randomSeed = () => Math.floor(Math.random() * 2 ** 31);

export function newConversation(person) {
  const now = Date.now();
  const conversation = {
    id: newId(),
    title: null,
    members: [person.id],
    names: { [person.id]: person.name },
    created: now,
    changed: now,
    messages: [],
  };
  if (!person.greetings.length) return conversation;
  const versions = person.greetings.map((text) => newVersion({ text, state: "done" }));
  return {
    ...conversation,
    messages: [{ id: newId(), role: "assistant", speaker: person.id, kind: "greeting", versions, chosen: 0 }],
  };
}

export function newVersion(given = {}) {
  return {
    text: "",
    plan: null,
    pictures: [],
    seed: null,
    likeness: null,
    state: "writing",
    date: Date.now(),
    ...given,
  };
}

export const newReply = (speaker, given) => ({
  id: newId(),
  role: "assistant",
  speaker,
  kind: "reply",
  versions: [newVersion(given)],
  chosen: 0,
});
export const newSaying = (text, pictures) => ({ id: newId(), role: "user", text, pictures, date: Date.now() });

/** The version of a message that is shown; a user's message has only one. */
export const shown = (message) => (message.role === "user" ? message : message.versions[message.chosen]);

export const withMessages = (conversation, messages) => ({ ...conversation, messages, changed: Date.now() });
export const added = (conversation, message) => withMessages(conversation, [...conversation.messages, message]);
export const without = (conversation, id) =>
  withMessages(
    conversation,
    conversation.messages.filter((message) => message.id !== id),
  );

/** `change` applied to one message; the others stay the same objects. */
export function changed(conversation, id, change) {
  return withMessages(
    conversation,
    conversation.messages.map((message) => (message.id === id ? change(message) : message)),
  );
}

/** `change` applied to the shown version of a character's message. */
export function changedVersion(conversation, id, change) {
  return changed(conversation, id, (message) => ({
    ...message,
    versions: message.versions.map((version, number) =>
      number === message.chosen ? { ...version, ...change(version) } : version,
    ),
  }));
}

/** Another answer in the place of the last one, which stays to be leafed back to. */
export function withAnotherVersion(conversation, id, given) {
  return changed(conversation, id, (message) => {
    const versions = [...message.versions, newVersion(given)];
    return { ...message, versions, chosen: versions.length - 1 };
  });
}

/** The shown version taken away again, where another is left; else the whole message. */
export function withoutVersion(conversation, id) {
  const message = conversation.messages.find((one) => one.id === id);
  if (message.versions.length === 1) return without(conversation, id);
  return changed(conversation, id, () => {
    const versions = message.versions.filter((_, number) => number !== message.chosen);
    return { ...message, versions, chosen: versions.length - 1 };
  });
}

/** Other words for one message, and nothing after it. */
export function edited(conversation, id, text) {
  const end = conversation.messages.findIndex((message) => message.id === id) + 1;
  const cut = withMessages(conversation, conversation.messages.slice(0, end));
  const message = conversation.messages[end - 1];
  return message.role === "user"
    ? changed(cut, id, () => ({ ...message, text }))
    : changedVersion(cut, id, () => ({ text }));
}

/** How many messages come after one. */
export const followers = (conversation, id) =>
  conversation.messages.length - 1 - conversation.messages.findIndex((message) => message.id === id);

export function titleOf(conversation) {
  if (conversation.title) return conversation.title;
  const first = conversation.messages.find((message) => message.role === "user" && message.text.trim());
  return first ? first.text.trim().split("\n")[0] : membersText(conversation);
}

export const membersText = (conversation) => conversation.members.map((id) => conversation.names[id] ?? id).join(", ");

/** Whether anything would be lost with this conversation: a greeting alone is not worth keeping. */
export const isBegun = (conversation) =>
  conversation.title !== null || conversation.messages.some((message) => message.kind !== "greeting");

/** The ids of all pictures in a conversation, those of versions not shown too. */
export function picturesOf(conversation) {
  return conversation.messages.flatMap((message) =>
    message.role === "user" ? message.pictures : message.versions.flatMap((version) => version.pictures),
  );
}

/** Who is named in the last message and did not say it; else whoever of the members has been silent longest. */
export function nextSpeaker(conversation) {
  const { members, messages, names } = conversation;
  const spoken = messages.filter((message) => message.kind !== "drawing");
  const last = spoken.at(-1);
  const others = members.filter((id) => id !== last?.speaker);
  const candidates = others.length ? others : members;
  const named = last
    ? candidates
        .map((id) => [positionOf(names[id] ?? id, shown(last).text), id])
        .filter(([at]) => at >= 0)
        .sort((a, b) => a[0] - b[0])
    : [];
  if (named.length) return named[0][1];
  const lastTurn = (id) => spoken.findLastIndex((message) => message.speaker === id);
  return [...candidates].sort((a, b) => lastTurn(a) - lastTurn(b))[0];
}

function positionOf(name, text) {
  const escaped = name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  return text.search(new RegExp(`(?<![\\p{L}\\p{N}_])${escaped}(?![\\p{L}\\p{N}_])`, "iu"));
}

// what the server reads of one request; older pictures are left out
const MOST_PICTURES = 16;
const MOST_LETTERS = 24_000_000;

/**
 * The messages as `speaker` knows them, in the form of the API: its own lines, and between them what others said, as
 * one turn of the user. `urlOf(picture id)` gives the data URL of a picture that the user sent; only the latest ones
 * go along.
 */
export async function spokenTo(conversation, speaker, urlOf) {
  const turns = [];
  for (const message of conversation.messages) {
    if (message.kind === "drawing") continue;
    const { text, plan = null, pictures } = shown(message);
    if (message.speaker === speaker) {
      if (text || plan) turns.push({ role: "assistant", content: text, ...(plan && { plan }) });
      continue;
    }
    const said = message.role === "user" ? text : `${conversation.names[message.speaker] ?? message.speaker}: ${text}`;
    const images = message.role === "user" ? await Promise.all(pictures.map(urlOf)) : [];
    const before = turns.at(-1);
    if (before?.role === "user") {
      before.texts.push(said);
      before.images.push(...images);
    } else {
      turns.push({ role: "user", texts: [said], images });
    }
  }
  const sent = latest(turns.flatMap(({ images = [] }) => images).filter(Boolean));
  return turns.map(({ texts, images, ...turn }) => {
    if (!texts) return turn;
    return {
      ...turn,
      content: contentOf(
        texts.filter(Boolean).join("\n"),
        images.filter((url) => sent.has(url)),
      ),
    };
  });
}

function latest(urls) {
  const kept = new Set();
  let letters = 0;
  for (const url of urls.toReversed()) {
    letters += kept.has(url) ? 0 : url.length;
    if (letters > MOST_LETTERS || kept.size >= MOST_PICTURES) break;
    kept.add(url);
  }
  return kept;
}

function contentOf(text, images) {
  if (!images.length) return text;
  const parts = images.map((url) => ({ type: "image_url", image_url: { url } }));
  return text ? [{ type: "text", text }, ...parts] : parts;
}
