// Replies under way: at most one in a conversation, whichever of them is on the screen.

import { draw, replyTo, Trouble } from "./api.js";
import {
  added,
  changedVersion,
  newReply,
  newVersion,
  randomSeed,
  shown,
  spokenTo,
  withAnotherVersion,
  without,
  withoutVersion,
} from "./conversation.js";
import { blobOf } from "./pictures.js";
import { chosen, takeSeed } from "./settings.js";

/** `onChange(id, run)` is called when a run begins, draws, ends; `onEnd(id, message, trouble)` with what came of it. */
export function speakingIn(book, { onChange, onEnd }) {
  const runs = new Map();
  const troubles = new Map();

  function begin(id) {
    if (runs.has(id)) return null;
    const run = { id, message: null, drawing: null, abort: new AbortController() };
    runs.set(id, run);
    troubles.delete(id);
    return run;
  }

  /** Runs `work`; whatever ends it, the conversation stands as far as it came. */
  async function carry(run, work, again) {
    const change = (does, options) => {
      const conversation = book.get(run.id);
      // deleted, or set back, while it was being answered
      if (!conversation?.messages.some((one) => one.id === run.message)) run.abort.abort();
      else book.put(changedVersion(conversation, run.message, does), options);
    };
    let state = "done";
    try {
      state = await work(change);
    } catch (error) {
      state = "stopped";
      if (error.name !== "AbortError") {
        if (!(error instanceof Trouble)) console.error(error);
        troubles.set(run.id, { message: error.message, retryAfter: error.retryAfter ?? null, again });
      }
    }
    setPreview(run, null);
    runs.delete(run.id);
    const conversation = book.get(run.id);
    const message = conversation?.messages.find((one) => one.id === run.message);
    if (message) {
      const { text, pictures } = shown(message);
      if (text.trim() || pictures.length) change((version) => ({ state, text: version.text.trim() }));
      else book.put(withoutVersion(conversation, message.id));
    }
    onChange(run.id, null);
    onEnd(
      run.id,
      book.get(run.id)?.messages.find((one) => one.id === run.message) ?? null,
      troubles.get(run.id) ?? null,
    );
  }

  function setPreview(run, drawing) {
    if (run.drawing?.url && run.drawing.url !== drawing?.url) URL.revokeObjectURL(run.drawing.url);
    run.drawing = drawing;
  }

  /** `speaker` says something; with `instead`, a message's id, in another version of that one, which is the last. */
  function reply(id, speaker, instead = null) {
    const run = begin(id);
    if (!run) return;
    const seed = takeSeed(randomSeed);
    const before = instead ? without(book.get(id), instead) : book.get(id);
    if (instead) book.put(withAnotherVersion(book.get(id), instead, { seed }), { soon: true });
    else book.put(added(book.get(id), newReply(speaker, { seed })), { soon: true });
    run.message = instead ?? book.get(id).messages.at(-1).id;
    onChange(id, run);
    const again = () =>
      reply(id, speaker, book.get(id)?.messages.some((one) => one.id === run.message) ? run.message : null);
    carry(
      run,
      async (change) => {
        const { pictures, persona } = chosen();
        const request = {
          model: speaker,
          messages: await spokenTo(before, speaker, book.dataUrlOf),
          seed,
          pictures,
          previews: true,
          ...(persona.trim() && { user_persona: persona.trim() }),
        };
        let reason = "stop";
        for await (const event of replyTo(request, run.abort.signal)) {
          if (event.text) change((version) => ({ text: version.text + event.text }), { soon: true });
          if (event.drawing) {
            const { plan, step, steps, preview } = event.drawing;
            const blob = blobOf(preview);
            setPreview(run, {
              plan: plan ?? run.drawing?.plan,
              step,
              steps,
              url: blob ? URL.createObjectURL(blob) : (run.drawing?.url ?? null),
            });
            if (typeof plan === "string") change(() => ({ plan }), { soon: true });
            onChange(id, run);
          }
          if (event.picture) {
            const picture = book.addPicture(event.picture);
            setPreview(run, null);
            change((version) => ({ pictures: [...version.pictures, picture] }));
          }
          if (event.end) {
            reason = event.end.reason;
            const { plan, likeness } = event.end;
            change((version) => ({ plan, likeness, seed: event.end.seed ?? version.seed }), { soon: true });
          }
        }
        return reason === "length" ? "length" : "done";
      },
      again,
    );
  }

  /** A picture of `speaker` that belongs to no reply. */
  function drawing(id, speaker, prompt, instead = null) {
    const run = begin(id);
    if (!run) return;
    const seed = takeSeed(randomSeed);
    const given = newVersion({ seed, plan: prompt });
    if (instead) book.put(withAnotherVersion(book.get(id), instead, given), { soon: true });
    else book.put(added(book.get(id), { ...newReply(speaker, given), kind: "drawing" }), { soon: true });
    run.message = instead ?? book.get(id).messages.at(-1).id;
    run.drawing = { plan: prompt, step: null, steps: null, url: null };
    onChange(id, run);
    const again = () =>
      drawing(id, speaker, prompt, book.get(id)?.messages.some((one) => one.id === run.message) ? run.message : null);
    carry(
      run,
      async (change) => {
        const made = await draw(speaker, prompt, seed, run.abort.signal);
        const picture = book.addPicture(made.picture);
        change(() => ({ pictures: [picture], likeness: made.likeness }));
        return "done";
      },
      again,
    );
  }

  return {
    reply,
    drawing,
    of: (id) => runs.get(id) ?? null,
    trouble: (id) => troubles.get(id) ?? null,
    forgive: (id) => troubles.delete(id),
    stop: (id) => runs.get(id)?.abort.abort(),
  };
}
