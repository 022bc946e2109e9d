/** Where the engine is plugged in: from a request of the page to an open release. */
import {
  Codec,
  httpAssets,
  httpPlace,
  modelsOf,
  openRelease,
  passphraseIdentity,
  readIdentities,
  type Identity,
} from "../index.ts";
import type { Key } from "./key.ts";
import type { OpenFunction, WarmFunction } from "./serve.ts";

/** Whether signer and state fit what was seen before is the page's question (known.ts). */
export const openInWorker: OpenFunction = async (request) => {
  const { release, key, assets, signer, known } = request;
  const identities = await identitiesOf(key);
  const decoder = decoderOf(assets);
  const demanded = signer ? { signer } : {};
  const named = key.kind === "passphrase" && key.grant !== undefined ? { grant: key.grant } : {};
  const options = { decoder, known, anew: true, ...demanded, ...named };
  return openRelease(httpPlace(release), identities, options);
};

/** A failure here is reported later, when an image is read. */
export const warmInWorker: WarmFunction = async ({ release, assets }) => {
  const decoder = decoderOf(assets);
  for (const model of await modelsOf(httpPlace(release))) await decoder.prepare(model);
};

const decoders = new Map<string, Codec>();

function decoderOf(assets: string): Codec {
  const decoder = decoders.get(assets) ?? new Codec(httpAssets(assets));
  decoders.set(assets, decoder);
  return decoder;
}

function identitiesOf(key: Key): Promise<Identity[]> {
  if (key.kind === "identity") return readIdentities(key.text);
  if (key.kind === "sealed") {
    return readIdentities(key.file, () => Promise.resolve(key.passphrase));
  }
  return Promise.resolve([passphraseIdentity(key.passphrase)]);
}
