// The address of the page says what is selected: report.html#tensor=fc1:out0&step=12.

const LINK_DELAY = 250; // milliseconds; browsers refuse addresses that change too often

// What a link says, in this order. `get` returns null where it is as when the page opens,
// `set` a sentence where the page has no such thing.
const LINKED = [
  {
    key: "theme",
    get: (app) => (app.isThemeChosen ? app.themeName : null),
    set(app, value) {
      if (!(value in app.page.themes)) return `There is no theme ${value}; there are light and dark.`;
      app.isThemeChosen = true;
      if (value !== app.themeName) app.switchTheme();
    },
  },
  {
    key: "tab",
    get: (app) => (app.tab === "map" ? null : app.tab),
    async set(app, value) {
      if (value !== "map" && !$(`tab-${value}`)) return `This page has no tab ${value}.`;
      if (value !== app.tab) await app.show(value);
    },
  },
  {
    key: "point",
    get: (app) => (app.tab === "front" && app.chosen ? String(app.chosen) : null),
    async set(app, value) {
      const point = wholeNumber(value);
      if (!(point < app.page.front.length)) return `The front has no point ${value}.`;
      app.chosen = point;
      if (app.tab === "front") await app.show("front");
    },
  },
  {
    key: "axis",
    get: (app) => (app.isTime ? "time" : null),
    set(app, value) {
      if (value !== "time" && value !== "steps") return `There is no axis ${value}; there are steps and time.`;
      if (app.isTime !== (value === "time")) app.switchAxis();
    },
  },
  {
    key: "fold",
    get: (app) => (app.isFolded === null ? null : app.isFolded ? "yes" : "no"),
    set(app, value) {
      if (value !== "yes" && value !== "no") return `fold is yes or no, not ${value}.`;
      const isFolded = app.charts.some((chart) => chart.bytes.isFolded);
      if (isFolded !== (value === "yes") && !$("fold").disabled) app.switchFold();
    },
  },
  {
    key: "kind",
    get: (app) => (app.kind < 0 ? null : app.page.vocabulary.kinds[app.kind]),
    set(app, value) {
      const kind = app.page.vocabulary.kinds.indexOf(value);
      if (kind < 0) return `There is no kind of tensors ${value}; there are ${app.page.vocabulary.kinds.join(", ")}.`;
      app.kind = kind;
      app.makeLegend();
    },
  },
  {
    key: "layer",
    get: (app) => app.layer,
    set(app, value) {
      const isThere = app.charts.some(({ plan }) => plan.hasLayer(value));
      if (!isThere) return `This plan has no layer ${value}.`;
      app.layer = value;
    },
  },
  {
    key: "tensor",
    get: (app) => app.pin,
    set(app, value) {
      const isThere = app.charts.some(({ plan }) => plan.nameNumber(value) >= 0);
      if (!isThere) return `This plan has no tensor ${value}; / searches by a part of the name.`;
      app.select(value);
    },
  },
  {
    key: "step",
    get: (app) => (app.step === app.plan0.peakStep ? null : String(app.step)),
    set(app, value) {
      const step = wholeNumber(value);
      const last = app.plan0.nSteps - 1;
      if (!(step <= last)) return `This plan has no step ${value}: its steps are 0 to ${formatCount(last)}.`;
      app.setStep(step);
    },
  },
  {
    key: "table",
    get: (app) => (app.table.isOpen ? app.table.filter : null),
    set(app, value) {
      app.table.setFilter(value);
      app.table.open(true, { scrolls: false });
    },
  },
];

const wholeNumber = (text) => (/^\d+$/.test(text) ? Number(text) : NaN);

// Escaped as an address needs it, and no more, so that people can read it.
const inAddress = (text) => encodeURIComponent(text).replace(/%(3A|2F|2C|20)/g, (code) => (code === "%20" ? code : decodeURIComponent(code)));

function readLink(hash) {
  const wanted = new Map();
  for (const part of hash.replace(/^#/, "").split("&")) {
    if (!part) continue;
    const [key, ...rest] = part.split("=");
    try {
      wanted.set(key, decodeURIComponent(rest.join("=")));
    } catch {
      wanted.set(key, rest.join("="));
    }
  }
  return wanted;
}

class Links {
  constructor(app) {
    this.app = app;
    this.written = null;
    this.timer = 0;
    // A frame in a notebook has no address of its own.
    this.isAddressable = /^(file|https?):$/.test(window.location.protocol);
    $("copy-link").hidden = !this.isAddressable;
    $("copy-link").addEventListener("click", () => this.copy());
    $("notice-close").addEventListener("click", closeNotice);
    window.addEventListener("hashchange", () => this.apply());
  }

  // Select what the address says.
  async apply() {
    const { app } = this;
    if (!this.isAddressable) return;
    const wanted = readLink(window.location.hash);
    this.isApplying = true;
    if (this.written !== null) app.letGo();
    const problems = [];
    for (const { key, set } of LINKED) {
      if (!wanted.has(key)) continue;
      const problem = await set(app, wanted.get(key));
      if (problem) problems.push(problem);
      wanted.delete(key);
    }
    for (const key of wanted.keys()) problems.push(`Nothing here is called ${key}.`);
    if (problems.length) notify(problems.join(" "), { stays: true });
    this.isApplying = false;
    this.written = this.text();
    app.refresh();
  }

  text() {
    return LINKED.map(({ key, get }) => [key, get(this.app)])
      .filter(([, value]) => value !== null)
      .map(([key, value]) => `${key}=${inAddress(value)}`)
      .join("&");
  }

  show() {}

  follow() {
    this.followSoon();
  }

  followSoon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.write(), LINK_DELAY);
  }

  // Replace the address; Back leaves the page, as it does without a selection.
  write() {
    if (!this.isAddressable || this.isApplying || this.written === null) return;
    const text = this.text();
    if (text === this.written) return;
    this.written = text;
    const { pathname, search } = window.location;
    try {
      window.history.replaceState(null, "", text ? `#${text}` : pathname + search);
    } catch {
      this.isAddressable = false; // a frame that may not: the button goes as well
      $("copy-link").hidden = true;
    }
  }

  copy() {
    if (!this.isAddressable) return;
    const text = this.text();
    const address = window.location.href.replace(/#.*$/, "") + (text ? `#${text}` : "");
    copyText(address, "The link to what is selected is copied.");
  }
}
