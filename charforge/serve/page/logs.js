// Conversations as files: the JSON Lines of SillyTavern, as `charforge chat` writes and reads them too.

import { newId, newVersion, shown } from "./conversation.js";
import { blobOf } from "./pictures.js";

const USER = "You";
// begins with a letter of its own, and never with a space: looked for in a time that grows with the text alone
const PLAN = /\[picture:\s*([^[\]\n]*)\]?/i;

/** The file's text. `urlOf(picture id)` gives a picture as a data URL; it stands in the file itself. */
export async function exported(conversation, urlOf) {
  const nameOf = (id) => conversation.names[id] ?? id;
  const rows = [
    {
      user_name: USER,
      character_name: conversation.members.map(nameOf).join(", "),
      create_date: new Date(conversation.created).toISOString(),
      chat_metadata: { charforge: { title: conversation.title, members: conversation.members } },
    },
  ];
  for (const message of conversation.messages) rows.push(await rowOf(message, nameOf, urlOf));
  return rows.map((row) => `${JSON.stringify(row)}\n`).join("");
}

async function rowOf(message, nameOf, urlOf) {
  const is_user = message.role === "user";
  const current = shown(message);
  const row = {
    name: is_user ? USER : nameOf(message.speaker),
    is_user,
    send_date: new Date(current.date).toISOString(),
    mes: current.text,
    extra: await extraOf(message, current, urlOf),
  };
  // a picture that belongs to no reply is for people: such rows are not read to a model
  if (message.kind === "drawing") row.is_system = true;
  if (is_user || message.versions.length === 1) return row;
  const extras = await Promise.all(message.versions.map((version) => extraOf(message, version, urlOf)));
  return {
    ...row,
    swipe_id: message.chosen,
    swipes: message.versions.map((version) => version.text),
    swipe_info: message.versions.map((version, at) => ({
      send_date: new Date(version.date).toISOString(),
      extra: extras[at],
    })),
  };
}

async function extraOf(message, version, urlOf) {
  const urls = (await Promise.all(version.pictures.map(urlOf))).filter(Boolean);
  const own = {};
  if (version.plan) own.text = `${version.text}\n[picture: ${version.plan}]`;
  if (urls.length > 1) own.images = urls;
  if (message.role === "assistant") {
    Object.assign(own, { model: message.speaker, kind: message.kind });
    if (version.seed !== null) own.seed = version.seed;
    if (version.likeness !== null) own.likeness = version.likeness;
  }
  return { ...(urls.length && { image: urls[0] }), ...(Object.keys(own).length && { charforge: own }) };
}

/**
 * A conversation from the text of a file: {conversation, pictures: [{id, blob}], missing: [names of files]}.
 * `people` are those who can be talked to, `beside` the pictures that were chosen with the file, by name.
 * Throws an Error with a sentence for the user.
 */
export function imported(text, people, beside = new Map()) {
  const rows = rowsOf(text);
  const header = rows.find((row) => typeof row.mes !== "string" && row.chat_metadata) ?? {};
  const speakers = speakersOf(rows, people);
  if (!speakers.size) {
    const wanted = asText(header.character_name);
    const person = people.find(({ name }) => name === wanted) ?? people[0];
    speakers.set(wanted || person.name, person);
  }
  const read = { pictures: [], missing: [], beside, speakers, first: [...speakers.values()][0] };
  const messages = rows.filter((row) => typeof row.mes === "string").map((row) => messageOf(row, read));
  if (!messages.length) throw new Error("This file holds no messages. Choose a conversation that was saved as .jsonl.");
  const members = [...new Map([...speakers.values()].map((person) => [person.id, person])).values()];
  const now = Date.now();
  const conversation = {
    id: newId(),
    title: asText(header.chat_metadata?.charforge?.title).slice(0, 200) || null,
    members: members.map(({ id }) => id),
    names: Object.fromEntries(members.map(({ id, name }) => [id, name])),
    created: dateOf(header.create_date) ?? now,
    changed: now,
    messages,
  };
  return { conversation, pictures: read.pictures, missing: read.missing };
}

const asText = (value) => (typeof value === "string" ? value : "");

function rowsOf(text) {
  const lines = text
    .replace(/^\ufeff/, "")
    .split("\n")
    .filter((line) => line.trim());
  try {
    return lines.map((line) => JSON.parse(line)).filter((row) => row !== null && typeof row === "object");
  } catch {
    throw new Error("This file is no conversation: one JSON record a line is expected.");
  }
}

/** Who speaks under each name of a file: whoever has the name here; else the first of those who are here. */
function speakersOf(rows, people) {
  const found = new Map();
  for (const row of rows) {
    if (typeof row.mes !== "string" || row.is_user) continue;
    const name = asText(row.name);
    const model = asText(row.extra?.charforge?.model);
    const person =
      people.find(({ id, name: known }) => id === model && known === name) ??
      people.find(({ name: known }) => known === name);
    if (person) found.set(name, person);
  }
  return found;
}

function messageOf(row, read) {
  const date = dateOf(row.send_date) ?? Date.now();
  const extra = objectOf(row.extra);
  if (row.is_user) return { id: newId(), role: "user", text: row.mes, pictures: picturesIn(extra, read), date };
  const speaker = (read.speakers.get(asText(row.name)) ?? read.first).id;
  const kind =
    row.is_system && extra.charforge?.kind === "drawing"
      ? "drawing"
      : extra.charforge?.kind === "greeting"
        ? "greeting"
        : "reply";
  const current = versionOf(row.mes, extra, date, read);
  const swipes = Array.isArray(row.swipes) && row.swipes.every((swipe) => typeof swipe === "string") ? row.swipes : [];
  const chosen = Number.isInteger(row.swipe_id) && row.swipe_id in swipes ? row.swipe_id : -1;
  const versions =
    chosen < 0
      ? [current]
      : swipes.map((swipe, at) => {
          const info = objectOf(Array.isArray(row.swipe_info) ? row.swipe_info[at] : null);
          return at === chosen ? current : versionOf(swipe, objectOf(info.extra), dateOf(info.send_date) ?? date, read);
        });
  return { id: newId(), role: "assistant", speaker, kind, versions, chosen: Math.max(0, chosen) };
}

const objectOf = (value) => (value !== null && typeof value === "object" ? value : {});

function versionOf(text, extra, date, read) {
  const own = objectOf(extra.charforge);
  const { words, plan } = splitPlan(asText(own.text));
  return newVersion({
    text,
    // a plan belongs to the words it was written with: whoever changed them in the file has dropped it
    plan: words === text.trim() ? plan : null,
    pictures: picturesIn(extra, read),
    seed: Number.isSafeInteger(own.seed) ? own.seed : null,
    likeness: Number.isFinite(own.likeness) ? own.likeness : null,
    state: "done",
    date,
  });
}

/** A reply of the model -> the words, and the plan of its picture. */
export function splitPlan(text) {
  const found = PLAN.exec(text);
  if (!found) return { words: text.trim(), plan: null };
  return { words: text.slice(0, found.index).trim(), plan: found[1].split(/\s+/).filter(Boolean).join(" ") || null };
}

function picturesIn(extra, read) {
  const own = objectOf(extra.charforge);
  const named = Array.isArray(own.images) ? own.images : [extra.image];
  return named
    .map(asText)
    .filter(Boolean)
    .flatMap((address) => {
      const name = address.split(/[/\\]/).at(-1);
      const blob = blobOf(address) ?? read.beside.get(name);
      if (!blob) {
        read.missing.push(address.startsWith("data:") ? "a picture" : name);
        return [];
      }
      const id = newId();
      read.pictures.push({ id, blob });
      return [id];
    });
}

function dateOf(value) {
  const time = typeof value === "number" ? value : Date.parse(asText(value));
  return Number.isFinite(time) ? time : null;
}
