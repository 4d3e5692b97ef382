"use strict";
// The server sends a part of the page again, escaped, whenever there is something new. A part in which the keyboard is
// at work is left alone. A page that nobody sees does not listen: browsers grant a host six connections, for all its
// pages together.
for (const part of document.querySelectorAll("[data-url]")) {
  let source = null;
  const listen = () => {
    if (document.hidden) {
      source?.close();
      source = null;
    } else if (source === null) {
      source = new EventSource(part.dataset.url);
      source.onmessage = (event) => {
        if (!part.contains(document.activeElement)) {
          part.innerHTML = event.data;
        }
      };
    }
  };
  document.addEventListener("visibilitychange", listen);
  listen();
}
