// Asks every system whether it is ready, now and every ten seconds while the page is looked at.

const EVERY_MS = 10_000;

async function ask(place) {
  let word = "down";
  try {
    const answer = await fetch(place.dataset.health, { cache: "no-store" });
    word = answer.ok ? "ready" : "not ready";
  } catch {
    // The lab itself does not answer: then nothing behind it does.
  }
  if (place.textContent !== word) place.textContent = word;
  place.dataset.state = word.replace(" ", "-");
}

function askAll() {
  if (!document.hidden) document.querySelectorAll("[data-health]").forEach(ask);
}

askAll();
setInterval(askAll, EVERY_MS);
document.addEventListener("visibilitychange", askAll);
