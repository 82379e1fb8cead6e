// Added to a report that a page of the site shows in a frame: it tells the page how high
// it is, and is light or dark as the page is. Messages work for files too, which have no
// origin in common.
if (window.parent !== window) {
  const tell = () => {
    const height = Math.ceil(document.body.getBoundingClientRect().bottom + window.scrollY);
    window.parent.postMessage({ reportHeight: height }, "*");
  };
  window.addEventListener("message", ({ data }) => {
    const now = document.documentElement.style.colorScheme;
    if (data && data.scheme && data.scheme !== now) document.getElementById("theme").click();
  });
  new ResizeObserver(tell).observe(document.body);
}
