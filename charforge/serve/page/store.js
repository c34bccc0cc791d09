// What the browser keeps: conversations, and their pictures as files of their own. Nothing of it leaves the browser.

const NAME = "charforge";
const HOUR = 3_600_000;

/** Opens the store. Rejects where the browser keeps nothing, as in some private windows. */
export async function openStore() {
  const asked = indexedDB.open(NAME, 1);
  asked.onupgradeneeded = () => {
    asked.result.createObjectStore("conversations", { keyPath: "id" });
    asked.result.createObjectStore("pictures", { keyPath: "id" });
  };
  const database = await done(asked);
  database.onversionchange = () => database.close();
  const news = new BroadcastChannel(NAME);

  async function write(change) {
    const transaction = database.transaction(["conversations", "pictures"], "readwrite");
    change(transaction.objectStore("conversations"), transaction.objectStore("pictures"));
    await finished(transaction);
  }

  return {
    conversations: () => done(database.transaction("conversations").objectStore("conversations").getAll()),
    picture: async (id) => (await done(database.transaction("pictures").objectStore("pictures").get(id)))?.blob ?? null,

    /** A conversation and pictures that are new in it, both or neither. */
    async save(conversation, pictures = []) {
      await write((conversations, store) => {
        conversations.put(conversation);
        for (const { id, blob } of pictures) store.put({ id, blob, date: Date.now() });
      });
      news.postMessage(conversation.id);
    },

    async remove(id) {
      await write((conversations) => conversations.delete(id));
      news.postMessage(id);
    },

    /** Pictures that no conversation shows any more. Those of the last hour stay: a deletion may still be undone. */
    async sweep(kept) {
      const rows = await done(database.transaction("pictures").objectStore("pictures").getAll());
      const lost = rows.filter(({ id, date }) => !kept.has(id) && date < Date.now() - HOUR);
      if (lost.length) await write((_, store) => lost.forEach(({ id }) => store.delete(id)));
      return lost.length;
    },

    /** `listener(id)` hears of conversations that another tab has changed. */
    listen: (listener) => news.addEventListener("message", ({ data }) => listener(data)),
    conversation: (id) => done(database.transaction("conversations").objectStore("conversations").get(id)),
  };
}

/** A store that forgets everything with the page, for a browser that keeps nothing. */
export function forgetfulStore() {
  const conversations = new Map();
  const blobs = new Map();
  return {
    conversations: async () => [...conversations.values()],
    picture: async (id) => blobs.get(id) ?? null,
    save: async (conversation, pictures = []) => {
      conversations.set(conversation.id, conversation);
      for (const { id, blob } of pictures) blobs.set(id, blob);
    },
    remove: async (id) => void conversations.delete(id),
    sweep: async () => 0,
    listen: () => undefined,
    conversation: async (id) => conversations.get(id),
  };
}

function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

function finished(transaction) {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onerror = () => reject(transaction.error);
    transaction.onabort = () => reject(transaction.error);
  });
}
