// Copies text, and says what was done in a line at the foot of the page.

const NOTICE_MILLISECONDS = 5000;
let noticeTimer = 0;

// Say something; what went wrong stays until it is closed.
function notify(text, { stays = false } = {}) {
  clearTimeout(noticeTimer);
  $("notice-text").textContent = text;
  $("notice").hidden = false;
  if (!stays) noticeTimer = setTimeout(closeNotice, NOTICE_MILLISECONDS);
}

function closeNotice() {
  $("notice").hidden = true;
  $("notice-text").textContent = "";
}

async function copyText(text, said) {
  const isCopied = (await copyByApi(text)) || copyBySelection(text);
  if (isCopied) notify(said);
  else notify("This browser does not let the page copy.", { stays: true });
}

async function copyByApi(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false; // no permission, or a page that came without https
  }
}

function copyBySelection(text) {
  const focused = document.activeElement;
  const field = element("textarea", "off-screen");
  field.value = text;
  document.body.append(field);
  field.select();
  const isCopied = document.execCommand("copy");
  field.remove();
  focused?.focus();
  return isCopied;
}
