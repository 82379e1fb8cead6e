// A report in a frame is as high as what it shows, and as light or dark as its page
// (framed.js is what stands in the frame).
(() => {
  const frames = () => [...document.querySelectorAll("iframe.report")];
  const tellScheme = (frame) => {
    const isDark = document.body.getAttribute("data-md-color-scheme") === "slate";
    frame.contentWindow.postMessage({ scheme: isDark ? "dark" : "light" }, "*");
  };
  window.addEventListener("message", ({ data, source }) => {
    const frame = frames().find((one) => one.contentWindow === source);
    if (!frame || !data || typeof data.reportHeight !== "number") return;
    frame.style.height = `${data.reportHeight}px`;
    tellScheme(frame);
  });
  new MutationObserver(() => frames().forEach(tellScheme)).observe(document.body, {
    attributeFilter: ["data-md-color-scheme"],
  });
})();
