// Files that are dragged onto the page: pictures for the next message, saved conversations.

import { toast } from "./dialogs.js";
import { picturesAmong } from "./pictures.js";

/** `does`: {canTakePictures(), takePictures(files), takeConversations(files)}. */
export function acceptDrops(does) {
  const sign = document.getElementById("drop");
  const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
  // the sign stays while the pointer goes from one element to another
  let depth = 0;
  const enter = (by) => {
    depth = Math.max(0, depth + by);
    sign.hidden = depth === 0 || !does.canTakePictures();
  };
  addEventListener("dragenter", (event) => holdsFiles(event) && enter(1));
  addEventListener("dragleave", (event) => holdsFiles(event) && enter(-1));
  // without this the browser would leave the page for the file
  addEventListener("dragover", (event) => holdsFiles(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    enter(-depth);
    const files = [...event.dataTransfer.files];
    const pictures = picturesAmong(event.dataTransfer);
    if (files.some(({ name }) => /\.jsonl?$/i.test(name))) does.takeConversations(files);
    else if (!does.canTakePictures()) toast("Open a conversation first, then drop the picture again.");
    else if (pictures.length) does.takePictures(pictures);
    else toast("Only pictures and saved conversations (.jsonl) can be dropped here.");
  });
}
