// Pictures: made small enough to send, turned into text and back, shown, saved.

export const LONGEST_SIDE = 1024;
const DATA_URL = /^data:(image\/(?:png|jpeg|webp|gif));base64,([A-Za-z0-9+/=\s]+)$/;

/** The picture in a data URL, null where there is none. Only forms that hold no script: never SVG. */
export function blobOf(url) {
  const found = typeof url === "string" ? DATA_URL.exec(url) : null;
  if (!found) return null;
  try {
    return new Blob([Uint8Array.from(atob(found[2]), (letter) => letter.charCodeAt(0))], { type: found[1] });
  } catch {
    return null;
  }
}

/** A picture as a data URL. */
export function dataUrlOf(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

/**
 * A file of the user, as it is sent: at most `LONGEST_SIDE` pixels, upright, and without where and when it was taken.
 * Rejects where the browser cannot read it as a picture.
 */
export async function prepared(file) {
  const bitmap = await createImageBitmap(file);
  const scale = Math.min(1, LONGEST_SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  const type = file.type === "image/jpeg" ? "image/jpeg" : "image/png";
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("no picture"))), type, 0.92);
  });
}

/** The files among what was dropped or pasted that call themselves pictures. */
export function picturesAmong(transfer) {
  return [...(transfer?.files ?? [])].filter((file) => file.type.startsWith("image/"));
}

/** Hands the user a file. */
export function saveAs(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** "Wren by the sea" -> "wren-by-the-sea". */
export function fileStem(...words) {
  const stem = words
    .join("-")
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]+/gu, "-")
    .replace(/^-+|-+$/g, "");
  return [...stem].slice(0, 60).join("") || "charforge";
}

export const endingOf = (blob) =>
  ({ "image/jpeg": ".jpg", "image/webp": ".webp", "image/gif": ".gif" })[blob.type] ?? ".png";
