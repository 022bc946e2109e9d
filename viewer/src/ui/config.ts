/** Which release the page opens: `config.json` beside it, or `?release=` of its address. */
import { InputError } from "../errors.ts";

export interface Config {
  /** Absolute address of the release. */
  readonly release: string;
  /** What the release is called for a person, and remembered under. */
  readonly place: string;
  /** The signer that is demanded, 64 hex digits. */
  readonly signer: string | null;
  /** Whether the server of the page hands over a key, at `key`. */
  readonly key: boolean;
}

const SIGNER = /^[0-9a-f]{64}$/;

/** Null where nothing names a release. page: the page's own address. Throws InputError. */
export async function readConfig(page: URL): Promise<Config | null> {
  const answer = await fetch(new URL("config.json", page), { cache: "no-store" });
  if (answer.ok) return configFrom(await bodyOf(answer), page);
  const asked = page.searchParams.get("release");
  return asked ? configFor(asked, page) : null;
}

async function bodyOf(answer: Response): Promise<unknown> {
  try {
    return await answer.json();
  } catch {
    throw new InputError('"config.json" is not JSON');
  }
}

export function configFor(release: string, page: URL): Config {
  const address = addressOf(release, page);
  return { release: address, place: address, signer: null, key: false };
}

export function configFrom(body: unknown, page: URL): Config {
  if (typeof body !== "object" || body === null) {
    throw new InputError('"config.json" holds no object');
  }
  const { release, place, signer, key } = body as Record<string, unknown>;
  if (typeof release !== "string") throw new InputError('"config.json" names no release');
  const address = addressOf(release, page);
  if (signer != null && !(typeof signer === "string" && SIGNER.test(signer))) {
    throw new InputError('the signer in "config.json" is not 64 hexadecimal digits');
  }
  const shown = typeof place === "string" && place ? place : address;
  return { release: address, place: shown, signer: signer ?? null, key: key === true };
}

/** Without a slash at its end. Plain http only from this machine: others could read along. */
export function addressOf(typed: string, page: URL): string {
  let url: URL;
  try {
    url = new URL(typed.trim(), page);
  } catch {
    throw new InputError(`"${typed}" is no address, expected https://host/release`);
  }
  const local = ["127.0.0.1", "localhost", "[::1]"].includes(url.hostname);
  if (url.protocol !== "https:" && !(url.protocol === "http:" && (local || sameHost(url, page)))) {
    throw new InputError(`"${typed}" cannot be opened, expected an address with https://`);
  }
  if (url.username || url.password) {
    throw new InputError("an address with a password in it cannot be opened");
  }
  url.hash = "";
  return url.href.replace(/\/+$/, "");
}

const sameHost = (url: URL, page: URL): boolean => url.origin === page.origin;

/** The key was fetched before: by this page until it was reloaded, or by somebody else. */
export class KeyTaken extends InputError {}

/** The identity file that the server of the page hands over, once. Throws KeyTaken. */
export async function handedKey(page: URL): Promise<Uint8Array> {
  const answer = await fetch(new URL("key", page), { cache: "no-store" });
  if (answer.status === 410) throw new KeyTaken("primis view hands a key over only once");
  if (!answer.ok) throw new InputError(`no key was handed over: status ${answer.status}`);
  return new Uint8Array(await answer.arrayBuffer());
}
