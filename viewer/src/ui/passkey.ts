/** Opens with a passkey what the worker hands over: only a page may ask for one. */
import { Stanza, webauthn } from "age-encryption";
import type { Unwrap } from "./rpc.ts";

export const unwrapWithPasskey: Unwrap = (stanzas, identity) => {
  const passkey = new webauthn.WebAuthnIdentity(identity ? { identity } : {});
  return passkey.unwrapFileKey(stanzas.map(({ args, body }) => new Stanza([...args], body)));
};
