/** Where the engine is plugged in: from a request of the page to an open release. */
import { Decrypter } from "age-encryption";
import {
  Codec,
  httpAssets,
  httpPlace,
  openRelease,
  passphraseIdentity,
  readIdentities,
  type Identity,
} from "../index.ts";
import type { Key } from "./key.ts";
import type { Unwrap } from "./rpc.ts";
import type { OpenFunction } from "./serve.ts";

/** Whether signer and state fit what was seen before is the page's question (known.ts). */
export const openInWorker: OpenFunction = async (request, unwrap) => {
  const { release, key, assets, signer, known } = request;
  const identities = await identitiesOf(key, unwrap);
  const decoder = new Codec(httpAssets(assets));
  const demanded = signer ? { signer } : {};
  const named = key.kind === "passphrase" && key.grant !== undefined ? { grant: key.grant } : {};
  const options = { decoder, known, anew: true, ...demanded, ...named };
  return openRelease(httpPlace(release), identities, options);
};

function identitiesOf(key: Key, unwrap: Unwrap): Promise<Identity[]> {
  if (key.kind === "identity") return readIdentities(key.text);
  if (key.kind === "sealed") {
    return readIdentities(key.file, () => Promise.resolve(key.passphrase));
  }
  if (key.kind === "passphrase") return Promise.resolve([passphraseIdentity(key.passphrase)]);
  return Promise.resolve([passkeyIdentity(key.identity, unwrap)]);
}

/** A passkey of the browser, of age's type fido2prf. Opened by the page, on demand. */
function passkeyIdentity(identity: string | null, unwrap: Unwrap): Identity {
  const decrypter = new Decrypter();
  decrypter.addIdentity({ unwrapFileKey: (stanzas) => unwrap(stanzas, identity) });
  return {
    kind: "age",
    text: "",
    label: "passkey",
    async decrypt(sealed) {
      try {
        return await decrypter.decrypt(sealed);
      } catch (error) {
        const none = error instanceof Error && error.message.startsWith("no identity matched");
        if (none) return null;
        throw error;
      }
    },
  };
}
