"use strict";
// The server sends a part of the page again, escaped, whenever there is something new. A part in which the keyboard is
// at work is left alone.
for (const part of document.querySelectorAll("[data-url]")) {
  const source = new EventSource(part.dataset.url);
  source.onmessage = (event) => {
    if (!part.contains(document.activeElement)) {
      part.innerHTML = event.data;
    }
  };
}
