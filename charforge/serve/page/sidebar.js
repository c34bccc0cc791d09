// The list of conversations, and what can be done with one.

import { isBegun, membersText, shown, titleOf } from "./conversation.js";
import { avatar, icon, iconButton, make, placeBy, plain, watch } from "./dom.js";
import { chooseTheme, theme } from "./settings.js";

const THEMES = { system: ["system", "As the system"], light: ["sun", "Light"], dark: ["moon", "Dark"] };

/** `does`: {rename(id), exportFile(id), remove(id), importFiles(files)}. */
export function sidebarIn(does) {
  const part = (id) => document.getElementById(id);
  const list = part("conversations");
  const menu = part("menu");
  const narrow = matchMedia("(max-width: 760px)");
  let opener = null;

  part("sidebar-open").append(icon("menu"));
  part("sidebar-close").append(icon("close"));
  part("new-conversation").prepend(icon("plus"));
  part("import").prepend(icon("upload"));
  part("import").addEventListener("click", () => part("import-files").click());
  part("import-files").addEventListener("change", ({ target }) => {
    does.importFiles([...target.files]);
    target.value = "";
  });
  for (const [name, [drawing, label]] of Object.entries(THEMES)) {
    const choice = make("input", {
      type: "radio",
      name: "theme",
      value: name,
      checked: theme() === name,
      "aria-label": label,
      on: { change: () => chooseTheme(name) },
    });
    part("theme").append(make("label", { title: label }, choice, make("span", {}, icon(drawing))));
  }

  function open(wanted) {
    const on = wanted && narrow.matches;
    document.body.classList.toggle("sidebar-shown", on);
    part("sidebar-open").setAttribute("aria-expanded", String(on));
    part("main").inert = on;
    // out of sight is out of the way of the keyboard too
    part("sidebar").inert = narrow.matches && !on;
    if (on) part("sidebar-close").focus();
  }
  part("sidebar-open").addEventListener("click", () => open(true));
  const close = () => {
    const was = document.body.classList.contains("sidebar-shown");
    open(false);
    if (was) part("sidebar-open").focus();
  };
  part("sidebar-close").addEventListener("click", close);
  part("backdrop").addEventListener("click", close);
  part("sidebar").addEventListener(
    "keydown",
    (event) => event.key === "Escape" && !menu.matches(":popover-open") && close(),
  );
  narrow.addEventListener("change", () => open(false));
  open(false);

  menu.addEventListener("toggle", ({ newState }) => opener?.setAttribute("aria-expanded", String(newState === "open")));

  function showMenu(button, id) {
    const item = (drawing, label, action) =>
      make(
        "button",
        {
          type: "button",
          on: {
            click: () => {
              menu.hidePopover();
              button.focus();
              action(id);
            },
          },
        },
        icon(drawing),
        label,
      );
    menu.replaceChildren(
      item("edit", "Rename", does.rename),
      item("save", "Export", does.exportFile),
      item("trash", "Delete", does.remove),
    );
    opener = button;
    menu.showPopover({ source: button });
    placeBy(menu, button);
    menu.firstChild.focus();
  }

  const differs = watch();

  return {
    close,
    /** `open` is the id of the one on the screen. */
    show(conversations, people, current) {
      const rows = conversations.filter(isBegun).map((one) => ({
        id: one.id,
        title: plain(titleOf(one)),
        with: plain(membersText(one), 40),
        preview: previewOf(one),
        person: people.get(one.members[0]) ?? { id: one.members[0], name: one.names[one.members[0]] ?? "?" },
      }));
      part("no-conversations").hidden = rows.length > 0;
      if (!differs([current, rows])) return;
      const held = document.activeElement?.closest?.("#conversations li")?.dataset.id;
      const heldButton = document.activeElement?.tagName === "BUTTON";
      list.replaceChildren(
        ...rows.map((row) => {
          const link = make(
            "a",
            { href: `#/c/${row.id}`, "aria-current": row.id === current ? "page" : null },
            avatar(row.person, "small"),
            make(
              "span",
              { class: "row-words" },
              make("bdi", { class: "row-title" }, row.title),
              make("bdi", { class: "quiet row-preview" }, row.preview),
            ),
          );
          link.addEventListener("click", () => open(false));
          const more = iconButton("more", `More for ${row.title}`, () => showMenu(more, row.id), {
            "aria-haspopup": "true",
            "aria-expanded": "false",
          });
          return make("li", { data: { id: row.id } }, link, more);
        }),
      );
      if (!held) return;
      const row = list.querySelector(`[data-id="${CSS.escape(held)}"]`);
      row?.querySelector(heldButton ? "button" : "a")?.focus();
    },
  };
}

function previewOf(conversation) {
  const last = conversation.messages.at(-1);
  if (!last) return "";
  const { text, plan } = shown(last);
  return plain(text.replaceAll("*", "") || (last.kind === "drawing" ? `Drawn: ${plan}` : "Picture"), 60);
}
