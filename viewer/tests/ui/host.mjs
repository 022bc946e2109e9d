// Serves the page with a release that is not there, and a second host that allows no other pages.
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { build } from "esbuild";

const FOLDER = ".test/page";
const TYPES = { html: "text/html", css: "text/css", js: "text/javascript", svg: "image/svg+xml" };

export async function buildPage() {
  rmSync(FOLDER, { recursive: true, force: true });
  mkdirSync(FOLDER, { recursive: true });
  const common = {
    outdir: FOLDER,
    bundle: true,
    minify: true,
    format: "esm",
    target: "es2022",
    platform: "browser",
    logLevel: "warning",
  };
  await build({ ...common, entryPoints: { viewer: "src/ui/main.ts" }, splitting: true });
  await build({ ...common, entryPoints: { worker: "tests/ui/fake_worker.ts" } });
  for (const name of ["index.html", "style.css", "icon.svg"]) {
    copyFileSync(name, `${FOLDER}/${name}`);
  }
}

// state.config is what config.json says, null for 404; state.key is handed over once.
export function servePage(state) {
  return listen((request, response) => {
    const name = new URL(request.url, "http://host").pathname.slice(1) || "index.html";
    const file = `${FOLDER}/${name}`;
    if (name === "config.json" && state.config) return response.end(JSON.stringify(state.config));
    if (name === "key" && state.key) {
      response.end(state.key);
      state.key = null;
      return undefined;
    }
    if (!existsSync(file) || !TYPES[name.split(".").at(-1)]) {
      response.statusCode = 404;
      return response.end();
    }
    response.setHeader("Content-Type", TYPES[name.split(".").at(-1)]);
    return response.end(readFileSync(file));
  });
}

// Answers everything, and allows no page to read it.
export const serveStrictHost = () => listen((_, response) => response.end("{}"));

function listen(answer) {
  const server = createServer(answer);
  return new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => {
      resolve({
        address: `http://127.0.0.1:${server.address().port}`,
        close: () => server.close(),
      });
    });
  });
}
