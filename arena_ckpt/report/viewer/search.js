// The field that finds tensors by their names, and the list below it.

const MOST_FOUND = 50; // names listed under the search

class Search {
  constructor(app) {
    this.app = app;
    this.query = "";
    this.found = new Map(); // by plan: Set of numbers of names
    this.options = [];
    this.option = -1;
    const field = $("search");
    field.addEventListener("input", () => {
      app.pin = null;
      this.find(field.value);
    });
    field.addEventListener("focus", () => this.open(this.options.length > 0));
    field.addEventListener("blur", () => this.open(false));
    field.addEventListener("keydown", (event) => this.key(event));
  }

  // Numbers of the names found in a plan, or null where nothing is asked for.
  in(plan) {
    return this.query ? this.found.get(plan) : null;
  }

  clear() {
    $("search").value = "";
    this.find("");
  }

  // Search again: the plans that are shown are others.
  repeat() {
    this.find(this.query);
  }

  find(text) {
    const { app } = this;
    this.query = text.trim().toLowerCase();
    this.found = new Map();
    for (const { plan } of app.charts) {
      const found = new Set();
      if (this.query) {
        plan.searchable.forEach((name, number) => {
          if (name.includes(this.query)) found.add(number);
        });
      }
      this.found.set(plan, found);
    }
    const found = this.in(app.plan0) ?? new Set();
    $("n-found").textContent = this.query ? `${formatCount(found.size)} found` : "";
    this.list(found);
    app.refresh();
  }

  list(found) {
    const plan = this.app.plan0;
    const numbers = [...found].slice(0, MOST_FOUND);
    const kinds = new Map();
    for (let t = plan.nTensors - 1; t >= 0; t--) kinds.set(plan.tensorName[t], plan.tensorKind[t]);
    this.options = numbers.map((number) => plan.nameAt(number));
    this.option = -1;
    $("found").replaceChildren(
      ...numbers.map((number, i) => {
        const item = element("li", "", swatch(plan, kinds.get(number)), element("span", "", this.options[i]));
        item.id = `option-${i}`;
        item.setAttribute("role", "option");
        item.addEventListener("mousedown", (event) => {
          event.preventDefault();
          this.take(i);
        });
        return item;
      }),
    );
    this.open(numbers.length > 0 && document.activeElement === $("search"));
  }

  open(isOpen) {
    $("found").hidden = !isOpen;
    $("search").setAttribute("aria-expanded", String(isOpen));
  }

  mark(option) {
    const items = [...$("found").children];
    if (!items.length) return;
    this.option = (option + items.length) % items.length;
    items.forEach((item, i) => item.setAttribute("aria-selected", String(i === this.option)));
    items[this.option].scrollIntoView({ block: "nearest" });
    $("search").setAttribute("aria-activedescendant", `option-${this.option}`);
  }

  take(option) {
    const name = this.options[option];
    if (name === undefined) return;
    this.open(false);
    this.app.select(name);
  }

  key(event) {
    event.stopPropagation();
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      this.open(this.options.length > 0);
      this.mark(this.option + (event.key === "ArrowDown" ? 1 : this.option < 0 ? 0 : -1));
    } else if (event.key === "Enter") this.take(Math.max(this.option, 0));
    else if (event.key === "Escape") {
      this.app.letGo();
      $("search").blur();
    }
  }
}
