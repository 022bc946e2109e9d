/** Starts the page. Takes the secret of a link out of the address bar before anything else. */
import { workerEngine, type Engine } from "./engine.ts";
import { startPage } from "./page.tsx";
import { takeLink } from "./session.ts";

let engine: Engine | null = null;
const link = takeLink(window);
// A link that is opened while the page is shown changes the fragment alone: start anew with it.
window.addEventListener("hashchange", () => {
  const next = takeLink(window);
  if (next) begin(next);
});

function begin(from: typeof link): void {
  const page = new URL(location.pathname + location.search, location.href);
  engine?.forget(); // what was opened before, with its keys
  engine = workerEngine(new URL("worker.js", page));
  startPage(document.getElementById("page")!, engine, page, from);
}

begin(link);
