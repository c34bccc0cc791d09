// Loaded before anything is painted, so that a page that was set to dark does not flash in light.
"use strict";

(() => {
  const KEY = "charforge-theme";
  let theme = null;
  try {
    theme = localStorage.getItem(KEY);
  } catch {
    // a browser that keeps nothing follows the system
  }
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
})();
