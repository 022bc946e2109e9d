// Drives the real page in Chromium with a release that is not there, takes screenshots and asks
// axe-core: node tests/ui/drive.mjs [folder for screenshots]
import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { launchChromium } from "../chromium.mjs";
import { buildPage, servePage, serveStrictHost } from "./host.mjs";

const shots = process.argv[2] ?? ".test/shots";
mkdirSync(shots, { recursive: true });
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const SIGNER = "80460f9cef1fb6b9a3d27c5582c04f21b7f4d0aa6e1b0d6ec23e1c6bd9f3a144"; // of fake_release.ts
const KEY = "AGE-SECRET-KEY-1FAKE";

await buildPage();
const state = { config: null, key: null };
const host = await servePage(state);
const strict = await serveStrictHost();
const browser = await launchChromium();

const WIDE = { width: 1360, height: 850 };
const PHONE = { width: 360, height: 740 };
const errors = [];
let passed = 0;

async function newPage(look = {}) {
  const { dark = false, phone = false } = look;
  const context = await browser.newContext({
    viewport: phone ? PHONE : WIDE,
    colorScheme: dark ? "dark" : "light",
    hasTouch: phone,
    isMobile: phone,
    deviceScaleFactor: phone ? 2 : 1,
  });
  const page = await context.newPage();
  page.setDefaultTimeout(8000);
  page.on("pageerror", (error) => errors.push(`page: ${error.message}`));
  page.on("console", (said) => {
    const text = said.text();
    if (said.type() === "error" && !text.includes("404")) errors.push(`console: ${text}`);
  });
  return page;
}

const addressOf = (release) => `${host.address}/?release=${host.address}/${release}`;

async function opened(release, look) {
  const page = await newPage(look);
  await page.goto(addressOf(release));
  await page.getByLabel("or paste the key").fill(KEY);
  await page.getByRole("button", { name: "Open" }).click();
  await page.getByRole("listbox").waitFor();
  await page.locator(".thumbnail canvas").first().waitFor();
  return page;
}

// A device with passkeys, as Chromium imitates one.
async function authenticator(page) {
  const session = await page.context().newCDPSession(page);
  await session.send("WebAuthn.enable", { enableUI: false });
  const { authenticatorId } = await session.send("WebAuthn.addVirtualAuthenticator", {
    options: {
      protocol: "ctap2",
      ctap2Version: "ctap2_1",
      transport: "internal",
      hasResidentKey: true,
      hasUserVerification: true,
      hasPrf: true,
      isUserVerified: true,
      automaticPresenceSimulation: true,
    },
  });
  return {
    forget: () => session.send("WebAuthn.clearCredentials", { authenticatorId }),
    makeAnother: () =>
      page.evaluate(() =>
        navigator.credentials
          .create({
            publicKey: {
              rp: { name: "" },
              user: { name: "x", displayName: "", id: new Uint8Array(8) },
              pubKeyCredParams: [{ type: "public-key", alg: -7 }],
              authenticatorSelection: { residentKey: "required", userVerification: "required" },
              extensions: { prf: {} },
              challenge: new Uint8Array(16),
            },
          })
          .then(() => undefined),
      ),
  };
}

// As when a person cancels what the browser asks.
async function refuseOnce(page, method) {
  await page.evaluate((name) => {
    const { credentials } = navigator;
    const real = credentials[name].bind(credentials);
    credentials[name] = () => {
      credentials[name] = real;
      return Promise.reject(new DOMException("cancelled", "NotAllowedError"));
    };
  }, method);
}

async function shot(page, name) {
  await page.screenshot({ path: `${shots}/${name}.png` });
}

// Runs in an isolated world, so that the page's policy stays as it is.
async function accessible(page, where) {
  const session = await page.context().newCDPSession(page);
  const { frameTree } = await session.send("Page.getFrameTree");
  const { executionContextId: contextId } = await session.send("Page.createIsolatedWorld", {
    frameId: frameTree.frame.id,
  });
  const run = (expression) =>
    session.send("Runtime.evaluate", {
      expression,
      contextId,
      awaitPromise: true,
      returnByValue: true,
    });
  await run(axe);
  const { result } = await run(
    `axe.run(document, { resultTypes: ["violations"] }).then(({ violations }) =>
      violations.map(({ id, nodes }) => id + ": " + nodes.map((n) => n.target + " " +
      (n.failureSummary ?? "").split("\\n")[1]).join(" | ")))`,
  );
  assert.deepEqual(result.value, [], `axe-core, ${where}`);
}

async function check(name, body) {
  const before = errors.length;
  [state.config, state.key] = [null, null];
  try {
    await body();
    assert.deepEqual(errors.slice(before), [], "errors of the page");
    passed++;
    console.log(`ok  ${name}`);
  } catch (error) {
    process.exitCode = 1;
    console.log(`NOT ${name}\n${error.stack}`);
  } finally {
    for (const context of browser.contexts()) await context.close();
  }
}

const shownFrame = (page) => page.locator(".frames output").first().textContent();
const stageText = (page, index = 0) => page.locator(".stage").nth(index).textContent();
const settled = (page) =>
  page.waitForFunction(
    () => !document.querySelector(".loading") && document.querySelector(".written"),
  );

/** Mean level of a square in the middle of what is shown. */
const brightness = (page, index = 0) =>
  page
    .locator(".stage canvas")
    .nth(index)
    .evaluate((canvas) => {
      const { width, height } = canvas;
      const context = canvas.getContext("2d");
      const { data } = context.getImageData(width / 2 - 20, height / 2 - 20, 40, 40);
      let sum = 0;
      for (let at = 0; at < data.length; at += 4) sum += data[at];
      return sum / (data.length / 4);
    });

const CHECKS = {
  async "the key form, light, dark and on a phone"() {
    for (const [name, look] of Object.entries(LOOKS)) {
      const page = await newPage(look);
      await page.goto(addressOf("release"));
      await page.getByText("Drop your key file here").waitFor();
      await accessible(page, `key form, ${name}`);
      await shot(page, `key-${name}`);
      await page.context().close();
    }
  },

  async "without a release the page asks for its address"() {
    const page = await newPage();
    await page.goto(host.address);
    await page.getByLabel("Address of the release").fill("http://elsewhere.example/x");
    await page.getByRole("button", { name: "Open" }).click();
    await page.getByText("expected an address with https://").waitFor();
    await accessible(page, "address form");
    await page.getByLabel("Address of the release").fill("https://elsewhere.example/x");
    await page.getByRole("button", { name: "Open" }).click();
    await page.getByText("Drop your key file here").waitFor();
    assert.match(page.url(), /release=https%3A%2F%2Felsewhere/);
  },

  async "a wrong key and a wrong passphrase are told apart"() {
    const page = await newPage();
    await page.goto(addressOf("release"));
    await page.getByLabel("or paste the key").fill("AGE-SECRET-KEY-1WRONG");
    await page.getByRole("button", { name: "Open" }).click();
    await page.getByText("No grant for this key").waitFor();
    await accessible(page, "wrong key");
    await shot(page, "wrong-key");
    await page.getByLabel("or paste the key").fill("age1publickey");
    await page.getByRole("button", { name: "Open" }).click();
    await page.getByText("this is a public key").waitFor();
    await page.getByText("Passphrase", { exact: true }).click();
    await page.getByLabel("Passphrase of the grant").fill("wrong");
    await page.keyboard.press("Enter");
    await page.getByText("Wrong passphrase").waitFor();
  },

  async "an encrypted key file asks for its passphrase"() {
    const page = await newPage();
    await page.goto(addressOf("release"));
    const header = `-> scrypt ${"A".repeat(22)} 18\n\n--- ${"A".repeat(43)}\n`;
    const buffer = Buffer.from(`age-encryption.org/v1\n${header}`);
    await page.locator('input[type="file"]').setInputFiles({ name: "k", mimeType: "", buffer });
    await page.getByLabel("Its passphrase").fill("wrong");
    await page.keyboard.press("Enter");
    await page.getByText("Wrong passphrase for the key file").waitFor();
    await page.getByLabel("Its passphrase").fill("right");
    await page.keyboard.press("Enter");
    await page.getByRole("listbox").waitFor();
  },

  async "a key is locked with a passkey, and opens with it the next time"() {
    const page = await newPage();
    const chosen = (key) => page.locator('input[type="file"]').setInputFiles(key);
    const device = await authenticator(page);
    const address = addressOf("release").replaceAll("127.0.0.1", "localhost");
    await page.goto(address);
    await chosen({ name: "alice.key", mimeType: "", buffer: Buffer.from(`# mine\n${KEY}\n`) });
    await page.getByRole("listbox").waitFor();
    await page.getByRole("button", { name: "Lock this key with a passkey" }).click();
    await accessible(page, "lock");
    await shot(page, "lock");
    await refuseOnce(page, "create");
    const make = page.getByRole("button", { name: "Make a passkey and save the file" });
    await make.click();
    await page.getByText("The passkey was not used").waitFor();
    const download = page.waitForEvent("download");
    await make.click();
    const saved = await download;
    assert.equal(saved.suggestedFilename(), "alice.passkey.age");
    await page.getByText("Saved alice.passkey.age").waitFor();
    await shot(page, "locked");
    const buffer = readFileSync(await saved.path());
    assert.ok(buffer.includes("age-encryption.org/fido2prf") && !buffer.includes("AGE-SECRET"));
    const kept = await page.evaluate(() => JSON.stringify([localStorage, sessionStorage]));
    assert.ok(!/AGE-SECRET|passkey/i.test(kept));

    await page.goto("about:blank");
    await page.goto(address);
    await chosen({ name: "alice.passkey.age", mimeType: "", buffer });
    const unlock = page.getByRole("button", { name: "Unlock with your passkey" });
    await unlock.waitFor();
    await accessible(page, "passkey");
    await shot(page, "passkey");
    await refuseOnce(page, "get");
    await unlock.click();
    await page.getByText("The passkey was not used").waitFor();
    await unlock.click();
    await page.getByRole("listbox").waitFor();
    assert.equal(await page.getByRole("button", { name: /^Lock this key/ }).count(), 0);

    await page.goto("about:blank");
    await page.goto(address);
    await device.forget();
    await device.makeAnother();
    await chosen({ name: "alice.passkey.age", mimeType: "", buffer });
    await unlock.click();
    await page.getByText("another passkey locked this key file").waitFor();
  },

  async "without a host name there are no passkeys"() {
    const page = await opened("release");
    assert.equal(await page.getByRole("button", { name: /^Lock this key/ }).count(), 0);
    const second = await newPage();
    await second.goto(addressOf("release"));
    const header = `-> age-encryption.org/fido2prf ${"A".repeat(22)}\n\n--- ${"A".repeat(43)}\n`;
    const buffer = Buffer.from(`age-encryption.org/v1\n${header}`);
    await second.locator('input[type="file"]').setInputFiles({ name: "k", mimeType: "", buffer });
    await second.getByText("which works only at the address").waitFor();
    assert.equal(await second.getByRole("button", { name: /^Unlock/ }).count(), 0);
    await accessible(second, "no passkeys");
  },

  async "a link opens at once, with a PIN after asking, and leaves the address bar"() {
    const page = await newPage();
    await page.goto(`${addressOf("release")}#open=secret`);
    await page.getByRole("listbox").waitFor();
    assert.ok(!page.url().includes("#"));
    const second = await newPage();
    await second.goto(`${addressOf("release")}#open=secret&pin`);
    await second.getByLabel("PIN").waitFor();
    assert.ok(!second.url().includes("secret"));
    await accessible(second, "PIN");
    await second.getByLabel("PIN").fill("1234");
    await second.keyboard.press("Enter");
    await second.getByRole("listbox").waitFor();
    await second.goto("about:blank");
    await second.goto(`${addressOf("release")}#open=secret&pin&grant=withdrawn`);
    await second.getByLabel("PIN").fill("1111");
    await second.keyboard.press("Enter");
    await second.getByText("Wrong PIN").waitFor();
    await second.getByLabel("PIN").fill("1234");
    await second.keyboard.press("Enter");
    await second.getByText("The link does not open anything").waitFor();
    const stored = await second.evaluate(() => JSON.stringify([localStorage, sessionStorage]));
    assert.ok(!stored.includes("1234") && !stored.includes("secret"));
  },

  async "a key that is handed over opens the release of config.json"() {
    state.config = { release: "release", place: "/data/xrays", signer: null, key: true };
    state.key = `# created by somebody\n${KEY}\n`;
    const page = await newPage();
    await page.goto(host.address);
    await page.getByRole("listbox").waitFor();
    await page.getByText("/data/xrays").waitFor();
    state.config = { ...state.config, signer: SIGNER, key: false };
    const third = await newPage();
    await third.goto(`${host.address}#open=secret`);
    await third.getByRole("listbox").waitFor();
    assert.equal(await third.getByText("Seen for the first time").count(), 0);
    assert.equal(await third.locator(".notes").count(), 0);
    await third.getByRole("button", { name: /Signed by/ }).click();
    await third.getByText("This is the expected signer").waitFor();
    state.config = { ...state.config, signer: "2".repeat(64) };
    const second = await newPage();
    await second.goto(`${host.address}#open=secret`);
    await second.getByText("Signed by somebody else").waitFor();
    assert.equal(await second.getByRole("button", { name: "Accept" }).count(), 0);
    state.config = null;
  },

  async "another signer is an error until it is accepted"() {
    const page = await newPage();
    state.config = { release: "release", place: "shared place", signer: null, key: false };
    await page.goto(`${host.address}#open=secret`);
    await page.getByText("Seen for the first time").waitFor();
    await page.getByRole("button", { name: "Close the notes" }).click();
    assert.equal(await page.locator(".notes").count(), 0);
    state.config = { ...state.config, release: "other-release" };
    await page.goto("about:blank");
    await page.goto(`${host.address}#open=secret`);
    await page.getByText("This is not the release that you saw before").waitFor();
    await accessible(page, "doubt");
    await shot(page, "doubt");
    await page.getByRole("button", { name: "Accept what is there now" }).click();
    await page.getByRole("listbox").waitFor();
    state.config = { ...state.config, release: "older-other" };
    await page.goto("about:blank");
    await page.goto(`${host.address}#open=secret`);
    await page.getByText("is an older state, version 1").waitFor();
    state.config = null;
  },

  async "thousands of images make few nodes and few previews"() {
    const page = await opened("release");
    await page.getByText("3,000 images").waitFor();
    assert.ok((await page.locator(".row").count()) < 25);
    await page.getByRole("searchbox").fill("ct nodule");
    await page.getByText("500 of 3,000 images").waitFor();
    await page.locator(".rows").evaluate((box) => box.scrollTo(0, 20000));
    await page.waitForTimeout(800);
    assert.ok((await page.locator(".row").count()) < 25);
    await page.locator(".row .thumbnail canvas").first().waitFor();
  },

  async "a radiograph: preview, then the diagnostic image, in three looks"() {
    for (const [name, look] of Object.entries(LOOKS)) {
      const page = await opened("slow-release", look);
      await accessible(page, `list, ${name}`);
      await shot(page, `list-${name}`);
      await page.locator(".row").first().click();
      await page.getByText("Diagnostic image is loading").waitFor();
      await page.waitForFunction(() => document.querySelector(".written strong"));
      await page.waitForTimeout(900);
      await shot(page, `loading-${name}`);
      await settled(page);
      assert.match(await page.locator(".banner").textContent(), /PSNR 43.2 dB, SSIM 0.970/);
      await accessible(page, `image, ${name}`);
      await shot(page, `image-${name}`);
      await page.context().close();
    }
  },

  async "keys alone: from the key to a measured distance"() {
    const page = await newPage();
    await page.goto(addressOf("release"));
    for (let tabs = 0; tabs < 10; tabs++) {
      await page.keyboard.press("Tab");
      if (await page.evaluate(() => document.activeElement?.tagName === "TEXTAREA")) break;
    }
    await page.keyboard.type(KEY);
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await page.getByRole("listbox").waitFor();
    await page.getByText("3,000 images").waitFor();
    for (let tabs = 0; tabs < 10; tabs++) {
      await page.keyboard.press("Tab");
      if (await page.evaluate(() => document.activeElement?.role === "listbox")) break;
    }
    await page.keyboard.press("ArrowDown");
    await shot(page, "keyboard-list");
    await page.keyboard.press("Enter");
    await settled(page);
    assert.equal(await page.evaluate(() => document.activeElement?.role), "application");
    assert.equal(await shownFrame(page), "20 / 40");
    await page.keyboard.press("ArrowRight");
    await page.keyboard.press("ArrowRight");
    assert.equal(await shownFrame(page), "22 / 40");
    await settled(page);
    await page.keyboard.press("2");
    assert.match(await stageText(page), /BONE: C 600 W 2800/);
    await page.keyboard.press("3");
    assert.match(await stageText(page), /(^|[^ ])C 40 W 80/);
    const shownAs = await page.locator(".toolbar select option").allTextContents();
    assert.deepEqual(shownAs.slice(0, 3), [
      "BRAIN: C 260 W 700",
      "BONE: C 600 W 2800",
      "C 40 W 80",
    ]);
    await page.keyboard.press("c");
    await page.keyboard.press("Enter");
    for (let step = 0; step < 5; step++) await page.keyboard.press("Shift+ArrowRight");
    await page.keyboard.press("Enter");
    await page.getByText("distance 45.0 mm").waitFor({ state: "attached" });
    assert.match(await stageText(page), /x 178, y 128: .* HU/);
    await shot(page, "keyboard-image");
    await page.keyboard.press("?");
    await page.getByText("Keyboard shortcuts, while an image has the focus").waitFor();
    await accessible(page, "help");
    await shot(page, "help");
    await page.keyboard.press("Escape");
    await page
      .getByText("Keyboard shortcuts, while an image has the focus")
      .waitFor({ state: "detached" });
  },

  async "window, invert, rotate and zoom change what is shown"() {
    const page = await opened("release");
    await page.locator(".row").nth(1).click();
    await settled(page);
    await page.waitForTimeout(100);
    const before = await brightness(page);
    await page.keyboard.press("i");
    await page.waitForTimeout(100);
    assert.ok(Math.abs((await brightness(page)) - before) > 20);
    await page.keyboard.press("i");
    const box = await page.locator(".stage").boundingBox();
    const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
    await page.mouse.move(x, y);
    await page.mouse.down();
    await page.mouse.move(x + 60, y - 90, { steps: 4 });
    await page.mouse.up();
    await page.waitForTimeout(100);
    assert.ok((await brightness(page)) !== before);
    assert.doesNotMatch(await stageText(page), /BRAIN/);
    await page.mouse.wheel(0, 120);
    await page.waitForFunction(
      () => document.querySelector(".frames output")?.textContent !== "20 / 40",
    );
    await page.keyboard.press("Space");
    const started = await shownFrame(page);
    await page.waitForTimeout(1200);
    assert.notEqual(await shownFrame(page), started);
    await page.keyboard.press("Space");
  },

  async "two tiers side by side move together"() {
    const page = await opened("release", { dark: true });
    await page.locator(".row").nth(1).click();
    await settled(page);
    await page.getByRole("button", { name: /^Compare/ }).click();
    await page.locator(".stage").nth(1).waitFor();
    await page.waitForTimeout(500);
    await page.locator(".stage").nth(1).focus();
    await page.keyboard.press("ArrowRight");
    await page.keyboard.press("+");
    await page.waitForTimeout(600);
    assert.match(await stageText(page, 1), /Preview/);
    assert.equal(await page.locator(".frames output").nth(0).textContent(), "21 / 40");
    await accessible(page, "side by side");
    await shot(page, "compare-dark");
  },

  async "a finger windows, two fingers zoom"() {
    const page = await opened("release", { phone: true });
    await page.locator(".row").nth(1).click();
    await settled(page);
    const session = await page.context().newCDPSession(page);
    const touch = (type, ...points) =>
      session.send("Input.dispatchTouchEvent", {
        type,
        touchPoints: points.map(([x, y], id) => ({ x, y, id })),
      });
    const zoomOf = async () =>
      parseInt(await page.locator(".written.top-left span").last().textContent());
    const before = await zoomOf();
    await touch("touchStart", [150, 300], [210, 300]);
    await touch("touchMove", [120, 300], [240, 300]);
    await touch("touchMove", [90, 300], [270, 300]);
    await touch("touchEnd");
    const after = await zoomOf();
    assert.ok(after > before * 2, `${before} % became ${after} %`);
    await touch("touchStart", [150, 300]);
    await touch("touchMove", [190, 340]);
    await touch("touchEnd");
    assert.doesNotMatch(await stageText(page), /BRAIN/);
    await page.waitForTimeout(200);
    await shot(page, "touch-phone");
    await page.getByRole("button", { name: "Back to the list" }).click();
    await page.getByRole("listbox").waitFor();
  },

  async "files are saved: one as it is, a series as a zip"() {
    const page = await opened("release");
    for (const [row, name] of [
      [0, "0000.dcm"],
      [1, "0001.dcm.zip"],
    ]) {
      await page.locator(".row").nth(row).click();
      await settled(page);
      const download = page.waitForEvent("download");
      await page.getByLabel("Save a file of tier").selectOption("original");
      assert.equal((await download).suggestedFilename(), name);
    }
  },

  async "errors in words: altered, no model, level sca, whole files, expired"() {
    const says = async (release, text) => {
      const page = await opened(release).catch(() => null);
      if (!page) return assert.fail(`${release} does not open`);
      await page.locator(".row").first().click();
      await page.getByText(text).first().waitFor();
      await accessible(page, release);
      await shot(page, release);
      return page.context().close();
    };
    await says("damaged", 'section "support" does not verify');
    await says("sca", "Level sca leaks");
    await says("whole", "the host sends whole files");
    const page = await newPage();
    await page.goto(`${addressOf("expired")}#open=secret`);
    await page.getByText("The grant has expired").waitFor();
  },

  async "the release and its signer are told"() {
    const page = await opened("release");
    await page.getByRole("button", { name: /Signed by/ }).click();
    await page.getByText("for the nodule study").waitFor();
    await accessible(page, "release");
    await shot(page, "release");
  },
};

const LOOKS = { light: {}, dark: { dark: true }, phone: { phone: true } };

// Browsers report what a policy forbids as an error: these are expected here.
async function checkPolicy() {
  const page = await newPage();
  await page.goto(`${addressOf("release")}#open=secret`);
  await page.getByRole("listbox").waitFor();
  const tryThere = (address) =>
    fetch(address, { mode: "no-cors" }).then(
      () => "allowed",
      () => "refused",
    );
  const worker = page.workers()[0];
  assert.equal(await page.evaluate(tryThere, strict.address), "refused");
  assert.equal(await worker.evaluate(tryThere, strict.address), "refused");
  assert.equal(await worker.evaluate(tryThere, `${host.address}/config.json`), "allowed");
  await page.context().close();
}

async function checkRefusal() {
  const page = await newPage();
  const release = encodeURIComponent(`${strict.address}/no-cors`);
  await page.goto(`${host.address}/?release=${release}#open=secret`);
  await page.getByText("Access-Control-Allow-Origin").waitFor();
  await accessible(page, "refused");
  await shot(page, "refused");
  await page.context().close();
}

const word = process.argv[3] ?? "";
for (const [name, body] of Object.entries(CHECKS)) {
  if (name.includes(word)) await check(name, body);
}
const expected = errors.length;
for (const [name, body] of [
  ["page and worker reach the release's host alone", checkPolicy],
  ["a host that refuses other pages is told what to send", checkRefusal],
]) {
  if (!name.includes(word)) continue;
  await check(name, async () => {
    await body();
    const forbidden = errors.splice(expected);
    assert.ok(
      forbidden.every((text) => /policy|Failed to load|CORS/i.test(text)),
      forbidden.join(),
    );
  });
}
await browser.close();
host.close();
strict.close();
console.log(`${passed} passed, ${process.exitCode ? "some" : 0} failed`);
