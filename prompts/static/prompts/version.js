/* The page on which a version is written: adds and removes rows, and keeps the preview up to date. */

(() => {
  "use strict";

  const form = document.getElementById("version");
  const TYPING_PAUSE = 400;
  let previewing = null;
  let typing = 0;

  const preview = async () => {
    previewing?.abort();
    previewing = new AbortController();
    const body = new FormData(form);
    body.set("preview", "1");
    try {
      const response = await fetch(location.href, { method: "POST", body, signal: previewing.signal });
      if (response.ok && !response.redirected) {
        document.getElementById("preview").innerHTML = (await response.json()).preview;
      }
    } catch (error) {
      if (error.name !== "AbortError") throw error;
    }
  };

  const previewSoon = () => {
    clearTimeout(typing);
    typing = setTimeout(preview, TYPING_PAUSE);
  };

  form.addEventListener("click", (event) => {
    const add = event.target.closest("[data-add]");
    if (add) {
      const row = document.getElementById(`empty-${add.dataset.add}`).content.cloneNode(true);
      const rows = document.getElementById(add.dataset.add);
      rows.append(row);
      rows.lastElementChild.querySelector("input, textarea").focus();
    }
    if (event.target.closest("[data-remove]")) event.target.closest(".version-row").remove();
    if (add || event.target.closest("[data-remove]")) previewSoon();
  });
  form.addEventListener("input", previewSoon);
  form.addEventListener("submit", () => {
    clearTimeout(typing);
    previewing?.abort();
  });
})();
