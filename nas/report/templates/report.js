"use strict";
// A slider moves pictures, heat maps and numbers of its section through the epochs.
for (const section of document.querySelectorAll("[data-run]")) {
  const slider = section.querySelector("[data-slider]");
  const { slider: data, readouts } = JSON.parse(section.querySelector("script").textContent);
  const numbers = slider.dataset.numbers.split(" ");
  const key = location.pathname + slider.id;
  const numbersShown = section.querySelectorAll("[data-readout]");

  const show = (i) => {
    section.querySelector("[data-epoch]").textContent = numbers[i];
    slider.setAttribute("aria-valuetext", `epoch ${numbers[i]} of ${numbers[numbers.length - 1]}`);
    numbersShown.forEach((element, place) => { element.textContent = readouts[i][place + 1]; });
    for (const kind of section.querySelectorAll("[data-kind]")) {
      const name = kind.dataset.kind;
      const kept = new Set(data.kept[name][i]);
      for (const picture of kind.querySelectorAll("[data-picture]")) {
        picture.hidden = Number(picture.dataset.picture) !== data.shown[name][i];
      }
      kind.querySelectorAll("[data-weight]").forEach((cell, place) => {
        const weight = data.weights[name][i][place];
        const strength = (weight - data.low) / Math.max(data.high - data.low, 1);
        cell.textContent = (weight / 100).toFixed(data.digits);
        cell.style.setProperty("--strength", `${Math.round(100 * strength)}%`);
        cell.classList.toggle("strong", strength > 0.75);
        cell.classList.toggle("kept", kept.has(place));
      });
    }
  };

  // A page that reloads stays at the epoch that was chosen; at the last one, it follows the run.
  const chosen = recall(key);
  if (chosen !== null && numbers.includes(chosen)) slider.value = numbers.indexOf(chosen);
  slider.addEventListener("input", () => {
    const i = Number(slider.value);
    remember(key, i === numbers.length - 1 ? null : numbers[i]);
    show(i);
  });
  show(Number(slider.value));
}

const seconds = Number(document.body.dataset.reload);
if (seconds) {
  const box = document.getElementById("reload");
  box.closest("p").hidden = false;
  box.checked = recall("reload") !== "no";
  box.addEventListener("change", () => remember("reload", box.checked ? null : "no"));
  setInterval(() => { if (box.checked && !document.hidden) location.reload(); }, 1000 * seconds);
}

function recall(key) {
  try { return sessionStorage.getItem(key); } catch { return null; }
}

function remember(key, value) {
  try {
    if (value === null) sessionStorage.removeItem(key); else sessionStorage.setItem(key, value);
  } catch { /* a browser may forbid it; the page works without */ }
}
