"use strict";
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const make = (tag, text = "", attributes = {}) => {
  const element = document.createElement(tag);
  element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
};

// Subsets.
const subset = document.querySelector("#subset");
const showSubset = () => all(".subset").forEach((one, index) => { one.hidden = index !== Number(subset.value); });
if (subset) { subset.addEventListener("change", showSubset); showSubset(); }

// Sorting: best first, then worst first; rows without a value stay last, printed ones below all that were measured.
for (const button of all(".board thead button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th");
    const index = head.cellIndex;
    const name = index === 0;
    const first = name || button.dataset.better === "lower" ? "ascending" : "descending";
    const other = first === "ascending" ? "descending" : "ascending";
    const order = head.getAttribute("aria-sort") === first ? other : first;
    for (const one of head.parentNode.cells) one.setAttribute("aria-sort", one === head ? order : "none");
    const sign = order === "ascending" ? 1 : -1;
    const value = (row) => (name ? row.cells[0].textContent.trim() : row.cells[index].dataset.value);
    const body = head.closest("table").tBodies[0];
    const rows = [...body.rows].sort((a, b) => {
      const printed = a.classList.contains("printed") - b.classList.contains("printed");
      if (printed) return printed;
      const [x, y] = [value(a), value(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      return sign * (name ? x.localeCompare(y) : Number(x) - Number(y));
    });
    body.append(...rows);
  });
}

// Radar.
const shapes = all(".shape");
for (const box of all(".radar input")) {
  const draw = () => shapes[Number(box.value)].toggleAttribute("hidden", !box.checked);
  box.addEventListener("change", draw);
  draw();
}

// Clips side by side.
const source = document.querySelector("#data");
if (source) {
  const data = JSON.parse(source.textContent);
  const [sample, players, prompt, play, shown] = ["sample", "players", "prompt", "play", "shown"].map((id) => document.getElementById(id));
  let heard = 0;
  data.samples.forEach((one, index) => sample.append(make("option", `${one.id}: ${one.text.slice(0, 80)}`, { value: index })));
  data.models.forEach((model, index) => {
    const label = make("label");
    const box = make("input", "", { type: "checkbox", value: index });
    box.checked = index < 4;
    box.addEventListener("change", () => show(Number(sample.value)));
    label.append(box, " " + model);
    shown.append(label);
  });
  const clips = () => all("video", players);
  const listen = () => clips().forEach((video, index) => {
    video.muted = index !== heard;
    video.closest("figure").querySelector("button").setAttribute("aria-pressed", String(index === heard));
  });
  const label = () => { play.textContent = clips().some((video) => !video.paused) ? "pause all" : "play all"; };
  const figure = (model, clip) => {
    const box = make("figure");
    const caption = make("figcaption", model);
    box.append(caption);
    if (clip.error) {
      box.append(make("p", clip.error, { class: "none" }));
    } else {
      const video = make("video", "", { src: clip.video, playsinline: "", loop: "", controls: "", preload: "metadata", "aria-label": model });
      if (clip.poster) video.poster = clip.poster;
      const button = make("button", "listen", { type: "button" });
      button.addEventListener("click", () => { heard = clips().indexOf(video); listen(); });
      for (const event of ["play", "pause"]) video.addEventListener(event, label);
      caption.append(button);
      box.append(video);
    }
    const table = make("table");
    for (const [name, value] of clip.scores) {
      const row = table.insertRow();
      row.append(make("th", name, { scope: "row" }), make("td", value));
    }
    box.append(table);
    return box;
  };
  const show = (index) => {
    const count = data.samples.length;
    const at = (index + count) % count;
    const one = data.samples[at];
    sample.value = at;
    prompt.replaceChildren(make("span", one.text), ...Object.entries(one.texts).map(([name, text]) => make("small", `${name}: ${text}`)));
    const chosen = all("input:checked", shown).map((box) => data.models[Number(box.value)]);
    players.replaceChildren(...chosen.map((model) => figure(model, one.clips[model])));
    heard = 0;
    listen();
    label();
  };
  const toggle = () => {
    const videos = clips();
    const start = videos.every((video) => video.paused);
    for (const video of videos) {
      if (start) { video.currentTime = 0; video.play(); } else { video.pause(); }
    }
  };
  sample.addEventListener("change", () => show(Number(sample.value)));
  document.querySelector("#previous").addEventListener("click", () => show(Number(sample.value) - 1));
  document.querySelector("#next").addEventListener("click", () => show(Number(sample.value) + 1));
  play.addEventListener("click", toggle);
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.target.closest("input, select, button, video, summary, .scroll, a")) return;
    const act = { ArrowLeft: () => show(Number(sample.value) - 1), ArrowRight: () => show(Number(sample.value) + 1), " ": toggle }[event.key];
    if (act) { event.preventDefault(); act(); }
  });
  show(0);
}
