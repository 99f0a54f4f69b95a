// A dot per application: green when it answers, red when it does not. Only numbers come back.
const dots = document.querySelectorAll("[data-app]");

async function look(dot) {
  let code = 0;
  try {
    code = (await fetch(`/status/${dot.dataset.app}`, { cache: "no-store", redirect: "manual" })).status;
  } catch {
    code = 599;
  }
  dot.className = code < 500 ? "up" : "down";
  dot.title = code < 500 ? "answers" : "does not answer";
}

function lookAtAll() {
  if (!document.hidden) dots.forEach(look);
}

lookAtAll();
setInterval(lookAtAll, 30000);
