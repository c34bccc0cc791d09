// The conversations of this browser, as the page knows them now; what changes is saved and told to whoever listens.

import { isBegun, newId, picturesOf } from "./conversation.js";
import { dataUrlOf } from "./pictures.js";

const SAVE_MS = 1000;

/**
 * `onChange(id)` is called after each change; `onLost(error)` when something could not be saved. `isBusy(id)`: whether
 * a reply is being written here, so that what another tab does to the conversation counts for less.
 */
export async function openBook(store, { onChange, onLost, isBusy }) {
  const conversations = new Map((await store.conversations()).map((one) => [one.id, asLeft(one)]));
  const blobs = new Map();
  const urls = new Map();
  const unsaved = new Set();
  const waiting = new Map();

  async function save(id) {
    clearTimeout(waiting.get(id));
    waiting.delete(id);
    const conversation = conversations.get(id);
    if (!conversation || !isBegun(conversation)) return;
    const fresh = picturesOf(conversation).filter((picture) => unsaved.has(picture));
    fresh.forEach((picture) => unsaved.delete(picture));
    try {
      await store.save(
        conversation,
        fresh.map((picture) => ({ id: picture, blob: blobs.get(picture) })),
      );
    } catch (error) {
      fresh.forEach((picture) => unsaved.add(picture));
      onLost(error);
    }
  }

  async function picture(id) {
    if (!blobs.has(id)) {
      const blob = await store.picture(id);
      if (blob) blobs.set(id, blob);
    }
    return blobs.get(id) ?? null;
  }

  store.listen(async (id) => {
    const conversation = await store.conversation(id);
    if (!conversation) conversations.delete(id);
    else if (!isBusy(id)) conversations.set(id, asLeft(conversation));
    onChange(id);
  });

  // pictures are kept apart from conversations, and outlive those that are deleted until the page is opened again
  await store.sweep(new Set([...conversations.values()].flatMap(picturesOf)));

  return {
    get: (id) => conversations.get(id) ?? null,

    /** The begun ones, the latest first. */
    list: () => [...conversations.values()].filter(isBegun).sort((a, b) => b.changed - a.changed),

    /** Resolves when it is kept. `soon`: it will change again at once, and is saved when a second has gone by. */
    put(conversation, { soon = false } = {}) {
      const { id } = conversation;
      conversations.set(id, conversation);
      onChange(id);
      if (!soon) return save(id);
      if (!waiting.has(id))
        waiting.set(
          id,
          setTimeout(() => save(id), SAVE_MS),
        );
      return Promise.resolve();
    },

    remove(id) {
      conversations.delete(id);
      clearTimeout(waiting.get(id));
      waiting.delete(id);
      store.remove(id).catch(onLost);
      onChange(id);
    },

    addPicture(blob, id = newId()) {
      blobs.set(id, blob);
      unsaved.add(id);
      return id;
    },

    picture,

    /** The address of a picture for an image of this page, null where it is lost. */
    async urlOf(id) {
      if (!urls.has(id)) {
        const blob = await picture(id);
        if (!blob) return null;
        urls.set(id, URL.createObjectURL(blob));
      }
      return urls.get(id);
    },

    /** A picture as a data URL, null where it is lost. */
    async dataUrlOf(id) {
      const blob = await picture(id);
      return blob && dataUrlOf(blob);
    },

    flush: () => [...waiting.keys()].forEach(save),
  };
}

/** A reply that was being written when its page was closed has been stopped. */
function asLeft(conversation) {
  const leave = (version) => (version.state === "writing" ? { ...version, state: "stopped" } : version);
  const messages = conversation.messages.map((message) =>
    message.role === "user" ? message : { ...message, versions: message.versions.map(leave) },
  );
  return { ...conversation, messages };
}
