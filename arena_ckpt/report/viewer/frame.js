// In the output of a notebook the page stands in a frame that asks to be as high as the page.

const FRAME_MARK = "data-fits-page";
const FRAMED_WINDOW = 900; // height of the window that a framed page is laid out for

// The frame around the page, where it asks for that and may be looked at; else null.
function fittingFrame() {
  try {
    const frame = window.frameElement;
    return frame?.hasAttribute(FRAME_MARK) ? frame : null;
  } catch {
    return null; // a frame of another origin
  }
}

// The height to lay out for. A frame follows the page, so the page must not follow the frame.
function windowHeight() {
  return fittingFrame() ? FRAMED_WINDOW : window.innerHeight;
}

// Keep the frame as high as the page, whatever is opened or closed in it.
function fitFrame() {
  const frame = fittingFrame();
  if (!frame) return;
  const fit = () => {
    const height = Math.ceil(document.body.getBoundingClientRect().bottom + window.scrollY);
    if (frame.style.height !== `${height}px`) frame.style.height = `${height}px`;
  };
  new ResizeObserver(fit).observe(document.body);
  fit();
}
