/** Errors in words: what happened, and what a person can do about it. */
import * as errors from "../errors.ts";
import { KeyTaken, type Config } from "./config.ts";

export interface Explained {
  readonly title: string;
  /** The engine's own line, which names the file or section; empty where the title says it all. */
  readonly message: string;
  readonly hint: string;
}

type Row = readonly [new (...args: never[]) => Error, title: string, hint: string];

/** The first row whose class fits. The hints are those of src/primis/cli/hints.py for a browser. */
const ROWS: readonly Row[] = [
  [errors.OtherPassphrase, "Wrong passphrase", "Type it again: no grant opens with this one."],
  [
    errors.NoMatchingGrant,
    "No grant for this key",
    "Use another key, or send the owner your public key and ask for a grant.",
  ],
  [errors.GrantExpired, "The grant has expired", "Ask the owner for a new grant."],
  [errors.WrongPassphrase, "Wrong passphrase for the key file", "Type it again."],
  [errors.BadKey, "This key cannot be used", ""],
  [errors.TierTooLow, "The key does not open this tier", "Ask the owner for a higher tier."],
  [errors.NotCovered, "The key does not open this image", "Ask the owner for a grant of it."],
  [
    errors.WrongSigner,
    "Signed by somebody else",
    "Do not trust this release until you have asked its owner.",
  ],
  [
    errors.UnexpectedRelease,
    "This is not the release that you saw before",
    "Ask the owner whether this is right, but not through the host of the release.",
  ],
  [errors.DamagedSection, "The image was altered or damaged", "Load it again, or tell the owner."],
  [
    errors.BadBundle,
    "The image's file was altered or damaged",
    "Load it again, or tell the owner.",
  ],
  [errors.BadManifest, "The release was altered or damaged", "Load it again, or tell the owner."],
  [errors.BadGrant, "A grant was altered or damaged", "Ask the owner for a new one."],
  [
    errors.ModelError,
    "The model is missing",
    "The host of this viewer must put the weights with that digest in assets/weights.",
  ],
  [errors.TooManyPixels, "The image is too large for the browser", "Open it with primis restore."],
  [errors.NotThere, "The file is not there", "Check the address of the release, or ask its owner."],
  [errors.HostError, "The host does not answer", "Check your connection, then try again."],
  [
    KeyTaken,
    "The key was already handed over",
    "If you have opened this page before, choose your key here, or start primis view again. If " +
      "not, somebody else has your key: treat it as stolen.",
  ],
  [errors.InputError, "This cannot be used", ""],
  [errors.PrimisError, "This did not work", ""],
];

/** The state of the connection, where it may be the cause of an error. */
export interface Connection {
  readonly online: boolean;
  /** The host answers, but does not let the page read the answer. */
  readonly refusesPages: boolean;
  /** The page's own origin. */
  readonly origin: string;
}

export function explain(error: unknown, connection?: Connection): Explained {
  if (error instanceof errors.HostError && connection) {
    if (!connection.online) return OFFLINE;
    if (connection.refusesPages) return refused(error.what, connection.origin);
  }
  const row = ROWS.find(([kind]) => error instanceof kind);
  if (row) return { title: row[1], message: (error as Error).message, hint: row[2] };
  if (isPasskeyRefusal(error)) {
    return {
      title: "The passkey was not used",
      message: "",
      hint: "Try again, or use a key file that is not locked.",
    };
  }
  if (error instanceof Error && error.name === "SecurityError") {
    return {
      title: "Passkeys cannot be used here",
      message: "",
      hint: "A passkey works only at the address that it was made for: open the viewer there.",
    };
  }
  const message = error instanceof Error ? error.message : String(error);
  return { title: "Something unexpected happened", message, hint: "Reload the page." };
}

/** What is wrong with a link, for a reader who did not make it; null if the link is not the cause. */
export function explainLink(error: unknown, asksPin: boolean): Explained | null {
  if (error instanceof errors.OtherPassphrase) {
    return asksPin
      ? { title: "Wrong PIN", message: "", hint: "Type it again." }
      : { title: "The link is damaged", message: "", hint: "Copy it again, to its very end." };
  }
  if (!(error instanceof errors.NoMatchingGrant)) return null;
  const hint = "Its owner has withdrawn it, or has not published its grant: ask for a new one.";
  return { title: "The link does not open anything", message: "", hint };
}

const OFFLINE: Explained = {
  title: "You are offline",
  message: "",
  hint: "Images that are open stay open. Others load once you are online again.",
};

const isPasskeyRefusal = (error: unknown): boolean =>
  error instanceof Error && error.name === "NotAllowedError";

function refused(what: string, origin: string): Explained {
  return {
    title: "The host does not let this page read the release",
    message: `"${what}" is there, but its host does not let pages of other sites read it.`,
    hint:
      `The host must send "Access-Control-Allow-Origin: ${origin}" (or "*"), ` +
      `"Access-Control-Allow-Headers: Range" and ` +
      `"Access-Control-Expose-Headers: Content-Range, Content-Length".`,
  };
}

/**
 * An error in words, with the release called what the person calls it: its address may hold the
 * token of `primis view`. Where the host is to blame it is asked once more, in a way that every host
 * allows, to tell a refusal from silence.
 */
export async function diagnosed(
  error: unknown,
  { release, place }: Pick<Config, "release" | "place">,
): Promise<Explained> {
  const explained = await withConnection(error, release);
  return { ...explained, message: explained.message.replaceAll(release, place) };
}

async function withConnection(error: unknown, release: string): Promise<Explained> {
  if (!(error instanceof errors.HostError)) return explain(error);
  const origin = location.origin;
  const online = navigator.onLine;
  const elsewhere = new URL(release).origin !== origin;
  const refusesPages = online && elsewhere && (await answersBlindly(release));
  return explain(error, { online, refusesPages, origin });
}

async function answersBlindly(release: string): Promise<boolean> {
  try {
    await fetch(`${release}/manifest.json`, { mode: "no-cors", cache: "no-store" });
  } catch {
    return false;
  }
  try {
    await fetch(`${release}/manifest.json`, { cache: "no-store" });
    return false;
  } catch {
    return true;
  }
}
