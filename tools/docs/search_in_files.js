// A page that was opened as a file may not start a worker from another file; it may from
// text that it holds. hooks.py puts the theme's worker here, so that search needs no server.
if (location.protocol === "file:") {
  const text = @@WORKER@@;
  const url = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
  window.Worker = class extends Worker {
    constructor() {
      super(url);
    }
  };
}
