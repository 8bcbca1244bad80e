// What a page gains with script. Every page works without it.

// Copy buttons.
for (const button of document.querySelectorAll("[data-copy]")) {
  if (!navigator.clipboard) continue;
  button.hidden = false;
  const label = button.textContent;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.textContent = button.dataset.copied;
    setTimeout(() => (button.textContent = label), 2000);
  });
}

// Moments are told by their age, as the server's clock has it; each says its whole time when pointed at, or when touched.
const words = document.body.dataset;
const ahead = Date.now() - words.now;
const age = (time) => {
  const seconds = (Date.now() - ahead - Date.parse(time.dateTime)) / 1000;
  const said = (text, size, step = 1) => text.replace("#", Math.floor(seconds / size / step) * step);
  if (seconds < 10) return words.ageNow;
  if (seconds < 60) return said(words.ageSeconds, 1, 10);
  if (seconds < 3600) return said(words.ageMinutes, 60);
  if (seconds < 86400) return said(words.ageHours, 3600);
  return seconds < 30 * 86400 ? said(words.ageDays, 86400) : time.title.slice(0, 10);
};
const tellAges = (root) => {
  for (const time of root.querySelectorAll("time[data-age]")) {
    const text = time.dataset.age ? time.title : age(time);
    if (time.textContent !== text) time.textContent = text;
  }
};
tellAges(document);
setInterval(() => tellAges(document), 5000);
document.addEventListener("click", (event) => {
  const time = event.target.closest("time[data-age]");
  if (!time || matchMedia("(hover: hover)").matches) return;
  time.dataset.age = time.dataset.age ? "" : "whole";
  tellAges(time.parentElement);
});

// A menu closes on Escape and on a click elsewhere.
const menus = document.querySelectorAll("[data-menu]");
document.addEventListener("click", (event) => {
  for (const menu of menus) if (!menu.contains(event.target)) menu.open = false;
});
document.addEventListener("keydown", (event) => {
  const menu = event.key === "Escape" && document.querySelector("[data-menu][open]");
  if (!menu) return;
  menu.open = false;
  menu.querySelector("summary").focus();
});

// On a phone the navigation is a strip: its current entry comes into view.
// Not by scrollIntoView, after which the Tab key would begin there and not at the page's top.
const current = document.querySelector(".side [aria-current]");
if (current) {
  const strip = current.closest(".side");
  const [inner, outer] = [current.getBoundingClientRect(), strip.getBoundingClientRect()];
  strip.scrollLeft += inner.left + inner.width / 2 - (outer.left + outer.width / 2);
}

// A page that must not be sent again takes another address.
const addressed = document.querySelector("[data-address]");
if (addressed) history.replaceState(null, "", addressed.dataset.address + location.hash);

// A form that was sent is on its way: further clicks are ignored, and the server takes a second one for the same anyway.
for (const sent of document.querySelectorAll("form[method=post]")) {
  sent.addEventListener("submit", (event) => {
    if (sent.ariaBusy === "true") event.preventDefault();
    sent.ariaBusy = "true";
    setTimeout(() => (sent.ariaBusy = null), 10000);
  });
}
addEventListener("pageshow", () => {
  for (const sent of document.querySelectorAll("form[aria-busy]")) sent.ariaBusy = null;
});

// A new attribute: only legal rules can be chosen, and the example is that of the pair.
const form = document.querySelector("[data-attribute-form]");
if (form) {
  const follow = () => {
    const type = form.querySelector("[name=type]:checked");
    const legal = type ? type.dataset.legal.split(" ") : null;
    for (const rule of form.querySelectorAll("[name=rule]")) {
      rule.disabled = legal !== null && !legal.includes(rule.value);
      if (rule.disabled && rule.checked) form.querySelector(`[name=rule][value=${legal[0]}]`).checked = true;
    }
    const rule = form.querySelector("[name=rule]:checked:not(:disabled)");
    for (const example of form.querySelectorAll("[data-example]")) {
      example.hidden = example.dataset.example !== `${type?.value} ${rule?.value}`;
    }
    for (const part of form.querySelectorAll("[data-only]")) part.hidden = part.dataset.only !== type?.value;
  };
  form.addEventListener("change", follow);
  follow();
}

// The first field that is wrong gets the focus; of several to choose from, the one that is chosen.
const wrong = document.querySelector("[aria-invalid=true]");
const choices = wrong?.matches("fieldset") ? wrong : null;
(choices ? (choices.querySelector(":checked") ?? choices.querySelector("input:enabled")) : wrong)?.focus();

// No limit: the number does not matter then.
const unlimited = document.getElementById("unlimited");
if (unlimited) {
  const qps = document.getElementById("qps");
  const follow = () => (qps.readOnly = unlimited.checked);
  unlimited.addEventListener("change", follow);
  follow();
}

// Try it: add an attribute to the data, with a sample of its type.
for (const button of document.querySelectorAll("[data-add]")) {
  button.hidden = false;
  button.addEventListener("click", () => {
    const data = document.getElementById("data");
    const line = `  ${JSON.stringify(button.dataset.add)}: ${button.dataset.sample}`;
    const text = data.value.trim();
    // As text: numbers keep every digit.
    const inner = text.replace(/^\{/, "").replace(/\}$/, "").trimEnd();
    data.value = inner.trim() ? `{${inner.replace(/^\n?/, "\n")},\n${line}\n}` : `{\n${line}\n}`;
    data.focus();
  });
}

// A long list is narrowed to the entries that contain what is typed.
for (const input of document.querySelectorAll("[data-narrow]")) {
  input.closest("[hidden]").hidden = false;
  const entries = document.querySelectorAll(input.dataset.narrow);
  input.addEventListener("input", () => {
    const sought = input.value.trim().toLowerCase();
    for (const entry of entries) entry.hidden = !entry.dataset.words.toLowerCase().includes(sought);
  });
  // The form around it is not sent by Enter.
  input.addEventListener("keydown", (event) => event.key === "Enter" && event.preventDefault());
}

// A browser opens six connections to a server at most, and a page that is kept up to date holds one. So that there is one left
// for the page that is opened next, no more than four windows hold one at a time.
const live = { most: 4, prefix: "usertable-live-", name: `usertable-live-${Math.random()}`, beat: 0 };
const others = () => {
  let count = 0;
  for (const [key, at] of Object.entries(localStorage)) {
    if (!key.startsWith(live.prefix) || key === live.name) continue;
    if (Date.now() - at < 5000) count += 1;
    else localStorage.removeItem(key);
  }
  return count;
};
const hold = () => {
  try {
    if (others() >= live.most) return false;
    const say = () => localStorage.setItem(live.name, Date.now());
    say();
    clearInterval(live.beat);
    live.beat = setInterval(say, 1000);
  } catch {
    // No storage: nothing is known of other windows.
  }
  return true;
};
const release = () => {
  clearInterval(live.beat);
  try {
    localStorage.removeItem(live.name);
  } catch {}
};
addEventListener("pagehide", release);

// What changes while a page is open, the server tells: <div data-live="address"> … <div data-part="name">.
for (const root of document.querySelectorAll("[data-live]")) {
  const button = root.querySelector("[data-live-pause]");
  const notice = document.querySelector("[data-live-notice]");
  let source = null;
  let over = false;
  let paused = false;
  let lost = 0;
  let again = 0;

  const replace = (part, markup) => {
    // What the reader has opened stays open, and what has the focus keeps it.
    const opened = [...part.querySelectorAll("details[open][id]")].map((element) => element.id);
    const focused = part.contains(document.activeElement) ? document.activeElement.closest("[id]")?.id : "";
    part.innerHTML = markup;
    tellAges(part);
    for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
    const again = focused ? document.getElementById(focused) : null;
    (again?.matches("details") ? again.querySelector("summary") : again)?.focus({ preventScroll: true });
  };

  const found = () => {
    clearTimeout(lost);
    lost = 0;
  };

  const stop = () => {
    found();
    clearTimeout(again);
    source?.close();
    source = null;
    release();
  };

  const say = (text) => {
    const paragraph = document.createElement("p");
    paragraph.className = "notice warn";
    paragraph.textContent = text;
    notice.replaceChildren(paragraph);
  };
  const sayLost = () => say(notice.dataset.lost);

  const start = () => {
    stop();
    if (!hold()) {
      say(notice.dataset.full);
      again = setTimeout(start, 3000);
      return;
    }
    source = new EventSource(root.dataset.live);
    source.addEventListener("open", () => {
      found();
      notice.replaceChildren();
    });
    source.addEventListener("notice", (event) => (notice.innerHTML = event.data));
    source.addEventListener("error", () => {
      // A stream that ends is asked for again at once, by the browser. It gives up on any other answer.
      lost ||= setTimeout(sayLost, 5000);
      if (source.readyState === EventSource.CLOSED) again = setTimeout(start, 10000);
    });
    for (const part of root.querySelectorAll("[data-part]")) {
      source.addEventListener(part.dataset.part, (event) => replace(part, event.data));
    }
    source.addEventListener("end", () => {
      over = true;
      stop();
    });
  };

  if (button) {
    button.hidden = false;
    const label = button.textContent;
    button.addEventListener("click", () => {
      paused = !paused;
      button.textContent = paused ? button.dataset.resume : label;
      if (paused) {
        stop();
        notice.replaceChildren();
      } else start();
    });
  }
  // A page that nobody sees need not be kept up to date.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) stop();
    else if (!source && !paused && !over) start();
  });
  if (!document.hidden) start();
}

// A new filter: only conditions that the attribute's type has, and the fields that the condition takes.
for (const filter of document.querySelectorAll("[data-filter]")) {
  const { add_attribute: attribute, add_operator: operator } = filter.elements;
  const label = filter.querySelector("[data-between]");
  const value = label.textContent;
  const follow = () => {
    const offered = attribute.selectedOptions[0].dataset.operators.split(" ");
    const said = attribute.selectedOptions[0].dataset.type === "DATETIME" ? "time" : "number";
    for (const option of operator.options) {
      option.hidden = option.disabled = !offered.includes(option.value);
      if (option.dataset[said]) option.textContent = option.dataset[said];
    }
    if (operator.selectedOptions[0]?.disabled ?? true) operator.value = offered[0];
    filter.querySelector("[data-filter-value]").hidden = ["set", "unset", "in"].includes(operator.value);
    filter.querySelector("[data-filter-values]").hidden = operator.value !== "in";
    filter.querySelector("[data-filter-until]").hidden = operator.value !== "between";
    label.textContent = operator.value === "between" ? label.dataset.between : value;
  };
  attribute.addEventListener("change", follow);
  operator.addEventListener("change", follow);
  follow();
}
