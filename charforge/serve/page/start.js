// The first screen: who can be talked to. And the menu that offers the same people from inside a conversation.

import { avatar, icon, make, nameOf, placeBy, plain, watch } from "./dom.js";

/** `begin(id)` opens a new conversation. */
export function startIn(root, bases) {
  const differs = watch();
  return {
    show(people, begin) {
      if (!differs(people)) return;
      const held = document.activeElement?.dataset.person;
      const characters = people.filter((person) => !person.bare);
      root.replaceChildren(...characters.map((person) => make("li", {}, card(person, begin))));
      root.hidden = !characters.length;
      const bare = people.filter((person) => person.bare);
      bases.replaceChildren(
        ...(bare.length
          ? [
              make("h3", {}, "Or the base by itself"),
              make(
                "ul",
                { class: "bases" },
                ...bare.map((person) =>
                  make(
                    "li",
                    {},
                    make(
                      "button",
                      {
                        type: "button",
                        class: "base",
                        data: { person: person.id },
                        on: { click: () => begin(person.id) },
                      },
                      nameOf(person.name),
                      make("span", { class: "quiet" }, "without a character"),
                    ),
                  ),
                ),
              ),
            ]
          : []),
      );
      if (held) document.querySelector(`[data-person="${CSS.escape(held)}"]`)?.focus();
    },
  };
}

function card(person, begin) {
  const { name, kind, description, greetings } = person;
  const said = description || (greetings[0] ?? "");
  return make(
    "button",
    { type: "button", class: "person", data: { person: person.id }, on: { click: () => begin(person.id) } },
    avatar(person, "huge"),
    make("span", { class: "person-name" }, nameOf(name)),
    kind ? make("bdi", { class: "person-kind quiet" }, plain(kind, 40)) : null,
    said ? make("bdi", { class: "person-words quiet" }, plain(said, 160)) : null,
  );
}

/** The button with the character's name, and its menu. `does`: {begin(id), invite(id), leave(id)}. */
export function switcherIn(button, menu, does) {
  let opener = () => undefined;
  const differs = watch();
  menu.addEventListener("toggle", ({ newState }) => button.setAttribute("aria-expanded", String(newState === "open")));
  button.addEventListener("click", () => opener());

  function row(person, label, action) {
    const choose = () => {
      menu.hidePopover();
      button.focus();
      action(person.id);
    };
    return make(
      "button",
      { type: "button", class: "menu-person", on: { click: choose } },
      avatar(person, "small"),
      nameOf(person.name),
      label ? make("span", { class: "quiet" }, label) : null,
    );
  }

  return {
    show(conversation, people) {
      const of = (id) => people.get(id) ?? { id, name: conversation.names[id] ?? id, picture: null };
      const members = conversation.members.map(of);
      button.hidden = false;
      if (differs(members))
        button.replaceChildren(
          ...members.slice(0, 3).map((person) => avatar(person, "small")),
          make(
            "span",
            { class: "switcher-names" },
            ...members.flatMap((person, at) => [at ? ", " : "", nameOf(person.name)]),
          ),
          icon("people"),
          make("span", { class: "visually-hidden" }, ". Talk to others"),
        );
      button.title = "Talk to others";
      opener = () => {
        const others = [...people.values()].filter(({ id, bare }) => !bare && !conversation.members.includes(id));
        const section = (title, rows) => (rows.length ? [make("h2", {}, title), ...rows] : []);
        menu.replaceChildren(
          ...section(
            "New conversation with",
            [...people.values()]
              .filter(({ bare }) => !bare)
              .map((person) => row(person, person.kind && plain(person.kind, 24), does.begin)),
          ),
          ...section(
            "Bring in here",
            others.map((person) => row(person, "", does.invite)),
          ),
          ...section("Send away", members.length > 1 ? members.map((person) => row(person, "", does.leave)) : []),
        );
        menu.showPopover({ source: button });
        placeBy(menu, button);
        menu.querySelector("button")?.focus();
      };
    },
    hide() {
      button.hidden = true;
    },
  };
}
