/**
 * Grants as they lie in a release, and which of them open (docs/format.md, section 5). Anyone can
 * seal a file to a public key, rename one, or put back one that was withdrawn: a grant counts only
 * if it is signed by the release's owner, for this release and its present secrets, for the key
 * that opened it, under its own label.
 */
import { items, record, text, whole } from "../bundle/fields.ts";
import type { Manifest } from "../bundle/manifest.ts";
import { sha256, toHex } from "../bytes.ts";
import { Malformed, parseCanonical } from "../canonical.ts";
import {
  BadGrant,
  BadKey,
  HostError,
  NoMatchingGrant,
  OtherPassphrase,
  StoreError,
  WrongPassphrase,
  WrongSigner,
} from "../errors.ts";
import { isLabel, readGrant, signedGrant, type Grant } from "../keys/grant.ts";
import { scryptWork } from "../keys/age_file.ts";
import type { Identity } from "../keys/identity.ts";
import { TIERS, type Place } from "./types.ts";

const MOST_GRANT = 2 ** 25;
const MOST_ALL = 2 ** 27;
const MOST_GRANTS = 2 ** 14;
const MOST_INDEX = 2 ** 22;
const MOST_SCRYPT_WORK = 2 ** 21;
const AT_ONCE = 8;
/** Grants from which on the owner's is only fetched for the owner's key. */
const MANY = 3;
const NAME = /^([A-Za-z0-9_-]{1,64})\.([0-9a-f]{8})\.age$/;

interface GrantFile {
  readonly label: string;
  readonly path: string;
  readonly data: Uint8Array;
}

/** What became of grants that keys were tried on. */
interface Tried {
  readonly opened: Grant[];
  readonly refused: (BadGrant | WrongSigner)[];
  readonly labels: string[];
  wrongPassphrase: boolean;
  /** A key opened what is not for it, as the owner's does. */
  ownersKey: boolean;
}

export class GrantsFolder {
  /** trusted: the signer that is demanded or known, or null. note: is told what a person should
   * hear. */
  constructor(
    private readonly place: Place,
    private readonly manifest: Manifest,
    private readonly trusted: string | null,
    private readonly note: (said: string) => void,
  ) {}

  /**
   * The grants that identities open, the highest tier and widest scope first. label: of those that
   * are tried, all of them unless it is given. Throws WrongSigner, BadGrant if only files open that
   * do not count, and NoMatchingGrant if none does.
   */
  async open(identities: readonly Identity[], label?: string): Promise<Grant[]> {
    const all = await this.names();
    const names = label === undefined ? all : all.filter((name) => NAME.exec(name)![1] === label);
    if (!names.length && label !== undefined) {
      throw new NoMatchingGrant(`release "${this.place.name}" has no grant "${label}"`);
    }
    const tried: Tried = {
      opened: [],
      refused: [],
      labels: [],
      wrongPassphrase: false,
      ownersKey: false,
    };
    const owners = names.length < MANY ? [] : names.filter((name) => name.startsWith("owner."));
    await this.try(
      names.filter((name) => !owners.includes(name)),
      identities,
      tried,
    );
    if (owners.length && (tried.ownersKey || !tried.opened.length)) {
      await this.try(owners, identities, tried);
    }
    this.requireSome(tried, identities);
    for (const doubt of tried.refused) this.note(`passed over: ${doubt.message}`);
    return tried.opened.sort((a, b) => narrowness(a) - narrowness(b));
  }

  private requireSome(tried: Tried, identities: readonly Identity[]): void {
    const doubt = tried.refused.find((error) => error instanceof WrongSigner);
    if (doubt && this.manifest.signer !== this.trusted) throw doubt;
    if (tried.opened.length) return;
    if (tried.refused[0]) throw tried.refused[0];
    const keys = identities.map((identity) => identity.label).join(", ") || "none";
    const there = `it has grants for: ${tried.labels.sort().join(", ") || "none"}`;
    if (tried.wrongPassphrase) {
      throw new OtherPassphrase(
        `release "${this.place.name}" has a grant for a passphrase, but not for this one; ${there}`,
      );
    }
    throw new NoMatchingGrant(
      `release "${this.place.name}" has no grant for the key offered (${keys}); ${there}`,
    );
  }

  /** Of all grants, by label; files with other names are none. */
  private async names(): Promise<string[]> {
    const key = "grants/index.json";
    const data = await this.place.read(key, MOST_INDEX);
    let listed: string[];
    try {
      const body = record(parseCanonical(data), ["format", "grants"]);
      whole(body["format"], 1, 1);
      listed = items(body["grants"], Infinity).map(text);
    } catch (error) {
      if (!(error instanceof Malformed)) throw error;
      throw new BadGrant(`"${this.place.name}/${key}" is damaged`);
    }
    const names = [...new Set(listed.filter((name) => NAME.test(name)))].sort();
    if (names.length <= MOST_GRANTS) return names;
    throw new BadGrant(
      `release "${this.place.name}" has ${names.length} grants, expected at most ${MOST_GRANTS}`,
    );
  }

  private async try(
    names: readonly string[],
    identities: readonly Identity[],
    tried: Tried,
  ): Promise<void> {
    const files = await this.files(names);
    tried.labels.push(...files.map((file) => file.label));
    for (const file of this.worthTrying(files, identities)) {
      try {
        const grant = await this.openFile(file, identities, tried);
        if (grant) tried.opened.push(grant);
      } catch (error) {
        if (error instanceof WrongPassphrase) tried.wrongPassphrase = true;
        else if (error instanceof BadGrant || error instanceof WrongSigner) {
          tried.refused.push(error);
        } else throw error;
      }
    }
  }

  /** Grants of these names; a damaged one is left out, with a note. */
  private async files(names: readonly string[]): Promise<GrantFile[]> {
    const found: GrantFile[] = [];
    let left = MOST_ALL;
    for (let start = 0; start < names.length; start += AT_ONCE) {
      const some = names.slice(start, start + AT_ONCE);
      const most = Math.min(MOST_GRANT, left);
      const read = await Promise.all(some.map((name) => this.file(name, most)));
      for (const file of read) {
        if (!file) continue;
        left = Math.max(0, left - file.data.length);
        found.push(file);
      }
    }
    return found;
  }

  private async file(name: string, most: number): Promise<GrantFile | null> {
    const [, label, checksum] = NAME.exec(name) as unknown as [string, string, string];
    const path = `${this.place.name}/grants/${name}`;
    try {
      const data = await this.place.read(`grants/${name}`, most);
      if (toHex(sha256(data)).startsWith(checksum)) return { label, path, data };
      this.note(
        `grant "${path}" was altered and is passed over: ` +
          "it does not match the checksum in its name",
      );
    } catch (error) {
      if (error instanceof HostError || !(error instanceof StoreError)) throw error;
      this.note(`grant "${error.what}" cannot be read and is passed over: ${error.why}`);
    }
    return null;
  }

  /** All but passphrase grants that would take minutes together, cheapest first. */
  private worthTrying(files: GrantFile[], identities: readonly Identity[]): GrantFile[] {
    if (!identities.some((identity) => identity.kind === "passphrase")) return files;
    const work = new Map(files.map((file) => [file, scryptWork(file.data)]));
    let left = MOST_SCRYPT_WORK;
    return [...files]
      .sort((a, b) => work.get(a)! - work.get(b)!)
      .filter((file) => {
        left -= work.get(file)!;
        if (left < 0) this.note(`grant "${file.path}" is passed over: trying it takes too long`);
        return left >= 0;
      });
  }

  /** The grant, or null where it is for none of the identities. */
  private async openFile(
    file: GrantFile,
    identities: readonly Identity[],
    tried: Tried,
  ): Promise<Grant | null> {
    let wrong: WrongPassphrase | null = null;
    for (const identity of identities) {
      try {
        const payload = await identity.decrypt(file.data);
        const grant = payload && this.checked(payload, file);
        if (!grant) continue;
        if (grant.recipient === identity.text) return grant;
        tried.ownersKey = true; // it opens every grant; this one is not for it
      } catch (error) {
        if (error instanceof WrongPassphrase) wrong = error;
        else if (error instanceof BadKey) {
          throw new BadGrant(`grant "${file.path}" does not verify: ${error.message}`);
        } else throw error;
      }
    }
    if (wrong) throw wrong;
    return null;
  }

  private checked(payload: Uint8Array, file: GrantFile): Grant {
    const { signer, body } = signedGrant(payload, file.path);
    if (signer !== this.manifest.signer) {
      throw new WrongSigner(
        `grant "${file.path}" for your key is signed by "${signer}", the release ` +
          `by "${this.manifest.signer}": say which of them you trust`,
      );
    }
    const grant = readGrant(signer, body, file.path);
    if (grant.release !== this.manifest.release) {
      throw new BadGrant(
        `grant "${file.path}" belongs to release "${grant.release}", ` +
          `expected "${this.manifest.release}"`,
      );
    }
    if (grant.keys !== this.manifest.keys) {
      throw new BadGrant(
        `grant "${file.path}" is of an earlier state of the release, before its secrets changed`,
      );
    }
    if (grant.label !== file.label || !isLabel(file.label)) {
      throw new BadGrant(`grant "${file.path}" was renamed: its label is "${grant.label}"`);
    }
    return grant;
  }
}

/** The highest tier first, and then the widest scope. */
function narrowness(grant: Grant): number {
  const scope = (grant.secret ? 0 : 2) + (grant.regions.size ? 1 : 0);
  return -4 * TIERS.indexOf(grant.tier) + scope;
}
