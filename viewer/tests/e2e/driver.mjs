// Drives Chromium for tests that are written in Python: one JSON object a line in, one out.
//   {"do": "goto", "page": 1, "url": "..."}   ->   {"value": ...} or {"error": "..."}
// Each page has a browser context of its own, with its own storage. Every request that a context
// makes, those of its workers too, is recorded from its start.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { launchChromium } from "../chromium.mjs";

const browser = await launchChromium(
  // No other machine is reached, whatever a page asks for.
  "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
);
const pages = new Map();

const ACTIONS = {
  async open({ page, dark = false, width = 1280, height = 800, scale = 1, timeout = 10_000 }) {
    const context = await browser.newContext({
      viewport: { width, height },
      deviceScaleFactor: scale,
      colorScheme: dark ? "dark" : "light",
    });
    const held = { context, requests: [], errors: [], tab: await context.newPage() };
    context.on("request", (request) => held.requests.push(request.url()));
    held.tab.on("websocket", (socket) => held.requests.push(socket.url()));
    held.tab.on("pageerror", (error) => held.errors.push(error.message));
    held.tab.setDefaultTimeout(timeout);
    pages.set(page, held);
  },
  close: ({ page }) => pages.get(page).context.close(),
  goto: ({ tab, url }) => tab.goto(url),
  reload: ({ tab }) => tab.reload(),
  url: ({ tab }) => tab.url(),
  requests: ({ page }) => pages.get(page).requests,
  errors: ({ page }) => pages.get(page).errors,

  wait: ({ tab, text }) => tab.getByText(text).first().waitFor(),
  waitFor: ({ tab, selector }) => tab.locator(selector).first().waitFor(),
  count: ({ tab, selector }) => tab.locator(selector).count(),
  texts: ({ tab, selector }) => tab.locator(selector).allInnerTexts(),
  // What is written over an image, parts that only screen readers get included.
  content: ({ tab, selector }) => tab.locator(selector).first().textContent(),
  fill: ({ tab, label, text }) => tab.getByLabel(label).fill(text),
  click: ({ tab, name }) => tab.getByRole("button", { name }).first().click(),
  clickText: ({ tab, text }) => tab.getByText(text, { exact: true }).first().click(),
  clickOn: ({ tab, selector }) => tab.locator(selector).first().click(),
  press: ({ tab, key }) => tab.keyboard.press(key),
  select: ({ tab, label, option }) =>
    tab.locator("label", { hasText: label }).locator("select").first().selectOption(option),

  /** As a person does: by the button that opens the browser's own dialog. */
  async chooseFile({ tab, button, path }) {
    const dialog = tab.waitForEvent("filechooser");
    await tab.getByRole("button", { name: button }).click();
    await (await dialog).setFiles(path);
  },
  async download({ tab, label, option }) {
    const saved = tab.waitForEvent("download");
    await tab.getByLabel(label).selectOption(option);
    const download = await saved;
    const data = readFileSync(await download.path());
    return { name: download.suggestedFilename(), data: data.toString("base64") };
  },

  /** Pointer at a share of an element's width and height. */
  async point({ tab, selector, x = 0.5, y = 0.5 }) {
    await tab.mouse.move(...(await at(tab, selector, x, y)));
  },
  async drag({ tab, selector, from, to }) {
    await tab.mouse.move(...(await at(tab, selector, ...from)));
    await tab.mouse.down();
    await tab.mouse.move(...(await at(tab, selector, ...to)), { steps: 4 });
    await tab.mouse.up();
  },
  wheel: ({ tab, by }) => tab.mouse.wheel(0, by),

  /** Red levels of a canvas: their mean, how many are not black, and a digest of all pixels. */
  canvas: ({ tab, selector }) =>
    tab
      .locator(selector)
      .first()
      .evaluate(async (canvas) => {
        const settled = () => new Promise((resolve) => requestAnimationFrame(resolve));
        await settled();
        await settled();
        const { width, height } = canvas;
        const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
        let [sum, lit, digest] = [0, 0, 0];
        for (let at = 0; at < data.length; at += 4) {
          sum += data[at];
          lit += data[at] ? 1 : 0;
          digest = (Math.imul(digest, 31) + data[at] + 7 * data[at + 1] + 11 * data[at + 2]) | 0;
        }
        return { mean: sum / (data.length / 4), lit: lit / (data.length / 4), digest };
      }),
  /** All that the page keeps in its browser. */
  stored: ({ tab }) =>
    tab.evaluate(async () =>
      JSON.stringify([
        { ...localStorage },
        { ...sessionStorage },
        await indexedDB.databases(),
        await caches.keys(),
        document.cookie,
      ]),
    ),
  screenshot: ({ tab, path }) => tab.screenshot({ path }),
  waitForNone: ({ tab, selector }) => tab.locator(selector).first().waitFor({ state: "detached" }),
};

async function at(tab, selector, x, y) {
  const box = await tab.locator(selector).first().boundingBox();
  return [box.x + box.width * x, box.y + box.height * y];
}

async function answer(line) {
  try {
    const { do: action, ...given } = JSON.parse(line);
    const value = await ACTIONS[action]({ ...given, tab: pages.get(given.page)?.tab });
    return { value: isPlain(value) ? value : null };
  } catch (error) {
    return { error: String(error?.message ?? error) };
  }
}

/** A response or a handle of Playwright's is nobody's value. */
const isPlain = (value) =>
  value === null ||
  typeof value !== "object" ||
  Array.isArray(value) ||
  Object.getPrototypeOf(value) === Object.prototype;

console.log(JSON.stringify({ value: browser.version() }));
for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await answer(line)));
}
await browser.close();
