// Conversations taken out of this browser as files, and brought in.

import { toast } from "./dialogs.js";
import { membersText, titleOf } from "./conversation.js";
import { exported, imported } from "./logs.js";
import { fileStem, saveAs } from "./pictures.js";
import { plain } from "./dom.js";

const LONGEST = 256 << 20;

export async function exportFile(book, id) {
  const conversation = book.get(id);
  const text = await exported(conversation, book.dataUrlOf);
  saveAs(
    new Blob([text], { type: "application/jsonl" }),
    `${fileStem(membersText(conversation), titleOf(conversation))}.jsonl`,
  );
}

/** Each .jsonl among `files` becomes a conversation, with the pictures among them that it names; the last one's id. */
export async function importFiles(book, files, people) {
  const logs = files.filter((file) => !file.type.startsWith("image/"));
  const beside = new Map(files.filter((file) => file.type.startsWith("image/")).map((file) => [file.name, file]));
  if (!logs.length) {
    toast("Choose a conversation that was saved as .jsonl, with its pictures beside it if it has any.");
    return null;
  }
  let opened = null;
  for (const file of logs) {
    try {
      if (!people.length) throw new Error("There is nobody here to talk to, so that nothing can be imported.");
      if (file.size > LONGEST) throw new Error(`This file is larger than ${LONGEST >> 20} MB.`);
      const { conversation, pictures, missing } = imported(await file.text(), people, beside);
      for (const { id, blob } of pictures) book.addPicture(blob, id);
      // kept under a name of its own even if nothing but a greeting is in it
      const title = conversation.title ?? titleOf(conversation).slice(0, 80);
      await book.put({ ...conversation, title });
      opened = conversation.id;
      if (missing.length) {
        const names = [...new Set(missing)]
          .slice(0, 3)
          .map((name) => plain(name, 40))
          .join(", ");
        toast(
          `Imported without ${missing.length === 1 ? "one picture" : `${missing.length} pictures`} (${names}). ` +
            "To have them, choose them together with the file.",
        );
      } else toast("Imported.");
    } catch (error) {
      toast(`${plain(file.name, 60)}: ${error.message}`);
    }
  }
  return opened;
}
