"use strict";
(() => {
  const everyMs = 4000;
  const live = document.getElementById("live");
  const stored = (() => { try { return sessionStorage; } catch { return null; } })();

  // Forms of filters need no button.
  for (const form of document.querySelectorAll("form[data-auto]")) {
    form.addEventListener("change", () => form.requestSubmit());
    form.addEventListener("formdata", ({ formData }) => {
      // Short addresses: what is as usual is not said.
      for (const [name, value] of [...formData]) {
        const usual = name !== "hours" && form.elements[name].options?.[0].value;
        if (value === usual) formData.delete(name);
      }
    });
  }

  const all = document.getElementById("choose-all");
  if (all) {
    const boxes = [...document.querySelectorAll('input[name="letter"]')];
    all.hidden = boxes.length === 0;
    all.addEventListener("click", () => {
      const check = boxes.some((box) => !box.checked);
      for (const box of boxes) box.checked = check;
    });
  }

  // Takes over only what has changed: pictures stay, and so does the focus.
  const refresh = (old, fresh) => {
    if (old.isEqualNode(fresh)) return;
    const list = old.querySelector(":scope > ul"), newer = fresh.querySelector(":scope > ul");
    // Nobody's choice is taken from under the hand.
    if (old.closest("form")?.contains(document.activeElement)) return;
    if (old instanceof HTMLSelectElement) {
      // Options that are moved one by one change which of them is chosen.
      old.replaceWith(document.importNode(fresh, true));
      return;
    }
    document.adoptNode(fresh);
    const focused = old.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    if (list && newer) {
      const kept = new Map([...list.children].map((item) => [item.dataset.photo, item]));
      for (const item of [...newer.children]) {
        const same = kept.get(item.dataset.photo);
        if (same && same.isEqualNode(item)) item.replaceWith(same);
      }
    }
    old.replaceChildren(...fresh.childNodes);
    if (focused !== null) old.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  };

  const update = async () => {
    if (document.hidden || live?.getAttribute("aria-pressed") === "false") return;
    let text;
    try {
      text = await (await fetch(location.href, { credentials: "omit" })).text();
    } catch {
      return;
    }
    const page = new DOMParser().parseFromString(text, "text/html");
    for (const part of document.querySelectorAll("[data-live]")) {
      const fresh = page.getElementById(part.id);
      if (fresh) refresh(part, fresh);
    }
  };

  if (live) {
    live.hidden = false;
    if (stored?.getItem("live") === "false") live.setAttribute("aria-pressed", "false");
    live.addEventListener("click", () => {
      const on = live.getAttribute("aria-pressed") !== "true";
      live.setAttribute("aria-pressed", String(on));
      stored?.setItem("live", String(on));
    });
  }
  const loop = async () => {
    await update();
    setTimeout(loop, everyMs);
  };
  if (document.querySelector("main [data-live]")) setTimeout(loop, everyMs);

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.target.closest("input, select, textarea")) return;
    if (event.key === "/") {
      event.preventDefault();
      document.getElementById("search").focus();
      return;
    }
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const links = [...document.querySelectorAll("#photos h3 a")];
    if (!step || links.length === 0) return;
    const place = links.indexOf(document.activeElement);
    event.preventDefault();
    links[Math.min(Math.max(place + step, 0), links.length - 1)].focus();
  });
})();
