// Server-sent events, read from a response that is still coming.

/** The `data` of each event of a stream of bytes, as text. Comment lines and other fields are passed over. */
export async function* eventsOf(stream) {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  let waiting = "";
  let data = [];
  try {
    while (true) {
      const { value, done } = await reader.read();
      waiting += done ? decoder.decode() : decoder.decode(value, { stream: true });
      const lines = waiting.split("\n");
      waiting = done ? "" : lines.pop();
      for (const raw of lines) {
        const line = raw.endsWith("\r") ? raw.slice(0, -1) : raw;
        if (line === "") {
          if (data.length) yield data.join("\n");
          data = [];
        } else if (line.startsWith("data:")) {
          data.push(line.slice(line[5] === " " ? 6 : 5));
        }
      }
      if (done) return;
    }
  } finally {
    // whoever stops reading ends the transfer too
    reader.cancel().catch(() => undefined);
  }
}
