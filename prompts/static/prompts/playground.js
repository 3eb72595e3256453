/* The playground: keeps the preview up to date, runs one or two sides, and shows their answers as they come. */

(() => {
  "use strict";

  const form = document.getElementById("playground");
  const runButton = document.getElementById("run");
  const REQUEST_HEADER = "X-Inference-Request";
  const TYPING_PAUSE = 300;
  const FIGURES_PAUSE = 400;
  const MOST_FIGURES = 25;

  form.elements.template.addEventListener("change", () => {
    location.assign(`${form.dataset.page}?template=${encodeURIComponent(form.elements.template.value)}`);
  });
  if (!runButton) return;

  const cancelButton = document.getElementById("cancel");
  const compare = form.elements.compare;
  const byId = (id) => document.getElementById(id);
  const sides = () => (compare.checked ? ["a", "b"] : ["a"]);
  const runs = { a: null, b: null };
  let running = null;
  let previewing = null;
  let typing = 0;

  class Refusal extends Error {
    constructor(message, param) {
      super(message);
      this.param = param || "";
    }
  }

  // What is sent ------------------------------------------------------------------------------------------------------

  const post = async (url, { signal, accept, ...more }) => {
    const body = new FormData(form);
    Object.entries(more).forEach(([name, value]) => body.set(name, value));
    const response = await fetch(url, { method: "POST", body, signal, headers: { Accept: accept } });
    if (response.redirected) throw new Refusal("You have been signed out. Reload the page.");
    if (!response.ok) throw await refusalOf(response);
    return response;
  };

  const refusalOf = async (response) => {
    try {
      const { error } = await response.json();
      return new Refusal(error.message, error.param);
    } catch {
      return new Refusal(`The server answered with status ${response.status}.`);
    }
  };

  // Preview -----------------------------------------------------------------------------------------------------------

  const showErrors = (errors) => {
    form.querySelectorAll("[data-error]").forEach((place) => {
      place.textContent = errors[place.dataset.error] || "";
    });
  };

  const preview = async (withFields) => {
    previewing?.abort();
    previewing = new AbortController();
    let parts;
    try {
      const response = await post(form.dataset.preview, { signal: previewing.signal, accept: "application/json" });
      parts = await response.json();
    } catch (error) {
      if (error.name !== "AbortError") showRefusal("a", error);
      return;
    }
    if (withFields) byId("fields").innerHTML = parts.fields;
    sides().forEach((side) => {
      byId(`prompt-${side}`).innerHTML = parts[`prompt-${side}`];
    });
    byId("changes").innerHTML = parts.changes;
    showErrors(parts.errors);
  };

  const rememberChoice = () => {
    const query = new URLSearchParams({ template: form.elements.template.value });
    sides().forEach((side) => {
      [`target_${side}`, `model_${side}`].forEach((name) => query.set(name, form.elements[name].value));
    });
    if (compare.checked) query.set("compare", "on");
    history.replaceState(null, "", `${form.dataset.page}?${query}`);
  };

  // Running -----------------------------------------------------------------------------------------------------------

  const showRefusal = (side, error) => {
    const place = [...form.querySelectorAll("[data-error]")].find((one) => one.dataset.error === error.param);
    if (place) {
      place.textContent = error.message;
      place.scrollIntoView({ block: "nearest" });
      return;
    }
    const line = document.createElement("p");
    line.className = "playground-refusal";
    line.setAttribute("role", "alert");
    line.textContent = error.message;
    byId(`answer-${side}`).append(line);
  };

  const beginAnswer = (side) => {
    const bubble = document.createElement("article");
    bubble.className = "chat-message";
    bubble.dataset.role = "assistant";
    const head = document.createElement("header");
    const name = document.createElement("strong");
    name.textContent = "Assistant";
    const model = document.createElement("span");
    model.textContent = form.elements[`model_${side}`].value;
    const note = document.createElement("span");
    head.append(name, model, note);
    const text = document.createElement("div");
    text.className = "playground-text";
    bubble.append(head, text);
    bubble.dataset.streaming = "";
    byId(`answer-${side}`).replaceChildren(bubble);
    return { bubble, text, note };
  };

  const takeEvent = (data, answer) => {
    if (data === "[DONE]") return;
    const event = JSON.parse(data);
    if (event.error) throw new Refusal(event.error.message);
    for (const choice of event.choices ?? []) {
      const delta = choice.delta ?? {};
      const added = delta.content ?? delta.refusal ?? "";
      if (added) answer.text.append(added);
      if (delta.tool_calls) answer.note.textContent = "calls a tool";
      if (choice.finish_reason === "length") answer.note.textContent = "cut off at max tokens";
    }
  };

  const readStream = async (response, answer) => {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const events = (rest + value).split("\n\n");
      rest = events.pop();
      events.filter((event) => event.startsWith("data: ")).forEach((event) => takeEvent(event.slice(6), answer));
    }
  };

  const runSide = async (side, signal) => {
    const answer = beginAnswer(side);
    runs[side] = null;
    try {
      const response = await post(form.dataset.run, { signal, side, accept: "text/event-stream, application/json" });
      runs[side] = response.headers.get(REQUEST_HEADER);
      await readStream(response, answer);
    } catch (error) {
      if (!answer.text.hasChildNodes()) answer.bubble.remove();
      if (error.name === "AbortError") answer.note.textContent = "cancelled";
      else showRefusal(side, error);
    }
    delete answer.bubble.dataset.streaming;
  };

  /* What was cut off is settled a moment later. */
  const showFigures = async (left = MOST_FIGURES) => {
    const query = new URLSearchParams(sides().filter((side) => runs[side]).map((side) => [side, runs[side]]));
    if (!query.size) return;
    const response = await fetch(`${form.dataset.figures}?${query}`);
    if (!response.ok || response.redirected || running) return;
    byId("figures").innerHTML = await response.text();
    if (left > 0 && byId("figures").querySelector("[data-running]")) {
      setTimeout(() => showFigures(left - 1), FIGURES_PAUSE);
    }
  };

  const showRunning = (isRunning) => {
    form.toggleAttribute("data-running", isRunning);
    runButton.hidden = isRunning;
    cancelButton.hidden = !isRunning;
  };

  const run = async () => {
    if (running) return;
    running = new AbortController();
    showRunning(true);
    showErrors({});
    byId("figures").replaceChildren();
    ["a", "b"].forEach((side) => byId(`answer-${side}`).replaceChildren());
    await Promise.all(sides().map((side) => runSide(side, running.signal)));
    running = null;
    showRunning(false);
    await showFigures();
  };

  // Events ------------------------------------------------------------------------------------------------------------

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    run();
  });
  cancelButton.addEventListener("click", () => running?.abort());
  window.addEventListener("pagehide", () => running?.abort());
  form.addEventListener("input", (event) => {
    if (!event.target.name.startsWith("variable-")) return;
    clearTimeout(typing);
    typing = setTimeout(() => preview(false), TYPING_PAUSE);
  });
  form.addEventListener("change", (event) => {
    const name = event.target.name;
    if (name === "compare") form.toggleAttribute("data-compares", compare.checked);
    if (name === "compare" || name.startsWith("target_")) preview(true);
    if (name === "compare" || name.startsWith("target_") || name.startsWith("model_")) rememberChoice();
  });
})();
