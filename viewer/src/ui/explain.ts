/** Errors in words: what happened, and what a person can do about it. */
import * as errors from "../errors.ts";

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
  [errors.WrongPassphrase, "Wrong passphrase of the key file", "Type it again."],
  [errors.BadKey, "This key cannot be used", ""],
  [errors.TierTooLow, "The key does not open this tier", "Ask the owner for a higher tier."],
  [errors.NotCovered, "The key does not open this image", "Ask the owner for a grant of it."],
  [
    errors.WrongSigner,
    "Signed by somebody else",
    "Do not trust this release before you have asked its owner.",
  ],
  [
    errors.UnexpectedRelease,
    "This is not the release that you saw before",
    "Ask the owner, by another way than the release's host, whether this is right.",
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
    "Whoever hosts this viewer has to put the weights of that digest in assets/weights.",
  ],
  [errors.TooManyPixels, "The image is too large for the browser", "primis restore reads it."],
  [errors.NotThere, "The file is not there", "Check the address of the release."],
  [errors.HostError, "The host does not answer", "Check your connection, then try again."],
  [errors.InputError, "This cannot be used", ""],
  [errors.PrimisError, "This did not work", ""],
];

/** What is known of the connection, where an error may come from it. */
export interface Connection {
  readonly online: boolean;
  /** The host answers to requests whose answer the page may not read. */
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

/** What went wrong with a link, which its reader did not make; null for what is not the link's. */
export function explainLink(error: unknown, asksPin: boolean): Explained | null {
  if (error instanceof errors.OtherPassphrase) {
    return asksPin
      ? { title: "Wrong PIN", message: "", hint: "Type it again." }
      : { title: "The link is damaged", message: "", hint: "Copy all of it, up to its end." };
  }
  if (!(error instanceof errors.NoMatchingGrant)) return null;
  const hint = "Its owner has withdrawn it: ask for a new one.";
  return { title: "The link no longer opens anything", message: "", hint };
}

const OFFLINE: Explained = {
  title: "You are offline",
  message: "",
  hint: "Images that are shown stay; more can be loaded once there is a connection.",
};

const isPasskeyRefusal = (error: unknown): boolean =>
  error instanceof Error && error.name === "NotAllowedError";

function refused(what: string, origin: string): Explained {
  return {
    title: "The host does not let this page read the release",
    message: `"${what}" is there, but its host allows no other site's pages to read it.`,
    hint:
      `The host has to send "Access-Control-Allow-Origin: ${origin}" (or "*"), allow the request ` +
      `header with "Access-Control-Allow-Headers: Range", and show the answer's with ` +
      `"Access-Control-Expose-Headers: Content-Range, Content-Length".`,
  };
}

/** Asks the host once more, in a way that every host allows, to tell refusal from silence. */
export async function diagnosed(error: unknown, release: string): Promise<Explained> {
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
