// What the server is asked, and its answers. Everything else in this page works on plain values.

import { plain } from "./dom.js";
import { blobOf } from "./pictures.js";
import { eventsOf } from "./sse.js";

const KEY = "charforge-key";
// what a header can carry to any server; the browser refuses to send others
const SENDABLE = /^[\x20-\x7e]+$/;

/** Something that the user should read. `retryAfter` in seconds, where the server said when to come back. */
export class Trouble extends Error {
  constructor(message, { status = 0, retryAfter = null } = {}) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

let askForKey = async () => null;
let asking = null;

/**
 * `ask(before)` asks the user for a key, null if they give none. `before` is what was amiss with the last one: "wrong",
 * "unsendable", or null where there was none.
 */
export function askKeysWith(ask) {
  askForKey = ask;
}

function keyOf() {
  const key = sessionStorage.getItem(KEY);
  if (key === null || SENDABLE.test(key)) return key;
  sessionStorage.removeItem(KEY);
  return null;
}

/** A key from the user that can be sent, null if they give none. */
async function newKey(before) {
  const given = await askForKey(before);
  return !given || SENDABLE.test(given) ? given : newKey("unsendable");
}

async function call(path, { body, signal } = {}) {
  while (true) {
    const key = keyOf();
    const headers = {
      ...(key && { Authorization: `Bearer ${key}` }),
      ...(body && { "Content-Type": "application/json" }),
    };
    let response;
    try {
      response = await fetch(path, {
        method: body ? "POST" : "GET",
        headers,
        body: body && JSON.stringify(body),
        signal,
        cache: "no-store",
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Trouble("The server cannot be reached. See whether charforge serve is still running, then try again.");
    }
    if (response.ok) return response;
    if (response.status !== 401) throw await troubleOf(response);
    // another request may have been given a new key in the meantime
    if (keyOf() === key) {
      asking ??= newKey(key === null ? null : "wrong").finally(() => (asking = null));
      const given = await asking;
      if (!given) throw new Trouble("This server asks for a key. Reload the page to enter one.", { status: 401 });
      sessionStorage.setItem(KEY, given);
    }
  }
}

async function troubleOf(response) {
  const seconds = Number(response.headers.get("Retry-After"));
  const retryAfter = Number.isFinite(seconds) && seconds > 0 ? Math.min(seconds, 600) : null;
  const said = await response.json().catch(() => null);
  const message =
    typeof said?.error?.message === "string" ? said.error.message : `The server answered ${response.status}.`;
  return new Trouble(response.status === 429 ? `The server is busy: ${message}` : message, {
    status: response.status,
    retryAfter,
  });
}

/** Who can be talked to: [{id, name, kind, greetings, description, draws, bare, avatar}]. */
export async function people() {
  const listed = await (await call("/v1/models")).json();
  const each = listOf(listed?.data)
    .filter((one) => typeof one?.id === "string")
    .map(personOf);
  const called = each.map((person) => plain(person.name).normalize("NFKC").toLowerCase());
  // two who are called the same are told apart by their ids
  return each.map((person, at) =>
    called.some((name, other) => other !== at && name === called[at])
      ? { ...person, name: `${plain(person.name, 40)} (${person.id})` }
      : person,
  );
}

const listOf = (value) => (Array.isArray(value) ? value : []);

function personOf({ id, charforge }) {
  const own = charforge ?? {};
  const text = (value) => (typeof value === "string" ? value : "");
  const avatar = text(own.avatar);
  return {
    id,
    name: text(own.name) || id,
    kind: text(own.class),
    greetings: listOf(own.greetings).filter((greeting) => text(greeting).trim()),
    description: text(own.description),
    base: text(own.base),
    draws: own.draws !== false,
    bare: own.bare === true,
    // a path of this server and nothing else
    avatar: /^\/(?![/\\])/.test(avatar) ? avatar : null,
  };
}

/** An avatar as an address that an image can show; with a key an image could not ask for it by itself. */
export async function avatarOf(person) {
  if (!person.avatar) return null;
  const blob = await (await call(person.avatar)).blob();
  return /^image\/(png|jpeg|webp|gif)$/.test(blob.type) ? URL.createObjectURL(blob) : null;
}

/**
 * A reply as it is made: {text}, {drawing: {plan, step, steps, preview}}, {picture: Blob}, and as the last
 * {end: {reason, plan, seed, likeness}}. Throws Trouble; what came before it stands.
 */
export async function* replyTo(request, signal) {
  const response = await call("/v1/chat/completions", { body: { ...request, stream: true }, signal });
  let reason = null;
  for await (const data of eventsOf(response.body)) {
    if (data === "[DONE]") break;
    let chunk;
    try {
      chunk = JSON.parse(data);
    } catch {
      throw new Trouble("The server sent something that cannot be read. Try again.");
    }
    if (chunk?.error) throw new Trouble(String(chunk.error.message ?? "The server could not go on."));
    const choice = chunk?.choices?.[0];
    if (choice?.delta?.content) yield { text: String(choice.delta.content) };
    for (const image of listOf(choice?.delta?.images)) {
      const picture = blobOf(image?.image_url?.url);
      if (picture) yield { picture };
    }
    if (chunk?.charforge?.drawing) yield { drawing: chunk.charforge.drawing };
    if (choice?.finish_reason) {
      reason = choice.finish_reason;
      const { plan = null, seed = null, likeness = null } = chunk.charforge ?? {};
      yield { end: { reason, plan, seed, likeness } };
    }
  }
  if (!reason) throw new Trouble("The connection broke off before the reply was whole. Try again.");
}

/** A picture that belongs to no reply: {picture: Blob, likeness}. Throws Trouble. */
export async function draw(model, prompt, seed, signal) {
  const body = { model, prompt, n: 1, seed, response_format: "b64_json" };
  const { data } = await (await call("/v1/images/generations", { body, signal })).json();
  const picture = blobOf(`data:image/png;base64,${data?.[0]?.b64_json}`);
  if (!picture) throw new Trouble("The server sent no picture. Try again.");
  return { picture, likeness: data[0].charforge?.likeness ?? null };
}
