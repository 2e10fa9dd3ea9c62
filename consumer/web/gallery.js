"use strict";
(() => {
  const list = document.getElementById("photos");
  const photos = [...list.children];
  const shown = document.getElementById("shown");
  const sort = document.getElementById("sort");
  const chosen = { quality: "all", brands: new Set() };

  const fits = ({ dataset }) =>
    (chosen.quality === "all" || dataset.quality === chosen.quality) &&
    (chosen.brands.size === 0 || dataset.brands.split(" ").some((brand) => brand && chosen.brands.has(brand)));

  const show = () => {
    let count = 0;
    for (const photo of photos) {
      photo.hidden = !fits(photo);
      count += photo.hidden ? 0 : 1;
    }
    shown.textContent = `${count} of ${photos.length} shown`;
    document.getElementById("none-shown").hidden = count > 0 || photos.length === 0;
  };

  const orders = {
    best: (a, b) => b.dataset.score - a.dataset.score,
    worst: (a, b) => a.dataset.score - b.dataset.score,
    name: (a, b) => a.dataset.name.localeCompare(b.dataset.name),
  };

  for (const button of document.querySelectorAll("button[data-quality]")) {
    button.addEventListener("click", () => {
      chosen.quality = button.dataset.quality;
      for (const other of document.querySelectorAll("button[data-quality]")) {
        other.setAttribute("aria-pressed", String(other === button));
      }
      show();
    });
  }
  for (const button of document.querySelectorAll("button[data-brand]")) {
    button.addEventListener("click", () => {
      const brand = button.dataset.brand;
      const pressed = !chosen.brands.delete(brand);
      if (pressed) chosen.brands.add(brand);
      button.setAttribute("aria-pressed", String(pressed));
      show();
    });
  }
  sort.addEventListener("change", () => list.append(...photos.sort(orders[sort.value])));

  document.getElementById("tools").hidden = photos.length === 0;
  show();
})();
