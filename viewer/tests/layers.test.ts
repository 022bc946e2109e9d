import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { test } from "node:test";

/** From the highest to the lowest, as the README has them; "" are the files beside them. */
const FLOORS = ["ui", "index", "release", "imaging", "sharing", "codec", "codes", "keys", "bundle"];
const OF_ALL = join("release", "types.ts");

function roomOf(path: string): string {
  const folder = path.includes("/") ? path.split("/")[0]! : "";
  return path === "index.ts" ? "index" : folder;
}

test("a folder imports from those below it alone", () => {
  const files = readdirSync("src", { recursive: true, encoding: "utf8" });
  for (const file of files.filter((name) => /\.tsx?$/.test(name))) {
    const text = readFileSync(join("src", file), "utf8");
    for (const [, target] of text.matchAll(/(?:from |import\()"(\.[^"]+)"/g)) {
      const imported = relative("src", join("src", dirname(file), target!));
      const [own, other] = [roomOf(file), roomOf(imported)];
      if (own === other || imported === OF_ALL || other === "") continue;
      assert.ok(own !== "", `${file} imports ${imported}`);
      assert.ok(FLOORS.indexOf(own) < FLOORS.indexOf(other), `${file} imports ${imported}`);
    }
  }
});
